//! The garbage collector (test/e2e/apimachinery/garbage_collector.go). Upstream waits to see that nothing is deleted by
//! mistake; here the collector is given something else to delete, and is known to be past its work when that is gone.

use serde_json::{Value, json};
use testkit::wait_for;

use crate::world::{Tests, World};

pub const TESTS: Tests = &[
    (
        "[sig-api-machinery] Garbage collector should delete pods created by rc when not orphaning [Conformance]",
        pods_of_a_controller,
    ),
    (
        "[sig-api-machinery] Garbage collector should orphan pods created by rc if delete options say so [Serial] [Conformance]",
        orphaned_pods,
    ),
    (
        "[sig-api-machinery] Garbage collector should delete RS created by deployment when not orphaning [Conformance]",
        sets_of_a_deployment,
    ),
    (
        "[sig-api-machinery] Garbage collector should orphan RS created by deployment when deleteOptions.PropagationPolicy is Orphan [Conformance]",
        orphaned_set,
    ),
    (
        "[sig-api-machinery] Garbage collector should keep the rc around until all its pods are deleted if the deleteOptions says so [Serial] [Conformance]",
        pods_first,
    ),
    (
        "[sig-api-machinery] Garbage collector should not delete dependents that have both valid owner and owner that's waiting for dependents to be deleted [Serial] [Conformance]",
        another_owner,
    ),
    (
        "[sig-api-machinery] Garbage collector should not be blocked by dependency circle [Conformance]",
        circle,
    ),
];

/// The least that upstream takes for many.
const MANY: usize = 10;

fn pod_spec() -> Value {
    let sleep = json!({"name": "c", "image": "busybox:1.36", "command": ["sleep", "3600"]});
    json!({"terminationGracePeriodSeconds": 0, "containers": [sleep]})
}

fn controller(w: &World, name: &str, replicas: usize) -> Value {
    let template = json!({"metadata": {"labels": {"of": name}}, "spec": pod_spec()});
    let spec = json!({"replicas": replicas, "selector": {"of": name}, "template": template});
    w.create(&controllers(w), &json!({"metadata": {"name": name}, "spec": spec}))
}

fn deployment(w: &World) -> Value {
    let template = json!({"metadata": {"labels": {"of": "d"}}, "spec": pod_spec()});
    let spec = json!({"replicas": 2, "selector": {"matchLabels": {"of": "d"}}, "template": template});
    w.create(&w.path("apis/apps/v1", "deployments"), &json!({"metadata": {"name": "d"}, "spec": spec}))
}

fn controllers(w: &World) -> String {
    w.path("api/v1", "replicationcontrollers")
}

fn pods(w: &World) -> Vec<Value> {
    w.items(&w.path("api/v1", "pods"))
}

fn sets(w: &World) -> Vec<Value> {
    w.items(&w.path("apis/apps/v1", "replicasets"))
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().expect("a name")
}

fn owners(object: &Value) -> &[Value] {
    object["metadata"]["ownerReferences"].as_array().map_or(&[], Vec::as_slice)
}

fn wait_for_replicas(w: &World, path: &str, n: usize) {
    wait_for("the replicas in the status", || w.get(path)["status"]["replicas"] == n);
}

/// Deletes this very object with a propagation policy.
fn delete(w: &World, path: &str, object: &Value, policy: &str) {
    let preconditions = json!({"uid": object["metadata"]["uid"]});
    let options = json!({"propagationPolicy": policy, "preconditions": preconditions});
    // Whoever asks for dependents first is told that they are not gone yet.
    let code = if policy == "Foreground" { 202 } else { 200 };
    w.ask("DELETE", &format!("{path}/{}", name(object)), &options, code);
}

/// Returns when the collector has deleted something that was due after what it has to do for the caller.
fn collector_has_passed(w: &World) {
    let maps = w.path("api/v1", "configmaps");
    let owner = w.create(&maps, &json!({"metadata": {"name": "owner"}}));
    let reference =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]});
    let owned = json!({"metadata": {"name": "owned", "ownerReferences": [reference]}});
    w.create(&maps, &owned);
    delete(w, &maps, &owner, "Background");
    wait_for("the collector", || w.gone(&format!("{maps}/owned")));
}

fn pods_of_a_controller(w: &World) {
    let rc = controller(w, "rc", 2);
    // Not all of them: it may be deleted while it still creates.
    wait_for("a pod", || !pods(w).is_empty());
    delete(w, &controllers(w), &rc, "Background");
    wait_for("the pods to go", || w.items(&controllers(w)).is_empty() && pods(w).is_empty());
}

fn orphaned_pods(w: &World) {
    let rc = controller(w, "rc", MANY);
    wait_for_replicas(w, &format!("{}/rc", controllers(w)), MANY);
    delete(w, &controllers(w), &rc, "Orphan");
    wait_for("the controller to go", || w.items(&controllers(w)).is_empty());
    collector_has_passed(w);
    let pods = pods(w);
    assert_eq!(pods.len(), MANY);
    for pod in &pods {
        assert!(owners(pod).is_empty() && pod["metadata"]["deletionTimestamp"].is_null(), "{pod}");
    }
}

fn sets_of_a_deployment(w: &World) {
    let path = w.path("apis/apps/v1", "deployments");
    let deployment = deployment(w);
    wait_for("a replica set", || !sets(w).is_empty());
    delete(w, &path, &deployment, "Background");
    wait_for("all to go", || w.items(&path).is_empty() && sets(w).is_empty() && pods(w).is_empty());
}

fn orphaned_set(w: &World) {
    let path = w.path("apis/apps/v1", "deployments");
    let deployment = deployment(w);
    wait_for("a replica set with its pods", || sets(w).first().is_some_and(|s| s["status"]["replicas"] == 2));
    delete(w, &path, &deployment, "Orphan");
    wait_for("the deployment to go", || w.items(&path).is_empty());
    collector_has_passed(w);
    let (sets, pods) = (sets(w), pods(w));
    assert_eq!((sets.len(), pods.len()), (1, 2));
    assert!(owners(&sets[0]).is_empty(), "{}", sets[0]);
    // The pods' owner is still there.
    for pod in &pods {
        assert_eq!(owners(pod)[0]["uid"], sets[0]["metadata"]["uid"]);
    }
}

fn pods_first(w: &World) {
    let rc = controller(w, "rc", MANY);
    let path = format!("{}/rc", controllers(w));
    wait_for_replicas(w, &path, MANY);
    delete(w, &controllers(w), &rc, "Foreground");
    wait_for("the controller to go", || w.gone(&path));
    // It went last.
    assert!(pods(w).is_empty());
}

fn another_owner(w: &World) {
    let deleted = controller(w, "deleted", MANY);
    let stays = controller(w, "stays", 0);
    let path = format!("{}/deleted", controllers(w));
    wait_for_replicas(w, &path, MANY);
    let reference = json!({
        "apiVersion": "v1", "kind": "ReplicationController", "name": "stays", "uid": stays["metadata"]["uid"],
    });
    let patch = json!({"metadata": {"ownerReferences": [reference]}});
    for pod in &pods(w)[..MANY / 2] {
        let path = format!("{}/{}", w.path("api/v1", "pods"), name(pod));
        // Beside the one it has.
        assert_eq!(owners(&w.patch(&path, "strategic-merge-patch+json", &patch)).len(), 2);
    }
    delete(w, &controllers(w), &deleted, "Foreground");
    wait_for("the controller to go", || w.gone(&path));
    let left = pods(w);
    assert_eq!(left.len(), MANY / 2);
    for pod in &left {
        assert!(pod["metadata"]["deletionTimestamp"].is_null(), "{pod}");
        assert_eq!(owners(pod), std::slice::from_ref(&reference));
    }
}

fn circle(w: &World) {
    let path = w.path("api/v1", "pods");
    let made = ["pod1", "pod2", "pod3"]
        .map(|name| w.create(&path, &json!({"metadata": {"name": name}, "spec": pod_spec()})));
    // Each has the one before it as its owner, and the first the last.
    let owned = [0, 1, 2].map(|i| {
        let owner = &made[(i + 2) % 3]["metadata"];
        let reference = json!({
            "apiVersion": "v1", "kind": "Pod", "name": owner["name"], "uid": owner["uid"],
            "controller": true, "blockOwnerDeletion": true,
        });
        let patch = json!({"metadata": {"ownerReferences": [reference]}});
        w.patch(&format!("{path}/{}", name(&made[i])), "strategic-merge-patch+json", &patch)
    });
    delete(w, &path, &owned[0], "Foreground");
    wait_for("all pods to go", || pods(w).is_empty());
}
