//! Defaults that upstream sets whenever a versioned object is decoded: one file per API group, the pod template
//! shared. Pure and idempotent; nothing here needs a clock or the store.

mod admissionregistration;
mod apiextensions;
mod apps;
mod autoscaling;
mod batch;
mod core;
pub mod custom;
mod flowcontrol;
mod networking;
pub mod pod;
mod rbac;
mod resource;
mod small;
mod storage;

use serde_json::{Map, Value};

use crate::quantity::Quantity;

/// An object or a struct within one.
type Fields = Map<String, Value>;

/// Fills in defaults of a built-in kind. Unknown kinds stay as they are.
pub fn apply(group: &str, version: &str, kind: &str, v: &mut Value) {
    let Some(o) = v.as_object_mut() else { return };
    match group {
        "" => core::apply(kind, o),
        "apps" => apps::apply(kind, o),
        "batch" => batch::apply(kind, o),
        "autoscaling" => autoscaling::apply(version, kind, o),
        "networking.k8s.io" => networking::apply(kind, o),
        "rbac.authorization.k8s.io" => rbac::apply(kind, o),
        "storage.k8s.io" => storage::apply(kind, o),
        "admissionregistration.k8s.io" => admissionregistration::apply(kind, o),
        "flowcontrol.apiserver.k8s.io" => flowcontrol::apply(kind, o),
        "resource.k8s.io" => resource::apply(version, kind, o),
        "apiextensions.k8s.io" => apiextensions::apply(kind, o),
        "apiregistration.k8s.io"
        | "authentication.k8s.io"
        | "certificates.k8s.io"
        | "discovery.k8s.io"
        | "scheduling.k8s.io" => small::apply(group, kind, o),
        _ => {}
    }
}

/// A pointer or struct field that may be absent.
fn get<'a>(o: &'a mut Fields, key: &str) -> Option<&'a mut Fields> {
    o.get_mut(key)?.as_object_mut()
}

/// A struct field, which Go always has.
fn ensure<'a>(o: &'a mut Fields, key: &str) -> Option<&'a mut Fields> {
    if unset(o, key) {
        o.insert(key.to_string(), Value::Object(Map::new()));
    }
    get(o, key)
}

/// The structs of a list.
fn each<'a>(o: &'a mut Fields, key: &str) -> impl Iterator<Item = &'a mut Fields> + use<'a> {
    o.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn text<'a>(o: &'a Fields, key: &str) -> &'a str {
    o.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Absent or null: a nil pointer.
fn unset(o: &Fields, key: &str) -> bool {
    o.get(key).is_none_or(Value::is_null)
}

/// Absent, null or the zero of its type: an unset value that is no pointer.
fn empty(o: &Fields, key: &str) -> bool {
    match o.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::String(s)) => s.is_empty(),
        Some(Value::Number(n)) => n.as_f64() == Some(0.0),
        Some(Value::Array(a)) => a.is_empty(),
        Some(Value::Object(m)) => m.is_empty(),
        Some(Value::Bool(b)) => !b,
    }
}

/// Default of a pointer field.
fn pointer(o: &mut Fields, key: &str, v: impl Into<Value>) {
    if unset(o, key) {
        o.insert(key.to_string(), v.into());
    }
}

/// Default of a plain field, where zero means unset.
fn plain(o: &mut Fields, key: &str, v: impl Into<Value>) {
    if empty(o, key) {
        o.insert(key.to_string(), v.into());
    }
}

/// Quantities of a resource list are rounded up to milli.
fn round_list(o: &mut Fields, key: &str) {
    for v in get(o, key).into_iter().flat_map(|m| m.values_mut()) {
        if let Some(q) = v.as_str().and_then(|s| Quantity::parse(s).ok()).filter(|q| !q.is_exact(-3)) {
            *v = Value::String(q.round_up(-3).to_string());
        }
    }
}

/// Copies entries of one map into another where they are missing.
fn fill(o: &mut Fields, from: &str, to: &str) {
    let Some(source) = o.get(from).and_then(Value::as_object).filter(|m| !m.is_empty()).cloned() else {
        return;
    };
    if let Some(target) = ensure(o, to) {
        for (k, v) in source {
            target.entry(k).or_insert(v);
        }
    }
}

#[cfg(test)]
mod tests;
