//! Takes paths out of an object.

use super::element::PathElement;
use super::set::Set;
use super::typed::{Shape, Shapes, element_of};
use crate::schema::{Atom, ListOrder, Type};
use serde_json::{Map, Value};

/// What becomes of a map or list that loses all it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emptied {
    /// It stays as null: the steps in between must see that something was there.
    Null,
    /// It goes.
    Gone,
}

pub(crate) fn remove(v: &Value, ty: Type<'_>, set: &Set, emptied: Emptied) -> Value {
    inside(v, ty, set, emptied).unwrap_or_else(|| Value::Object(Map::new()))
}

fn inside(v: &Value, ty: Type<'_>, set: &Set, emptied: Emptied) -> Option<Value> {
    let atom = ty.atom();
    match (Shapes::of(&atom, Some(v)).first(), &atom) {
        (Shape::Map, Atom { map: Some(map), .. }) => {
            let fields = v.as_object().filter(|_| !map.atomic)?;
            let mut out = Map::new();
            for (k, x) in fields {
                let at = PathElement::field(k);
                if set.has_member(&at) {
                    continue;
                }
                let kept = match set.child(&at).filter(|s| !s.is_empty()) {
                    Some(s) => inside(x, map.child(k).unwrap_or(Type::DEDUCED), s, emptied),
                    None => Some(x.clone()),
                };
                if let Some(x) = kept.or((emptied == Emptied::Null).then_some(Value::Null)) {
                    out.insert(k.clone(), x);
                }
            }
            (!out.is_empty()).then_some(Value::Object(out))
        }
        (Shape::List, Atom { list: Some(list), .. }) => {
            let items = v.as_array().filter(|_| !matches!(list.order, ListOrder::Atomic))?;
            let mut out = Vec::with_capacity(items.len());
            for x in items {
                let Ok(at) = element_of(list, x) else {
                    out.push(x.clone());
                    continue;
                };
                if set.has_member(&at) {
                    continue;
                }
                match set.child(&at).filter(|s| !s.is_empty()) {
                    Some(s) => out.extend(
                        inside(x, list.element, s, emptied)
                            .or((emptied == Emptied::Null).then_some(Value::Null)),
                    ),
                    None => out.push(x.clone()),
                }
            }
            (!out.is_empty()).then_some(Value::Array(out))
        }
        _ => Some(v.clone()),
    }
}
