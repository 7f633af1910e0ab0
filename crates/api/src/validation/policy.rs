//! PodDisruptionBudget, PriorityClass, RuntimeClass, priority and fairness.

use super::at::At;
use super::common::{
    at_most_100_percent, format, int_or_percent, label_selector, non_negative, one_of, optional_one_of,
    required,
};
use super::errors::ErrorList;
use super::pod::{resources, scheduling};
use super::{amount, meta, names};
use serde_json::Value;

/// PodDisruptionBudget.
pub fn budget(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let (min, max) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
    if !min.is_null() && !max.is_null() {
        e.bad(&spec, "minAvailable and maxUnavailable cannot be both set");
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
    let handler = root.get("handler");
    format(&handler, names::dns1123_label, e);
    let overhead = root.get("overhead");
    resources::list(&overhead.get("podFixed"), amount::container_resource_name, e);
    let s = root.get("scheduling");
    meta::labels(&s.get("nodeSelector"), e);
    scheduling::tolerations(&s.get("tolerations"), e);
}
pub fn runtime_class_update(n: &Value, o: &Value, e: &mut ErrorList) {
    e.immutable(&At::root(n).get("handler"), At::root(o).raw("handler"));
}

/// FlowSchema.
pub fn flow_schema(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let precedence = spec.get("matchingPrecedence");
    let n = precedence.int().unwrap_or(0);
    if n <= 0 {
        e.invalid(&precedence, n, "must be a positive value");
    }
    if n > 10_000 {
        e.bad(&precedence, "must not be greater than 10000");
    }
    if n == 1 && root.get("metadata").s("name") != "exempt" {
        e.bad(&precedence, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
    let method = spec.get("distinguisherMethod");
    if !method.is_null() && !matches!(method.s("type"), "ByUser" | "ByNamespace") {
        e.not_supported(&method, method.s("type"), &["ByNamespace", "ByUser"]);
    }
    let level = spec.get("priorityLevelConfiguration");
    let name = level.get("name");
    if required(&name, e) {
        format(&name, names::dns1123_subdomain, e);
    }
    for r in spec.get("rules").iter() {
        let subjects = r.get("subjects");
        if subjects.is_empty() {
            e.required(&subjects, "subjects must contain at least one value");
        }
        for s in subjects.iter() {
            match s.s("kind") {
                "User" if !s.has("user") => {
                    e.required(&s.at("user"), "user is required when subject kind is 'User'")
                }
                "Group" if !s.has("group") => {
                    e.required(&s.at("group"), "group is required when subject kind is 'Group'");
                }
                "ServiceAccount" if !s.has("serviceAccount") => {
                    e.required(
                        &s.at("serviceAccount"),
                        "serviceAccount is required when subject kind is 'ServiceAccount'",
                    );
                }
                "User" | "Group" | "ServiceAccount" => {}
                other => e.not_supported(&s.at("kind"), other, &["Group", "ServiceAccount", "User"]),
            }
        }
        let (resource, other) = (r.get("resourceRules"), r.get("nonResourceRules"));
        if resource.is_empty() && other.is_empty() {
            e.required(&r, "at least one of resourceRules and nonResourceRules has to be non-empty");
        }
        for x in resource.iter() {
            for f in ["verbs", "apiGroups", "resources"] {
                let v = x.get(f);
                if v.is_empty() {
                    e.required(&v, &format!("{f} must contain at least one value"));
                }
            }
            if x.get("namespaces").is_empty() && !x.b("clusterScope") {
                let why = "resource rules that are not cluster scoped must supply at least one namespace";
                e.required(&x.at("namespaces"), why);
            }
        }
        for x in other.iter() {
            for f in ["verbs", "nonResourceURLs"] {
                let v = x.get(f);
                if v.is_empty() {
                    e.required(&v, &format!("{f} must contain at least one value"));
                }
            }
        }
    }
}

/// PriorityLevelConfiguration.
pub fn priority_level(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let (limited, exempt) = (spec.get("limited"), spec.get("exempt"));
    match spec.s("type") {
        "Exempt" => {
            if !limited.is_null() {
                e.forbidden(&limited, "must be nil if the type is not Limited");
            }
        }
        "Limited" => {
            if !exempt.is_null() {
                e.forbidden(&exempt, "must be nil if the type is Limited");
            }
            if limited.is_null() {
                e.required(&limited, "must not be empty when type is Limited");
                return;
            }
            limits(&limited, e);
        }
        other => e.not_supported(&spec.at("type"), other, &["Exempt", "Limited"]),
    }
    for l in [&limited, &exempt] {
        let shares = l.get("nominalConcurrencyShares");
        if shares.int().is_some_and(|n| n < 0) {
            e.bad(&shares, "must be a non-negative integer");
        }
        let lend = l.get("lendablePercent");
        if lend.int().is_some_and(|n| !(0..=100).contains(&n)) {
            e.bad(&lend, "must be between 0 and 100, inclusive");
        }
        let borrow = l.get("borrowingLimitPercent");
        if borrow.int().is_some_and(|n| n < 0) {
            e.bad(&borrow, "if specified, must be a non-negative integer");
        }
    }
}
fn limits(l: &At, e: &mut ErrorList) {
    let response = l.get("limitResponse");
    let queuing = response.get("queuing");
    match response.s("type") {
        "Reject" => {
            if !queuing.is_null() {
                e.forbidden(&queuing, "must be nil if limited.limitResponse.type is not Limited");
            }
        }
        "Queue" => {
            if queuing.is_null() {
                e.required(&queuing, "must not be empty if limited.limitResponse.type is Limited");
                return;
            }
            for f in ["queues", "queueLengthLimit", "handSize"] {
                let v = queuing.get(f);
                let n = v.int().unwrap_or(0);
                if n <= 0 {
                    e.invalid(&v, n, "must be positive");
                }
            }
            let (queues, hand) = (queuing.i("queues").unwrap_or(0), queuing.get("handSize"));
            if queues > 10_000_000 {
                e.bad(&queuing.get("queues"), "must not be greater than 10000000");
            }
            if hand.int().is_some_and(|h| h > queues) {
                e.bad(&hand, &format!("should not be greater than queues ({queues})"));
            }
        }
        other => e.not_supported(&response.at("type"), other, &["Queue", "Reject"]),
    }
}
