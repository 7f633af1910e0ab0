//! Custom resource definitions as objects (test/e2e/apimachinery/custom_resource_definition.go, crd_watch.go).

use serde_json::{Value, json};
use testkit::wait_for;

use crate::operations::is_discovered;
use crate::world::{Tests, World, newer, version};

pub const TESTS: Tests = &[
    (
        "[sig-api-machinery] CustomResourceDefinition Watch [Privileged:ClusterAdmin] CustomResourceDefinition Watch watch on custom resource definition objects [Conformance]",
        watched,
    ),
    (
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition creating/deleting custom resource definition objects works [Conformance]",
        comes_and_goes,
    ),
    (
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition getting/updating/patching custom resource definition status sub-resource works [Conformance]",
        status,
    ),
    (
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition listing custom resource definition objects works [Conformance]",
        listed,
    ),
    (
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] custom resource defaulting for requests and from storage works [Conformance]",
        defaulted,
    ),
    (
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] should include custom resource definition resources in discovery documents [Conformance]",
        |w| is_discovered(w, "apiextensions.k8s.io/v1", "customresourcedefinitions", &["status"]),
    ),
];

const ALL: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// One version, and objects without a namespace.
fn spec(schema: Value) -> Value {
    let schema = json!({"openAPIV3Schema": schema});
    json!({"scope": "Cluster", "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]})
}

fn open() -> Value {
    spec(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}))
}

fn list_of(w: &World, plural: &str) -> String {
    format!("/apis/{}.example.com/v1/{plural}", w.namespace)
}

fn object(w: &World, kind: &str, name: &str) -> Value {
    json!({"apiVersion": format!("{}.example.com/v1", w.namespace), "kind": kind, "metadata": {"name": name}})
}

fn watched(w: &World) {
    w.define("Widget", &open());
    let all = list_of(w, "widgets");
    let from = version(&w.get(&all)).to_owned();
    let names = ["a", "b"];
    let mut watches =
        names.map(|name| w.watch(&all, &from, &format!("fieldSelector=metadata.name%3D{name}")));
    for name in names {
        let made = w.create(&all, &object(w, "Widget", name));
        assert!(made["metadata"]["uid"].as_str().is_some_and(|uid| !uid.is_empty()), "{made}");
        assert_eq!(
            (&made["apiVersion"], &made["kind"]),
            (&object(w, "", "")["apiVersion"], &"Widget".into())
        );
    }
    for name in names {
        let dummy = json!([{"op": "add", "path": "/dummy", "value": "test"}]);
        w.patch(&format!("{all}/{name}"), "json-patch+json", &dummy);
    }
    for name in names {
        w.delete(&format!("{all}/{name}"));
    }
    // Once more, so that what one was told too much would come before.
    for name in names {
        w.create(&all, &object(w, "Widget", name));
    }
    for (name, lines) in names.iter().zip(&mut watches) {
        for kind in ["ADDED", "MODIFIED", "DELETED", "ADDED"] {
            let event = lines.event().expect("an event");
            assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&kind.into(), &json!(name)));
        }
    }
}

fn comes_and_goes(w: &World) {
    let path = w.define("Widget", &open());
    let made = w.get(&path);
    let conditions = made["status"]["conditions"].as_array().expect("conditions");
    assert!(conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True"), "{made}");
    w.delete(&path);
    wait_for("the definition to be gone", || w.gone(&path));
    wait_for("its resource to be gone", || w.gone(&list_of(w, "widgets")));
}

fn status(w: &World) {
    let path = w.define("Widget", &open());
    let whole = format!("{path}/status");
    assert_eq!(w.get(&whole)["spec"], w.get(&path)["spec"]);
    let has = |object: &Value, message: &str| {
        object["status"]["conditions"].as_array().is_some_and(|l| l.iter().any(|c| c["message"] == message))
    };
    let condition =
        |message: &str| json!({"type": "", "status": "", "lastTransitionTime": null, "message": message});
    let updated = w.update(&path, "/status", |o| {
        o["status"]["conditions"].as_array_mut().expect("conditions").push(condition("updated"));
    });
    assert!(has(&updated, "updated") && has(&w.get(&whole), "updated"), "{updated}");
    let patch = json!([{"op": "add", "path": "/status/conditions", "value": [{"message": "patched"}]}]);
    let patched = w.patch(&whole, "json-patch+json", &patch);
    assert!(has(&patched, "patched") && has(&w.get(&whole), "patched"), "{patched}");
    assert!(newer(&patched, &updated));
}

fn listed(w: &World) {
    let made: Vec<Value> = (0..11)
        .map(|i| {
            let path = w.define(&format!("Widget{i}"), &open());
            let label = json!({"metadata": {"labels": {"test": if i < 10 { &w.namespace } else { "none" }}}});
            w.patch(&path, "merge-patch+json", &label)
        })
        .collect();
    let selected = format!("{ALL}?labelSelector=test%3D{}", w.namespace);
    let list = w.items(&selected);
    assert_eq!(list.len(), 10);
    for one in &list {
        let same = made[..10].iter().find(|m| m["metadata"]["name"] == one["metadata"]["name"]);
        assert_eq!(same.expect("one of ours")["spec"], one["spec"]);
    }
    w.delete(&selected);
    wait_for("the selected definitions to be gone", || w.items(&selected).is_empty());
    let other = made[10]["metadata"]["name"].as_str().expect("a name");
    assert_eq!(w.get(&format!("{ALL}/{other}"))["metadata"]["deletionTimestamp"], Value::Null);
}

fn defaulted(w: &World) {
    let text = json!({"type": "string"});
    let schema = json!({"type": "object", "properties": {"a": text, "b": text}});
    let path = w.define("Widget", &spec(schema));
    let all = list_of(w, "widgets");
    let first = w.create(&all, &object(w, "Widget", "first"));
    assert_eq!(first["a"], Value::Null);
    let at = |field: &str| format!("/spec/versions/0/schema/openAPIV3Schema/properties/{field}/default");
    w.patch(&path, "json-patch+json", &json!([{"op": "add", "path": at("a"), "value": "A"}]));
    // What is stored without it is read with it.
    let read = |name: &str, field: &str| w.get(&format!("{all}/{name}"))[field].take();
    wait_for("the default of a", || match read("first", "a") {
        Value::Null => false,
        a => {
            assert_eq!(a, "A");
            true
        }
    });
    let second = w.create(&all, &object(w, "Widget", "second"));
    assert_eq!(second["a"], "A");
    assert!(newer(&second, &first));
    let change = json!([{"op": "remove", "path": at("a")}, {"op": "add", "path": at("b"), "value": "B"}]);
    w.patch(&path, "json-patch+json", &change);
    wait_for("the default of b", || match read("second", "b") {
        Value::Null => false,
        b => {
            assert_eq!(b, "B");
            true
        }
    });
    assert_eq!(read("second", "a"), "A");
}
