//! What makes pods: Deployment, ReplicaSet, StatefulSet, DaemonSet, ReplicationController, PodTemplate,
//! ControllerRevision. The template must carry the labels that the selector asks for, and the selector stays.

use super::at::At;
use super::common::{
    at_most_100_percent, changed_fields, int_or_percent, int_or_percent_value, label_selector, non_negative,
    required, selector_is_empty, selects,
};
use super::errors::{ErrorList, same};
use super::{names, pod, storage};
use serde_json::{Value, json};

/// A LabelSelector that must be there, select something, and match the template.
fn selector_and_template(spec: &At, kind: &str, e: &mut ErrorList) -> bool {
    let selector = spec.get("selector");
    if selector.is_null() {
        e.required(&selector, "");
    } else {
        label_selector(&selector, e);
        if selector_is_empty(selector.v) {
            e.bad(&selector, &format!("empty selector is invalid for {kind}"));
        }
    }
    template(spec, e);
    let t = spec.get("template");
    let labels = t.get("metadata");
    let labels = labels.get("labels");
    let fits = selector_is_empty(selector.v) || selects(selector.v, labels.v);
    if !fits {
        e.bad(&labels, "`selector` does not match template `labels`");
    }
    fits
}

/// A template whose pods always restart.
fn template(spec: &At, e: &mut ErrorList) {
    let t = spec.get("template");
    pod::template(&t, e);
    always(&t, e);
}
fn always(t: &At, e: &mut ErrorList) {
    let s = t.get("spec");
    let policy = s.get("restartPolicy");
    if !matches!(policy.str(), "Always" | "") {
        e.not_supported(&policy, policy.str(), &["Always"]);
    }
}
fn no_deadline(spec: &At, kind: &str, e: &mut ErrorList) {
    let t = spec.get("template");
    let s = t.get("spec");
    if s.has("activeDeadlineSeconds") {
        e.forbidden(
            &s.at("activeDeadlineSeconds"),
            &format!("activeDeadlineSeconds in {kind} is not Supported"),
        );
    }
}
fn counts(spec: &At, fields: &[&str], e: &mut ErrorList) {
    for f in fields {
        non_negative(&spec.get(f), e);
    }
}
fn selector_stays(new: &Value, old: &Value, e: &mut ErrorList) {
    let (n, o) = (At::root(new), At::root(old));
    e.immutable(&n.get("spec").get("selector"), o.get("spec").raw("selector"));
}

/// Both of a rolling update's numbers; not both zero.
fn rolling(u: &At, default_surge_first: bool, e: &mut ErrorList) {
    let (surge, unavailable) = (u.get("maxSurge"), u.get("maxUnavailable"));
    int_or_percent(&unavailable, e);
    int_or_percent(&surge, e);
    let zero = |a: &At| int_or_percent_value(a.v) == 0;
    if default_surge_first && zero(&unavailable) && zero(&surge) {
        e.bad(&unavailable, "may not be 0 when `maxSurge` is 0");
    }
    at_most_100_percent(&unavailable, e);
}

/// Deployment.
pub fn deployment(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    counts(&spec, &["replicas"], e);
    selector_and_template(&spec, "deployment", e);
    let strategy = spec.get("strategy");
    let rolling_update = strategy.get("rollingUpdate");
    match strategy.s("type") {
        "Recreate" => {
            if !rolling_update.is_null() {
                e.forbidden(&rolling_update, "may not be specified when strategy `type` is 'Recreate'");
            }
        }
        "RollingUpdate" => {
            if rolling_update.is_null() {
                e.required(&rolling_update, "this should be defaulted and never be nil");
            } else {
                rolling(&rolling_update, true, e);
            }
        }
        other => e.not_supported(&strategy, other, &["Recreate", "RollingUpdate"]),
    }
    counts(&spec, &["minReadySeconds", "revisionHistoryLimit"], e);
    let deadline = spec.get("progressDeadlineSeconds");
    if let Some(d) = deadline.int() {
        non_negative(&deadline, e);
        if d <= spec.i("minReadySeconds").unwrap_or(0) {
            e.bad(&deadline, "must be greater than minReadySeconds");
        }
    }
    no_deadline(&spec, "Deployment", e);
}
pub fn deployment_update(n: &Value, o: &Value, e: &mut ErrorList) {
    deployment(n, e);
    selector_stays(n, o, e);
}

/// ReplicaSet.
pub fn replica_set(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    counts(&spec, &["replicas", "minReadySeconds"], e);
    selector_and_template(&spec, "deployment", e);
    no_deadline(&spec, "ReplicaSet", e);
}
pub fn replica_set_update(n: &Value, o: &Value, e: &mut ErrorList) {
    replica_set(n, e);
    selector_stays(n, o, e);
}

/// ReplicationController; its selector is a plain map.
pub fn replication_controller(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    counts(&spec, &["minReadySeconds"], e);
    let selector = spec.get("selector");
    if selector.is_empty() {
        e.required(&selector, "");
    }
    counts(&spec, &["replicas"], e);
    let t = spec.get("template");
    if t.is_null() {
        e.required(&t, "");
        return;
    }
    let meta = t.get("metadata");
    let labels = meta.get("labels");
    if selector.entries().any(|(k, v)| labels.raw(k) != v.v) {
        e.bad(&labels, "`selector` does not match template `labels`");
    }
    template(&spec, e);
    no_deadline(&spec, "ReplicationController", e);
}

/// PodTemplate.
pub fn pod_template(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    pod::template(&root.get("template"), e);
}

/// DaemonSet.
pub fn daemon_set(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    selector_and_template(&spec, "daemonset", e);
    no_deadline(&spec, "DaemonSet", e);
    counts(&spec, &["minReadySeconds", "revisionHistoryLimit"], e);
    let strategy = spec.get("updateStrategy");
    match strategy.s("type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let u = strategy.get("rollingUpdate");
            if u.is_null() {
                e.required(&u, "");
                return;
            }
            let (surge, unavailable) = (u.get("maxSurge"), u.get("maxUnavailable"));
            rolling(&u, false, e);
            at_most_100_percent(&surge, e);
            let set = |a: &At| int_or_percent_value(a.v) != 0;
            match (set(&surge), set(&unavailable)) {
                (false, false) => e.required(&unavailable, "cannot be 0 when maxSurge is 0"),
                (true, true) => e.bad(&surge, "may not be set when maxUnavailable is non-zero"),
                _ => {}
            }
        }
        other => e.not_supported(&strategy.at("type"), other, &["RollingUpdate", "OnDelete"]),
    }
}
pub fn daemon_set_update(n: &Value, o: &Value, e: &mut ErrorList) {
    daemon_set(n, e);
    selector_stays(n, o, e);
}

/// The spec with the claims among the volumes of its template, as its pods will have them.
fn with_claims(spec: &Value) -> Value {
    let mut whole = spec.clone();
    let claims = spec["volumeClaimTemplates"].as_array().into_iter().flatten();
    let names: Vec<&str> = claims.filter_map(|t| t["metadata"]["name"].as_str()).collect();
    let Some(pod) = whole.pointer_mut("/template/spec").and_then(Value::as_object_mut) else { return whole };
    let volumes = pod.entry("volumes").or_insert_with(|| json!([]));
    if volumes.is_null() {
        *volumes = json!([]);
    }
    let Some(volumes) = volumes.as_array_mut() else { return whole };
    for name in names {
        let claim = json!({ "name": name, "persistentVolumeClaim": { "claimName": name } });
        match volumes.iter_mut().find(|v| v["name"] == name) {
            Some(same) => *same = claim,
            None => volumes.push(claim),
        }
    }
    whole
}

/// StatefulSet.
pub fn stateful_set(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let policy = spec.get("podManagementPolicy");
    match policy.str() {
        "" => e.required(&policy, ""),
        "OrderedReady" | "Parallel" => {}
        _ => e.bad(&policy, "must be 'OrderedReady' or 'Parallel'"),
    }
    let strategy = spec.get("updateStrategy");
    let u = strategy.get("rollingUpdate");
    match strategy.s("type") {
        "" => e.required(&strategy, ""),
        "OnDelete" => {
            if !u.is_null() {
                e.bad(&u, "only allowed for updateStrategy 'RollingUpdate'");
            }
        }
        "RollingUpdate" => {
            non_negative(&u.get("partition"), e);
            let unavailable = u.get("maxUnavailable");
            int_or_percent(&unavailable, e);
            at_most_100_percent(&unavailable, e);
            if !unavailable.is_null() && int_or_percent_value(unavailable.v) == 0 {
                e.bad(&unavailable, "cannot be 0");
            }
        }
        _ => e.bad(&strategy, "must be 'RollingUpdate' or 'OnDelete'"),
    }
    let keep = spec.get("persistentVolumeClaimRetentionPolicy");
    if !keep.is_null() {
        for f in ["whenDeleted", "whenScaled"] {
            if !["Delete", "Retain"].contains(&keep.s(f)) {
                e.not_supported(&keep.at(f), keep.s(f), &["Delete", "Retain"]);
            }
        }
    }
    counts(&spec, &["replicas", "minReadySeconds", "revisionHistoryLimit"], e);
    non_negative(&spec.get("ordinals").get("start"), e);
    let whole = with_claims(spec.v);
    selector_and_template(&At::new(&whole, spec.p), "statefulset", e);
    no_deadline(&spec, "StatefulSet", e);
    for t in spec.get("volumeClaimTemplates").iter() {
        let meta = t.get("metadata");
        required(&meta.get("name"), e);
        storage::claim_template(&t, e);
    }
    let service = spec.get("serviceName");
    if !service.str().is_empty() {
        e.each(&service, service.str(), names::dns1123_subdomain(service.str()));
    }
}

const STATEFUL_SET_UPDATABLE: [&str; 7] = [
    "minReadySeconds",
    "ordinals",
    "persistentVolumeClaimRetentionPolicy",
    "replicas",
    "revisionHistoryLimit",
    "template",
    "updateStrategy",
];

pub fn stateful_set_update(n: &Value, o: &Value, e: &mut ErrorList) {
    stateful_set(n, e);
    let (new, old) = (At::root(n), At::root(o));
    let (spec, was) = (new.get("spec"), old.get("spec"));
    if changed_fields(spec.v, was.v, &STATEFUL_SET_UPDATABLE).next().is_some() {
        e.forbidden(
            &spec,
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        );
    }
}

/// ControllerRevision.
pub fn controller_revision(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    if root.get("data").is_null() {
        e.required(&root.at("data"), "data is mandatory");
    }
    non_negative(&root.get("revision"), e);
}
pub fn controller_revision_update(n: &Value, o: &Value, e: &mut ErrorList) {
    controller_revision(n, e);
    let root = At::root(n);
    if !same(root.raw("data"), At::root(o).raw("data")) {
        e.bad(&root.get("data"), super::IMMUTABLE);
    }
}

/// The counts of a status: none negative, none above `status.replicas`.
pub fn replica_status(n: &Value, whole: &str, parts: &[&str], e: &mut ErrorList) {
    let root = At::root(n);
    let status = root.get("status");
    let total = status.i(whole).unwrap_or(0);
    non_negative(&status.get(whole), e);
    for f in parts {
        let part = status.get(f);
        non_negative(&part, e);
        if part.int().is_some_and(|p| p > total) {
            e.bad(&part, "cannot be greater than status.replicas");
        }
    }
    non_negative(&status.get("observedGeneration"), e);
    let (ready, available) = (status.i("readyReplicas").unwrap_or(0), status.get("availableReplicas"));
    if available.int().is_some_and(|a| a > ready) {
        e.bad(&available, "cannot be greater than readyReplicas");
    }
}
