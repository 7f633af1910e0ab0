//! Who owns whom, pure: kept from changes, asked for dependents, and the decision for one object.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use api::{Meta, Object, OwnerReference};

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";

/// A kind (its place in the collector's list), namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    pub kind: usize,
    pub namespace: String,
    pub name: String,
}

impl Node {
    fn of(kind: usize, m: &Meta) -> Self {
        Self { kind, namespace: m.namespace().into(), name: m.name().into() }
    }
}

/// An object that is there, by its uid: nothing is kept but what the informer holds anyhow.
#[derive(Debug)]
struct Present {
    kind: usize,
    meta: Arc<Meta>,
}

impl Borrow<str> for Present {
    fn borrow(&self) -> &str {
        self.meta.uid()
    }
}

impl Hash for Present {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.meta.uid().hash(state);
    }
}

impl PartialEq for Present {
    fn eq(&self, other: &Self) -> bool {
        self.meta.uid() == other.meta.uid()
    }
}

impl Eq for Present {}

#[derive(Debug, Default)]
pub struct Graph {
    present: HashSet<Present>,
    dependents: HashMap<String, BTreeSet<Node>>,
}

impl Graph {
    /// Applies a change and says which objects have to be looked at.
    pub fn change(&mut self, kind: usize, old: Option<&Object>, new: Option<&Object>) -> Vec<Node> {
        let node = |o: &Object| Node::of(kind, o.meta());
        let mut out = Vec::new();
        if let Some(o) = old {
            for r in o.meta().owner_references() {
                if let Some(set) = self.dependents.get_mut(&r.uid) {
                    set.remove(&node(o));
                    if set.is_empty() {
                        self.dependents.remove(&r.uid);
                    }
                }
                // An owner that waits for its dependents may go on now.
                let holds = |n: &Object| {
                    let blocks = |x: &OwnerReference| x.block_owner_deletion == r.block_owner_deletion;
                    n.uid() == o.uid()
                        && n.meta().owner_references().iter().any(|x| x.uid == r.uid && blocks(x))
                };
                if !new.is_some_and(holds) {
                    out.extend(self.find(&r.uid));
                }
            }
            if new.is_none_or(|n| n.uid() != o.uid()) {
                self.present.remove(o.uid());
                out.extend(self.dependents.get(o.uid()).into_iter().flatten().cloned());
            }
        }
        if let Some(o) = new {
            self.present.replace(Present { kind, meta: o.meta_shared().clone() });
            for r in o.meta().owner_references() {
                self.dependents.entry(r.uid.clone()).or_default().insert(node(o));
            }
            let m = o.meta();
            if !m.owner_references().is_empty()
                || (m.is_deleting() && m.finalizers().iter().any(|f| f == FOREGROUND || f == ORPHAN))
            {
                out.push(node(o));
            }
            if m.is_deleting() {
                out.extend(self.dependents.get(o.uid()).into_iter().flatten().cloned());
            }
        }
        out
    }

    pub fn find(&self, uid: &str) -> Option<Node> {
        self.present.get(uid).map(|p| Node::of(p.kind, &p.meta))
    }

    pub fn dependents(&self, uid: &str) -> Vec<Node> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }
}

/// What is known of one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Alive,
    /// Being deleted in the foreground: it waits for its dependents.
    Waiting,
    Gone,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    /// Take these references (by uid) away, others still hold it.
    Unlink(Vec<String>),
    DeleteForeground,
    DeleteBackground,
}

/// The fate of an object by what became of its owners.
pub fn judge(owners: &[(OwnerReference, Owner)], has_dependents: bool) -> Verdict {
    if owners.is_empty() || owners.iter().all(|(_, o)| *o == Owner::Alive) {
        return Verdict::Keep;
    }
    if owners.iter().any(|(_, o)| *o == Owner::Alive) {
        return Verdict::Unlink(
            owners.iter().filter(|(_, o)| *o != Owner::Alive).map(|(r, _)| r.uid.clone()).collect(),
        );
    }
    if owners.iter().any(|(_, o)| *o == Owner::Waiting) && has_dependents {
        return Verdict::DeleteForeground;
    }
    Verdict::DeleteBackground
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(name: &str, owner: Option<&str>) -> Object {
        let mut v = json!({"metadata": {"name": name, "namespace": "d", "uid": name}});
        if let Some(o) = owner {
            v["metadata"]["ownerReferences"] =
                json!([{"uid": o, "name": o, "kind": "K", "apiVersion": "v1"}]);
        }
        Object::from_value(v, 1).expect("object")
    }

    #[test]
    fn a_deleted_owner_brings_its_dependents_up() {
        let mut g = Graph::default();
        let (a, b) = (object("a", None), object("b", Some("a")));
        assert!(g.change(0, None, Some(&a)).is_empty());
        assert_eq!(g.change(1, None, Some(&b)).len(), 1);
        let up = g.change(0, Some(&a), None);
        assert_eq!(up.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["b"]);
        g.change(1, Some(&b), None);
        assert!(g.dependents("a").is_empty() && g.find("b").is_none());
    }

    #[test]
    fn a_dependent_that_lets_go_brings_its_owner_up() {
        let mut g = Graph::default();
        let (a, b) = (object("a", None), object("b", Some("a")));
        g.change(0, None, Some(&a));
        g.change(1, None, Some(&b));
        let mut v = b.value().expect("value");
        v["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] = json!(false);
        let loose = Object::from_value(v, 2).expect("object");
        let up = |nodes: Vec<Node>| nodes.iter().any(|n| n.name == "a");
        assert!(!up(g.change(1, Some(&b), Some(&b))));
        assert!(up(g.change(1, Some(&b), Some(&loose))));
        assert!(up(g.change(1, Some(&loose), Some(&object("b", None)))));
    }

    #[test]
    fn verdicts() {
        let r = |uid: &str| OwnerReference { uid: uid.into(), ..OwnerReference::default() };
        assert_eq!(judge(&[], true), Verdict::Keep);
        assert_eq!(judge(&[(r("a"), Owner::Alive)], false), Verdict::Keep);
        assert_eq!(
            judge(&[(r("a"), Owner::Alive), (r("b"), Owner::Gone)], false),
            Verdict::Unlink(vec!["b".into()])
        );
        assert_eq!(judge(&[(r("a"), Owner::Gone)], true), Verdict::DeleteBackground);
        assert_eq!(judge(&[(r("a"), Owner::Waiting)], true), Verdict::DeleteForeground);
        assert_eq!(judge(&[(r("a"), Owner::Waiting)], false), Verdict::DeleteBackground);
    }
}
