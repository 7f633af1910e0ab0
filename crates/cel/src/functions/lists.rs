//! Sizes, and Kubernetes' functions over lists and sets.

use std::cmp::Ordering;

use super::{Function, list, value};
use crate::value::Value;

type R = Result<Value, String>;

fn count(n: usize) -> R {
    i64::try_from(n).map(Value::Int).map_err(|_| "integer overflow".into())
}

fn size(a: &[Value]) -> R {
    count(match value(a, 0)? {
        Value::String(s) => s.chars().count(),
        Value::Bytes(b) => b.len(),
        Value::List(l) => l.len(),
        Value::Map(m) => m.len(),
        _ => return Err("no such overload".into()),
    })
}

fn is_sorted(a: &[Value]) -> R {
    let l = list(a, 0)?;
    let sorted = l.windows(2).all(|w| match w {
        [x, y] => x.order(y).is_some_and(Ordering::is_le),
        _ => true,
    });
    Ok(Value::Bool(sorted))
}

fn sum(a: &[Value]) -> R {
    let overflow = || "integer overflow".to_owned();
    let mut total: Option<Value> = None;
    for v in list(a, 0)? {
        total = Some(match (total, v) {
            (None, v) => v.clone(),
            (Some(Value::Int(x)), Value::Int(y)) => Value::Int(x.checked_add(*y).ok_or_else(overflow)?),
            (Some(Value::Uint(x)), Value::Uint(y)) => Value::Uint(x.checked_add(*y).ok_or_else(overflow)?),
            (Some(Value::Double(x)), Value::Double(y)) => Value::Double(x + y),
            (Some(Value::Duration(x)), Value::Duration(y)) => {
                Value::Duration(x.checked_add(*y).ok_or_else(overflow)?)
            }
            _ => return Err("no such overload".into()),
        });
    }
    Ok(total.unwrap_or(Value::Int(0)))
}

fn extreme(a: &[Value], wanted: Ordering, name: &str) -> R {
    let mut all = list(a, 0)?.iter();
    let mut best = all.next().ok_or_else(|| format!("{name} called on empty list"))?;
    for v in all {
        match v.order(best) {
            Some(o) if o == wanted => best = v,
            Some(_) => {}
            None => return Err("no such overload".into()),
        }
    }
    Ok(best.clone())
}

fn min(a: &[Value]) -> R {
    extreme(a, Ordering::Less, "min")
}
fn max(a: &[Value]) -> R {
    extreme(a, Ordering::Greater, "max")
}

fn place(i: Option<usize>) -> R {
    i.map_or(Ok(Value::Int(-1)), count)
}

fn index_of(a: &[Value]) -> R {
    let v = value(a, 1)?;
    place(list(a, 0)?.iter().position(|x| x.equals(v)))
}

fn last_index_of(a: &[Value]) -> R {
    let v = value(a, 1)?;
    place(list(a, 0)?.iter().rposition(|x| x.equals(v)))
}

fn holds(l: &[Value], v: &Value) -> bool {
    l.iter().any(|x| x.equals(v))
}

fn contains(a: &[Value]) -> R {
    let (x, y) = (list(a, 0)?, list(a, 1)?);
    Ok(Value::Bool(y.iter().all(|v| holds(x, v))))
}

fn equivalent(a: &[Value]) -> R {
    let (x, y) = (list(a, 0)?, list(a, 1)?);
    Ok(Value::Bool(y.iter().all(|v| holds(x, v)) && x.iter().all(|v| holds(y, v))))
}

fn intersects(a: &[Value]) -> R {
    let (x, y) = (list(a, 0)?, list(a, 1)?);
    Ok(Value::Bool(y.iter().any(|v| holds(x, v))))
}

pub const ALL: &[(&str, Function)] = &[
    ("size(string)->int", size),
    ("size(bytes)->int", size),
    ("size(list(A))->int", size),
    ("size(map(A,B))->int", size),
    ("string:size()->int", size),
    ("bytes:size()->int", size),
    ("list(A).size()->int", size),
    ("map(A,B).size()->int", size),
    ("list(A).isSorted()->bool", is_sorted),
    ("list(A).sum()->A", sum),
    ("list(A).min()->A", min),
    ("list(A).max()->A", max),
    ("list(A).indexOf(A)->int", index_of),
    ("list(A).lastIndexOf(A)->int", last_index_of),
    ("sets.contains(list(A),list(A))->bool", contains),
    ("sets.equivalent(list(A),list(A))->bool", equivalent),
    ("sets.intersects(list(A),list(A))->bool", intersects),
];
