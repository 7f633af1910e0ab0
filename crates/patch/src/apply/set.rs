//! Sets of field paths: a trie whose nodes may themselves be members. Reads and writes `FieldsV1`.

use super::element::{Path, PathElement};
use crate::schema::Type;
use serde_json::{Map, Value};
use std::cmp::Ordering;

/// A set of paths. A member says nothing of what is below it: `a` and `a.b` are two members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    /// Sorted.
    members: Vec<PathElement>,
    /// Sorted; never with an empty set in it after the operations here.
    children: Vec<(PathElement, Set)>,
}

impl FromIterator<Path> for Set {
    fn from_iter<I: IntoIterator<Item = Path>>(paths: I) -> Self {
        let mut s = Set::default();
        paths.into_iter().for_each(|p| s.insert(&p));
        s
    }
}

/// Walks two sorted lists side by side.
fn zip<A, B>(
    a: Vec<A>,
    b: Vec<B>,
    cmp: impl Fn(&A, &B) -> Ordering,
    mut each: impl FnMut(Option<A>, Option<B>),
) {
    let (mut a, mut b) = (a.into_iter().peekable(), b.into_iter().peekable());
    loop {
        let order = match (a.peek(), b.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(x), Some(y)) => cmp(x, y),
        };
        match order {
            Ordering::Less => each(a.next(), None),
            Ordering::Greater => each(None, b.next()),
            Ordering::Equal => each(a.next(), b.next()),
        }
    }
}

impl Set {
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.iter().all(|(_, s)| s.is_empty())
    }

    pub fn len(&self) -> usize {
        self.members.len() + self.children.iter().map(|(_, s)| s.len()).sum::<usize>()
    }

    /// Adds one path; parents are not added. The empty path names the whole object, which nobody owns.
    pub fn insert(&mut self, path: &[PathElement]) {
        match path {
            [] => {}
            [last] => self.insert_member(last.clone()),
            [first, rest @ ..] => self.child_mut(first).insert(rest),
        }
    }

    pub(crate) fn insert_member(&mut self, e: PathElement) {
        if let Err(at) = self.members.binary_search(&e) {
            self.members.insert(at, e);
        }
    }

    pub(crate) fn insert_child(&mut self, e: PathElement, child: Set) {
        if child.is_empty() {
            return;
        }
        match self.children.binary_search_by(|(x, _)| x.cmp(&e)) {
            Ok(at) => {
                if let Some((_, old)) = self.children.get_mut(at) {
                    *old = std::mem::take(old).union(child);
                }
            }
            Err(at) => self.children.insert(at, (e, child)),
        }
    }

    fn child_mut(&mut self, e: &PathElement) -> &mut Set {
        let at = match self.children.binary_search_by(|(x, _)| x.cmp(e)) {
            Ok(at) => at,
            Err(at) => {
                self.children.insert(at, (e.clone(), Set::default()));
                at
            }
        };
        &mut self.children[at].1
    }

    pub fn has(&self, path: &[PathElement]) -> bool {
        match path {
            [] => false,
            [last] => self.has_member(last),
            [first, rest @ ..] => self.child(first).is_some_and(|c| c.has(rest)),
        }
    }

    pub(crate) fn has_member(&self, e: &PathElement) -> bool {
        self.members.binary_search(e).is_ok()
    }

    /// What is below an element.
    pub(crate) fn child(&self, e: &PathElement) -> Option<&Set> {
        let at = self.children.binary_search_by(|(x, _)| x.cmp(e)).ok()?;
        self.children.get(at).map(|(_, s)| s)
    }

    pub(crate) fn members(&self) -> &[PathElement] {
        &self.members
    }

    pub(crate) fn children(&self) -> &[(PathElement, Set)] {
        &self.children
    }

    pub fn union(self, other: Set) -> Set {
        if other.is_empty() {
            return self;
        }
        if self.is_empty() {
            return other;
        }
        let mut out = Set::default();
        zip(self.members, other.members, Ord::cmp, |a, b| out.members.extend(a.or(b)));
        zip(
            self.children,
            other.children,
            |a, b| a.0.cmp(&b.0),
            |a, b| {
                out.children.extend(match (a, b) {
                    (Some((e, x)), Some((_, y))) => Some((e, x.union(y))),
                    (a, b) => a.or(b),
                });
            },
        );
        out
    }

    pub fn intersection(&self, other: &Set) -> Set {
        let members = self.members.iter().filter(|e| other.has_member(e)).cloned().collect();
        let mut children = Vec::new();
        for (e, s) in &self.children {
            if let Some(o) = other.child(e) {
                let both = s.intersection(o);
                if !both.is_empty() {
                    children.push((e.clone(), both));
                }
            }
        }
        Set { members, children }
    }

    /// Without the members of the other set; what is below them stays.
    pub fn difference(&self, other: &Set) -> Set {
        self.minus(other, false)
    }

    /// Without the members of the other set and all that is below them.
    pub fn recursive_difference(&self, other: &Set) -> Set {
        self.minus(other, true)
    }

    fn minus(&self, other: &Set, recursive: bool) -> Set {
        let mut rest = self.clone();
        rest.subtract(other, recursive);
        rest
    }

    /// `difference` in place, `recursive_difference` if so wished.
    pub(crate) fn subtract(&mut self, other: &Set, recursive: bool) {
        self.members.retain(|e| !other.has_member(e));
        self.children.retain_mut(|(e, s)| {
            if recursive && other.has_member(e) {
                return false;
            }
            if let Some(o) = other.child(e) {
                s.subtract(o, recursive);
            }
            !s.is_empty()
        });
    }

    /// Calls for every member, a node's own members before those below.
    pub fn for_each(&self, mut f: impl FnMut(&[PathElement])) {
        self.walk(&mut Vec::new(), &mut f);
    }

    fn walk(&self, path: &mut Path, f: &mut dyn FnMut(&[PathElement])) {
        for e in &self.members {
            path.push(e.clone());
            f(path);
            path.pop();
        }
        for (e, s) in &self.children {
            path.push(e.clone());
            s.walk(path, f);
            path.pop();
        }
    }

    pub fn paths(&self) -> Vec<Path> {
        let mut out = Vec::new();
        self.for_each(|p| out.push(p.to_vec()));
        out
    }

    /// With every struct field that leads to a member as a member too (map entries and list elements are not).
    pub(crate) fn with_named_fields(&self, ty: Option<Type<'_>>) -> Set {
        let atom = ty.map(Type::atom);
        let map = atom.and_then(|a| a.map);
        let list = atom.and_then(|a| a.list);
        let mut out =
            Set { members: self.members.clone(), children: Vec::with_capacity(self.children.len()) };
        for (e, s) in &self.children {
            let below = match e {
                PathElement::Field(name) => {
                    if map.is_some_and(|m| m.field(name).is_some()) {
                        out.insert_member(e.clone());
                    }
                    map.and_then(|m| m.child(name))
                }
                PathElement::Key(_) => list.map(|l| l.element),
                _ => None,
            };
            out.children.push((e.clone(), s.with_named_fields(below)));
        }
        out
    }

    /// `FieldsV1`
    pub fn to_fields(&self) -> Value {
        let mut out = Map::new();
        for e in &self.members {
            out.insert(e.encode(), Value::Object(Map::new()));
        }
        for (e, s) in &self.children {
            let Value::Object(mut below) = s.to_fields() else { continue };
            let key = e.encode();
            if self.has_member(e) && !below.is_empty() {
                below.insert(".".into(), Value::Object(Map::new()));
            }
            if !below.is_empty() || !self.has_member(e) {
                out.insert(key, Value::Object(below));
            }
        }
        Value::Object(out)
    }

    /// Reads `FieldsV1`; null is the empty set.
    pub fn from_fields(v: &Value) -> Result<Set, String> {
        match v {
            Value::Null => Ok(Set::default()),
            Value::Object(_) => Ok(read(v)?.0),
            _ => Err("expected a JSON object".into()),
        }
    }
}

/// What is below, and whether the node itself is a member.
fn read(v: &Value) -> Result<(Set, bool), String> {
    let Value::Object(fields) = v else { return Err("expected a JSON object".into()) };
    let mut set = Set::default();
    let mut member = false;
    for (key, below) in fields {
        if key == "." {
            member = true;
            continue;
        }
        let Some(e) = PathElement::decode(key)? else { continue };
        let (child, is_member) = read(below)?;
        if is_member {
            set.insert_member(e.clone());
        }
        set.insert_child(e, child);
    }
    let leaf = set.members.is_empty() && set.children.is_empty();
    Ok((set, member || leaf))
}

/// Whether encoded `FieldsV1` and a set share a member; nothing is decoded.
pub(crate) fn fields_touch(fields: &Value, set: &Set) -> bool {
    let Value::Object(map) = fields else { return false };
    if map.is_empty() {
        return false;
    }
    let is_member = |v: &Value| v.as_object().is_some_and(|m| m.is_empty() || m.contains_key("."));
    set.members.iter().any(|e| map.get(&e.encode()).is_some_and(is_member))
        || set.children.iter().any(|(e, s)| map.get(&e.encode()).is_some_and(|v| fields_touch(v, s)))
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
