//! What makes pods: Deployment, ReplicaSet, StatefulSet, DaemonSet, ReplicationController, PodTemplate,
//! ControllerRevision. The template must carry the labels that the selector asks for, and the selector stays.

use super::at::At;
use super::common::{
    at_most_100_percent, int_or_percent, int_or_percent_value, label_selector, non_negative, optional_format,
    selector_is_empty, selects,
};
use super::errors::{ErrorList, same};
use super::internal::Internal;
use super::{names, pod, storage};
use serde_json::Value;

/// A LabelSelector that must be there, select something, and match the template. False: it is none.
fn selector(spec: &At, kind: &str, unreadable: &str, e: &mut ErrorList) -> bool {
    let selector = spec.get("selector");
    if selector.is_null() {
        e.required(&selector, "");
    } else {
        let before = e.len();
        label_selector(&selector, e);
        if e.len() > before {
            e.bad(&selector, unreadable);
            return false;
        }
        if selector_is_empty(selector.v) {
            e.bad(&selector, &format!("empty selector is invalid for {kind}"));
        }
    }
    labels_fit(spec, e);
    true
}
/// A selector that is not there selects nothing.
fn labels_fit(spec: &At, e: &mut ErrorList) {
    let selector = spec.raw("selector");
    let t = spec.get("template");
    let meta = t.get("metadata");
    let labels = meta.get("labels");
    if selector.is_null() || !selects(selector, labels.v) {
        e.bad(&labels, "`selector` does not match template `labels`");
    }
}

/// Selector and template of a Deployment or ReplicaSet.
fn selector_and_template(spec: &At, e: &mut ErrorList) {
    if selector(spec, "deployment", "invalid label selector", e) {
        template(spec, e);
        no_deadline(spec, "ReplicaSet", e);
    }
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
    selector_and_template(&spec, e);
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
        _ => e.not_supported(
            &strategy,
            Internal("DeploymentStrategy", strategy.v),
            &["Recreate", "RollingUpdate"],
        ),
    }
    counts(&spec, &["minReadySeconds", "revisionHistoryLimit"], e);
    let deadline = spec.get("progressDeadlineSeconds");
    if let Some(d) = deadline.int() {
        non_negative(&deadline, e);
        if d <= spec.i("minReadySeconds").unwrap_or(0) {
            e.bad(&deadline, "must be greater than minReadySeconds");
        }
    }
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
    selector_and_template(&spec, e);
}
pub fn replica_set_update(n: &Value, o: &Value, e: &mut ErrorList) {
    replica_set(n, e);
    selector_stays(n, o, e);
}

/// ReplicationController; its selector is a plain map.
pub fn replication_controller(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let selector = spec.get("selector");
    if selector.is_empty() {
        e.required(&selector, "");
    }
    let t = spec.get("template");
    if t.is_null() {
        e.required(&t, "");
    } else {
        let meta = t.get("metadata");
        let labels = meta.get("labels");
        if selector.entries().any(|(k, v)| labels.raw(k) != v.v) {
            e.bad(&labels, "`selector` does not match template `labels`");
        }
        template(&spec, e);
        no_deadline(&spec, "ReplicationController", e);
    }
    // Declared with the fields upstream, which is told last.
    counts(&spec, &["replicas", "minReadySeconds"], e);
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
    let selector = spec.get("selector");
    let before = e.len();
    label_selector(&selector, e);
    if e.len() == before {
        labels_fit(&spec, e);
    }
    if !selector.is_null() && selector_is_empty(selector.v) {
        e.bad(&selector, "empty selector is invalid for daemonset");
    }
    template(&spec, e);
    no_deadline(&spec, "DaemonSet", e);
    counts(&spec, &["minReadySeconds"], e);
    daemon_strategy(&spec, e);
    counts(&spec, &["revisionHistoryLimit"], e);
}
fn daemon_strategy(spec: &At, e: &mut ErrorList) {
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
        _ => e.not_supported(
            &strategy,
            Internal("DaemonSetUpdateStrategy", strategy.v),
            &["RollingUpdate", "OnDelete"],
        ),
    }
}
pub fn daemon_set_update(n: &Value, o: &Value, e: &mut ErrorList) {
    selector_stays(n, o, e);
    daemon_set(n, e);
}
pub fn daemon_set_status(n: &Value, o: &Value, e: &mut ErrorList) {
    let root = At::root(n);
    let fields = [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ];
    counts(&root.get("status"), &fields, e);
    collisions(n, o, e);
}
/// Names that were tried in vain are not forgotten.
fn collisions(n: &Value, o: &Value, e: &mut ErrorList) {
    let (root, was) = (At::root(n), At::root(o));
    let status = root.get("status");
    let now = status.i("collisionCount").unwrap_or(0);
    if was.get("status").i("collisionCount").is_some_and(|before| now < before) {
        e.invalid(&status.at("collisionCount"), now, "cannot be decremented");
    }
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
                e.bad_as(
                    "RollingUpdateStatefulSetStrategy",
                    &u,
                    "only allowed for updateStrategy 'RollingUpdate'",
                );
            }
        }
        "RollingUpdate" => {
            non_negative(&u.get("partition"), e);
            let unavailable = u.get("maxUnavailable");
            int_or_percent(&unavailable, e);
            if !unavailable.is_null() && int_or_percent_value(unavailable.v) == 0 {
                e.bad(&unavailable, "cannot be 0");
            }
            at_most_100_percent(&unavailable, e);
        }
        _ => e.bad_as("StatefulSetUpdateStrategy", &strategy, "must be 'RollingUpdate' or 'OnDelete'"),
    }
    let keep = spec.get("persistentVolumeClaimRetentionPolicy");
    if !keep.is_null() {
        for f in ["whenDeleted", "whenScaled"] {
            if !["Delete", "Retain"].contains(&keep.s(f)) {
                e.not_supported(&keep.at(f), keep.s(f), &["Retain", "Delete"]);
            }
        }
    }
    for t in spec.get("volumeClaimTemplates").iter() {
        storage::claim_template(&t, e);
    }
    counts(&spec, &["replicas", "minReadySeconds"], e);
    non_negative(&spec.get("ordinals").get("start"), e);
    let service = spec.get("serviceName");
    optional_format(&service, names::dns1123_label, e);
    if selector(&spec, "statefulset", "", e) {
        let t = spec.get("template");
        let claims = spec.raw("volumeClaimTemplates").as_array().map_or(&[][..], Vec::as_slice);
        pod::template_with_claims(&t, claims, e);
    }
    always(&spec.get("template"), e);
    no_deadline(&spec, "StatefulSet", e);
}

pub fn stateful_set_update(n: &Value, o: &Value, e: &mut ErrorList) {
    stateful_set(n, e);
    let (new, old) = (At::root(n), At::root(o));
    let (spec, was) = (new.get("spec"), old.get("spec"));
    e.immutable(&spec.get("selector"), was.raw("selector"));
    let claims = spec.get("volumeClaimTemplates");
    if !same(claims.v, was.raw("volumeClaimTemplates")) {
        match claims.v {
            Value::Null => e.invalid(&claims, Value::Array(Vec::new()), super::IMMUTABLE),
            _ => e.bad_as("[]PersistentVolumeClaim", &claims, super::IMMUTABLE),
        }
    }
    for f in ["serviceName", "podManagementPolicy"] {
        e.immutable(&spec.get(f), was.raw(f));
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
pub fn replica_status(n: &Value, o: &Value, parts: &[&str], e: &mut ErrorList) {
    let root = At::root(n);
    let status = root.get("status");
    let total = status.i("replicas").unwrap_or(0);
    let early = matches!(parts.first(), Some(&"updatedReplicas"));
    counts(&status, if early { &["observedGeneration", "replicas"] } else { &["replicas"] }, e);
    counts(&status, parts, e);
    counts(&status, &["unavailableReplicas"], e);
    if !early {
        counts(&status, &["observedGeneration"], e);
    }
    counts(&status, &["terminatingReplicas", "collisionCount"], e);
    for f in parts {
        let part = status.i(f).unwrap_or(0);
        if part > total {
            e.invalid(&status.at(f), part, "cannot be greater than status.replicas");
        }
    }
    let (ready, available) = (status.i("readyReplicas").unwrap_or(0), status.get("availableReplicas"));
    if available.int().is_some_and(|a| a > ready) {
        let whole = if parts.contains(&"currentReplicas") { "status.readyReplicas" } else { "readyReplicas" };
        e.bad(&available, &format!("cannot be greater than {whole}"));
    }
    collisions(n, o, e);
}
