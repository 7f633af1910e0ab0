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
    // The first that runs tells for its node.
    let status = old.get("status");
    let statuses = status.get("containerStatuses");
    if statuses.iter().find(|s| s.get("state").has("running")).is_some_and(|s| !s.has("resources")) {
        e.forbidden(&spec, "Pod running on node without support for resize");
    }
    pod_level(&spec, &was, e);
    if !in_order(&spec, &was, e) {
        return;
    }
    for list in ["initContainers", "containers"] {
        for (c, o) in spec.get(list).iter().zip(was.get(list).iter()) {
            not_removed(&c.get("resources"), &o.get("resources"), "resource", e);
            if !only_cpu_and_memory(&c.get("resources"), &o.get("resources"))
                || !same_except(c.v, o.v, &["resources"])
            {
                match list {
                    "containers" => e.forbidden(&spec, "only cpu and memory resources are mutable"),
                    _ => e.forbidden(
                        &c,
                        "only cpu and memory resources for init or sidecar containers are mutable",
                    ),
                }
            }
            let restarts = c.get("resizePolicy").iter().any(|p| p.s("restartPolicy") == "RestartContainer");
            if list == "initContainers" && o.s("restartPolicy") != "Always" && restarts && !same(c.v, o.v) {
                let why =
                    "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                e.forbidden(&c, why);
            }
        }
    }
    if !same_except(spec.v, was.v, &["containers", "initContainers", "resources"]) {
        e.forbidden(&spec, "only cpu and memory resources are mutable");
    }
}

fn pod_level(spec: &At, was: &At, e: &mut ErrorList) {
    let (r, q) = (spec.get("resources"), was.get("resources"));
    if was.has("resources") && !spec.has("resources") {
        e.forbidden(&r, "pod-level resources cannot be removed");
        return;
    }
    not_removed(&r, &q, "pod-level resource", e);
    if !only_cpu_and_memory(&r, &q) {
        e.forbidden(spec, "only cpu and memory resources are mutable at pod-level");
    }
}

/// The same containers in the same places.
fn in_order(spec: &At, was: &At, e: &mut ErrorList) -> bool {
    let mut ordered = true;
    for list in ["containers", "initContainers"] {
        let (now, before) = (spec.get(list), was.get(list));
        if now.len() != before.len() {
            ordered = false;
            e.forbidden(&now, &format!("{list} may not be added or removed on resize"));
            continue;
        }
        for (c, _) in now.iter().zip(before.iter()).filter(|(c, o)| c.s("name") != o.s("name")) {
            ordered = false;
            e.forbidden(&c.get("name"), &format!("{list} may not be renamed or reordered on resize"));
        }
    }
    ordered
}

fn not_removed(r: &At, q: &At, what: &str, e: &mut ErrorList) {
    for f in ["requests", "limits"] {
        let (now, before) = (r.get(f), q.get(f));
        if before.keys().any(|k| !now.has(k)) {
            e.forbidden(&now, &format!("{what} {f} cannot be removed"));
        }
    }
}

fn only_cpu_and_memory(r: &At, q: &At) -> bool {
    ["limits", "requests"].iter().all(|f| same_except(r.raw(f), q.raw(f), &["cpu", "memory"]))
        && same_except(r.v, q.v, &["limits", "requests"])
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
