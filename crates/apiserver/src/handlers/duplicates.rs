//! Keys that stand twice in one object of a JSON or YAML text. Parsers take the last one; strict validation tells. Pure.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Upstream stops listing after this many.
const MOST: usize = 100;

/// `duplicate field "spec.replicas"` for each, in the order of the text.
pub fn in_json(text: &[u8]) -> Vec<String> {
    let found = RefCell::new(Vec::new());
    let mut de = serde_json::Deserializer::from_slice(text);
    // A text that cannot be parsed is somebody else's to refuse.
    let _ = Walk { path: String::new(), found: &found }.deserialize(&mut de);
    found.into_inner()
}

#[derive(Clone)]
struct Walk<'a> {
    path: String,
    found: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

macro_rules! scalars {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any value")
        }
        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(Default::default())
        }
        fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
            Ok(Default::default())
        }
        fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
            Ok(Default::default())
        }
        fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
            Ok(Default::default())
        }
        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
            Ok(Default::default())
        }
        fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
            Ok(Default::default())
        }
    };
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();
    scalars!();

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut i = 0;
        while seq
            .next_element_seed(Walk { path: format!("{}[{i}]", self.path), found: self.found })?
            .is_some()
        {
            i += 1;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let path = if self.path.is_empty() { key.clone() } else { format!("{}.{key}", self.path) };
            if !seen.insert(key) {
                let text = format!("duplicate field {path:?}");
                let mut found = self.found.borrow_mut();
                if found.len() < MOST && !found.contains(&text) {
                    found.push(text);
                }
            }
            map.next_value_seed(Walk { path, found: self.found })?;
        }
        Ok(())
    }
}

/// `line 7: key "a" already set in map` for the first one.
pub fn in_yaml(text: &[u8]) -> Option<String> {
    let e = serde_norway::from_slice::<Unique>(text).err()?;
    let key = e.to_string();
    let (_, rest) = key.split_once(TWICE)?;
    let (key, _) = rest.split_once('\u{0}')?;
    Some(format!("line {}: key {key:?} already set in map", e.location().map_or(0, |l| l.line())))
}

/// Marks the key in the message of our own error.
const TWICE: &str = "\u{0}twice:";

/// Any value in which no key stands twice.
#[derive(Default)]
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = Unique;
    scalars!();

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Unique, A::Error> {
        while seq.next_element::<Unique>()?.is_some() {}
        Ok(Unique)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
        let mut seen = HashSet::new();
        while map.next_key_seed(Key(&mut seen))?.is_some() {
            map.next_value::<Unique>()?;
        }
        Ok(Unique)
    }
}

/// A key that has not been there; the fault is raised here, where the parser knows the line.
struct Key<'a>(&'a mut HashSet<String>);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl Key<'_> {
    fn put<E: Error>(self, key: String) -> Result<(), E> {
        if self.0.contains(&key) {
            return Err(E::custom(format!("{TWICE}{key}\u{0}")));
        }
        self.0.insert(key);
        Ok(())
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E: Error>(self, s: &str) -> Result<(), E> {
        self.put(s.to_owned())
    }
    fn visit_i64<E: Error>(self, n: i64) -> Result<(), E> {
        self.put(n.to_string())
    }
    fn visit_u64<E: Error>(self, n: u64) -> Result<(), E> {
        self.put(n.to_string())
    }
    fn visit_f64<E: Error>(self, n: f64) -> Result<(), E> {
        self.put(n.to_string())
    }
    fn visit_bool<E: Error>(self, b: bool) -> Result<(), E> {
        self.put(b.to_string())
    }
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.put("null".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_yaml() {
        assert_eq!(
            in_json(br#"{"a":1,"b":[{"c":1,"c":2},{"d":{}}],"a":{"x":1,"x":1,"x":2}}"#),
            ["duplicate field \"b[0].c\"", "duplicate field \"a\"", "duplicate field \"a.x\""]
        );
        assert!(in_json(b"{\"a\":1}").is_empty() && in_json(b"{broken").is_empty());
        let twice = b"a: 1\nb:\n  c: 1\n  d: [1]\n  c: 2\n";
        assert_eq!(in_yaml(twice).as_deref(), Some("line 5: key \"c\" already set in map"));
        assert_eq!(in_yaml(b"a: 1\nb: {a: 1}\n1: x\n"), None);
        assert_eq!(in_yaml(b"a: ["), None);
    }
}
