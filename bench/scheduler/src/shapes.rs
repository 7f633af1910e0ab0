//! The shapes of upstream's scheduler_perf, as its templates have them: 4 CPU and 32 GiB a node with room for 110 pods,
//! pods of 100m and 500 MB.

use api::Object;
use scheduler::core::{NodeInfo, PodInfo};
use serde_json::{Value, json};

/// What a shape does besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apart {
    /// Initial pods never find a place.
    InitWaits,
    /// Other objects come and go.
    Churn,
    /// Five pods a second come that have to make room for themselves.
    Preempting,
}

pub struct Shape {
    pub name: &'static str,
    /// Pods that are there before, and their spec.
    pub before: usize,
    pub init: fn(usize) -> Value,
    pub measured: fn(usize) -> Value,
    /// No more than this fit.
    pub most: usize,
    /// Only through the API.
    pub apart: Option<Apart>,
    /// Pods a second that it should reach through the API on two cores.
    pub goal: u32,
    /// What has to be there before, with its path.
    pub objects: fn() -> Vec<(&'static str, Value)>,
}

fn object(v: Value) -> anyhow::Result<Object> {
    Object::from_value(v, 1).map_err(|e| anyhow::anyhow!("{e}"))
}

pub fn node_object(i: usize) -> Value {
    let name = format!("node-{i}");
    let zone = format!("zone{}", i % 3);
    json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone}},
        "status": {"capacity": {"cpu": "4", "memory": "32Gi", "pods": "110"},
            "allocatable": {"cpu": "4", "memory": "32Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}]}})
}

pub fn node(i: usize) -> anyhow::Result<NodeInfo> {
    Ok(NodeInfo::from_object(&object(node_object(i))?)?)
}

/// A pod of the template by its own name.
pub fn named(template: &Value, prefix: &str, i: usize) -> Value {
    let mut v = template.clone();
    v["metadata"]["name"] = json!(format!("{prefix}-{i}"));
    v
}

pub fn pod(prefix: &str, i: usize, template: &Value) -> anyhow::Result<PodInfo> {
    let mut v = named(template, prefix, i);
    v["metadata"]["uid"] = json!(format!("{prefix}-{i}-0123456789abcdef"));
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

pub fn too_large(_: usize) -> Value {
    let mut v = template(json!({}), json!({}));
    v["spec"]["containers"][0]["resources"]["requests"] = json!({"cpu": "9", "memory": "500Mi"});
    v
}

fn gated(_: usize) -> Value {
    template(json!({}), json!({"schedulingGates": [{"name": "example.com/wait"}]}))
}

/// Four fill a node.
fn low(_: usize) -> Value {
    let mut v = template(json!({}), json!({"terminationGracePeriodSeconds": 0}));
    v["spec"]["containers"][0]["resources"]["requests"] = json!({"cpu": "900m", "memory": "500Mi"});
    v
}

pub fn high(_: usize) -> Value {
    let mut v = template(json!({}), json!({"priorityClassName": "high"}));
    v["spec"]["containers"][0]["resources"]["requests"] = json!({"cpu": "3", "memory": "500Mi"});
    v
}

fn high_class() -> Vec<(&'static str, Value)> {
    let class = json!({"metadata": {"name": "high"}, "value": 1000});
    vec![("/apis/scheduling.k8s.io/v1/priorityclasses", class)]
}

/// A hundred templates in turn.
fn mixed(i: usize) -> Value {
    template(json!({"app": format!("app-{}", i % 100)}), json!({}))
}

/// The goals are five times upstream's published floors, of which some are of one era and some of a later one.
pub fn all(nodes: usize) -> Vec<Shape> {
    let shape = |name, before, init, measured, most, goal| Shape {
        name,
        before,
        init,
        measured,
        most,
        apart: None,
        goal,
        objects: Vec::new,
    };
    let apart = |apart, s: Shape| Shape { apart: Some(apart), ..s };
    vec![
        shape("basic", 1000, basic, basic, usize::MAX, 3000),
        shape("pod anti-affinity", nodes / 10, anti_affinity, anti_affinity, nodes * 4 / 10, 300),
        shape("pod affinity", nodes, affinity, affinity, usize::MAX, 175),
        shape("preferred affinity", nodes, preferred_affinity, preferred_affinity, usize::MAX, 800),
        shape(
            "preferred anti-affinity",
            nodes,
            preferred_anti_affinity,
            preferred_anti_affinity,
            usize::MAX,
            950,
        ),
        shape("node affinity", nodes, node_affinity, node_affinity, usize::MAX, 2700),
        shape("topology spread", nodes, basic, hard_spread, usize::MAX, 625),
        shape("preferred topology spread", nodes, basic, soft_spread, usize::MAX, 625),
        shape("daemon set", 0, basic, daemon, nodes, 3000),
        shape("a hundred templates", 1000, basic, mixed, usize::MAX, 3000),
        apart(Apart::Churn, shape("mixed churn", 0, basic, basic, usize::MAX, 3550)),
        apart(Apart::InitWaits, shape("unschedulable", 100, too_large, basic, usize::MAX, 2950)),
        apart(Apart::InitWaits, shape("gated", nodes * 2, gated, basic, usize::MAX, 4550)),
        Shape {
            objects: high_class,
            ..apart(Apart::Preempting, shape("preemption beside", nodes * 4, low, basic, nodes, 800))
        },
        Shape { objects: high_class, ..shape("all preempt", nodes * 4, low, high, nodes, 0) },
    ]
}
