//! A node as the plugins see it: what it offers, what is taken, who runs there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::Object;
use api::object::DecodeError;
use serde::Deserialize;

use super::{Amounts, PodInfo, Taint};

#[derive(Debug, Clone, Default)]
pub struct NodeInfo {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Amounts,
    pub used: Amounts,
    /// Image name to size in bytes.
    pub images: HashMap<String, i64>,
    pub pods: Vec<Arc<PodInfo>>,
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
#[serde(default)]
struct NodeStatus {
    allocatable: BTreeMap<String, String>,
    images: Vec<Image>,
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
        Ok(Self {
            name: o.name().to_owned(),
            labels: o.meta().labels.to_map(),
            taints: v.spec.taints,
            unschedulable: v.spec.unschedulable,
            allocatable: Amounts::from_list(&v.status.allocatable),
            images,
            ..Self::default()
        })
    }

    /// Whether a pod that did not fit could fit now, as far as the node's own description goes.
    pub fn differs(&self, o: &Self) -> bool {
        self.labels != o.labels
            || self.taints != o.taints
            || self.unschedulable != o.unschedulable
            || self.allocatable != o.allocatable
    }

    pub fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.used.add(&pod.requests);
        self.pods.push(pod);
    }

    pub fn remove_pod(&mut self, uid: &str) {
        if let Some(i) = self.pods.iter().position(|p| p.uid == uid) {
            let pod = self.pods.swap_remove(i);
            self.used.sub(&pod.requests);
        }
    }
}
