//! Lists made of lists, as cel-go's extension has them: cut, flattened, sorted, turned round, without doubles; and the
//! items of lists as optional values. What a call of these costs is known before it runs, so that none grows unpaid.
//! https://pkg.go.dev/github.com/google/cel-go/ext#Lists

use std::cmp::Ordering;

use super::{Function, int, list, value};
use crate::value::Value;

type R = Result<Value, String>;

/// The longest `lists.range`.
const LONGEST: i64 = 1_000_000;
/// The list that a call makes, beside its items.
const MADE: u64 = 10;
/// How many values are compared for the price of one step.
const COMPARED: u64 = 16;

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn range(a: &[Value]) -> R {
    let n = int(a, 0)?;
    if n < 0 {
        return Err(format!("lists.range: size must be non-negative, got {n}"));
    }
    if n > LONGEST {
        return Err(format!("lists.range: size {n} exceeds maximum allowed ({LONGEST})"));
    }
    Ok((0..n).map(Value::Int).collect::<Vec<_>>().into())
}

fn reverse(a: &[Value]) -> R {
    Ok(list(a, 0)?.iter().rev().cloned().collect::<Vec<_>>().into())
}

fn slice(a: &[Value]) -> R {
    let (l, from, to) = (list(a, 0)?, int(a, 1)?, int(a, 2)?);
    let (Ok(first), Ok(end)) = (usize::try_from(from), usize::try_from(to)) else {
        return Err(format!("cannot slice({from}, {to}), negative indexes not supported"));
    };
    if first > end {
        return Err(format!(
            "cannot slice({from}, {to}), start index must be less than or equal to end index"
        ));
    }
    let cut = l.get(first..end).map(|l| Value::from(l.to_vec()));
    cut.ok_or_else(|| format!("cannot slice({from}, {to}), list is length {}", l.len()))
}

/// How often lists within the list are taken apart.
fn depth(a: &[Value]) -> Result<i64, String> {
    if a.len() > 1 { int(a, 1) } else { Ok(1) }
}

/// Tells every item; `false` ends it.
fn walk<'v>(l: &'v [Value], depth: i64, f: &mut impl FnMut(&'v Value) -> bool) -> bool {
    l.iter().all(|v| match v {
        Value::List(inner) if depth > 0 => f(v) && walk(inner, depth - 1, f),
        v => f(v),
    })
}

fn flatten(a: &[Value]) -> R {
    let (l, depth) = (list(a, 0)?, depth(a)?);
    if depth < 0 {
        return Err("level must be non-negative".into());
    }
    let mut out = Vec::new();
    fill(l, depth, &mut out);
    Ok(out.into())
}

fn fill(l: &[Value], depth: i64, out: &mut Vec<Value>) {
    for v in l {
        match v {
            Value::List(inner) if depth > 0 => fill(inner, depth - 1, out),
            v => out.push(v.clone()),
        }
    }
}

/// An order of all keys of one type: what is no number is behind the numbers, since a sort needs a place for it.
fn before(a: &Value, b: &Value) -> Ordering {
    let none = |v: &Value| matches!(v, Value::Double(d) if d.is_nan());
    a.order(b).unwrap_or_else(|| none(a).cmp(&none(b)))
}

fn sort_by(l: &[Value], keys: &[Value]) -> R {
    if l.len() != keys.len() {
        return Err(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} elements respectively",
            l.len(),
            keys.len()
        ));
    }
    let Some(first) = keys.first() else { return Ok(l.to_vec().into()) };
    if first.order(first).is_none() && !matches!(first, Value::Double(_)) {
        return Err("list elements must be comparable".into());
    }
    if keys.iter().any(|k| k.type_name() != first.type_name()) {
        return Err("list elements must have the same type".into());
    }
    let mut all: Vec<(&Value, &Value)> = keys.iter().zip(l).collect();
    all.sort_by(|(a, _), (b, _)| before(a, b));
    Ok(all.into_iter().map(|(_, v)| v.clone()).collect::<Vec<_>>().into())
}

fn sort(a: &[Value]) -> R {
    let l = list(a, 0)?;
    sort_by(l, l)
}

fn sort_by_keys(a: &[Value]) -> R {
    sort_by(list(a, 0)?, list(a, 1)?)
}

fn distinct(a: &[Value]) -> R {
    let mut out: Vec<Value> = Vec::new();
    for v in list(a, 0)? {
        if !out.iter().any(|o| o.equals(v)) {
            out.push(v.clone());
        }
    }
    Ok(out.into())
}

fn optional(v: Option<&Value>) -> R {
    Ok(Value::Optional(v.cloned().map(Box::new)))
}

fn first(a: &[Value]) -> R {
    optional(list(a, 0)?.first())
}

fn last(a: &[Value]) -> R {
    optional(list(a, 0)?.last())
}

fn unwrap(a: &[Value]) -> R {
    let mut out = Vec::new();
    for v in list(a, 0)? {
        match v {
            Value::Optional(o) => out.extend(o.as_deref().cloned()),
            v => return Err(format!("value {} is not optional", v.type_name())),
        }
    }
    Ok(out.into())
}

/// Whether a list holds the value, or what is no list is the value.
fn includes(a: &[Value]) -> R {
    let (target, wanted) = (value(a, 0)?, value(a, 1)?);
    Ok(Value::Bool(match target {
        Value::List(l) => l.iter().any(|v| v.equals(wanted)),
        v => v.equals(wanted),
    }))
}

/// Comparing each item with each: two steps a pair, a little more for texts.
fn pairs(keys: &[Value]) -> u64 {
    let n = count(keys.len());
    let pairs = n.saturating_mul(n);
    let texts = matches!(keys.first(), Some(Value::String(_) | Value::Bytes(_)));
    pairs.saturating_mul(2).saturating_add(if texts { pairs / 10 } else { 0 })
}

/// What a call costs at least, before it runs: upstream's number, and more where what it makes or compares is larger than
/// that. Not looked at any further than `budget`. 0: there is nothing special about it.
pub fn price(name: &str, a: &[Value], budget: u64) -> u64 {
    let made = |n: u64| n.saturating_add(1 + MADE);
    // Values that are passed by, unless there are too many.
    let passed = |l: &[Value], depth: i64| {
        let mut n = 0u64;
        let all = walk(l, depth, &mut |_| {
            n += 1;
            n <= budget
        });
        if all { n } else { u64::MAX }
    };
    match (name, a) {
        ("lists.range", [Value::Int(n)]) if (0..=LONGEST).contains(n) => {
            made(u64::try_from(*n).unwrap_or_default())
        }
        ("slice" | "reverse", [Value::List(l), ..]) => made(count(l.len())),
        ("flatten", [Value::List(l), ..]) => {
            let depth = depth(a).unwrap_or(1);
            let turns = u64::try_from(depth).unwrap_or(1);
            made(count(l.len()).saturating_mul(turns).max(passed(l, depth)))
        }
        ("distinct", [Value::List(l)]) => {
            let compared = count(l.len()).saturating_mul(passed(l, i64::MAX)) / COMPARED;
            made(pairs(l).max(compared))
        }
        ("sort", [Value::List(l)]) | ("@sortByAssociatedKeys", [_, Value::List(l)]) => made(pairs(l)),
        _ => 0,
    }
}

pub const ALL: &[(&str, Function)] = &[
    ("lists.range(int)->list(int)", range),
    ("list(A).reverse()->list(A)", reverse),
    ("list(A).slice(int,int)->list(A)", slice),
    ("list(list(A)).flatten()->list(A)", flatten),
    ("list(dyn).flatten(int)->list(dyn)", flatten),
    ("list(A).distinct()->list(A)", distinct),
    ("list(int).sort()->list(int)", sort),
    ("list(uint).sort()->list(uint)", sort),
    ("list(double).sort()->list(double)", sort),
    ("list(bool).sort()->list(bool)", sort),
    ("list(duration).sort()->list(duration)", sort),
    ("list(timestamp).sort()->list(timestamp)", sort),
    ("list(string).sort()->list(string)", sort),
    ("list(bytes).sort()->list(bytes)", sort),
    ("list(A).@sortByAssociatedKeys(list(int))->list(A)", sort_by_keys),
    ("list(A).@sortByAssociatedKeys(list(uint))->list(A)", sort_by_keys),
    ("list(A).@sortByAssociatedKeys(list(double))->list(A)", sort_by_keys),
    ("list(A).@sortByAssociatedKeys(list(bool))->list(A)", sort_by_keys),
    ("list(A).@sortByAssociatedKeys(list(duration))->list(A)", sort_by_keys),
    ("list(A).@sortByAssociatedKeys(list(timestamp))->list(A)", sort_by_keys),
    ("list(A).@sortByAssociatedKeys(list(string))->list(A)", sort_by_keys),
    ("list(A).@sortByAssociatedKeys(list(bytes))->list(A)", sort_by_keys),
    ("list(A).first()->optional(A)", first),
    ("list(A).last()->optional(A)", last),
    ("optional.unwrap(list(optional(A)))->list(A)", unwrap),
    ("list(optional(A)).unwrapOpt()->list(A)", unwrap),
    ("dyn:includes(dyn)->bool", includes),
];
