//! Replica sets (test/e2e/apps/replica_set.go).

use serde_json::{Value, json};
use testkit::wait_for;

use crate::common::{
    NEXT, apps, controller, count, name, now, pod, pod_path, pods, pods_path, relabel, running, scales,
    selecting, sleeping, status_is_written, uid, wait_running, wait_until, workload,
};
use crate::world::{Tests, World, event, newer};

pub const TESTS: Tests = &[
    (
        "[sig-apps] ReplicaSet should serve a basic image on each replica with a public image [Conformance]",
        serve,
    ),
    (
        "[sig-apps] ReplicaSet should adopt matching pods on creation and release no longer matching pods [Conformance]",
        adopt_and_release,
    ),
    ("[sig-apps] ReplicaSet Replicaset should have a working scale subresource [Conformance]", scale),
    ("[sig-apps] ReplicaSet Replace and Patch tests [Conformance]", replace_and_patch),
    ("[sig-apps] ReplicaSet should list and delete a collection of ReplicaSets [Conformance]", collection),
    ("[sig-apps] ReplicaSet should validate Replicaset Status endpoints [Conformance]", status),
];

fn create(w: &World, replicas: usize, container: Value) -> Value {
    w.create(&apps(w, "replicasets"), &workload("rs", replicas, &json!({"app": "rs"}), container))
}

fn path(w: &World) -> String {
    format!("{}/rs", apps(w, "replicasets"))
}

/// Each replica of what has been created with `serving()` answers with its own name.
pub fn replicas_serve(w: &World, labels: &str, replicas: usize) {
    for pod in wait_running(w, labels, replicas) {
        let at = format!("{}:8080/proxy/", pod_path(w, name(&pod)));
        wait_for("a replica to answer", || {
            let answer = w.http.get(&at);
            answer.code == 200 && answer.text().trim() == name(&pod)
        });
    }
}

pub fn serving() -> Value {
    running("mkdir -p /w; hostname >/w/index.html; httpd -f -p 8080 -h /w")
}

/// Waits until a pod that was there has this controller.
pub fn wait_adopted(w: &World, pod: &str, by: &Value) {
    wait_until(w, &pod_path(w, pod), "to be adopted", |p| controller(p) == Some(uid(by)));
}

/// Takes a pod its labels and waits until it has no controller any more.
pub fn release(w: &World, pod: &str) {
    relabel(w, pod, &json!({"app": "not-matching"}));
    wait_until(w, &pod_path(w, pod), "to be released", |p| controller(p).is_none());
}

fn serve(w: &World) {
    create(w, 1, serving());
    replicas_serve(w, "app=rs", 1);
}

fn adopt_and_release(w: &World) {
    w.create(&pods_path(w), &pod("orphan", &json!({"app": "rs"}), sleeping()));
    wait_running(w, "app=rs", 1);
    let set = create(w, 1, sleeping());
    wait_adopted(w, "orphan", &set);
    assert_eq!(pods(w, "app=rs").len(), 1);
    release(w, "orphan");
    // And another comes in its place.
    let other = wait_running(w, "app=rs", 1);
    assert_eq!(controller(&other[0]), Some(uid(&set)));
}

fn scale(w: &World) {
    create(w, 1, sleeping());
    wait_until(w, &path(w), "to be available", |s| count(s, "availableReplicas") == 1);
    scales(w, &path(w));
}

fn replace_and_patch(w: &World) {
    let from = now(w, &apps(w, "replicasets"));
    let created = create(w, 1, sleeping());
    wait_running(w, "app=rs", 1);
    w.update(&path(w), "", |s| s["spec"]["replicas"] = json!(2));
    let template = json!({"spec": {
        "terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": NEXT}],
    }});
    let patch = json!({"metadata": {"labels": {"test-rs": "patched"}}, "spec": {"replicas": 3, "template": template}});
    let patched = w.patch(&path(w), "strategic-merge-patch+json", &patch);
    assert!(newer(&patched, &created));
    let mut lines = w.watch(&apps(w, "replicasets"), &from, &selecting("test-rs=patched"));
    event(&mut lines, "MODIFIED", |s| {
        let pod = &s["spec"]["template"]["spec"];
        count(s, "readyReplicas") == 3
            && count(s, "availableReplicas") == 3
            && pod["containers"][0]["image"] == NEXT
            && pod["terminationGracePeriodSeconds"] == 0
    });
}

fn collection(w: &World) {
    let labels = format!("e2e={}", w.namespace);
    let own = json!({"app": "rs", "e2e": w.namespace});
    w.create(&apps(w, "replicasets"), &workload("rs", 3, &own, sleeping()));
    wait_running(w, "app=rs", 3);
    let everywhere = format!("/apis/apps/v1/replicasets?{}", selecting(&labels));
    assert_eq!(w.items(&everywhere).len(), 1);
    let selected = format!("{}?{}", apps(w, "replicasets"), selecting(&labels));
    w.ask("DELETE", &selected, &json!({"gracePeriodSeconds": 1}), 200);
    assert!(w.items(&everywhere).is_empty());
}

fn status(w: &World) {
    let from = now(w, &apps(w, "replicasets"));
    create(w, 1, sleeping());
    wait_running(w, "app=rs", 1);
    status_is_written(w, &apps(w, "replicasets"), "rs", "app=rs", &from);
}
