//! `nodeSelector` and node affinity.

use super::Cycle;
use crate::core::{NodeInfo, PodInfo};

pub fn filter(_: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Vec<String>> {
    let selected = pod.node_selector.iter().all(|(k, v)| node.labels.get(k) == Some(v));
    let required = pod
        .node_required
        .as_ref()
        .is_none_or(|terms| terms.iter().any(|t| t.matches(&node.name, &node.labels)));
    if selected && required {
        return Ok(());
    }
    Err(vec!["node(s) didn't match Pod's node affinity/selector".into()])
}

/// Sum of the weights of the preferred terms that match. An empty preferred term matches every node.
pub fn score(_: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> i64 {
    pod.node_preferred.iter().filter(|(_, t)| t.matches(&node.name, &node.labels)).map(|(w, _)| *w).sum()
}
