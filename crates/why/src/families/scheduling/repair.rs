//! What would help: for the nodes that are nearest, the changes after which the scheduler's core takes the pod there, each
//! tried on a copy. The node with the fewest is told.

use scheduler::core::{Cache, refusals};
use serde_json::{Value, json};

use super::groups::{affinity_words, holder, is_of_state, room, short, untolerated};
use super::{Refused, node_info, pod_info};
use crate::amounts;
use crate::cause::Help;
use crate::facts::{Facts, Thing, items, str_of};

/// How many nodes are tried, and how many changes on one.
const NODES: usize = 6;
const STEPS: usize = 6;

struct Change {
    help: Help,
    /// What a person would rather not do counts more.
    cost: u32,
}

fn run(text: impl Into<String>, command: impl Into<String>, cost: u32) -> Change {
    Change { help: Help { text: text.into(), command: Some(command.into()) }, cost }
}

fn remove(v: &mut Value, parent: &str, field: &str) {
    if let Some(o) = v.pointer_mut(parent).and_then(Value::as_object_mut) {
        o.remove(field);
    }
}

pub fn nearest(f: &Facts, p: &Thing, cache: &mut Cache, refused: &[Refused<'_>]) -> Vec<Help> {
    let rough = |r: &Refused<'_>| match r.plugin {
        "NodeUnschedulable" | "NodePorts" => 0,
        "NodeResourcesFit" => 1,
        "TaintToleration" => 2,
        _ => 3,
    };
    let left = |r: &Refused<'_>| short(r).first().map(|x| room(f, r.node, x).2);
    let (mut nodes, far) = super::groups::near(p, refused);
    // Of full nodes the one with most left.
    nodes.sort_by(|a, b| rough(a).cmp(&rough(b)).then_with(|| left(b).cmp(&left(a))));
    for all in [nodes, far] {
        if let Some(found) = best_of(f, p, cache, &all) {
            return found;
        }
    }
    Vec::new()
}

fn best_of(f: &Facts, p: &Thing, cache: &mut Cache, nodes: &[&Refused<'_>]) -> Option<Vec<Help>> {
    let mut best: Option<(u32, Vec<Help>)> = None;
    for r in nodes.iter().take(NODES) {
        let Some(changes) = on_node(f, p, cache, r) else { continue };
        let cost = changes.iter().map(|c| c.cost).sum();
        if best.as_ref().is_none_or(|(b, _)| cost < *b) {
            best = Some((cost, changes.into_iter().map(|c| c.help).collect()));
        }
    }
    best.map(|(_, h)| h)
}

/// The changes that lead to this node; `None`: it is not clear which would.
fn on_node(f: &Facts, p: &Thing, cache: &mut Cache, r: &Refused<'_>) -> Option<Vec<Change>> {
    let (mut pod, mut node) = (p.v.clone(), r.node.v.clone());
    let mut all = Vec::new();
    let mut fits = false;
    for _ in 0..STEPS {
        let info = pod_info(&pod)?;
        let now = refusals(cache, &info).into_iter().find(|(n, _)| n == r.node.name());
        let Some((_, (plugin, refusal))) = now else {
            fits = true;
            break;
        };
        let step = Refused { node: r.node, plugin, reasons: super::words(refusal.reasons) };
        match change(f, p, &mut pod, &mut node, &step) {
            Some(more) => all.extend(more),
            None => break,
        }
        cache.set_node(node_info(&node)?);
    }
    // As it was, for the next one.
    cache.set_node(node_info(&r.node.v)?);
    fits.then_some(all)
}

fn change(f: &Facts, p: &Thing, pod: &mut Value, node: &mut Value, r: &Refused<'_>) -> Option<Vec<Change>> {
    let name = r.node.name();
    match r.plugin {
        "NodeUnschedulable" => {
            remove(node, "/spec", "unschedulable");
            if let Some(all) = node.pointer_mut("/spec/taints").and_then(Value::as_array_mut) {
                all.retain(|t| t["key"] != "node.kubernetes.io/unschedulable");
            }
            Some(vec![run(format!("let pods go to {name} again"), format!("kubectl uncordon {name}"), 1)])
        }
        "TaintToleration" => {
            let hard = untolerated(pod, node);
            if let Some(all) = node.pointer_mut("/spec/taints").and_then(Value::as_array_mut) {
                all.retain(|t| {
                    !hard.iter().any(|(h, _)| t["key"] == h.key.as_str() && t["effect"] == h.effect.as_str())
                });
            }
            let of = |(t, words): (api::placement::Taint, String)| {
                if is_of_state(&t) {
                    return run(format!("bring {name} in order"), format!("kelson why node {name}"), 3);
                }
                let mut c = run(
                    format!("take the taint from {name}"),
                    format!("kubectl taint nodes {name} {words}-"),
                    2,
                );
                c.help.text = format!("let it tolerate {words} (spec.tolerations), or {}", c.help.text);
                c
            };
            Some(hard.into_iter().map(of).collect())
        }
        "NodeAffinity" => Some(labels(f, p, pod, node, name)),
        "NodePorts" => {
            let change = match holder(f, p, name) {
                Some((o, port)) => run(
                    format!(
                        "leave the host port to Services, take another one than {port}, or end the pod that has it"
                    ),
                    o.kubectl(&format!("delete {}", o.id())),
                    1,
                ),
                None => return None,
            };
            each_container(pod, |c| {
                remove(c, "", "ports");
            });
            Some(vec![change])
        }
        "NodeResourcesFit" => {
            Some(short(r).into_iter().map(|x| lower(f, p, pod, node, r.node, &x)).collect())
        }
        "PodTopologySpread" => {
            remove(pod, "/spec", "topologySpreadConstraints");
            Some(vec![run(
                "raise maxSkew, add nodes to the other domains, or let the spread only ask (whenUnsatisfiable: ScheduleAnyway)",
                f.edit(p),
                1,
            )])
        }
        "InterPodAffinity" => {
            let anti = r.reasons.iter().any(|x| x.contains("anti-affinity"));
            if r.reasons.iter().any(|x| x.contains("existing pods")) {
                return None;
            }
            remove(pod, "/spec/affinity", if anti { "podAntiAffinity" } else { "podAffinity" });
            let text = if anti {
                "add a node, or let the anti-affinity only ask (preferredDuringSchedulingIgnoredDuringExecution)"
            } else {
                "start the pods it wants to be beside, or correct the affinity's selector"
            };
            Some(vec![run(text, f.edit(p), 1)])
        }
        _ => None,
    }
}

fn each_container(pod: &mut Value, mut act: impl FnMut(&mut Value)) {
    for list in ["/spec/containers", "/spec/initContainers"] {
        for c in pod.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            act(c);
        }
    }
}

/// The pod asks for what is left, or less.
fn lower(f: &Facts, p: &Thing, pod: &mut Value, node: &mut Value, thing: &Thing, resource: &str) -> Change {
    let name = thing.name();
    if resource == "pods" {
        if let Some(a) = node.pointer_mut("/status/allocatable").and_then(Value::as_object_mut) {
            a.insert("pods".into(), json!("1000000"));
        }
        return run(
            format!("end or move a pod on {name}, or let it run more (maxPods)"),
            format!("kubectl get pods -A --field-selector spec.nodeName={name}"),
            2,
        );
    }
    let (_, _, left) = room(f, thing, resource);
    let want = amounts::of(&amounts::requests(&p.v), resource);
    each_container(pod, |c| {
        for list in ["/resources/requests", "/resources/limits"] {
            remove(c, list, resource);
        }
    });
    remove(pod, "/spec/resources/requests", resource);
    let show = |q| amounts::show(resource, q);
    let containers = p.list("/spec/containers");
    let command = match containers {
        [one] if left.sign() > 0 => {
            let amount = amounts::askable(resource, left);
            f.set(p, "resources", &format!("-c {} --requests={resource}={amount}", str_of(&one["name"])))
        }
        _ => f.edit(p),
    };
    if left.sign() <= 0 {
        return run(
            format!("free some {resource} on {name}, where nothing is left, or add a node"),
            format!("kubectl get pods -A --field-selector spec.nodeName={name}"),
            2,
        );
    }
    let (have, _, _) = room(f, thing, resource);
    if want > have {
        let text = format!(
            "ask for at most {} {resource} (now {}), or add a node that large",
            show(left),
            show(want)
        );
        return run(text, command, 1);
    }
    run(
        format!(
            "ask for at most {} {resource} (now {}), free {} on {name}, or add a node",
            show(left),
            show(want),
            show(want - left)
        ),
        command,
        1,
    )
}

/// The node gets the labels that are asked for.
fn labels(f: &Facts, p: &Thing, pod: &mut Value, node: &mut Value, name: &str) -> Vec<Change> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    let have = node["metadata"]["labels"].clone();
    for (k, v) in pod["spec"]["nodeSelector"].as_object().into_iter().flatten() {
        if have[k.as_str()] != *v {
            pairs.push((k.clone(), str_of(v).to_owned()));
        }
    }
    let affinity = "/spec/affinity/nodeAffinity";
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms = pod.pointer(affinity).map_or(Value::Null, |a| a[required]["nodeSelectorTerms"].clone());
    let first = items(&terms).first().cloned().unwrap_or_default();
    let simple =
        items(&first["matchExpressions"]).iter().all(|e| matches!(str_of(&e["operator"]), "In" | "Exists"))
            && items(&first["matchFields"]).is_empty();
    let mut out = Vec::new();
    if simple {
        for e in items(&first["matchExpressions"]) {
            let key = str_of(&e["key"]);
            let values: Vec<&str> = items(&e["values"]).iter().map(str_of).collect();
            let has = have[key].as_str().is_some_and(|v| values.is_empty() || values.contains(&v));
            if !has {
                pairs.push((key.to_owned(), values.first().copied().unwrap_or_default().to_owned()));
            }
        }
    } else if !terms.is_null() {
        remove(pod, affinity, required);
        out.push(run(format!("change its node affinity ({})", affinity_words(p)), f.edit(p), 1));
    }
    if !pairs.is_empty() {
        let again = pairs.iter().any(|(k, _)| !have[k.as_str()].is_null());
        let words: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let more = if again { " --overwrite" } else { "" };
        out.push(run(
            format!("give {name} the label, or ask for labels that nodes have"),
            format!("kubectl label node {name} {}{more}", words.join(" ")),
            1,
        ));
    }
    if let Some(meta) = node.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        let labels = meta.entry("labels").or_insert_with(|| json!({}));
        if let Some(l) = labels.as_object_mut() {
            l.extend(pairs.into_iter().map(|(k, v)| (k, Value::String(v))));
        }
    }
    out
}
