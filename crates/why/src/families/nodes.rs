//! Nodes: not ready, silent, short of something, cordoned, and kept from being drained.

use serde_json::Value;

use super::budgets;
use crate::cause::{Cause, Weight};
use crate::facts::{Facts, Thing, count, names, str_of};

const PRESSURES: [(&str, &str); 3] =
    [("MemoryPressure", "memory"), ("DiskPressure", "disk space"), ("PIDPressure", "process ids")];

pub fn is_ready(n: &Thing) -> bool {
    n.condition("Ready").is_some_and(|c| c["status"] == "True")
}

fn not_ready(f: &Facts, n: &Thing) -> Option<Cause> {
    let name = n.name();
    let Some(c) = n.condition("Ready") else {
        return Some(
            Cause::root(
                "node-never-ready",
                format!("the node {name} has never said that it is ready: no kubelet speaks for it"),
            )
            .seen(n, "status.conditions[Ready]", "not there")
            .help("start its kubelet, or remove the node if it is not meant to be")
            .run("remove it", format!("kubectl delete node {name}")),
        );
    };
    let message = str_of(&c["message"]);
    match str_of(&c["status"]) {
        "True" => None,
        "Unknown" => {
            let lease =
                f.find("lease", "kube-node-lease", name).and_then(|l| f.since(l.text("/spec/renewTime")));
            let silent = lease.or_else(|| f.since(str_of(&c["lastHeartbeatTime"])));
            let ago =
                silent.map(|s| format!(" for {}", api::columns::duration::human(s))).unwrap_or_default();
            Some(
                Cause::root("node-silent", format!("the node {name} is not ready: its kubelet has been silent{ago}"))
                    .seen(n, "status.conditions[Ready].status", "Unknown")
                    .seen(n, "status.conditions[Ready].message", message)
                    .help(format!("see on {name} whether the machine runs, whether its kubelet runs, and whether it reaches the API server")),
            )
        }
        status => Some(
            Cause::root("node-not-ready", format!("the node {name} is not ready: {message}"))
                .seen(n, "status.conditions[Ready].status", status)
                .seen(n, "status.conditions[Ready].reason", str_of(&c["reason"]))
                .seen(n, "status.conditions[Ready].message", message)
                .help(format!("read the log of {name}'s kubelet")),
        ),
    }
}

fn short(n: &Thing) -> Vec<Cause> {
    PRESSURES
        .iter()
        .filter_map(|(kind, what)| {
            let c = n.condition(kind).filter(|c| c["status"] == "True")?;
            Some(
                Cause::root("node-pressure", format!("the node {} is short of {what}", n.name()))
                    .seen(n, &format!("status.conditions[{kind}].message"), str_of(&c["message"]))
                    .help("end or move what uses most there"),
            )
        })
        .collect()
}

/// What is wrong with a node for the pods that are on it.
pub fn of_its_pods(f: &Facts, n: &Thing) -> Vec<Cause> {
    not_ready(f, n).into_iter().collect()
}

/// A drain has to move it.
fn is_movable(p: &Thing) -> bool {
    let mirror = !p.at("/metadata/annotations/kubernetes.io~1config.mirror").is_null();
    let daemon = p.controller().is_some_and(|o| o["kind"] == "DaemonSet");
    !mirror && !daemon && !super::pods::is_finished(p)
}

/// Pods of a cordoned node that budgets keep there.
fn kept(f: &Facts, n: &Thing) -> Vec<Cause> {
    let pods: Vec<&Thing> = f.on_node(n.name()).filter(|p| is_movable(p)).collect();
    let mut out = Vec::new();
    for b in f.all("poddisruptionbudget").iter().filter(|b| b.int("/status/disruptionsAllowed") == 0) {
        let mine: Vec<String> = pods
            .iter()
            .filter(|p| budgets::guards(b, p))
            .map(|p| format!("{}/{}", p.ns(), p.name()))
            .collect();
        if !mine.is_empty() {
            let says = format!(
                "the node {} can't be drained: the budget {} in {} allows no pod that it guards to go ({})",
                n.name(),
                b.name(),
                b.ns(),
                names(&mine, 3)
            );
            out.push(budgets::helped(
                f,
                b,
                Cause::root("budget-blocks", says).seen(n, "spec.unschedulable", "true"),
            ));
        }
    }
    out
}

pub fn causes(f: &Facts, n: &Thing) -> Vec<Cause> {
    let mut out: Vec<Cause> = not_ready(f, n).into_iter().collect();
    out.extend(short(n));
    if n.condition("NetworkUnavailable").is_some_and(|c| c["status"] == "True") {
        out.push(
            Cause::root("node-network", format!("the network of the node {} is not set up", n.name()))
                .seen(n, "status.conditions[NetworkUnavailable].status", "True")
                .help("look at the network plug-in's pod there"),
        );
    }
    if n.at("/spec/unschedulable") == &Value::Bool(true) {
        out.extend(kept(f, n));
        let here = f.on_node(n.name()).filter(|p| is_movable(p)).count();
        out.push(
            Cause::state(
                "node-cordoned",
                format!(
                    "the node {} is cordoned: new pods don't go there ({} still there)",
                    n.name(),
                    count(here, "pod")
                ),
            )
            .seen(n, "spec.unschedulable", "true")
            .run("let pods go there again", format!("kubectl uncordon {}", n.name())),
        );
    }
    let taints: Vec<String> = n
        .list("/spec/taints")
        .iter()
        .filter(|t| !str_of(&t["key"]).starts_with("node.kubernetes.io/"))
        .map(taint)
        .collect();
    if !taints.is_empty() {
        out.push(
            Cause::new(
                "node-tainted",
                Weight::Note,
                format!("only pods that tolerate {} go there", taints.join(" and ")),
            )
            .seen(n, "spec.taints", taints.join(", ")),
        );
    }
    out
}

/// `key=value:Effect`, as kubectl has it.
pub fn taint(t: &Value) -> String {
    let (key, value, effect) = (str_of(&t["key"]), str_of(&t["value"]), str_of(&t["effect"]));
    if value.is_empty() { format!("{key}:{effect}") } else { format!("{key}={value}:{effect}") }
}
