//! The walks one by one: merging orders, comparing, removing, schema changes.

use super::*;
use crate::apply::compare::compare;
use crate::apply::merge::merge;
use crate::apply::reconcile::reconcile;
use crate::apply::remove::{Emptied, remove};

#[test]
fn merging_orders_sets() {
    for (live, config, want) in [
        ("abc", "ab", "abc"),
        ("ab", "abc", "abc"),
        ("abc", "", "abc"),
        ("", "abc", "abc"),
        ("ab", "ba", "ba"),
        ("abc", "def", "abcdef"),
        ("abc", "cdef", "abcdef"),
        ("abcgf", "cdef", "abcgdef"),
        ("abc", "defxyz", "abcdefxyz"),
        ("cdef", "ace", "acdef"),
        ("abcxyz", "def", "abcxyzdef"),
        ("abcxyz", "defxyz", "abcdefxyz"),
        ("cagf", "cfag", "cfag"),
        ("abcd", "defa", "bcdefa"),
        ("cdefghij", "2h3e4kl", "cdfg2hij3e4kl"),
        ("abcdefghij", "1b2h3e4kl", "a1bcdfg2hij3e4kl"),
        // Elements twice in the live list.
        ("abb", "c", "abbc"),
        ("abb", "b", "ab"),
        ("abb", "a", "abb"),
        ("abcdec", "1b2ed", "a1bc2ecd"),
        ("abcdec", "1b2ced", "a1b2ced"),
        ("aabb", "bcd", "aabcd"),
        ("aabb", "", "aabb"),
        ("cagfca", "cfag", "cfag"),
    ] {
        let list = |s: &str| json!({"set": s.chars().map(String::from).collect::<Vec<_>>()});
        assert_eq!(merge(&list(live), &list(config), thing()), Ok(list(want)), "{live} + {config}");
    }
}

#[test]
fn merging_values() {
    for (live, config, want) in [
        (json!({}), json!({"struct": {}}), json!({"struct": {}})),
        (json!({}), json!({"struct": null}), json!({"struct": null})),
        (json!({"struct": null}), json!({"struct": {}}), json!({"struct": {}})),
        (json!({"struct": {}}), json!({"struct": null}), json!({"struct": null})),
        (json!({"struct": {"name": "a"}}), json!({"struct": null}), json!({"struct": {"name": "a"}})),
        (json!({"struct": {"name": "a"}}), json!({"struct": {}}), json!({"struct": {"name": "a"}})),
        (json!({"items": []}), json!({"items": null}), json!({"items": null})),
        (json!({"items": null}), json!({"items": []}), json!({"items": []})),
        (json!({"atomic": {"a": "1"}}), json!({"atomic": {}}), json!({"atomic": {}})),
        (json!({"list": ["a"]}), json!({"list": []}), json!({"list": []})),
        (json!({"any": 1}), json!({"any": {"a": 1}}), json!({"any": {"a": 1}})),
        (json!({"any": {"a": 1}}), json!({"any": [1]}), json!({"any": [1]})),
        (json!({"numeric": 1}), json!({"numeric": null}), json!({"numeric": null})),
        (
            json!({"items": [{"name": "a", "value": 1}, {"name": "b"}]}),
            json!({"items": [{"name": "b", "value": 2}, {"name": "a", "tags": ["x"]}]}),
            json!({"items": [{"name": "b", "value": 2}, {"name": "a", "value": 1, "tags": ["x"]}]}),
        ),
    ] {
        assert_eq!(merge(&live, &config, thing()), Ok(want), "{live} + {config}");
    }
}

fn shown(s: &Set) -> Vec<String> {
    s.paths().iter().map(|p| path_text(p)).collect()
}

#[test]
fn comparing() {
    for (old, new, removed, modified, added) in [
        (json!({"string": "a"}), json!({"string": "a"}), vec![], vec![], vec![]),
        (json!({"string": "a"}), json!({"numeric": 1}), vec![".string"], vec![], vec![".numeric"]),
        (json!({"list": ["a"]}), json!({"list": ["b"]}), vec![], vec![".list"], vec![]),
        (json!({}), json!({"struct": {"name": "a"}}), vec![], vec![], vec![".struct", ".struct.name"]),
        (json!({"struct": {}}), json!({"struct": {"name": "a"}}), vec![], vec![], vec![".struct.name"]),
        (json!({"struct": null}), json!({"struct": {}}), vec![], vec![".struct"], vec![]),
        (
            json!({"set": ["a", "b"]}),
            json!({"set": ["b", "c"]}),
            vec![".set[=\"a\"]"],
            vec![],
            vec![".set[=\"c\"]"],
        ),
        (json!({"set": ["a", "b"]}), json!({"set": ["b", "a"]}), vec![], vec![], vec![]),
        (
            json!({"items": [{"name": "a", "value": 1}]}),
            json!({"items": [{"name": "a", "value": 2}, {"name": "b"}]}),
            vec![],
            vec![".items[name=\"a\"].value"],
            vec![".items[name=\"b\"]", ".items[name=\"b\"].name"],
        ),
        (json!({"any": 1}), json!({"any": {"a": 1}}), vec![], vec![".any"], vec![".any.a"]),
        (json!({"any": {"a": 1}}), json!({"any": 1}), vec![".any.a"], vec![".any"], vec![]),
        (json!({"nums": [1, 1]}), json!({"nums": [1]}), vec![".nums[=1]"], vec![], vec![".nums[=1]"]),
        (json!({"nums": [1, 1]}), json!({"nums": [1, 1, 1]}), vec![], vec![".nums[=1]"], vec![]),
    ] {
        let c = compare(&old, &new, thing()).unwrap();
        assert_eq!(
            (shown(&c.removed), shown(&c.modified), shown(&c.added)),
            (
                removed.into_iter().map(String::from).collect(),
                modified.into_iter().map(String::from).collect(),
                added.into_iter().map(String::from).collect()
            ),
            "{old} -> {new}"
        );
    }
    assert!(compare(&json!({"items": [{"value": 1}]}), &json!({"items": [{"value": 2}]}), thing()).is_err());
}

#[test]
fn removing() {
    let doc = json!({"string": "s", "map": {"a": "1"}, "items": [{"name": "x", "value": 1}, {"name": "y"}],
        "set": ["a", "b"], "atomic": {"a": "1"}});
    for (fields, emptied, want) in [
        (json!({"f:string": {}}), Emptied::Null, json!({"string": null})),
        (json!({"f:map": {"f:a": {}}}), Emptied::Null, json!({"map": 0})),
        (json!({"f:map": {"f:a": {}}}), Emptied::Gone, json!({"map": null})),
        (json!({"f:items": {"k:{\"name\":\"x\"}": {}}}), Emptied::Null, json!({"items": [{"name": "y"}]})),
        (
            json!({"f:items": {"k:{\"name\":\"x\"}": {"f:value": {}}}}),
            Emptied::Null,
            json!({"items": [{"name": "x"}, {"name": "y"}]}),
        ),
        (json!({"f:set": {"v:\"a\"": {}, "v:\"zz\"": {}}}), Emptied::Null, json!({"set": ["b"]})),
        (json!({"f:atomic": {}}), Emptied::Null, json!({"atomic": null})),
    ] {
        let got = remove(&doc, thing(), &Set::from_fields(&fields).unwrap(), emptied);
        let mut full = crate::merge_patch(&doc, &want).unwrap();
        // Zero stands for a null that is really there.
        if full["map"] == 0 {
            full["map"] = Value::Null;
        }
        assert_eq!(got, full, "{fields}");
    }
}

#[test]
fn schema_changes() {
    for (before, after) in [
        (
            json!({"f:atomic": {"f:a": {}, "f:b": {}}, "f:string": {}}),
            Some(json!({"f:atomic": {}, "f:string": {}})),
        ),
        (json!({"f:list": {".": {}, "v:\"a\"": {}}}), Some(json!({"f:list": {}}))),
        (json!({"f:atomic": {}, "f:list": {}}), None),
        (json!({"f:struct": {"f:name": {}}, "f:free": {"f:a": {"f:b": {}}}}), None),
        (json!({"f:unknown": {"f:a": {}}}), None),
        // The other direction is left alone, as upstream does.
        (json!({"f:items": {}}), None),
    ] {
        let got = reconcile(&Set::from_fields(&before).unwrap(), thing()).map(|s| s.to_fields());
        assert_eq!(got, after, "{before}");
    }
}
