//! The strategic merge patch between two objects, as `kubectl` and upstream's clients make it.

use super::lists::{elements_are_maps, sort_by_order};
use super::{DELETE_FROM, DIRECTIVE, RETAIN_KEYS, SET_ORDER, lookup_slice, lookup_struct};
use crate::error::{Error, Result};
use crate::gofmt;
use crate::schema::Type;
use serde_json::{Map, Value, json};

/// The patch that makes `new` of `old`, both of type `ty`; an empty object when there is nothing to do.
pub fn create_two_way(old: &Value, new: &Value, ty: Type<'_>) -> Result<Value> {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return Err(Error::BadRequest("invalid JSON document".into()));
    };
    maps(old, new, ty, false).map(Value::Object)
}

fn maps(
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    ty: Type<'_>,
    retain_keys: bool,
) -> Result<Map<String, Value>> {
    let mut patch = Map::new();
    for (key, n) in new {
        match (old.get(key), n) {
            (Some(o), n) if o == n => {}
            (Some(Value::Object(o)), Value::Object(n)) => {
                let l = lookup_struct(ty, key)?;
                if l.replace {
                    patch.insert(key.clone(), Value::Object(n.clone()));
                    continue;
                }
                let inner = maps(o, n, l.ty, l.retain_keys)?;
                if !inner.is_empty() {
                    patch.insert(key.clone(), Value::Object(inner));
                }
            }
            (Some(Value::Array(o)), Value::Array(n)) => {
                let l = lookup_slice(ty, key)?;
                if !l.merge {
                    patch.insert(key.clone(), Value::Array(n.clone()));
                    continue;
                }
                let d = lists(o, n, l.ty, l.merge_key, l.retain_keys)?;
                for (k, list) in [
                    (key.clone(), d.patch),
                    (format!("{DELETE_FROM}/{key}"), d.delete),
                    (format!("{SET_ORDER}/{key}"), d.order),
                ] {
                    if !list.is_empty() {
                        patch.insert(k, Value::Array(list));
                    }
                }
            }
            _ => {
                patch.insert(key.clone(), n.clone());
            }
        }
    }
    let gone: Vec<&String> = old.keys().filter(|k| !new.contains_key(*k)).collect();
    if retain_keys {
        let keep: Vec<Value> = new.iter().filter(|(_, v)| !v.is_null()).map(|(k, _)| json!(k)).collect();
        if !keep.is_empty() && (!patch.is_empty() || !gone.is_empty()) {
            patch.insert(RETAIN_KEYS.into(), Value::Array(keep));
        }
    }
    for key in gone {
        patch.insert(key.clone(), Value::Null);
    }
    Ok(patch)
}

#[derive(Default)]
struct ListDiff {
    patch: Vec<Value>,
    delete: Vec<Value>,
    order: Vec<Value>,
}

fn lists(old: &[Value], new: &[Value], ty: Type<'_>, key: &str, retain_keys: bool) -> Result<ListDiff> {
    if old.is_empty() {
        return Ok(ListDiff { patch: new.to_vec(), ..ListDiff::default() });
    }
    if elements_are_maps([old, new])? {
        return lists_of_maps(old, new, ty, key, retain_keys);
    }
    let adds: Vec<Value> = missing_from(new, old);
    let order = if old == new { Vec::new() } else { new.to_vec() };
    Ok(ListDiff { patch: sort_by_order(adds, new, key, false)?, delete: missing_from(old, new), order })
}

/// The elements of `a` that `b` lacks, each once.
fn missing_from(a: &[Value], b: &[Value]) -> Vec<Value> {
    let mut out: Vec<Value> = Vec::new();
    for v in a {
        if !b.contains(v) && !out.contains(v) {
            out.push(v.clone());
        }
    }
    out.sort_by_key(gofmt::v);
    out
}

fn key_of<'v>(item: &'v Value, key: &str) -> Result<&'v Value> {
    item.get(key).ok_or_else(|| Error::no_merge_key(item, key))
}

fn lists_of_maps(
    old: &[Value],
    new: &[Value],
    ty: Type<'_>,
    key: &str,
    retain_keys: bool,
) -> Result<ListDiff> {
    let mut patch = Vec::new();
    let mut deletes = Vec::new();
    for n in new {
        let k = key_of(n, key)?;
        let o = old.iter().find(|o| o.get(key) == Some(k));
        match (o, n) {
            (Some(Value::Object(o)), Value::Object(n)) => {
                let mut inner = maps(o, n, ty, retain_keys)?;
                if !inner.is_empty() {
                    inner.insert(key.to_owned(), k.clone());
                    patch.push(Value::Object(inner));
                }
            }
            _ => patch.push(n.clone()),
        }
    }
    for o in old {
        let k = key_of(o, key)?;
        if !new.iter().any(|n| n.get(key) == Some(k)) {
            deletes.push(json!({DIRECTIVE: "delete", key: k}));
        }
    }
    deletes.sort_by_key(|d| d.get(key).map(gofmt::v));
    let mut patch = sort_by_order(patch, new, key, true)?;
    patch.extend(deletes);
    let same_order = old.len() == new.len() && old.iter().zip(new).all(|(o, n)| o.get(key) == n.get(key));
    let order = match patch.is_empty() && same_order {
        true => Vec::new(),
        false => new.iter().map(|n| Ok(json!({key: key_of(n, key)?}))).collect::<Result<_>>()?,
    };
    Ok(ListDiff { patch, delete: Vec::new(), order })
}
