//! Taints keep pods away unless tolerated; PreferNoSchedule only lowers the score.

use api::placement::tolerated;

use super::{Cycle, Refusal};
use crate::core::{NodeInfo, PodInfo};

pub fn bears(pod: &PodInfo, node: &NodeInfo) -> bool {
    node.taints.iter().all(|t| !t.is_hard() || tolerated(t, &pod.tolerations))
}

pub fn filter(_: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    if bears(pod, node) { Ok(()) } else { Err(Refusal::lasting("node(s) had untolerated taint(s)")) }
}

/// Untolerated soft taints; more is worse.
pub fn score(_: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> i64 {
    let n = node
        .taints
        .iter()
        .filter(|t| t.effect == "PreferNoSchedule" && !tolerated(t, &pod.tolerations))
        .count();
    i64::try_from(n).unwrap_or(i64::MAX)
}
