//! create, get, update: system fields, conflicts, no-ops, generations, names, dry runs.

use api::resource::CONFIG_MAPS;
use serde_json::json;

use super::setup::*;

#[tokio::test]
async fn create_fills_system_fields_and_conflicts_are_seen() {
    let s = Server::start().await;
    let (code, v) = s
        .post(CMS, &json!({"metadata": {"name": "a", "uid": "mine", "generation": 7}, "data": {"x": "1"}}))
        .await;
    assert_eq!(code, 201);
    assert_ne!(v["metadata"]["uid"], "mine");
    assert!(v["metadata"]["generation"].is_null());
    assert!(v["metadata"]["creationTimestamp"].is_string());
    assert_eq!((v["kind"].as_str(), v["apiVersion"].as_str()), (Some("ConfigMap"), Some("v1")));
    let (code, again) = s.post(CMS, &json!({"metadata": {"name": "a"}})).await;
    assert_eq!((code, again["reason"].as_str()), (409, Some("AlreadyExists")));

    let mut stale = v.clone();
    stale["data"] = json!({"x": "2"});
    let (code, new) = s.put(&format!("{CMS}/a"), &stale).await;
    assert_eq!(code, 200);
    assert_ne!(new["metadata"]["resourceVersion"], v["metadata"]["resourceVersion"]);
    stale["data"] = json!({"x": "3"});
    let (code, e) = s.put(&format!("{CMS}/a"), &stale).await;
    assert_eq!(code, 409);
    assert_eq!(
        e["message"],
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    // Without a version the update is unconditional.
    stale["metadata"].as_object_mut().expect("meta").remove("resourceVersion");
    assert_eq!(s.put(&format!("{CMS}/a"), &stale).await.0, 200);
    stale["metadata"]["uid"] = json!("other");
    assert_eq!(s.put(&format!("{CMS}/a"), &stale).await.0, 409);
    assert_eq!(s.get(&format!("{CMS}/nope")).await.0, 404);
    assert_eq!(s.put(&format!("{CMS}/nope"), &json!({"metadata": {"name": "nope"}})).await.0, 404);
}

#[tokio::test]
async fn a_no_op_update_writes_nothing() {
    let s = Server::start().await;
    let (_, v) = s.post(DEPLOYMENTS, &deployment("d")).await;
    let before = store::Store::revision(s.store.as_ref());
    let (code, same) = s.put(&format!("{DEPLOYMENTS}/d"), &v).await;
    assert_eq!((code, &same), (200, &v));
    // Leaving defaulted fields out changes nothing either.
    let mut short = deployment("d");
    short["metadata"]["managedFields"] = v["metadata"]["managedFields"].clone();
    let (code, same) = s.put(&format!("{DEPLOYMENTS}/d"), &short).await;
    assert_eq!((code, &same["metadata"]["resourceVersion"]), (200, &v["metadata"]["resourceVersion"]));
    let (code, same) = s.merge(&format!("{DEPLOYMENTS}/d"), &json!({"spec": {"replicas": 1}})).await;
    assert_eq!((code, &same["metadata"]["resourceVersion"]), (200, &v["metadata"]["resourceVersion"]));
    assert_eq!(store::Store::revision(s.store.as_ref()), before);
}

#[tokio::test]
async fn generation_and_the_split_of_spec_and_status() {
    let s = Server::start().await;
    let d = format!("{DEPLOYMENTS}/d");
    let mut with_status = deployment("d");
    with_status["status"] = json!({"replicas": 9});
    let (_, v) = s.post(DEPLOYMENTS, &with_status).await;
    assert_eq!((v["metadata"]["generation"].as_i64(), v["status"]["replicas"].as_i64()), (Some(1), None));
    let (_, v) = s.merge(&d, &json!({"metadata": {"labels": {"x": "y"}}})).await;
    assert_eq!(v["metadata"]["generation"], 1);
    let (_, v) = s.merge(&d, &json!({"spec": {"replicas": 3}, "status": {"replicas": 3}})).await;
    assert_eq!((v["metadata"]["generation"].as_i64(), v["status"]["replicas"].as_i64()), (Some(2), None));
    let (_, v) =
        s.merge(&format!("{d}/status"), &json!({"spec": {"replicas": 5}, "status": {"replicas": 3}})).await;
    assert_eq!(
        (
            v["metadata"]["generation"].as_i64(),
            v["status"]["replicas"].as_i64(),
            v["spec"]["replicas"].as_i64()
        ),
        (Some(2), Some(3), Some(3))
    );
    let (_, v) = s.get(&format!("{d}/scale")).await;
    assert_eq!((v["spec"]["replicas"].as_i64(), v["status"]["selector"].as_str()), (Some(3), Some("a=b")));
    let (code, v) = s.merge(&format!("{d}/scale"), &json!({"spec": {"replicas": 4}})).await;
    assert_eq!((code, v["spec"]["replicas"].as_i64()), (200, Some(4)));
    let (code, _) = s.merge(&format!("{d}/scale"), &json!({"spec": {"replicas": -4}})).await;
    assert_eq!(code, 422);
    assert_eq!(s.get(&d).await.1["spec"]["replicas"], 4);
}

#[tokio::test]
async fn generated_names_namespaces_and_dry_runs() {
    let s = Server::start().await;
    let (code, v) = s.post(CMS, &json!({"metadata": {"generateName": "g-"}})).await;
    assert_eq!(code, 201);
    assert!(v["metadata"]["name"].as_str().is_some_and(|n| n.starts_with("g-") && n.len() == 7));
    assert_eq!(s.post(CMS, &json!({"metadata": {}})).await.0, 422);
    assert_eq!(s.post(CMS, &json!({"metadata": {"name": "Bad_Name"}})).await.0, 422);
    let (code, e) = s.post(CMS, &json!({"metadata": {"name": "x", "namespace": "other"}})).await;
    assert_eq!(code, 400, "{e}");
    let (code, e) = s.post("/api/v1/namespaces/none/configmaps", &json!({"metadata": {"name": "x"}})).await;
    assert_eq!((code, e["message"].as_str()), (404, Some("namespaces \"none\" not found")));
    let before = store::Store::revision(s.store.as_ref());
    let (code, v) = s.post(&format!("{CMS}?dryRun=All"), &json!({"metadata": {"name": "dry"}})).await;
    assert_eq!(code, 201);
    assert!(v["metadata"]["resourceVersion"].is_null());
    assert_eq!(s.post(&format!("{CMS}?dryRun=Some"), &json!({"metadata": {"name": "dry"}})).await.0, 422);
    assert_eq!(s.get(&format!("{CMS}/dry")).await.0, 404);
    assert_eq!(store::Store::revision(s.store.as_ref()), before);
    let (_, v) = s.post(CMS, &json!({"metadata": {"name": "x"}})).await;
    assert_eq!(s.delete(&format!("{CMS}/x?dryRun=All"), &json!(null)).await.0, 200);
    assert_eq!(s.get(&format!("{CMS}/x")).await.1, v);
}

#[tokio::test]
async fn put_makes_what_may_be_made_that_way() {
    let s = Server::start().await;
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {}});
    let uri = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    assert_eq!(s.put(uri, &lease).await.0, 201);
    // Leases are never overwritten blindly.
    assert_eq!(s.put(uri, &lease).await.0, 422);
}

#[tokio::test]
async fn concurrent_unconditional_writers_all_get_through() {
    let s = Server::start().await;
    s.config_map("c", json!({})).await;
    let all = (0..20).map(|i| {
        let client = s.client.clone();
        async move {
            let p = client::Patch::Merge(json!({"data": {format!("k{i}"): "v"}}));
            client.patch(&CONFIG_MAPS, "default", "c", "", &p).await
        }
    });
    for r in futures::future::join_all(all).await {
        r.expect("patched");
    }
    let v = s.client.get(&CONFIG_MAPS, "default", "c").await.expect("get").value().expect("value");
    assert_eq!(v["data"].as_object().map(|d| d.len()), Some(21));
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let s = Server::start().await;
    let o = s.config_map("kept", json!({"a": "b"})).await;
    let before =
        s.client.list(&CONFIG_MAPS, "", &client::ListParams::default()).await.expect("list").items.len();
    let s = s.restart("10.96.0.0/16").await;
    let again = s.client.get(&CONFIG_MAPS, "default", "kept").await.expect("get");
    assert_eq!((again.uid(), again.revision()), (o.uid(), o.revision()));
    let after =
        s.client.list(&CONFIG_MAPS, "", &client::ListParams::default()).await.expect("list").items.len();
    assert_eq!(before, after);
}

#[tokio::test]
async fn two_versions_of_one_object() {
    let s = Server::start().await;
    let v1 = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    let v2 = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let hpa = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 55,
        "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}});
    let (code, v) = s.post(v1, &hpa).await;
    assert_eq!((code, v["apiVersion"].as_str()), (201, Some("autoscaling/v1")));
    assert_eq!(v["spec"]["targetCPUUtilizationPercentage"], 55);
    let (_, v) = s.get(&format!("{v2}/h")).await;
    assert_eq!(v["apiVersion"], "autoscaling/v2");
    assert_eq!(v["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 55);
    let ev = json!({"metadata": {"name": "e"}, "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "Tested", "action": "Test", "type": "Normal", "note": "n", "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "test.io/x", "reportingInstance": "i"});
    let (code, v) = s.post("/apis/events.k8s.io/v1/namespaces/default/events", &ev).await;
    assert_eq!(code, 201, "{v}");
    let (_, v) = s.get("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dp").await;
    assert_eq!(v["items"][0]["message"], "n");
    let (_, v) =
        s.get("/apis/events.k8s.io/v1/namespaces/default/events?fieldSelector=regarding.name%3Dp").await;
    assert_eq!(v["items"][0]["note"], "n");
}

#[tokio::test]
async fn a_quota_is_charged_with_the_object_or_not_at_all() {
    let s = Server::start().await;
    let (quotas, maps) =
        ("/api/v1/namespaces/default/resourcequotas", "/api/v1/namespaces/default/configmaps");
    s.post(quotas, &json!({"metadata": {"name": "q"}, "spec": {"hard": {"count/configmaps": "5"}}})).await;
    let used = json!({"status": {"hard": {"count/configmaps": "5"}, "used": {"count/configmaps": "0"}}});
    s.merge(&format!("{quotas}/q/status"), &used).await;
    let used = async || s.get(&format!("{quotas}/q")).await.1["status"]["used"]["count/configmaps"].clone();
    let map = |name: &str| json!({"metadata": {"name": name}});
    assert_eq!(s.post(maps, &map("a")).await.0, 201);
    assert_eq!(used().await, "1");
    // What is not stored is not charged.
    assert_eq!(s.post(maps, &map("a")).await.0, 409);
    assert_eq!(s.post(&format!("{maps}?dryRun=All"), &map("b")).await.0, 201);
    assert_eq!(used().await, "1");
    // Many at once: exactly as many as there is room for.
    let names: Vec<String> = (0..20).map(|i| format!("m{i}")).collect();
    let all = futures::future::join_all(names.iter().map(|n| async { s.post(maps, &map(n)).await.0 })).await;
    assert_eq!(all.iter().filter(|c| **c == 201).count(), 4, "{all:?}");
    assert!(all.iter().all(|c| matches!(c, 201 | 403)), "{all:?}");
    assert_eq!(used().await, "5");
}
