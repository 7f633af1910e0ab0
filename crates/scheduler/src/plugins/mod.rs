//! The plugins and their fixed order: filters in three kinds, then scores. A new one is a file here and a row in a table.

mod default_preemption;
pub(crate) mod image_locality;
pub(crate) mod inter_pod_affinity;
mod node_affinity;
mod node_declared_features;
mod node_name;
mod node_ports;
mod node_resources;
mod node_unschedulable;
mod node_volume_limits;
pub(crate) mod pod_topology_spread;
mod scheduling_gates;
mod taint_toleration;
mod volume_binding;
mod volume_restrictions;
mod volume_zone;

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

pub use default_preemption::{Preemption, preempt};

use crate::core::{Cache, NodeInfo, PodInfo, Profile, Spread, SpreadDefaults};

/// Why a plugin refuses a node, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reasons: Vec<Cow<'static, str>>,
    /// No pod that leaves the node would change it.
    pub lasting: bool,
}

impl Refusal {
    fn lasting(reason: &'static str) -> Self {
        Self { reasons: vec![reason.into()], lasting: true }
    }
    fn for_now(reason: &'static str) -> Self {
        Self { reasons: vec![reason.into()], lasting: false }
    }
    fn because(reason: String) -> Self {
        Self { reasons: vec![reason.into()], lasting: true }
    }
}

/// A plugin's name and its refusal.
pub type Refused = (&'static str, Refusal);

/// Why pods elsewhere keep one from a node: few reasons, so that they can be counted without words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    NoLabel,
    Skew,
    NoCompany,
    OwnAnti,
    OthersAnti,
}

impl Why {
    pub const ALL: [Self; 5] = [Self::NoLabel, Self::Skew, Self::NoCompany, Self::OwnAnti, Self::OthersAnti];

    /// Whether no pod that leaves the node would change it.
    pub fn lasting(self) -> bool {
        matches!(self, Self::NoLabel | Self::NoCompany)
    }

    pub fn refused(self) -> Refused {
        let (plugin, reason) = match self {
            Self::NoLabel => (
                "PodTopologySpread",
                "node(s) didn't match pod topology spread constraints (missing required label)",
            ),
            Self::Skew => ("PodTopologySpread", "node(s) didn't match pod topology spread constraints"),
            Self::NoCompany => ("InterPodAffinity", "node(s) didn't match pod affinity rules"),
            Self::OwnAnti => ("InterPodAffinity", "node(s) didn't match pod anti-affinity rules"),
            Self::OthersAnti => {
                ("InterPodAffinity", "node(s) didn't satisfy existing pods anti-affinity rules")
            }
        };
        (plugin, Refusal { reasons: vec![reason.into()], lasting: self.lasting() })
    }
}

/// What running pods mean to a shape: it follows each that comes or goes.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    pub affinity: inter_pod_affinity::State,
    pub spread: pod_topology_spread::State,
}

impl Counts {
    pub fn new(cache: &Cache, profile: &Profile, pod: &PodInfo) -> Self {
        let affinity = match profile.filters("InterPodAffinity") || profile.weights.inter_pod_affinity > 0 {
            true => inter_pod_affinity::State::new(cache, profile, pod),
            false => inter_pod_affinity::State::default(),
        };
        let spread = match profile.filters("PodTopologySpread") || profile.weights.spread > 0 {
            true => pod_topology_spread::State::new(cache, profile, pod),
            false => pod_topology_spread::State::default(),
        };
        Self { affinity, spread }
    }

    /// Without what only prefers: for a pod that has no choice.
    pub fn hard(cache: &Cache, profile: &Profile, pod: &PodInfo) -> Self {
        let affinity = match profile.filters("InterPodAffinity") {
            true => inter_pod_affinity::State::new(cache, profile, pod),
            false => inter_pod_affinity::State::default(),
        };
        let must = |c: &Spread| c.hard;
        let by_default = || matches!(&profile.spread, SpreadDefaults::List(l) if l.iter().any(must));
        let any = pod.spread.iter().any(must) || (pod.spread.is_empty() && by_default());
        let spread = match profile.filters("PodTopologySpread") && any {
            true => pod_topology_spread::State::new(cache, profile, pod),
            false => pod_topology_spread::State::default(),
        };
        Self { affinity, spread }
    }

    /// Asks of one node after another whether pods elsewhere keep this one away, as `OF_PODS` does, by the node's place in
    /// the cache.
    pub fn checks<'a>(&'a self, cache: &'a Cache, profile: &Profile) -> impl Fn(usize) -> Option<Why> + 'a {
        let least = profile.filters("PodTopologySpread").then(|| self.spread.least());
        let affinity = profile.filters("InterPodAffinity").then_some(&self.affinity);
        let topology = cache.topology();
        move |node| {
            let spread = least.as_ref().and_then(|least| self.spread.check(topology, least, node));
            spread.or_else(|| affinity.and_then(|a| a.check(topology, node)))
        }
    }

    /// Whether pods elsewhere keep this one away from no node.
    pub fn is_soft(&self) -> bool {
        self.spread.is_soft() && self.affinity.is_soft()
    }

    pub fn count(
        &mut self,
        cache: &Cache,
        profile: &Profile,
        pod: &PodInfo,
        other: &PodInfo,
        node: usize,
        by: i64,
    ) {
        self.affinity.count(cache, profile, pod, other, node, by);
        self.spread.count(cache.topology(), pod, other, node, by);
    }
}

/// What holds for one pod against all nodes.
#[derive(Clone)]
pub struct Cycle<'a> {
    pub cache: &'a Cache,
    pub profile: &'a Profile,
    counts: Cow<'a, Counts>,
    claims: volume_restrictions::State,
}

impl<'a> Cycle<'a> {
    /// With counts that were kept. The cache knows the pod's topology keys.
    pub fn new(cache: &'a Cache, profile: &'a Profile, pod: &PodInfo, counts: Cow<'a, Counts>) -> Self {
        Self { cache, profile, counts, claims: volume_restrictions::State::new(cache, pod) }
    }

    /// As if `other` came to the node (1) or left it (-1).
    fn count(&mut self, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, by: i64) {
        let affinity = pod.has_terms() || other.has_terms();
        if affinity || !self.counts.spread.is_soft() {
            self.counts.to_mut().count(self.cache, self.profile, pod, other, node.index, by);
        }
        self.claims.count(pod, other, by);
    }
}

type Filter = fn(&Cycle<'_>, &PodInfo, &NodeInfo) -> Result<(), Refusal>;

/// In upstream's default order; the first plugin that refuses a node names the reason. These look at the node alone, so
/// that their answer holds for a shape as long as the node stays as it is.
const OF_NODE: &[(&str, Filter)] = &[
    ("NodeUnschedulable", node_unschedulable::filter),
    ("NodeName", node_name::filter),
    ("TaintToleration", taint_toleration::filter),
    ("NodeAffinity", node_affinity::filter),
    ("NodePorts", node_ports::filter),
    ("NodeResourcesFit", node_resources::filter),
    ("NodeDeclaredFeatures", node_declared_features::filter),
];

/// These look at what the pod has of its own.
const OF_CLAIMS: &[(&str, Filter)] = &[
    ("VolumeRestrictions", volume_restrictions::filter),
    ("NodeVolumeLimits", node_volume_limits::filter),
    ("VolumeBinding", volume_binding::filter),
    ("VolumeZone", volume_zone::filter),
];

/// These look at pods on all nodes.
const OF_PODS: &[(&str, Filter)] =
    &[("PodTopologySpread", pod_topology_spread::filter), ("InterPodAffinity", inter_pod_affinity::filter)];

/// Names of all filters, for configurations.
pub static FILTERS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| OF_NODE.iter().chain(OF_CLAIMS).chain(OF_PODS).map(|f| f.0).collect());

/// What holds a pod back before any node is looked at.
pub fn gates(pod: &PodInfo) -> Result<(), Refused> {
    // Rather than a pod that runs without its devices.
    if !pod.device_claims.is_empty() {
        let message = format!(
            "devices of the resource claims [{}] can't be allocated: this scheduler does not allocate devices yet",
            pod.device_claims.join(" ")
        );
        return Err(("DynamicResources", Refusal::because(message)));
    }
    scheduling_gates::check(pod).map_err(|reason| ("SchedulingGates", Refusal::because(reason)))
}

/// What no node can help with: its claims.
pub fn claims(cache: &Cache, pod: &PodInfo) -> Result<(), Refused> {
    cache.volumes.check(pod).map_err(|reason| ("VolumeBinding", Refusal::because(reason)))
}

fn all(
    filters: &[(&'static str, Filter)],
    c: &Cycle<'_>,
    pod: &PodInfo,
    n: &NodeInfo,
) -> Result<(), Refused> {
    let mut on = filters.iter().filter(|(plugin, _)| c.profile.filters(plugin));
    on.try_for_each(|(plugin, f)| f(c, pod, n).map_err(|r| (*plugin, r)))
}

/// The first plugin that refuses the node.
fn filter(cycle: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refused> {
    all(OF_NODE, cycle, pod, node)?;
    all(OF_CLAIMS, cycle, pod, node)?;
    all(OF_PODS, cycle, pod, node)
}

/// Pods that are nominated for the node and come before this one.
fn ahead<'a>(cache: &'a Cache, pod: &PodInfo, node: &NodeInfo) -> impl Iterator<Item = &'a Arc<PodInfo>> {
    let nominated = cache.nominated(&node.name).iter();
    nominated.filter(|p| p.priority >= pod.priority && p.uid != pod.uid)
}

/// The node as it would be with those who are ahead; none without such.
fn with_nominated(cycle: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Option<NodeInfo> {
    let mut ahead = ahead(cycle.cache, pod, node).peekable();
    ahead.peek()?;
    let mut node = node.clone();
    ahead.for_each(|p| node.add_pod(p.clone()));
    Some(node)
}

/// What the node alone says, both with the pods that are nominated for it and without: they may never come.
pub fn of_node(cycle: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refused> {
    if let Some(with) = with_nominated(cycle, pod, node) {
        all(OF_NODE, cycle, pod, &with)?;
    }
    all(OF_NODE, cycle, pod, node)
}

/// What the pod's claims say.
pub fn of_claims(cycle: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refused> {
    all(OF_CLAIMS, cycle, pod, node)
}

/// Whether the node takes the pod, both with the pods that are nominated for it and without.
pub fn fits(cycle: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refused> {
    if let Some(with) = with_nominated(cycle, pod, node) {
        let mut cycle = cycle.clone();
        ahead(cycle.cache, pod, node).for_each(|p| cycle.count(pod, p, node, 1));
        filter(&cycle, pod, &with)?;
    }
    filter(cycle, pod, node)
}

/// What the node alone is worth: no scale, weighted.
pub fn local_score(cycle: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> i64 {
    let (p, w) = (cycle.profile, &cycle.profile.weights);
    let fit = if w.fit > 0 { node_resources::fit(p, pod, node) * w.fit } else { 0 };
    let balanced = if w.balanced > 0 { node_resources::balanced(p, pod, node) * w.balanced } else { 0 };
    fit + balanced
}

pub use node_affinity::score as preferred_score;
pub use taint_toleration::score as taint_score;

/// Scales to 0..=100 between the smallest (or zero) and the largest raw score.
pub fn scale(raw: &mut [i64], reversed: bool) {
    let max = raw.iter().copied().max().unwrap_or(0);
    let min = raw.iter().copied().min().unwrap_or(0).min(0);
    let span = max - min;
    for r in raw.iter_mut() {
        let v = if span == 0 { 0 } else { (*r - min) * 100 / span };
        *r = if reversed { 100 - v } else { v };
    }
}
