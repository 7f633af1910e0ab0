//! What the nodes are worth to pods of one shape, kept from one pod to the next: verdicts and scores in flat arrays that
//! follow the journal of the cache. A pod of a shape that is known costs a pass over numbers.

use std::borrow::Cow;
use std::sync::Arc;

use super::journal::{Entry, Position};
use super::node::NodeChange;
use super::{Cache, PodInfo, Profile, ShapeId};
use crate::plugins::{self, Counts, Cycle, Refused, image_locality};

/// Bytes that all evaluations together may take.
const BUDGET: usize = 24 << 20;
/// About what one takes a node.
const PER_NODE: usize = 24;

#[derive(Debug)]
pub struct Evaluation {
    shape: ShapeId,
    profile: Arc<Profile>,
    position: Position,
    groups: u64,
    /// Of each node: zero when it does, else one more than the place in `refusals`.
    pub verdicts: Vec<u16>,
    pub refusals: Vec<Refused>,
    /// Weighted scores of the node alone.
    local: Vec<i32>,
    /// Raw scores that are scaled over the nodes that do; empty when all are zero.
    taints: Vec<i64>,
    prefers: Vec<i64>,
    images: image_locality::State,
    pub counts: Counts,
}

impl Evaluation {
    fn new(cache: &Cache, profile: &Arc<Profile>, pod: &PodInfo) -> Self {
        let mut e = Self {
            shape: pod.shape_id(),
            profile: profile.clone(),
            position: cache.journal.position(),
            groups: cache.groups.version(),
            verdicts: vec![0; cache.len()],
            refusals: Vec::new(),
            local: vec![0; cache.len()],
            taints: Vec::new(),
            prefers: Vec::new(),
            images: image_locality::State::default(),
            counts: Counts::new(cache, profile, pod),
        };
        (0..cache.len()).for_each(|i| e.look_at(cache, pod, i));
        e
    }

    /// An evaluation of the pod's shape that is as the cache is: one that was kept and catches up, or a new one.
    pub fn of(cache: &mut Cache, profile: &Arc<Profile>, pod: &PodInfo) -> Self {
        cache.forget_keys();
        cache.know_keys(pod);
        let kept = cache.evaluations.take(pod.shape_id()).filter(|e| Arc::ptr_eq(&e.profile, profile));
        if let Some(mut e) = kept
            && e.catch_up(cache, pod)
        {
            return e;
        }
        for c in plugins::pod_topology_spread::defaults(cache, profile, pod) {
            cache.know_key(&c.topology_key);
        }
        Self::new(cache, profile, pod)
    }

    /// False when too much changed.
    fn catch_up(&mut self, cache: &Cache, pod: &PodInfo) -> bool {
        if self.groups != cache.groups.version() {
            if self.counts.spread.is_stale(cache, &self.profile, pod) {
                return false;
            }
            self.groups = cache.groups.version();
        }
        let Some(changes) = cache.journal.since(self.position) else { return false };
        // What other nodes count hangs on labels and taints.
        let by_domain = !self.counts.spread.is_empty() || pod.has_terms() || !self.counts.affinity.is_empty();
        let mut looked_at = None;
        for entry in changes {
            let node = match entry {
                Entry::Pod { node, pod: other, by } => {
                    self.counts.count(cache, &self.profile, pod, other, *node, i64::from(*by));
                    *node
                }
                Entry::Node { change: NodeChange::Whole, .. } | Entry::Added { .. } if by_domain => {
                    return false;
                }
                Entry::Node { node, .. } => *node,
                Entry::Added { node } => {
                    self.verdicts.resize(node + 1, 0);
                    self.local.resize(node + 1, 0);
                    *node
                }
            };
            if looked_at.replace(node) != Some(node) {
                self.look_at(cache, pod, node);
            }
        }
        self.position = cache.journal.position();
        true
    }

    /// Judges a node anew. The cache is past the entry that asks for it already, so once is enough for several in a row.
    fn look_at(&mut self, cache: &Cache, pod: &PodInfo, index: usize) {
        let Some(node) = cache.nodes().get(index) else { return };
        let profile = self.profile.clone();
        let cycle = Cycle::new(cache, &profile, pod, Cow::Borrowed(&self.counts));
        let verdict = match plugins::of_node(&cycle, pod, node) {
            Ok(()) => 0,
            Err(refused) => place(&mut self.refusals, refused),
        };
        let local = i32::try_from(plugins::local_score(&cycle, pod, node)).unwrap_or(i32::MAX);
        let w = &profile.weights;
        let taint = if w.taint_toleration > 0 { plugins::taint_score(&cycle, pod, node) } else { 0 };
        let prefers = if w.node_affinity > 0 { plugins::preferred_score(&cycle, pod, node) } else { 0 };
        drop(cycle);
        set(&mut self.verdicts, index, verdict);
        set(&mut self.local, index, local);
        set_scaled(&mut self.taints, index, taint, cache.len());
        set_scaled(&mut self.prefers, index, prefers, cache.len());
        if w.image_locality > 0 {
            self.images.set(pod, node, cache.len());
        }
    }

    /// The node for a pod of this shape, when nodes are judged by themselves alone: one pass over numbers, the `pick`th of
    /// the best. None when other pods, taints, preferences or images weigh in.
    pub fn best_alone(&self, cache: &Cache, pick: usize) -> Option<Option<usize>> {
        let alone = self.taints.is_empty()
            && self.prefers.is_empty()
            && self.images.is_empty()
            && self.counts.spread.is_empty()
            && self.counts.affinity.is_empty()
            && !cache.nominations().any(|n| cache.nominated(n).iter().any(|p| p.has_terms()));
        if !alone {
            return None;
        }
        let worth =
            || self.verdicts.iter().zip(&self.local).map(|(v, l)| if *v == 0 { *l } else { i32::MIN });
        let best = worth().fold(i32::MIN, i32::max);
        if best == i32::MIN {
            return Some(None);
        }
        let equal = worth().map(|w| usize::from(w == best)).sum::<usize>();
        Some(worth().enumerate().filter(|(_, w)| *w == best).map(|(i, _)| i).nth(pick % equal.max(1)))
    }

    /// One sum of weighted scores for each of the nodes.
    pub fn scores(&self, cache: &Cache, nodes: &[u32]) -> Vec<i64> {
        let at = |list: &[i64], i: u32| list.get(i as usize).copied().unwrap_or(0);
        let mut totals: Vec<i64> =
            nodes.iter().map(|n| self.local.get(*n as usize).map_or(0, |s| i64::from(*s))).collect();
        if nodes.len() < 2 {
            return totals;
        }
        let w = &self.profile.weights;
        let mut add = |raw: &[i64], weight: i64| {
            totals.iter_mut().zip(raw).for_each(|(t, r)| *t += r * weight);
        };
        for (list, reversed, weight) in
            [(&self.taints, true, w.taint_toleration), (&self.prefers, false, w.node_affinity)]
        {
            if !list.is_empty() && weight > 0 {
                let mut raw: Vec<i64> = nodes.iter().map(|n| at(list, *n)).collect();
                plugins::scale(&mut raw, reversed);
                add(&raw, weight);
            }
        }
        let topology = cache.topology();
        if w.inter_pod_affinity > 0
            && let Some(mut raw) = self.counts.affinity.scores(topology, nodes)
        {
            plugins::scale(&mut raw, false);
            add(&raw, w.inter_pod_affinity);
        }
        if w.image_locality > 0
            && let Some(raw) = self.images.scores(cache.len(), nodes)
        {
            add(&raw, w.image_locality);
        }
        if w.spread > 0
            && let Some(raw) = self.counts.spread.scores(topology, nodes)
        {
            add(&raw, w.spread);
        }
        totals
    }
}

fn set<T>(list: &mut [T], index: usize, value: T) {
    if let Some(at) = list.get_mut(index) {
        *at = value;
    }
}

/// The list is there once a value is not zero.
fn set_scaled(list: &mut Vec<i64>, index: usize, value: i64, nodes: usize) {
    if value != 0 || !list.is_empty() {
        list.resize(nodes.max(list.len()), 0);
        set(list, index, value);
    }
}

fn place(refusals: &mut Vec<Refused>, refused: Refused) -> u16 {
    let known = refusals.iter().position(|r| *r == refused).unwrap_or_else(|| {
        refusals.push(refused);
        refusals.len() - 1
    });
    u16::try_from(known + 1).unwrap_or(u16::MAX)
}

/// Evaluations that were made lately, the last one first.
#[derive(Debug, Default)]
pub struct Evaluations(Vec<Evaluation>);

impl Evaluations {
    fn take(&mut self, shape: ShapeId) -> Option<Evaluation> {
        let i = self.0.iter().position(|e| e.shape == shape)?;
        Some(self.0.remove(i))
    }

    pub fn keep(&mut self, e: Evaluation) {
        let most = (BUDGET / (e.verdicts.len() * PER_NODE + 1024)).clamp(4, 256);
        self.0.truncate(most - 1);
        self.0.insert(0, e);
    }
}
