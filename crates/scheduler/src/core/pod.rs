//! A pod as the scheduler sees it: parsed once from the object, then shared.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use api::Object;
use api::object::DecodeError;
use jiff::Timestamp;
use serde::Deserialize;

use super::shape::{Shape, ShapeId};
use super::terms::{SpreadView, TermView};
use super::{Amounts, NodeTerm, PodTerm, Requirement, Toleration};

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    pub ip: String,
    pub protocol: String,
    pub port: i32,
}

impl HostPort {
    /// The same port collides when either side listens on all addresses or both on the same one.
    pub fn collides(&self, o: &Self) -> bool {
        let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
        self.port == o.port && self.protocol == o.protocol && (any(&self.ip) || any(&o.ip) || self.ip == o.ip)
    }
}

/// A claim that the pod mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimUse {
    pub name: String,
    /// Made for this pod alone.
    pub ephemeral: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodInfo {
    pub(crate) shape: Arc<Shape>,
    /// Zero until the shape is shared.
    pub(crate) shape_id: ShapeId,
    pub name: String,
    pub uid: String,
    pub node_name: String,
    pub finished: bool,
    pub deleting: bool,
    pub gates: Vec<String>,
    pub claims: Vec<ClaimUse>,
    /// Entries of `resourceClaims`: devices that it needs.
    pub device_claims: Vec<String>,
    /// Where it is to go once those that make room are gone.
    pub nominated_node: String,
    /// Told to make room for another pod.
    pub preempted: bool,
    pub started: Option<Timestamp>,
    /// Counted on its node by this scheduler only: the API does not know yet.
    pub assumed: bool,
    /// Of the metadata, for conditions.
    pub generation: i64,
    /// The message of the PodScheduled condition, to write it only when it changes.
    pub reported: Option<String>,
}

impl Deref for PodInfo {
    type Target = Shape;
    fn deref(&self) -> &Shape {
        &self.shape
    }
}

type List = BTreeMap<String, String>;

#[derive(Deserialize, Default)]
#[serde(default)]
struct View {
    spec: Spec,
    status: PodStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: String,
    conditions: Vec<Condition>,
    #[serde(rename = "nominatedNodeName")]
    nominated_node: String,
    #[serde(rename = "startTime")]
    started: Option<String>,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: String,
    allocated_resources: List,
    resources: Resources,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
    reason: String,
    message: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: String,
    scheduler_name: String,
    priority: i64,
    node_selector: BTreeMap<String, String>,
    affinity: Affinity,
    tolerations: Vec<Toleration>,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    overhead: List,
    resources: Resources,
    scheduling_gates: Vec<Gate>,
    volumes: Vec<VolumeView>,
    topology_spread_constraints: Vec<SpreadView>,
    preemption_policy: String,
    resource_claims: Vec<Gate>,
    host_network: bool,
    host_users: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct VolumeView {
    name: String,
    persistent_volume_claim: Option<ClaimView>,
    ephemeral: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ClaimView {
    claim_name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Gate {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    name: String,
    image: String,
    restart_policy: String,
    resources: Resources,
    ports: Vec<Port>,
    restart_policy_rules: Vec<RestartRule>,
    volume_mounts: Vec<Mount>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RestartRule {
    action: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Mount {
    bind_mount_options: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Resources {
    requests: List,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    host_port: i32,
    #[serde(rename = "hostIP")]
    host_ip: String,
    protocol: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Affinity {
    node_affinity: NodeAffinity,
    pod_affinity: PodAffinity,
    pod_anti_affinity: PodAffinity,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct NodeAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    required: Option<NodeTerms>,
    #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
    preferred: Vec<PreferredNode>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct NodeTerms {
    node_selector_terms: Vec<NodeTerm>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PreferredNode {
    weight: i64,
    preference: NodeTerm,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PodAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    required: Vec<TermView>,
    #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
    preferred: Vec<PreferredTerm>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PreferredTerm {
    weight: i64,
    pod_affinity_term: TermView,
}

impl PodInfo {
    pub fn from_object(o: &Object) -> Result<Self, DecodeError> {
        let v: View = o.view()?;
        let s = v.spec;
        let ns = o.namespace();
        let requests = total(&s, &v.status);
        let features = features(&s);
        let labels = &o.meta().labels.to_map();
        let terms = |list: Vec<TermView>| list.into_iter().map(|t| t.into_term(ns, labels, 0)).collect();
        let mut preferred: Vec<PodTerm> = Vec::new();
        for p in s.affinity.pod_affinity.preferred {
            preferred.push(p.pod_affinity_term.into_term(ns, labels, p.weight));
        }
        for p in s.affinity.pod_anti_affinity.preferred {
            preferred.push(p.pod_affinity_term.into_term(ns, labels, -p.weight));
        }
        let host_ports = s
            .containers
            .iter()
            .chain(s.init_containers.iter().filter(|c| c.restart_policy == "Always"))
            .flat_map(|c| &c.ports)
            .filter(|p| p.host_port > 0)
            .map(|p| HostPort {
                ip: p.host_ip.clone(),
                protocol: if p.protocol.is_empty() { "TCP".into() } else { p.protocol.clone() },
                port: p.host_port,
            })
            .collect();
        let claims = s.volumes.into_iter().filter_map(|v| match (v.persistent_volume_claim, v.ephemeral) {
            (Some(c), _) => Some(ClaimUse { name: c.claim_name, ephemeral: false }),
            (None, Some(_)) => {
                Some(ClaimUse { name: api::volumes::ephemeral_claim(o.name(), &v.name), ephemeral: true })
            }
            (None, None) => None,
        });
        let claims = claims.collect();
        let shape = Shape {
            features,
            namespace: ns.to_owned(),
            labels: labels.clone(),
            scheduler_name: s.scheduler_name,
            priority: s.priority,
            requests,
            node_selector: s.node_selector,
            node_required: s.affinity.node_affinity.required.map(|r| r.node_selector_terms),
            node_preferred: s
                .affinity
                .node_affinity
                .preferred
                .into_iter()
                .map(|p| (p.weight, p.preference))
                .collect(),
            affinity: terms(s.affinity.pod_affinity.required),
            anti_affinity: terms(s.affinity.pod_anti_affinity.required),
            preferred,
            tolerations: s.tolerations,
            host_ports,
            images: s.containers.into_iter().chain(s.init_containers).map(|c| c.image).collect(),
            spread: s.topology_spread_constraints.into_iter().map(|c| c.into_spread(labels)).collect(),
            owner: o.meta().controller().map(|c| (c.kind.clone(), c.name.clone())),
            never_preempts: s.preemption_policy == "Never",
        };
        Ok(Self {
            shape: Arc::new(shape),
            shape_id: 0,
            name: o.name().to_owned(),
            uid: o.uid().to_owned(),
            node_name: s.node_name,
            finished: matches!(v.status.phase.as_str(), "Succeeded" | "Failed"),
            deleting: o.meta().is_deleting(),
            gates: s.scheduling_gates.into_iter().map(|g| g.name).collect(),
            claims,
            device_claims: s.resource_claims.into_iter().map(|c| c.name).collect(),
            nominated_node: v.status.nominated_node,
            preempted: v.status.conditions.iter().any(|c| {
                c.r#type == "DisruptionTarget" && c.status == "True" && c.reason == "PreemptionByScheduler"
            }),
            started: v.status.started.and_then(|t| t.parse().ok()),
            assumed: false,
            generation: o.meta().generation,
            reported: v
                .status
                .conditions
                .into_iter()
                .find(|c| c.r#type == "PodScheduled" && c.status == "False")
                .map(|c| c.message),
        })
    }

    pub fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }

    pub fn shape_id(&self) -> ShapeId {
        self.shape_id
    }

    pub(super) fn share(&mut self, shape: Arc<Shape>, id: ShapeId) {
        (self.shape, self.shape_id) = (shape, id);
    }

    /// Its shape, to be changed: it is shared with nobody then.
    pub fn shape_mut(&mut self) -> &mut Shape {
        self.shape_id = 0;
        Arc::make_mut(&mut self.shape)
    }

    /// The one node that its required affinity names, if that is all it does.
    pub fn pinned_to(&self) -> Option<&str> {
        let [term] = self.node_required.as_deref()? else { return None };
        let by_name =
            |r: &&Requirement| r.key == "metadata.name" && r.operator == "In" && r.values.len() == 1;
        let first = term.match_fields.iter().find(by_name)?;
        first.values.first().map(String::as_str)
    }

    /// Whether both count alike on a node.
    pub fn counts_like(&self, o: &Self) -> bool {
        self.deleting == o.deleting
            && self.node_name == o.node_name
            && self.claims == o.claims
            && (Arc::ptr_eq(&self.shape, &o.shape) || self.shape == o.shape)
    }

    /// A number of its own, to take one of several that are equal.
    pub fn pick(&self) -> usize {
        self.uid.bytes().fold(0usize, |h, b| h.wrapping_mul(31).wrapping_add(usize::from(b)))
    }

    /// Bound and not finished: it takes room on its node.
    pub fn holds_resources(&self) -> bool {
        !self.node_name.is_empty() && !self.finished
    }

    /// No node yet, and none is too late.
    pub fn wants_scheduling(&self) -> bool {
        self.node_name.is_empty() && !self.finished && !self.deleting
    }
}

/// Features that the pod's node must have declared, as `component-helpers/nodedeclaredfeatures` infers them.
fn features(s: &Spec) -> Vec<&'static str> {
    let containers = || s.containers.iter().chain(&s.init_containers);
    let restarts = || containers().flat_map(|c| &c.restart_policy_rules);
    let mut mounts = containers().flat_map(|c| &c.volume_mounts);
    [
        ("RestartAllContainersOnContainerExits", restarts().any(|r| r.action == "RestartAllContainers")),
        ("UserNamespacesHostNetworkSupport", s.host_network && s.host_users == Some(false)),
        ("VolumeBindMountOptions", mounts.any(|m| !m.bind_mount_options.is_empty())),
    ]
    .into_iter()
    .filter(|(_, asked)| *asked)
    .map(|(f, _)| f)
    .collect()
}

/// Of a container that is being resized the most of what it asks for, was granted and has; what can never be granted
/// does not count (KEP-1287).
fn requests(c: &Container, status: &PodStatus) -> Amounts {
    let mut all = status.container_statuses.iter().chain(&status.init_container_statuses);
    let asked = Amounts::from_list(&c.resources.requests);
    let Some(st) = all.find(|s| s.name == c.name) else { return asked };
    let mut out = Amounts::from_list(&st.resources.requests);
    out.max(&Amounts::from_list(&st.allocated_resources));
    let infeasible = |c: &Condition| c.r#type == "PodResizePending" && c.reason == "Infeasible";
    if out == Amounts::default() || !status.conditions.iter().any(infeasible) {
        out.max(&asked);
    }
    out
}

/// What the pod asks for: sidecars and containers together, or the largest moment of start-up if that is more, plus
/// overhead (KEP-753); requests of the pod itself win over the sum (KEP-2837).
fn total(s: &Spec, status: &PodStatus) -> Amounts {
    let mut sum = Amounts::default();
    for c in &s.containers {
        sum.add(&requests(c, status));
    }
    let (mut sidecars, mut peak) = (Amounts::default(), Amounts::default());
    for c in &s.init_containers {
        let own = requests(c, status);
        if c.restart_policy == "Always" {
            sidecars.add(&own);
            peak.max(&sidecars);
        } else {
            let mut moment = sidecars.clone();
            moment.add(&own);
            peak.max(&moment);
        }
    }
    sum.add(&sidecars);
    sum.max(&peak);
    if !s.resources.requests.is_empty() {
        let pod = Amounts::from_list(&s.resources.requests);
        if s.resources.requests.contains_key("cpu") {
            sum.cpu_milli = pod.cpu_milli;
        }
        if s.resources.requests.contains_key("memory") {
            sum.memory = pod.memory;
        }
    }
    sum.add(&Amounts::from_list(&s.overhead));
    sum.pods = 1;
    sum
}
