//! The pure core: a cache of nodes with what runs on them, and the decision for one pod. No IO, no clock.

mod amounts;
mod cache;
mod node;
mod pod;
mod volumes;

pub use amounts::Amounts;
pub use cache::Cache;
pub use node::NodeInfo;
pub use pod::{ClaimUse, HostPort, PodInfo, PodTerm};
pub use volumes::{Choice, Volumes};

pub use api::placement::{NodeTerm, Requirement, Taint, Toleration};

use crate::plugins::{self, Rejection};
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
    },
}

/// Places one pod: the feasible node with the best score; among equals the one that the pod's uid picks, so that equal
/// nodes fill evenly and the same input gives the same answer.
pub fn schedule(cache: &Cache, pod: &PodInfo) -> Outcome {
    if let Err(r) = plugins::gates(pod) {
        return Outcome::Unschedulable { message: r.reason, failed: vec![r.plugin] };
    }
    if let Err(r) = plugins::claims(cache, pod)
        && !cache.is_empty()
    {
        let message = format!("0/{} nodes are available: {}.", cache.len(), r.reason);
        return Outcome::Unschedulable { message, failed: vec![r.plugin] };
    }
    let cycle = plugins::Cycle::new(cache, pod);
    let mut feasible = Vec::new();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut failed: Vec<&'static str> = Vec::new();
    for node in cache.nodes() {
        match plugins::filter(&cycle, pod, node) {
            Ok(()) => feasible.push(node),
            Err(rejections) => {
                for Rejection { plugin, reason } in rejections {
                    *reasons.entry(reason).or_default() += 1;
                    if !failed.contains(&plugin) {
                        failed.push(plugin);
                    }
                }
            }
        }
    }
    if feasible.is_empty() {
        return Outcome::Unschedulable { message: explain(cache.len(), &reasons), failed };
    }
    let scores = plugins::score(&cycle, pod, &feasible);
    let best = scores.iter().copied().max().unwrap_or(0);
    let top: Vec<&&NodeInfo> =
        feasible.iter().zip(&scores).filter(|(_, s)| **s == best).map(|(n, _)| n).collect();
    let pick = pod.uid.bytes().fold(0usize, |h, b| h.wrapping_mul(31).wrapping_add(usize::from(b)));
    match top.get(pick % top.len().max(1)) {
        Some(node) => Outcome::Node(node.name.clone()),
        None => Outcome::Unschedulable { message: explain(cache.len(), &reasons), failed },
    }
}

/// What the pod's claims that waited for it get on the node that was chosen.
pub fn choices(cache: &Cache, pod: &PodInfo, node: &str) -> Vec<Choice> {
    let node = cache.nodes().iter().find(|n| n.name == node);
    node.and_then(|n| cache.volumes.choose(pod, n).ok()).unwrap_or_default()
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
fn explain(nodes: usize, reasons: &BTreeMap<String, usize>) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".into();
    }
    let mut parts: Vec<String> = reasons.iter().map(|(r, n)| format!("{n} {r}")).collect();
    parts.sort();
    format!("0/{nodes} nodes are available: {}.", parts.join(", "))
}

#[cfg(test)]
mod tests;
