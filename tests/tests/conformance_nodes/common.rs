//! What the tests share: pods to run, what is asked of pods, and what upstream asks of every kind of workload.

use e2e::machines::Machines;
use serde_json::{Value, json};
use testkit::wait_for;

use crate::operations::has_condition;
use crate::world::{World, event};

pub struct Three(pub Machines);

/// Two images that hold the same, so that a pod's image can change.
pub const IMAGE: &str = "busybox:1.36";
pub const NEXT: &str = "busybox:next";
/// Nobody has it, and nobody answers there.
pub const MISSING: &str = "localhost:1/nobody:missing";

/// A container that sleeps.
pub fn sleeping() -> Value {
    running("sleep 3600")
}

/// A container that runs a script and ends when it is told to.
pub fn running(script: &str) -> Value {
    json!({"name": "c", "image": IMAGE, "command": ["sh", "-c", format!("trap 'exit 0' TERM; {script} & wait $!")]})
}

pub fn pod_spec(container: Value) -> Value {
    json!({"terminationGracePeriodSeconds": 1, "containers": [container]})
}

pub fn pod(name: &str, labels: &Value, container: Value) -> Value {
    json!({"metadata": {"name": name, "labels": labels}, "spec": pod_spec(container)})
}

/// A Deployment, ReplicaSet or StatefulSet.
pub fn workload(name: &str, replicas: usize, labels: &Value, container: Value) -> Value {
    let template = json!({"metadata": {"labels": labels}, "spec": pod_spec(container)});
    let spec = json!({"replicas": replicas, "selector": {"matchLabels": labels}, "template": template});
    json!({"metadata": {"name": name, "labels": labels}, "spec": spec})
}

pub fn apps(w: &World, resource: &str) -> String {
    w.path("apis/apps/v1", resource)
}

pub fn pods_path(w: &World) -> String {
    w.path("api/v1", "pods")
}

pub fn pod_path(w: &World, name: &str) -> String {
    format!("{}/{name}", pods_path(w))
}

/// As it stands in a query: `a=b,c=d`.
pub fn selecting(labels: &str) -> String {
    format!("labelSelector={}", labels.replace('=', "%3D").replace(',', "%2C"))
}

/// All pods of the namespace, or those with these labels.
pub fn pods(w: &World, labels: &str) -> Vec<Value> {
    w.items(&format!("{}?{}", pods_path(w), selecting(labels)))
}

pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_else(|| panic!("no name in {object}"))
}

pub fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_else(|| panic!("no uid in {object}"))
}

pub fn is_leaving(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == kind)
}

/// Whether a condition is there and true.
pub fn is(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|c| c["status"] == "True")
}

pub fn is_ready(pod: &Value) -> bool {
    is(pod, "Ready") && !is_leaving(pod)
}

pub fn is_running(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running" && !is_leaving(pod)
}

/// The UID of the controller of an object.
pub fn controller(object: &Value) -> Option<&str> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|o| o["controller"] == true)?["uid"].as_str()
}

/// An integer of a status; one that is not there is 0.
pub fn count(object: &Value, field: &str) -> u64 {
    object["status"][field].as_u64().unwrap_or_default()
}

/// Whether the controller has seen the latest state of an object.
pub fn is_observed(object: &Value) -> bool {
    object["status"]["observedGeneration"].as_u64() >= object["metadata"]["generation"].as_u64()
}

/// Waits until there are this many pods with these labels and all of them run.
pub fn wait_running(w: &World, labels: &str, replicas: usize) -> Vec<Value> {
    let mut found = Vec::new();
    wait_for(&format!("{replicas} running pods with {labels}"), || {
        found = pods(w, labels);
        found.len() == replicas && found.iter().all(is_running)
    });
    found
}

/// Waits until an object is as wanted; its state then.
pub fn wait_until(w: &World, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut object = Value::Null;
    wait_for(&format!("{path}: {what}"), || {
        object = w.get(path);
        wanted(&object)
    });
    object
}

/// Takes the labels from a pod, so that nobody selects it.
pub fn relabel(w: &World, name: &str, labels: &Value) {
    w.update(&pod_path(w, name), "", |p| p["metadata"]["labels"] = labels.clone());
}

/// Asks every so often, from the start of something that takes a while to its end: a set that makes a pod, and loses it.
pub fn meanwhile(w: &World, mut check: impl FnMut()) {
    let labels = json!({"is": "witness"});
    let mut set = workload("witness", 1, &labels, sleeping());
    set["spec"]["serviceName"] = json!("witness");
    w.create(&apps(w, "statefulsets"), &set);
    let path = format!("{}/witness", apps(w, "statefulsets"));
    wait_for("the witness to be ready", || {
        check();
        count(&w.get(&path), "readyReplicas") == 1
    });
    w.patch(&path, "merge-patch+json", &json!({"spec": {"replicas": 0}}));
    wait_for("the witness to be gone", || {
        check();
        pods(w, "is=witness").is_empty()
    });
    w.delete(&path);
}

/// Undoes something when it goes, also in a panic. What it calls must not panic itself.
pub struct Undo<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for Undo<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A patch that may fail, for `Undo`.
pub fn try_patch(w: &World, path: &str, body: &Value) {
    let kind = [("content-type", "application/strategic-merge-patch+json")];
    match w.http.try_send("PATCH", path, &kind, body.to_string().as_bytes()) {
        Ok(answer) if answer.code == 200 => {}
        failed => eprintln!("failed to patch {path}: {failed:?}"),
    }
}

/// What upstream asks of a workload's scale: it is read, set without a version, and patched.
pub fn scales(w: &World, path: &str) {
    let scale_path = format!("{path}/scale");
    let mut scale = w.get(&scale_path);
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["replicas"]), (&json!(1), &json!(1)), "{scale}");
    scale["metadata"].as_object_mut().expect("metadata").remove("resourceVersion");
    scale["spec"]["replicas"] = json!(2);
    let set = w.ask("PUT", &scale_path, &scale, 200);
    assert_eq!(set["spec"]["replicas"], 2);
    assert_eq!(w.get(path)["spec"]["replicas"], 2);
    // A whole Scale, as Go writes it.
    let patch = json!({"metadata": {}, "spec": {"replicas": 4}, "status": {"replicas": 0}});
    w.patch(&scale_path, "strategic-merge-patch+json", &patch);
    assert_eq!(w.get(path)["spec"]["replicas"], 4);
}

/// What upstream asks of a workload's status: it is read, updated and patched, and whoever watches from `from` on sees it.
pub fn status_is_written(w: &World, collection: &str, object: &str, labels: &str, from: &str) {
    let path = format!("{collection}/{object}");
    let (whole, read) = (w.get(&path), w.get(&format!("{path}/status")));
    assert_eq!((uid(&whole), &whole["kind"]), (uid(&read), &read["kind"]));
    assert!(read["status"].is_object(), "{read}");
    let update =
        json!({"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from a test"});
    let updated = w.update(&path, "/status", |o| match o["status"]["conditions"].as_array_mut() {
        Some(list) => list.push(update.clone()),
        None => o["status"]["conditions"] = json!([update]),
    });
    assert!(has_condition(&updated, "StatusUpdate"), "{updated}");
    let seen = |wanted: &dyn Fn(&Value) -> bool| {
        let mut lines = w.watch(collection, from, &selecting(labels));
        event(&mut lines, "MODIFIED", |o| name(o) == object && wanted(o))
    };
    seen(&|o| {
        condition(o, "StatusUpdate")
            .is_some_and(|c| c["reason"] == "E2E" && c["message"] == "Set from a test")
    });
    let patch = json!({"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}});
    let patched = w.patch(&format!("{path}/status"), "merge-patch+json", &patch);
    assert!(has_condition(&patched, "StatusPatched"), "{patched}");
    seen(&|o| has_condition(o, "StatusPatched"));
}

/// Reads a list for its version.
pub fn now(w: &World, collection: &str) -> String {
    crate::world::version(&w.get(collection)).to_owned()
}
