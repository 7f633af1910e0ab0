//! Laws that hold for any objects.

use super::*;
use crate::apply::compare::{Comparison, compare};
use crate::apply::merge::merge;
use crate::apply::typed::{field_set, validate};
use crate::strategic::tests::junk;
use proptest::prelude::*;

/// Valid configurations of the made-up kind.
fn fields() -> impl Strategy<Value = Value> {
    let name = || prop::sample::select(vec!["a", "b", "c", "d"]);
    let set = || {
        prop::collection::btree_set(name(), 0..4)
            .prop_flat_map(|s| Just(s.into_iter().collect::<Vec<_>>()).prop_shuffle())
            .prop_map(|v| json!(v))
    };
    let map = || prop::collection::btree_map(name(), "[x-z]", 0..3).prop_map(|m| json!(m));
    let item = (prop::option::of(0i64..3), prop::option::of(set()), prop::option::of(map())).prop_map(
        |(v, t, i)| {
            let mut o = json!({});
            if let Some(v) = v {
                o["value"] = json!(v);
            }
            if let Some(t) = t {
                o["tags"] = t;
            }
            if let Some(Value::Object(mut i)) = i {
                i.retain(|k, _| k == "a" || k == "b");
                o["inner"] = Value::Object(i);
            }
            o
        },
    );
    let items = prop::collection::btree_map(name(), item, 0..4)
        .prop_map(|m| {
            m.into_iter()
                .map(|(k, mut v)| {
                    v["name"] = json!(k);
                    v
                })
                .collect::<Vec<Value>>()
        })
        .prop_flat_map(|v| Just(v).prop_shuffle())
        .prop_map(Value::Array);
    let value = prop_oneof![
        (0i64..3).prop_map(|n| ("numeric", json!(n))),
        "[a-c]".prop_map(|s| ("string", json!(s))),
        set().prop_map(|s| ("set", s)),
        prop::collection::vec(name(), 0..3).prop_map(|l| ("list", json!(l))),
        map().prop_map(|m| ("map", m)),
        map().prop_map(|m| ("atomic", m)),
        map().prop_map(|m| ("free", json!({"x": m, "y": [1]}))),
        items.prop_map(|i| ("items", i)),
        (0i64..3, "[a-b]").prop_map(|(v, n)| ("struct", json!({"value": v, "name": n}))),
    ];
    prop::collection::vec(value, 0..6)
        .prop_map(|v| Value::Object(v.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()))
}

fn manager() -> FieldManager<'static> {
    static VERSIONS: OnceLock<OneVersion<'static>> = OnceLock::new();
    let versions = VERSIONS.get_or_init(one);
    FieldManager { versions, api_version: "v1", kind: "Thing", subresource: "", filter: None }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn applying_twice_is_applying_once(before in fields(), first in fields(), second in fields()) {
        let m = manager();
        let mut live = m.update(None, object(&before), "u", NOW);
        live["metadata"]["uid"] = json!("u");
        let a = m.apply(Some(&live), &object(&first), "a", true, NOW).unwrap().object;
        let b = m.apply(Some(&a), &object(&second), "b", true, NOW).unwrap().object;
        // An empty list is nobody's, and then all there is counts as made before the first apply.
        if managed_fields(&b).is_none() {
            return Ok(());
        }
        let again = m.apply(Some(&b), &object(&second), "b", false, "2030-01-01T00:00:00Z").unwrap();
        prop_assert!(!again.changed);
        prop_assert_eq!(again.object, b);
    }

    #[test]
    fn an_applier_gets_what_it_asks_for(before in fields(), config in fields()) {
        let m = manager();
        let mut live = m.update(None, object(&before), "u", NOW);
        live["metadata"]["uid"] = json!("u");
        let out = m.apply(Some(&live), &object(&config), "a", true, NOW).unwrap().object;
        // Laying the configuration over the outcome once more changes nothing.
        let more = merge(&own_fields(&out), &config, thing()).unwrap();
        prop_assert_eq!(compare(&own_fields(&out), &more, thing()).unwrap(), Comparison::default());
        let asked = field_set(&config, thing());
        prop_assert_eq!(owners(&out).get("a").map_or_else(Set::default, |f| Set::from_fields(f).unwrap()), asked);
    }

    #[test]
    fn what_only_an_applier_owned_goes_with_it(config in fields()) {
        let m = manager();
        let mut live = m.apply(None, &object(&config), "a", false, NOW).unwrap().object;
        live["metadata"]["uid"] = json!("u");
        // An empty list is nobody's, and then all there is counts as made before the first apply.
        if managed_fields(&live).is_none() {
            return Ok(());
        }
        let out = m.apply(Some(&live), &object(&json!({})), "a", false, NOW).unwrap().object;
        prop_assert!(managed_fields(&out).is_none());
        // Empty maps and lists that nobody named may stay.
        let left = own_fields(&out);
        prop_assert!(left.as_object().unwrap().values().all(|v| v.as_array().is_some_and(|a| a.is_empty())), "{}", left);
    }

    #[test]
    fn changes_are_owned(before in fields(), after in fields()) {
        let m = manager();
        let mut live = m.update(None, object(&before), "u", NOW);
        live["metadata"]["uid"] = json!("u");
        if managed_fields(&live).is_none() {
            return Ok(());
        }
        let mut new = object(&after);
        new["metadata"] = live["metadata"].clone();
        let out = m.update(Some(&live), new, "w", NOW);
        let c = compare(&own_fields(&live), &own_fields(&out), thing()).unwrap();
        let w = owners(&out).get("w").map_or_else(Set::default, |f| Set::from_fields(f).unwrap());
        prop_assert_eq!(w, c.modified.union(c.added));
        prop_assert_eq!(own_fields(&out), after);
    }

    #[test]
    fn never_panics(live in junk(), config in junk(), entries in junk()) {
        let m = manager();
        let _ = validate(&config, thing());
        let _ = m.update(Some(&live), config.clone(), "u", NOW);
        let mut typed = live.clone();
        if let Value::Object(o) = &mut typed {
            o.insert("apiVersion".into(), "v1".into());
            o.insert("kind".into(), "Thing".into());
            o.insert("metadata".into(), json!({"managedFields": entries}));
        }
        let mut c = object(&json!({}));
        c["free"] = config;
        let _ = m.apply(Some(&typed), &c, "a", true, NOW);
        let _ = m.apply(Some(&live), &c, "a", false, NOW);
        let _ = m.update(Some(&typed), c, "u", NOW);
        let _ = csa::upgrade(&live, &["a"], "b", "");
        let pod = Type::of(api::schema::definition_for("", "v1", "Pod").unwrap());
        let _ = compare(&live, &typed, pod);
        let _ = merge(&live, &typed, pod);
    }
}
