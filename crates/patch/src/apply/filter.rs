//! Which fields an endpoint never lets anybody own, because it throws away what is written to them: `status` on the
//! main endpoint, `spec` on `/status`, all but a few on narrow subresources.

use super::element::PathElement;
use super::set::Set;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// These paths and all below them are nobody's.
    Exclude(Set),
    /// Only what is on the way to, or below, one of these is somebody's; `*` stands for any element.
    Include(Vec<Vec<&'static str>>),
}

impl Filter {
    pub fn exclude(paths: &[&[&str]]) -> Filter {
        Filter::Exclude(paths.iter().map(|p| p.iter().map(|n| PathElement::field(*n)).collect()).collect())
    }

    pub fn apply(&self, mut set: Set) -> Set {
        match self {
            Filter::Exclude(out) => {
                set.subtract(out, true);
                set
            }
            Filter::Include(patterns) => {
                let all: Vec<&[&str]> = patterns.iter().map(Vec::as_slice).collect();
                include(&set, &all)
            }
        }
    }
}

fn include(set: &Set, patterns: &[&[&str]]) -> Set {
    let below = |e: &PathElement| -> Vec<&[&str]> {
        let fits = |step: &str| step == "*" || matches!(e, PathElement::Field(name) if name == step);
        patterns
            .iter()
            .filter_map(|p| p.split_first().filter(|(s, _)| fits(s)).map(|(_, rest)| rest))
            .collect()
    };
    let mut out = Set::default();
    for e in set.members().iter().filter(|e| !below(e).is_empty()) {
        out.insert_member(e.clone());
    }
    for (e, child) in set.children() {
        let rest = below(e);
        if rest.is_empty() {
            continue;
        }
        let kept = if rest.iter().any(|p| p.is_empty()) { child.clone() } else { include(child, &rest) };
        out.insert_child(e.clone(), kept);
    }
    out
}

/// The filter of a built-in resource's endpoint; `subresource` is empty for the main one.
pub fn builtin(group: &str, resource: &str, subresource: &str) -> Option<Filter> {
    const SPEC: &[&str] = &["spec"];
    const STATUS: &[&str] = &["status"];
    const METADATA: &[&str] = &["metadata"];
    let paths: &[&[&str]] = match (group, resource, subresource) {
        ("", "pods", "ephemeralcontainers") => {
            return Some(Filter::Include(vec![vec!["spec", "ephemeralContainers"]]));
        }
        ("", "pods", "resize") => {
            let mut patterns = Vec::new();
            for list in ["containers", "initContainers"] {
                for field in ["resources", "resizePolicy"] {
                    patterns.push(vec!["spec", list, "*", field]);
                }
            }
            patterns.push(vec!["spec", "resources"]);
            return Some(Filter::Include(patterns));
        }
        ("", "namespaces", "finalize") => &[STATUS],
        ("certificates.k8s.io", "certificatesigningrequests", "approval") => {
            &[SPEC, &["status", "certificate"]]
        }
        ("certificates.k8s.io", "certificatesigningrequests", "") => &[SPEC, STATUS],
        ("", "pods", "status") => {
            &[SPEC, &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]]
        }
        ("apps", "deployments", "status") => &[SPEC, &["metadata", "labels"]],
        (
            "flowcontrol.apiserver.k8s.io"
            | "admissionregistration.k8s.io"
            | "apiregistration.k8s.io"
            | "apiextensions.k8s.io"
            | "storagemigration.k8s.io"
            | "resource.k8s.io",
            _,
            "status",
        )
        | ("storage.k8s.io", "volumeattachments", "status") => &[SPEC, METADATA],
        (_, _, "status") => &[SPEC],
        (_, _, "") => &[STATUS],
        _ => return None,
    };
    Some(Filter::exclude(paths))
}

/// The filter of a custom resource's endpoint.
pub fn custom(has_status: bool, subresource: &str) -> Option<Filter> {
    match subresource {
        "status" => Some(Filter::exclude(&[&["spec"]])),
        "" if has_status => Some(Filter::exclude(&[&["status"]])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn filtered(f: Option<Filter>, v: Value) -> Value {
        f.unwrap().apply(Set::from_fields(&v).unwrap()).to_fields()
    }

    #[test]
    fn endpoints() {
        let all = || {
            json!({"f:spec": {"f:a": {}}, "f:status": {".": {}, "f:b": {}},
            "f:metadata": {"f:labels": {".": {}, "f:x": {}}, "f:annotations": {"f:y": {}}}})
        };
        assert_eq!(
            filtered(builtin("apps", "deployments", ""), all()),
            json!({"f:spec": {"f:a": {}}, "f:metadata": {"f:labels": {".": {}, "f:x": {}}, "f:annotations": {"f:y": {}}}})
        );
        assert_eq!(
            filtered(builtin("apps", "deployments", "status"), all()),
            json!({"f:status": {".": {}, "f:b": {}}, "f:metadata": {"f:annotations": {"f:y": {}}}})
        );
        assert_eq!(
            filtered(builtin("apiextensions.k8s.io", "customresourcedefinitions", "status"), all()),
            json!({"f:status": {".": {}, "f:b": {}}})
        );
        assert!(custom(false, "").is_none());
    }

    #[test]
    fn only_what_resize_may_touch() {
        let c = |inner: Value| json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": inner}}});
        assert_eq!(
            filtered(
                builtin("", "pods", "resize"),
                c(
                    json!({".": {}, "f:image": {}, "f:name": {}, "f:resources": {".": {}, "f:limits": {"f:cpu": {}}}})
                )
            ),
            c(json!({".": {}, "f:resources": {".": {}, "f:limits": {"f:cpu": {}}}}))
        );
        assert_eq!(filtered(builtin("", "pods", "resize"), json!({"f:status": {"f:a": {}}})), json!({}));
    }
}
