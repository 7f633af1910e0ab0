//! Writing into JSON that came from outside, without a panic when a part has another type than expected.

use serde_json::{Map, Value};

/// The object at `v`; anything else is replaced by an empty one.
pub(crate) fn object(v: &mut Value) -> &mut Map<String, Value> {
    if !v.is_object() {
        *v = Value::Object(Map::new());
    }
    match v {
        Value::Object(m) => m,
        _ => unreachable!("made an object above"),
    }
}

/// The list at `key`; anything else is replaced by an empty one.
pub(crate) fn array<'a>(m: &'a mut Map<String, Value>, key: &str) -> &'a mut Vec<Value> {
    let v = m.entry(key).or_insert(Value::Null);
    if !v.is_array() {
        *v = Value::Array(Vec::new());
    }
    match v {
        Value::Array(a) => a,
        _ => unreachable!("made a list above"),
    }
}

/// Sets a value at a path, making the objects on the way.
pub(crate) fn put(v: &mut Value, path: &[&str], value: Value) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut at = v;
    for p in parents {
        at = object(at).entry(*p).or_insert(Value::Null);
    }
    object(at).insert((*last).to_owned(), value);
}

/// The elements of a list, none if it is no list.
pub(crate) fn items<'a>(v: &'a Value, field: &str) -> &'a [Value] {
    v[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The text of a field, empty if it is none.
pub(crate) fn text<'a>(v: &'a Value, field: &str) -> &'a str {
    v[field].as_str().unwrap_or_default()
}

/// Every container of a pod spec, init and ephemeral ones included.
pub(crate) fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(move |f| items(spec, f))
}
