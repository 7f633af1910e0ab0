//! Patches that do not fit.

use serde_json::json;

use super::*;

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

impl Bench {
    fn patch(&self, path: &str, media: &str, body: &str) -> Answer {
        self.http.send("PATCH", path, &[("content-type", media)], body.as_bytes())
    }
}

#[test]
fn patches_that_do_not_fit() {
    let mut b = Bench::start();
    let first = b.config_map("a");
    let a_path = format!("{CMS}/a");
    let a = b.patch(&a_path, "application/json", "{}");
    b.check("media type", &a, 415, "UnsupportedMediaType", "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml");
    for (media, body, why) in [
        (JSON_PATCH, "{broken", "invalid JSON patch"),
        (
            JSON_PATCH,
            "{}",
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        (MERGE, "[1", "invalid JSON patch"),
        (
            MERGE,
            "[1]",
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        (STRATEGIC, "[]", "json: cannot unmarshal array into Go value of type map[string]interface {}"),
    ] {
        let a = b.patch(&a_path, media, body);
        b.check(&format!("{media} {body}"), &a, 400, "BadRequest", why);
    }
    let a = b.patch(&format!("{a_path}?fieldManager=m"), APPLY, "a: [");
    b.check("apply that is no YAML", &a, 400, "BadRequest", "error encoding patch: yaml: …");
    let rejected = "the server rejected our request due to an error in our request";
    for op in [
        json!([{"op": "test", "path": "/data/k", "value": "other"}]),
        json!([{"op": "remove", "path": "/data/none"}]),
        json!([{"op": "replace", "path": "/spec/none", "value": 1}]),
        json!([{"op": "move", "from": "/data/none", "path": "/data/x"}]),
        json!([{"op": "jump", "path": "/data/k"}]),
        json!([{"op": "add", "path": "nowhere", "value": 1}]),
    ] {
        let a = b.patch(&a_path, JSON_PATCH, &op.to_string());
        b.check(&op.to_string(), &a, 422, "Invalid", rejected);
    }
    let many = json!(vec![json!({"op": "test", "path": "/data/k", "value": "v"}); 10_001]);
    let a = b.patch(&a_path, JSON_PATCH, &many.to_string());
    b.check(
        "10001 operations",
        &a,
        413,
        "RequestEntityTooLarge",
        "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001",
    );
    let a = b.patch(&format!("{CMS}/none"), MERGE, "{}");
    b.check("patch of nothing", &a, 404, "NotFound", "configmaps \"none\" not found");
    let a = b.patch(&a_path, MERGE, r#"{"metadata":{"resourceVersion":"1"}}"#);
    b.check("stale", &a, 409, "Conflict", "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again");
    let a = b.patch(&a_path, MERGE, r#"{"metadata":{"name":"b"}}"#);
    b.check(
        "rename",
        &a,
        400,
        "BadRequest",
        "the name of the object (b) does not match the name on the URL (a)",
    );
    let a = b.patch(&a_path, MERGE, r#"{"metadata":{"uid":"x"}}"#);
    b.check(
        "another uid",
        &a,
        409,
        "Conflict",
        "Operation cannot be fulfilled on configmaps \"a\": StorageError: invalid object, Code: 4, …",
    );
    let a = b.patch(&format!("{a_path}?force=true"), MERGE, "{}");
    b.check("force", &a, 422, "Invalid", "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch");
    let a = b.patch(&a_path, APPLY, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n");
    b.check(
        "apply without a manager",
        &a,
        422,
        "Invalid",
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
    );
    // What comes out must still be an object of the kind.
    let a = b.patch(&a_path, MERGE, r#"{"data":{"k":5}}"#);
    b.check("types", &a, 422, "Invalid", " \"\" is invalid: patch: Invalid value: \"{…");
    assert!(
        a.message()
            .ends_with("json: cannot unmarshal number into Go struct field ConfigMap.data of type string"),
        "{}",
        a.message()
    );
    b.equal("types' cause", &a.json()["details"]["causes"][0]["field"], json!("patch"));
    let a = b.patch(&a_path, JSON_PATCH, r#"[{"op":"replace","path":"/data","value":"x"}]"#);
    b.check("types by JSON patch", &a, 422, "Invalid", " \"\" is invalid: patch: Invalid value: \"{…");
    let a = b.patch(&a_path, STRATEGIC, r#"{"data":{"k":5}}"#);
    b.check(
        "types by strategic merge",
        &a,
        422,
        "Invalid",
        " \"\" is invalid: patch: Invalid value: \"map[data:map[k:5]]\": cannot convert int64 to string",
    );
    let a = b.patch(&format!("{a_path}?fieldValidation=Strict"), MERGE, r#"{"nonsense":1}"#);
    b.check("strict", &a, 422, "Invalid", " \"\" is invalid: patch: Invalid value: \"{…");
    assert!(a.message().ends_with("strict decoding error: unknown field \"nonsense\""), "{}", a.message());
    let a = b.patch(&format!("{a_path}?fieldValidation=Strict"), MERGE, r#"{"data":{"k":"1","k":"2"}}"#);
    b.check("strict duplicates", &a, 422, "Invalid", " \"\" is invalid: patch: Invalid value: \"{…");
    assert!(a.message().ends_with("strict decoding error: duplicate field \"data.k\""), "{}", a.message());
    let a = b.patch(&format!("{a_path}?dryRun=All"), MERGE, r#"{"nonsense":1}"#);
    assert_eq!(
        (a.code, a.all("warning")),
        (200, vec!["299 - \"unknown field \\\"nonsense\\\"\""]),
        "{}",
        a.text()
    );
    let a = b.patch(
        &format!("{a_path}?fieldValidation=Strict"),
        JSON_PATCH,
        r#"[{"op":"add","path":"/data/z","value":"1","extra":1}]"#,
    );
    b.check("strict JSON patch", &a, 422, "Invalid", " \"\" is invalid: patch: Invalid value: \"{…");
    assert!(
        a.message().ends_with("strict decoding error: json patch unknown field \"[0].extra\""),
        "{}",
        a.message()
    );

    // Immutable.
    assert_eq!(b.patch(&a_path, MERGE, r#"{"immutable":true}"#).code, 200);
    let a = b.patch(&a_path, MERGE, r#"{"data":{"k":"w"}}"#);
    b.check(
        "immutable",
        &a,
        422,
        "Invalid",
        "ConfigMap \"a\" is invalid: data: Forbidden: field is immutable when `immutable` is set",
    );
    assert_eq!(first["data"]["k"], b.http.get(&a_path).json()["data"]["k"]);

    // Ownership.
    let dep = format!("{DEPLOYMENTS}/d");
    let applied = |manager: &str, replicas: i32| {
        let mut v = deployment("d");
        v["spec"]["replicas"] = json!(replicas);
        b.patch(&format!("{dep}?fieldManager={manager}"), APPLY, &v.to_string())
    };
    assert_eq!(applied("one", 1).code, 201);
    let a = applied("two", 2);
    b.check(
        "conflict",
        &a,
        409,
        "Conflict",
        "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas",
    );
    b.equal(
        "conflict's cause",
        &a.json()["details"],
        json!({"causes": [
        {"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".spec.replicas"}]}),
    );
    let a = b.patch(
        &format!("{dep}?fieldManager=one"),
        APPLY,
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {selector: {matchLabels: {a: c}}}",
    );
    b.check("selector", &a, 422, "Invalid", "Deployment.apps \"d\" is invalid: …");
    b.end();
}
