//! What decides where a pod may go, without who it is. Pods of one template share a shape, and with it one evaluation of
//! the nodes; equal shapes are kept once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Amounts, HostPort, NodeTerm, Owner, PodInfo, PodTerm, Spread, Toleration};

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Shape {
    pub namespace: String,
    pub labels: BTreeMap<String, String>,
    pub scheduler_name: String,
    pub priority: i64,
    pub requests: Amounts,
    pub node_selector: BTreeMap<String, String>,
    /// Required node affinity: any term must match; `None` when there is none.
    pub node_required: Option<Vec<NodeTerm>>,
    pub node_preferred: Vec<(i64, NodeTerm)>,
    pub affinity: Vec<PodTerm>,
    pub anti_affinity: Vec<PodTerm>,
    pub preferred: Vec<PodTerm>,
    pub tolerations: Vec<Toleration>,
    pub host_ports: Vec<HostPort>,
    pub images: Vec<String>,
    pub spread: Vec<Spread>,
    /// The controller that owns it.
    pub owner: Option<Owner>,
    /// Features that its node must have declared.
    pub features: Vec<&'static str>,
    /// `preemptionPolicy: Never`.
    pub never_preempts: bool,
}

impl Shape {
    /// Topology keys that its terms about other pods name.
    pub fn topology_keys(&self) -> impl Iterator<Item = &str> {
        let terms = self.affinity.iter().chain(&self.anti_affinity).chain(&self.preferred);
        terms.map(|t| t.topology_key.as_str()).chain(self.spread.iter().map(|c| c.topology_key.as_str()))
    }

    pub fn has_terms(&self) -> bool {
        !(self.affinity.is_empty() && self.anti_affinity.is_empty() && self.preferred.is_empty())
    }
}

/// Names a shape for as long as this process runs; zero is none.
pub type ShapeId = u64;

/// Shapes in use, each once.
#[derive(Debug, Default)]
pub struct Shapes {
    all: HashMap<Arc<Shape>, ShapeId>,
    last: ShapeId,
    /// So many may be there before those that nobody uses are dropped.
    limit: usize,
}

const LIMIT: usize = 1024;

impl Shapes {
    /// Has the pod share its shape with all others that have the same.
    pub fn intern(&mut self, pod: &mut PodInfo) {
        if pod.shape_id() != 0 {
            return;
        }
        if let Some((shape, id)) = self.all.get_key_value(pod.shape()) {
            return pod.share(shape.clone(), *id);
        }
        if self.all.len() >= self.limit.max(LIMIT) {
            self.all.retain(|shape, _| Arc::strong_count(shape) > 1);
            self.limit = self.all.len() * 2;
        }
        self.last += 1;
        self.all.insert(pod.shape().clone(), self.last);
        pod.share(pod.shape().clone(), self.last);
    }
}
