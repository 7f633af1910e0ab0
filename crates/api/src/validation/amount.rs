//! Resource names and quantities: which names stand where, and which values they take.

use super::at::At;
use super::errors::ErrorList;
use super::names;
use super::path::Place;
use serde_json::Value;

pub use crate::quantity::Quantity;

pub fn quantity(v: &Value) -> Option<Quantity> {
    match v {
        Value::String(s) => Quantity::parse(s).ok(),
        Value::Number(n) => Quantity::parse(&n.to_string()).ok(),
        _ => None,
    }
}

pub fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}
/// Without a domain, or in kubernetes.io.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}
pub fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}
pub fn overcommit_allowed(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}
fn is_counted(name: &str) -> bool {
    matches!(
        name,
        "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
    )
}
/// Names without a domain that a quota knows.
pub fn is_standard_quota(name: &str) -> bool {
    is_counted(name)
        || is_huge_page(name)
        || name.starts_with("requests.hugepages-")
        || matches!(
            name,
            "cpu"
                | "memory"
                | "ephemeral-storage"
                | "requests.cpu"
                | "requests.memory"
                | "requests.storage"
                | "requests.ephemeral-storage"
                | "limits.cpu"
                | "limits.memory"
                | "limits.ephemeral-storage"
        )
}

/// Any compute resource's name; true when it is fine.
pub fn resource_name(name: &str, at: &dyn Place, e: &mut ErrorList) -> bool {
    let before = e.len();
    e.each(at, name, names::qualified_name(name));
    if e.len() == before && !name.contains('/') && !is_standard_quota(name) && name != "storage" {
        e.invalid(at, name, "must be a standard resource type or fully qualified");
    }
    e.len() == before
}
pub fn container_resource_name(name: &str, at: &dyn Place, e: &mut ErrorList) {
    if matches!(name, "cpu" | "memory" | "ephemeral-storage") {
        return;
    }
    resource_name(name, at, e);
    if !name.contains('/') {
        if !is_huge_page(name) {
            e.invalid(at, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        e.invalid(at, name, "doesn't follow extended resource name standard");
    }
}
pub fn quota_resource_name(name: &str, at: &dyn Place, e: &mut ErrorList) {
    resource_name(name, at, e);
    if !name.contains('/') && !is_standard_quota(name) {
        e.invalid(at, name, "must be a standard resource for quota");
    }
}

/// Not negative; whole for what is counted.
pub fn resource_value(name: &str, a: &At, e: &mut ErrorList) {
    let Some(q) = quantity(a.v) else {
        e.bad(a, "must be a valid resource quantity");
        return;
    };
    if q.sign() < 0 {
        e.invalid(a, q.to_string(), names::NON_NEGATIVE);
    }
    if (is_counted(name) || is_extended(name)) && !q.is_exact(0) {
        e.invalid(a, q.to_string(), "must be an integer");
    }
}
