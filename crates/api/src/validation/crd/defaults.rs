//! Defaults in the schemas of custom resources: a default fits its own schema and has no field that would be pruned.

use super::super::at::At;
use super::super::custom::Schema;
use super::super::errors::ErrorList;
use serde_json::Value;

const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// `pruned`: unknown fields in defaults are told.
pub fn check(s: &At, pruned: bool, e: &mut ErrorList) {
    walk(s, true, false, pruned, e);
}

fn walk(s: &At, root: bool, in_meta: bool, pruned: bool, e: &mut ErrorList) {
    let whole = root || s.b("x-kubernetes-embedded-resource");
    let in_meta = in_meta && !whole;
    let default = s.get("default");
    if !default.is_null() {
        if pruned && !in_meta && has_unknown(default.v, Some(s.v), whole) {
            e.bad(&default, "must not have unknown fields");
        }
        let mut own = ErrorList::new();
        Schema::part(s.v, root).check(default.v, None, &mut own);
        e.below(&default, own);
    }
    // Below additionalProperties no defaults are allowed.
    let items = s.get("items");
    if items.v.is_object() {
        walk(&items, false, in_meta, pruned, e);
    }
    for (k, p) in s.get("properties").entries() {
        walk(&p, false, in_meta || (whole && META.contains(&k)), pruned, e);
    }
}

/// Whether pruning would take something away. `whole`: the value has apiVersion, kind and metadata.
fn has_unknown(v: &Value, s: Option<&Value>, whole: bool) -> bool {
    let get = |k: &str| s.and_then(|s| s.get(k));
    let preserve = get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    let whole = whole || get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
    match v {
        Value::Object(o) => o.iter().any(|(k, v)| {
            let known = get("properties").and_then(|p| p.get(k));
            let additional = get("additionalProperties").filter(|a| !a.is_null());
            match (known, additional) {
                _ if whole && META.contains(&k.as_str()) => false,
                (Some(p), _) => has_unknown(v, Some(p), false),
                (None, Some(a)) => has_unknown(v, Some(a).filter(|a| a.is_object()), false),
                (None, None) => !preserve,
            }
        }),
        Value::Array(a) => a.iter().any(|v| match get("items") {
            None if preserve => false,
            items => has_unknown(v, items, false),
        }),
        _ => false,
    }
}
