//! Pods, alone or in a template: the order in which upstream checks a pod spec. Parts stand in their own files.

mod container;
mod env;
mod handler;
mod mounts;
mod pod_resources;
pub mod resources;
pub mod scheduling;
mod security;
mod status;
mod subresource;
mod update;
mod volume;
mod volume_files;
mod windows;

#[cfg(test)]
mod tests;

pub use status::update_status;
pub use subresource::{ephemeral_containers, resize};
pub use update::update;
pub use volume::{fc, host_path, iscsi, legacy_source, nfs};

use super::at::At;
use super::common::{format, one_of, optional_format};
use super::errors::ErrorList;
use super::{meta, names};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// What the parts of a pod spec need to know of the whole.
pub(super) struct Ctx<'v> {
    /// A pod, not a template.
    pub is_pod: bool,
    /// Name of the pod, for volumes that make claims.
    pub pod_name: &'v str,
    pub grace: Option<i64>,
    pub restart_policy: &'v str,
    pub host_users: bool,
    /// Volumes that are right in themselves.
    pub volumes: HashMap<&'v str, &'v Value>,
    pub claims: HashSet<&'v str>,
}

/// Rules for a new pod (metadata is checked by the caller).
pub fn create(pod: &Value, e: &mut ErrorList) {
    let root = At::root(pod);
    whole(&root, e);
    let spec = root.get("spec");
    if !spec.get("ephemeralContainers").is_empty() {
        e.forbidden(&spec.at("ephemeralContainers"), "cannot be set on create");
    }
    if !spec.s("nodeName").is_empty() && !spec.get("schedulingGates").is_empty() {
        e.forbidden(&spec.at("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
}

/// Annotations and spec of a pod.
pub(super) fn whole(root: &At, e: &mut ErrorList) {
    let meta = root.get("metadata");
    let spec = root.get("spec");
    annotations(&meta.get("annotations"), &spec, e);
    pod_spec(&spec, Some(meta.s("name")), &[], e);
    if spec.s("serviceAccountName").is_empty() {
        for v in spec.get("volumes").iter() {
            let projected = v.get("projected");
            for s in projected.get("sources").iter() {
                if s.has("serviceAccountToken") {
                    e.forbidden(
                        &s.at("serviceAccountToken"),
                        "must not be specified when serviceAccountName is not set",
                    );
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        for c in spec.get(list).iter() {
            container::image_is_trimmed(&c, e);
        }
    }
}

fn annotations(a: &At, spec: &At, e: &mut ErrorList) {
    if a.has("kubernetes.io/config.mirror") && spec.s("nodeName").is_empty() {
        e.invalid(
            &a.p.key("kubernetes.io/config.mirror"),
            a.s("kubernetes.io/config.mirror"),
            "must set spec.nodeName if mirror pod annotation is set",
        );
    }
    let cost = a.s("controller.kubernetes.io/pod-deletion-cost");
    if !cost.is_empty() && (cost.parse::<i32>().is_err() || cost.starts_with('+')) {
        e.invalid(&a.p.key("controller.kubernetes.io/pod-deletion-cost"), cost, "must be a 32bit integer");
    }
}

/// `PodTemplateSpec`.
pub fn template(t: &At, e: &mut ErrorList) {
    template_with_claims(t, &[], e);
}

/// A template whose pods find claims made from these templates among their volumes.
pub fn template_with_claims<'v>(t: &At<'v, '_>, claims: &'v [Value], e: &mut ErrorList) {
    let m = t.get("metadata");
    let labels = At::new(m.raw("labels"), t.at("labels"));
    meta::labels(&labels, e);
    let notes = At::new(m.raw("annotations"), t.at("annotations"));
    meta::annotations(&notes, e);
    let spec = t.get("spec");
    annotations(&notes, &spec, e);
    pod_spec(&spec, None, claims, e);
    if !spec.get("ephemeralContainers").is_empty() {
        e.forbidden(&spec.at("ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
}

/// `PodSpec`; with the pod's name when it is one.
fn pod_spec<'v>(spec: &At<'v, '_>, pod_name: Option<&'v str>, templates: &'v [Value], e: &mut ErrorList) {
    let grace = spec.i("terminationGracePeriodSeconds");
    if grace.is_none() {
        e.required(&spec.at("terminationGracePeriodSeconds"), "");
    }
    let mut ctx = Ctx {
        is_pod: pod_name.is_some(),
        pod_name: pod_name.unwrap_or_default(),
        grace,
        restart_policy: spec.s("restartPolicy"),
        host_users: spec.raw("hostUsers").as_bool().unwrap_or(true),
        volumes: HashMap::new(),
        claims: HashSet::new(),
    };
    volume::volumes(&spec.get("volumes"), templates, &mut ctx, e);
    let claims = spec.get("resourceClaims");
    ctx.claims =
        claims.list().iter().filter_map(|c| c.get("name")?.as_str()).filter(|n| !n.is_empty()).collect();
    pod_resources::claims(&claims, e);
    container::containers(spec, &ctx, e);
    container::init_containers(spec, &ctx, e);
    container::ephemeral_containers(spec, &ctx, e);
    if spec.has("resources") {
        pod_resources::pod_level(spec, &ctx, e);
    }
    if spec.b("hostNetwork") {
        host_network_ports(spec, ctx.is_pod, e);
    }
    one_of(&spec.get("restartPolicy"), &["Always", "OnFailure", "Never"], e);
    one_of(&spec.get("dnsPolicy"), &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], e);
    meta::labels(&spec.get("nodeSelector"), e);
    security::pod(spec, e);
    scheduling::affinity(&spec.get("affinity"), e);
    dns_config(spec, e);
    for g in spec.get("readinessGates").iter() {
        format(&g.get("conditionType"), names::qualified_name, e);
    }
    let mut gates = HashSet::new();
    for g in spec.get("schedulingGates").iter() {
        let name = g.s("name");
        e.each(&g, name, names::qualified_name(name));
        if !gates.insert(name) {
            e.duplicate(&g, name);
        }
    }
    scheduling::topology_spread(&spec.get("topologySpreadConstraints"), ctx.is_pod, e);
    windows::host_process(spec, e);
    if !ctx.host_users {
        let why = "when `hostUsers` is false";
        for (f, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
            if spec.b(f) {
                e.forbidden(&spec.at(shown), why);
            }
        }
    }
    optional_format(&spec.get("serviceAccountName"), names::dns1123_subdomain, e);
    optional_format(&spec.get("nodeName"), names::dns1123_subdomain, e);
    let deadline = spec.get("activeDeadlineSeconds");
    if deadline.int().is_some_and(|d| !(1..=i64::from(i32::MAX)).contains(&d)) {
        e.bad(&deadline, &names::between(1, i64::from(i32::MAX)));
    }
    optional_format(&spec.get("hostname"), names::dns1123_label, e);
    optional_format(&spec.get("subdomain"), names::dns1123_label, e);
    scheduling::tolerations(&spec.get("tolerations"), e);
    for h in spec.get("hostAliases").iter() {
        format(&h.get("ip"), names::ip, e);
        for n in h.get("hostnames").iter() {
            format(&n, names::dns1123_subdomain, e);
        }
    }
    optional_format(&spec.get("priorityClassName"), names::dns1123_subdomain, e);
    let runtime = spec.get("runtimeClassName");
    if !runtime.is_null() {
        format(&runtime, names::dns1123_subdomain, e);
    }
    let preemption = spec.get("preemptionPolicy");
    if !preemption.is_null() {
        one_of(&preemption, &["PreemptLowerPriority", "Never"], e);
    }
    let overhead = spec.get("overhead");
    resources::list(&overhead, super::amount::container_resource_name, e);
    let os = spec.get("os");
    if !os.is_null() {
        match os.s("name") {
            "" => e.required(&os.at("name"), ""),
            "linux" => windows::only_linux(spec, e),
            "windows" => windows::only_windows(spec, e),
            other => e.not_supported(&os, other, &["linux", "windows"]),
        }
    }
}

/// Every container, with its place: init, ordinary, ephemeral.
pub(super) fn each_container(spec: &At, mut f: impl FnMut(&At)) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for c in spec.get(list).iter() {
            f(&c);
        }
    }
}

fn host_network_ports(spec: &At, is_pod: bool, e: &mut ErrorList) {
    for c in spec.get("containers").iter() {
        for p in c.get("ports").iter() {
            let host = p.i("hostPort").unwrap_or(0);
            if (is_pod || host != 0) && host != p.i("containerPort").unwrap_or(0) {
                e.invalid(&p.at("hostPort"), host, "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}

fn dns_config(spec: &At, e: &mut ErrorList) {
    let dns = spec.get("dnsConfig");
    let servers = dns.get("nameservers");
    if spec.s("dnsPolicy") == "None" {
        if dns.is_null() {
            e.required(&dns, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if servers.is_empty() {
            e.required(&servers, "must provide at least one DNS nameserver when `dnsPolicy` is None");
            return;
        }
    }
    if servers.len() > 3 {
        e.bad(&servers, "must not have more than 3 nameservers");
    }
    for s in servers.iter() {
        format(&s, names::ip, e);
    }
    let searches = dns.get("searches");
    if searches.len() > 32 {
        e.bad(&searches, "must not have more than 32 search paths");
    }
    let length: usize = searches.list().iter().map(|s| s.as_str().unwrap_or_default().len() + 1).sum();
    if length > 2049 {
        e.bad(&searches, "must not have more than 2048 characters (including spaces) in the search list");
    }
    for s in searches.iter() {
        let text = s.str();
        if text != "." {
            let text = text.strip_suffix('.').unwrap_or(text);
            e.each(&s, text, names::dns1123_subdomain_underscore(text));
        }
    }
    for o in dns.get("options").iter() {
        if o.s("name").is_empty() {
            e.required(&o, "must not be empty");
        }
    }
}
