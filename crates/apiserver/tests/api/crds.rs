//! Custom resources: from the definition to objects, versions, status, scale, names in conflict, and the end.

use std::time::Duration;

use serde_json::{Value, json};

use super::setup::*;

pub const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

fn definition(plural: &str, kind: &str) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.example.com")},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "shortNames": [&plural[..2]]},
            "versions": [
                {"name": "v1", "served": true, "storage": true,
                 "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n", "labelSelectorPath": ".status.sel"}},
                 "additionalPrinterColumns": [{"name": "Color", "type": "string", "jsonPath": ".spec.color"}],
                 "selectableFields": [{"jsonPath": ".spec.color"}],
                 "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["color"], "properties": {
                        "color": {"type": "string", "enum": ["red", "blue"]},
                        "n": {"type": "integer", "default": 1, "minimum": 0},
                        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}},
                    "status": {"type": "object", "properties": {"n": {"type": "integer"}, "sel": {"type": "string"}}}}}}},
                {"name": "v1beta1", "served": true, "storage": false,
                 "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
}

/// Asks until the answer is right.
pub async fn until(s: &Server, uri: &str, right: impl Fn(u16, &Value) -> bool) -> Value {
    for _ in 0..1000 {
        let (code, v) = s.get(uri).await;
        if right(code, &v) {
            return v;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{uri} never was as awaited: {:?}", s.get(uri).await)
}

pub fn condition<'a>(v: &'a Value, kind: &str) -> &'a Value {
    let all = v["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().find(|c| c["type"] == kind).unwrap_or(&Value::Null)
}

async fn define(s: &Server, plural: &str, kind: &str) {
    let (code, v) = s.post(CRDS, &definition(plural, kind)).await;
    assert_eq!(code, 201, "{v}");
    until(s, &format!("{CRDS}/{plural}.example.com"), |_, v| condition(v, "Established")["status"] == "True")
        .await;
    until(s, &format!("/apis/example.com/v1/namespaces/default/{plural}"), |code, _| code == 200).await;
}

fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn objects_are_pruned_defaulted_checked_and_kept() {
    let s = Server::start().await;
    assert_eq!(s.get(WIDGETS).await.0, 404);
    define(&s, "widgets", "Widget").await;
    let spec = json!({"color": "red", "unknown": 1, "free": {"any": ["thing"]}});
    let (code, v) = s.post(WIDGETS, &widget("a", spec)).await;
    assert_eq!(code, 201, "{v}");
    assert_eq!(v["spec"], json!({"color": "red", "n": 1, "free": {"any": ["thing"]}}));
    assert_eq!(v["metadata"]["generation"], 1);
    let (code, e) = s.post(WIDGETS, &widget("b", json!({"color": "green", "n": -1}))).await;
    assert_eq!(code, 422);
    let causes: Vec<&str> =
        e["details"]["causes"].as_array().into_iter().flatten().filter_map(|c| c["field"].as_str()).collect();
    assert_eq!(causes, ["spec.color", "spec.n"], "{e}");
    let (code, e) = s
        .call(
            "POST",
            &format!("{WIDGETS}?fieldValidation=Strict"),
            "application/json",
            &widget("b", json!({"color": "red", "x": 1})).to_string(),
        )
        .await;
    assert_eq!(code, 400, "{e}");
    assert!(e["message"].as_str().is_some_and(|m| m.contains("unknown field \"spec.x\"")), "{e}");

    // Status is written through its subresource only, and does not count as a change of the specification.
    let (_, v) = s.merge(&format!("{WIDGETS}/a"), &json!({"status": {"n": 5}})).await;
    assert!(v["status"]["n"].is_null(), "{v}");
    let (code, v) = s
        .merge(
            &format!("{WIDGETS}/a/status"),
            &json!({"status": {"n": 5, "sel": "a=b"}, "spec": {"color": "blue"}}),
        )
        .await;
    assert_eq!(
        (code, &v["status"]["n"], &v["spec"]["color"], &v["metadata"]["generation"]),
        (200, &json!(5), &json!("red"), &json!(1))
    );
    let (code, v) = s.get(&format!("{WIDGETS}/a/scale")).await;
    assert_eq!(
        (code, &v["spec"]["replicas"], &v["status"]),
        (200, &json!(1), &json!({"replicas": 5, "selector": "a=b"})),
        "{v}"
    );
    let (code, v) = s.merge(&format!("{WIDGETS}/a/scale"), &json!({"spec": {"replicas": 4}})).await;
    assert_eq!((code, &v["spec"]["replicas"]), (200, &json!(4)), "{v}");
    let (_, v) = s.get(&format!("{WIDGETS}/a")).await;
    assert_eq!((&v["spec"]["n"], &v["metadata"]["generation"]), (&json!(4), &json!(2)));

    // Another version shows the same objects.
    let (code, v) = s.get("/apis/example.com/v1beta1/namespaces/default/widgets/a").await;
    assert_eq!(
        (code, &v["apiVersion"], &v["spec"]["n"]),
        (200, &json!("example.com/v1beta1"), &json!(4)),
        "{v}"
    );
    let (_, v) = s.get(&format!("{WIDGETS}?fieldSelector=spec.color%3Dred")).await;
    assert_eq!(v["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(s.get(&format!("{WIDGETS}?fieldSelector=spec.n%3D4")).await.0, 400);
    let (code, e) =
        s.call("PATCH", &format!("{WIDGETS}/a"), "application/strategic-merge-patch+json", "{}").await;
    assert_eq!(code, 415, "{e}");
    let apply = format!("{WIDGETS}/c?fieldManager=m");
    let (code, v) = s
        .call(
            "PATCH",
            &apply,
            "application/apply-patch+yaml",
            &widget("c", json!({"color": "blue"})).to_string(),
        )
        .await;
    assert_eq!((code, &v["metadata"]["managedFields"][0]["manager"]), (201, &json!("m")), "{v}");

    // It is all there after a restart, and served from the first moment.
    let s = s.restart("10.96.0.0/16").await;
    assert_eq!(s.get(WIDGETS).await.1["items"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn names_in_conflict_wait_for_their_turn() {
    let s = Server::start().await;
    define(&s, "widgets", "Widget").await;
    let (code, _) = s.post(CRDS, &definition("wireworks", "Widget")).await;
    assert_eq!(code, 201);
    let second = format!("{CRDS}/wireworks.example.com");
    let v = until(&s, &second, |_, v| condition(v, "NamesAccepted")["status"] == "False").await;
    assert_eq!(condition(&v, "NamesAccepted")["message"], "\"widget\" is already in use");
    assert_eq!(condition(&v, "Established")["reason"], "NotAccepted");
    assert_eq!(s.get("/apis/example.com/v1/wireworks").await.0, 404);
    s.delete(&format!("{CRDS}/widgets.example.com"), &Value::Null).await;
    until(&s, &second, |_, v| condition(v, "Established")["status"] == "True").await;
    until(&s, "/apis/example.com/v1/wireworks", |code, _| code == 200).await;
}

#[tokio::test]
async fn the_end_of_a_definition_takes_its_objects_along() {
    let s = Server::start().await;
    define(&s, "widgets", "Widget").await;
    let mut held = widget("held", json!({"color": "red"}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    assert_eq!(s.post(WIDGETS, &held).await.0, 201);
    assert_eq!(s.post(WIDGETS, &widget("free", json!({"color": "red"}))).await.0, 201);
    let crd = format!("{CRDS}/widgets.example.com");
    let (code, v) = s.delete(&crd, &Value::Null).await;
    assert_eq!((code, &condition(&v, "Terminating")["status"]), (200, &json!("True")), "{v}");
    until(&s, &format!("{WIDGETS}/free"), |code, _| code == 404).await;
    let until_refused = || async {
        for _ in 0..1000 {
            let (code, e) = s.post(WIDGETS, &widget("late", json!({"color": "red"}))).await;
            if code == 405 {
                return e;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("new objects are still taken")
    };
    assert_eq!(
        until_refused().await["message"],
        "create not allowed while custom resource definition is terminating"
    );
    assert_eq!(s.get(&crd).await.0, 200);
    assert_eq!(s.merge(&format!("{WIDGETS}/held"), &json!({"metadata": {"finalizers": null}})).await.0, 200);
    until(&s, &crd, |code, _| code == 404).await;
    until(&s, WIDGETS, |code, _| code == 404).await;
    let (_, groups) = s.get("/apis").await;
    assert!(!groups.to_string().contains("example.com"));
}

#[tokio::test]
async fn a_changed_definition_is_served_changed() {
    let s = Server::start().await;
    define(&s, "widgets", "Widget").await;
    assert_eq!(s.post(WIDGETS, &widget("a", json!({"color": "red"}))).await.0, 201);
    let crd = format!("{CRDS}/widgets.example.com");
    let (_, mut v) = s.get(&crd).await;
    v["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["size"] =
        json!({"type": "string", "default": "big"});
    let (code, v) = s.put(&crd, &v).await;
    assert_eq!(code, 200, "{v}");
    // What was stored earlier is shown with the new default.
    until(&s, &format!("{WIDGETS}/a"), |_, v| v["spec"]["size"] == "big").await;
    let (code, list) = s.get("/openapi/v3/apis/example.com/v1").await;
    assert!(code == 200 && list.to_string().contains("\"size\""), "{list}");
    let (_, mut v) = s.get(&crd).await;
    v["spec"]["versions"][0]["storage"] = json!(false);
    v["spec"]["versions"][1]["storage"] = json!(true);
    let (code, v) = s.put(&crd, &v).await;
    assert_eq!((code, &v["status"]["storedVersions"]), (200, &json!(["v1", "v1beta1"])), "{v}");
    until(&s, &format!("{WIDGETS}/a"), |code, v| code == 200 && v["apiVersion"] == "example.com/v1").await;
}

#[tokio::test]
async fn rules_are_compiled_with_the_definition_and_kept_by_objects() {
    let s = Server::start().await;
    let at = |v: &mut Value, rules: Value| {
        v["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"] =
            rules;
    };
    let mut crd = definition("widgets", "Widget");
    at(&mut crd, json!([{"rule": "self.colour == 'red'"}]));
    let (code, e) = s.post(CRDS, &crd).await;
    let field = e["details"]["causes"][0]["field"].as_str().unwrap_or_default();
    assert_eq!(
        (code, field),
        (422, "spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule"),
        "{e}"
    );
    at(
        &mut crd,
        json!([{"rule": "self.color == oldSelf.color", "message": "color is immutable"},
            {"rule": "self.color != 'blue' || self.n < 3", "reason": "FieldValueForbidden", "fieldPath": ".n", "message": "blue is scarce"}]),
    );
    assert_eq!(s.post(CRDS, &crd).await.0, 201);
    until(&s, WIDGETS, |code, _| code == 200).await;
    let (code, e) = s.post(WIDGETS, &widget("a", json!({"color": "blue", "n": 3}))).await;
    let cause = &e["details"]["causes"][0];
    assert_eq!(
        (code, cause["field"].as_str(), cause["message"].as_str()),
        (422, Some("spec.n"), Some("Forbidden: blue is scarce")),
        "{e}"
    );
    assert_eq!(s.post(WIDGETS, &widget("a", json!({"color": "blue", "n": 2}))).await.0, 201);
    let (code, e) = s.merge(&format!("{WIDGETS}/a"), &json!({"spec": {"color": "red"}})).await;
    assert_eq!(
        (code, e["details"]["causes"][0]["message"].as_str()),
        (422, Some("Invalid value: \"object\": color is immutable")),
        "{e}"
    );
    assert_eq!(s.merge(&format!("{WIDGETS}/a"), &json!({"spec": {"n": 1}})).await.0, 200);
}
