//! PodDisruptionBudget, PriorityClass, RuntimeClass.

use super::at::At;
use super::common::{
    at_most_100_percent, format, int_or_percent, label_selector, non_negative, one_of, optional_one_of,
    required,
};
use super::errors::{ErrorList, same};
use super::internal::Internal;
use super::pod::{resources, scheduling};
use super::{amount, meta, names};
use serde_json::Value;

/// PodDisruptionBudget.
pub fn budget(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let (min, max) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
    if !min.is_null() && !max.is_null() {
        e.bad_as("PodDisruptionBudgetSpec", &spec, "minAvailable and maxUnavailable cannot be both set");
    }
    for f in [&min, &max] {
        if !f.is_null() {
            int_or_percent(f, e);
            at_most_100_percent(f, e);
        }
    }
    label_selector(&spec.get("selector"), e);
    optional_one_of(&spec.get("unhealthyPodEvictionPolicy"), &["AlwaysAllow", "IfHealthyBudget"], e);
}
pub fn budget_status(n: &Value, e: &mut ErrorList) {
    let root = At::root(n);
    let status = root.get("status");
    super::common::conditions(&status.get("conditions"), e);
    for f in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        non_negative(&status.get(f), e);
    }
}

/// PriorityClass.
pub fn priority_class(o: &Value, e: &mut ErrorList) {
    const SYSTEM: [(&str, i64); 2] =
        [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];
    let root = At::root(o);
    let meta = root.get("metadata");
    let (name, value) = (meta.get("name"), root.get("value"));
    if name.str().starts_with("system-") {
        let known = SYSTEM.iter().find(|(n, _)| *n == name.str());
        let why = match known {
            None => Some(format!("{} is not a known system priority class", name.str())),
            Some((n, v)) if value.int() != Some(*v) => {
                Some(format!("value of {n} PriorityClass must be {v}"))
            }
            Some((n, _)) if root.b("globalDefault") => {
                Some(format!("globalDefault of {n} PriorityClass must be false"))
            }
            _ => None,
        };
        if let Some(why) = why {
            e.forbidden(
                &name,
                &format!("priority class names with 'system-' prefix are reserved for system use only. error: {why}"),
            );
        }
    } else if value.int().is_some_and(|v| v > 1_000_000_000) {
        e.forbidden(&value, "maximum allowed value of a user defined priority is 1000000000");
    }
    let preemption = root.get("preemptionPolicy");
    if !preemption.is_null() {
        one_of(&preemption, &["PreemptLowerPriority", "Never"], e);
    }
}
pub fn priority_class_update(n: &Value, o: &Value, e: &mut ErrorList) {
    let (root, was) = (At::root(n), At::root(o));
    if root.i("value").unwrap_or(0) != was.i("value").unwrap_or(0) {
        e.forbidden(&root.at("value"), "may not be changed in an update.");
    }
    e.immutable(&root.get("preemptionPolicy"), was.raw("preemptionPolicy"));
}

/// RuntimeClass.
pub fn runtime_class(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let overhead = root.get("overhead");
    let fixed = At::new(overhead.raw("podFixed"), overhead.at("limits"));
    resources::list(&fixed, amount::container_resource_name, e);
    let s = root.get("scheduling");
    meta::labels(&s.get("nodeSelector"), e);
    let tolerations = s.get("tolerations");
    for (i, t) in tolerations.iter().enumerate() {
        if tolerations.list()[..i].contains(t.v) {
            e.duplicate(&t, Internal("Toleration", t.v));
        }
    }
    scheduling::tolerations(&tolerations, e);
    // Declared with the field upstream, which is told last.
    let handler = root.get("handler");
    if required(&handler, e) {
        format(&handler, names::dns1123_label, e);
    }
}
pub fn runtime_class_update(n: &Value, o: &Value, e: &mut ErrorList) {
    runtime_class(n, e);
    let root = At::root(n);
    if !same(root.raw("handler"), At::root(o).raw("handler")) {
        e.invalid(&root.at("handler"), Value::Null, super::IMMUTABLE);
    }
}
