//! The plugins and their fixed order: filters, then scores with their weights. A new one is a file here and a row in
//! the table.

mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources;
mod node_unschedulable;
mod scheduling_gates;
mod taint_toleration;
mod volume_binding;
mod volume_restrictions;
mod volume_zone;

use crate::core::{Cache, NodeInfo, PodInfo};

/// Why a plugin refuses a node, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub plugin: &'static str,
    pub reason: String,
}

/// What holds for one pod against all nodes, computed once.
pub struct Cycle<'a> {
    affinity: inter_pod_affinity::State,
    images: image_locality::State,
    claim_in_use: bool,
    cache: &'a Cache,
}

impl<'a> Cycle<'a> {
    pub fn new(cache: &'a Cache, pod: &PodInfo) -> Self {
        Self {
            affinity: inter_pod_affinity::State::new(cache, pod),
            images: image_locality::State::new(cache, pod),
            claim_in_use: volume_restrictions::in_use(cache, pod),
            cache,
        }
    }
    pub fn nodes(&self) -> usize {
        self.cache.len()
    }
}

type Filter = fn(&Cycle<'_>, &PodInfo, &NodeInfo) -> Result<(), Vec<String>>;
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
pub fn gates(pod: &PodInfo) -> Result<(), Rejection> {
    scheduling_gates::check(pod).map_err(|reason| Rejection { plugin: "SchedulingGates", reason })
}

/// What no node can help with: its claims.
pub fn claims(cache: &Cache, pod: &PodInfo) -> Result<(), Rejection> {
    cache.volumes.check(pod).map_err(|reason| Rejection { plugin: "VolumeBinding", reason })
}

/// All reasons of the first plugin that refuses the node.
pub fn filter(cycle: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Vec<Rejection>> {
    for (plugin, f) in FILTERS {
        if let Err(reasons) = f(cycle, pod, node) {
            return Err(reasons.into_iter().map(|reason| Rejection { plugin, reason }).collect());
        }
    }
    Ok(())
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
