//! Optional values. https://github.com/google/cel-spec/wiki/proposal-246

use super::{Function, value};
use crate::value::Value;

type R = Result<Value, String>;

fn of(a: &[Value]) -> R {
    Ok(Value::Optional(Some(Box::new(value(a, 0)?.clone()))))
}

fn none(_: &[Value]) -> R {
    Ok(Value::Optional(None))
}

fn of_non_zero(a: &[Value]) -> R {
    if value(a, 0)?.is_zero() { none(a) } else { of(a) }
}

fn inner(a: &[Value]) -> Result<Option<&Value>, String> {
    match value(a, 0)? {
        Value::Optional(o) => Ok(o.as_deref()),
        _ => Err("no such overload".into()),
    }
}

fn has(a: &[Value]) -> R {
    Ok(Value::Bool(inner(a)?.is_some()))
}

fn get(a: &[Value]) -> R {
    inner(a)?.cloned().ok_or_else(|| "optional.none() dereference".into())
}

fn or(a: &[Value]) -> R {
    let i = if inner(a)?.is_some() { 0 } else { 1 };
    value(a, i).cloned()
}

fn or_value(a: &[Value]) -> R {
    match inner(a)? {
        Some(v) => Ok(v.clone()),
        None => value(a, 1).cloned(),
    }
}

pub const ALL: &[(&str, Function)] = &[
    ("optional.of(A)->optional(A)", of),
    ("optional.none()->optional(A)", none),
    ("optional.ofNonZeroValue(A)->optional(A)", of_non_zero),
    ("optional(A).hasValue()->bool", has),
    ("optional(A).value()->A", get),
    ("optional(A).or(optional(A))->optional(A)", or),
    ("optional(A).orValue(A)->A", or_value),
];
