//! Custom resources in several versions that a webhook converts: every verb in either version, lists of objects that were
//! stored in different ones, and webhooks that fail or lie.

use client::WatchEvent;
use futures::StreamExt;
use serde_json::{Value, json};

use super::crds::{CRDS, condition, until};
use super::hook::{Answer, Hook};
use super::setup::*;

const CRD: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/points.example.com";
const V1: &str = "/apis/example.com/v1/namespaces/default/points";
const V2: &str = "/apis/example.com/v2/namespaces/default/points";

fn version(name: &str, stored: bool, fields: Value) -> Value {
    json!({"name": name, "served": true, "storage": stored, "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {"type": "object", "properties": fields}}})
}

fn versions(stored: &str) -> Value {
    let text = json!({"type": "string"});
    let port = json!({"type": "string", "pattern": "^[0-9]+$"});
    json!([
        version(
            "v1",
            stored == "v1",
            json!({"hostPort": text, "status": {"type": "object", "properties": {"seen": text}}})
        ),
        version(
            "v2",
            stored == "v2",
            json!({"host": text, "port": port, "status": {"type": "object", "properties": {"seen": text}}})
        ),
    ])
}

async fn define(s: &Server, hook: &Hook) {
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "points.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "points", "singular": "point", "kind": "Point"}, "versions": versions("v1"),
            "conversion": {"strategy": "Webhook", "webhook": {"clientConfig": hook.client(), "conversionReviewVersions": ["v1", "v1beta1"]}}}});
    let (code, v) = s.post(CRDS, &crd).await;
    assert_eq!(code, 201, "{v}");
    until(s, CRD, |_, v| condition(v, "Established")["status"] == "True").await;
    until(s, V2, |code, _| code == 200).await;
}

/// `hostPort: a:1` in v1 is `host: a, port: "1"` in v2.
fn converted(wanted: &Value, o: &Value) -> Value {
    let mut o = o.clone();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    o["apiVersion"] = wanted.clone();
    if let Some(m) = o.as_object_mut() {
        if wanted == "example.com/v2" {
            if let Some(both) = m.remove("hostPort") {
                let both = text(&both);
                let (host, port) = both.split_once(':').unwrap_or((both.as_str(), "0"));
                m.insert("host".into(), json!(host));
                m.insert("port".into(), json!(port));
            }
        } else if let (Some(host), Some(port)) = (m.remove("host"), m.remove("port")) {
            m.insert("hostPort".into(), json!(format!("{}:{}", text(&host), text(&port))));
        }
    }
    o
}

fn success(r: &Value) -> Value {
    let objects = r["objects"].as_array().map(Vec::as_slice).unwrap_or_default();
    let all: Vec<Value> = objects.iter().map(|o| converted(&r["desiredAPIVersion"], o)).collect();
    json!({"result": {"status": "Success"}, "convertedObjects": all})
}

fn point(version: &str, name: &str, fields: Value) -> Value {
    let mut v =
        json!({"apiVersion": format!("example.com/{version}"), "kind": "Point", "metadata": {"name": name}});
    if let (Some(o), Value::Object(f)) = (v.as_object_mut(), fields) {
        o.extend(f);
    }
    v
}

async fn start(answer: Answer) -> (Server, Hook) {
    let s = Server::start().await;
    let hook = Hook::start(answer).await;
    define(&s, &hook).await;
    (s, hook)
}

#[tokio::test]
async fn every_verb_speaks_the_version_that_was_asked_for() {
    let (s, hook) = start(success).await;
    let (code, v) = s.post(V1, &point("v1", "a", json!({"hostPort": "localhost:8080"}))).await;
    assert_eq!((code, hook.count()), (201, 0), "{v}");
    let a = format!("{V2}/a");
    let (code, v) = s.get(&a).await;
    assert_eq!(
        (code, &v["apiVersion"], &v["host"], &v["port"], &v["hostPort"]),
        (200, &json!("example.com/v2"), &json!("localhost"), &json!("8080"), &Value::Null),
        "{v}"
    );
    let sent = hook.seen.lock().expect("log")[0].clone();
    assert_eq!(
        (&sent["apiVersion"], &sent["kind"], &sent["request"]["desiredAPIVersion"]),
        (&json!("apiextensions.k8s.io/v1"), &json!("ConversionReview"), &json!("example.com/v2"))
    );

    // A write in the other version, checked by its own schema and stored in the first.
    let (code, e) = s.post(V2, &point("v2", "b", json!({"host": "h", "port": "x"}))).await;
    assert_eq!((code, e["details"]["causes"][0]["field"].as_str()), (422, Some("port")), "{e}");
    let (code, v) =
        s.post(V2, &point("v2", "b", json!({"host": "h", "port": "1", "hostPort": "pruned"}))).await;
    assert_eq!((code, &v["host"], &v["hostPort"]), (201, &json!("h"), &Value::Null), "{v}");
    assert_eq!(s.get(&format!("{V1}/b")).await.1["hostPort"], "h:1");
    let mut put = s.get(&a).await.1;
    put["port"] = json!("9090");
    let (code, v) = s.put(&a, &put).await;
    assert_eq!((code, &v["port"], &v["metadata"]["generation"]), (200, &json!("9090"), &json!(2)), "{v}");
    let (code, v) = s.merge(&a, &json!({"host": "far"})).await;
    assert_eq!((code, &v["host"], &v["metadata"]["generation"]), (200, &json!("far"), &json!(3)), "{v}");
    assert_eq!(s.get(&format!("{V1}/a")).await.1["hostPort"], "far:9090");
    let (_, v) = s.merge(&format!("{a}/status"), &json!({"status": {"seen": "yes"}, "host": "x"})).await;
    assert_eq!((&v["status"]["seen"], &v["host"]), (&json!("yes"), &json!("far")), "{v}");
    // Nothing changes, nothing is written.
    let before = s.get(&a).await.1;
    assert_eq!(s.merge(&a, &json!({"host": "far"})).await.1, before);

    // Owners of either version.
    let apply = |uri: String, v: Value| {
        let s = &s;
        async move { s.call("PATCH", &uri, "application/apply-patch+yaml", &v.to_string()).await }
    };
    let (code, v) =
        apply(format!("{V1}/c?fieldManager=one"), point("v1", "c", json!({"hostPort": "c:1"}))).await;
    assert_eq!(code, 201, "{v}");
    let mine = point("v2", "c", json!({"host": "d", "port": "1"}));
    let (code, e) = apply(format!("{V2}/c?fieldManager=two"), mine.clone()).await;
    assert_eq!((code, e["reason"].as_str()), (409, Some("Conflict")), "{e}");
    let (code, v) = apply(format!("{V2}/c?fieldManager=two&force=true"), mine).await;
    assert_eq!((code, &v["host"]), (200, &json!("d")), "{v}");
    let owners: Vec<(&str, &str)> = v["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|m| Some((m["manager"].as_str()?, m["apiVersion"].as_str()?)))
        .collect();
    assert_eq!(owners, [("two", "example.com/v2")], "{v}");

    assert_eq!(s.delete(&a, &Value::Null).await.0, 200);
    assert_eq!(s.get(&format!("{V1}/a")).await.0, 404);
}

#[tokio::test]
async fn a_list_is_of_one_version_whatever_is_stored() {
    let (s, hook) = start(success).await;
    assert_eq!(s.post(V1, &point("v1", "old", json!({"hostPort": "old:1"}))).await.0, 201);
    let (code, v) = s.merge(CRD, &json!({"spec": {"versions": versions("v2")}})).await;
    assert_eq!((code, &v["status"]["storedVersions"]), (200, &json!(["v1", "v2"])), "{v}");
    // The definition is in force once a write in the new version needs no conversion.
    for i in 0.. {
        let before = hook.count();
        assert_eq!(s.post(V2, &point("v2", "new", json!({"host": "new", "port": "2"}))).await.0, 201);
        if hook.count() == before {
            break;
        }
        assert!(i < 500, "the definition never changed");
        assert_eq!(s.delete(&format!("{V2}/new"), &Value::Null).await.0, 200);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    for (uri, api_version) in [(V1, "example.com/v1"), (V2, "example.com/v2")] {
        let before = hook.count();
        let (code, v) = s.get(uri).await;
        let items = v["items"].as_array().expect("items");
        assert_eq!((code, items.len(), hook.count() - before), (200, 2, 1), "{v}");
        assert!(items.iter().all(|o| o["apiVersion"] == api_version), "{v}");
    }
    let seen = hook.seen.lock().expect("log").last().cloned().expect("a review");
    assert_eq!(
        seen["request"]["objects"].as_array().map(Vec::len),
        Some(1),
        "only what is in another version"
    );

    // A watch gives the same.
    let resource = api::Resource {
        group: "example.com".into(),
        version: "v1".into(),
        plural: "points".into(),
        kind: "Point".into(),
        namespaced: true,
    };
    let mut events = s.client.watch(&resource, "default", &Default::default()).await.expect("watch");
    for want in ["new:2", "old:1"] {
        match events.next().await {
            Some(WatchEvent::Added(o)) => assert_eq!(o.value().expect("value")["hostPort"], want),
            other => panic!("{other:?}"),
        }
    }
    // A write brings an old object into the stored version.
    assert_eq!(s.merge(&format!("{V1}/old"), &json!({"metadata": {"labels": {"a": "b"}}})).await.0, 200);
    let before = hook.count();
    assert_eq!(s.get(&format!("{V2}/old")).await.1["host"], "old");
    assert_eq!(hook.count(), before);
}

#[tokio::test]
async fn a_webhook_that_fails_or_lies_is_told_about() {
    let (s, hook) = start(|r| match r["objects"][0]["metadata"]["name"].as_str() {
        Some("refused") => json!({"result": {"status": "Failed", "message": "not this one"}}),
        Some("renamed") => {
            let mut v = success(r);
            v["convertedObjects"][0]["metadata"]["name"] = json!("other");
            v
        }
        Some("labelled") => {
            let mut v = success(r);
            v["convertedObjects"][0]["metadata"]["labels"] = json!({"by": "webhook"});
            v["convertedObjects"][0]["metadata"]["finalizers"] = json!(["example.com/never"]);
            v
        }
        _ => success(r),
    })
    .await;
    for name in ["refused", "renamed", "labelled"] {
        assert_eq!(s.post(V1, &point("v1", name, json!({"hostPort": "h:1"}))).await.0, 201);
    }
    let (code, e) = s.get(&format!("{V2}/refused")).await;
    assert_eq!(
        (code, e["message"].as_str()),
        (500, Some("conversion webhook for example.com/v1, Kind=Point failed: not this one"))
    );
    let (code, e) = s.get(&format!("{V2}/renamed")).await;
    assert_eq!(
        (code, e["message"].as_str()),
        (
            500,
            Some(
                "conversion webhook for example.com/v1, Kind=Point returned invalid object: must have the same name: renamed != other"
            )
        )
    );
    let (code, v) = s.get(&format!("{V2}/labelled")).await;
    assert_eq!(
        (code, &v["metadata"]["labels"]["by"], &v["metadata"]["finalizers"]),
        (200, &json!("webhook"), &Value::Null),
        "{v}"
    );
    // In the stored version nobody is asked.
    assert_eq!(s.get(&format!("{V1}/refused")).await.0, 200);
    // A watch ends with the reason.
    let resource = api::Resource {
        group: "example.com".into(),
        version: "v2".into(),
        plural: "points".into(),
        kind: "Point".into(),
        namespaced: true,
    };
    s.delete(&format!("{V1}/labelled"), &Value::Null).await;
    let mut events = s.client.watch(&resource, "default", &Default::default()).await.expect("watch");
    match events.next().await {
        Some(WatchEvent::Error(e)) => assert!(e.message.starts_with("conversion webhook for"), "{e}"),
        other => panic!("{other:?}"),
    }
    assert!(events.next().await.is_none());
    assert!(hook.count() > 0);
}

#[tokio::test]
async fn an_admission_webhook_is_shown_the_version_of_its_rules() {
    let (s, _converter) = start(success).await;
    let admission = Hook::start(|r| match r["object"]["hostPort"].as_str() {
        Some("bad:1") => json!({"allowed": false, "status": {"message": "no"}}),
        Some(_) => json!({"allowed": true}),
        None => json!({"allowed": false, "status": {"message": "not shown as v1"}}),
    })
    .await;
    let hook = json!({"name": "v.example.com", "clientConfig": admission.client(), "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "rules": [{"operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["points"]}]});
    let v = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "v"}, "webhooks": [hook]});
    assert_eq!(
        s.post("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", &v).await.0,
        201
    );
    let (code, v) = s.post(V2, &point("v2", "a", json!({"host": "good", "port": "1"}))).await;
    assert_eq!(code, 201, "{v}");
    let (code, e) = s.post(V2, &point("v2", "b", json!({"host": "bad", "port": "1"}))).await;
    assert_eq!(
        (code, e["message"].as_str()),
        (400, Some("admission webhook \"v.example.com\" denied the request: no"))
    );
    let seen = admission.seen.lock().expect("log")[0]["request"].clone();
    assert_eq!((&seen["kind"]["version"], &seen["requestKind"]["version"]), (&json!("v1"), &json!("v2")));
}
