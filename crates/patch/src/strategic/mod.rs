//! Strategic merge patch: merging with what the schema says of lists and structs, and with the directives a patch may
//! carry (`$patch`, `$retainKeys`, `$deleteFromPrimitiveList/x`, `$setElementOrder/x`).

mod diff;
mod lists;
#[cfg(test)]
pub(crate) mod tests;

pub use diff::create_two_way;

use crate::error::{Error, Result};
use crate::gofmt;
use crate::schema::Type;
use api::schema::{Field, PatchStrategy};
use lists::{DeleteList, merge_slice};
use serde_json::{Map, Value};

pub(crate) const DIRECTIVE: &str = "$patch";
pub(crate) const RETAIN_KEYS: &str = "$retainKeys";
pub(crate) const DELETE_FROM: &str = "$deleteFromPrimitiveList";
pub(crate) const SET_ORDER: &str = "$setElementOrder";

/// Parses a patch's body: a JSON object, else 400.
pub fn parse(body: &[u8]) -> Result<Map<String, Value>> {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(m)) => Ok(m),
        Ok(_) => Err(Error::BadRequest("invalid JSON document".into())),
        Err(e) => Err(Error::BadRequest(format!("error decoding patch: {e}"))),
    }
}

/// Applies `patch` to `doc`, an object of type `ty`.
pub fn apply(doc: &Value, patch: &Value, ty: Type<'_>) -> Result<Value> {
    let (Value::Object(doc), Value::Object(patch)) = (doc, patch) else {
        return Err(Error::BadRequest("invalid JSON document".into()));
    };
    merge_map(doc.clone(), patch.clone(), ty).map(Value::Object)
}

/// What the schema says of a field that both sides hold as a map or a list.
pub(crate) struct Lookup<'a> {
    pub ty: Type<'a>,
    pub merge: bool,
    pub replace: bool,
    pub retain_keys: bool,
    pub merge_key: &'a str,
}

pub(crate) fn lookup_struct<'a>(ty: Type<'a>, key: &str) -> Result<Lookup<'a>> {
    let Some(definition) = ty.definition() else {
        return Err(Error::Failed(format!(
            "merging an object in json but data type is not struct, instead is: {}",
            if ty.is_list() { "slice" } else { "map" }
        )));
    };
    let Some(field) = definition.field(key) else {
        return Err(Error::Failed(format!(
            "unable to find api field in struct {} for the json field {}",
            definition.go_name(),
            gofmt::q(key)
        )));
    };
    Ok(Lookup::of(field))
}

pub(crate) fn lookup_slice<'a>(ty: Type<'a>, key: &str) -> Result<Lookup<'a>> {
    let mut l = lookup_struct(ty, key)?;
    if l.ty.is_nested_list() {
        return Err(Error::Failed("unexpected slice of slice".into()));
    }
    match l.ty.element() {
        Some(e) if l.ty.is_list() => l.ty = e,
        _ => return Err(Error::Failed("expected slice or array type, but got: struct".into())),
    }
    Ok(l)
}

impl<'a> Lookup<'a> {
    fn of(field: &'a Field) -> Self {
        let PatchStrategy { merge, replace, retain_keys } = field.patch;
        Lookup {
            ty: Type::of_field(field),
            merge,
            replace,
            retain_keys,
            merge_key: field.merge_key.as_deref().unwrap_or_default(),
        }
    }
}

pub(crate) fn merge_map(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    ty: Type<'_>,
) -> Result<Map<String, Value>> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(DIRECTIVE);
                Ok(patch)
            }
            Some("delete") => Ok(Map::new()),
            _ => Err(Error::bad_patch_type(directive, &Value::Object(patch.clone()))),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    lists::merge_ordered(&mut original, &mut patch, ty)?;

    for (key, mut value) in patch {
        let (key, delete_list) = match key.starts_with(DELETE_FROM) {
            true => (extract_key(&key, DELETE_FROM)?.to_owned(), true),
            false => (key, false),
        };
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        let old = original.remove(&key);
        let merged = match (old, value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                let l = lookup_struct(ty, &key)?;
                match l.replace {
                    true => Some(Value::Object(new)),
                    false => Some(Value::Object(merge_map(old, new, l.ty)?)),
                }
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                let l = lookup_slice(ty, &key)?;
                match l.merge || delete_list {
                    true => Some(Value::Array(merge_slice(old, new, &l, DeleteList(delete_list))?)),
                    false => Some(Value::Array(new)),
                }
            }
            (old, _) if delete_list => old,
            // Absent, or of another type: the patch's value is taken as it is.
            (_, v) => {
                value = v;
                discard_nulls(&mut value);
                without_directives(value)
            }
        };
        if let Some(v) = merged {
            original.insert(key, v);
        }
    }
    Ok(original)
}

/// `$deleteFromPrimitiveList/finalizers` → `finalizers`
pub(crate) fn extract_key<'k>(key: &'k str, prefix: &str) -> Result<&'k str> {
    match key.split_once('/') {
        Some((p, rest)) if p == prefix => Ok(rest),
        _ if prefix == DELETE_FROM => Err(Error::BadRequest("invalid patch format of primitive list".into())),
        _ => Err(bad_order_format()),
    }
}

pub(crate) fn bad_order_format() -> Error {
    Error::BadRequest("invalid patch format of setElementOrder list".into())
}

/// Drops every field of the original that `$retainKeys` does not name; the patch may not set others.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<()> {
    let Some(list) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let bad = || Error::BadRequest("invalid patch format of retainKeys".into());
    let keep = list.as_array().ok_or_else(bad)?;
    let kept = |k: &str| keep.iter().any(|x| x.as_str() == Some(k));
    let foreign = patch
        .iter()
        .any(|(k, v)| !v.is_null() && !k.starts_with(DELETE_FROM) && !k.starts_with(SET_ORDER) && !kept(k));
    if foreign {
        return Err(bad());
    }
    original.retain(|k, _| kept(k));
    Ok(())
}

/// Nulls mean removal, and there is nothing to remove in what is added whole.
fn discard_nulls(v: &mut Value) {
    match v {
        Value::Object(m) => {
            m.retain(|_, x| !x.is_null());
            m.values_mut().for_each(discard_nulls);
        }
        Value::Array(a) => a.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// What is left of an added value once the maps that carry `$patch` are gone.
pub(crate) fn without_directives(v: Value) -> Option<Value> {
    match v {
        Value::Object(m) if m.contains_key(DIRECTIVE) => None,
        Value::Object(m) => {
            let fields = m.into_iter().filter_map(|(k, x)| Some((k, without_directives(x)?)));
            Some(Value::Object(fields.collect()))
        }
        Value::Array(a) => Some(Value::Array(a.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}
