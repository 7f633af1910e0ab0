//! Pods spread over topology domains: constraints that must hold, and those that only ask, by default over nodes and zones
//! for the pods of a service or an owner.

use std::collections::HashMap;

use super::{Cycle, Refusal, node_affinity, taint_toleration};
use crate::core::{Cache, NodeInfo, PodInfo, Spread, selects};

pub const WEIGHT: i64 = 2;
const HOSTNAME: &str = "kubernetes.io/hostname";
const MISMATCH: &str = "node(s) didn't match pod topology spread constraints";
/// Topology key and skew of the constraints that a pod without any gets.
const DEFAULTS: [(&str, i64); 2] = [(HOSTNAME, 3), ("topology.kubernetes.io/zone", 5)];

/// Matching pods by value of the topology key, for each hard constraint.
#[derive(Clone, Default)]
pub struct State {
    hard: Vec<(Spread, HashMap<String, i64>)>,
}

fn counts_here(c: &Spread, pod: &PodInfo, node: &NodeInfo) -> bool {
    (!c.honor_affinity || node_affinity::allows(pod, node))
        && (!c.honor_taints || taint_toleration::bears(pod, node))
}

fn has_all_keys<'a>(mut constraints: impl Iterator<Item = &'a Spread>, node: &NodeInfo) -> bool {
    constraints.all(|c| node.labels.contains_key(&c.topology_key))
}

/// A selector of everything counts nothing, as upstream has it.
fn is_counted(c: &Spread, pod: &PodInfo, other: &PodInfo) -> bool {
    let selected = c.selector.as_ref().is_some_and(|s| !s.is_empty() && selects(s, &other.labels));
    !other.deleting && other.namespace == pod.namespace && selected
}

fn matching(c: &Spread, pod: &PodInfo, node: &NodeInfo) -> i64 {
    i64::try_from(node.pods.iter().filter(|o| is_counted(c, pod, o)).count()).unwrap_or(i64::MAX)
}

impl State {
    pub fn new(cache: &Cache, pod: &PodInfo) -> Self {
        let hard = pod.spread.iter().filter(|c| c.hard).map(|c| (c.clone(), HashMap::new()));
        let mut s = Self { hard: hard.collect() };
        if !s.hard.is_empty() {
            for node in cache.nodes() {
                s.add(pod, node, |c| matching(c, pod, node));
            }
        }
        s
    }

    fn add(&mut self, pod: &PodInfo, node: &NodeInfo, amount: impl Fn(&Spread) -> i64) {
        if !has_all_keys(self.hard.iter().map(|(c, _)| c), node) {
            return;
        }
        for (c, counts) in self.hard.iter_mut().filter(|(c, _)| counts_here(c, pod, node)) {
            let Some(value) = node.labels.get(&c.topology_key) else { continue };
            *counts.entry(value.clone()).or_default() += amount(c);
        }
    }

    /// `other` comes to the node, or leaves it.
    pub fn count(&mut self, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, by: i64) {
        self.add(pod, node, |c| if is_counted(c, pod, other) { by } else { 0 });
    }
}

pub fn filter(cycle: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    for (c, counts) in &cycle.spread.hard {
        let Some(value) = node.labels.get(&c.topology_key) else {
            return Err(Refusal::lasting(&format!("{MISMATCH} (missing required label)")));
        };
        // With fewer domains than wanted, one without pods is thought of.
        let least =
            if counts.len() < c.min_domains { 0 } else { counts.values().copied().min().unwrap_or(i64::MAX) };
        let own = i64::from(c.selector.as_ref().is_some_and(|s| selects(s, &pod.labels)));
        let here = counts.get(value).copied().unwrap_or(0).saturating_add(own);
        if here.saturating_sub(least) > c.max_skew {
            return Err(Refusal::for_now(MISMATCH));
        }
    }
    Ok(())
}

/// From 0 to 100 for each node: the fewer matching pods in its domains, the better.
pub fn scores(cycle: &Cycle<'_>, pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
    let by_default = pod.spread.is_empty();
    let soft: Vec<Spread> = if by_default {
        defaults(cycle.cache, pod)
    } else {
        pod.spread.iter().filter(|c| !c.hard).cloned().collect()
    };
    if soft.is_empty() {
        return vec![0; nodes.len()];
    }
    // A default constraint may hold on some nodes only: not every node has a zone.
    let eligible = |n: &NodeInfo| by_default || has_all_keys(soft.iter(), n);
    let value = |c: &Spread, n: &NodeInfo| n.labels.get(&c.topology_key).cloned().unwrap_or_default();
    let mut domains: Vec<HashMap<String, i64>> = vec![HashMap::new(); soft.len()];
    for n in nodes.iter().filter(|n| eligible(n)) {
        for (c, counts) in soft.iter().zip(&mut domains) {
            counts.entry(value(c, n)).or_default();
        }
    }
    for n in cycle.cache.nodes().iter().filter(|n| eligible(n)) {
        for (c, counts) in soft.iter().zip(&mut domains).filter(|(c, _)| counts_here(c, pod, n)) {
            if let Some(count) = counts.get_mut(&value(c, n)) {
                *count += matching(c, pod, n);
            }
        }
    }
    // Raw scores count pods; small topologies are not to drown in large ones.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    let raw = |n: &NodeInfo| -> i64 {
        let parts = soft.iter().zip(&domains).filter_map(|(c, counts)| {
            let here = counts.get(n.labels.get(&c.topology_key)?)?;
            Some(*here as f64 * (counts.len() as f64 + 2.0).ln() + (c.max_skew - 1) as f64)
        });
        parts.sum::<f64>().round() as i64
    };
    let raw: Vec<Option<i64>> = nodes.iter().map(|n| eligible(n).then(|| raw(n))).collect();
    let max = raw.iter().flatten().copied().max().unwrap_or(0);
    let min = raw.iter().flatten().copied().min().unwrap_or(0);
    let scaled = raw.iter().map(|r| match r {
        None => 0,
        Some(_) if max == 0 => 100,
        Some(r) => 100 * (max + min - r) / max,
    });
    scaled.collect()
}

fn defaults(cache: &Cache, pod: &PodInfo) -> Vec<Spread> {
    let selector = cache.groups.selector(pod);
    if selector.is_empty() {
        return Vec::new();
    }
    let of = |(key, skew): (&str, i64)| Spread {
        max_skew: skew,
        topology_key: key.to_owned(),
        selector: Some(selector.clone()),
        hard: false,
        min_domains: 1,
        honor_affinity: true,
        honor_taints: false,
    };
    DEFAULTS.into_iter().map(of).collect()
}
