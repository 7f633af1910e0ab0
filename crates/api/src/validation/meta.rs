//! Rules for `metadata`: names by kind, labels, annotations, owners, finalizers, and what an update may not change.
//! That an update carries a resourceVersion where one is needed is the API server's check.

use super::at::At;
use super::errors::{ErrorList, same};
use super::names;
use super::path::Place;
use serde_json::Value;

/// Total size of annotation keys and values.
pub const MAX_ANNOTATIONS: usize = 256 * 1024;

/// How a kind's names look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    Subdomain,
    Label,
    /// One segment of a URL path (RBAC).
    PathSegment,
    /// Anything; the kind's own rule checks it.
    Any,
}

impl NameRule {
    pub fn check(self, name: &str, prefix: bool) -> names::Messages {
        match self {
            NameRule::Subdomain => names::with_prefix(name, prefix, names::dns1123_subdomain),
            NameRule::Label => names::with_prefix(name, prefix, names::dns1123_label),
            NameRule::PathSegment => names::path_segment(name, prefix),
            NameRule::Any => names::path_segment(name, prefix),
        }
    }
}

/// Whether the kind lives in a namespace; `Unknown` checks nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Namespaced,
    Cluster,
    Unknown,
}

/// Metadata of a new object, names already generated.
/// `standard`: finalizers are names of the system or have a domain.
pub fn create(object: &Value, scope: Scope, rule: NameRule, standard: bool) -> ErrorList {
    let mut e = ErrorList::new();
    let root = At::root(object);
    let meta = root.get("metadata");
    let generate = meta.s("generateName");
    if !generate.is_empty() {
        e.each(&meta.at("generateName"), generate, rule.check(generate, true));
    }
    let name = meta.s("name");
    if name.is_empty() {
        e.required(&meta.at("name"), "name or generateName is required");
    } else {
        e.each(&meta.at("name"), name, rule.check(name, false));
    }
    let ns = meta.s("namespace");
    match scope {
        Scope::Namespaced if ns.is_empty() => e.required(&meta.at("namespace"), ""),
        Scope::Namespaced => e.each(&meta.at("namespace"), ns, names::dns1123_label(ns)),
        Scope::Cluster if !ns.is_empty() => e.forbidden(&meta.at("namespace"), "not allowed on this type"),
        _ => {}
    }
    if let Some(g) = meta.i("generation").filter(|g| *g < 0) {
        e.invalid(&meta.at("generation"), g, names::NON_NEGATIVE);
    }
    common(&meta, standard, &mut e);
    e
}

/// Metadata of a changed object.
pub fn update(new: &Value, old: &Value, standard: bool) -> ErrorList {
    let mut e = ErrorList::new();
    let (new, old) = (At::root(new), At::root(old));
    let (meta, was) = (new.get("metadata"), old.get("metadata"));
    if was.has("deletionTimestamp") {
        let had = was.get("finalizers");
        let added: Vec<&str> = meta
            .raw("finalizers")
            .as_array()
            .into_iter()
            .flatten()
            .filter(|f| !had.list().contains(f))
            .filter_map(Value::as_str)
            .collect();
        if !added.is_empty() {
            let shown: Vec<String> = added.iter().map(|f| super::errors::quote(f)).collect();
            e.forbidden(
                &meta.at("finalizers"),
                &format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    shown.join(", ")
                ),
            );
        }
    }
    let (g, h) = (meta.i("generation").unwrap_or(0), was.i("generation").unwrap_or(0));
    if g < h {
        e.invalid(&meta.at("generation"), g, "must not be decremented");
    }
    for field in
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        e.immutable(&meta.get(field), was.raw(field));
    }
    if !same(meta.raw("labels"), was.raw("labels")) {
        labels(&meta.get("labels"), &mut e);
    }
    if !same(meta.raw("annotations"), was.raw("annotations")) {
        annotations(&meta.get("annotations"), &mut e);
    }
    if !same(meta.raw("ownerReferences"), was.raw("ownerReferences")) {
        owners(&meta.get("ownerReferences"), &mut e);
    }
    if !same(meta.raw("finalizers"), was.raw("finalizers")) {
        finalizers(&meta.get("finalizers"), standard, &mut e);
    }
    e
}

fn common(meta: &At, standard: bool, e: &mut ErrorList) {
    labels(&meta.get("labels"), e);
    annotations(&meta.get("annotations"), e);
    owners(&meta.get("ownerReferences"), e);
    finalizers(&meta.get("finalizers"), standard, e);
}

/// A map of labels.
pub fn labels(m: &At, e: &mut ErrorList) {
    for (k, v) in m.entries() {
        label_name(k, &m.p, e);
        if let Some(s) = v.v.as_str() {
            e.each(&m.p, s, names::label_value(s));
        }
    }
}

pub fn label_name(k: &str, at: &dyn Place, e: &mut ErrorList) {
    e.each(at, k, names::qualified_name(k));
}

pub fn annotations(m: &At, e: &mut ErrorList) {
    let mut total = 0usize;
    for (k, v) in m.entries() {
        total += k.len() + v.str().len();
        if k.bytes().any(|b| b.is_ascii_uppercase()) {
            e.each(&m.p, k, names::qualified_name(&k.to_lowercase()));
        } else {
            e.each(&m.p, k, names::qualified_name(k));
        }
    }
    if total > MAX_ANNOTATIONS {
        e.too_long(&m.p, MAX_ANNOTATIONS);
    }
}

fn owners(list: &At, e: &mut ErrorList) {
    let mut controller: Option<String> = None;
    for o in list.iter() {
        let api_version = o.s("apiVersion");
        let mut parts = api_version.split('/');
        let version = parts.by_ref().take(2).last().unwrap_or_default();
        if api_version.is_empty() {
            e.required(&o.at("apiVersion"), "must not be empty");
        } else if version.is_empty() || parts.next().is_some() {
            e.invalid(&o.at("apiVersion"), api_version, "must be <group>/<version> or <version>");
        }
        for field in ["kind", "name", "uid"] {
            if o.s(field).is_empty() {
                e.required(&o.at(field), "must not be empty");
            }
        }
        if api_version == "v1" && o.s("kind") == "Event" {
            e.bad_as("OwnerReference", &o, "/v1, Kind=Event is disallowed from being an owner");
        }
        if o.b("controller") {
            let me = format!("{}/{}", o.s("kind"), o.s("name"));
            match &controller {
                None => controller = Some(me),
                Some(first) => e.bad_as(
                    "[]OwnerReference",
                    list,
                    &format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {me}"
                    ),
                ),
            }
        }
    }
}

fn finalizers(list: &At, standard: bool, e: &mut ErrorList) {
    for f in list.iter() {
        e.each(list, f.str(), names::qualified_name(f.str()));
    }
    let has = |name| list.list().iter().any(|f| f.as_str() == Some(name));
    if has("orphan") && has("foregroundDeletion") {
        e.bad(list, "finalizer orphan and foregroundDeletion cannot be both set");
    }
    for f in list.iter().filter(|_| standard) {
        if !matches!(f.str(), "orphan" | "foregroundDeletion" | "kubernetes") && !f.str().contains('/') {
            e.bad(&f, "name is neither a standard finalizer name nor is it fully qualified");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(e: &ErrorList) -> Vec<String> {
        e.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn creation() {
        let ok = json!({"metadata": {"name": "a", "namespace": "b", "labels": {"x/y": "z"}}});
        assert_eq!(texts(&create(&ok, Scope::Namespaced, NameRule::Subdomain, true)), [""; 0]);
        let cases = [
            (
                json!({"name": "", "namespace": "a"}),
                "metadata.name: Required value: name or generateName is required",
            ),
            (json!({"name": "x"}), "metadata.namespace: Required value"),
            (
                json!({"name": "x", "namespace": "a", "finalizers": ["foo"]}),
                "metadata.finalizers[0]: Invalid value: \"foo\": name is neither a standard finalizer name nor is it fully qualified",
            ),
            (
                json!({"name": "x", "namespace": "a", "annotations": {"a": "x".repeat(MAX_ANNOTATIONS)}}),
                "metadata.annotations: Too long: may not be more than 262144 bytes",
            ),
            (
                json!({"name": "x", "namespace": "a", "labels": {"a": "a b"}}),
                "metadata.labels: Invalid value: \"a b\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ),
            (
                json!({"name": "x", "namespace": "a", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "", "uid": "u"}]}),
                "metadata.ownerReferences[0].name: Required value: must not be empty",
            ),
        ];
        for (meta, want) in cases {
            let e = create(&json!({"metadata": meta}), Scope::Namespaced, NameRule::Subdomain, true);
            assert_eq!(texts(&e), [want]);
        }
        let e = create(
            &json!({"metadata": {"name": "a", "namespace": "b"}}),
            Scope::Cluster,
            NameRule::Subdomain,
            true,
        );
        assert_eq!(texts(&e), ["metadata.namespace: Forbidden: not allowed on this type"]);
    }

    #[test]
    fn two_controllers() {
        let o =
            |n: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": n, "uid": "u", "controller": true});
        let v = json!({"metadata": {"name": "a", "namespace": "b", "ownerReferences": [o("p"), o("q")]}});
        let e = create(&v, Scope::Namespaced, NameRule::Subdomain, true);
        assert!(texts(&e)[0].ends_with("Found \"true\" in references for Pod/p and Pod/q"));
    }

    #[test]
    fn updates() {
        let old = json!({"metadata": {"name": "a", "namespace": "b", "uid": "u", "deletionTimestamp": "t", "generation": 2}});
        let new = json!({"metadata": {"name": "a", "namespace": "b", "uid": "v", "deletionTimestamp": "t", "generation": 1, "finalizers": ["x/y"]}});
        assert_eq!(
            texts(&update(&new, &old, true)),
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"x/y\"}",
                "metadata.generation: Invalid value: 1: must not be decremented",
                "metadata.uid: Invalid value: \"v\": field is immutable",
            ]
        );
    }
}
