//! The cache: nodes in one flat array, and where each pod counts. A pod that is being bound is assumed to be there.

use std::collections::HashMap;
use std::sync::Arc;

use super::{NodeInfo, PodInfo, Volumes};

#[derive(Debug, Default)]
pub struct Cache {
    nodes: Vec<NodeInfo>,
    by_name: HashMap<String, usize>,
    /// Pod uid to the pod as it is counted (its `node_name` says where).
    pods: HashMap<String, Arc<PodInfo>>,
    pub volumes: Volumes,
}

impl Cache {
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds or replaces a node; true when the change could make room.
    pub fn set_node(&mut self, mut node: NodeInfo) -> bool {
        if let Some(old) = self.by_name.get(&node.name).and_then(|i| self.nodes.get_mut(*i)) {
            let matters = old.differs(&node);
            node.pods = std::mem::take(&mut old.pods);
            node.used = std::mem::take(&mut old.used);
            *old = node;
            return matters;
        }
        let here: Vec<_> = self.pods.values().filter(|p| p.node_name == node.name).cloned().collect();
        for pod in here {
            node.add_pod(pod);
        }
        self.by_name.insert(node.name.clone(), self.nodes.len());
        self.nodes.push(node);
        true
    }

    pub fn remove_node(&mut self, name: &str) {
        let Some(i) = self.by_name.remove(name) else { return };
        self.nodes.swap_remove(i);
        if let Some(moved) = self.nodes.get(i) {
            self.by_name.insert(moved.name.clone(), i);
        }
    }

    /// Counts a pod on the node it names, wherever it was counted before.
    pub fn set_pod(&mut self, pod: Arc<PodInfo>) {
        if let Some(old) = self.pods.get(&pod.uid) {
            if old.node_name == pod.node_name && old.requests == pod.requests && old.labels == pod.labels {
                return;
            }
            self.remove_pod(&pod.uid);
        }
        if let Some(node) = self.by_name.get(&pod.node_name).and_then(|i| self.nodes.get_mut(*i)) {
            node.add_pod(pod.clone());
        }
        self.pods.insert(pod.uid.clone(), pod);
    }

    pub fn remove_pod(&mut self, uid: &str) {
        let Some(pod) = self.pods.remove(uid) else { return };
        if let Some(node) = self.by_name.get(&pod.node_name).and_then(|i| self.nodes.get_mut(*i)) {
            node.remove_pod(uid);
        }
    }

    /// Counts the pod on `node` until the API says the same, or `remove_pod` takes it back.
    pub fn assume(&mut self, pod: &PodInfo, node: &str) {
        let mut assumed = pod.clone();
        node.clone_into(&mut assumed.node_name);
        self.set_pod(Arc::new(assumed));
    }
}
