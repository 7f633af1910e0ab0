//! `nodeSelector` and node affinity, with what the profile adds for every pod.

use super::{Cycle, Refusal};
use crate::core::{NodeInfo, NodeTerm, PodInfo, Profile};

fn any(terms: Option<&Vec<NodeTerm>>, node: &NodeInfo) -> bool {
    terms.is_none_or(|terms| terms.iter().any(|t| t.matches(&node.name, &node.labels)))
}

/// What the pod itself asks for.
fn asked(pod: &PodInfo, node: &NodeInfo) -> bool {
    pod.node_selector.iter().all(|(k, v)| node.labels.get(k) == Some(v))
        && any(pod.node_required.as_ref(), node)
}

pub fn allows(profile: &Profile, pod: &PodInfo, node: &NodeInfo) -> bool {
    asked(pod, node) && any(profile.added_required.as_ref(), node)
}

pub fn filter(cycle: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    if !any(cycle.profile.added_required.as_ref(), node) {
        return Err(Refusal::lasting("node(s) didn't match scheduler-enforced node affinity"));
    }
    if asked(pod, node) {
        return Ok(());
    }
    Err(Refusal::lasting("node(s) didn't match Pod's node affinity/selector"))
}

/// Sum of the weights of the preferred terms that match. An empty preferred term matches every node.
pub fn score(cycle: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> i64 {
    let terms = pod.node_preferred.iter().chain(&cycle.profile.added_preferred);
    terms.filter(|(_, t)| t.matches(&node.name, &node.labels)).map(|(w, _)| *w).sum()
}
