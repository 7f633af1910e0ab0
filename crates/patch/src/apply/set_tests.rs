//! Set algebra and FieldsV1, on examples and on random sets.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn set(v: Value) -> Set {
    Set::from_fields(&v).unwrap()
}

#[test]
fn fields_round_trip() {
    for v in [
        json!({}),
        json!({"f:a": {}}),
        json!({"f:a": {"f:b": {}}}),
        json!({"f:a": {".": {}, "f:b": {}}}),
        json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}, "f:image": {}}}}}),
        json!({"f:finalizers": {".": {}, "v:\"x\"": {}, "v:\"y\"": {}}}),
        json!({"f:l": {"i:0": {}, "i:1": {"f:a": {}}}}),
    ] {
        assert_eq!(set(v.clone()).to_fields(), v);
    }
}

#[test]
fn reads_with_care() {
    assert_eq!(set(json!({"z:future": {}, "f:a": {}})), set(json!({"f:a": {}})));
    assert_eq!(set(json!(null)), Set::default());
    for bad in [json!(1), json!([]), json!("x"), json!({"f:a": 1}), json!({"a": {}}), json!({"k:{": {}})] {
        assert!(Set::from_fields(&bad).is_err(), "{bad}");
    }
}

#[test]
fn algebra() {
    let a = || set(json!({"f:a": {".": {}, "f:b": {}, "f:c": {}}, "f:d": {}}));
    let b = || set(json!({"f:a": {"f:b": {}, "f:x": {}}, "f:e": {}}));
    assert_eq!(
        a().union(b()),
        set(json!({"f:a": {".": {}, "f:b": {}, "f:c": {}, "f:x": {}}, "f:d": {}, "f:e": {}}))
    );
    assert_eq!(a().intersection(&b()), set(json!({"f:a": {"f:b": {}}})));
    assert_eq!(a().difference(&b()), set(json!({"f:a": {".": {}, "f:c": {}}, "f:d": {}})));
    let parent = set(json!({"f:a": {}}));
    assert_eq!(a().difference(&parent), set(json!({"f:a": {"f:b": {}, "f:c": {}}, "f:d": {}})));
    assert_eq!(a().recursive_difference(&parent), set(json!({"f:d": {}})));
    assert!(a().difference(&a()).is_empty());
    assert_eq!(a().len(), 4);
}

#[test]
fn encoded_fields_touch_like_decoded_ones() {
    let raw = json!({"f:a": {"f:b": {}}, "f:c": {".": {}, "f:d": {}}});
    for (other, want) in [
        (json!({"f:a": {}}), false),
        (json!({"f:a": {"f:b": {}}}), true),
        (json!({"f:c": {}}), true),
        (json!({"f:c": {"f:x": {}}}), false),
        (json!({"f:a": {"f:b": {"f:z": {}}}}), false),
        (json!({}), false),
    ] {
        assert_eq!(fields_touch(&raw, &set(other.clone())), want, "{other}");
        assert_eq!(!set(raw.clone()).intersection(&set(other)).is_empty(), want);
    }
}

fn arb() -> impl Strategy<Value = Set> {
    let element = prop_oneof![
        "[a-c]".prop_map(PathElement::Field),
        (0i64..3).prop_map(|i| PathElement::Value(json!(i))),
        (0i64..3).prop_map(|i| PathElement::key(vec![("k".into(), json!(i))])),
        (0i64..2).prop_map(PathElement::Index),
    ];
    prop::collection::vec(prop::collection::vec(element, 1..4), 0..12)
        .prop_map(|paths| paths.into_iter().collect())
}

proptest! {
    #[test]
    fn encoding_keeps_sets(a in arb()) {
        prop_assert_eq!(Set::from_fields(&a.to_fields()).unwrap(), a);
    }
    #[test]
    fn laws(a in arb(), b in arb()) {
        let union = a.clone().union(b.clone());
        prop_assert_eq!(&union, &b.clone().union(a.clone()));
        let both = a.intersection(&b);
        prop_assert_eq!(&both, &b.intersection(&a));
        prop_assert_eq!(both.clone().union(a.difference(&b)).union(b.difference(&a)), union.clone());
        prop_assert_eq!(union.len() + both.len(), a.len() + b.len());
        prop_assert_eq!(fields_touch(&a.to_fields(), &b), !both.is_empty());
        for p in a.paths() {
            prop_assert!(union.has(&p));
            prop_assert_eq!(both.has(&p), b.has(&p));
        }
        prop_assert!(a.recursive_difference(&b).difference(&a).is_empty());
    }
    #[test]
    fn reading_junk_never_panics(v in crate::strategic::tests::junk()) {
        let _ = Set::from_fields(&v);
    }
}
