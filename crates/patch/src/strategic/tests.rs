//! Tables for strategic merge patch on the real schemas, and the round trip with the diff.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn ty(group: &str, version: &str, kind: &str) -> Type<'static> {
    Type::of(api::schema::definition_for(group, version, kind).unwrap())
}

fn pod() -> Type<'static> {
    ty("", "v1", "Pod")
}

fn spec(v: Value) -> Value {
    json!({"spec": v})
}

fn applied(doc: Value, patch: Value) -> Result<Value> {
    apply(&spec(doc), &spec(patch), pod()).map(|mut v| v["spec"].take())
}

#[test]
fn merges_by_key() {
    for (name, doc, patch, want) in [
        (
            "adds an element",
            json!({"containers": [{"name": "a", "image": "1"}]}),
            json!({"containers": [{"name": "b", "image": "2"}]}),
            json!({"containers": [{"name": "b", "image": "2"}, {"name": "a", "image": "1"}]}),
        ),
        (
            "changes an element",
            json!({"containers": [{"name": "a", "image": "1", "command": ["x"]}, {"name": "b"}]}),
            json!({"containers": [{"name": "a", "image": "2"}]}),
            json!({"containers": [{"name": "a", "image": "2", "command": ["x"]}, {"name": "b"}]}),
        ),
        (
            "a null removes a field of an element",
            json!({"containers": [{"name": "a", "image": "1", "tty": true}]}),
            json!({"containers": [{"name": "a", "tty": null}]}),
            json!({"containers": [{"name": "a", "image": "1"}]}),
        ),
        (
            "deletes an element",
            json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            json!({"containers": [{"$patch": "delete", "name": "a"}]}),
            json!({"containers": [{"name": "b"}]}),
        ),
        (
            "deleting the absent is fine",
            json!({"containers": [{"name": "b"}]}),
            json!({"containers": [{"$patch": "delete", "name": "a"}]}),
            json!({"containers": [{"name": "b"}]}),
        ),
        (
            "replaces a list",
            json!({"containers": [{"name": "a", "image": "1"}, {"name": "b"}]}),
            json!({"containers": [{"$patch": "replace"}, {"name": "a"}]}),
            json!({"containers": [{"name": "a"}]}),
        ),
        (
            "orders by $setElementOrder",
            json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}),
            json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}],
                   "containers": [{"name": "b", "image": "2"}]}),
            json!({"containers": [{"name": "c"}, {"name": "a"}, {"name": "b", "image": "2"}]}),
        ),
        (
            "server-only elements keep their place",
            json!({"containers": [{"name": "a"}, {"name": "s"}, {"name": "b"}]}),
            json!({"$setElementOrder/containers": [{"name": "a"}, {"name": "n"}, {"name": "b"}],
                   "containers": [{"name": "n", "image": "2"}]}),
            json!({"containers": [{"name": "a"}, {"name": "n", "image": "2"}, {"name": "s"}, {"name": "b"}]}),
        ),
        (
            "adds a list with an order and a delete in it",
            json!({}),
            json!({"$setElementOrder/containers": [{"name": "a"}],
                   "containers": [{"name": "a"}, {"$patch": "delete", "name": "x"}]}),
            json!({"containers": [{"name": "a"}]}),
        ),
        (
            "an encoded nil list is no list",
            json!({"containers": null}),
            json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "a"}]}),
            json!({"containers": [{"name": "a"}]}),
        ),
        (
            "atomic lists are replaced",
            json!({"tolerations": [{"key": "a"}, {"key": "b"}]}),
            json!({"tolerations": [{"key": "c"}]}),
            json!({"tolerations": [{"key": "c"}]}),
        ),
        (
            "maps merge and nulls remove",
            json!({"nodeSelector": {"a": "1", "b": "2"}}),
            json!({"nodeSelector": {"a": null, "c": "3"}}),
            json!({"nodeSelector": {"b": "2", "c": "3"}}),
        ),
        (
            "a map is replaced by directive",
            json!({"nodeSelector": {"a": "1", "b": "2"}}),
            json!({"nodeSelector": {"$patch": "replace", "c": "3"}}),
            json!({"nodeSelector": {"c": "3"}}),
        ),
        (
            "a map is emptied by directive",
            json!({"securityContext": {"runAsUser": 1}}),
            json!({"securityContext": {"$patch": "delete"}}),
            json!({"securityContext": {}}),
        ),
        (
            "an added map that says delete is not added",
            json!({"hostname": "x"}),
            json!({"securityContext": {"$patch": "delete"}}),
            json!({"hostname": "x"}),
        ),
        (
            "nulls in what is added whole vanish",
            json!({}),
            json!({"securityContext": {"runAsUser": null, "runAsGroup": 2}}),
            json!({"securityContext": {"runAsGroup": 2}}),
        ),
        (
            "volumes clear the other sources",
            json!({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {}}]}),
            json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}, {"name": "w", "emptyDir": {}}]}),
        ),
        (
            "merges by the first of several keys, as the tag says",
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "x"}]}]}),
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "y"}, {"containerPort": 81}]}]}),
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "y"}, {"containerPort": 81}]}]}),
        ),
        (
            "a value of another type is taken",
            json!({"containers": [{"name": "a"}]}),
            json!({"containers": "junk"}),
            json!({"containers": "junk"}),
        ),
        (
            "unknown fields that are new are taken",
            json!({}),
            json!({"brandNew": {"x": 1}}),
            json!({"brandNew": {"x": 1}}),
        ),
    ] {
        assert_eq!(applied(doc, patch), Ok(want), "{name}");
    }
}

#[test]
fn primitive_lists() {
    let meta = |v: Value| json!({"metadata": {"finalizers": v}});
    for (doc, patch, want) in [
        (meta(json!(["a", "b"])), meta(json!(["c", "a"])), meta(json!(["c", "a", "b"]))),
        (
            meta(json!(["a", "b", "a"])),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}),
            meta(json!(["b"])),
        ),
        (
            meta(json!(["a", "b", "c"])),
            json!({"metadata": {"$setElementOrder/finalizers": ["c", "a", "d"], "finalizers": ["d"],
                                "$deleteFromPrimitiveList/finalizers": ["b"]}}),
            meta(json!(["c", "a", "d"])),
        ),
        (json!({}), json!({"metadata": {"finalizers": ["x"]}}), meta(json!(["x"]))),
    ] {
        assert_eq!(apply(&doc, &patch, pod()), Ok(want), "{patch}");
    }
}

#[test]
fn retain_keys_of_a_struct() {
    let deployment = ty("apps", "v1", "Deployment");
    let doc = spec(json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}));
    let patch = spec(json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}));
    assert_eq!(apply(&doc, &patch, deployment), Ok(spec(json!({"strategy": {"type": "Recreate"}}))));

    let new = spec(json!({"strategy": {"type": "Recreate"}}));
    assert_eq!(
        create_two_way(&doc, &new, deployment),
        Ok(spec(json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate", "rollingUpdate": null}})))
    );
}

#[test]
fn errors_are_upstreams() {
    for (doc, patch, want) in [
        (
            json!({"containers": [{"name": "a"}]}),
            json!({"containers": [{"image": "x", "tty": true}]}),
            Error::Failed("map: map[image:x tty:true] does not contain declared merge key: name".into()),
        ),
        (
            json!({"containers": [{"name": "a"}]}),
            json!({"containers": [{"$patch": "delete"}]}),
            Error::Failed("map: map[$patch:delete] does not contain declared merge key: name".into()),
        ),
        (
            json!({"containers": [{"name": "a"}]}),
            json!({"containers": [{"$patch": "explode", "name": "a"}]}),
            Error::Failed("unknown patch type: explode in map: map[$patch:explode name:a]".into()),
        ),
        (
            json!({"containers": [{"name": "a"}]}),
            json!({"containers": [{"$patch": "merge", "name": "a"}]}),
            Error::Failed("merging lists cannot yet be specified in the patch".into()),
        ),
        (
            json!({"securityContext": {"runAsUser": 1}}),
            json!({"securityContext": {"$patch": "merge"}}),
            Error::Failed("unknown patch type: merge in map: map[$patch:merge]".into()),
        ),
        (
            json!({"containers": [{"name": "a"}]}),
            json!({"containers": ["a"]}),
            Error::Failed("list element types are not identical: [[map[name:a]] [a]]".into()),
        ),
        (
            json!({"containers": [{"name": "a"}]}),
            json!({"containers": [["a"]]}),
            Error::Failed("list element types are not identical: [[map[name:a]] [[a]]]".into()),
        ),
        (
            json!({"containers": []}),
            json!({"containers": [["a"]]}),
            Error::Unprocessable("lists of lists are not supported".into()),
        ),
        (
            json!({"old": {"a": 1}}),
            json!({"old": {"a": 2}}),
            Error::Failed("unable to find api field in struct PodSpec for the json field \"old\"".into()),
        ),
        (
            json!({"volumes": [{"name": "v"}]}),
            json!({"volumes": [{"name": "v", "$retainKeys": ["name"], "emptyDir": {}}]}),
            Error::BadRequest("invalid patch format of retainKeys".into()),
        ),
        (
            json!({}),
            json!({"$deleteFromPrimitiveList": ["x"]}),
            Error::BadRequest("invalid patch format of primitive list".into()),
        ),
        (
            json!({}),
            json!({"$setElementOrder": []}),
            Error::BadRequest("invalid patch format of setElementOrder list".into()),
        ),
        (
            json!({}),
            json!({"$setElementOrder/containers": "x"}),
            Error::Failed("expected a []interface {}, but received a string".into()),
        ),
        (
            json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            json!({"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}],
                   "containers": [{"name": "b", "image": "1"}, {"name": "a", "image": "1"}]}),
            Error::Failed(
                "The order in patch list:\n[map[image:1 name:b] map[image:1 name:a]]\n doesn't match \
                 $setElementOrder list:\n[map[name:a] map[name:b]]\n"
                    .into(),
            ),
        ),
    ] {
        assert_eq!(applied(doc, patch.clone()), Err(want), "{patch}");
    }
    assert!(matches!(parse(b"[1]"), Err(Error::BadRequest(_))));
    assert!(matches!(apply(&json!({}), &json!(1), pod()), Err(Error::BadRequest(_))));
}

#[test]
fn two_way() {
    for (old, new, want) in [
        (
            json!({"containers": [{"name": "a", "image": "1"}, {"name": "b"}]}),
            json!({"containers": [{"name": "a", "image": "2"}, {"name": "c"}]}),
            json!({"$setElementOrder/containers": [{"name": "a"}, {"name": "c"}],
                   "containers": [{"image": "2", "name": "a"}, {"name": "c"}, {"$patch": "delete", "name": "b"}]}),
        ),
        (
            json!({"tolerations": [{"key": "a"}], "hostname": "x"}),
            json!({"tolerations": [{"key": "b"}]}),
            json!({"tolerations": [{"key": "b"}], "hostname": null}),
        ),
        (
            json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            json!({"containers": [{"name": "b"}, {"name": "a"}]}),
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
        ),
    ] {
        let got = create_two_way(&spec(old.clone()), &spec(new.clone()), pod()).unwrap();
        assert_eq!(got, spec(want));
        assert_eq!(apply(&spec(old), &got, pod()), Ok(spec(new)));
    }
    assert_eq!(
        create_two_way(&spec(json!({"hostname": "x"})), &spec(json!({"hostname": "x"})), pod()),
        Ok(json!({}))
    );
}

/// Pods of a handful of fields of each sort of list, with unique merge keys.
fn arb_pod() -> impl Strategy<Value = Value> {
    let name = || prop::sample::select(vec!["a", "b", "c", "d"]);
    let env = prop::collection::btree_map(name(), "[x-z]{1}", 0..3)
        .prop_map(|m| m.into_iter().map(|(k, v)| json!({"name": k, "value": v})).collect::<Vec<_>>());
    let container = (env, prop::option::of("[p-r]"), prop::collection::vec("[a-c]", 0..3))
        .prop_map(|(env, image, args)| json!({"env": env, "image": image.unwrap_or_default(), "args": args}));
    let containers = prop::collection::btree_map(name(), container, 0..4).prop_flat_map(|m| {
        let list: Vec<Value> = m
            .into_iter()
            .map(|(k, mut v)| {
                v["name"] = json!(k);
                v
            })
            .collect();
        Just(list).prop_shuffle()
    });
    let finalizers = prop::collection::btree_set(name(), 0..4)
        .prop_flat_map(|s| Just(s.into_iter().collect::<Vec<_>>()).prop_shuffle());
    let volume = prop_oneof![
        Just(json!({"emptyDir": {}})),
        "[a-b]".prop_map(|p| json!({"hostPath": {"path": p}})),
        "[a-b]".prop_map(|p| json!({"secret": {"secretName": p}})),
    ];
    let volumes = prop::collection::btree_map(name(), volume, 0..3).prop_map(|m| {
        m.into_iter()
            .map(|(k, mut v)| {
                v["name"] = json!(k);
                v
            })
            .collect::<Vec<_>>()
    });
    let labels = prop::collection::btree_map(name(), "[x-z]", 0..3);
    (containers, finalizers, volumes, labels).prop_map(|(containers, finalizers, volumes, labels)| {
        json!({"metadata": {"finalizers": finalizers, "labels": labels},
               "spec": {"containers": containers, "volumes": volumes}})
    })
}

proptest! {
    #[test]
    fn two_way_then_apply_gives_new(old in arb_pod(), new in arb_pod()) {
        let patch = create_two_way(&old, &new, pod()).unwrap();
        prop_assert_eq!(apply(&old, &patch, pod()).unwrap(), new, "{}", patch);
    }
    #[test]
    fn applying_twice_is_applying_once(old in arb_pod(), new in arb_pod()) {
        let patch = create_two_way(&old, &new, pod()).unwrap();
        let once = apply(&old, &patch, pod()).unwrap();
        prop_assert_eq!(apply(&once, &patch, pod()).unwrap(), once);
    }
    #[test]
    fn never_panics(doc in junk(), patch in junk()) {
        let _ = apply(&doc, &patch, pod());
        let _ = create_two_way(&doc, &patch, pod());
        let _ = crate::json_patch(&doc, &patch);
    }
}

/// Anything, with names that mean something here and there.
pub(crate) fn junk() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "spec",
        "containers",
        "metadata",
        "finalizers",
        "labels",
        "ports",
        "name",
        "$patch",
        "$retainKeys",
        "volumes",
        "$setElementOrder/containers",
        "$deleteFromPrimitiveList/finalizers",
        "op",
        "path",
        "value",
        "containerPort",
        "$setElementOrder/finalizers",
        "managedFields",
        "fieldsV1",
        "k:{\"name\":\"a\"}",
        "v:1",
        "f:spec",
        ".",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f32>().prop_map(|f| json!(f)),
        prop::sample::select(vec![
            "a",
            "delete",
            "replace",
            "merge",
            "/spec/containers/-1",
            "add",
            "Apply",
            "FieldsV1"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..5)
                .prop_map(|m| Value::Object(m.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}
