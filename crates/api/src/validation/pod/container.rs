//! Containers of all three sorts: names, images, ports, and what each sort may not have.

use super::super::at::At;
use super::super::common::{format, one_of, required};
use super::super::errors::ErrorList;
use super::super::names;
use super::{Ctx, env, handler, mounts, resources, security};
use std::collections::HashSet;

const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];

/// Ordinary containers.
pub fn containers(spec: &At, ctx: &Ctx, e: &mut ErrorList) {
    let list = spec.get("containers");
    if list.is_empty() {
        e.required(&list, "");
        return;
    }
    let mut seen = HashSet::new();
    let mut host_ports = HashSet::new();
    for c in list.iter() {
        common(&c, ctx, e);
        let name = c.s("name");
        if !seen.insert(name) {
            e.duplicate(&c.at("name"), name);
        }
        handler::lifecycle(&c.get("lifecycle"), ctx, e);
        for p in PROBES {
            handler::probe(&c.get(p), p, ctx, e);
        }
        let policy = c.get("restartPolicy");
        if !policy.is_null() {
            one_of(&policy, &["Always", "Never", "OnFailure"], e);
        }
        unique_host_ports(&c, &mut host_ports, e);
    }
}

/// Init containers; those with restartPolicy Always are sidecars.
pub fn init_containers(spec: &At, ctx: &Ctx, e: &mut ErrorList) {
    let list = spec.get("initContainers");
    if list.is_empty() {
        return;
    }
    let mut seen: HashSet<&str> = names_of(spec, "containers");
    for c in list.iter() {
        common(&c, ctx, e);
        let policy = c.get("restartPolicy");
        let sidecar = policy.str() == "Always";
        if !policy.is_null() {
            one_of(&policy, &["Always", "Never", "OnFailure"], e);
        }
        let name = c.s("name");
        if !name.is_empty() && !seen.insert(name) {
            e.duplicate(&c.at("name"), name);
        }
        unique_host_ports(&c, &mut HashSet::new(), e);
        if sidecar {
            handler::lifecycle(&c.get("lifecycle"), ctx, e);
            for p in PROBES {
                handler::probe(&c.get(p), p, ctx, e);
            }
            continue;
        }
        for f in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if c.has(f) {
                e.forbidden(&c.at(f), "may not be set for init containers without restartPolicy=Always");
            }
        }
    }
}

/// Containers that are added to a running pod.
pub fn ephemeral_containers(spec: &At, ctx: &Ctx, e: &mut ErrorList) {
    let list = spec.get("ephemeralContainers");
    if list.is_empty() {
        return;
    }
    let mut others: HashSet<&str> = names_of(spec, "containers");
    others.extend(names_of(spec, "initContainers"));
    let mut seen = others.clone();
    for c in list.iter() {
        common(&c, ctx, e);
        image_is_trimmed(&c, e);
        let name = c.s("name");
        if !seen.insert(name) {
            e.duplicate(&c.at("name"), name);
        }
        let target = c.get("targetContainerName");
        if !target.str().is_empty() && !others.contains(target.str()) {
            e.not_found(&target, target.str());
        }
        let why = "cannot be set for an Ephemeral Container";
        for f in [
            "ports",
            "resources",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle",
            "resizePolicy",
            "restartPolicy",
            "restartPolicyRules",
        ] {
            let v = c.get(f);
            if !v.is_null() && (v.v.is_string() || !v.is_empty()) {
                e.forbidden(&v, why);
            }
        }
        for m in c.get("volumeMounts").iter() {
            for f in ["subPath", "subPathExpr"] {
                if !m.s(f).is_empty() {
                    e.forbidden(&m.at(f), why);
                }
            }
        }
    }
}

fn names_of<'v>(spec: &At<'v, '_>, list: &str) -> HashSet<&'v str> {
    spec.raw(list).as_array().into_iter().flatten().filter_map(|c| c.get("name")?.as_str()).collect()
}

/// Pods only: templates may hold any image text.
pub fn image_is_trimmed(c: &At, e: &mut ErrorList) {
    let image = c.get("image");
    if image.str().trim() != image.str() {
        e.bad(&image, "must not have leading or trailing whitespace");
    }
}

fn common(c: &At, ctx: &Ctx, e: &mut ErrorList) {
    let name = c.get("name");
    if required(&name, e) {
        format(&name, names::dns1123_label, e);
    }
    required(&c.get("image"), e);
    one_of(&c.get("terminationMessagePolicy"), &["File", "FallbackToLogsOnError"], e);
    ports(&c.get("ports"), e);
    env::vars(&c.get("env"), e);
    env::sources(&c.get("envFrom"), e);
    mounts::mounts(c, ctx, e);
    mounts::devices(c, ctx, e);
    one_of(&c.get("imagePullPolicy"), &["Always", "IfNotPresent", "Never"], e);
    resources::requirements(
        &c.get("resources"),
        &ctx.claims,
        super::super::amount::container_resource_name,
        e,
    );
    resize_policy(&c.get("resizePolicy"), ctx, e);
    security::container(&c.get("securityContext"), ctx.host_users, e);
}

fn ports(list: &At, e: &mut ErrorList) {
    let mut seen = HashSet::new();
    for p in list.iter() {
        let name = p.get("name");
        if !name.str().is_empty() {
            let wrong = names::port_name(name.str());
            if wrong.is_empty() && !seen.insert(name.str()) {
                e.duplicate(&name, name.str());
            }
            e.each(&name, name.str(), wrong);
        }
        match p.i("containerPort").unwrap_or(0) {
            0 => e.required(&p.at("containerPort"), ""),
            n => e.each(&p.at("containerPort"), n, names::port_number(n)),
        }
        if let Some(n) = p.i("hostPort").filter(|n| *n != 0) {
            e.each(&p.at("hostPort"), n, names::port_number(n));
        }
        one_of(&p.get("protocol"), &["SCTP", "TCP", "UDP"], e);
    }
}

fn unique_host_ports<'v>(c: &At<'v, '_>, seen: &mut HashSet<(&'v str, &'v str, i64)>, e: &mut ErrorList) {
    for p in c.get("ports").iter() {
        let port = p.i("hostPort").unwrap_or(0);
        let key = (p.s("protocol"), p.s("hostIP"), port);
        if port != 0 && !seen.insert(key) {
            e.duplicate(&p.at("hostPort"), format!("{}/{}/{}", key.0, key.1, key.2));
        }
    }
}

fn resize_policy(list: &At, ctx: &Ctx, e: &mut ErrorList) {
    let mut seen = HashSet::new();
    for p in list.iter() {
        let name = p.s("resourceName");
        if !seen.insert(name) {
            e.duplicate(&p, name);
        }
        match name {
            "cpu" | "memory" => {}
            "" => e.required(list, ""),
            other => e.not_supported(list, other, &["cpu", "memory"]),
        }
        let policy = p.s("restartPolicy");
        match policy {
            "NotRequired" | "RestartContainer" => {}
            "" => e.required(list, ""),
            other => e.not_supported(list, other, &["NotRequired", "RestartContainer"]),
        }
        if ctx.restart_policy == "Never" && policy != "NotRequired" {
            e.invalid(list, policy, "must be 'NotRequired' when `restartPolicy` is 'Never'");
        }
    }
}
