//! The objects of an informer, ordered by namespace and name, which stand in the objects already: no key is kept beside.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;

use api::Object;

/// Where an object stands in the order.
trait Place {
    fn place(&self) -> (&str, &str);
}

impl Place for (&str, &str) {
    fn place(&self) -> (&str, &str) {
        *self
    }
}

struct Held(Object);

impl Place for Held {
    fn place(&self) -> (&str, &str) {
        (self.0.namespace(), self.0.name())
    }
}

impl<'a> Borrow<dyn Place + 'a> for Held {
    fn borrow(&self) -> &(dyn Place + 'a) {
        self
    }
}

impl Ord for dyn Place + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for dyn Place + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for dyn Place + '_ {}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for Held {}

#[derive(Default)]
pub(crate) struct Objects(BTreeSet<Held>);

impl Objects {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<&Object> {
        self.0.get(&(namespace, name) as &dyn Place).map(|h| &h.0)
    }

    /// Answers what stood there before.
    pub fn insert(&mut self, o: Object) -> Option<Object> {
        self.0.replace(Held(o)).map(|h| h.0)
    }

    pub fn remove(&mut self, namespace: &str, name: &str) -> Option<Object> {
        self.0.take(&(namespace, name) as &dyn Place).map(|h| h.0)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Object> {
        self.0.iter().map(|h| &h.0)
    }

    pub fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &Object> {
        let first = (namespace, "");
        let from: Bound<&dyn Place> = Bound::Included(&first);
        let rest = self.0.range::<dyn Place, _>((from, Bound::Unbounded)).map(|h| &h.0);
        rest.take_while(move |o| o.namespace() == namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(namespace: &str, name: &str, revision: u64) -> Object {
        let v = json!({"metadata": {"namespace": namespace, "name": name}});
        Object::from_value(v, revision).expect("object")
    }

    #[test]
    fn one_for_each_place() {
        let mut all = Objects::default();
        for (ns, name) in [("b", "x"), ("a", "y"), ("a", "x"), ("", "node"), ("ab", "x")] {
            assert!(all.insert(object(ns, name, 1)).is_none());
        }
        assert_eq!(all.insert(object("a", "y", 2)).map(|o| o.revision()), Some(1));
        assert_eq!(all.get("a", "y").map(Object::revision), Some(2));
        assert_eq!(all.len(), 5);
        let names = |ns: &str| all.in_namespace(ns).map(|o| o.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(
            (names("a"), names(""), names("c")),
            (vec!["x".into(), "y".into()], vec!["node".into()], vec![])
        );
        assert_eq!(all.iter().map(|o| o.namespace()).collect::<Vec<_>>(), ["", "a", "a", "ab", "b"]);
        assert_eq!(all.remove("a", "x").map(|o| o.revision()), Some(1));
        assert!(all.remove("a", "x").is_none() && all.get("a", "x").is_none());
    }
}
