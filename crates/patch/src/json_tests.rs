//! Tables for JSON patch.

use super::*;
use serde_json::json;

#[test]
fn applies() {
    for (doc, ops, want) in [
        (json!({"a": 1}), json!([{"op": "add", "path": "/b", "value": [1]}]), json!({"a": 1, "b": [1]})),
        (json!({"a": [1, 3]}), json!([{"op": "add", "path": "/a/1", "value": 2}]), json!({"a": [1, 2, 3]})),
        (json!({"a": [1]}), json!([{"op": "add", "path": "/a/-", "value": 2}]), json!({"a": [1, 2]})),
        (json!({"a": [1, 2]}), json!([{"op": "remove", "path": "/a/-1"}]), json!({"a": [1]})),
        (json!({"a": [1, 2]}), json!([{"op": "replace", "path": "/a/0", "value": 9}]), json!({"a": [9, 2]})),
        (json!({"a": 1}), json!([{"op": "replace", "path": "/new", "value": 2}]), json!({"a": 1, "new": 2})),
        (json!({"a": {"x/y": 1}}), json!([{"op": "remove", "path": "/a/x~1y"}]), json!({"a": {}})),
        (json!({"a~b": 1}), json!([{"op": "move", "from": "/a~0b", "path": "/c"}]), json!({"c": 1})),
        (
            json!({"a": {"b": 1}}),
            json!([{"op": "copy", "from": "/a", "path": "/c"}]),
            json!({"a": {"b": 1}, "c": {"b": 1}}),
        ),
        (json!({"a": null}), json!([{"op": "test", "path": "/a", "value": null}]), json!({"a": null})),
        (json!({}), json!([{"op": "test", "path": "/a", "value": null}]), json!({})),
        (
            json!({"a": 1}),
            json!([{"op": "test", "path": "/a", "value": 1}, {"op": "remove", "path": "/a"}]),
            json!({}),
        ),
        (json!({"a": 1}), json!([]), json!({"a": 1})),
    ] {
        assert_eq!(json_patch(&doc, &ops), Ok(want), "{ops}");
    }
}

#[test]
fn does_not_apply() {
    let doc = json!({"a": {"b": [1]}, "s": "x"});
    for (op, want) in [
        (json!({"op": "test", "path": "/s", "value": "y"}), "testing value /s failed: test failed"),
        (
            json!({"op": "remove", "path": "/x"}),
            "error in remove for path: '/x': Unable to remove nonexistent key: x: missing value",
        ),
        (
            json!({"op": "remove", "path": "/x/y"}),
            "remove operation does not apply: doc is missing path: \"/x/y\": missing value",
        ),
        (
            json!({"op": "add", "path": "/x/y", "value": 1}),
            "add operation does not apply: doc is missing path: \"/x/y\": missing value",
        ),
        (
            json!({"op": "add", "path": "", "value": 1}),
            "add operation does not apply: doc is missing path: \"\": missing value",
        ),
        (
            json!({"op": "add", "path": "/s/y", "value": 1}),
            "add operation does not apply: doc is missing path: \"/s/y\": missing value",
        ),
        (
            json!({"op": "replace", "path": "/x/y", "value": 1}),
            "replace operation does not apply: doc is missing path: /x/y: missing value",
        ),
        (
            json!({"op": "replace", "path": "/a/b/7", "value": 1}),
            "replace operation does not apply: doc is missing key: /a/b/7: missing value",
        ),
        (
            json!({"op": "add", "path": "/a/b/7", "value": 1}),
            "error in add for path: '/a/b/7': Unable to access invalid index: 7: invalid index referenced",
        ),
        (
            json!({"op": "add", "path": "/a/b/x", "value": 1}),
            "error in add for path: '/a/b/x': value was not a proper array index: 'x': strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        (
            json!({"op": "remove", "path": "/a/b/-3"}),
            "error in remove for path: '/a/b/-3': Unable to access invalid index: -3: invalid index referenced",
        ),
        (
            json!({"op": "move", "from": "/x", "path": "/y"}),
            "error in move for path: 'x': Unable to remove nonexistent key: x: missing value",
        ),
        (json!({"op": "frobnicate", "path": "/y"}), "Unexpected kind: frobnicate"),
        (
            json!({"op": "remove"}),
            "remove operation failed to decode path: operation missing path field: missing value",
        ),
    ] {
        assert_eq!(json_patch(&doc, &json!([op])), Err(Error::Unprocessable(want.into())), "{op}");
    }
}

#[test]
fn malformed() {
    for bad in [json!({}), json!([1]), json!([{"op": 1}]), json!("x"), json!(null)] {
        assert!(matches!(JsonPatch::from_value(&bad), Err(Error::BadRequest(_))), "{bad}");
    }
    assert!(matches!(JsonPatch::parse(b"[{"), Err(Error::BadRequest(_))));
}

#[test]
fn limits() {
    let many = |n| Value::Array(vec![json!({"op": "test", "path": "/a", "value": 1}); n]);
    assert!(json_patch(&json!({"a": 1}), &many(MAX_OPERATIONS)).is_ok());
    let e = json_patch(&json!({"a": 1}), &many(MAX_OPERATIONS + 1)).unwrap_err();
    assert_eq!(api::Status::from(e.clone()).code, 413);
    assert!(e.to_string().ends_with("The allowed maximum operations in a JSON patch is 10000, got 10001"));

    // Doubling by copy runs into the limit long before memory does.
    let ops: Vec<Value> =
        (0..40).map(|i| json!({"op": "copy", "from": "", "path": format!("/a/{i}")})).collect();
    assert!(json_patch(&json!({"a": {}}), &Value::Array(ops)).is_err());
    let mut ops = vec![];
    for i in 0..30 {
        ops.push(json!({"op": "copy", "from": "/a", "path": format!("/b/{i}")}));
        ops.push(json!({"op": "copy", "from": "/b", "path": format!("/a/{i}")}));
    }
    let e = json_patch(&json!({"a": {"x": "y"}, "b": {}}), &Value::Array(ops)).unwrap_err();
    assert!(e.to_string().contains("exceeding the limit 3145728"), "{e}");
}

#[test]
fn unknown_fields_are_named() {
    let p = JsonPatch::from_value(&json!([{"op": "remove", "path": "/a", "foo": 1}])).unwrap();
    assert_eq!(p.unknown_fields, ["json patch unknown field \"[0].foo\""]);
    assert_eq!(p.len(), 1);
}
