//! `nodeSelector` and node affinity.

use super::{Cycle, Refusal};
use crate::core::{NodeInfo, PodInfo};

pub fn allows(pod: &PodInfo, node: &NodeInfo) -> bool {
    let selected = pod.node_selector.iter().all(|(k, v)| node.labels.get(k) == Some(v));
    let required = pod
        .node_required
        .as_ref()
        .is_none_or(|terms| terms.iter().any(|t| t.matches(&node.name, &node.labels)));
    selected && required
}

pub fn filter(_: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    if allows(pod, node) {
        return Ok(());
    }
    Err(Refusal::lasting("node(s) didn't match Pod's node affinity/selector"))
}

/// Sum of the weights of the preferred terms that match. An empty preferred term matches every node.
pub fn score(_: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> i64 {
    pod.node_preferred.iter().filter(|(_, t)| t.matches(&node.name, &node.labels)).map(|(w, _)| *w).sum()
}
