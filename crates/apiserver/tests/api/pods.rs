//! Pods and their subresources.

use serde_json::json;

use super::setup::*;

#[tokio::test]
async fn a_pod_is_bound_and_ends_gracefully() {
    let s = Server::start().await;
    let uri = format!("{PODS}/p");
    let (code, v) = s.post(PODS, &pod("p")).await;
    assert_eq!(code, 201, "{v}");
    assert_eq!(
        (v["status"]["phase"].as_str(), v["status"]["qosClass"].as_str()),
        (Some("Pending"), Some("BestEffort"))
    );
    let b = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    assert_eq!(s.post(&format!("{uri}/binding"), &b).await.0, 201);
    let (code, e) = s.post(&format!("{uri}/binding"), &b).await;
    assert_eq!((code, e["reason"].as_str()), (409, Some("Conflict")));
    let (_, v) = s.get(&uri).await;
    assert_eq!(
        (v["spec"]["nodeName"].as_str(), v["status"]["conditions"][0]["type"].as_str()),
        (Some("n1"), Some("PodScheduled"))
    );
    let (_, v) = s.merge(&format!("{uri}/status"), &json!({"status": {"phase": "Running"}})).await;
    assert_eq!(v["status"]["phase"], "Running");
    let (_, v) = s.delete(&uri, &json!(null)).await;
    assert_eq!(
        (v["kind"].as_str(), v["metadata"]["deletionGracePeriodSeconds"].as_i64()),
        (Some("Pod"), Some(30))
    );
    assert_eq!(s.delete(&uri, &json!({"gracePeriodSeconds": 0})).await.0, 200);
    assert_eq!(s.get(&uri).await.0, 404);
}

#[tokio::test]
async fn specs_do_not_change_and_ephemeral_containers_only_there() {
    let s = Server::start().await;
    let uri = format!("{PODS}/p");
    s.post(PODS, &pod("p")).await;
    let (code, e) = s.merge(&uri, &json!({"spec": {"restartPolicy": "Never"}})).await;
    assert_eq!(code, 422, "{e}");
    let ec = json!({"spec": {"ephemeralContainers": [{"name": "d", "image": "busybox"}]}});
    let body = ec.to_string();
    let patch = "application/strategic-merge-patch+json";
    let (code, v) = s.call("PATCH", &format!("{uri}/ephemeralcontainers"), patch, &body).await;
    assert_eq!((code, v["spec"]["ephemeralContainers"][0]["name"].as_str()), (200, Some("d")), "{v}");
    let (code, _) = s.call("PATCH", &uri, patch, &body).await;
    assert!(code == 200 || code == 422);
}

#[tokio::test]
async fn eviction_asks_the_budget() {
    let s = Server::start().await;
    let mut p = pod("p");
    p["metadata"]["labels"] = json!({"a": "b"});
    s.post(PODS, &p).await;
    let b = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    s.post(&format!("{PODS}/p/binding"), &b).await;
    let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    s.merge(&format!("{PODS}/p/status"), &ready).await;
    let pdbs = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let pdb = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}});
    let (code, v) = s.post(pdbs, &pdb).await;
    assert_eq!(code, 201, "{v}");
    let status = |allowed: i32| json!({"status": {"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}});
    s.merge(&format!("{pdbs}/b/status"), &status(0)).await;
    let evict = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let (code, e) = s.post(&format!("{PODS}/p/eviction"), &evict).await;
    assert_eq!((code, e["reason"].as_str()), (429, Some("TooManyRequests")), "{e}");
    s.merge(&format!("{pdbs}/b/status"), &status(1)).await;
    assert_eq!(s.post(&format!("{PODS}/p/eviction"), &evict).await.0, 201);
    assert!(s.get(&format!("{PODS}/p")).await.1["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(s.get(&format!("{pdbs}/b")).await.1["status"]["disruptionsAllowed"], 0);
}

#[tokio::test]
async fn jobs_get_their_selector() {
    let s = Server::start().await;
    let job = json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    let (code, v) = s.post("/apis/batch/v1/namespaces/default/jobs", &job).await;
    assert_eq!(code, 201, "{v}");
    let uid = v["metadata"]["uid"].clone();
    assert_eq!(v["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"], uid);
    assert_eq!(v["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
}

#[tokio::test]
async fn streams_need_a_node() {
    let s = Server::start().await;
    s.post(PODS, &pod("p")).await;
    assert_eq!(s.get(&format!("{PODS}/p/log")).await.0, 200);
    assert_eq!(s.get(&format!("{PODS}/p/log?container=x")).await.0, 400);
    assert_eq!(s.get(&format!("{PODS}/p/log?tailLines=x")).await.0, 400);
    let (code, e) = s.get(&format!("{PODS}/p/exec?command=ls&stdout=1")).await;
    assert_eq!((code, e["message"].as_str()), (400, Some("pod p does not have a host assigned")));
    let b = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    s.post(&format!("{PODS}/p/binding"), &b).await;
    assert_eq!(s.get(&format!("{PODS}/p/log")).await.0, 503);
}

#[tokio::test]
async fn tokens_name_their_account() {
    let s = Server::start().await;
    let uri = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let (code, v) = s
        .post(uri, &json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}))
        .await;
    assert_eq!(code, 201, "{v}");
    let token = v["status"]["token"].as_str().expect("token");
    let review =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let (_, v) = s.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await;
    assert_eq!(v["status"]["user"]["username"], "system:serviceaccount:default:default");
}
