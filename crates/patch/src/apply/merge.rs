//! Lays an applied configuration over the live object: leaves of the configuration win, nothing is removed, and list
//! elements end up in an order that respects both sides.

use super::element::PathElement;
use super::set::Set;
use super::typed::{Errors, Shape, Shapes, check_scalar, element_of};
use crate::schema::{Atom, List, ListOrder, Map, Type};
use serde_json::{Map as Json, Value};
use std::collections::BTreeMap;

pub(crate) fn merge(live: &Value, config: &Value, ty: Type<'_>) -> Result<Value, Errors> {
    Ok(pair(ty, Some(live), Some(config))?.unwrap_or_else(|| Value::Object(Json::new())))
}

type Merged = Result<Option<Value>, Errors>;

fn keep_right(l: Option<&Value>, r: Option<&Value>) -> Merged {
    Ok(r.or(l).cloned())
}

fn pair(ty: Type<'_>, l: Option<&Value>, r: Option<&Value>) -> Merged {
    let Some(right) = r else { return Ok(l.cloned()) };
    let atom = ty.atom();
    match (Shapes::of(&atom, Some(right)).first(), &atom) {
        (Shape::Map, Atom { map: Some(map), .. }) => maps(map, l, r),
        (Shape::List, Atom { list: Some(list), .. }) => lists(list, l, r),
        (Shape::Scalar, Atom { scalar: Some(s), .. }) => {
            match (check_scalar(*s, l, "lhs: "), check_scalar(*s, r, "rhs: ")) {
                (Err(mut a), Err(b)) => {
                    a.add(b);
                    Err(a)
                }
                _ => keep_right(l, r),
            }
        }
        _ => keep_right(l, r),
    }
}

fn maps(map: &Map<'_>, l: Option<&Value>, r: Option<&Value>) -> Merged {
    let (lm, rm) = (l.and_then(Value::as_object), r.and_then(Value::as_object));
    if map.atomic || (lm.is_none_or(|m| m.is_empty()) && rm.is_none_or(|m| m.is_empty())) {
        return keep_right(l, r);
    }
    let mut out = lm.cloned().unwrap_or_default();
    let mut errors = Errors::default();
    for (k, b) in rm.into_iter().flatten() {
        match pair(map.child(k).unwrap_or(Type::DEDUCED), lm.and_then(|m| m.get(k)), Some(b)) {
            Ok(Some(v)) => {
                out.insert(k.clone(), v);
            }
            Ok(None) => {
                out.remove(k);
            }
            Err(e) => errors.add_below(&PathElement::field(k), e),
        }
    }
    errors.check().map(|()| (!out.is_empty()).then_some(Value::Object(out)))
}

/// The elements of one side, in order, and each by its identity.
struct Side<'v> {
    ids: Vec<PathElement>,
    by_id: BTreeMap<PathElement, &'v Value>,
}

static NULL: Value = Value::Null;

fn index<'v>(list: &List<'_>, items: &'v [Value], duplicates: bool) -> Result<Side<'v>, Errors> {
    let mut errors = Errors::default();
    let mut side = Side { ids: Vec::with_capacity(items.len()), by_id: BTreeMap::new() };
    for (i, v) in items.iter().enumerate() {
        let at = match element_of(list, v) {
            Ok(at) => at,
            Err(e) => {
                errors.add(Errors::one(format!("element {i}: {e}")));
                continue;
            }
        };
        if !side.by_id.contains_key(&at) {
            side.by_id.insert(at.clone(), v);
        } else if duplicates {
            // An element that is there twice does not merge with anything.
            side.by_id.insert(at.clone(), &NULL);
        } else {
            errors.add(Errors::one(format!("duplicate entries for key {at}")));
            continue;
        }
        side.ids.push(at);
    }
    errors.check().map(|()| side)
}

fn items(v: Option<&Value>) -> &[Value] {
    v.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn lists(list: &List<'_>, l: Option<&Value>, r: Option<&Value>) -> Merged {
    let (la, ra) = (items(l), items(r));
    if matches!(list.order, ListOrder::Atomic) || (la.is_empty() && ra.is_empty()) {
        return keep_right(l, r);
    }
    let right = index(list, ra, false)?;
    let left = index(list, la, true)?;
    let mut out = Vec::with_capacity(left.ids.len().max(right.ids.len()));
    let mut errors = Errors::default();
    let mut take = |at: &PathElement, a: Option<&Value>, b: Option<&Value>| match pair(list.element, a, b) {
        Ok(v) => out.extend(v),
        Err(e) => errors.add_below(at, e),
    };
    // Elements of both sides come in the right side's order; what is the left's alone stays before what followed it.
    let mut shared = right.ids.iter().filter(|at| left.by_id.contains_key(*at));
    let mut next = shared.next();
    let mut done = Set::default();
    let (mut i, mut j) = (0, 0);
    while i < left.ids.len() || j < right.ids.len() {
        if let (Some(a), Some(b)) = (left.ids.get(i), right.ids.get(j)) {
            if a == b {
                done.insert_member(a.clone());
                take(a, left.by_id.get(a).copied(), right.by_id.get(a).copied());
                i += 1;
                j += 1;
                next = shared.next();
                continue;
            }
            if right.by_id.contains_key(a) && next.is_some_and(|n| n != a) {
                i += 1;
                continue;
            }
        }
        if let Some(a) = left.ids.get(i) {
            if !right.by_id.contains_key(a) {
                take(a, la.get(i), None);
                i += 1;
                continue;
            } else if done.has_member(a) {
                i += 1;
            }
        }
        if let Some(b) = right.ids.get(j) {
            done.insert_member(b.clone());
            take(b, left.by_id.get(b).copied(), right.by_id.get(b).copied());
            j += 1;
            if next == Some(b) {
                next = shared.next();
            }
        }
    }
    errors.check().map(|()| (!out.is_empty()).then_some(Value::Array(out)))
}
