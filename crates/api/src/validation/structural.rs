//! What the schema itself tells, for kinds without rules of their own: required strings and lists are not empty, and
//! enumerations hold.

use super::at::At;
use super::errors::ErrorList;
use crate::schema::{Definition, Type, definition_for};
use serde_json::Value;

/// `spec` and the like of a built-in kind, by the version that its apiVersion names. Metadata has its own rules and a
/// status is the controllers' matter.
pub fn check(group: &str, kind: &str, o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let version = root.s("apiVersion").rsplit('/').next().unwrap_or_default();
    let Some(d) = definition_for(group, version, kind) else { return };
    for f in &d.fields {
        if !matches!(f.name.as_ref(), "apiVersion" | "kind" | "metadata" | "status")
            && let Some(inner) = f.ty.definition()
        {
            object(&root.get(&f.name), inner, e);
        }
    }
}

fn object(o: &At, d: &Definition, e: &mut ErrorList) {
    if o.is_null() {
        return;
    }
    for f in &d.fields {
        let v = o.get(&f.name);
        let empty = match &f.ty {
            Type::String | Type::Quantity => v.str().is_empty() && !v.v.is_number(),
            Type::Array(_) => v.is_empty(),
            Type::Ref(_) => v.is_null(),
            _ => false,
        };
        if f.required && empty {
            e.required(&v, "");
            continue;
        }
        if v.is_null() {
            continue;
        }
        if !f.enums.is_empty()
            && v.v.is_string()
            && !v.str().is_empty()
            && !f.enums.iter().any(|x| x == v.str())
        {
            let mut known: Vec<&str> = f.enums.iter().map(AsRef::as_ref).collect();
            known.sort_unstable();
            e.not_supported(&v, v.str(), &known);
        }
        match &f.ty {
            Type::Ref(r) => object(&v, r.get(), e),
            Type::Array(t) => {
                if let Some(inner) = t.definition() {
                    for item in v.iter() {
                        object(&item, inner, e);
                    }
                }
            }
            Type::Map(t) => {
                if let Some(inner) = t.definition() {
                    for (_, item) in v.entries() {
                        object(&item, inner, e);
                    }
                }
            }
            _ => {}
        }
    }
}
