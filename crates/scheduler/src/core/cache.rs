//! The cache: nodes in one flat array, and where each pod counts. A pod that is being bound is assumed to be there; one
//! that waits for others to make room is nominated.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Budget, Groups, Namespaces, NodeInfo, PodInfo, Volumes};

#[derive(Debug, Default)]
pub struct Cache {
    nodes: Vec<NodeInfo>,
    by_name: HashMap<String, usize>,
    /// Pod uid to the pod as it is counted (its `node_name` says where).
    pods: HashMap<String, Arc<PodInfo>>,
    /// Node to the pods that are nominated for it.
    nominated: HashMap<String, Vec<Arc<PodInfo>>>,
    /// Pod uid to the node it is nominated for.
    nomination: HashMap<String, String>,
    pub volumes: Volumes,
    pub groups: Groups,
    pub namespaces: Namespaces,
    /// Namespace and name.
    pub budgets: BTreeMap<(String, String), Budget>,
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
        self.denominate(&pod.uid);
        if let Some(old) = self.pods.get(&pod.uid) {
            if **old == *pod {
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
        let mut assumed = PodInfo { assumed: true, ..pod.clone() };
        node.clone_into(&mut assumed.node_name);
        self.set_pod(Arc::new(assumed));
    }

    /// Keeps room for the pod on `node` against pods of lower priority.
    pub fn nominate(&mut self, pod: &Arc<PodInfo>, node: &str) {
        self.denominate(&pod.uid);
        self.nomination.insert(pod.uid.clone(), node.to_owned());
        self.nominated.entry(node.to_owned()).or_default().push(pod.clone());
    }

    /// True when it was nominated.
    pub fn denominate(&mut self, uid: &str) -> bool {
        let Some(node) = self.nomination.remove(uid) else { return false };
        if let Some(there) = self.nominated.get_mut(&node) {
            there.retain(|p| p.uid != uid);
            if there.is_empty() {
                self.nominated.remove(&node);
            }
        }
        true
    }

    pub fn nominated(&self, node: &str) -> &[Arc<PodInfo>] {
        self.nominated.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    pub fn nomination(&self, uid: &str) -> Option<&str> {
        self.nomination.get(uid).map(String::as_str)
    }

    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.by_name.get(name).and_then(|i| self.nodes.get(*i))
    }
}
