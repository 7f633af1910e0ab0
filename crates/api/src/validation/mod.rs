//! What makes an object acceptable: pure rules over decoded and defaulted JSON, worded as upstream words them. One file
//! per kind (or family); this one is the table from kind to rules. Nothing is cloned, nothing is spawned.

mod admission;
mod amount;
pub mod at;
mod autoscaling;
mod batch;
mod cel_library;
mod certificates;
mod common;
mod config;
mod core;
mod crd;
pub mod custom;
mod diff;
mod endpoints;
pub mod errors;
mod events;
mod extensions;
mod flow;
mod formats;
pub mod go_json;
mod internal;
pub mod meta;
pub mod names;
mod networking;
pub mod path;
mod pem;
mod pod;
mod pod_certificates;
mod policy;
mod rbac;
mod rule_costs;
mod rules;
mod service;
mod storage;
mod storage_migration;
mod structural;
mod table;
mod workloads;

#[cfg(test)]
mod tests;

pub use amount::is_extended;
pub use cel_library::functions as cel_functions;
pub use errors::{Error, ErrorList, ErrorType, same};
pub use meta::{NameRule, Scope};
pub use path::Path;
pub use rules::{escape as cel_name, untyped as cel_value};

use serde_json::Value;

/// What an immutable field answers.
pub const IMMUTABLE: &str = "field is immutable";

/// Rules for a new object, metadata included.
pub fn create(group: &str, kind: &str, new: &Value) -> ErrorList {
    let (scope, rule) = naming(group, kind);
    let mut e = meta::create(new, scope, rule, standard_finalizers(group));
    table::create(group, kind, new, &mut e);
    e
}

/// Rules for a changed object, metadata included.
pub fn update(group: &str, kind: &str, new: &Value, old: &Value) -> ErrorList {
    let mut e = meta::update(new, old, standard_finalizers(group));
    table::update(group, kind, new, old, &mut e);
    e
}

/// Rules for a custom resource, new or changed, metadata included.
pub fn custom_resource(
    schema: &custom::Schema,
    namespaced: bool,
    new: &Value,
    old: Option<&Value>,
) -> ErrorList {
    let scope = if namespaced { Scope::Namespaced } else { Scope::Cluster };
    let mut e = match old {
        None => meta::create(new, scope, NameRule::Subdomain, false),
        Some(old) => meta::update(new, old, false),
    };
    schema.check(new, old, &mut e);
    e
}

/// Rules for a change that goes through the `status` subresource.
pub fn update_status(group: &str, kind: &str, new: &Value, old: &Value) -> ErrorList {
    update_subresource(group, kind, "status", new, old)
}

/// Rules for a change through a subresource: `status`, `ephemeralcontainers`, `resize`, `approval`, `finalize`.
pub fn update_subresource(group: &str, kind: &str, sub: &str, new: &Value, old: &Value) -> ErrorList {
    let mut e = meta::update(new, old, standard_finalizers(group));
    table::update_subresource(group, kind, sub, new, old, &mut e);
    e
}

/// Groups whose finalizers are names of the system or have a domain; the others take any label key.
fn standard_finalizers(group: &str) -> bool {
    !matches!(
        group,
        "policy" | "coordination.k8s.io" | "admissionregistration.k8s.io" | "apiextensions.k8s.io"
    )
}

/// Scope and name rule of a built-in kind; anything else is a subdomain of unknown scope.
pub fn naming(group: &str, kind: &str) -> (Scope, NameRule) {
    use NameRule::*;
    use Scope::*;
    match (group, kind) {
        ("", "Namespace") => (Cluster, Label),
        ("", "Node" | "PersistentVolume") => (Cluster, Subdomain),
        ("", "Service") | ("apps", "StatefulSet") => (Namespaced, Label),
        ("", "Event") | ("policy", _) => (Namespaced, Any),
        ("", _) => (Namespaced, Subdomain),
        ("rbac.authorization.k8s.io", "ClusterRole" | "ClusterRoleBinding") => (Cluster, PathSegment),
        ("rbac.authorization.k8s.io", _) => (Namespaced, PathSegment),
        (
            "apps" | "batch" | "autoscaling" | "events.k8s.io" | "coordination.k8s.io" | "discovery.k8s.io",
            _,
        ) => (Namespaced, Subdomain),
        ("networking.k8s.io", "IPAddress") => (Cluster, Any),
        ("networking.k8s.io", "IngressClass" | "ServiceCIDR") => (Cluster, Subdomain),
        ("networking.k8s.io", _) => (Namespaced, Subdomain),
        ("flowcontrol.apiserver.k8s.io", _) => (Cluster, Subdomain),
        ("certificates.k8s.io", "CertificateSigningRequest") => (Cluster, Any),
        ("certificates.k8s.io", "ClusterTrustBundle") => (Cluster, Any),
        ("certificates.k8s.io", _) => (Namespaced, Subdomain),
        ("storage.k8s.io", "CSIStorageCapacity") => (Namespaced, Subdomain),
        ("resource.k8s.io", "ResourceClaim" | "ResourceClaimTemplate") => (Namespaced, Subdomain),
        ("apiregistration.k8s.io", "APIService") => (Cluster, PathSegment),
        (
            "storage.k8s.io"
            | "admissionregistration.k8s.io"
            | "apiextensions.k8s.io"
            | "node.k8s.io"
            | "scheduling.k8s.io"
            | "resource.k8s.io",
            _,
        ) => (Cluster, Subdomain),
        _ => (Unknown, Subdomain),
    }
}
