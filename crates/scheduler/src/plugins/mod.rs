//! The plugins and their fixed order: filters, then scores with their weights. A new one is a file here and a row in
//! the table.

mod default_preemption;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources;
mod node_unschedulable;
mod pod_topology_spread;
mod scheduling_gates;
mod taint_toleration;
mod volume_binding;
mod volume_restrictions;
mod volume_zone;

pub use default_preemption::{Preemption, preempt};

use crate::core::{Cache, NodeInfo, PodInfo};

/// Why a plugin refuses a node, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reasons: Vec<String>,
    /// No pod that leaves the node would change it.
    pub lasting: bool,
}

impl Refusal {
    fn lasting(reason: &str) -> Self {
        Self { reasons: vec![reason.to_owned()], lasting: true }
    }
    fn for_now(reason: &str) -> Self {
        Self { reasons: vec![reason.to_owned()], lasting: false }
    }
}

/// A plugin's name and its refusal.
pub type Refused = (&'static str, Refusal);

/// What holds for one pod against all nodes, computed once.
#[derive(Clone)]
pub struct Cycle<'a> {
    affinity: inter_pod_affinity::State,
    spread: pod_topology_spread::State,
    images: image_locality::State,
    claims: volume_restrictions::State,
    cache: &'a Cache,
}

impl<'a> Cycle<'a> {
    pub fn new(cache: &'a Cache, pod: &PodInfo) -> Self {
        Self {
            affinity: inter_pod_affinity::State::new(cache, pod),
            images: image_locality::State::new(cache, pod),
            spread: pod_topology_spread::State::new(cache, pod),
            claims: volume_restrictions::State::new(cache, pod),
            cache,
        }
    }
    pub fn nodes(&self) -> usize {
        self.cache.len()
    }

    /// As if `other` came to the node (1) or left it (-1).
    fn count(&mut self, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, by: i64) {
        self.affinity.count(self.cache, pod, other, node, by);
        self.spread.count(pod, other, node, by);
        self.claims.count(pod, other, by);
    }
}

type Filter = fn(&Cycle<'_>, &PodInfo, &NodeInfo) -> Result<(), Refusal>;
type Score = fn(&Cycle<'_>, &PodInfo, &NodeInfo) -> i64;

/// In upstream's default order; the first plugin that refuses a node names the reason.
pub const FILTERS: &[(&str, Filter)] = &[
    ("NodeUnschedulable", node_unschedulable::filter),
    ("NodeName", node_name::filter),
    ("TaintToleration", taint_toleration::filter),
    ("NodeAffinity", node_affinity::filter),
    ("NodePorts", node_ports::filter),
    ("NodeResourcesFit", node_resources::filter),
    ("VolumeRestrictions", volume_restrictions::filter),
    ("VolumeBinding", volume_binding::filter),
    ("VolumeZone", volume_zone::filter),
    ("PodTopologySpread", pod_topology_spread::filter),
    ("InterPodAffinity", inter_pod_affinity::filter),
];

/// Name, weight, raw score, and whether more is worse. Raw scores are scaled to 0..=100 over the feasible nodes when
/// `scaled` is set.
pub struct Scorer {
    pub name: &'static str,
    pub weight: i64,
    pub score: Score,
    pub scaled: bool,
    pub reversed: bool,
}

pub const SCORES: &[Scorer] = &[
    Scorer {
        name: "TaintToleration",
        weight: 3,
        score: taint_toleration::score,
        scaled: true,
        reversed: true,
    },
    Scorer { name: "NodeAffinity", weight: 2, score: node_affinity::score, scaled: true, reversed: false },
    Scorer {
        name: "NodeResourcesFit",
        weight: 1,
        score: node_resources::least_allocated,
        scaled: false,
        reversed: false,
    },
    Scorer {
        name: "NodeResourcesBalancedAllocation",
        weight: 1,
        score: node_resources::balanced,
        scaled: false,
        reversed: false,
    },
    Scorer {
        name: "InterPodAffinity",
        weight: 2,
        score: inter_pod_affinity::score,
        scaled: true,
        reversed: false,
    },
    Scorer { name: "ImageLocality", weight: 1, score: image_locality::score, scaled: false, reversed: false },
];

/// What holds a pod back before any node is looked at.
pub fn gates(pod: &PodInfo) -> Result<(), Refused> {
    scheduling_gates::check(pod).map_err(|reason| ("SchedulingGates", Refusal::lasting(&reason)))
}

/// What no node can help with: its claims.
pub fn claims(cache: &Cache, pod: &PodInfo) -> Result<(), Refused> {
    cache.volumes.check(pod).map_err(|reason| ("VolumeBinding", Refusal::lasting(&reason)))
}

/// The first plugin that refuses the node.
fn filter(cycle: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refused> {
    FILTERS.iter().try_for_each(|(plugin, f)| f(cycle, pod, node).map_err(|r| (*plugin, r)))
}

/// Whether the node takes the pod, both with the pods that are nominated for it and without: they may never come.
pub fn fits(cycle: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refused> {
    let nominated = cycle.cache.nominated(&node.name).iter();
    let mut ahead = nominated.filter(|p| p.priority >= pod.priority && p.uid != pod.uid).peekable();
    if ahead.peek().is_some() {
        let (mut node, mut with) = (node.clone(), cycle.clone());
        for p in ahead {
            with.count(pod, p, &node, 1);
            node.add_pod(p.clone());
        }
        filter(&with, pod, &node)?;
    }
    filter(cycle, pod, node)
}

/// One sum of weighted scores per node.
pub fn score(cycle: &Cycle<'_>, pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
    let mut totals = vec![0i64; nodes.len()];
    if nodes.len() < 2 {
        return totals;
    }
    for s in SCORES {
        let mut raw: Vec<i64> = nodes.iter().map(|n| (s.score)(cycle, pod, n)).collect();
        if s.scaled {
            scale(&mut raw, s.reversed);
        }
        for (t, r) in totals.iter_mut().zip(raw) {
            *t += r * s.weight;
        }
    }
    for (t, r) in totals.iter_mut().zip(pod_topology_spread::scores(cycle, pod, nodes)) {
        *t += r * pod_topology_spread::WEIGHT;
    }
    totals
}

/// Scales to 0..=100 between the smallest (or zero) and the largest raw score.
fn scale(raw: &mut [i64], reversed: bool) {
    let max = raw.iter().copied().max().unwrap_or(0);
    let min = raw.iter().copied().min().unwrap_or(0).min(0);
    let span = max - min;
    for r in raw.iter_mut() {
        let v = if span == 0 { 0 } else { (*r - min) * 100 / span };
        *r = if reversed { 100 - v } else { v };
    }
}
