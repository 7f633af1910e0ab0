//! The cache: nodes in one flat array, and where each pod counts. A pod that is being bound is assumed to be there; one
//! that waits for others to make room is nominated. What changes goes into a journal that evaluations catch up with.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::evaluation::Evaluations;
use super::journal::{Entry, Journal};
use super::node::NodeChange;
use super::profile::Profiles;
use super::shape::Shapes;
use super::topology::Topology;
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
    /// How many pods that are counted say something about others.
    with_terms: usize,
    shapes: Shapes,
    topology: Topology,
    pub(super) journal: Journal,
    pub(super) evaluations: Evaluations,
    pub profiles: Profiles,
    pub volumes: Volumes,
    pub groups: Groups,
    namespaces: Namespaces,
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

    /// Whether any pod that is counted says something about others.
    pub fn has_terms(&self) -> bool {
        self.with_terms > 0
    }

    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    pub fn set_namespace(&mut self, name: &str, labels: BTreeMap<String, String>) {
        if self.namespaces.get(name) != Some(&labels) {
            self.namespaces.insert(name.to_owned(), labels);
            self.journal.start_anew();
        }
    }

    pub fn remove_namespace(&mut self, name: &str) {
        if self.namespaces.remove(name).is_some() {
            self.journal.start_anew();
        }
    }

    /// Has the pod share what others of its shape have.
    pub fn intern(&mut self, pod: &mut PodInfo) {
        self.shapes.intern(pod);
    }

    fn interned(&mut self, pod: Arc<PodInfo>) -> Arc<PodInfo> {
        if pod.shape_id() != 0 {
            return pod;
        }
        let mut pod = Arc::unwrap_or_clone(pod);
        self.shapes.intern(&mut pod);
        Arc::new(pod)
    }

    /// Columns for the topology keys that the pod names.
    pub(super) fn know_keys(&mut self, pod: &PodInfo) {
        for key in pod.topology_keys() {
            self.topology.ensure(key, &self.nodes);
        }
    }

    pub(super) fn know_key(&mut self, key: &str) {
        self.topology.ensure(key, &self.nodes);
    }

    /// Adds or replaces a node; what it asks to be looked at again.
    pub fn set_node(&mut self, mut node: NodeInfo) -> NodeChange {
        if let Some(old) = self.by_name.get(&node.name).and_then(|i| self.nodes.get_mut(*i)) {
            let change = old.describe(&node);
            if change == NodeChange::Whole {
                self.topology.set_node(old.index, &node.labels);
            }
            if change != NodeChange::Nothing {
                self.journal.push(Entry::Node { node: old.index, change });
            }
            return change;
        }
        let here: Vec<_> = self.pods.values().filter(|p| p.node_name == node.name).cloned().collect();
        node.index = self.nodes.len();
        self.by_name.insert(node.name.clone(), node.index);
        self.topology.set_node(node.index, &node.labels);
        self.journal.push(Entry::Added { node: node.index });
        for pod in here {
            self.journal.push(Entry::Pod { node: node.index, pod: pod.clone(), by: 1 });
            node.add_pod(pod);
        }
        self.nodes.push(node);
        NodeChange::Whole
    }

    /// Drops columns that grew beyond use: of keys that no pod here names any more, or with values that no node has.
    pub(super) fn forget_keys(&mut self) {
        if !self.topology.is_stale(self.nodes.len()) {
            return;
        }
        let here: Vec<_> = self.pods.values().chain(self.nominated.values().flatten()).cloned().collect();
        let keys: BTreeSet<&str> = here.iter().flat_map(|p| p.topology_keys()).collect();
        self.topology = Topology::only(keys, &self.nodes);
        self.journal.start_anew();
    }

    pub fn remove_node(&mut self, name: &str) {
        let Some(i) = self.by_name.remove(name) else { return };
        self.nodes.swap_remove(i);
        self.topology.swap_remove(i);
        if let Some(moved) = self.nodes.get_mut(i) {
            moved.index = i;
            self.by_name.insert(moved.name.clone(), i);
        }
        self.journal.start_anew();
    }

    fn node_mut(&mut self, name: &str) -> Option<&mut NodeInfo> {
        self.by_name.get(name).and_then(|i| self.nodes.get_mut(*i))
    }

    /// Counts a pod on the node it names, wherever it was counted before.
    pub fn set_pod(&mut self, pod: Arc<PodInfo>) {
        let pod = self.interned(pod);
        self.denominate(&pod.uid);
        if let Some(old) = self.pods.get(&pod.uid) {
            if old.counts_like(&pod) {
                if **old != *pod {
                    if let Some(node) = self.node_mut(&pod.node_name) {
                        node.refresh_pod(&pod);
                    }
                    self.pods.insert(pod.uid.clone(), pod);
                }
                return;
            }
            self.remove_pod(&pod.uid);
        }
        self.know_keys(&pod);
        self.with_terms += usize::from(pod.has_terms());
        if let Some(node) = self.node_mut(&pod.node_name) {
            node.add_pod(pod.clone());
            let node = node.index;
            self.journal.push(Entry::Pod { node, pod: pod.clone(), by: 1 });
        }
        self.pods.insert(pod.uid.clone(), pod);
    }

    pub fn remove_pod(&mut self, uid: &str) {
        let Some(pod) = self.pods.remove(uid) else { return };
        self.with_terms -= usize::from(pod.has_terms());
        if let Some(node) = self.node_mut(&pod.node_name) {
            node.remove_pod(uid);
            let node = node.index;
            self.journal.push(Entry::Pod { node, pod, by: -1 });
        }
    }

    /// The pod as it is counted.
    pub fn pod(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.pods.get(uid)
    }

    /// Counts the pod on `node` until the API says the same, or `remove_pod` takes it back.
    pub fn assume(&mut self, pod: &PodInfo, node: &str) {
        let mut assumed = PodInfo { assumed: true, ..pod.clone() };
        node.clone_into(&mut assumed.node_name);
        self.set_pod(Arc::new(assumed));
    }

    /// Nominations of a node changed: what fits there is to be asked again.
    fn touch(&mut self, node: &str) {
        if let Some(node) = self.by_name.get(node) {
            self.journal.push(Entry::Node { node: *node, change: NodeChange::Allocatable });
        }
    }

    /// Keeps room for the pod on `node` against pods of lower priority.
    pub fn nominate(&mut self, pod: &Arc<PodInfo>, node: &str) {
        let pod = self.interned(pod.clone());
        self.denominate(&pod.uid);
        self.know_keys(&pod);
        self.nomination.insert(pod.uid.clone(), node.to_owned());
        self.nominated.entry(node.to_owned()).or_default().push(pod);
        self.touch(node);
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
        self.touch(&node);
        true
    }

    pub fn nominated(&self, node: &str) -> &[Arc<PodInfo>] {
        if self.nominated.is_empty() {
            return &[];
        }
        self.nominated.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    /// Nodes that pods are nominated for.
    pub fn nominations(&self) -> impl Iterator<Item = &str> {
        self.nominated.keys().map(String::as_str)
    }

    pub fn nomination(&self, uid: &str) -> Option<&str> {
        self.nomination.get(uid).map(String::as_str)
    }

    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.by_name.get(name).and_then(|i| self.nodes.get(*i))
    }
}
