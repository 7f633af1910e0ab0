//! A node as the plugins see it: what it offers, what is taken, who runs there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Deref;
use std::sync::Arc;

use api::Object;
use api::object::DecodeError;
use serde::Deserialize;

use super::{Amounts, PodInfo, Taint};

/// What the node says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeTraits {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Amounts,
    /// Image name to size in bytes.
    pub images: HashMap<String, i64>,
    /// What its kubelet can do beyond the usual.
    pub features: BTreeSet<String>,
}

/// Cheap to copy, so that a plugin can ask what would be if other pods ran there.
#[derive(Debug, Clone, Default)]
pub struct NodeInfo {
    traits: Arc<NodeTraits>,
    /// Its place in the cache.
    pub index: usize,
    pub used: Amounts,
    /// CPU (thousandths) and memory in use, where pods without requests count a little.
    pub busy: (i64, i64),
    pub pods: Vec<Arc<PodInfo>>,
}

impl Deref for NodeInfo {
    type Target = NodeTraits;
    fn deref(&self) -> &NodeTraits {
        &self.traits
    }
}

/// What a node that changed asks to be looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeChange {
    Nothing,
    /// Images: no pod fits that did not before.
    Scores,
    Allocatable,
    /// Labels, taints, cordon: also what other nodes count.
    Whole,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct View {
    spec: Spec,
    status: NodeStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Spec {
    unschedulable: bool,
    taints: Vec<Taint>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct NodeStatus {
    allocatable: BTreeMap<String, String>,
    images: Vec<Image>,
    declared_features: BTreeSet<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Image {
    names: Vec<String>,
    size_bytes: i64,
}

impl NodeInfo {
    pub fn from_object(o: &Object) -> Result<Self, DecodeError> {
        let v: View = o.view()?;
        let images = v
            .status
            .images
            .into_iter()
            .flat_map(|i| i.names.into_iter().map(move |n| (n, i.size_bytes)))
            .collect();
        let traits = NodeTraits {
            name: o.name().to_owned(),
            labels: o.meta().labels.to_map(),
            taints: v.spec.taints,
            unschedulable: v.spec.unschedulable,
            allocatable: Amounts::from_list(&v.status.allocatable),
            images,
            features: v.status.declared_features,
        };
        Ok(Self { traits: Arc::new(traits), ..Self::default() })
    }

    pub fn traits_mut(&mut self) -> &mut NodeTraits {
        Arc::make_mut(&mut self.traits)
    }

    /// Takes over what the node says now.
    pub fn describe(&mut self, now: &Self) -> NodeChange {
        let (old, new) = (&*self.traits, &*now.traits);
        let change =
            if old.labels != new.labels || old.taints != new.taints || old.unschedulable != new.unschedulable
            {
                NodeChange::Whole
            } else if old.allocatable != new.allocatable || old.features != new.features {
                NodeChange::Allocatable
            } else if old.images != new.images {
                NodeChange::Scores
            } else {
                NodeChange::Nothing
            };
        if change != NodeChange::Nothing {
            self.traits = now.traits.clone();
        }
        change
    }

    pub fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.used.add(&pod.requests);
        let (cpu, memory) = pod.requests.wanted();
        self.busy = (self.busy.0.saturating_add(cpu), self.busy.1.saturating_add(memory));
        self.pods.push(pod);
    }

    pub fn remove_pod(&mut self, uid: &str) {
        if let Some(i) = self.pods.iter().position(|p| p.uid == uid) {
            let pod = self.pods.swap_remove(i);
            self.used.sub(&pod.requests);
            let (cpu, memory) = pod.requests.wanted();
            self.busy = (self.busy.0.saturating_sub(cpu), self.busy.1.saturating_sub(memory));
        }
    }

    /// Puts a newer view of a pod that counts alike in the place of the old one.
    pub fn refresh_pod(&mut self, pod: &Arc<PodInfo>) {
        if let Some(old) = self.pods.iter_mut().find(|p| p.uid == pod.uid) {
            *old = pod.clone();
        }
    }
}
