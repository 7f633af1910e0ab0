//! Taints keep pods away unless tolerated; PreferNoSchedule only lowers the score.

use super::Cycle;
use crate::core::{NodeInfo, PodInfo};

pub fn filter(_: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Vec<String>> {
    let hard = |e: &str| e == "NoSchedule" || e == "NoExecute";
    match node.taints.iter().find(|t| hard(&t.effect) && !pod.tolerations.iter().any(|p| p.tolerates(t))) {
        None => Ok(()),
        Some(t) => Err(vec![format!("node(s) had untolerated taint {{{}: {}}}", t.key, t.value)]),
    }
}

/// Untolerated soft taints; more is worse.
pub fn score(_: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> i64 {
    let n = node
        .taints
        .iter()
        .filter(|t| t.effect == "PreferNoSchedule" && !pod.tolerations.iter().any(|p| p.tolerates(t)))
        .count();
    i64::try_from(n).unwrap_or(i64::MAX)
}
