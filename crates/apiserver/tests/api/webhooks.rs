//! Admission webhooks, over TLS on loopback: what they are shown, what they may change and refuse, and what happens when
//! they fail.

use base64::Engine;
use serde_json::{Value, json};

use super::hook::Hook;
use super::setup::*;

fn webhook(name: &str, client: Value) -> Value {
    json!({"name": format!("{name}.example.com"), "clientConfig": client, "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "rules": [{"operations": ["CREATE", "UPDATE", "DELETE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]})
}

async fn configure(s: &Server, kind: &str, name: &str, hooks: Vec<Value>) {
    let v = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "webhooks": hooks});
    let uri = format!("/apis/admissionregistration.k8s.io/v1/{}s", kind.to_lowercase());
    let (code, v) = s.post(&uri, &v).await;
    assert_eq!(code, 201, "{v}");
}

const MUTATING: &str = "MutatingWebhookConfiguration";
const VALIDATING: &str = "ValidatingWebhookConfiguration";

fn patch(ops: Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": base64::engine::general_purpose::STANDARD.encode(ops.to_string())})
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"a": "b"}}, "data": {"k": "v"}})
}

#[tokio::test]
async fn a_mutating_webhook_changes_and_is_shown_everything() {
    let s = Server::start().await;
    let hook = Hook::start(|r| match r["operation"].as_str() {
        Some("DELETE") => json!({"allowed": true, "warnings": ["going"]}),
        _ => patch(json!([{"op": "add", "path": "/data/added", "value": r["operation"]}])),
    })
    .await;
    configure(&s, MUTATING, "m", vec![webhook("m", hook.client())]).await;
    let (code, v) = s.post(CMS, &map("a")).await;
    assert_eq!((code, &v["data"]), (201, &json!({"k": "v", "added": "CREATE"})), "{v}");
    let first = hook.seen.lock().expect("log")[0].clone();
    let r = &first["request"];
    assert_eq!(
        (&r["kind"]["kind"], &r["resource"]["resource"], &r["namespace"], &r["name"]),
        (&json!("ConfigMap"), &json!("configmaps"), &json!("default"), &json!("a"))
    );
    assert_eq!(
        (&r["userInfo"]["username"], &r["oldObject"], &r["dryRun"]),
        (&json!("admin"), &Value::Null, &json!(false))
    );
    assert_eq!((&r["object"]["kind"], &r["object"]["data"]["k"]), (&json!("ConfigMap"), &json!("v")));
    let (_, v) = s.merge(&format!("{CMS}/a"), &json!({"data": {"k": "w"}})).await;
    assert_eq!(v["data"], json!({"k": "w", "added": "UPDATE"}), "{v}");
    let (code, v) =
        s.call("POST", &format!("{CMS}?dryRun=All"), "application/json", &map("dry").to_string()).await;
    assert_eq!((code, &v["data"]["added"]), (201, &json!("CREATE")));
    assert_eq!(s.delete(&format!("{CMS}/a"), &Value::Null).await.0, 200);
    let last = hook.seen.lock().expect("log").last().cloned().expect("a request");
    assert_eq!(
        (&last["request"]["object"], &last["request"]["oldObject"]["data"]["k"]),
        (&Value::Null, &json!("w"))
    );
    // Other kinds pass it by.
    let before = hook.count();
    assert_eq!(
        s.post("/api/v1/namespaces/default/secrets", &json!({"metadata": {"name": "s"}})).await.0,
        201
    );
    assert_eq!(hook.count(), before);
}

#[tokio::test]
async fn a_validating_webhook_refuses_in_its_own_words() {
    let s = Server::start().await;
    let hook = Hook::start(|r| match r["name"].as_str() {
        Some("bad") => json!({"allowed": false, "status": {"message": "not this name", "code": 403, "reason": "Forbidden"}}),
        _ => json!({"allowed": true}),
    })
    .await;
    let mut w = webhook("v", hook.client());
    w["namespaceSelector"] = json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["default"]}]});
    w["objectSelector"] = json!({"matchLabels": {"a": "b"}});
    w["matchConditions"] = json!([{"name": "not-free", "expression": "object.metadata.name != 'free' && request.operation == 'CREATE'"}]);
    configure(&s, VALIDATING, "v", vec![w]).await;
    assert_eq!(s.post(CMS, &map("good")).await.0, 201);
    let (code, e) = s.post(CMS, &map("bad")).await;
    assert_eq!(
        (code, e["reason"].as_str(), e["message"].as_str()),
        (
            403,
            Some("Forbidden"),
            Some("admission webhook \"v.example.com\" denied the request: not this name")
        )
    );
    assert_eq!(hook.count(), 2);
    // Passed by: by its label, by its namespace, by a condition.
    assert_eq!(s.post(CMS, &json!({"metadata": {"name": "free"}})).await.0, 201);
    assert_eq!(s.post("/api/v1/namespaces/kube-system/configmaps", &map("bad")).await.0, 201);
    assert_eq!(s.post(CMS, &map("free2")).await.0, 201);
    assert_eq!(hook.count(), 3);
}

#[tokio::test]
async fn a_webhook_that_fails_is_fatal_or_passed_by() {
    let s = Server::start().await;
    let hook = Hook::start(|_| json!({"uid": "another", "allowed": true})).await;
    let mut open = webhook("open", json!({"url": "https://127.0.0.1:1/x", "caBundle": hook.ca}));
    open["failurePolicy"] = json!("Ignore");
    configure(&s, VALIDATING, "a", vec![open]).await;
    assert_eq!(s.post(CMS, &map("a")).await.0, 201);
    configure(
        &s,
        VALIDATING,
        "b",
        vec![webhook("closed", json!({"url": "https://127.0.0.1:1/x", "caBundle": hook.ca}))],
    )
    .await;
    let (code, e) = s.post(CMS, &map("b")).await;
    assert_eq!(code, 500);
    let message = e["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("Internal error occurred: failed calling webhook \"closed.example.com\": failed to call webhook: Post \"https://127.0.0.1:1/x?timeout=10s\": dial tcp"), "{message}");
    s.delete("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/b", &Value::Null).await;
    configure(&s, VALIDATING, "c", vec![webhook("lies", hook.client())]).await;
    let (code, e) = s.post(CMS, &map("c")).await;
    assert!(code == 500 && e["message"].as_str().is_some_and(|m| m.contains("expected response.uid")), "{e}");
    s.delete("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/c", &Value::Null).await;
    // A service without endpoints, and a certificate of somebody else.
    let service =
        json!({"service": {"namespace": "default", "name": "hook", "port": 443}, "caBundle": hook.ca});
    configure(&s, VALIDATING, "d", vec![webhook("service", service)]).await;
    let (code, e) = s.post(CMS, &map("d")).await;
    assert!(
        code == 500 && e["message"].as_str().is_some_and(|m| m.contains("service \"hook\" not found")),
        "{e}"
    );
    s.delete("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/d", &Value::Null).await;
    let other = Hook::start(|_| json!({"allowed": true})).await;
    let mut client = hook.client();
    client["caBundle"] = json!(other.ca);
    configure(&s, VALIDATING, "e", vec![webhook("stranger", client)]).await;
    let (code, e) = s.post(CMS, &map("e")).await;
    assert!(code == 500 && e["message"].as_str().is_some_and(|m| m.contains("tls:")), "{e}");
}

#[tokio::test]
async fn a_service_leads_to_its_endpoints_and_webhooks_are_asked_again() {
    let s = Server::start().await;
    let first = Hook::start(|r| match r["object"]["data"]["second"].is_null() {
        true => json!({"allowed": true}),
        false => patch(json!([{"op": "add", "path": "/data/first", "value": "saw it"}])),
    })
    .await;
    let second = Hook::start(|_| patch(json!([{"op": "add", "path": "/data/second", "value": "x"}]))).await;
    let service = json!({"metadata": {"name": "hook"}, "spec": {"ports": [{"name": "tls", "port": 443}]}});
    assert_eq!(s.post(SERVICES, &service).await.0, 201);
    let slice = json!({"metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}], "ports": [{"name": "tls", "port": first.port}]});
    // Loopback is refused at the door of the API; the test writes where the server reads.
    s.api
        .reader()
        .create("discovery.k8s.io", "endpointslices", {
            let mut v = slice;
            v["apiVersion"] = json!("discovery.k8s.io/v1");
            v["kind"] = json!("EndpointSlice");
            v["metadata"]["namespace"] = json!("default");
            v
        })
        .await
        .expect("slice");
    let mut w =
        webhook("one", json!({"service": {"namespace": "default", "name": "hook"}, "caBundle": first.ca}));
    w["reinvocationPolicy"] = json!("IfNeeded");
    configure(&s, MUTATING, "m", vec![w, webhook("two", second.client())]).await;
    let (code, v) = s.post(CMS, &map("a")).await;
    assert_eq!((code, &v["data"]), (201, &json!({"k": "v", "first": "saw it", "second": "x"})), "{v}");
    assert_eq!((first.count(), second.count()), (2, 1));
}
