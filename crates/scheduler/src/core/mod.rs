//! The pure core: a cache of nodes with what runs on them, and the decision for one pod. No IO, no clock.

mod amounts;
mod budgets;
mod cache;
mod groups;
mod node;
mod pod;
mod terms;
mod volumes;

pub use amounts::Amounts;
pub use budgets::Budget;
pub use cache::Cache;
pub use groups::{Group, Groups, Owner};
pub use node::NodeInfo;
pub use pod::{ClaimUse, HostPort, PodInfo};
pub use terms::{Namespaces, PodTerm, Selector, Spread, selects};
pub use volumes::{Choice, Volumes};

pub use api::placement::{NodeTerm, Requirement, Taint, Toleration};

use crate::plugins::{self, Preemption};
use std::collections::BTreeMap;

/// What became of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Node(String),
    Unschedulable {
        /// For the condition and the event: how many nodes failed for what.
        message: String,
        /// Names of the plugins that refused, for the retry on events.
        failed: Vec<&'static str>,
        /// Whether others can make room.
        preemption: Preemption,
    },
}

/// Places one pod: the feasible node with the best score; among equals the one that the pod's uid picks, so that equal
/// nodes fill evenly and the same input gives the same answer.
pub fn schedule(cache: &Cache, pod: &PodInfo) -> Outcome {
    if let Err((plugin, r)) = plugins::gates(pod) {
        let (message, failed) = (r.reasons.join(", "), vec![plugin]);
        return Outcome::Unschedulable { message, failed, preemption: Preemption::default() };
    }
    if cache.is_empty() {
        let message = "no nodes available to schedule pods".into();
        let preemption = Preemption { nomination: Some(String::new()), ..Preemption::default() };
        return Outcome::Unschedulable { message, failed: Vec::new(), preemption };
    }
    let cycle = plugins::Cycle::new(cache, pod);
    if let Err((plugin, r)) = plugins::claims(cache, pod) {
        let message = format!("0/{} nodes are available: {}.", cache.len(), r.reasons.join(", "));
        let preemption = plugins::preempt(&cycle, pod, &vec![true; cache.len()]);
        return Outcome::Unschedulable { message, failed: vec![plugin], preemption };
    }
    // Where others have made room for it.
    let nominated = cache.nomination(&pod.uid).and_then(|n| cache.node(n));
    if let Some(node) = nominated.filter(|n| plugins::fits(&cycle, pod, n).is_ok()) {
        return Outcome::Node(node.name.clone());
    }
    let mut feasible = Vec::new();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut failed: Vec<&'static str> = Vec::new();
    let mut lasting = Vec::with_capacity(cache.len());
    for node in cache.nodes() {
        match plugins::fits(&cycle, pod, node) {
            Ok(()) => feasible.push(node),
            Err((plugin, refusal)) => {
                lasting.push(refusal.lasting);
                refusal.reasons.into_iter().for_each(|r| *reasons.entry(r).or_default() += 1);
                if !failed.contains(&plugin) {
                    failed.push(plugin);
                }
            }
        }
    }
    let scores = plugins::score(&cycle, pod, &feasible);
    let best = scores.iter().copied().max().unwrap_or(0);
    let top: Vec<&&NodeInfo> =
        feasible.iter().zip(&scores).filter(|(_, s)| **s == best).map(|(n, _)| n).collect();
    match top.get(pod.pick() % top.len().max(1)) {
        Some(node) => Outcome::Node(node.name.clone()),
        None => {
            let preemption = plugins::preempt(&cycle, pod, &lasting);
            Outcome::Unschedulable { message: explain(cache.len(), &reasons), failed, preemption }
        }
    }
}

/// What the pod's claims that waited for it get on the node that was chosen.
pub fn choices(cache: &Cache, pod: &PodInfo, node: &str) -> Vec<Choice> {
    cache.node(node).and_then(|n| cache.volumes.choose(pod, n).ok()).unwrap_or_default()
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
pub fn explain(nodes: usize, reasons: &BTreeMap<String, usize>) -> String {
    let mut parts: Vec<String> = reasons.iter().map(|(r, n)| format!("{n} {r}")).collect();
    parts.sort();
    format!("0/{nodes} nodes are available: {}.", parts.join(", "))
}

#[cfg(test)]
mod tests;
