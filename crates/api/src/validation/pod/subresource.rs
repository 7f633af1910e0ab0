//! The `ephemeralcontainers` and `resize` subresources of a pod.

use super::super::amount::quantity;
use super::super::at::At;
use super::super::common::same_except;
use super::super::errors::{ErrorList, same};
use super::super::path::Path;
use super::update::annotation_updates;
use super::whole;
use serde_json::Value;

const MIRROR: &str = "kubernetes.io/config.mirror";

/// Ephemeral containers are only ever added.
pub fn ephemeral_containers(new: &Value, old: &Value, e: &mut ErrorList) {
    let (new, old) = (At::root(new), At::root(old));
    if old.get("metadata").get("annotations").has(MIRROR) {
        e.forbidden(&Path::ROOT, "static pods do not support ephemeral containers");
        return;
    }
    whole(&new, e);
    annotation_updates(&new, &old, e);
    let (spec, was) = (new.get("spec"), old.get("spec"));
    let list = spec.get("ephemeralContainers");
    for o in was.get("ephemeralContainers").iter() {
        let name = o.s("name");
        match list.list().iter().find(|n| n.get("name").and_then(Value::as_str) == Some(name)) {
            None => {
                e.forbidden(&list, &format!("existing ephemeral containers {name:?} may not be removed\n"))
            }
            Some(n) if !same(n, o.v) => {
                e.forbidden(&list, &format!("existing ephemeral containers {name:?} may not be changed\n"));
            }
            _ => {}
        }
    }
}

/// A running pod's cpu and memory.
pub fn resize(new: &Value, old: &Value, e: &mut ErrorList) {
    let (new, old) = (At::root(new), At::root(old));
    let (spec, was) = (new.get("spec"), old.get("spec"));
    if old.get("metadata").get("annotations").has(MIRROR) {
        e.forbidden(&Path::ROOT, "static pods cannot be resized");
        return;
    }
    if was.get("os").s("name") == "windows" {
        e.forbidden(&Path::ROOT, "windows pods cannot be resized");
        return;
    }
    whole(&new, e);
    let before = old.get("status").s("qosClass");
    if !before.is_empty() && before != qos(&spec) {
        e.invalid(&spec, before, "Pod QOS Class may not change as a result of resizing");
    }
    for s in old.get("status").get("containerStatuses").iter() {
        if s.get("state").has("running") && !s.has("resources") {
            e.forbidden(&spec, "Pod running on node without support for resize");
            break;
        }
    }
    for list in ["initContainers", "containers"] {
        let (now, before) = (spec.get(list), was.get(list));
        if now.len() != before.len() {
            e.forbidden(&spec, "only cpu and memory resources are mutable");
            return;
        }
        for (c, o) in now.iter().zip(before.iter()) {
            let sidecar = list == "containers" || o.s("restartPolicy") == "Always";
            if !sidecar {
                if !same(c.v, o.v) {
                    e.forbidden(&spec, "resources for non-sidecar init containers are immutable");
                }
                continue;
            }
            container(&c, &o, e);
            let (r, q) = (c.get("resources"), o.get("resources"));
            let others_same =
                ["limits", "requests"].iter().all(|f| same_except(r.raw(f), q.raw(f), &["cpu", "memory"]))
                    && same_except(r.v, q.v, &["limits", "requests"]);
            if !others_same || !same_except(c.v, o.v, &["resources"]) {
                let why = if list == "containers" {
                    "only cpu and memory resources are mutable"
                } else {
                    "only cpu and memory resources for sidecar containers are mutable"
                };
                e.forbidden(&spec, why);
            }
        }
    }
    if !same_except(spec.v, was.v, &["containers", "initContainers"]) {
        e.forbidden(&spec, "only cpu and memory resources are mutable");
    }
}

fn container(c: &At, o: &At, e: &mut ErrorList) {
    let (r, q) = (c.get("resources"), o.get("resources"));
    for f in ["requests", "limits"] {
        let (now, before) = (r.get(f), q.get(f));
        if before.keys().any(|k| !now.has(k)) {
            e.forbidden(&now, &format!("resource {f} cannot be removed"));
        }
    }
    let policies = c.get("resizePolicy");
    let restart = policies
        .list()
        .iter()
        .any(|p| p["resourceName"] == "memory" && p["restartPolicy"] == "RestartContainer");
    let limits = r.get("limits");
    let added = limits.has("memory") && !q.get("limits").has("memory");
    if added && !restart {
        e.forbidden(
            &limits.p.key("memory"),
            "memory limits cannot be added unless resizePolicy is RestartContainer",
        );
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos(spec: &At) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for list in ["containers", "initContainers"] {
        for c in spec.get(list).iter() {
            let r = c.get("resources");
            for name in ["cpu", "memory"] {
                let limit = quantity(r.get("limits").raw(name)).filter(|q| q.sign() > 0);
                let request = quantity(r.get("requests").raw(name)).filter(|q| q.sign() > 0);
                any |= limit.is_some() || request.is_some();
                guaranteed &= limit.is_some() && (request.is_none() || request == limit);
            }
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
