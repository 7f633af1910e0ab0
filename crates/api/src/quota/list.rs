//! Amounts by resource name, and the arithmetic of quotas on them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::quantity::Quantity;

/// `ResourceList`
pub type List = BTreeMap<String, Quantity>;

/// Reads a map of quantities; what is none is left out.
pub fn list(v: &Value) -> List {
    v.as_object()
        .into_iter()
        .flatten()
        .filter_map(|(k, v)| {
            let q = match v {
                Value::String(s) => Quantity::parse(s).ok()?,
                Value::Number(n) => Quantity::parse(&n.to_string()).ok()?,
                _ => return None,
            };
            Some((k.clone(), q))
        })
        .collect()
}

pub fn to_value(l: &List) -> Value {
    Value::Object(l.iter().map(|(k, q)| (k.clone(), Value::String(q.to_string()))).collect())
}

pub fn add(a: &List, b: &List) -> List {
    let mut out = a.clone();
    for (k, q) in b {
        out.entry(k.clone()).and_modify(|x| *x += *q).or_insert(*q);
    }
    out
}

/// `a - b`, never below zero; what only `b` has becomes zero.
pub fn subtract_to_zero(a: &List, b: &List) -> List {
    let mut out = a.clone();
    for (k, q) in b {
        let left = out.get(k).map_or(Quantity::ZERO, |x| *x - *q);
        out.insert(k.clone(), if left.sign() < 0 { Quantity::ZERO } else { left });
    }
    out
}

/// Only the names that `keep` has.
pub fn mask(a: &List, keep: &List) -> List {
    a.iter().filter(|(k, _)| keep.contains_key(*k)).map(|(k, q)| (k.clone(), *q)).collect()
}

pub fn remove_zeros(a: &List) -> List {
    a.iter().filter(|(_, q)| !q.is_zero()).map(|(k, q)| (k.clone(), *q)).collect()
}

/// Names whose amount is below zero.
pub fn negative(a: &List) -> Vec<String> {
    a.iter().filter(|(_, q)| q.sign() < 0).map(|(k, _)| k.clone()).collect()
}

/// Names of `a` that `hard` limits to less.
pub fn exceeding(a: &List, hard: &List) -> Vec<String> {
    a.iter().filter(|(k, q)| hard.get(*k).is_some_and(|h| *q > h)).map(|(k, _)| k.clone()).collect()
}

/// `cpu=1,pods=2`
pub fn pretty(a: &List) -> String {
    let parts: Vec<String> = a.iter().map(|(k, q)| format!("{k}={q}")).collect();
    parts.join(",")
}

pub fn pretty_names(names: &[String]) -> String {
    let mut n = names.to_vec();
    n.sort();
    n.join(",")
}
