//! A pod on each node (test/e2e/apps/daemon_set.go).

use std::collections::{BTreeMap, BTreeSet};

use e2e::machines::NODES;
use serde_json::{Value, json};
use testkit::wait_for;

use crate::common::{
    IMAGE, MISSING, NEXT, Undo, apps, controller, count, is_leaving, is_ready, name, now, pod_path, pods,
    selecting, sleeping, status_is_written, try_patch, uid, workload,
};
use crate::world::{Tests, World, newer};

pub const TESTS: Tests = &[
    ("[sig-apps] Daemon set [Serial] should run and stop simple daemon [Conformance]", simple),
    ("[sig-apps] Daemon set [Serial] should run and stop complex daemon [Conformance]", complex),
    ("[sig-apps] Daemon set [Serial] should retry creating failed daemon pods [Conformance]", failed_pod),
    (
        "[sig-apps] Daemon set [Serial] should update pod when spec was updated and update strategy is RollingUpdate [Conformance]",
        rolling_update,
    ),
    ("[sig-apps] Daemon set [Serial] should rollback without unnecessary restarts [Conformance]", rollback),
    (
        "[sig-apps] Daemon set [Serial] should list and delete a collection of DaemonSets [Conformance]",
        collection,
    ),
    ("[sig-apps] Daemon set [Serial] should verify changes to a daemon set status [Conformance]", status),
];

const COLOR: &str = "daemonset-color";

/// A set whose pods have the label `app=<name>`, as the set has; its path.
pub fn create(w: &World, set: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut body = workload(set, 0, &json!({"app": set}), sleeping());
    body["spec"].as_object_mut().expect("a spec").remove("replicas");
    change(&mut body);
    w.create(&apps(w, "daemonsets"), &body);
    format!("{}/{set}", apps(w, "daemonsets"))
}

/// The pods of a set that are not on their way out.
fn own(w: &World, set: &Value) -> Vec<Value> {
    let mut all = pods(w, &format!("app={}", name(set)));
    all.retain(|p| controller(p) == Some(uid(set)) && !is_leaving(p));
    all
}

/// Where available pods of a set are, and how many.
fn places(w: &World, set: &Value) -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    for pod in own(w, set).iter().filter(|p| is_ready(p)) {
        *out.entry(pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned()).or_insert(0) += 1;
    }
    out
}

/// Waits until one pod runs on each of these nodes and none elsewhere.
fn wait_on(w: &World, path: &str, nodes: &[&str]) {
    let set = w.get(path);
    let wanted: BTreeMap<String, usize> = nodes.iter().map(|n| ((*n).to_owned(), 1)).collect();
    wait_for(&format!("pods on {nodes:?} and nowhere else"), || places(w, &set) == wanted);
}

fn wait_status(w: &World, path: &str) {
    wait_for("the status to tell of it", || {
        let set = w.get(path);
        let desired = count(&set, "desiredNumberScheduled");
        desired == count(&set, "currentNumberScheduled") && desired == count(&set, "numberReady")
    });
}

pub fn wait_on_all(w: &World, path: &str) {
    wait_on(w, path, &NODES);
    wait_status(w, path);
}

/// The set goes with the test, and takes its pods with it before the next one begins.
fn wait_stopped(w: &World, path: &str) {
    let set = w.get(path);
    w.delete(path);
    wait_for("the pods to go", || pods(w, &format!("app={}", name(&set))).is_empty());
}

fn simple(w: &World) {
    let path = create(w, "daemon-set", |_| {});
    wait_on_all(w, &path);
    let first = own(w, &w.get(&path)).remove(0);
    w.delete(&pod_path(w, name(&first)));
    wait_on(w, &path, &NODES);
    assert!(own(w, &w.get(&path)).iter().all(|p| uid(p) != uid(&first)));
    wait_stopped(w, &path);
}

fn complex(w: &World) {
    let node = format!("/api/v1/nodes/{}", NODES[1]);
    let color = |value: Value| json!({"metadata": {"labels": {COLOR: value}}});
    let _undo = Undo(|| try_patch(w, &node, &color(Value::Null)));
    let path = create(w, "daemon-set", |s| {
        s["spec"]["template"]["spec"]["nodeSelector"] = json!({COLOR: "blue"});
    });
    wait_on(w, &path, &[]);
    w.patch(&node, "strategic-merge-patch+json", &color(json!("blue")));
    wait_on(w, &path, &[NODES[1]]);
    wait_status(w, &path);
    w.patch(&node, "strategic-merge-patch+json", &color(json!("green")));
    wait_on(w, &path, &[]);
    let green = json!({"template": {"spec": {"nodeSelector": {COLOR: "green"}}}, "updateStrategy": {"type": "RollingUpdate"}});
    w.patch(&path, "strategic-merge-patch+json", &json!({"spec": green}));
    wait_on(w, &path, &[NODES[1]]);
    wait_status(w, &path);
    wait_stopped(w, &path);
}

fn failed_pod(w: &World) {
    let path = create(w, "daemon-set", |_| {});
    wait_on_all(w, &path);
    let pod = own(w, &w.get(&path)).remove(0);
    let one = pod_path(w, name(&pod));
    w.update(&one, "/status", |p| p["status"]["phase"] = json!("Failed"));
    wait_on(w, &path, &NODES);
    wait_for("the failed pod to be deleted", || w.gone(&one));
    wait_on(w, &path, &NODES);
    wait_stopped(w, &path);
}

/// Waits until there are this many revisions; the one that the set's template is in.
fn revision(w: &World, path: &str, n: usize) -> Value {
    let selected = selecting(&format!("app={}", path.rsplit('/').next().expect("a name")));
    let list = format!("{}?{selected}", apps(w, "controllerrevisions"));
    wait_for(&format!("{n} revisions"), || w.items(&list).len() == n);
    let set = w.get(path);
    let is_current = |r: &Value| {
        let mut template = r["data"]["spec"]["template"].clone();
        template.as_object_mut().expect("a template").remove("$patch");
        template == set["spec"]["template"]
    };
    let current: Vec<Value> = w.items(&list).into_iter().filter(is_current).collect();
    let [current] = current.as_slice() else { panic!("not one current revision: {current:#?}") };
    assert_eq!(current["revision"], n);
    current.clone()
}

/// Each pod has the hash of this revision.
fn pods_are_of(w: &World, path: &str, revision: &Value) {
    let hash = &revision["metadata"]["labels"]["controller-revision-hash"];
    assert!(hash.as_str().is_some_and(|h| !h.is_empty()), "{revision}");
    for pod in own(w, &w.get(path)) {
        assert_eq!(&pod["metadata"]["labels"]["controller-revision-hash"], hash);
    }
}

/// Waits until each node has a pod with this image; never are more than `unavailable` pods not there.
fn wait_image(w: &World, path: &str, image: &str, unavailable: usize) {
    let set = w.get(path);
    wait_for(&format!("pods with {image} everywhere"), || {
        let all = own(w, &set);
        let down = all.iter().filter(|p| !is_ready(p)).count();
        assert!(down <= unavailable, "{down} pods are not available");
        let with = all.iter().filter(|p| p["spec"]["containers"][0]["image"] == image);
        let nodes: BTreeSet<&str> = with.filter_map(|p| p["spec"]["nodeName"].as_str()).collect();
        nodes == BTreeSet::from(NODES)
    });
}

fn set_image(w: &World, path: &str, image: &str) -> Value {
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    w.patch(path, "strategic-merge-patch+json", &patch)
}

fn rolling_update(w: &World) {
    let path = create(w, "daemon-set", |s| s["spec"]["updateStrategy"] = json!({"type": "RollingUpdate"}));
    wait_on(w, &path, &NODES);
    let before = w.get(&path);
    pods_are_of(w, &path, &revision(w, &path, 1));
    assert!(newer(&set_image(w, &path, NEXT), &before));
    wait_image(w, &path, NEXT, 1);
    wait_on(w, &path, &NODES);
    pods_are_of(w, &path, &revision(w, &path, 2));
    wait_stopped(w, &path);
}

fn rollback(w: &World) {
    let path = create(w, "daemon-set", |s| s["spec"]["updateStrategy"] = json!({"type": "RollingUpdate"}));
    wait_on(w, &path, &NODES);
    set_image(w, &path, MISSING);
    let image = |p: &Value| p["spec"]["containers"][0]["image"].as_str().unwrap_or_default().to_owned();
    let set = w.get(&path);
    wait_for("a pod with an image that nobody has", || own(w, &set).iter().any(|p| image(p) == MISSING));
    let all = own(w, &set);
    let kept: Vec<&Value> = all.iter().filter(|p| image(p) == IMAGE).collect();
    assert!(all.iter().all(|p| image(p) == IMAGE || image(p) == MISSING), "{all:#?}");
    assert!(!kept.is_empty(), "no pod was spared");
    set_image(w, &path, IMAGE);
    wait_image(w, &path, IMAGE, 1);
    let after = own(w, &set);
    for pod in kept {
        assert!(after.iter().any(|p| uid(p) == uid(pod)), "{} was restarted", name(pod));
    }
    wait_stopped(w, &path);
}

fn collection(w: &World) {
    let set = format!("ds-{}", w.namespace);
    let path = create(w, &set, |_| {});
    wait_on_all(w, &path);
    let selected = selecting(&format!("app={set}"));
    let everywhere = format!("/apis/apps/v1/daemonsets?{selected}");
    assert_eq!(w.items(&everywhere).len(), 1);
    let options = json!({"gracePeriodSeconds": 1});
    w.ask("DELETE", &format!("{}?{selected}", apps(w, "daemonsets")), &options, 200);
    assert!(w.items(&everywhere).is_empty());
    wait_for("the pods to go", || pods(w, &format!("app={set}")).is_empty());
}

fn status(w: &World) {
    let from = now(w, &apps(w, "daemonsets"));
    let path = create(w, "daemon-set", |_| {});
    wait_on_all(w, &path);
    status_is_written(w, &apps(w, "daemonsets"), "daemon-set", "app=daemon-set", &from);
    wait_stopped(w, &path);
}
