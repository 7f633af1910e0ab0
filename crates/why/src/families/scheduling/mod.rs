//! Pods that no node was found for: gates, a scheduler that nobody runs, claims, and what each node says, judged by the
//! scheduler's own core over the nodes and pods that were read.

mod groups;
mod repair;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Object;
use scheduler::core::{Cache, NodeInfo, PodInfo, refusals};
use serde_json::Value;

use super::claims;
use crate::cause::{Cause, Weight};
use crate::facts::{Facts, Thing, names, str_of};

const DEFAULT: &str = "default-scheduler";

/// A node and why it does not take the pod.
pub struct Refused<'a> {
    pub node: &'a Thing,
    pub plugin: &'static str,
    pub reasons: Vec<String>,
}

fn words<T: Into<String>>(all: Vec<T>) -> Vec<String> {
    all.into_iter().map(Into::into).collect()
}

pub fn pod_info(v: &Value) -> Option<PodInfo> {
    Object::from_value(v.clone(), 0).ok().and_then(|o| PodInfo::from_object(&o).ok())
}

pub fn node_info(v: &Value) -> Option<NodeInfo> {
    Object::from_value(v.clone(), 0).ok().and_then(|o| NodeInfo::from_object(&o).ok())
}

/// The nodes and what is on them, as the scheduler has it.
pub fn cache(f: &Facts) -> Cache {
    let mut cache = Cache::default();
    for n in f.all("node").iter().filter_map(|n| node_info(&n.v)) {
        cache.set_node(n);
    }
    let placed =
        f.all("pod").iter().filter(|p| !p.text("/spec/nodeName").is_empty() && !super::pods::is_finished(p));
    for p in placed.filter_map(|p| pod_info(&p.v)) {
        cache.set_pod(Arc::new(p));
    }
    cache
}

pub fn causes(f: &Facts, p: &Thing) -> Vec<Cause> {
    let gates: Vec<String> =
        p.list("/spec/schedulingGates").iter().map(|g| str_of(&g["name"]).to_owned()).collect();
    if !gates.is_empty() {
        let says = format!(
            "it waits at its scheduling gate {}: whoever set it has to take it away",
            names(&gates, 3)
        );
        let patch = r#"--type=json -p '[{"op":"remove","path":"/spec/schedulingGates"}]'"#;
        return vec![
            Cause::root("scheduling-gate", says)
                .seen(p, "spec.schedulingGates", gates.join(", "))
                .run("open it by hand, if nobody else will", p.kubectl(&format!("patch {} {patch}", p.id()))),
        ];
    }
    if let Some(c) = nobody(f, p) {
        return vec![c];
    }
    let mut out = claims::of_pod(f, p);
    let Some(info) = pod_info(&p.v) else { return out };
    let told = p.condition("PodScheduled").map_or("", |c| str_of(&c["message"]));
    if !f.knows("node", "") || !f.knows("pod", "") {
        if out.is_empty() {
            out.extend(by_message(p, told));
        }
        return out;
    }
    let nodes = f.all("node");
    if nodes.is_empty() {
        out.push(
            Cause::root("no-nodes", "the cluster has no node")
                .seen(p, "status.conditions[PodScheduled].message", told)
                .run("join a machine", "kelson token create   # prints the command to run there"),
        );
        return out;
    }
    // Parsed once for all pods that wait.
    let mut cache = f.cache.take().unwrap_or_else(|| cache(f));
    let found = judged(f, p, &info, &mut cache, told, &out);
    f.cache.replace(Some(cache));
    out.extend(found);
    out
}

/// What the nodes say; `claims` are the causes that lie in its claims.
fn judged(
    f: &Facts,
    p: &Thing,
    info: &PodInfo,
    cache: &mut Cache,
    told: &str,
    claims: &[Cause],
) -> Option<Cause> {
    let refused: Vec<Refused<'_>> = refusals(cache, info)
        .into_iter()
        .filter_map(|(node, (plugin, r))| {
            Some(Refused { node: f.find("node", "", &node)?, plugin, reasons: words(r.reasons) })
        })
        .collect();
    if refused.len() < f.all("node").len() {
        // A node would take it: it is the claims, or a matter of moments.
        return if claims.is_empty() { should_go(f, p, told) } else { None };
    }
    let refused = deepest(f, cache, info, refused, p);
    let mut cause = groups::cause(f, p, &refused);
    if !told.is_empty() {
        cause = cause.seen(p, "status.conditions[PodScheduled].message", told);
    }
    cause.help.extend(repair::nearest(f, p, cache, &refused));
    if !claims.is_empty() {
        cause.weight = cause.weight.max(Weight::State);
    }
    Some(cause)
}

/// The first plugin that refuses a node hides the others: a cordoned node that the pod would not want anyway is to count as
/// unwanted, and a full one as full. Judged once more as if no node was cordoned or tainted.
fn deepest<'a>(
    f: &'a Facts,
    cache: &mut Cache,
    info: &PodInfo,
    refused: Vec<Refused<'a>>,
    p: &Thing,
) -> Vec<Refused<'a>> {
    if !refused.iter().any(|r| matches!(r.plugin, "NodeUnschedulable" | "TaintToleration")) {
        return refused;
    }
    let stripped = f.all("node").iter().filter_map(|n| {
        let mut v = n.v.clone();
        let spec = v.pointer_mut("/spec").and_then(Value::as_object_mut)?;
        spec.remove("unschedulable");
        spec.remove("taints");
        node_info(&v)
    });
    stripped.for_each(|n| {
        cache.set_node(n);
    });
    let mut below: BTreeMap<String, _> = refusals(cache, info).into_iter().collect();
    for n in f.all("node").iter().filter_map(|n| node_info(&n.v)) {
        cache.set_node(n);
    }
    let again = |mut r: Refused<'a>| {
        if r.plugin == "NodeUnschedulable" && groups::is_tainted(p, r.node) {
            r.plugin = "TaintToleration";
        }
        let Some((plugin, refusal)) = below.remove(r.node.name()) else { return r };
        let unwanted = matches!(plugin, "NodeAffinity" | "NodeName");
        let of_person = r.plugin == "TaintToleration" && groups::is_tainted(p, r.node);
        if unwanted || (matches!(r.plugin, "NodeUnschedulable" | "TaintToleration") && !of_person) {
            r.plugin = plugin;
            r.reasons = words(refusal.reasons);
        }
        r
    };
    refused.into_iter().map(again).collect()
}

/// Another scheduler is asked for, and there is no sign of it.
fn nobody(f: &Facts, p: &Thing) -> Option<Cause> {
    let name = p.text("/spec/schedulerName");
    if name.is_empty() || name == DEFAULT || p.condition("PodScheduled").is_some() {
        return None;
    }
    let heard = f
        .all("event")
        .iter()
        .any(|e| [e.text("/reportingComponent"), e.text("/source/component")].contains(&name));
    let lease = f.find("lease", "kube-system", name);
    let alive = lease.and_then(|l| f.since(l.text("/spec/renewTime"))).is_some_and(|s| s < 60);
    if heard || alive {
        return None;
    }
    Some(
        Cause::root(
            "scheduler-missing",
            format!("it asks for the scheduler {name}, and nobody answers to that name"),
        )
        .seen(p, "spec.schedulerName", name)
        .seen(p, "status.conditions[PodScheduled]", "not there: no scheduler has looked at it")
        .run(format!("start that scheduler, or leave it to {DEFAULT}"), f.edit(p)),
    )
}

/// By the scheduler's core it could run.
fn should_go(f: &Facts, p: &Thing, told: &str) -> Option<Cause> {
    let nominated = p.text("/status/nominatedNodeName");
    if !nominated.is_empty() {
        return Some(
            Cause::state(
                "waits-for-room",
                format!("it is to go to {nominated}, as soon as less important pods have left it"),
            )
            .seen(p, "status.nominatedNodeName", nominated),
        );
    }
    let age = f.since(p.text("/metadata/creationTimestamp")).unwrap_or(0);
    if !told.is_empty() {
        return by_message(p, told);
    }
    (age > 30).then(|| {
        Cause::root(
            "scheduler-silent",
            "no scheduler has looked at it, though a node would take it: the scheduler does not run",
        )
        .seen(p, "status.conditions[PodScheduled]", "not there")
        .run("see who leads", "kubectl get lease -n kube-system kube-scheduler")
    })
}

/// What the scheduler said, where the nodes may not be read.
fn by_message(p: &Thing, told: &str) -> Option<Cause> {
    if told.is_empty() {
        return None;
    }
    // Its second half is about making room, which is no cause.
    let first = told.split(". preemption:").next().unwrap_or(told).trim_end_matches('.');
    let (code, short) = match first {
        m if m.contains("Insufficient ") || m.contains("Too many pods") => ("nodes-full", "no node has room"),
        m if m.contains("untolerated taint") => {
            ("node-taints", "nodes have taints that it does not tolerate")
        }
        m if m.contains("unschedulable") => ("node-cordoned", "nodes are cordoned"),
        m if m.contains("node affinity/selector") => ("node-labels", "no node has the labels it asks for"),
        m if m.contains("free ports") => ("host-port", "its host port is taken"),
        m if m.contains("PersistentVolumeClaim") || m.contains("persistentvolumeclaim") => {
            ("claim-unbound", "a claim of it has no volume")
        }
        m if m.contains("topology spread") => ("topology-spread", "its topology spread allows no node"),
        m if m.contains("anti-affinity") => ("pod-anti-affinity", "other pods keep it away"),
        m if m.contains("affinity") => ("pod-affinity", "it wants to be beside pods that are not there"),
        _ => ("unschedulable", "no node takes it"),
    };
    Some(Cause::root(code, format!("{short}, says the scheduler: {first}")).seen(
        p,
        "status.conditions[PodScheduled].message",
        told,
    ))
}
