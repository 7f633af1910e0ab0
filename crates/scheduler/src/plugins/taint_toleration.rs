//! Taints keep pods away unless tolerated; PreferNoSchedule only lowers the score.

use api::placement::tolerated;

use super::Cycle;
use crate::core::{NodeInfo, PodInfo};

pub fn filter(_: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Vec<String>> {
    match node.taints.iter().find(|t| t.is_hard() && !tolerated(t, &pod.tolerations)) {
        None => Ok(()),
        Some(t) => Err(vec![format!("node(s) had untolerated taint {{{}: {}}}", t.key, t.value)]),
    }
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
