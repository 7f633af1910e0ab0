//! The order in which stateful sets grow and shrink (test/e2e/apps/statefulset.go).

use serde_json::json;
use testkit::wait_for;

use crate::common::{
    count, is_observed, is_ready, is_running, meanwhile, name, now, pods_path, selecting, wait_until,
};
use crate::stateful_sets::{create, own, path, probe, wait_ready};
use crate::world::{Tests, World};
use testkit::http::Lines;

pub const TESTS: Tests = &[
    (
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Scaling should happen in predictable order and halt if any stateful pod is unhealthy [Slow] [Conformance]",
        in_order,
    ),
    (
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Burst scaling should run to completion even with unhealthy pods [Slow] [Conformance]",
        in_a_burst,
    ),
];

fn scale(w: &World, replicas: usize) {
    w.patch(&path(w), "merge-patch+json", &json!({"spec": {"replicas": replicas}}));
}

/// Makes all pods unready, and waits until that is known.
fn break_all(w: &World, n: usize) {
    for pod in own(w) {
        probe(w, name(&pod), false);
    }
    wait_for("all to run without being ready", || {
        let all = own(w);
        assert_eq!(all.len(), n);
        all.iter().all(|p| is_running(p) && !is_ready(p))
    });
    wait_until(w, &path(w), "no ready replicas", |s| count(s, "readyReplicas") == 0);
}

/// Gives the page back to those that lack it; one that is on its way out needs none.
fn restore(w: &World) {
    for pod in own(w) {
        let command = "[ ! -e /page ] || mv /page /w/page";
        w.try_kubectl(&["exec", name(&pod), "--", "sh", "-c", command], None);
    }
}

/// The names of the pods that these events are about, in their order, until all three were there.
fn names(mut lines: Lines, kind: &str) -> Vec<String> {
    let mut names = Vec::new();
    while names.len() < 3 {
        let event = lines.event().expect("the watch ended before the third");
        assert_ne!(event["type"], "ERROR", "{event}");
        if event["type"] == kind {
            names.push(name(&event["object"]).to_owned());
        }
    }
    names
}

fn in_order(w: &World) {
    let watch = || w.watch(&pods_path(w), &now(w, &pods_path(w)), &selecting("app=ss"));
    let lines = watch();
    create(w, 1, |_| {});
    wait_ready(w, 1);
    break_all(w, 1);
    scale(w, 3);
    wait_until(w, &path(w), "to be observed", is_observed);
    meanwhile(w, || assert_eq!(own(w).len(), 1, "it grew beside a pod that is not ready"));
    restore(w);
    wait_ready(w, 3);
    assert_eq!(names(lines, "ADDED"), ["ss-0", "ss-1", "ss-2"]);

    let lines = watch();
    break_all(w, 3);
    scale(w, 0);
    wait_until(w, &path(w), "to be observed", is_observed);
    meanwhile(w, || assert_eq!(own(w).len(), 3, "it shrank beside pods that are not ready"));
    restore(w);
    wait_for("all pods to go", || own(w).is_empty());
    assert_eq!(names(lines, "DELETED"), ["ss-2", "ss-1", "ss-0"]);
}

fn in_a_burst(w: &World) {
    create(w, 1, |s| s["spec"]["podManagementPolicy"] = json!("Parallel"));
    wait_ready(w, 1);
    break_all(w, 1);
    scale(w, 3);
    wait_for("three pods beside one that is not ready", || own(w).len() == 3);
    restore(w);
    wait_ready(w, 3);
    break_all(w, 3);
    scale(w, 0);
    wait_for("all pods to go though none is ready", || own(w).is_empty());
    wait_until(w, &path(w), "no replicas", |s| count(s, "replicas") == 0);
}
