//! Roles and bindings.

use super::at::At;
use super::errors::{ErrorList, same};
use super::names;
use serde_json::Value;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Role; `cluster` for ClusterRole.
pub fn role(o: &Value, cluster: bool, e: &mut ErrorList) {
    let root = At::root(o);
    for r in root.get("rules").iter() {
        rule(&r, cluster, e);
    }
    let aggregation = root.get("aggregationRule");
    if !aggregation.is_null() {
        let selectors = aggregation.get("clusterRoleSelectors");
        if selectors.is_empty() {
            e.required(&selectors, "at least one clusterRoleSelector required if aggregationRule is non-nil");
        }
        for s in selectors.iter() {
            let before = e.len();
            super::common::label_selector(&s, e);
            if e.len() > before {
                e.invalid(&s, Value::Null, "invalid label selector.");
            }
        }
    }
}

fn rule(r: &At, cluster: bool, e: &mut ErrorList) {
    let verbs = r.get("verbs");
    rule_target(r, cluster, e);
    if verbs.is_empty() {
        e.required(&verbs, "");
    }
}
fn rule_target(r: &At, cluster: bool, e: &mut ErrorList) {
    let urls = r.get("nonResourceURLs");
    if !urls.is_empty() {
        if !cluster {
            e.bad(&urls, "namespaced rules cannot apply to non-resource URLs");
        }
        if ["apiGroups", "resources", "resourceNames"].iter().any(|f| !r.get(f).is_empty()) {
            e.bad(&urls, "rules cannot apply to both regular resources and non-resource URLs");
        }
        return;
    }
    if r.get("apiGroups").is_empty() {
        e.required(&r.at("apiGroups"), "resource rules must supply at least one api group");
    }
    if r.get("resources").is_empty() {
        e.required(&r.at("resources"), "resource rules must supply at least one resource");
    }
}

/// RoleBinding; `cluster` for ClusterRoleBinding.
pub fn binding(o: &Value, cluster: bool, e: &mut ErrorList) {
    let root = At::root(o);
    let r = root.get("roleRef");
    if r.s("apiGroup") != GROUP {
        e.not_supported(&r.at("apiGroup"), r.s("apiGroup"), &[GROUP]);
    }
    let kind = r.s("kind");
    let kinds: &[&str] = if cluster { &["ClusterRole"] } else { &["Role", "ClusterRole"] };
    if !kinds.contains(&kind) {
        e.not_supported(&r.at("kind"), kind, kinds);
    }
    let name = r.get("name");
    if name.str().is_empty() {
        e.required(&name, "");
    } else {
        e.each(&name, name.str(), names::path_segment(name.str(), false));
    }
    for s in root.get("subjects").iter() {
        subject(&s, cluster, e);
    }
}

fn subject(s: &At, cluster: bool, e: &mut ErrorList) {
    let name = s.get("name");
    let known = matches!(s.s("kind"), "ServiceAccount" | "User" | "Group");
    if known && name.str().is_empty() {
        e.required(&name, "");
    }
    match s.s("kind") {
        "ServiceAccount" => {
            if !name.str().is_empty() {
                e.each(&name, name.str(), names::dns1123_subdomain(name.str()));
            }
            if !s.s("apiGroup").is_empty() {
                e.not_supported(&s.at("apiGroup"), s.s("apiGroup"), &[""]);
            }
            if cluster && s.s("namespace").is_empty() {
                e.required(&s.at("namespace"), "");
            }
        }
        "User" | "Group" => {
            if s.s("apiGroup") != GROUP {
                e.not_supported(&s.at("apiGroup"), s.s("apiGroup"), &[GROUP]);
            }
        }
        other => e.not_supported(&s.at("kind"), other, &["ServiceAccount", "User", "Group"]),
    }
    if !known && name.str().is_empty() {
        e.required(&name, "");
    }
}

pub fn binding_update(n: &Value, o: &Value, cluster: bool, e: &mut ErrorList) {
    binding(n, cluster, e);
    let root = At::root(n);
    let now = root.get("roleRef");
    if !same(now.v, At::root(o).raw("roleRef")) {
        e.bad_as("RoleRef", &now, super::IMMUTABLE);
    }
}
