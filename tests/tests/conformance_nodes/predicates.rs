//! Where pods may run (test/e2e/scheduling/predicates.go).

use e2e::machines::NODES;
use serde_json::{Value, json};
use testkit::wait_for;

use crate::common::{
    Undo, condition, is_running, name, pod, pod_path, pods, pods_path, sleeping, try_patch, wait_until,
};
use crate::world::{Tests, World};

pub const TESTS: Tests = &[
    (
        "[sig-scheduling] SchedulerPredicates [Serial] validates resource limits of pods that are allowed to run [Conformance]",
        resource_limits,
    ),
    (
        "[sig-scheduling] SchedulerPredicates [Serial] validates that NodeSelector is respected if not matching [Conformance]",
        selector_without_node,
    ),
    (
        "[sig-scheduling] SchedulerPredicates [Serial] validates that NodeSelector is respected if matching [Conformance]",
        selector_with_node,
    ),
    (
        "[sig-scheduling] SchedulerPredicates [Serial] validates that there exists conflict between pods with same hostPort and protocol but one using 0.0.0.0 hostIP [Conformance]",
        host_ports,
    ),
];

pub fn node_path(node: &str) -> String {
    format!("/api/v1/nodes/{node}")
}

/// Gives a node a label until what this returns goes.
fn label<'w>(w: &'w World, node: &str, key: &str, value: &str) -> Undo<impl FnMut() + use<'w>> {
    let (path, key) = (node_path(node), key.to_owned());
    let labeled =
        w.patch(&path, "strategic-merge-patch+json", &json!({"metadata": {"labels": {&key: value}}}));
    assert_eq!(labeled["metadata"]["labels"][&key], value);
    Undo(move || try_patch(w, &path, &json!({"metadata": {"labels": {&key: null}}})))
}

/// Waits for the scheduler to say that it finds no place, in words that have this part.
fn no_place(w: &World, pod: &str, part: &str) {
    let events = w.path("api/v1", "events");
    wait_for("an event of failed scheduling", || {
        w.items(&events).iter().any(|e| {
            name(e).starts_with(pod)
                && e["type"] == "Warning"
                && e["reason"] == "FailedScheduling"
                && e["message"].as_str().is_some_and(|m| m.contains(part))
        })
    });
    let pod = wait_until(w, &pod_path(w, pod), "to be told so", |p| condition(p, "PodScheduled").is_some());
    let told = condition(&pod, "PodScheduled").expect("it was there");
    assert_eq!((&told["status"], &told["reason"]), (&json!("False"), &json!("Unschedulable")));
}

/// How many pods of the namespace have a node, and how many have none and were told so.
fn placed(w: &World) -> (usize, usize) {
    let all = pods(w, "");
    let on_node = |p: &&Value| p["spec"]["nodeName"].as_str().is_some_and(|n| NODES.contains(&n));
    let without = |p: &&Value| {
        p["spec"]["nodeName"].as_str().is_none_or(str::is_empty)
            && condition(p, "PodScheduled").is_some_and(|c| c["reason"] == "Unschedulable")
    };
    (all.iter().filter(on_node).count(), all.iter().filter(without).count())
}

/// `2`, `1500m`.
fn milli(quantity: &Value) -> u64 {
    let text = quantity.as_str().unwrap_or("0");
    match text.strip_suffix('m') {
        Some(n) => n.parse().expect("milli"),
        None => (text.parse::<f64>().expect("a number") * 1000.0).round() as u64,
    }
}

fn resource_limits(w: &World) {
    let _labels = NODES.map(|n| label(w, n, "node", n));
    let all = w.items("/api/v1/pods");
    let mut most = 0;
    for node in NODES {
        let allocatable = milli(&w.get(&node_path(node))["status"]["allocatable"]["cpu"]);
        most = most.max(allocatable);
        let here = all.iter().filter(|p| {
            p["spec"]["nodeName"] == node
                && p["status"]["phase"] != "Succeeded"
                && p["status"]["phase"] != "Failed"
        });
        let taken: u64 = here
            .flat_map(|p| p["spec"]["containers"].as_array().cloned().unwrap_or_default())
            .map(|c| milli(&c["resources"]["requests"]["cpu"]))
            .sum();
        let mut filler = pod(&format!("filler-{node}"), &json!({}), asking((allocatable - taken) * 7 / 10));
        let is = json!({"key": "node", "operator": "In", "values": [node]});
        filler["spec"]["affinity"] = json!({"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [is]}]},
        }});
        w.create(&pods_path(w), &filler);
    }
    for node in NODES {
        wait_until(w, &pod_path(w, &format!("filler-{node}")), "to run", is_running);
    }
    w.create(&pods_path(w), &pod("additional", &json!({}), asking(most / 2)));
    no_place(w, "additional", "Insufficient cpu");
    assert_eq!(placed(w), (3, 1));
}

fn asking(milli: u64) -> Value {
    let mut container = sleeping();
    let cpu = format!("{milli}m");
    container["resources"] = json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
    container
}

fn selecting(w: &World, name: &str, selector: Value) {
    let mut body = pod(name, &json!({}), sleeping());
    body["spec"]["nodeSelector"] = selector;
    w.create(&pods_path(w), &body);
}

fn selector_without_node(w: &World) {
    selecting(w, "restricted", json!({"label": "nonempty"}));
    no_place(w, "restricted", "didn't match Pod's node affinity/selector");
    assert_eq!(placed(w), (0, 1));
}

fn selector_with_node(w: &World) {
    let key = format!("kubernetes.io/{}", w.namespace);
    let _label = label(w, NODES[2], &key, "42");
    selecting(w, "with-labels", json!({key: "42"}));
    let pod = wait_until(w, &pod_path(w, "with-labels"), "to run", is_running);
    assert_eq!(pod["spec"]["nodeName"], NODES[2]);
}

fn host_ports(w: &World) {
    let key = format!("kubernetes.io/{}", w.namespace);
    let _label = label(w, NODES[1], &key, "95");
    let addresses = w.get(&node_path(NODES[1]))["status"]["addresses"].clone();
    let internal = addresses.as_array().and_then(|l| l.iter().find(|a| a["type"] == "InternalIP"));
    let ip = internal.and_then(|a| a["address"].as_str()).expect("an address");
    let with = |name: &str, host_ip: &str| {
        let mut container = sleeping();
        container["ports"] =
            json!([{"hostPort": 54322, "containerPort": 8080, "protocol": "TCP", "hostIP": host_ip}]);
        let mut body = pod(name, &json!({}), container);
        body["spec"]["nodeSelector"] = json!({&key: "95"});
        w.create(&pods_path(w), &body);
    };
    with("pod4", "");
    wait_until(w, &pod_path(w, "pod4"), "to run", is_running);
    with("pod5", ip);
    no_place(w, "pod5", "didn't have free ports for the requested pod ports");
    assert_eq!(placed(w), (1, 1));
}
