//! The labels of one object, packed: one allocation where a map of strings has two for each label and a node of half a
//! kilobyte. There are few of them on an object, and they are read far more often than made.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::selector::{Labels, Op, Requirement};

/// Ends each key and each value. None can hold it: label rules forbid it.
const END: char = '\0';

/// Sorted by key. Immutable; `to_map` is where changes begin.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct LabelSet(Box<str>);

impl LabelSet {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut parts = self.0.split_terminator(END);
        std::iter::from_fn(move || Some((parts.next()?, parts.next()?)))
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub fn has_all(&self, wanted: &BTreeMap<String, String>) -> bool {
        wanted.iter().all(|(k, v)| self.get(k) == Some(v.as_str()))
    }

    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    /// What is true of these labels as a set of bits: whoever asks for `Mark`s that are not all in here is not met.
    pub fn mark(&self) -> Mark {
        self.iter().fold(Mark::default(), |m, (k, v)| m.with(Mark::of(k)).with(Mark::of((k, v))))
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for LabelSet {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Self {
        let mut all: Vec<(K, V)> = labels.into_iter().collect();
        // Of a key that comes twice the last one counts, as in a map.
        all.reverse();
        all.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        all.dedup_by(|a, b| a.0.as_ref() == b.0.as_ref());
        let size = all.iter().map(|(k, v)| k.as_ref().len() + v.as_ref().len() + 2).sum();
        let mut text = String::with_capacity(size);
        for part in all.iter().flat_map(|(k, v)| [k.as_ref(), v.as_ref()]) {
            // Only an object that was stored past all rules could have one.
            text.extend(part.chars().filter(|c| *c != END));
            text.push(END);
        }
        Self(text.into())
    }
}

impl<K: AsRef<str>, V: AsRef<str>, const N: usize> From<[(K, V); N]> for LabelSet {
    fn from(labels: [(K, V); N]) -> Self {
        labels.into_iter().collect()
    }
}

impl Labels for LabelSet {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)
    }
}

impl PartialEq<BTreeMap<String, String>> for LabelSet {
    fn eq(&self, other: &BTreeMap<String, String>) -> bool {
        self.iter().eq(other.iter().map(|(k, v)| (k.as_str(), v.as_str())))
    }
}

impl fmt::Debug for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<'de> Deserialize<'de> for LabelSet {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = LabelSet;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of labels")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LabelSet, A::Error> {
                let mut all: Vec<(String, String)> = Vec::new();
                while let Some(label) = map.next_entry()? {
                    all.push(label);
                }
                Ok(all.into_iter().collect())
            }
        }
        d.deserialize_map(Pairs)
    }
}

/// A few bits of a word for each label and each key: a filter in the manner of Bloom's that tells most objects which a
/// selector does not match without looking at them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark(pub u64);

impl Mark {
    fn of(parts: impl Hash) -> Self {
        // Always the same, within a process at least: `DefaultHasher::new` has no random keys.
        let mut hasher = std::hash::DefaultHasher::new();
        parts.hash(&mut hasher);
        let h = hasher.finish();
        Self(1 << (h & 63) | 1 << (h >> 6 & 63))
    }

    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What everything that meets the requirements has.
    pub fn asked_by(requirements: &[Requirement]) -> Self {
        requirements.iter().fold(Self::default(), |m, r| m.with(Self::of_one(r)))
    }

    fn of_one(r: &Requirement) -> Self {
        match (r.op, r.values.as_slice()) {
            (Op::Equals | Op::In, [one]) => Self::of((r.key.as_str(), one.as_str())),
            (Op::Equals | Op::In | Op::Exists | Op::GreaterThan | Op::LessThan, _) => {
                Self::of(r.key.as_str())
            }
            (Op::NotEquals | Op::NotIn | Op::DoesNotExist, _) => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selector::LabelSelector;
    use proptest::prelude::*;

    fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
        proptest::collection::btree_map("[a-c]", "[a-c]?", 0..4)
    }

    proptest! {
        #[test]
        fn it_is_what_the_map_was(map in labels(), key in "[a-d]") {
            let set: LabelSet = map.iter().collect();
            prop_assert_eq!(&set, &map);
            prop_assert_eq!(set.get(&key), map.get(&key).map(String::as_str));
            prop_assert_eq!(set.is_empty(), map.is_empty());
            prop_assert_eq!(&set.to_map(), &map);
            let read: LabelSet = serde_json::from_str(&serde_json::to_string(&map).expect("JSON")).expect("labels");
            prop_assert_eq!(read, set);
        }

        #[test]
        fn who_is_selected_has_every_mark(
            map in labels(),
            selector in proptest::collection::vec("(!?[a-c]|[a-c](=|!=)[a-c]|[a-c] (in|notin) \\([a-c],[a-c]\\))", 1..3),
        ) {
            let set: LabelSet = map.iter().collect();
            let selector = LabelSelector::parse(&selector.join(",")).expect("a selector");
            let asked = Mark::asked_by(selector.requirements());
            if selector.matches(&set) {
                prop_assert_eq!(set.mark().with(asked), set.mark());
            }
        }
    }

    #[test]
    fn the_last_of_a_key_counts_and_nothing_breaks_the_packing() {
        let set: LabelSet =
            serde_json::from_str(r#"{"b":"1","a":"2","b":"3","c\u0000d":"e\u0000"}"#).expect("labels");
        let all: Vec<_> = set.iter().collect();
        assert_eq!(all, [("a", "2"), ("b", "3"), ("cd", "e")]);
    }
}
