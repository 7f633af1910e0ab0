//! The shapes of upstream's scheduler_perf, as its templates have them: 4 CPU and 32 GiB a node with room for 110 pods,
//! pods of 100m and 500 MB.

use api::Object;
use scheduler::core::{NodeInfo, PodInfo};
use serde_json::{Value, json};

pub struct Shape {
    pub name: &'static str,
    /// Pods that are there before, and their spec.
    pub before: usize,
    pub init: fn(usize) -> Value,
    pub measured: fn(usize) -> Value,
    /// No more than this fit.
    pub most: usize,
}

fn object(v: Value) -> anyhow::Result<Object> {
    Object::from_value(v, 1).map_err(|e| anyhow::anyhow!("{e}"))
}

pub fn node(i: usize) -> anyhow::Result<NodeInfo> {
    let name = format!("node-{i}");
    let zone = format!("zone{}", i % 3);
    Ok(NodeInfo::from_object(&object(json!({"metadata": {"name": name, "labels":
        {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone}},
        "status": {"allocatable": {"cpu": "4", "memory": "32Gi", "pods": "110"}}}))?)?)
}

pub fn pod(name: &str, template: &Value, _: usize) -> anyhow::Result<PodInfo> {
    let mut v = template.clone();
    v["metadata"]["name"] = json!(name);
    v["metadata"]["uid"] = json!(format!("{name}-0123456789abcdef"));
    v["metadata"]["namespace"] = json!("sched-1");
    Ok(PodInfo::from_object(&object(v)?)?)
}

fn template(labels: Value, spec: Value) -> Value {
    let mut spec = spec;
    spec["containers"] = json!([{"name": "pause", "image": "registry.k8s.io/pause:3.10",
        "resources": {"requests": {"cpu": "100m", "memory": "500Mi"}}}]);
    json!({"metadata": {"labels": labels}, "spec": spec})
}

fn term(key: &str, color: &str) -> Value {
    json!({"topologyKey": key, "labelSelector": {"matchLabels": {"color": color}}})
}

fn basic(_: usize) -> Value {
    template(json!({}), json!({}))
}

fn anti_affinity(_: usize) -> Value {
    template(
        json!({"color": "green", "name": "test"}),
        json!({"affinity": {"podAntiAffinity":
        {"requiredDuringSchedulingIgnoredDuringExecution": [term("kubernetes.io/hostname", "green")]}}}),
    )
}

fn affinity(_: usize) -> Value {
    template(
        json!({"color": "blue"}),
        json!({"affinity": {"podAffinity":
        {"requiredDuringSchedulingIgnoredDuringExecution": [term("topology.kubernetes.io/zone", "blue")]}}}),
    )
}

fn preferred(kind: &str, color: &str) -> Value {
    template(
        json!({"color": color}),
        json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution":
        [{"weight": 1, "podAffinityTerm": term("kubernetes.io/hostname", color)}]}}}),
    )
}

fn preferred_affinity(_: usize) -> Value {
    preferred("podAffinity", "red")
}

fn preferred_anti_affinity(_: usize) -> Value {
    preferred("podAntiAffinity", "yellow")
}

fn node_affinity(_: usize) -> Value {
    template(
        json!({}),
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [{"matchExpressions": [{"key": "topology.kubernetes.io/zone", "operator": "In",
            "values": ["zone0", "zone1"]}]}]}}}}),
    )
}

fn spread(when: &str) -> Value {
    template(
        json!({"color": "blue"}),
        json!({"topologySpreadConstraints": [{"maxSkew": 5,
        "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": when,
        "labelSelector": {"matchLabels": {"color": "blue"}}}]}),
    )
}

fn hard_spread(_: usize) -> Value {
    spread("DoNotSchedule")
}

fn soft_spread(_: usize) -> Value {
    spread("ScheduleAnyway")
}

/// Pinned to its node, as the daemon set controller does.
fn daemon(i: usize) -> Value {
    template(
        json!({}),
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In",
            "values": [format!("node-{i}")]}]}]}}}}),
    )
}

fn too_large(_: usize) -> Value {
    let mut v = template(json!({}), json!({}));
    v["spec"]["containers"][0]["resources"]["requests"] = json!({"cpu": "9", "memory": "500Mi"});
    v
}

/// A hundred templates in turn.
fn mixed(i: usize) -> Value {
    template(json!({"app": format!("app-{}", i % 100)}), json!({}))
}

pub fn all(nodes: usize) -> Vec<Shape> {
    let shape = |name, before, init, measured, most| Shape { name, before, init, measured, most };
    vec![
        shape("basic", 1000, basic, basic, usize::MAX),
        shape("pod anti-affinity", nodes / 10, anti_affinity, anti_affinity, nodes * 4 / 10),
        shape("pod affinity", nodes, affinity, affinity, usize::MAX),
        shape("preferred affinity", nodes, preferred_affinity, preferred_affinity, usize::MAX),
        shape("preferred anti-affinity", nodes, preferred_anti_affinity, preferred_anti_affinity, usize::MAX),
        shape("node affinity", nodes, node_affinity, node_affinity, usize::MAX),
        shape("topology spread", nodes, basic, hard_spread, usize::MAX),
        shape("preferred topology spread", nodes, basic, soft_spread, usize::MAX),
        shape("daemon set", 0, basic, daemon, nodes),
        shape("a hundred templates", 1000, basic, mixed, usize::MAX),
        shape("unschedulable", 1000, basic, too_large, usize::MAX),
    ]
}
