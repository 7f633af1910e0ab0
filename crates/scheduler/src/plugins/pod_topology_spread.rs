//! Pods spread over topology domains: constraints that must hold, and those that only ask, by default over nodes and zones
//! for the pods of a service or an owner. Counts are kept by domain in flat arrays and follow each pod.

use std::collections::HashMap;

use super::{Cycle, Refusal, Why, node_affinity, taint_toleration};
use crate::core::{
    Cache, NOWHERE, NodeInfo, PodInfo, Profile, Shape, ShapeId, Spread, SpreadDefaults, Topology, selects,
};

const HOSTNAME: &str = "kubernetes.io/hostname";
/// Topology key and skew of the constraints that a pod without any gets.
const SYSTEM: [(&str, i64); 2] = [(HOSTNAME, 3), ("topology.kubernetes.io/zone", 5)];

/// Matching pods by domain, for one constraint.
#[derive(Debug, Clone)]
struct Counted {
    spread: Spread,
    column: usize,
    counts: Vec<i64>,
    /// Domains with a node that counts.
    present: Vec<bool>,
    /// Nodes whose pods count.
    included: Vec<bool>,
    /// One when the pod counts itself.
    own: i64,
}

#[derive(Debug, Clone, Default)]
pub struct State {
    hard: Vec<Counted>,
    soft: Vec<Counted>,
    /// A soft constraint may hold on some nodes only: not every node has a zone.
    lenient: bool,
    /// What a pod without constraints was given.
    defaults: Vec<Spread>,
    /// Which constraints count pods of a shape, the hard ones first.
    matched: HashMap<ShapeId, Vec<usize>>,
}

/// Shapes that are remembered.
const REMEMBERED: usize = 4096;

/// The constraints that a pod without any gets.
pub fn defaults(cache: &Cache, profile: &Profile, pod: &PodInfo) -> Vec<Spread> {
    if !pod.spread.is_empty() {
        return Vec::new();
    }
    let selector = cache.groups.selector(pod);
    if selector.is_empty() {
        return Vec::new();
    }
    match &profile.spread {
        SpreadDefaults::System => SYSTEM
            .into_iter()
            .map(|(key, skew)| Spread {
                max_skew: skew,
                topology_key: key.to_owned(),
                selector: Some(selector.clone()),
                hard: false,
                min_domains: 1,
                honor_affinity: true,
                honor_taints: false,
            })
            .collect(),
        SpreadDefaults::List(list) => {
            list.iter().map(|c| Spread { selector: Some(selector.clone()), ..c.clone() }).collect()
        }
    }
}

fn has_all_keys<'a>(mut constraints: impl Iterator<Item = &'a Spread>, node: &NodeInfo) -> bool {
    constraints.all(|c| node.labels.contains_key(&c.topology_key))
}

impl Counted {
    fn new(cache: &Cache, profile: &Profile, pod: &PodInfo, c: &Spread, all: &[&Spread]) -> Self {
        let column = cache.topology().find(&c.topology_key).unwrap_or(usize::MAX);
        let domains = cache.topology().column(column).map_or(0, crate::core::Column::domains);
        let mut s = Self {
            spread: c.clone(),
            column,
            counts: vec![0; domains],
            present: vec![false; domains],
            included: vec![false; cache.len()],
            own: i64::from(c.selector.as_ref().is_some_and(|s| selects(s, &pod.labels))),
        };
        for (node, included) in cache.nodes().iter().zip(&mut s.included) {
            *included = has_all_keys(all.iter().copied(), node)
                && (!c.honor_affinity || node_affinity::allows(profile, pod, node))
                && (!c.honor_taints || taint_toleration::bears(pod, node));
            let domain =
                cache.topology().column(column).map_or(usize::MAX, |c| c.domain(node.index) as usize);
            if let Some(p) = s.present.get_mut(domain).filter(|_| *included) {
                *p = true;
            }
        }
        s
    }

    fn add(&mut self, topology: &Topology, node: usize, by: i64) {
        if !self.included.get(node).copied().unwrap_or(false) {
            return;
        }
        let Some(column) = topology.column(self.column) else { return };
        if let Some(n) = self.counts.get_mut(column.domain(node) as usize) {
            *n = n.saturating_add(by);
        }
    }

    fn domain(&self, topology: &Topology, node: usize) -> Option<usize> {
        let domain = topology.column(self.column)?.domain(node) as usize;
        (domain < self.counts.len()).then_some(domain)
    }

    /// The fewest matching pods in a domain. With fewer domains than wanted, one without pods is thought of.
    fn least(&self) -> i64 {
        if self.present.iter().filter(|p| **p).count() < self.spread.min_domains {
            return 0;
        }
        let present = self.counts.iter().zip(&self.present).filter(|(_, p)| **p).map(|(c, _)| *c);
        present.min().unwrap_or(i64::MAX)
    }
}

impl State {
    pub fn new(cache: &Cache, profile: &Profile, pod: &PodInfo) -> Self {
        let defaults = defaults(cache, profile, pod);
        let own = !pod.spread.is_empty();
        let constraints = if own { &pod.spread } else { &defaults };
        let pick = |hard: bool| -> Vec<&Spread> { constraints.iter().filter(|c| c.hard == hard).collect() };
        let lenient = !own && profile.spread == SpreadDefaults::System;
        let (hard, soft) = (pick(true), pick(false));
        let counted = |list: &[&Spread], all: &[&Spread]| -> Vec<Counted> {
            list.iter().map(|c| Counted::new(cache, profile, pod, c, all)).collect()
        };
        let mut s = Self {
            hard: counted(&hard, &hard),
            soft: counted(&soft, if lenient { &[] } else { &soft }),
            lenient,
            defaults: defaults.clone(),
            matched: HashMap::new(),
        };
        if !s.is_empty() {
            for node in cache.nodes() {
                for other in &node.pods {
                    s.count(cache.topology(), pod, other, node.index, 1);
                }
            }
        }
        s
    }

    /// A selector of everything counts nothing, as upstream has it.
    fn matching(&self, pod: &Shape, other: &Shape) -> Vec<usize> {
        if pod.namespace != other.namespace {
            return Vec::new();
        }
        let counts = |c: &Counted| {
            c.spread.selector.as_ref().is_some_and(|s| !s.is_empty() && selects(s, &other.labels))
        };
        let all = self.hard.iter().chain(&self.soft).enumerate();
        all.filter(|(_, c)| counts(c)).map(|(i, _)| i).collect()
    }

    /// `other` comes to the node, or leaves it.
    pub fn count(&mut self, topology: &Topology, pod: &Shape, other: &PodInfo, node: usize, by: i64) {
        if other.deleting || self.is_empty() {
            return;
        }
        if !self.matched.contains_key(&other.shape_id()) {
            if self.matched.len() >= REMEMBERED {
                self.matched.clear();
            }
            let counted = self.matching(pod, other);
            self.matched.insert(other.shape_id(), counted);
        }
        let Some(counted) = self.matched.get(&other.shape_id()) else { return };
        let hard = self.hard.len();
        for i in counted {
            let constraint = match i.checked_sub(hard) {
                None => self.hard.get_mut(*i),
                Some(soft) => self.soft.get_mut(soft),
            };
            if let Some(c) = constraint {
                c.add(topology, node, by);
            }
        }
    }

    /// Whether another group of pods is to be counted now.
    pub fn is_stale(&self, cache: &Cache, profile: &Profile, pod: &PodInfo) -> bool {
        self.defaults != defaults(cache, profile, pod)
    }

    /// Whether no constraint must hold.
    pub fn is_soft(&self) -> bool {
        self.hard.is_empty()
    }

    pub fn is_empty(&self) -> bool {
        self.hard.is_empty() && self.soft.is_empty()
    }

    /// The fewest matching pods in a domain, for each hard constraint: computed once, asked for each node.
    pub fn least(&self) -> Vec<i64> {
        self.hard.iter().map(Counted::least).collect()
    }

    /// Why the node at an index does not do.
    pub fn check(&self, topology: &Topology, least: &[i64], node: usize) -> Option<Why> {
        for (c, least) in self.hard.iter().zip(least) {
            let Some(domain) = c.domain(topology, node) else { return Some(Why::NoLabel) };
            let here = c.counts.get(domain).copied().unwrap_or(0).saturating_add(c.own);
            if here.saturating_sub(*least) > c.spread.max_skew {
                return Some(Why::Skew);
            }
        }
        None
    }

    /// From 0 to 100 for each node: the fewer matching pods in its domains, the better. None when nothing asks.
    pub fn scores(&self, topology: &Topology, nodes: &[u32]) -> Option<Vec<i64>> {
        if self.soft.is_empty() {
            return None;
        }
        let mut eligible = vec![true; nodes.len()];
        // The domain of each node, for each constraint.
        let domains: Vec<Vec<u32>> = self
            .soft
            .iter()
            .map(|c| {
                let of = topology.column(c.column).map(crate::core::Column::of).unwrap_or_default();
                let domain = |n: &u32| of.get(*n as usize).copied().unwrap_or(NOWHERE);
                let domains: Vec<u32> = nodes.iter().map(domain).collect();
                if !self.lenient {
                    eligible.iter_mut().zip(&domains).for_each(|(e, d)| *e &= *d != NOWHERE);
                }
                domains
            })
            .collect();
        let counted = eligible.iter().filter(|e| **e).count();
        let mut raw = vec![0f64; nodes.len()];
        for (c, domains) in self.soft.iter().zip(&domains) {
            let size = if c.spread.topology_key == HOSTNAME {
                counted
            } else {
                let mut seen = vec![false; c.counts.len()];
                // A node without the label is a domain of its own kind.
                let mut nowhere = false;
                for (d, _) in domains.iter().zip(&eligible).filter(|(_, e)| **e) {
                    match seen.get_mut(*d as usize) {
                        Some(s) => *s = true,
                        None => nowhere = true,
                    }
                }
                seen.iter().filter(|s| **s).count() + usize::from(nowhere)
            };
            // Raw scores count pods; small topologies are not to drown in large ones.
            #[allow(clippy::cast_precision_loss)]
            let (weight, skew) = ((size as f64 + 2.0).ln(), (c.spread.max_skew - 1) as f64);
            #[allow(clippy::cast_precision_loss)]
            let worth: Vec<f64> = c.counts.iter().map(|here| *here as f64 * weight + skew).collect();
            for (r, d) in raw.iter_mut().zip(domains) {
                *r += worth.get(*d as usize).copied().unwrap_or(0.0);
            }
        }
        #[allow(clippy::cast_possible_truncation)]
        let raw: Vec<i64> = raw.into_iter().map(|r| r.round() as i64).collect();
        let valid = raw.iter().zip(&eligible).filter(|(_, e)| **e).map(|(r, _)| *r);
        let (min, max) = valid.fold((i64::MAX, 0), |(l, h), r| (l.min(r), h.max(r)));
        let scaled = raw.iter().zip(&eligible).map(|(r, e)| match e {
            false => 0,
            true if max == 0 => 100,
            true => 100 * (max + min - r) / max,
        });
        Some(scaled.collect())
    }
}

pub fn filter(cycle: &Cycle<'_>, _: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    let spread = &cycle.counts.spread;
    if spread.is_soft() {
        return Ok(());
    }
    let why = spread.check(cycle.cache.topology(), &spread.least(), node.index);
    why.map_or(Ok(()), |w| Err(w.refused().1))
}
