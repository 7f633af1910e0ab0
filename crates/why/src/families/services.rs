//! Services without endpoints, and selectors that select nothing.

use api::selector::LabelSelector;
use serde_json::Value;

use super::pods;
use super::workloads::of_pods;
use crate::cause::{Cause, Weight};
use crate::facts::{Facts, Thing, count, items, names};

/// A selector as a person says it.
pub fn words(s: &LabelSelector) -> String {
    if s.is_everything() {
        return "any labels".into();
    }
    s.requirements().iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

/// How many letters have to change to make one of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |r: &[usize], k: usize| r.get(k).copied().unwrap_or(usize::MAX - 1);
            let swap = at(&row, j) + usize::from(x != *y);
            next.push(swap.min(at(&row, j + 1) + 1).min(at(&next, j) + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// Adds what comes nearest to a selector that no pod fits.
pub fn nearest(f: &Facts, t: &Thing, s: &LabelSelector, c: Cause) -> Cause {
    let mut c = c.seen(t, "spec.selector", words(s));
    let all = s.requirements();
    let keys = |p: &Thing| all.iter().any(|r| p.labels().get(&r.key).is_some());
    let fits = |p: &Thing| all.iter().filter(|r| r.matches(p.labels())).count();
    // A slip of the finger is the most likely cause.
    let slips = |p: &Thing| -> usize {
        all.iter()
            .map(|r| {
                let has = p.labels().get(&r.key).and_then(Value::as_str).unwrap_or_default();
                r.values.iter().map(|v| distance(v, has)).min().unwrap_or(0)
            })
            .sum()
    };
    let near = f
        .within("pod", t.ns())
        .filter(|p| !pods::is_finished(p) && keys(p))
        .min_by_key(|p| (all.len() - fits(p), slips(p)));
    let Some(p) = near else {
        let there = f.within("pod", t.ns()).count();
        return c
            .help(format!("{} in {}; none has a label that it asks for", count(there, "pod"), t.ns()))
            .run("see which labels pods have", format!("kubectl get pods -n {} --show-labels", t.ns()));
    };
    let has: Vec<String> = all
        .iter()
        .filter(|r| !r.matches(p.labels()))
        .map(|r| match p.labels().get(&r.key).and_then(Value::as_str) {
            Some(v) => format!("{}={v}", r.key),
            None => format!("no label {}", r.key),
        })
        .collect();
    c = c.seen(p, "metadata.labels", has.join(", "));
    let top = f.top(p).id();
    let of = if top == p.id() { String::new() } else { format!(" of {top}") };
    let near = format!("the nearest is {}{of}, which has {}", p.id(), has.join(" and "));
    c.help(near).run("correct the selector", t.kubectl(&format!("edit {}", t.id())))
}

fn slices<'a>(f: &'a Facts, s: &'a Thing) -> impl Iterator<Item = &'a Thing> {
    f.within("endpointslice", s.ns()).filter(move |e| e.labels()["kubernetes.io/service-name"] == s.name())
}

fn endpoints(f: &Facts, s: &Thing) -> (usize, usize) {
    let all: Vec<&Value> = slices(f, s).flat_map(|e| e.list("/endpoints")).collect();
    let ready = all.iter().filter(|e| e["conditions"]["ready"] != false).count();
    (ready, all.len())
}

/// Names of the ports that a pod's containers declare, and their numbers.
fn declared(p: &Thing) -> (Vec<String>, Vec<i64>) {
    let sidecars = p.list("/spec/initContainers").iter().filter(|c| c["restartPolicy"] == "Always");
    let ports: Vec<&Value> =
        p.list("/spec/containers").iter().chain(sidecars).flat_map(|c| items(&c["ports"])).collect();
    (
        ports.iter().filter_map(|x| x["name"].as_str().map(str::to_owned)).collect(),
        ports.iter().filter_map(|x| x["containerPort"].as_i64()).collect(),
    )
}

fn ports(s: &Thing, mine: &[&Thing]) -> Vec<Cause> {
    let mut out = Vec::new();
    let edit = s.kubectl(&format!("edit {}", s.id()));
    for port in s.list("/spec/ports") {
        let number = port["port"].as_i64().unwrap_or(0);
        let place = format!("spec.ports[{number}].targetPort");
        match &port["targetPort"] {
            Value::String(name) if !name.is_empty() => {
                let lacks = mine.iter().filter(|p| !declared(p).0.contains(name)).count();
                if lacks > 0 && lacks == mine.len() {
                    let mut have: Vec<String> = mine.iter().flat_map(|p| declared(p).0).collect();
                    have.sort();
                    have.dedup();
                    let there = if have.is_empty() {
                        "they name none".into()
                    } else {
                        format!("they name {}", names(&have, 4))
                    };
                    let mut c = Cause::root(
                        "target-port-missing",
                        format!("port {number} leads to a port named {name}, and no container of its pods has one of that name ({there})"),
                    )
                    .seen(s, &place, name.as_str());
                    if let Some(p) = mine.first() {
                        c = c.seen(p, "spec.containers[].ports[].name", have.join(", "));
                    }
                    out.push(c.run("name a port that is there", edit.clone()));
                }
            }
            Value::Number(n) => {
                let n = n.as_i64().unwrap_or(0);
                // Ports need not be declared; where others are, a person has perhaps mistaken one.
                let (mut some, mut this) = (Vec::new(), false);
                for p in mine {
                    let (_, numbers) = declared(p);
                    this |= numbers.is_empty() || numbers.contains(&n);
                    some.extend(numbers);
                }
                some.sort_unstable();
                some.dedup();
                if !this && !some.is_empty() {
                    let shown: Vec<String> = some.iter().map(ToString::to_string).collect();
                    out.push(
                        Cause::state(
                            "target-port-undeclared",
                            format!(
                                "port {number} leads to port {n}, and its pods declare only {}",
                                names(&shown, 4)
                            ),
                        )
                        .seen(s, &place, n.to_string())
                        .run("if nothing listens there, correct targetPort", edit.clone()),
                    );
                }
            }
            _ => {}
        }
    }
    out
}

pub fn causes(f: &Facts, s: &Thing) -> Vec<Cause> {
    if s.text("/spec/type") == "ExternalName" {
        return Vec::new();
    }
    let (ready, all) = endpoints(f, s);
    let known = f.knows("endpointslice", s.ns());
    if s.at("/spec/selector").as_object().is_none_or(serde_json::Map::is_empty) {
        if known && ready == 0 {
            return vec![
                Cause::root("no-endpoints", "it has no selector, and nobody has given it endpoints by hand")
                    .seen(s, "spec.selector", "none")
                    .help("give it a selector, or make an EndpointSlice with the label kubernetes.io/service-name"),
            ];
        }
        return pending_balancer(s);
    }
    let selector = LabelSelector::from_map_value(s.at("/spec/selector"));
    let mine: Vec<&Thing> = f
        .within("pod", s.ns())
        .filter(|p| selector.matches(p.labels()) && !pods::is_finished(p) && !p.is_deleting())
        .collect();
    if !f.knows("pod", s.ns()) {
        return Vec::new();
    }
    if mine.is_empty() {
        let c = Cause::root("selects-nothing", format!("it leads nowhere: no pod has {}", words(&selector)));
        return vec![nearest(f, s, &selector, c)];
    }
    let mut out = ports(s, &mine);
    if known && ready == 0 {
        out.extend(of_pods(f, mine.iter().copied().filter(|p| !pods::is_ready(p))));
        if out.iter().all(|c| c.weight != Weight::Root) {
            let says =
                format!("it leads nowhere: {} it, and none is ready ({all} endpoints)", selected(mine.len()));
            out.push(
                Cause::state("no-ready-endpoints", says).seen(s, "spec.selector", words(&selector)).seen(
                    s,
                    "endpoints that are ready",
                    "0",
                ),
            );
        }
    }
    out.extend(pending_balancer(s));
    out
}

fn selected(n: usize) -> String {
    if n == 1 { "1 pod fits".into() } else { format!("{n} pods fit") }
}

fn pending_balancer(s: &Thing) -> Vec<Cause> {
    if s.text("/spec/type") != "LoadBalancer" || !s.list("/status/loadBalancer/ingress").is_empty() {
        return Vec::new();
    }
    vec![
        Cause::state(
            "no-balancer",
            "nobody has given it an address for its load balancer: the cluster has no controller that does",
        )
        .seen(s, "status.loadBalancer.ingress", "none")
        .help("install one, such as MetalLB, or use type NodePort"),
    ]
}

/// Network policies that guard nothing.
pub fn policy(f: &Facts, n: &Thing) -> Vec<Cause> {
    let selector =
        LabelSelector::from_value(n.at("/spec/podSelector")).unwrap_or_else(|_| LabelSelector::nothing());
    if selector.is_everything()
        || !f.knows("pod", n.ns())
        || f.within("pod", n.ns()).any(|p| selector.matches(p.labels()))
    {
        return Vec::new();
    }
    let c = Cause::root("selects-nothing", format!("it guards nothing: no pod has {}", words(&selector)));
    let mut c = nearest(f, n, &selector, c);
    if let Some(e) = c.evidence.iter_mut().find(|e| e.field == "spec.selector") {
        e.field = "spec.podSelector".into();
    }
    vec![c]
}
