//! Pod affinity and anti-affinity by topology domain, both ways: the pod's own terms, and the terms of pods that already
//! run. Counts are kept by domain in flat arrays and follow each pod that comes or goes.

use std::collections::HashMap;

use super::{Cycle, Refusal, Why};
use crate::core::{Cache, NodeInfo, PodInfo, PodTerm, Profile, Shape, ShapeId, Topology};

/// Pods, or weights, by domain of one topology key.
#[derive(Debug, Clone)]
struct Domains {
    column: usize,
    counts: Vec<i64>,
}

impl Domains {
    fn add(&mut self, topology: &Topology, node: usize, by: i64) -> bool {
        let Some(column) = topology.column(self.column) else { return false };
        let domain = column.domain(node) as usize;
        if domain < column.domains() && domain >= self.counts.len() {
            self.counts.resize(column.domains(), 0);
        }
        let Some(n) = self.counts.get_mut(domain) else { return false };
        *n = n.saturating_add(by);
        true
    }

    /// None for a node without the label.
    fn at(&self, topology: &Topology, node: usize) -> Option<i64> {
        let column = topology.column(self.column)?;
        let domain = column.domain(node) as usize;
        (domain < column.domains()).then(|| self.counts.get(domain).copied().unwrap_or(0))
    }
}

/// What pods of another shape mean to this one.
#[derive(Debug, Clone, Default)]
struct Matched {
    /// All required terms match them.
    affinity: bool,
    own: Vec<usize>,
    others: Vec<usize>,
    preferred: Vec<(usize, i64)>,
}

#[derive(Debug, Clone, Default)]
pub struct State {
    /// Pods that all terms match, for each term.
    affinity: Vec<Domains>,
    /// How many of them there are, over all terms.
    total: i64,
    /// No pod anywhere matches the terms, but the pod itself does: the first of its group may start.
    self_affine: bool,
    /// Pods that the pod's own anti-affinity keeps away from.
    by_own: Vec<Domains>,
    /// Pods whose anti-affinity keeps this one away.
    by_others: Vec<Domains>,
    preferred: Vec<Domains>,
    matched: HashMap<ShapeId, Matched>,
}

/// Shapes that are remembered.
const REMEMBERED: usize = 4096;

fn slot(list: &mut Vec<Domains>, column: usize) -> usize {
    if let Some(i) = list.iter().position(|d| d.column == column) {
        return i;
    }
    list.push(Domains { column, counts: Vec::new() });
    list.len() - 1
}

impl State {
    pub fn new(cache: &Cache, profile: &Profile, pod: &PodInfo) -> Self {
        let domains = |terms: &[PodTerm]| -> Vec<Domains> {
            let column = |t: &PodTerm| cache.topology().find(&t.topology_key).unwrap_or(usize::MAX);
            terms.iter().map(|t| Domains { column: column(t), counts: Vec::new() }).collect()
        };
        let mut s = Self {
            affinity: domains(&pod.affinity),
            by_own: domains(&pod.anti_affinity),
            self_affine: pod.affinity.iter().all(|t| t.matches(pod, cache.namespaces())),
            ..Self::default()
        };
        if !pod.has_terms() && !cache.has_terms() {
            return s;
        }
        for node in cache.nodes() {
            for other in &node.pods {
                s.count(cache, profile, pod, other, node.index, 1);
            }
        }
        s
    }

    fn matched(&mut self, cache: &Cache, profile: &Profile, pod: &Shape, other: &Shape) -> Matched {
        let ns = cache.namespaces();
        let column = |t: &PodTerm| cache.topology().find(&t.topology_key);
        let mut m = Matched {
            affinity: !pod.affinity.is_empty() && pod.affinity.iter().all(|t| t.matches(other, ns)),
            own: (0..).zip(&pod.anti_affinity).filter(|(_, t)| t.matches(other, ns)).map(|x| x.0).collect(),
            ..Matched::default()
        };
        for t in other.anti_affinity.iter().filter(|t| t.matches(pod, ns)) {
            m.others.extend(column(t).map(|c| slot(&mut self.by_others, c)));
        }
        for t in pod.preferred.iter().filter(|t| t.matches(other, ns)) {
            m.preferred.extend(column(t).map(|c| (slot(&mut self.preferred, c), t.weight)));
        }
        if profile.ignore_preferred_of_existing && pod.preferred.is_empty() {
            return m;
        }
        let required = other.affinity.iter().map(|t| (t, profile.hard_affinity_weight));
        let terms = other.preferred.iter().map(|t| (t, t.weight)).chain(required);
        for (t, weight) in terms.filter(|(t, w)| *w != 0 && t.matches(pod, ns)) {
            m.preferred.extend(column(t).map(|c| (slot(&mut self.preferred, c), weight)));
        }
        m
    }

    /// `other` comes to the node, or leaves it.
    pub fn count(
        &mut self,
        cache: &Cache,
        profile: &Profile,
        pod: &Shape,
        other: &PodInfo,
        node: usize,
        by: i64,
    ) {
        if !pod.has_terms() && !other.has_terms() {
            return;
        }
        if !self.matched.contains_key(&other.shape_id()) {
            if self.matched.len() >= REMEMBERED {
                self.matched.clear();
            }
            let m = self.matched(cache, profile, pod, other);
            self.matched.insert(other.shape_id(), m);
        }
        let Some(m) = self.matched.get(&other.shape_id()) else { return };
        let topology = cache.topology();
        if m.affinity {
            for d in &mut self.affinity {
                if d.add(topology, node, by) {
                    self.total += by;
                }
            }
        }
        for i in &m.own {
            self.by_own.get_mut(*i).map(|d| d.add(topology, node, by));
        }
        for i in &m.others {
            self.by_others.get_mut(*i).map(|d| d.add(topology, node, by));
        }
        for (i, weight) in &m.preferred {
            self.preferred.get_mut(*i).map(|d| d.add(topology, node, by * weight));
        }
    }

    /// Whether no node can be refused.
    pub fn is_soft(&self) -> bool {
        self.affinity.is_empty() && self.by_own.is_empty() && self.by_others.is_empty()
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.is_soft() && self.preferred.is_empty()
    }

    /// Why the node at an index does not do.
    pub fn check(&self, topology: &Topology, node: usize) -> Option<Why> {
        let first_of_group = self.self_affine && self.total <= 0;
        let in_domain = |d: &Domains| d.at(topology, node).is_some_and(|n| first_of_group || n > 0);
        if !self.affinity.iter().all(in_domain) {
            return Some(Why::NoCompany);
        }
        let taken = |d: &Domains| d.at(topology, node).is_some_and(|n| n > 0);
        if self.by_own.iter().any(taken) {
            return Some(Why::OwnAnti);
        }
        self.by_others.iter().any(taken).then_some(Why::OthersAnti)
    }

    /// The raw scores of nodes; none when all are alike.
    pub fn scores(&self, topology: &Topology, nodes: &[u32]) -> Option<Vec<i64>> {
        if self.preferred.iter().all(|d| d.counts.iter().all(|c| *c == 0)) {
            return None;
        }
        let mut raw = vec![0i64; nodes.len()];
        for d in &self.preferred {
            for (r, n) in raw.iter_mut().zip(nodes) {
                *r = r.saturating_add(d.at(topology, *n as usize).unwrap_or(0));
            }
        }
        Some(raw)
    }
}

pub fn filter(cycle: &Cycle<'_>, _: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    cycle.counts.affinity.check(cycle.cache.topology(), node.index).map_or(Ok(()), |w| Err(w.refused().1))
}
