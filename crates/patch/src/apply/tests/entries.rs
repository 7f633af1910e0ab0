//! `managedFields` as a list: times, order, resets, caps, versions, annotations, filters.

use super::*;
use crate::Error;

fn manager<'a>(versions: &'a dyn Versions) -> FieldManager<'a> {
    FieldManager { versions, api_version: "v1", kind: "Thing", subresource: "", filter: None }
}

fn with_uid(mut v: Value) -> Value {
    v["metadata"]["uid"] = json!("u");
    v
}

#[test]
fn an_entry_in_full() {
    let v = one();
    let m = FieldManager { subresource: "status", ..manager(&v) };
    let a = m.apply(None, &object(&json!({"string": "a"})), "me", false, NOW).unwrap();
    assert!(a.changed);
    assert_eq!(
        a.object["metadata"]["managedFields"],
        json!([{"manager": "me", "operation": "Apply", "apiVersion": "v1", "time": NOW, "fieldsType": "FieldsV1",
                "fieldsV1": {"f:string": {}}, "subresource": "status"}])
    );
    let u = m.update(None, object(&json!({"string": "a"})), "", NOW);
    assert_eq!(u["metadata"]["managedFields"][0]["manager"], "unknown");
    assert_eq!(u["metadata"]["managedFields"][0]["operation"], "Update");
}

#[test]
fn nothing_changes_when_nothing_changes() {
    let v = one();
    let m = manager(&v);
    let config = object(&json!({"string": "a", "items": [{"name": "x", "value": 1}], "map": {"k": "v"}}));
    let first = with_uid(m.apply(None, &config, "me", false, NOW).unwrap().object);
    let again = m.apply(Some(&first), &config, "me", false, "2030-01-01T00:00:00Z").unwrap();
    assert_eq!(again, Applied { object: first.clone(), changed: false });
    let updated = m.update(Some(&first), first.clone(), "other", "2030-01-01T00:00:00Z");
    assert_eq!(updated, first);
    // A client that knows nothing of managedFields does not erase them.
    let mut ignorant = first.clone();
    ignorant["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(m.update(Some(&first), ignorant, "other", "2030-01-01T00:00:00Z"), first);
}

#[test]
fn times_move_only_for_who_acted() {
    let v = one();
    let m = manager(&v);
    let a = with_uid(
        m.apply(None, &object(&json!({"string": "a"})), "a", false, "2026-01-01T00:00:01Z").unwrap().object,
    );
    let mut new = a.clone();
    new["numeric"] = json!(1);
    let b = m.update(Some(&a), new, "b", "2026-01-01T00:00:02Z");
    let entries = b["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(
        (entries[0]["time"].as_str(), entries[1]["time"].as_str()),
        (Some("2026-01-01T00:00:01Z"), Some("2026-01-01T00:00:02Z"))
    );
    // Taking part in what is already so changes no object, and so has no time.
    let c = m.apply(Some(&b), &object(&json!({"numeric": 1})), "c", false, "2026-01-01T00:00:03Z").unwrap();
    assert!(!c.changed);
    assert_eq!(owners(&c.object)["c"], json!({"f:numeric": {}}));
}

#[test]
fn writes_that_only_move_times_keep_them() {
    let entry = |t: &str| {
        json!({"manager": "a", "operation": "Update", "apiVersion": "v1", "time": t,
        "fieldsType": "FieldsV1", "fieldsV1": {"f:string": {}}})
    };
    let old = json!({"metadata": {"resourceVersion": "1", "managedFields": [entry("1")]}, "string": "a"});
    let mut new = json!({"metadata": {"resourceVersion": "2", "managedFields": [entry("2")]}, "string": "a"});
    keep_times_if_unchanged(&old, &mut new);
    assert_eq!(new["metadata"]["managedFields"], json!([entry("1")]));
    let mut new = json!({"metadata": {"managedFields": [entry("2")]}, "string": "b"});
    keep_times_if_unchanged(&old, &mut new);
    assert_eq!(new["metadata"]["managedFields"], json!([entry("2")]));
}

#[test]
fn clients_may_forget_and_rewrite_owners() {
    let v = one();
    let m = manager(&v);
    let live = with_uid(m.update(None, object(&json!({"string": "a"})), "u", NOW));
    for reset in [json!([]), json!([{}])] {
        let mut new = live.clone();
        new["metadata"]["managedFields"] = reset;
        let after = m.update(Some(&live), new.clone(), "u", NOW);
        assert!(managed_fields(&after).is_none());
        // Not at a subresource.
        let status = FieldManager { subresource: "status", ..m };
        assert_eq!(managed_fields(&status.update(Some(&live), new, "u", NOW)), managed_fields(&live));
    }
    let mut renamed = live.clone();
    renamed["metadata"]["managedFields"][0]["manager"] = json!("v");
    assert_eq!(owners(&m.update(Some(&live), renamed, "u", NOW)), json!({"v": {"f:string": {}}}));
    for broken in [
        json!([{"manager": "x"}, {}]),
        json!([{"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV2"}]),
        json!([{"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"bad": {}}}]),
        json!("junk"),
    ] {
        let mut new = live.clone();
        new["metadata"]["managedFields"] = broken;
        assert_eq!(owners(&m.update(Some(&live), new, "u", NOW)), json!({"u": {"f:string": {}}}));
    }
}

#[test]
fn objects_without_owners_are_tracked_from_the_first_apply_on() {
    let v = one();
    let m = manager(&v);
    let bare = with_uid(object(&json!({"string": "a", "numeric": 1})));
    let mut new = bare.clone();
    new["string"] = json!("b");
    let updated = m.update(Some(&bare), new.clone(), "u", NOW);
    assert!(managed_fields(&updated).is_none());
    let e = m.apply(Some(&updated), &object(&json!({"string": "c"})), "a", false, NOW).unwrap_err();
    assert_eq!(
        e.to_string(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .string"
    );
    let a = m.apply(Some(&updated), &object(&json!({"string": "c"})), "a", true, NOW).unwrap();
    assert_eq!(owners(&a.object), json!({"a": {"f:string": {}}, "before-first-apply": {"f:numeric": {}}}));
}

#[test]
fn bookkeeping_is_nobodys() {
    let v = one();
    let m = manager(&v);
    let mut new = object(&json!({"string": "a"}));
    new["metadata"] = json!({"name": "x", "namespace": "n", "uid": "u", "creationTimestamp": NOW, "generation": 1,
        "resourceVersion": "1", "selfLink": "s", "labels": {"a": "b"}, "finalizers": ["f"]});
    assert_eq!(
        owners(&m.update(None, new, "u", NOW)),
        json!({"u": {"f:string": {}, "f:metadata": {"f:finalizers": {".": {}, "v:\"f\"": {}},
            "f:labels": {".": {}, "f:a": {}}}}})
    );
}

#[test]
fn old_writers_are_folded() {
    let v = one();
    let m = manager(&v);
    let mut live =
        with_uid(m.update(None, object(&json!({"map": {"k0": "v"}})), "u0", "2026-01-01T00:00:00Z"));
    for i in 1..=12 {
        let mut new = live.clone();
        new["map"][format!("k{i}")] = json!("v");
        live = m.update(Some(&live), new, &format!("u{i}"), &format!("2026-01-01T00:00:{i:02}Z"));
    }
    let entries = live["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 10);
    assert_eq!(entries[0]["manager"], "ancient-changes");
    assert_eq!(entries[0]["fieldsV1"]["f:map"].as_object().unwrap().len(), 5);
    assert_eq!(entries[0]["time"], "2026-01-01T00:00:03Z");
    assert_eq!(entries[9]["manager"], "u12");
}

#[test]
fn conflicts_in_words() {
    let v = one();
    let m = manager(&v);
    let live = with_uid(m.update(
        None,
        object(&json!({"string": "a", "numeric": 1})),
        "kubectl-client-side-apply",
        NOW,
    ));
    let status = FieldManager { subresource: "status", ..m };
    let live =
        status.apply(Some(&live), &object(&json!({"bool": true})), "other", false, NOW).unwrap().object;
    let one = m.apply(Some(&live), &object(&json!({"string": "b"})), "me", false, NOW).unwrap_err();
    let s = api::Status::from(one);
    assert_eq!(s.code, 409);
    assert_eq!(
        s.message,
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using v1: .string"
    );
    assert_eq!(
        s.causes,
        [api::Cause {
            reason: "FieldManagerConflict".into(),
            message: "conflict with \"kubectl-client-side-apply\" using v1".into(),
            field: ".string".into()
        }]
    );
    let many = m
        .apply(Some(&live), &object(&json!({"string": "b", "numeric": 2, "bool": false})), "me", false, NOW)
        .unwrap_err();
    assert_eq!(
        many.to_string(),
        "Apply failed with 3 conflicts: conflicts with \"kubectl-client-side-apply\" using v1:\n- .numeric\n- .string\n\
         conflicts with \"other\" with subresource \"status\":\n- .bool"
    );
}

#[test]
fn requests_that_make_no_sense() {
    let v = one();
    let m = manager(&v);
    let apply = |c: Value| m.apply(None, &c, "me", false, NOW).unwrap_err();
    let bad = |m: &str| Error::BadRequest(m.into());
    assert_eq!(
        apply(json!({"apiVersion": "v2", "kind": "Thing"})),
        bad("invalid object type: /v2, Kind=Thing")
    );
    assert_eq!(
        apply(json!({"apiVersion": "apps/v1", "kind": "X"})),
        bad("invalid object type: apps/v1, Kind=X")
    );
    assert!(matches!(apply(json!([])), Error::BadRequest(_)));
    let mut c = object(&json!({}));
    c["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    assert_eq!(apply(c), bad("metadata.managedFields must be nil"));
    let mut live = with_uid(object(&json!({})));
    live["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "Delete"}]);
    let e = m.apply(Some(&live), &object(&json!({})), "me", false, NOW).unwrap_err();
    assert_eq!(e.to_string(), "failed to decode managed fields: operation must be `Apply` or `Update`");
}

/// `v2` calls `string` `text`; `v3` is not known any more.
struct Renamed;
impl Versions for Renamed {
    fn ty(&self, api_version: &str) -> Option<Type<'_>> {
        match api_version {
            "v1" => Some(thing()),
            "v2" => Some(Type::DEDUCED),
            _ => None,
        }
    }
    fn convert(&self, object: &Value, from: &str, to: &str) -> Result<Value, String> {
        let (was, is) = match (from, to) {
            ("v1", "v2") => ("string", "text"),
            ("v2", "v1") => ("text", "string"),
            _ => return Err("unknown version".into()),
        };
        let mut out = object.clone();
        out["apiVersion"] = to.into();
        if let Some(v) = out.as_object_mut().and_then(|m| m.remove(was)) {
            out[is] = v;
        }
        Ok(out)
    }
}

#[test]
fn owners_of_other_versions() {
    let v1 = manager(&Renamed);
    let v2 = FieldManager { api_version: "v2", ..v1 };
    let text = |s: &str| json!({"apiVersion": "v2", "kind": "Thing", "metadata": {"name": "x"}, "text": s});
    let in_v1 = |mut v: Value| {
        v = Renamed.convert(&v, "v2", "v1").unwrap();
        with_uid(v)
    };
    let live = in_v1(v2.apply(None, &text("a"), "old", false, NOW).unwrap().object);
    assert_eq!(live["metadata"]["managedFields"][0]["apiVersion"], "v2");
    assert_eq!(owners(&live), json!({"old": {"f:text": {}}}));

    let e = v1.apply(Some(&live), &object(&json!({"string": "b"})), "new", false, NOW).unwrap_err();
    assert!(e.to_string().ends_with(".text"), "the conflict is told in the owner's version: {e}");
    let shared = v1.apply(Some(&live), &object(&json!({"string": "a"})), "new", false, NOW).unwrap().object;
    assert_eq!(owners(&shared), json!({"new": {"f:string": {}}, "old": {"f:text": {}}}));

    // The old applier moves to v1 and lets go; the other one still owns it.
    let kept = v1.apply(Some(&shared), &object(&json!({"numeric": 1})), "old", false, NOW).unwrap().object;
    assert_eq!(own_fields(&kept), json!({"string": "a", "numeric": 1}));
    let gone = v1.apply(Some(&kept), &object(&json!({})), "new", false, NOW).unwrap().object;
    assert_eq!(own_fields(&gone), json!({"numeric": 1}));

    // Alone, moving to v1 and letting go removes the field.
    let alone = v1.apply(Some(&live), &object(&json!({"numeric": 1})), "old", false, NOW).unwrap().object;
    assert_eq!(own_fields(&alone), json!({"numeric": 1}));
    assert_eq!(owners(&alone), json!({"old": {"f:numeric": {}}}));

    let mut ancient = live.clone();
    ancient["metadata"]["managedFields"][0]["apiVersion"] = json!("v3");
    let after = v1.apply(Some(&ancient), &object(&json!({"string": "z"})), "new", false, NOW).unwrap().object;
    assert_eq!(owners(&after), json!({"new": {"f:string": {}}}));
}

#[test]
fn from_client_side_to_server_side() {
    let v = one();
    let m = manager(&v);
    let note = last_applied::ANNOTATION;
    let client_side = |fields: Value, last: &Value| {
        let mut o = object(&fields);
        o["metadata"]["annotations"] = json!({note: last.to_string()});
        o
    };
    let last = object(&json!({"string": "a", "numeric": 1}));
    let live = with_uid(m.update(
        None,
        client_side(json!({"string": "a", "numeric": 1, "bool": true}), &last),
        "kubectl-client-side-apply",
        NOW,
    ));
    // What the annotation vouches for is kubectl's to change without force, and the annotation follows.
    let config = object(&json!({"string": "b", "numeric": 1}));
    let out = m.apply(Some(&live), &config, "kubectl", false, NOW).unwrap().object;
    assert_eq!(out["string"], "b");
    assert_eq!(out["metadata"]["annotations"][note], json!(format!("{config}\n")));
    // The rest is not, and neither is anything for another manager.
    let e = m
        .apply(Some(&live), &object(&json!({"string": "b", "bool": false})), "kubectl", false, NOW)
        .unwrap_err();
    assert!(e.to_string().contains("1 conflict") && e.to_string().ends_with(".bool"), "{e}");
    assert!(m.apply(Some(&live), &config, "argo", false, NOW).is_err());

    let entries = live["metadata"]["managedFields"].clone();
    let moved = csa::upgrade(&entries, &["kubectl-client-side-apply"], "kubectl", "").unwrap().unwrap();
    assert_eq!(moved[0]["operation"], "Apply");
    assert_eq!(moved[0]["fieldsV1"], entries[0]["fieldsV1"]);
    assert_eq!(csa::upgrade(&moved, &["kubectl-client-side-apply"], "kubectl", ""), Ok(None));
}

#[test]
fn filtered_fields_are_nobodys_and_not_taken() {
    let v = one();
    let status = Filter::exclude(&[&["struct"]]);
    let main = FieldManager { filter: Some(&status), ..manager(&v) };
    let fields = json!({"string": "a", "struct": {"name": "n", "inner": {"a": "1"}}});
    assert_eq!(owners(&main.update(None, object(&fields), "u", NOW)), json!({"u": {"f:string": {}}}));
    assert_eq!(
        owners(&main.apply(None, &object(&fields), "u", false, NOW).unwrap().object),
        json!({"u": {"f:string": {}}})
    );
    // Somebody owns it through another endpoint: no conflict, no loss.
    let other = FieldManager { subresource: "status", ..manager(&v) };
    let live = with_uid(other.update(None, object(&json!({"struct": {"name": "n"}})), "ctl", NOW));
    let out = main
        .apply(Some(&live), &object(&json!({"struct": {"name": "z"}, "string": "s"})), "u", false, NOW)
        .unwrap();
    assert_eq!(
        owners(&out.object),
        json!({"u": {"f:string": {}}, "ctl": {"f:struct": {".": {}, "f:name": {}}}})
    );
}
