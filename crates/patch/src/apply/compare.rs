//! What differs between two objects of a type, as sets of paths. Equal parts are skipped without a walk.

use super::element::{Path, PathElement};
use super::set::Set;
use super::typed::{Errors, Shape, Shapes, check_scalar, element_of};
use super::value::equal;
use crate::schema::{Atom, List, ListOrder, Map, Type};
use serde_json::Value;
use std::collections::BTreeMap;

/// No path is in two of the sets; all empty means equal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    pub removed: Set,
    pub modified: Set,
    pub added: Set,
}

pub(crate) fn compare(old: &Value, new: &Value, ty: Type<'_>) -> Result<Comparison, Errors> {
    let mut w = Walker::default();
    w.pair(ty, Some(old), Some(new));
    w.errors.check().map(|()| w.out)
}

#[derive(Default)]
struct Walker {
    out: Comparison,
    path: Path,
    errors: Errors,
}

impl Walker {
    fn below(
        &mut self,
        at: impl FnOnce() -> PathElement,
        ty: Type<'_>,
        l: Option<&Value>,
        r: Option<&Value>,
    ) {
        if let (Some(l), Some(r)) = (l, r)
            && equal(l, r)
        {
            return;
        }
        self.path.push(at());
        let before = std::mem::take(&mut self.errors);
        self.pair(ty, l, r);
        let inner = std::mem::replace(&mut self.errors, before);
        if let Some(at) = self.path.pop() {
            self.errors.add_below(&at, inner);
        }
    }

    fn pair(&mut self, ty: Type<'_>, l: Option<&Value>, r: Option<&Value>) {
        let atom = ty.atom();
        let (left, right) = (Shapes::of(&atom, l), Shapes::of(&atom, r));
        let leaf = if r.is_none() {
            self.shape(left.first(), &atom, l, r)
        } else {
            if l.is_some() && left != right {
                self.shape(left.first(), &atom, l, r);
            }
            self.shape(right.first(), &atom, l, r)
        };
        if !leaf {
            match (l, r) {
                (None, _) => self.out.added.insert(&self.path),
                (_, None) => self.out.removed.insert(&self.path),
                _ => {}
            }
        }
    }

    /// True when the pair was compared as a whole.
    fn shape(&mut self, shape: Shape, atom: &Atom<'_>, l: Option<&Value>, r: Option<&Value>) -> bool {
        match (shape, atom) {
            (Shape::Map, Atom { map: Some(map), .. }) => self.maps(map, l, r),
            (Shape::List, Atom { list: Some(list), .. }) => self.lists(list, l, r),
            (Shape::Scalar, Atom { scalar: Some(s), .. }) => {
                match (check_scalar(*s, l, "lhs: "), check_scalar(*s, r, "rhs: ")) {
                    (Err(a), Err(b)) => {
                        self.errors.add(a);
                        self.errors.add(b);
                        false
                    }
                    _ => self.leaf(l, r),
                }
            }
            _ => self.leaf(l, r),
        }
    }

    fn leaf(&mut self, l: Option<&Value>, r: Option<&Value>) -> bool {
        match (l, r) {
            (None, _) => self.out.added.insert(&self.path),
            (_, None) => self.out.removed.insert(&self.path),
            (Some(l), Some(r)) if !equal(l, r) => self.out.modified.insert(&self.path),
            _ => {}
        }
        true
    }

    fn maps(&mut self, map: &Map<'_>, l: Option<&Value>, r: Option<&Value>) -> bool {
        let (lm, rm) = (l.and_then(Value::as_object), r.and_then(Value::as_object));
        // Two empty or null sides are told apart as wholes.
        if map.atomic || (lm.is_none_or(|m| m.is_empty()) && rm.is_none_or(|m| m.is_empty())) {
            return self.leaf(l, r);
        }
        let left = lm.into_iter().flatten();
        for (k, a) in left {
            let b = rm.and_then(|m| m.get(k));
            self.below(|| PathElement::field(k), map.child(k).unwrap_or(Type::DEDUCED), Some(a), b);
        }
        for (k, b) in rm.into_iter().flatten() {
            if lm.is_none_or(|m| !m.contains_key(k)) {
                self.below(|| PathElement::field(k), map.child(k).unwrap_or(Type::DEDUCED), None, Some(b));
            }
        }
        false
    }

    fn lists(&mut self, list: &List<'_>, l: Option<&Value>, r: Option<&Value>) -> bool {
        let (la, ra) = (l.and_then(Value::as_array), r.and_then(Value::as_array));
        let empty = la.is_none_or(|a| a.is_empty()) && ra.is_none_or(|a| a.is_empty());
        if matches!(list.order, ListOrder::Atomic) || empty {
            return self.leaf(l, r);
        }
        let mut pairs: BTreeMap<PathElement, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for (i, v) in la.into_iter().flatten().enumerate() {
            match element_of(list, v) {
                Ok(at) => pairs.entry(at).or_default().0.push(v),
                Err(e) => self.errors.add(Errors::one(format!("element {i}: {e}"))),
            }
        }
        for (i, v) in ra.into_iter().flatten().enumerate() {
            match element_of(list, v) {
                Ok(at) => pairs.entry(at).or_default().1.push(v),
                Err(e) => self.errors.add(Errors::one(format!("element {i}: {e}"))),
            }
        }
        for (at, (ls, rs)) in pairs {
            let (first_l, first_r) = (ls.first().copied(), rs.first().copied());
            let whole = || {
                let mut whole = self.path.clone();
                whole.push(at.clone());
                whole
            };
            let whole = (ls.len() > 1 || rs.len() > 1).then(whole).unwrap_or_default();
            match (ls.len() > 1, rs.len() > 1) {
                (false, false) => self.below(|| at, list.element, first_l, first_r),
                // Duplicates are compared as if they were one atomic list.
                (true, true) => {
                    if ls.len() != rs.len() || !ls.iter().zip(&rs).all(|(a, b)| equal(a, b)) {
                        self.out.modified.insert(&whole);
                    }
                }
                (true, false) => {
                    if first_r.is_some() {
                        self.below(|| at, list.element, None, first_r);
                    }
                    self.out.removed.insert(&whole);
                }
                (false, true) => {
                    if first_l.is_some() {
                        self.below(|| at, list.element, first_l, None);
                    }
                    self.out.added.insert(&whole);
                }
            }
        }
        false
    }
}
