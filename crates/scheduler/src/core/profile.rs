//! Profiles: which plugins a scheduler name uses, with what weight and arguments (KubeSchedulerConfiguration v1). The
//! default is upstream's.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{NodeTerm, Shape, Spread};
use crate::DEFAULT_NAME;

/// How NodeResourcesFit prefers nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FitStrategy {
    LeastAllocated,
    MostAllocated,
    /// Points of utilisation (0 to 100) and score (0 to 100), by utilisation.
    RequestedToCapacityRatio(Vec<(i64, i64)>),
}

/// Constraints of pods that have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpreadDefaults {
    /// Upstream's: softly over nodes and zones.
    System,
    List(Vec<Spread>),
}

/// Weights of scores; a plugin without weight is not asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    pub taint_toleration: i64,
    pub node_affinity: i64,
    pub fit: i64,
    pub balanced: i64,
    pub inter_pod_affinity: i64,
    pub image_locality: i64,
    pub spread: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub name: String,
    /// Filters that are switched off.
    pub without: BTreeSet<String>,
    pub weights: Weights,
    pub strategy: FitStrategy,
    /// Resources that the strategy weighs.
    pub fit_resources: Vec<(String, i64)>,
    /// Extended resources that NodeResourcesFit leaves to others, and groups of them (`example.com`).
    pub ignored_resources: BTreeSet<String>,
    pub ignored_groups: BTreeSet<String>,
    /// Resources whose use is to be balanced.
    pub balanced_resources: Vec<String>,
    pub spread: SpreadDefaults,
    /// What a running pod's required affinity to a new one adds to a domain's score.
    pub hard_affinity_weight: i64,
    /// Preferences of running pods do not count when the new pod has none.
    pub ignore_preferred_of_existing: bool,
    /// Every pod's node must match one of these, and `added_preferred` count for all.
    pub added_required: Option<Vec<NodeTerm>>,
    pub added_preferred: Vec<(i64, NodeTerm)>,
    pub preempts: bool,
    /// Of the nodes where room could be made so many per cent are looked at, and at least a number.
    pub candidates_percent: usize,
    pub candidates_least: usize,
}

impl Default for Profile {
    fn default() -> Self {
        let resources = ["cpu", "memory"];
        Self {
            name: DEFAULT_NAME.into(),
            without: BTreeSet::new(),
            weights: Weights {
                taint_toleration: 3,
                node_affinity: 2,
                fit: 1,
                balanced: 1,
                inter_pod_affinity: 2,
                image_locality: 1,
                spread: 2,
            },
            strategy: FitStrategy::LeastAllocated,
            fit_resources: resources.iter().map(|r| ((*r).to_owned(), 1)).collect(),
            ignored_resources: BTreeSet::new(),
            ignored_groups: BTreeSet::new(),
            balanced_resources: resources.iter().map(|r| (*r).to_owned()).collect(),
            spread: SpreadDefaults::System,
            hard_affinity_weight: 1,
            ignore_preferred_of_existing: false,
            added_required: None,
            added_preferred: Vec::new(),
            preempts: true,
            candidates_percent: 10,
            candidates_least: 100,
        }
    }
}

impl Profile {
    pub fn filters(&self, plugin: &str) -> bool {
        !self.without.contains(plugin)
    }
}

#[derive(Debug, Clone)]
pub struct Profiles(Vec<Arc<Profile>>);

impl Default for Profiles {
    fn default() -> Self {
        Self(vec![Arc::default()])
    }
}

impl Profiles {
    pub fn new(profiles: Vec<Profile>) -> Self {
        Self(profiles.into_iter().map(Arc::new).collect())
    }

    /// The profile that a pod asks for by its scheduler name; none when another scheduler serves it.
    pub fn of(&self, pod: &Shape) -> Option<&Arc<Profile>> {
        let name = if pod.scheduler_name.is_empty() { DEFAULT_NAME } else { &pod.scheduler_name };
        self.0.iter().find(|p| p.name == name)
    }
}
