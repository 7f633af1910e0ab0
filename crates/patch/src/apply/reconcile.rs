//! Ownership after a change of schema: what was granular and is atomic now is owned as a whole.

use super::element::{Path, PathElement};
use super::set::Set;
use super::typed::Shapes;
use crate::schema::{ListOrder, Type};

/// The set as the schema of today would have it, or `None` if nothing changes.
pub(crate) fn reconcile(set: &Set, ty: Type<'_>) -> Option<Set> {
    let mut wholes = Set::default();
    walk(Some(set), ty, false, &mut Vec::new(), &mut wholes);
    (!wholes.is_empty()).then(|| set.recursive_difference(&wholes).union(wholes))
}

fn walk(set: Option<&Set>, ty: Type<'_>, whole: bool, path: &mut Path, wholes: &mut Set) {
    use super::typed::Shape;
    let atom = ty.atom();
    match Shapes::of(&atom, None).first() {
        Shape::Map => {
            let Some(map) = atom.map else { return };
            // What has no schema cannot have changed it.
            if map.is_free_form() {
                return;
            }
            if !whole && map.atomic {
                if set.is_some_and(|s| !s.is_empty()) {
                    wholes.insert(path);
                }
                return;
            }
            each(set, path, wholes, |e| match e {
                PathElement::Field(name) => map.child(name),
                _ => None,
            });
        }
        Shape::List => {
            let Some(list) = atom.list else { return };
            if matches!(list.order, ListOrder::Atomic) {
                if !whole {
                    wholes.insert(path);
                }
                return;
            }
            each(set, path, wholes, |_| Some(list.element));
        }
        Shape::Scalar => {}
    }
}

fn each<'t>(
    set: Option<&Set>,
    path: &mut Path,
    wholes: &mut Set,
    ty: impl Fn(&PathElement) -> Option<Type<'t>>,
) {
    let Some(set) = set else { return };
    for (e, below) in set.children() {
        if let Some(t) = ty(e) {
            path.push(e.clone());
            walk(Some(below), t, false, path, wholes);
            path.pop();
        }
    }
    // A member with nothing below it is already owned as a whole.
}
