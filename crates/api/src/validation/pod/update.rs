//! What an update may change of a pod: images, a shorter deadline, more tolerations, fewer gates. Compared in place,
//! nothing is copied.

use super::super::at::At;
use super::super::common::{required, same_except};
use super::super::errors::{ErrorList, same};
use super::super::internal::changes;
use super::super::names;
use super::{annotations, container, scheduling, whole};
use serde_json::Value;

const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Rules for a changed pod (metadata is checked by the caller).
pub fn update(new: &Value, old: &Value, e: &mut ErrorList) {
    let (new, old) = (At::root(new), At::root(old));
    annotation_updates(&new, &old, e);
    let (spec, was) = (new.get("spec"), old.get("spec"));
    // An unchanged spec was valid when it came in.
    if same(spec.v, was.v) {
        let meta = new.get("metadata");
        annotations(&meta.get("annotations"), &spec, e);
        return;
    }
    whole(&new, e);
    for list in ["containers", "initContainers"] {
        let (now, before) = (spec.get(list), was.get(list));
        if now.len() != before.len() {
            e.forbidden(&now, "pod updates may not add or remove containers");
            return;
        }
        for c in now.iter() {
            required(&c.get("image"), e);
            container::image_is_trimmed(&c, e);
        }
    }
    if !deadline(&spec, &was, e) {
        return;
    }
    only_added_tolerations(&spec, &was, e);
    only_removed_gates(&spec, &was, e);
    immutable(&spec, &was, e);
}

/// Mirror and AppArmor annotations stay as they are.
pub(super) fn annotation_updates(new: &At, old: &At, e: &mut ErrorList) {
    const ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
    const MIRROR: &str = "kubernetes.io/config.mirror";
    let (meta, before) = (new.get("metadata"), old.get("metadata"));
    let (now, was) = (meta.get("annotations"), before.get("annotations"));
    for (k, v) in was.entries() {
        if now.raw(k) == v.v {
            continue;
        }
        if k.starts_with(ARMOR) {
            e.forbidden(&now.p.key(k), "may not remove or update AppArmor annotations");
        }
        if k == MIRROR {
            e.forbidden(&now.p.key(k), "may not remove or update mirror pod annotation");
        }
    }
    for k in now.keys().filter(|k| !was.has(k)) {
        if k.starts_with(ARMOR) {
            e.forbidden(&now.p.key(k), "may not add AppArmor annotations");
        }
        if k == MIRROR {
            e.forbidden(&now.p.key(k), "may not add mirror pod annotation");
        }
    }
}

/// False ends the check.
fn deadline(spec: &At, was: &At, e: &mut ErrorList) -> bool {
    let now = spec.get("activeDeadlineSeconds");
    let before = was.i("activeDeadlineSeconds");
    match (now.int(), before) {
        (Some(n), _) if !(0..=i64::from(i32::MAX)).contains(&n) => {
            e.bad(&now, &names::between(0, i64::from(i32::MAX)));
            return false;
        }
        (Some(n), Some(b)) if b < n => {
            e.bad(&now, "must be less than or equal to previous value");
            return false;
        }
        (None, Some(_)) => e.bad(&now, "must not update from a positive integer to nil value"),
        _ => {}
    }
    true
}

fn only_added_tolerations(spec: &At, was: &At, e: &mut ErrorList) {
    let now = spec.get("tolerations");
    let kept = |t: &Value| now.list().iter().any(|n| same_except(n, t, &["tolerationSeconds"]));
    if !was.get("tolerations").list().iter().all(kept) {
        e.forbidden(&now, "existing toleration can not be modified except its tolerationSeconds");
        return;
    }
    scheduling::tolerations(&now, e);
}

fn only_removed_gates(spec: &At, was: &At, e: &mut ErrorList) {
    let before = was.get("schedulingGates");
    for g in spec.get("schedulingGates").iter() {
        let name = g.s("name");
        if !before.list().iter().any(|b| b.get("name").and_then(Value::as_str) == Some(name)) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            e.forbidden(&g.at("name"), &why);
        }
    }
}

fn immutable(spec: &At, was: &At, e: &mut ErrorList) {
    let mut skip =
        vec!["containers", "initContainers", "activeDeadlineSeconds", "tolerations", "schedulingGates"];
    let grace = "terminationGracePeriodSeconds";
    if was.i(grace).is_some_and(|g| g < 0) && spec.i(grace) == Some(1) {
        skip.push(grace);
    }
    // A gated pod may still be told more about where it is to run.
    if !was.get("schedulingGates").is_empty() {
        let (now, before) = (spec.get("nodeSelector"), was.get("nodeSelector"));
        if before.entries().any(|(k, v)| now.raw(k) != v.v) {
            e.bad(&now, "only additions to spec.nodeSelector are allowed (no mutations or deletions)");
        }
        skip.push("nodeSelector");
        let (now, before) = (spec.get("affinity"), was.get("affinity"));
        node_affinity(&now.get("nodeAffinity"), &before.get("nodeAffinity"), e);
        if same_except(now.v, before.v, &["nodeAffinity"]) {
            skip.push("affinity");
        }
    }
    let lists = ["containers", "initContainers"];
    let containers = lists.iter().all(|list| {
        let (now, before) = (spec.get(list), was.get(list));
        now.list().iter().zip(before.list()).all(|(c, b)| same_except(c, b, &["image"]))
    });
    if containers && same_except(spec.v, was.v, &skip) {
        return;
    }
    // Shown with what may change as it was.
    let mut shown = spec.v.clone();
    for f in skip.iter().filter(|f| !lists.contains(f)) {
        shown[*f] = was.raw(f).clone();
    }
    for list in lists {
        let now = shown[list].as_array_mut().into_iter().flatten();
        for (c, b) in now.zip(was.get(list).list()) {
            c["image"] = b["image"].clone();
        }
    }
    e.forbidden(spec, &format!("{UPDATABLE}\n{}", changes("PodSpec", was.v, &shown)));
}

fn node_affinity(now: &At, before: &At, e: &mut ErrorList) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let old = before.get(REQUIRED);
    let old = old.get("nodeSelectorTerms");
    if old.is_empty() {
        return;
    }
    let required = now.get(REQUIRED);
    let new = required.get("nodeSelectorTerms");
    if new.len() != old.len() {
        e.bad(&new, "no additions/deletions to non-empty NodeSelectorTerms list are allowed");
        return;
    }
    for (n, o) in new.iter().zip(old.list()) {
        let grown = |f: &str| {
            let had = o.get(f).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            n.get(f).list().get(..had.len()).is_some_and(|now| now == had)
        };
        let was_empty = same(o, &Value::Null);
        if !grown("matchExpressions") || !grown("matchFields") || (was_empty && !same(n.v, &Value::Null)) {
            e.bad(&n, "only additions are allowed (no mutations or deletions)");
        }
    }
}
