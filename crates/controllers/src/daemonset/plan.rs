//! What a DaemonSet does next, pure: one pod on each node that wants one, ended and surplus pods away, updates as far as
//! `maxUnavailable` or `maxSurge` let them.

use std::collections::BTreeMap;

use api::int_or_string;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::nodes::Verdict;
use crate::counts;
use crate::pods::Pod;

pub const HASH: &str = "controller-revision-hash";
pub const GENERATION: &str = "pod-template-generation";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    OnDelete,
    Rolling { surge: i64, unavailable: i64 },
}

impl Strategy {
    pub fn parse(v: &Value, desired: i64) -> Self {
        if v["type"] != "RollingUpdate" {
            return Strategy::OnDelete;
        }
        let r = &v["rollingUpdate"];
        let number = |v: &Value, default: i64| match v {
            Value::Null => default,
            v => int_or_string::scaled(v, desired, true).unwrap_or(default),
        };
        let (surge, mut unavailable) = (number(&r["maxSurge"], 0), number(&r["maxUnavailable"], 1));
        if desired > 0 && surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        Strategy::Rolling { surge, unavailable }
    }

    fn surges(self) -> bool {
        matches!(self, Strategy::Rolling { surge, .. } if surge > 0)
    }
}

/// How this template's pods are told from others.
#[derive(Debug, Clone, Copy)]
pub struct Version<'a> {
    pub hash: &'a str,
    /// Of the set's annotation; the older way to tell.
    pub generation: Option<&'a str>,
}

impl Version<'_> {
    pub fn of_this(self, pod: &Pod) -> bool {
        let label = |k: &str| pod.object.meta().labels.get(k);
        label(HASH).is_some_and(|h| h == self.hash)
            || (self.generation.is_some() && label(GENERATION) == self.generation)
    }
}

pub struct Inputs<'a> {
    /// Every node with what the template wants of it.
    pub nodes: &'a BTreeMap<String, Verdict>,
    /// The set's pods by the node they are meant for; those that ended and are being deleted are left out.
    pub pods: &'a BTreeMap<String, Vec<Pod>>,
    pub version: Version<'a>,
    pub strategy: Strategy,
    pub min_ready: i64,
    pub now: Timestamp,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Nodes to make a pod on.
    pub create: Vec<String>,
    /// Names of pods.
    pub delete: Vec<String>,
    /// Failed pods with their nodes, to be deleted after their back-off.
    pub failed: Vec<(String, String)>,
    pub succeeded: Vec<(String, String)>,
}

/// Placed pods first, then the oldest.
fn by_age(pods: &mut [&Pod]) {
    pods.sort_by(|a, b| {
        (a.view.spec.node_name.is_empty(), a.created(), a.object.name()).cmp(&(
            b.view.spec.node_name.is_empty(),
            b.created(),
            b.object.name(),
        ))
    });
}

fn deleting(p: &Pod) -> bool {
    p.object.meta().is_deleting()
}

impl Inputs<'_> {
    fn on(&self, node: &str) -> &[Pod] {
        self.pods.get(node).map_or(&[], Vec::as_slice)
    }

    fn available(&self, p: &Pod) -> bool {
        p.is_available(self.min_ready, self.now)
    }

    pub fn desired(&self) -> usize {
        self.nodes.values().filter(|v| v.run).count()
    }
}

/// One pod where one belongs, none elsewhere.
pub fn manage(i: &Inputs<'_>) -> Plan {
    let mut plan = Plan::default();
    for (node, verdict) in i.nodes {
        let there = i.on(node);
        if verdict.run && there.is_empty() {
            plan.create.push(node.clone());
        } else if verdict.stay {
            keep_one(i, node, *verdict, there, &mut plan);
        } else {
            plan.delete.extend(there.iter().filter(|p| !deleting(p)).map(|p| p.object.name().to_owned()));
        }
    }
    // Meant for a node that is gone, and never placed.
    for (node, there) in i.pods.iter().filter(|(n, _)| !i.nodes.contains_key(*n)) {
        debug_assert!(!i.nodes.contains_key(node));
        let lost = there.iter().filter(|p| p.view.spec.node_name.is_empty() && !deleting(p));
        plan.delete.extend(lost.map(|p| p.object.name().to_owned()));
    }
    plan
}

fn keep_one(i: &Inputs<'_>, node: &str, verdict: Verdict, there: &[Pod], plan: &mut Plan) {
    let mut running: Vec<&Pod> = Vec::new();
    for p in there.iter().filter(|p| !deleting(p)) {
        let named = || (p.object.name().to_owned(), node.to_owned());
        match p.view.status.phase.as_str() {
            "Failed" => plan.failed.push(named()),
            "Succeeded" => plan.succeeded.push(named()),
            _ => running.push(p),
        }
    }
    by_age(&mut running);
    if !i.strategy.surges() {
        plan.delete.extend(running.iter().skip(1).map(|p| p.object.name().to_owned()));
        return;
    }
    if running.len() <= 1 {
        if running.is_empty() && verdict.run {
            // While surging the old pod may end before the new one is there.
            plan.create.push(node.to_owned());
        }
        return;
    }
    // Two may be there while the new one is not yet available and the old one serves.
    let (mut new, mut old): (Option<&Pod>, Option<&Pod>) = (None, None);
    for p in running {
        let slot = if i.version.of_this(p) { &mut new } else { &mut old };
        match slot {
            None => *slot = Some(p),
            Some(_) => plan.delete.push(p.object.name().to_owned()),
        }
    }
    if let (Some(new), Some(old)) = (new, old)
        && (!old.is_ready() || i.available(new))
    {
        plan.delete.push(old.object.name().to_owned());
    }
}

/// The new and the old pod on a node; `None` when there are several of one sort, which `manage` clears up first.
fn pair<'a>(i: &Inputs<'_>, there: &'a [Pod]) -> Option<(Option<&'a Pod>, Option<&'a Pod>)> {
    let (mut new, mut old) = (None, None);
    for p in there.iter().filter(|p| !deleting(p)) {
        let slot = if i.version.of_this(p) { &mut new } else { &mut old };
        if slot.replace(p).is_some() {
            return None;
        }
    }
    Some((new, old))
}

/// Steps of a rolling update: nodes to surge onto and old pods to delete.
pub fn update(i: &Inputs<'_>) -> Plan {
    let Strategy::Rolling { surge, unavailable } = i.strategy else { return Plan::default() };
    let wanting = i.nodes.iter().filter(|(_, v)| v.run).map(|(n, _)| n);
    let extra = i.pods.keys().filter(|n| !i.nodes.get(*n).is_some_and(|v| v.run));
    let nodes: Vec<&String> = wanting.chain(extra).collect();
    if surge > 0 { surging(i, &nodes, surge) } else { replacing(i, &nodes, unavailable) }
}

fn replacing(i: &Inputs<'_>, nodes: &[&String], max: i64) -> Plan {
    let (mut down, mut must, mut may) = (0, Vec::new(), Vec::new());
    for node in nodes {
        match pair(i, i.on(node)) {
            // Being made or cleared up: it counts as unavailable.
            None | Some((None, None) | (Some(_), Some(_))) => down += 1,
            Some((Some(new), None)) => down += i64::from(!i.available(new)),
            Some((None, Some(old))) if i.available(old) => may.push(old.object.name().to_owned()),
            Some((None, Some(old))) => {
                must.push(old.object.name().to_owned());
                down += 1;
            }
        }
    }
    let room = usize::try_from((max - down).max(0)).unwrap_or(0);
    must.extend(may.into_iter().take(room));
    Plan { delete: must, ..Plan::default() }
}

fn surging(i: &Inputs<'_>, nodes: &[&String], max: i64) -> Plan {
    let (mut surged, mut must, mut may, mut delete) = (0, Vec::new(), Vec::new(), Vec::new());
    for node in nodes {
        let wanted = i.nodes.get(*node).is_some_and(|v| v.run);
        match pair(i, i.on(node)) {
            None => surged += 1,
            Some((_, None)) => {}
            // A node that wants no pod is cleared by `manage`.
            Some((None, Some(_))) if !wanted => {}
            Some((None, Some(old))) if i.available(old) => may.push((*node).clone()),
            Some((None, Some(_))) => must.push((*node).clone()),
            Some((Some(new), Some(_))) if !i.available(new) => surged += 1,
            Some((Some(_), Some(old))) => delete.push(old.object.name().to_owned()),
        }
    }
    let room = usize::try_from((max - surged).max(0)).unwrap_or(0);
    must.extend(may.into_iter().take(room));
    Plan { create: must, delete, ..Plan::default() }
}

/// The status as it should be; fields this loop does not know are kept.
pub fn status(old: &Value, i: &Inputs<'_>, generation: i64, collisions: i64) -> Value {
    let (mut scheduled, mut misscheduled, mut ready, mut available, mut updated) = (0, 0, 0, 0, 0);
    for (node, verdict) in i.nodes {
        let mut there: Vec<&Pod> = i.on(node).iter().collect();
        by_age(&mut there);
        let Some(pod) = there.first() else { continue };
        if !verdict.run {
            misscheduled += 1;
            continue;
        }
        scheduled += 1;
        ready += i64::from(pod.is_ready());
        available += i64::from(i.available(pod));
        updated += i64::from(i.version.of_this(pod));
    }
    let desired = counts::of(i.desired());
    let mut new = if old.is_object() { old.clone() } else { json!({}) };
    new["currentNumberScheduled"] = json!(scheduled);
    new["numberMisscheduled"] = json!(misscheduled);
    new["desiredNumberScheduled"] = json!(desired);
    new["numberReady"] = json!(ready);
    new["observedGeneration"] = json!(generation);
    counts::set(&mut new, old, "updatedNumberScheduled", updated);
    counts::set(&mut new, old, "numberAvailable", available);
    counts::set(&mut new, old, "numberUnavailable", desired - available);
    if collisions > 0 {
        new["collisionCount"] = json!(collisions);
    }
    new
}
