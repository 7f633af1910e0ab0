//! The nodes' refusals in one sentence: grouped by reason, those that a person can least help by their own wish first.

use api::placement::{Taint, Toleration, tolerated};
use api::quantity::Quantity;
use api::quota;
use serde_json::Value;

use super::Refused;
use crate::amounts;
use crate::cause::Cause;
use crate::facts::{Facts, Thing, count, items, names, str_of};
use crate::families::nodes;

/// How much a refusal says about what is wrong: a node that the pod does not want at all says the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Room,
    Broken,
    Tainted,
    Unwanted,
}

pub fn taints(n: &Value) -> Vec<(Taint, String)> {
    items(&n["spec"]["taints"])
        .iter()
        .map(|t| {
            let of = |k: &str| str_of(&t[k]).to_owned();
            (Taint { key: of("key"), value: of("value"), effect: of("effect") }, nodes::taint(t))
        })
        .collect()
}

/// The hard taints of a node that the pod does not tolerate.
pub fn untolerated(p: &Value, n: &Value) -> Vec<(Taint, String)> {
    let by: Vec<Toleration> = items(&p["spec"]["tolerations"])
        .iter()
        .map(|t| {
            let of = |k: &str| str_of(&t[k]).to_owned();
            Toleration { key: of("key"), operator: of("operator"), value: of("value"), effect: of("effect") }
        })
        .collect();
    taints(n).into_iter().filter(|(t, _)| t.is_hard() && !tolerated(t, &by)).collect()
}

/// Put there because of the node's state, not by a person.
pub fn is_of_state(t: &Taint) -> bool {
    t.key.starts_with("node.kubernetes.io/") || t.key.starts_with("node.cloudprovider.kubernetes.io/")
}

/// A person has put a taint there that the pod does not tolerate.
pub fn is_tainted(p: &Thing, n: &Thing) -> bool {
    untolerated(&p.v, &n.v).iter().any(|(t, _)| !is_of_state(t))
}

fn rank(p: &Thing, r: &Refused<'_>) -> Rank {
    match r.plugin {
        "NodeName" | "NodeAffinity" => Rank::Unwanted,
        "NodeUnschedulable" => Rank::Broken,
        "TaintToleration" if !is_tainted(p, r.node) => Rank::Broken,
        "TaintToleration" => Rank::Tainted,
        _ => Rank::Room,
    }
}

/// Nodes that refuse for the same reason.
type Group<'a, 'b> = (&'static str, Vec<&'b Refused<'a>>);

fn code(p: &Thing, group: &Group<'_, '_>) -> &'static str {
    let first = group.1.first();
    let says = |w: &str| first.is_some_and(|r| r.reasons.iter().any(|x| x.contains(w)));
    match group.0 {
        "NodeResourcesFit" => "nodes-full",
        "NodeUnschedulable" => "node-cordoned",
        "TaintToleration" if first.is_some_and(|r| rank(p, r) == Rank::Broken) => "node-not-ready",
        "TaintToleration" => "node-taints",
        "NodeAffinity" if p.at("/spec/nodeSelector").as_object().is_some_and(|m| !m.is_empty()) => {
            "node-labels"
        }
        "NodeAffinity" => "node-affinity",
        "NodePorts" => "host-port",
        "PodTopologySpread" => "topology-spread",
        "InterPodAffinity" if says("anti-affinity") => "pod-anti-affinity",
        "InterPodAffinity" => "pod-affinity",
        _ => "unschedulable",
    }
}

/// The nodes that could be meant to take it: the others are out of the question while there is one of these.
pub fn near<'a, 'b>(p: &Thing, refused: &'b [Refused<'a>]) -> (Vec<&'b Refused<'a>>, Vec<&'b Refused<'a>>) {
    let least = refused.iter().map(|r| rank(p, r)).min().unwrap_or(Rank::Room);
    // A cordoned or broken node counts as one of those that could have taken it.
    let shown = if least <= Rank::Broken { Rank::Broken } else { least };
    refused.iter().partition(|r| rank(p, r) <= shown)
}

pub fn cause(f: &Facts, p: &Thing, refused: &[Refused<'_>]) -> Cause {
    let (near, far) = near(p, refused);
    let of = near.len();
    let mut groups: Vec<Group<'_, '_>> = Vec::new();
    for r in near {
        match groups.iter_mut().find(|(plugin, _)| *plugin == r.plugin) {
            Some((_, all)) => all.push(r),
            None => groups.push((r.plugin, vec![r])),
        }
    }
    groups.sort_by_key(|(_, all)| (all.first().map(|r| rank(p, r)), std::cmp::Reverse(all.len())));
    let phrases: Vec<String> = groups.iter().map(|g| phrase(f, p, g, of)).collect();
    let says = match phrases.as_slice() {
        [one] => one.clone(),
        many => format!("no node takes it: {}", many.join("; ")),
    };
    let mut c = Cause::root(groups.first().map_or("unschedulable", |g| code(p, g)), says);
    for (plugin, all) in &groups {
        for r in all.iter().take(5) {
            c = evidence(f, p, plugin, r, c);
        }
    }
    if !far.is_empty() {
        let all: Vec<String> = far.iter().map(|r| format!("{} ({})", r.node.name(), aside(p, r))).collect();
        c = c.seen(p, "nodes that are out of the question", names(&all, 5));
    }
    c
}

fn aside(p: &Thing, r: &Refused<'_>) -> String {
    match r.plugin {
        "NodeAffinity" => "lacks what its node selector or affinity asks for".into(),
        "TaintToleration" => {
            let all: Vec<String> = untolerated(&p.v, &r.node.v).into_iter().map(|(_, t)| t).collect();
            format!("has the taint {}", names(&all, 2))
        }
        _ => r.reasons.join(", "),
    }
}

fn node_names(all: &[&Refused<'_>]) -> String {
    let word = if all.len() == 1 { "the node" } else { "the nodes" };
    let all: Vec<String> = all.iter().map(|r| r.node.name().to_owned()).collect();
    format!("{word} {}", names(&all, 3))
}

/// What a node has, what its pods take, and what is left, of one resource.
pub fn room(f: &Facts, node: &Thing, resource: &str) -> (Quantity, Quantity, Quantity) {
    let have = amounts::of(&quota::list(node.at("/status/allocatable")), resource);
    let mut used = Quantity::ZERO;
    for p in f.on_node(node.name()).filter(|p| !crate::families::pods::is_finished(p)) {
        used += amounts::of(&amounts::requests(&p.v), resource);
    }
    (have, used, have - used)
}

/// Resources that were too little, from the scheduler's words.
pub fn short(r: &Refused<'_>) -> Vec<String> {
    r.reasons
        .iter()
        .filter_map(|x| match x.strip_prefix("Insufficient ") {
            Some(resource) => Some(resource.to_owned()),
            None => (x == "Too many pods").then(|| "pods".to_owned()),
        })
        .collect()
}

fn full(f: &Facts, p: &Thing, all: &[&Refused<'_>], of: usize) -> String {
    let wants = amounts::requests(&p.v);
    let mut resources: Vec<String> = Vec::new();
    for s in all.iter().flat_map(|r| short(r)) {
        if !resources.contains(&s) {
            resources.push(s);
        }
    }
    let mut parts = Vec::new();
    for resource in &resources {
        let mut best: Option<(&Thing, Quantity, Quantity, Quantity)> = None;
        let mut largest = Quantity::ZERO;
        // A cordoned node's room is nobody's.
        let closed = |r: &Refused<'_>| r.node.at("/spec/unschedulable") == &Value::Bool(true);
        let open = all.iter().any(|r| short(r).contains(resource) && !closed(r));
        for r in all.iter().filter(|r| short(r).contains(resource) && !(open && closed(r))) {
            let (have, used, left) = room(f, r.node, resource);
            largest = largest.max(have);
            if best.is_none_or(|b| left > b.3) {
                best = Some((r.node, have, used, left));
            }
        }
        let Some((node, have, used, left)) = best else { continue };
        let show = |q| amounts::show(resource, q);
        let want = amounts::of(&wants, resource);
        if resource == "pods" {
            parts.push(format!("{} runs as many pods as it may ({})", node.name(), show(have)));
        } else if want > largest {
            parts.push(format!(
                "it needs {} {resource}, and no node is that large (the largest, {}, has {})",
                show(want),
                node.name(),
                show(largest)
            ));
        } else {
            parts.push(format!(
                "it needs {} {resource}; the most any node has free is {} ({}: {} of {} used)",
                show(want),
                show(left.max(Quantity::ZERO)),
                node.name(),
                show(used),
                show(have)
            ));
        }
    }
    let text = parts.join(", and ");
    if all.len() == of { text } else { format!("{text} on {}", node_names(all)) }
}

fn labels_wanted(p: &Thing) -> Vec<(&str, &str)> {
    p.at("/spec/nodeSelector")
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.as_str(), str_of(v)))
        .collect()
}

/// Required node affinity in words.
pub fn affinity_words(p: &Thing) -> String {
    let required = p.at("/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution");
    let terms: Vec<String> = items(&required["nodeSelectorTerms"])
        .iter()
        .map(|t| {
            let all: Vec<String> = items(&t["matchExpressions"])
                .iter()
                .chain(items(&t["matchFields"]))
                .map(|e| {
                    let values: Vec<&str> = items(&e["values"]).iter().map(str_of).collect();
                    let (key, op) = (str_of(&e["key"]), str_of(&e["operator"]));
                    match (op, values.as_slice()) {
                        ("In", [one]) => format!("{key}={one}"),
                        ("Exists", _) => key.to_owned(),
                        ("DoesNotExist", _) => format!("no {key}"),
                        (op, v) => format!("{key} {op} ({})", v.join(", ")),
                    }
                })
                .collect();
            all.join(" and ")
        })
        .collect();
    terms.join(", or ")
}

fn unlabelled(f: &Facts, p: &Thing, all: &[&Refused<'_>]) -> String {
    let wanted = labels_wanted(p);
    let nodes = f.all("node");
    let has = |n: &Thing, k: &str, v: &str| n.labels().get(k).is_some_and(|x| x == v);
    let nowhere: Vec<String> = wanted
        .iter()
        .filter(|(k, v)| !nodes.iter().any(|n| has(n, k, v)))
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    if !nowhere.is_empty() {
        let others = wanted.iter().find_map(|(k, v)| {
            let mut values: Vec<&str> = nodes.iter().filter_map(|n| n.labels().get(*k)?.as_str()).collect();
            values.sort_unstable();
            values.dedup();
            (nowhere.contains(&format!("{k}={v}")) && !values.is_empty())
                .then(|| format!(" (there is {k}={})", values.join(&format!(", {k}="))))
        });
        return format!("no node has the label {}{}", nowhere.join(" and "), others.unwrap_or_default());
    }
    let fits = |n: &Thing| wanted.iter().all(|(k, v)| has(n, k, v));
    let affinity = affinity_words(p);
    if !wanted.is_empty() && !nodes.iter().any(fits) {
        let pairs: Vec<String> = wanted.iter().map(|(k, v)| format!("{k}={v}")).collect();
        return format!("no node has all of the labels {}", pairs.join(", "));
    }
    if affinity.is_empty() {
        return format!("{} lack the labels that it asks for", node_names(all));
    }
    format!("no node is what its node affinity asks for: {affinity}")
}

fn term_words(t: &Value) -> String {
    let s = api::selector::LabelSelector::from_value(&t["labelSelector"]);
    let words = s.map(|s| crate::families::services::words(&s)).unwrap_or_default();
    format!("{words} (by {})", str_of(&t["topologyKey"]))
}

fn terms(p: &Thing, kind: &str) -> String {
    let all = p.list(&format!("/spec/affinity/{kind}/requiredDuringSchedulingIgnoredDuringExecution"));
    all.iter().map(term_words).collect::<Vec<_>>().join(", ")
}

/// Host ports of a pod: port, protocol.
pub fn host_ports(p: &Value) -> Vec<(i64, String)> {
    items(&p["spec"]["containers"])
        .iter()
        .flat_map(|c| items(&c["ports"]))
        .filter_map(|x| {
            let port = x["hostPort"].as_i64().filter(|n| *n > 0)?;
            Some((port, x["protocol"].as_str().unwrap_or("TCP").to_owned()))
        })
        .collect()
}

/// Who has a host port of the pod on a node.
pub fn holder<'a>(f: &'a Facts, p: &Thing, node: &str) -> Option<(&'a Thing, i64)> {
    let wanted = host_ports(&p.v);
    let taken =
        |o: &'a Thing| host_ports(&o.v).into_iter().find(|x| wanted.contains(x)).map(|(port, _)| (o, port));
    f.on_node(node).filter(|p| !crate::families::pods::is_finished(p)).find_map(taken)
}

fn phrase(f: &Facts, p: &Thing, group: &Group<'_, '_>, of: usize) -> String {
    let (plugin, all) = group;
    let nodes = node_names(all);
    let (is, have, do_) = if all.len() == 1 { ("is", "has", "does") } else { ("are", "have", "do") };
    let first = all.first();
    match *plugin {
        "NodeResourcesFit" => full(f, p, all, of),
        "NodeUnschedulable" => format!("{nodes} {is} cordoned"),
        "TaintToleration" => {
            let mut taints: Vec<String> =
                all.iter().flat_map(|r| untolerated(&p.v, &r.node.v)).map(|(_, t)| t).collect();
            taints.sort();
            taints.dedup();
            if first.is_some_and(|r| rank(p, r) == Rank::Broken) {
                return format!("{nodes} {is} not in order ({})", taints.join(", "));
            }
            let word = if taints.len() == 1 { "the taint" } else { "the taints" };
            format!("{nodes} {have} {word} {}, which it does not tolerate", names(&taints, 3))
        }
        "NodeAffinity" => unlabelled(f, p, all),
        "NodePorts" => match first.and_then(|r| holder(f, p, r.node.name())) {
            Some((o, port)) if all.len() == 1 => {
                format!("the host port {port} of {nodes} is taken by the pod {}/{}", o.ns(), o.name())
            }
            Some((_, port)) => format!("its host port {port} is taken on {nodes}"),
            None => format!("its host ports are taken on {nodes}"),
        },
        "PodTopologySpread" => spread(p, all),
        "InterPodAffinity" => match first.map(|r| r.reasons.join(" ")) {
            Some(r) if r.contains("existing pods anti-affinity") => {
                format!("pods on {nodes} keep it away by their anti-affinity")
            }
            Some(r) if r.contains("anti-affinity") => {
                format!(
                    "its anti-affinity keeps it away from pods with {}, and {nodes} {have} one",
                    terms(p, "podAntiAffinity")
                )
            }
            _ => format!(
                "its pod affinity wants a place beside pods with {}, and there is none",
                terms(p, "podAffinity")
            ),
        },
        other => {
            let reasons = first.map(|r| r.reasons.join(", ")).unwrap_or_default();
            format!("{nodes} {do_} not suit ({other}: {reasons})")
        }
    }
}

fn spread(p: &Thing, all: &[&Refused<'_>]) -> String {
    let hard = p
        .list("/spec/topologySpreadConstraints")
        .iter()
        .filter(|c| c["whenUnsatisfiable"] != "ScheduleAnyway");
    let words: Vec<String> = hard
        .map(|c| format!("maxSkew {} over {}", c["maxSkew"].as_i64().unwrap_or(1), str_of(&c["topologyKey"])))
        .collect();
    let missing =
        all.iter().filter(|r| r.reasons.iter().any(|x| x.contains("missing required label"))).count();
    if missing == all.len() {
        return format!(
            "its topology spread ({}) needs a label that {} lack",
            words.join(", "),
            count(missing, "node")
        );
    }
    format!("its topology spread ({}) lets no more pods go to {}", words.join(", "), node_names(all))
}

fn evidence(f: &Facts, p: &Thing, plugin: &str, r: &Refused<'_>, c: Cause) -> Cause {
    let n = r.node;
    match plugin {
        "NodeResourcesFit" => short(r).into_iter().fold(c, |c, resource| {
            let (have, used, _) = room(f, n, &resource);
            let show = |q| amounts::show(&resource, q);
            let cordoned = n.at("/spec/unschedulable") == &Value::Bool(true);
            let c = if cordoned { c.seen(n, "spec.unschedulable", "true") } else { c };
            c.seen(
                n,
                &format!("status.allocatable.{resource}"),
                format!("{} ({} used)", show(have), show(used)),
            )
        }),
        "NodeUnschedulable" => c.seen(n, "spec.unschedulable", "true"),
        "TaintToleration" => {
            let all: Vec<String> = untolerated(&p.v, &n.v).into_iter().map(|(_, t)| t).collect();
            c.seen(n, "spec.taints", all.join(", "))
        }
        "NodeAffinity" => {
            let pairs: Vec<String> = labels_wanted(p).iter().map(|(k, v)| format!("{k}={v}")).collect();
            let c = if pairs.is_empty() { c } else { c.seen(p, "spec.nodeSelector", pairs.join(", ")) };
            let affinity = affinity_words(p);
            if affinity.is_empty() { c } else { c.seen(p, "spec.affinity.nodeAffinity", affinity) }
        }
        "NodePorts" => match holder(f, p, n.name()) {
            Some((o, port)) => c.seen(o, "spec.containers[].ports[].hostPort", port.to_string()),
            None => c,
        },
        _ => c.seen(n, "refused by", format!("{plugin}: {}", r.reasons.join(", "))),
    }
}
