//! Merging lists: by merge key or as sets of scalars, and keeping them in the order patch and server agree on.

use super::{
    DIRECTIVE, Lookup, SET_ORDER, bad_order_format, extract_key, lookup_slice, merge_map, without_directives,
};
use crate::error::{Error, Result};
use crate::gofmt;
use crate::schema::Type;
use serde_json::{Map, Value};

/// Whether the patch's list names elements to delete.
pub(crate) struct DeleteList(pub bool);

const MAP: &str = "map[string]interface {}";
const LIST: &str = "[]interface {}";

/// Whether the elements are maps. All elements of all lists must be of one kind; lists of lists are not supported.
pub(crate) fn elements_are_maps(lists: [&[Value]; 2]) -> Result<bool> {
    let mut kind: Option<&Value> = None;
    for v in lists.iter().copied().flatten() {
        if v.is_array() && kind.is_none() {
            return Err(Error::Unprocessable("lists of lists are not supported".into()));
        }
        let first = *kind.get_or_insert(v);
        if gofmt::type_name(first) != gofmt::type_name(v) {
            let all: Vec<String> = lists.iter().map(|l| gofmt::list(l)).collect();
            return Err(Error::Failed(format!("list element types are not identical: [{}]", all.join(" "))));
        }
    }
    Ok(kind.is_some_and(Value::is_object))
}

/// The value a list element is known by: its merge key, or itself.
fn identity<'v>(item: &'v Value, key: &str) -> Option<&'v Value> {
    match item {
        Value::Object(m) if !key.is_empty() => m.get(key),
        other => Some(other),
    }
}

fn merge_value<'v>(item: &'v Value, key: &str) -> Result<&'v Value> {
    let m = item.as_object().ok_or_else(|| Error::bad_arg(MAP, item))?;
    m.get(key).ok_or_else(|| Error::no_merge_key(item, key))
}

pub(crate) fn position(list: &[Value], item: &Value, key: &str) -> Option<usize> {
    let wanted = identity(item, key);
    list.iter().position(|x| identity(x, key) == wanted)
}

fn find_map(list: &[Value], key: &str, value: &Value) -> Result<Option<usize>> {
    for (i, v) in list.iter().enumerate() {
        let m = v.as_object().ok_or_else(|| Error::Failed(format!("value for key {i} is not a map")))?;
        if m.get(key) == Some(value) {
            return Ok(Some(i));
        }
    }
    Ok(None)
}

/// Merges two lists of a field with merge strategy (or deletes what a delete list names).
pub(crate) fn merge_slice(
    original: Vec<Value>,
    patch: Vec<Value>,
    l: &Lookup<'_>,
    delete: DeleteList,
) -> Result<Vec<Value>> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    let maps = elements_are_maps([&original, &patch])?;
    if !maps && delete.0 {
        return Ok(original.into_iter().filter(|v| !patch.contains(v)).collect());
    }
    let key = l.merge_key;
    let (merged, original, patch) = if maps {
        if key.is_empty() {
            return Err(Error::Failed("cannot merge lists without merge key for struct".into()));
        }
        let (original, patch) = take_special_elements(original, patch, key)?;
        let merged = merge_maps(original.clone(), patch.clone(), l)?;
        (merged, original, patch)
    } else {
        let mut merged: Vec<Value> = Vec::with_capacity(original.len() + patch.len());
        for v in original.iter().chain(&patch) {
            if !merged.contains(v) {
                merged.push(v.clone());
            }
        }
        (merged, original, patch)
    };
    let (from_patch, from_server) = partition(merged, &patch, key, maps)?;
    normalize(from_patch, from_server, &patch, &original, key, maps)
}

/// Carries out the elements with `$patch`; answers the list without what they delete, and the other elements.
fn take_special_elements(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>)> {
    let mut rest = Vec::with_capacity(patch.len());
    let mut replace = false;
    for item in patch {
        let Some(directive) = item.get(DIRECTIVE) else {
            rest.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                let value = merge_value(&item, key)?;
                while let Some(i) = find_map(&original, key, value)? {
                    original.remove(i);
                }
            }
            Some("replace") => replace = true,
            Some("merge") => {
                return Err(Error::Failed("merging lists cannot yet be specified in the patch".into()));
            }
            _ => return Err(Error::bad_patch_type(directive, &item)),
        }
    }
    Ok(if replace { (rest, Vec::new()) } else { (original, rest) })
}

fn merge_maps(mut original: Vec<Value>, patch: Vec<Value>, l: &Lookup<'_>) -> Result<Vec<Value>> {
    for item in patch {
        let value = merge_value(&item, l.merge_key)?;
        let at = find_map(&original, l.merge_key, value)?;
        match (at.and_then(|i| original.get_mut(i)), item) {
            (Some(slot), Value::Object(new)) => {
                let Value::Object(old) = slot.take() else { continue };
                *slot = Value::Object(merge_map(old, new, l.ty)?);
            }
            (_, item) => original.push(item),
        }
    }
    Ok(original)
}

/// Splits into what stands in `by` and what does not.
fn partition(items: Vec<Value>, by: &[Value], key: &str, maps: bool) -> Result<(Vec<Value>, Vec<Value>)> {
    if !maps || key.is_empty() {
        return Ok(items.into_iter().partition(|v| by.contains(v)));
    }
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for v in items {
        match find_map(by, key, merge_value(&v, key)?)? {
            Some(_) => inside.push(v),
            None => outside.push(v),
        }
    }
    Ok((inside, outside))
}

/// Sorts both parts by their own order and interleaves them by the server's.
fn normalize(
    patch: Vec<Value>,
    server: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    key: &str,
    maps: bool,
) -> Result<Vec<Value>> {
    let patch = sort_by_order(patch, patch_order, key, maps)?;
    let server = sort_by_order(server, server_order, key, maps)?;
    let mut out = Vec::with_capacity(patch.len() + server.len());
    let (mut left, mut right) = (server.into_iter().peekable(), patch.into_iter().peekable());
    loop {
        let from_left = match (left.peek(), right.peek()) {
            (None, None) => return Ok(out),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(l), Some(r)) => {
                matches!((position(server_order, l, key), position(server_order, r, key)), (Some(a), Some(b)) if a < b)
            }
        };
        out.extend(if from_left { left.next() } else { right.next() });
    }
}

/// Sorts by `order`; elements that carry a delete directive go to the end.
pub(crate) fn sort_by_order(items: Vec<Value>, order: &[Value], key: &str, maps: bool) -> Result<Vec<Value>> {
    let (mut items, deletes): (Vec<Value>, Vec<Value>) = if maps {
        for v in items.iter().chain(order) {
            merge_value(v, key)?;
        }
        items.into_iter().partition(|v| !is_delete(v))
    } else {
        (items, Vec::new())
    };
    items.sort_by_key(|v| position(order, v, key));
    items.extend(deletes);
    Ok(items)
}

fn is_delete(v: &Value) -> bool {
    v.get(DIRECTIVE).and_then(Value::as_str) == Some("delete")
}

/// Carries out every `$setElementOrder/x` with the patch's `x`, and takes both out of the patch.
pub(crate) fn merge_ordered(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    ty: Type<'_>,
) -> Result<()> {
    let keys: Vec<String> = patch.keys().filter(|k| k.starts_with(SET_ORDER)).cloned().collect();
    for order_key in keys {
        let Some(order) = patch.remove(&order_key) else { continue };
        let Value::Array(order) = order else { return Err(Error::bad_arg(LIST, &order)) };
        let field = extract_key(&order_key, SET_ORDER)?;
        let list = |v: Option<&Value>| match v {
            // A nil slice that is encoded all the same; no list, no error.
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(a)) => Ok(Some(a.clone())),
            Some(other) => Err(Error::bad_arg(LIST, other)),
        };
        let (old, new) = (list(original.get(field))?, list(patch.get(field))?);
        let l = lookup_slice(ty, field)?;
        let key = l.merge_key;
        validate_order(new.as_deref().unwrap_or_default(), &order, key)?;
        let merged = match (&old, &new) {
            (None, None) => continue,
            (Some(old), None) => old.clone(),
            (None, Some(new)) => new.iter().cloned().filter_map(without_directives).collect(),
            (Some(_), Some(new)) if !l.merge => new.clone(),
            (Some(old), Some(new)) => merge_slice(old.clone(), new.clone(), &l, DeleteList(false))?,
        };
        let old_list = old.unwrap_or_default();
        let maps = elements_are_maps([&old_list, new.as_deref().unwrap_or_default()])?;
        let (from_patch, from_server) = partition(merged, &order, key, maps)?;
        let both = normalize(from_patch, from_server, &order, &old_list, key, maps)?;
        original.insert(field.to_owned(), Value::Array(both));
        if new.is_some() {
            patch.remove(field);
        }
    }
    Ok(())
}

/// The patch's elements must stand in the order list, in that order; deletions do not count.
fn validate_order(patch: &[Value], order: &[Value], key: &str) -> Result<()> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut items = Vec::with_capacity(patch.len());
    for v in patch {
        if !key.is_empty() && !v.is_object() {
            return Err(Error::bad_arg(MAP, v));
        }
        if v.get(DIRECTIVE).is_none() {
            items.push(v);
        }
    }
    let mut wanted = items.into_iter().peekable();
    for o in order {
        let Some(item) = wanted.peek() else { return Ok(()) };
        let same = match key.is_empty() {
            true => *item == o,
            false => merge_value(item, key)? == merge_value(o, key)?,
        };
        if same {
            wanted.next();
        }
    }
    match wanted.peek() {
        None => Ok(()),
        Some(_) if order.iter().any(Value::is_array) => Err(bad_order_format()),
        Some(_) => Err(Error::Failed(format!(
            "The order in patch list:\n{}\n doesn't match {SET_ORDER} list:\n{}\n",
            gofmt::list(patch),
            gofmt::list(order)
        ))),
    }
}
