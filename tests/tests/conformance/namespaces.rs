//! Namespaces and their end (test/e2e/apimachinery/namespace.go).

use serde_json::{Value, json};
use testkit::{node_possible, skip, wait_for};

use crate::operations::{add_condition, has_condition};
use crate::world::{Tests, World, assert_holds, newer};

pub const TESTS: Tests = &[
    (
        "[sig-api-machinery] Namespaces [Serial] should ensure that all pods are removed when a namespace is deleted [Conformance]",
        pods_go,
    ),
    (
        "[sig-api-machinery] Namespaces [Serial] should ensure that all services are removed when a namespace is deleted [Conformance]",
        services_go,
    ),
    ("[sig-api-machinery] Namespaces [Serial] should patch a Namespace [Conformance]", patch),
    (
        "[sig-api-machinery] Namespaces [Serial] should apply changes to a namespace status [Conformance]",
        status,
    ),
    ("[sig-api-machinery] Namespaces [Serial] should apply an update to a Namespace [Conformance]", update),
    (
        "[sig-api-machinery] Namespaces [Serial] should apply a finalizer to a Namespace [Conformance]",
        finalizer,
    ),
    (
        "[sig-api-machinery] OrderedNamespaceDeletion namespace deletion should delete pod first [Conformance]",
        pods_go_first,
    ),
];

/// A namespace beside the test's own; its path.
fn second(w: &World) -> String {
    let name = format!("{}-second", w.namespace);
    w.create_namespace(&name, json!({}));
    format!("/api/v1/namespaces/{name}")
}

/// A pod that runs; its path.
fn running(w: &World, namespace: &str, finalizers: &Value) -> String {
    let container = json!({"name": "c", "image": "busybox:1.36", "command": ["sleep", "3600"]});
    w.create(
        &format!("{namespace}/pods"),
        &json!({
            "metadata": {"name": "pod", "finalizers": finalizers},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
        }),
    );
    let path = format!("{namespace}/pods/pod");
    wait_for("the pod to run", || w.get(&path)["status"]["phase"] == "Running");
    path
}

/// Deletes a namespace, waits for its end, and makes another of its name.
fn begin_anew(w: &World, namespace: &str) {
    w.delete(namespace);
    wait_for("the end of the namespace", || w.gone(namespace));
    let name = namespace.rsplit('/').next();
    w.create("/api/v1/namespaces", &json!({"metadata": {"name": name}}));
}

fn pods_go(w: &World) {
    if !node_possible() {
        return skip("running containers needs root");
    }
    let namespace = second(w);
    let pod = running(w, &namespace, &json!([]));
    begin_anew(w, &namespace);
    assert!(w.gone(&pod));
}

fn services_go(w: &World) {
    let namespace = second(w);
    let spec = json!({"selector": {"foo": "bar", "baz": "blah"}, "ports": [{"port": 80, "targetPort": 80}]});
    w.create(&format!("{namespace}/services"), &json!({"metadata": {"name": "service"}, "spec": spec}));
    begin_anew(w, &namespace);
    assert!(w.gone(&format!("{namespace}/services/service")));
}

fn patch(w: &World) {
    let path = second(w);
    let before = w.get(&path);
    let patch = json!({"metadata": {"labels": {"testLabel": "testValue"}}});
    assert!(newer(&w.patch(&path, "strategic-merge-patch+json", &patch), &before));
    assert_holds(&w.get(&path), &patch);
}

fn status(w: &World) {
    let path = format!("/api/v1/namespaces/{}", w.namespace);
    let got = w.get(&format!("{path}/status"));
    assert_holds(&got, &json!({"kind": "Namespace", "status": {"phase": "Active"}}));
    let mut patch = json!({"metadata": {"annotations": {"patched-status": w.namespace}}});
    add_condition(&mut patch, "StatusPatch", "True");
    let patched = w.patch(&format!("{path}/status"), "merge-patch+json", &patch);
    assert_holds(&patched["metadata"], &patch["metadata"]);
    let last =
        |o: &Value| o["status"]["conditions"].as_array().and_then(|l| l.last().cloned()).unwrap_or_default();
    assert_holds(&last(&patched), &last(&patch));
    let updated = w.update(&path, "/status", |o| add_condition(o, "StatusUpdate", "True"));
    assert!(has_condition(&updated, "StatusPatch"), "{updated}");
    assert_holds(&last(&updated), &json!({"type": "StatusUpdate", "message": "Set from a test"}));
}

fn update(w: &World) {
    let path = format!("/api/v1/namespaces/{}", w.namespace);
    let updated = w.update(&path, "", |o| o["metadata"]["labels"][&w.namespace] = "updated".into());
    assert_eq!(updated["metadata"]["labels"][&w.namespace], "updated");
}

fn finalizer(w: &World) {
    const OURS: &str = "e2e.example.com/fakeFinalizer";
    let path = second(w);
    let has = |o: &Value| o["spec"]["finalizers"].as_array().is_some_and(|l| l.iter().any(|f| f == OURS));
    let added = w.update(&path, "/finalize", |o| match o["spec"]["finalizers"].as_array_mut() {
        Some(list) => list.push(OURS.into()),
        None => panic!("a namespace has finalizers: {o}"),
    });
    assert!(has(&added), "{added}");
    assert!(has(&w.get(&path)));
    let removed = w.update(&path, "/finalize", |o| {
        o["spec"]["finalizers"].as_array_mut().expect("finalizers").retain(|f| f != OURS);
    });
    assert!(!has(&removed), "{removed}");
    assert_eq!(removed["spec"]["finalizers"], json!(["kubernetes"]));
}

fn pods_go_first(w: &World) {
    if !node_possible() {
        return skip("running containers needs root");
    }
    let namespace = second(w);
    let pod = running(w, &namespace, &json!(["e2e.example.com/finalizer"]));
    let map = format!("{namespace}/configmaps/map");
    w.create(
        &format!("{namespace}/configmaps"),
        &json!({"metadata": {"name": "map"}, "data": {"key": "value"}}),
    );
    let release = Released { w, pod: &pod };
    w.delete(&namespace);
    wait_for("the namespace to say what holds it", || {
        let namespace = w.get(&namespace);
        namespace["status"]["phase"] == "Terminating"
            && has_condition(&namespace, "NamespaceDeletionContentFailure")
    });
    wait_for("the pod's deletion", || {
        assert!(!w.gone(&map), "the map went before the pod");
        !w.get(&pod)["metadata"]["deletionTimestamp"].is_null()
    });
    drop(release);
    wait_for("the pod to go", || w.gone(&pod));
    wait_for("the end of the namespace", || w.gone(&namespace));
}

/// Takes the finalizers from a pod, so that its namespace can end also when the test fails.
struct Released<'a> {
    w: &'a World<'a>,
    pod: &'a str,
}

impl Drop for Released<'_> {
    fn drop(&mut self) {
        let kind = [("content-type", "application/merge-patch+json")];
        let patch = br#"{"metadata":{"finalizers":null}}"#;
        if let Err(e) = self.w.http.try_send("PATCH", self.pod, &kind, patch) {
            eprintln!("failed to release {}: {e}", self.pod);
        }
    }
}
