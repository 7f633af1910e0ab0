//! The four kinds of patches.

use serde_json::{Value, json};

use super::setup::*;

const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

#[tokio::test]
async fn json_and_strategic() {
    let s = Server::start().await;
    let uri = format!("{DEPLOYMENTS}/d");
    s.post(DEPLOYMENTS, &deployment("d")).await;
    let ops = json!([{"op": "replace", "path": "/spec/replicas", "value": 4}]).to_string();
    let (code, v) = s.call("PATCH", &uri, "application/json-patch+json", &ops).await;
    assert_eq!((code, v["spec"]["replicas"].as_i64()), (200, Some(4)));
    let test = json!([{"op": "test", "path": "/spec/replicas", "value": 9}]).to_string();
    assert_eq!(s.call("PATCH", &uri, "application/json-patch+json", &test).await.0, 422);
    let sidecar =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "s", "image": "i:2"}]}}}}).to_string();
    let names = |v: &Value| {
        let all = v["spec"]["template"]["spec"]["containers"].as_array().expect("list");
        all.iter().map(|c| c["name"].clone()).collect::<Vec<_>>()
    };
    let (code, v) = s.call("PATCH", &uri, STRATEGIC, &sidecar).await;
    assert_eq!((code, names(&v)), (200, vec![json!("s"), json!("c")]));
    let gone = json!({"spec": {"template": {"spec": {"containers": [{"name": "s", "$patch": "delete"}]}}}});
    let (code, v) = s.call("PATCH", &uri, STRATEGIC, &gone.to_string()).await;
    assert_eq!((code, names(&v)), (200, vec![json!("c")]));
    assert_eq!(s.call("PATCH", &uri, "text/plain", "{}").await.0, 415);
    assert_eq!(s.call("PATCH", &uri, STRATEGIC, "{").await.0, 400);
    let old = json!({"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 1}});
    assert_eq!(s.merge(&uri, &old).await.0, 409);
    assert_eq!(s.merge(&format!("{DEPLOYMENTS}/none"), &json!({})).await.0, 404);
}

#[tokio::test]
async fn apply_makes_owns_and_conflicts() {
    let s = Server::start().await;
    let uri = |manager: &str, more: &str| format!("{DEPLOYMENTS}/d?fieldManager={manager}{more}");
    let mut d = deployment("d");
    d["spec"]["replicas"] = json!(2);
    let (code, v) = s.call("PATCH", &uri("one", ""), APPLY, &d.to_string()).await;
    assert_eq!(code, 201, "{v}");
    assert_eq!(v["metadata"]["managedFields"][0]["manager"], "one");
    assert_eq!(v["metadata"]["managedFields"][0]["operation"], "Apply");
    let (code, same) = s.call("PATCH", &uri("one", ""), APPLY, &d.to_string()).await;
    assert_eq!((code, &same), (200, &v));
    d["spec"]["replicas"] = json!(5);
    let (code, e) = s.call("PATCH", &uri("two", ""), APPLY, &d.to_string()).await;
    assert_eq!((code, e["details"]["causes"][0]["field"].as_str()), (409, Some(".spec.replicas")), "{e}");
    let (code, v) = s.call("PATCH", &uri("two", "&force=true"), APPLY, &d.to_string()).await;
    assert_eq!((code, v["spec"]["replicas"].as_i64()), (200, Some(5)));
    // An owner that stops naming a field gives it up.
    d["spec"].as_object_mut().expect("spec").remove("replicas");
    let (code, v) = s.call("PATCH", &uri("two", ""), APPLY, &d.to_string()).await;
    assert_eq!((code, v["spec"]["replicas"].as_i64()), (200, Some(1)));
    assert_eq!(s.call("PATCH", &format!("{DEPLOYMENTS}/d"), APPLY, &d.to_string()).await.0, 422);
    let (code, _) = s.call("PATCH", &uri("one", "&force=true"), "application/merge-patch+json", "{}").await;
    assert_eq!(code, 422);
}

#[tokio::test]
async fn ordinary_writes_are_tracked() {
    let s = Server::start().await;
    s.post(&format!("{DEPLOYMENTS}?fieldManager=maker"), &deployment("d")).await;
    let (_, v) =
        s.merge(&format!("{DEPLOYMENTS}/d?fieldManager=scaler"), &json!({"spec": {"replicas": 3}})).await;
    let managers: Vec<_> = v["metadata"]["managedFields"]
        .as_array()
        .expect("list")
        .iter()
        .map(|m| m["manager"].clone())
        .collect();
    assert!(managers.contains(&json!("maker")) && managers.contains(&json!("scaler")), "{managers:?}");
}

#[tokio::test]
async fn unknown_fields() {
    let s = Server::start().await;
    let bad = json!({"metadata": {"name": "x"}, "nope": 1});
    let (code, e) = s.post(&format!("{CMS}?fieldValidation=Strict"), &bad).await;
    assert_eq!(code, 400);
    assert!(e["message"].as_str().is_some_and(|m| m.contains("unknown field \"nope\"")), "{e}");
    assert_eq!(s.post(&format!("{CMS}?fieldValidation=Ignore"), &bad).await.0, 201);
    assert_eq!(s.post(&format!("{CMS}?fieldValidation=Foo"), &bad).await.0, 422);
}
