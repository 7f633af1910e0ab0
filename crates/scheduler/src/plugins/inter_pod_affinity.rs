//! Pod affinity and anti-affinity by topology domain, both ways: the pod's own terms, and the anti-affinity terms of
//! pods that already run.

use std::collections::{HashMap, HashSet};

use super::Cycle;
use crate::core::{Cache, NodeInfo, PodInfo, PodTerm};

type Domain = (String, String);

#[derive(Default)]
pub struct State {
    /// Domains in which every pod of term i runs.
    affinity: Vec<HashSet<Domain>>,
    /// No pod anywhere matches the terms, but the pod itself does: the first of its group may start.
    first_of_group: bool,
    /// Domains that the pod's own anti-affinity closes.
    closed_by_own: HashSet<Domain>,
    /// Domains that running pods' anti-affinity closes for this pod.
    closed_by_others: HashSet<Domain>,
    preferred: HashMap<Domain, i64>,
}

impl State {
    pub fn new(cache: &Cache, pod: &PodInfo) -> Self {
        let mut s = Self { affinity: vec![HashSet::new(); pod.affinity.len()], ..Self::default() };
        let domain = |n: &NodeInfo, t: &PodTerm| {
            n.labels.get(&t.topology_key).map(|v| (t.topology_key.clone(), v.clone()))
        };
        for node in cache.nodes() {
            for other in &node.pods {
                for (set, term) in s.affinity.iter_mut().zip(&pod.affinity) {
                    if pod.affinity.iter().all(|t| t.matches(other)) {
                        set.extend(domain(node, term));
                    }
                }
                for term in pod.anti_affinity.iter().filter(|t| t.matches(other)) {
                    s.closed_by_own.extend(domain(node, term));
                }
                for term in other.anti_affinity.iter().filter(|t| t.matches(pod)) {
                    s.closed_by_others.extend(domain(node, term));
                }
                for term in pod.preferred.iter().filter(|t| t.matches(other)) {
                    if let Some(d) = domain(node, term) {
                        *s.preferred.entry(d).or_default() += term.weight;
                    }
                }
            }
        }
        s.first_of_group =
            s.affinity.iter().all(HashSet::is_empty) && pod.affinity.iter().all(|t| t.matches(pod));
        s
    }

    fn has(set: &HashSet<Domain>, node: &NodeInfo) -> bool {
        set.iter().any(|(k, v)| node.labels.get(k) == Some(v))
    }
}

pub fn filter(cycle: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Vec<String>> {
    let s = &cycle.affinity;
    let in_domain =
        pod.affinity.iter().zip(&s.affinity).all(|(term, set)| match node.labels.get(&term.topology_key) {
            None => false,
            Some(v) => s.first_of_group || set.contains(&(term.topology_key.clone(), v.clone())),
        });
    if !in_domain {
        return Err(vec!["node(s) didn't match pod affinity rules".into()]);
    }
    if State::has(&s.closed_by_own, node) {
        return Err(vec!["node(s) didn't match pod anti-affinity rules".into()]);
    }
    if State::has(&s.closed_by_others, node) {
        return Err(vec!["node(s) didn't satisfy existing pods anti-affinity rules".into()]);
    }
    Ok(())
}

pub fn score(cycle: &Cycle<'_>, _: &PodInfo, node: &NodeInfo) -> i64 {
    cycle.affinity.preferred.iter().filter(|((k, v), _)| node.labels.get(k) == Some(v)).map(|(_, w)| *w).sum()
}
