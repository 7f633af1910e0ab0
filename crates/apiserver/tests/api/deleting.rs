//! Deletion: preconditions, finalizers, propagation, collections, namespaces.

use serde_json::json;

use super::setup::*;

#[tokio::test]
async fn preconditions() {
    let s = Server::start().await;
    let o = s.config_map("a", json!({})).await;
    let uri = format!("{CMS}/a");
    let (code, e) = s.delete(&uri, &json!({"preconditions": {"uid": "x"}})).await;
    assert_eq!(code, 409);
    assert!(
        e["message"].as_str().is_some_and(|m| m.contains("the UID in the precondition (x) does not match"))
    );
    assert_eq!(s.delete(&uri, &json!({"preconditions": {"resourceVersion": "1"}})).await.0, 409);
    assert_eq!(s.delete(&uri, &json!({"propagationPolicy": "Foo"})).await.0, 422);
    let (code, v) = s.delete(&uri, &json!({"preconditions": {"uid": o.uid()}})).await;
    assert_eq!(
        (code, v["status"].as_str(), v["details"]["uid"].as_str()),
        (200, Some("Success"), Some(o.uid()))
    );
    assert_eq!(s.delete(&uri, &json!(null)).await.0, 404);
}

#[tokio::test]
async fn finalizers_hold_an_object_and_their_removal_frees_it() {
    let s = Server::start().await;
    let uri = format!("{CMS}/f");
    s.post(CMS, &json!({"metadata": {"name": "f", "finalizers": ["example.com/x"]}})).await;
    let (code, v) = s.delete(&uri, &json!(null)).await;
    assert_eq!((code, v["metadata"]["deletionGracePeriodSeconds"].as_i64()), (200, Some(0)));
    let at = v["metadata"]["deletionTimestamp"].clone();
    assert_eq!(s.delete(&uri, &json!(null)).await.1["metadata"]["deletionTimestamp"], at);
    // It cannot be made undone, and no finalizer comes on top.
    let (_, v) = s.merge(&uri, &json!({"metadata": {"deletionTimestamp": null}})).await;
    assert_eq!(v["metadata"]["deletionTimestamp"], at);
    let more = json!({"metadata": {"finalizers": ["example.com/x", "example.com/y"]}});
    assert_eq!(s.merge(&uri, &more).await.0, 422);
    assert_eq!(s.merge(&uri, &json!({"metadata": {"finalizers": []}})).await.0, 200);
    assert_eq!(s.get(&uri).await.0, 404);
}

#[tokio::test]
async fn propagation_becomes_finalizers() {
    let s = Server::start().await;
    for (name, policy, finalizer) in [("f", "Foreground", "foregroundDeletion"), ("o", "Orphan", "orphan")] {
        s.post(DEPLOYMENTS, &deployment(name)).await;
        s.delete(&format!("{DEPLOYMENTS}/{name}"), &json!({"propagationPolicy": policy})).await;
        let (_, v) = s.get(&format!("{DEPLOYMENTS}/{name}")).await;
        assert_eq!(v["metadata"]["finalizers"], json!([finalizer]));
    }
    s.post(DEPLOYMENTS, &deployment("b")).await;
    s.delete(&format!("{DEPLOYMENTS}/b?propagationPolicy=Background"), &json!(null)).await;
    assert_eq!(s.get(&format!("{DEPLOYMENTS}/b")).await.0, 404);
}

#[tokio::test]
async fn collections_by_selector() {
    let s = Server::start().await;
    for i in 0..30 {
        s.config_map(&format!("c{i}"), json!({"even": (i % 2 == 0).to_string()})).await;
    }
    let (code, _) = s.delete(&format!("{CMS}?labelSelector=even%3Dtrue"), &json!(null)).await;
    assert_eq!(code, 200);
    let (_, v) = s.get(CMS).await;
    assert_eq!(v["items"].as_array().map(Vec::len), Some(15));
}

#[tokio::test]
async fn a_namespace_goes_in_two_steps() {
    let s = Server::start().await;
    let (_, v) = s.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await;
    assert_eq!(
        (v["spec"]["finalizers"].clone(), v["status"]["phase"].as_str()),
        (json!(["kubernetes"]), Some("Active"))
    );
    assert_eq!(v["metadata"]["labels"]["kubernetes.io/metadata.name"], "n");
    let (_, v) = s.delete("/api/v1/namespaces/n", &json!(null)).await;
    assert_eq!(v["status"]["phase"], "Terminating");
    let (code, e) = s.post("/api/v1/namespaces/n/configmaps", &json!({"metadata": {"name": "x"}})).await;
    assert_eq!((code, e["reason"].as_str()), (403, Some("Forbidden")));
    let mut done = v.clone();
    done["spec"]["finalizers"] = json!([]);
    let (_, kept) = s.put("/api/v1/namespaces/n", &done).await;
    assert_eq!(kept["spec"]["finalizers"], json!(["kubernetes"]));
    done["metadata"]["resourceVersion"] = kept["metadata"]["resourceVersion"].clone();
    assert_eq!(s.put("/api/v1/namespaces/n/finalize", &done).await.0, 200);
    assert_eq!(s.get("/api/v1/namespaces/n").await.0, 404);
    assert_eq!(s.delete("/api/v1/namespaces/default", &json!(null)).await.0, 403);
}
