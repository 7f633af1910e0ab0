//! Pod affinity and anti-affinity by topology domain, both ways: the pod's own terms, and the terms of pods that already
//! run.

use std::collections::HashMap;

use super::{Cycle, Refusal};
use crate::core::{Cache, NodeInfo, PodInfo, PodTerm};

type Domain = (String, String);
type Counts = HashMap<Domain, i64>;

/// What a running pod's required affinity to this one adds to a domain's score.
const REQUIRED_WEIGHT: i64 = 1;

#[derive(Clone, Default)]
pub struct State {
    /// Pods that all terms match, by domain of any term.
    affinity: Counts,
    /// No pod anywhere matches the terms, but the pod itself does: the first of its group may start.
    self_affine: bool,
    /// Pods that the pod's own anti-affinity keeps away from.
    by_own: Counts,
    /// Pods whose anti-affinity keeps this one away.
    by_others: Counts,
    preferred: Counts,
}

fn add(counts: &mut Counts, node: &NodeInfo, term: &PodTerm, by: i64) {
    let Some(value) = node.labels.get(&term.topology_key) else { return };
    let n = counts.entry((term.topology_key.clone(), value.clone())).or_default();
    *n = n.saturating_add(by);
}

impl State {
    pub fn new(cache: &Cache, pod: &PodInfo) -> Self {
        let self_affine = pod.affinity.iter().all(|t| t.matches(pod, &cache.namespaces));
        let mut s = Self { self_affine, ..Self::default() };
        for node in cache.nodes() {
            for other in &node.pods {
                s.count(cache, pod, other, node, 1);
                let ns = &cache.namespaces;
                for term in pod.preferred.iter().filter(|t| t.matches(other, ns)) {
                    add(&mut s.preferred, node, term, term.weight);
                }
                for term in other.preferred.iter().filter(|t| t.matches(pod, ns)) {
                    add(&mut s.preferred, node, term, term.weight);
                }
                for term in other.affinity.iter().filter(|t| t.matches(pod, ns)) {
                    add(&mut s.preferred, node, term, REQUIRED_WEIGHT);
                }
            }
        }
        s
    }

    /// `other` comes to the node, or leaves it. Scores stay as they are: they are not asked for then.
    pub fn count(&mut self, cache: &Cache, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, by: i64) {
        let ns = &cache.namespaces;
        if !pod.affinity.is_empty() && pod.affinity.iter().all(|t| t.matches(other, ns)) {
            pod.affinity.iter().for_each(|term| add(&mut self.affinity, node, term, by));
        }
        for term in pod.anti_affinity.iter().filter(|t| t.matches(other, ns)) {
            add(&mut self.by_own, node, term, by);
        }
        for term in other.anti_affinity.iter().filter(|t| t.matches(pod, ns)) {
            add(&mut self.by_others, node, term, by);
        }
    }

    fn any(counts: &Counts, node: &NodeInfo) -> bool {
        counts.iter().any(|((k, v), n)| *n > 0 && node.labels.get(k) == Some(v))
    }
}

pub fn filter(cycle: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    let s = &cycle.affinity;
    let first_of_group = s.self_affine && s.affinity.values().all(|n| *n <= 0);
    let in_domain = pod.affinity.iter().all(|term| match node.labels.get(&term.topology_key) {
        None => false,
        Some(v) => {
            first_of_group || s.affinity.get(&(term.topology_key.clone(), v.clone())).is_some_and(|n| *n > 0)
        }
    });
    if !in_domain {
        return Err(Refusal::lasting("node(s) didn't match pod affinity rules"));
    }
    if State::any(&s.by_own, node) {
        return Err(Refusal::for_now("node(s) didn't match pod anti-affinity rules"));
    }
    if State::any(&s.by_others, node) {
        return Err(Refusal::for_now("node(s) didn't satisfy existing pods anti-affinity rules"));
    }
    Ok(())
}

pub fn score(cycle: &Cycle<'_>, _: &PodInfo, node: &NodeInfo) -> i64 {
    cycle.affinity.preferred.iter().filter(|((k, v), _)| node.labels.get(k) == Some(v)).map(|(_, w)| *w).sum()
}
