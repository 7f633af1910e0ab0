//! JSON merge patch (RFC 7386) and the smallest such patch between two documents.

use crate::error::{Error, Result};
use serde_json::{Map, Value};

/// Parses a merge patch's body: a JSON object, else 400 with upstream's sentence.
pub fn parse(body: &[u8]) -> Result<Map<String, Value>> {
    let v: Value =
        serde_json::from_slice(body).map_err(|e| Error::BadRequest(format!("error decoding patch: {e}")))?;
    match v {
        Value::Object(m) => Ok(m),
        _ => Err(Error::BadRequest("Invalid JSON Patch".into())),
    }
}

/// Applies `patch` to `doc`.
pub fn merge_patch(doc: &Value, patch: &Value) -> Result<Value> {
    if !patch.is_object() {
        return Err(Error::BadRequest("Invalid JSON Patch".into()));
    }
    let mut out = doc.clone();
    merge(&mut out, patch);
    Ok(out)
}

/// Applies `patch` in place; any JSON value is a merge patch here, as the RFC has it.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(map) = target else { return };
    for (k, v) in fields {
        if v.is_null() {
            map.remove(k);
        } else {
            merge(map.entry(k.as_str()).or_insert(Value::Null), v);
        }
    }
}

pub mod diff {
    //! Patches from two documents.

    use super::{Map, Value};

    /// The smallest merge patch that makes `new` of `old`; an empty object when there is nothing to do.
    /// A null in `new` cannot be said in a merge patch and becomes a removal.
    pub fn merge_patch(old: &Value, new: &Value) -> Value {
        match (old, new) {
            (Value::Object(o), Value::Object(n)) => Value::Object(maps(o, n)),
            _ => new.clone(),
        }
    }

    fn maps(old: &Map<String, Value>, new: &Map<String, Value>) -> Map<String, Value> {
        let mut out = Map::new();
        for k in old.keys().filter(|k| new.get(*k).is_none_or(Value::is_null)) {
            if old.get(k) != new.get(k) {
                out.insert(k.clone(), Value::Null);
            }
        }
        for (k, n) in new.iter().filter(|(_, n)| !n.is_null()) {
            match (old.get(k), n) {
                (Some(o), n) if o == n => {}
                (Some(Value::Object(o)), Value::Object(n)) => {
                    out.insert(k.clone(), Value::Object(maps(o, n)));
                }
                _ => {
                    out.insert(k.clone(), n.clone());
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn rfc_examples() {
        for (doc, patch, want) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            assert_eq!(merge_patch(&doc, &patch), Ok(want), "{patch}");
        }
        assert_eq!(merge_patch(&json!({}), &json!([])), Err(Error::BadRequest("Invalid JSON Patch".into())));
        assert!(parse(b"[]").is_err());
        assert!(parse(b"{\"a\":1}").is_ok());
    }

    #[test]
    fn diffs_are_small() {
        for (old, new, want) in [
            (
                json!({"a": 1, "b": {"c": 1, "d": 2}}),
                json!({"a": 1, "b": {"c": 1, "d": 3}}),
                json!({"b": {"d": 3}}),
            ),
            (json!({"a": 1, "b": 2}), json!({"b": 2}), json!({"a": null})),
            (json!({"a": [1, 2]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"a": 1}), json!({"a": 1}), json!({})),
            (json!({"a": {"b": 1}}), json!({"a": {}}), json!({"a": {"b": null}})),
        ] {
            assert_eq!(diff::merge_patch(&old, &new), want);
        }
    }

    pub(crate) fn arb(nulls: bool) -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (-3i64..3).prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from),
            Just(if nulls { Value::Null } else { json!(0) }),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-d]", inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    fn object(nulls: bool) -> impl Strategy<Value = Value> {
        prop::collection::btree_map("[a-d]", arb(nulls), 0..4)
            .prop_map(|m| Value::Object(m.into_iter().collect()))
    }

    // A value replaced whole may hold objects, out of which RFC 7386 drops nulls: hence none inside.
    proptest! {
        #[test]
        fn diff_then_patch_gives_new(old in object(true), new in object(false)) {
            prop_assert_eq!(merge_patch(&old, &diff::merge_patch(&old, &new)), Ok(new));
        }
        #[test]
        fn patching_twice_is_patching_once(doc in object(true), patch in object(true)) {
            let once = merge_patch(&doc, &patch).unwrap();
            prop_assert_eq!(merge_patch(&once, &patch).unwrap(), once);
        }
    }
}
