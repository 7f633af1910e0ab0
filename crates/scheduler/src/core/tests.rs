//! Decisions of the core by table, and what must hold for any input.

mod preemption;
mod properties;
mod reference;
mod spread;

use std::sync::Arc;

use api::Object;
use serde_json::{Value, json};

use super::*;

fn node(name: &str, cpu: &str, extra: Value) -> NodeInfo {
    let mut v = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {},
        "status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "10"}}});
    if let Some(spec) = extra.as_object() {
        v["spec"] = Value::Object(spec.clone());
    }
    NodeInfo::from_object(&Object::from_value(v, 1).expect("object")).expect("node")
}

fn pod(uid: &str, spec: Value) -> PodInfo {
    let v = json!({"metadata": {"name": uid, "namespace": "d", "uid": uid, "labels": {"app": "x"}}, "spec": spec});
    PodInfo::from_object(&Object::from_value(v, 1).expect("object")).expect("pod")
}

/// The pod in another shape.
fn shaped(mut p: PodInfo, f: impl FnOnce(&mut Shape)) -> PodInfo {
    f(p.shape_mut());
    p
}

fn cpu(amount: &str) -> Value {
    json!({"containers": [{"image": "i", "resources": {"requests": {"cpu": amount}}}]})
}

fn message(o: &Outcome) -> &str {
    match o {
        Outcome::Unschedulable { message, .. } => message,
        Outcome::Node(n) => n,
    }
}

#[test]
fn a_pod_that_is_resized_holds_the_most_of_it() {
    let held = |status: Value| {
        let spec = json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "100m"}}}]});
        let v =
            json!({"metadata": {"name": "p", "namespace": "d", "uid": "p"}, "spec": spec, "status": status});
        PodInfo::from_object(&Object::from_value(v, 1).expect("object")).expect("pod").requests.cpu_milli
    };
    let has = json!([{"name": "a", "allocatedResources": {"cpu": "50m"}, "resources": {"requests": {"cpu": "70m"}}}]);
    assert_eq!(held(json!({})), 100);
    assert_eq!(held(json!({"containerStatuses": has})), 100);
    let never = json!([{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]);
    assert_eq!(held(json!({"containerStatuses": has, "conditions": never})), 70);
    let less = json!([{"name": "a", "allocatedResources": {"cpu": "50m"}, "resources": {"requests": {"cpu": "300m"}}}]);
    assert_eq!(held(json!({"containerStatuses": less})), 300);
}

#[test]
fn reasons_are_counted_in_words() {
    let mut cache = Cache::default();
    cache.set_node(node("a", "1", json!({})));
    cache.set_node(node("b", "1", json!({"unschedulable": true})));
    cache.set_node(node("c", "1", json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]})));
    let out = schedule(&mut cache, &pod("p", cpu("2")));
    assert_eq!(
        message(&out),
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable."
    );
    assert_eq!(
        message(&schedule(&mut Cache::default(), &pod("p", cpu("2")))),
        "no nodes available to schedule pods"
    );
}

#[test]
fn each_node_says_why_it_refuses() {
    let mut cache = Cache::default();
    cache.set_node(node("a", "1", json!({})));
    cache.set_node(node("b", "4", json!({"unschedulable": true})));
    cache.set_node(node("c", "4", json!({})));
    let said: Vec<(String, &str, String)> = refusals(&mut cache, &pod("p", cpu("2")))
        .into_iter()
        .map(|(node, (plugin, r))| (node, plugin, r.reasons.join(", ")))
        .collect();
    let (fit, cordon) = ("Insufficient cpu".to_owned(), "node(s) were unschedulable".to_owned());
    assert_eq!(
        said,
        [("a".to_owned(), "NodeResourcesFit", fit), ("b".to_owned(), "NodeUnschedulable", cordon)]
    );
}

#[test]
fn the_emptier_node_wins_and_assumed_pods_count() {
    let mut cache = Cache::default();
    cache.set_node(node("a", "4", json!({})));
    cache.set_node(node("b", "4", json!({})));
    cache.assume(&pod("one", cpu("1")), "a");
    assert_eq!(schedule(&mut cache, &pod("p", cpu("1"))), Outcome::Node("b".into()));
    cache.remove_pod("one");
    cache.assume(&pod("two", cpu("1")), "b");
    assert_eq!(schedule(&mut cache, &pod("p", cpu("1"))), Outcome::Node("a".into()));
}

#[test]
fn affinity_terms_and_anti_affinity_of_others() {
    let anti = |topology: &str| {
        json!({"containers": [], "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            [{"topologyKey": topology, "labelSelector": {"matchLabels": {"app": "x"}}}]}}})
    };
    let mut cache = Cache::default();
    cache.set_node(node("a", "4", json!({})));
    cache.set_node(node("b", "4", json!({})));
    cache.assume(&pod("one", anti("kubernetes.io/hostname")), "a");
    assert_eq!(schedule(&mut cache, &pod("p", cpu("1"))), Outcome::Node("b".into()));
    cache.assume(&pod("two", anti("kubernetes.io/hostname")), "b");
    assert!(message(&schedule(&mut cache, &pod("p", cpu("1")))).contains("existing pods anti-affinity"));
    let required = json!({"containers": [], "affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["z"]}]}]}}}});
    assert!(message(&schedule(&mut cache, &pod("q", required))).contains("node affinity/selector"));
}

#[test]
fn a_node_must_have_declared_what_a_pod_asks_of_its_kubelet() {
    let rules = json!([{"action": "RestartAllContainers"}]);
    for (spec, feature) in [
        (
            json!({"hostNetwork": true, "hostUsers": false, "containers": []}),
            "UserNamespacesHostNetworkSupport",
        ),
        (json!({"containers": [{"restartPolicyRules": rules}]}), "RestartAllContainersOnContainerExits"),
        (
            json!({"containers": [{"volumeMounts": [{"bindMountOptions": ["noexec"]}]}]}),
            "VolumeBindMountOptions",
        ),
    ] {
        let mut cache = Cache::default();
        cache.set_node(node("a", "1", json!({})));
        let p = pod("p", spec);
        assert!(
            message(&schedule(&mut cache, &p)).contains("didn't match Pod's required features"),
            "{feature}"
        );
        let mut able = node("a", "1", json!({}));
        able.traits_mut().features.insert(feature.into());
        cache.set_node(able);
        assert_eq!(schedule(&mut cache, &p), Outcome::Node("a".into()));
    }
}

#[test]
fn a_pod_that_needs_devices_does_not_run_without_them() {
    let mut cache = Cache::default();
    cache.set_node(node("a", "1", json!({})));
    let p =
        pod("p", json!({"containers": [], "resourceClaims": [{"name": "gpu", "resourceClaimName": "one"}]}));
    assert!(message(&schedule(&mut cache, &p)).contains("[gpu] can't be allocated"));
}

#[test]
fn keys_that_nobody_names_any_more_are_forgotten() {
    let of = |i: usize| {
        json!({"containers": [], "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": format!("rack-{i}"),
            "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": "x"}}}]})
    };
    let mut cache = Cache::default();
    cache.set_node(node("a", "4", json!({})));
    cache.assume(&pod("stays", of(0)), "a");
    for i in 1..1000 {
        assert_eq!(schedule(&mut cache, &pod("p", of(i))), Outcome::Node("a".into()));
        assert!(cache.topology().find("rack-0").is_some());
    }
    assert!((1..1000).filter(|i| cache.topology().find(&format!("rack-{i}")).is_some()).count() < 250);
}

#[test]
fn start_up_peak_and_sidecars_count() {
    let p = pod(
        "p",
        json!({
        "containers": [{"resources": {"requests": {"cpu": "100m"}}}],
        "initContainers": [
            {"restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}},
            {"resources": {"requests": {"cpu": "200m"}}}],
        "overhead": {"cpu": "5m"}}),
    );
    assert_eq!(p.requests.cpu_milli, 255);
}

#[test]
fn used_amounts_return_to_zero() {
    let mut cache = Cache::default();
    cache.set_node(node("a", "4", json!({})));
    for i in 0..8 {
        cache.assume(&pod(&format!("p{i}"), cpu("100m")), "a");
    }
    let mut again = node("a", "4", json!({}));
    again.traits_mut().labels.insert("l".into(), "v".into());
    cache.set_node(again);
    for i in 0..8 {
        cache.remove_pod(&format!("p{i}"));
    }
    let left = cache.nodes().first().map(|n| (n.used.cpu_milli, n.used.pods, n.pods.len()));
    assert_eq!(left, Some((0, 0, 0)));
    cache.set_pod(Arc::new(pod("x", json!({"nodeName": "later", "containers": []}))));
    cache.set_node(node("later", "1", json!({})));
    assert_eq!(cache.nodes().get(1).map(|n| n.pods.len()), Some(1));
}
