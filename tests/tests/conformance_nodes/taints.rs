//! Pods on nodes that become unfit for them (test/e2e/node/taints.go).

use e2e::machines::NODES;
use serde_json::{Value, json};
use testkit::wait_for;

use crate::common::{Undo, is_leaving, is_running, pod, pod_path, pods_path, sleeping, wait_until};
use crate::predicates::node_path;
use crate::world::{Tests, World, event};

pub const TESTS: Tests = &[
    (
        "[sig-node] NoExecuteTaintManager Single Pod [Serial] removing taint cancels eviction [Disruptive] [Conformance]",
        taken_back,
    ),
    (
        "[sig-node] NoExecuteTaintManager Multiple Pods [Serial] evicts pods with minTolerationSeconds [Disruptive] [Conformance]",
        in_time,
    ),
];

const KEY: &str = "kubernetes.io/e2e-evict-taint-key";

/// Taints a node until what this returns goes.
fn taint<'w>(w: &'w World, node: &str) -> Undo<impl FnMut() + use<'w>> {
    let path = node_path(node);
    let taint = json!({"key": KEY, "value": "evictTaintVal", "effect": "NoExecute"});
    let tainted = w.patch(&path, "strategic-merge-patch+json", &json!({"spec": {"taints": [taint]}}));
    let has = |n: &Value| n["spec"]["taints"].as_array().is_some_and(|l| l.iter().any(|t| t["key"] == KEY));
    assert!(has(&tainted), "{}", tainted["spec"]);
    Undo(move || {
        crate::common::try_patch(w, &path, &json!({"spec": {"taints": null}}));
    })
}

/// A pod that stands the taint for so long.
fn run(w: &World, name: &str, node: &str, seconds: u32) {
    let mut body = pod(name, &json!({"group": "taints"}), sleeping());
    body["spec"]["terminationGracePeriodSeconds"] = json!(0);
    body["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": w.get(&node_path(node))["metadata"]["labels"]["kubernetes.io/hostname"]});
    body["spec"]["tolerations"] = json!([{
        "key": KEY, "value": "evictTaintVal", "effect": "NoExecute", "tolerationSeconds": seconds,
    }]);
    w.create(&pods_path(w), &body);
    let pod = wait_until(w, &pod_path(w, name), "to run", is_running);
    assert_eq!(pod["spec"]["nodeName"], node);
}

/// The pod of a node that was tainted later and for good goes; the other's time was over before.
fn taken_back(w: &World) {
    run(w, "stays", NODES[1], 3);
    run(w, "goes", NODES[2], 3);
    let for_a_moment = taint(w, NODES[1]);
    let _for_good = taint(w, NODES[2]);
    assert!(!is_leaving(&w.get(&pod_path(w, "stays"))), "evicted though it stands the taint");
    drop(for_a_moment);
    wait_for("the other pod to go", || w.gone(&pod_path(w, "goes")));
    assert!(is_running(&w.get(&pod_path(w, "stays"))), "evicted though the taint was taken back");
}

fn in_time(w: &World) {
    // The longer one first: that they go in the order of their times is seen.
    run(w, "late", NODES[1], 4);
    run(w, "early", NODES[1], 1);
    let pods = pods_path(w);
    let mut lines = w.watch(&pods, &crate::common::now(w, &pods), "labelSelector=group%3Dtaints");
    let _tainted = taint(w, NODES[1]);
    for name in ["early", "late"] {
        let gone = event(&mut lines, "DELETED", |_| true);
        assert_eq!(crate::common::name(&gone), name);
    }
}
