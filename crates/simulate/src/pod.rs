//! What is kept of a pod: few bytes each, since there are many, and what pods of one template share only once. Pure.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use api::Object;
use api::object::DecodeError;
use serde::Deserialize;

use crate::stage::Stage;

/// Seconds that a container runs, where it would end by itself.
pub const RUNS_FOR: &str = "kelson.dev/simulated-run-seconds";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Restart {
    #[default]
    Always,
    OnFailure,
    Never,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Container {
    pub name: Box<str>,
    pub image: Box<str>,
    /// An init container that goes on running.
    pub sidecar: bool,
}

/// What pods of one template have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Template {
    pub init: Vec<Container>,
    pub containers: Vec<Container>,
    pub restart: Restart,
    /// Seconds until it can be ready: the longest `initialDelaySeconds` of its readiness and start-up probes.
    pub ready_after: u32,
    pub runs_for: Option<u32>,
    pub host_network: bool,
    pub gates: Vec<Box<str>>,
}

/// Each template once.
#[derive(Debug, Default)]
pub struct Templates(HashSet<Arc<Template>>);

impl Templates {
    pub fn share(&mut self, t: Template) -> Arc<Template> {
        if let Some(known) = self.0.get(&t) {
            return known.clone();
        }
        // Those that no pod has any more.
        if self.0.len() > 1024 && self.0.len().is_power_of_two() {
            self.0.retain(|t| Arc::strong_count(t) > 1);
        }
        let t = Arc::new(t);
        self.0.insert(t.clone());
        t
    }
}

#[derive(Debug)]
pub struct Pod {
    pub namespace: Arc<str>,
    pub name: Box<str>,
    pub uid: u128,
    /// The node's number.
    pub node: u32,
    pub template: Arc<Template>,
    pub stage: Stage,
    pub tries: u8,
    pub restarts: u16,
    pub deleting: bool,
    pub grace: u32,
    /// Its number in the node's block.
    pub address: Option<u8>,
    /// Seconds since the epoch: it came to the node; its container started, or ended.
    pub came: i64,
    pub started: i64,
    pub ended: i64,
    /// Counts what was planned for it: a plan of before is void.
    pub plan: u32,
    /// A write of it is under way.
    pub busy: bool,
    /// The list in which it was seen last.
    pub round: u32,
}

/// What is read of a pod's object.
#[derive(Debug)]
pub struct Seen {
    pub uid: u128,
    pub node: String,
    pub template: Template,
    pub deleting: bool,
    pub grace: u32,
    /// What its status says of how far it has come.
    pub stage: Stage,
    pub restarts: u16,
    pub ip: String,
    pub came: Option<i64>,
    pub started: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct View {
    metadata: MetaView,
    spec: SpecView,
    status: StatusView,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MetaView {
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SpecView {
    node_name: String,
    restart_policy: String,
    termination_grace_period_seconds: Option<u32>,
    host_network: bool,
    containers: Vec<ContainerView>,
    init_containers: Vec<ContainerView>,
    readiness_gates: Vec<GateView>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ContainerView {
    name: String,
    image: String,
    restart_policy: String,
    readiness_probe: ProbeView,
    startup_probe: ProbeView,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ProbeView {
    initial_delay_seconds: u32,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct GateView {
    condition_type: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct StatusView {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
    start_time: Option<String>,
    conditions: Vec<ConditionView>,
    container_statuses: Vec<ContainerStatusView>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ConditionView {
    r#type: String,
    status: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatusView {
    restart_count: u16,
    state: StateView,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct StateView {
    running: Option<RunningView>,
    waiting: Option<WaitingView>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RunningView {
    started_at: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WaitingView {
    reason: String,
}

fn seconds(time: Option<&str>) -> Option<i64> {
    time.and_then(client::clock::parse).map(|t| t.as_second())
}

fn stage(s: &StatusView) -> Stage {
    let first = s.container_statuses.first();
    let ready = s.conditions.iter().any(|c| c.r#type == "ContainersReady" && c.status == "True");
    match s.phase.as_str() {
        "Succeeded" => return Stage::Done,
        "Failed" => return Stage::Failed,
        "Running" if ready => return Stage::Ready,
        _ => {}
    }
    match first.map(|c| &c.state) {
        Some(StateView { running: Some(_), .. }) => Stage::Started,
        Some(StateView { waiting: Some(w), .. }) => match w.reason.as_str() {
            "CrashLoopBackOff" => Stage::Crashed,
            "ErrImagePull" | "ImagePullBackOff" => Stage::BackingOff,
            _ => Stage::Creating,
        },
        _ => Stage::Bound,
    }
}

impl Seen {
    /// `None` within: its uid is none, which no API server gives.
    pub fn of(o: &Object) -> Result<Option<Self>, DecodeError> {
        let v: View = o.view()?;
        let Ok(uid) = o.uid().parse::<uuid::Uuid>() else { return Ok(None) };
        let container = |c: &ContainerView| Container {
            name: c.name.as_str().into(),
            image: c.image.as_str().into(),
            sidecar: c.restart_policy == "Always",
        };
        let delays = v
            .spec
            .containers
            .iter()
            .map(|c| c.readiness_probe.initial_delay_seconds.max(c.startup_probe.initial_delay_seconds));
        let runs_for = v.metadata.annotations.as_ref().and_then(|a| a.get(RUNS_FOR)?.parse().ok());
        let template = Template {
            init: v.spec.init_containers.iter().map(container).collect(),
            containers: v.spec.containers.iter().map(container).collect(),
            restart: match v.spec.restart_policy.as_str() {
                "Never" => Restart::Never,
                "OnFailure" => Restart::OnFailure,
                _ => Restart::Always,
            },
            ready_after: delays.max().unwrap_or(0),
            runs_for,
            host_network: v.spec.host_network,
            gates: v.spec.readiness_gates.iter().map(|g| g.condition_type.as_str().into()).collect(),
        };
        let grace = o.meta().deletion_grace_period_seconds().and_then(|g| u32::try_from(g).ok());
        let restarts = v.status.container_statuses.iter().map(|c| c.restart_count).max().unwrap_or(0);
        let running = v.status.container_statuses.first().and_then(|c| c.state.running.as_ref());
        Ok(Some(Self {
            uid: uid.as_u128(),
            node: v.spec.node_name,
            template,
            deleting: o.meta().is_deleting(),
            grace: grace.or(v.spec.termination_grace_period_seconds).unwrap_or(30),
            stage: stage(&v.status),
            restarts,
            ip: v.status.pod_ip.clone(),
            came: seconds(v.status.start_time.as_deref()),
            started: running.and_then(|r| seconds(r.started_at.as_deref())),
        }))
    }
}

/// A uid as objects carry it.
pub fn uid_text(uid: u128) -> String {
    uuid::Uuid::from_u128(uid).to_string()
}

/// A name for a container of a pod that nobody looks up: 64 hexadecimal digits, new with each restart.
pub fn container_id(uid: u128, name: &str, restarts: u16) -> String {
    let mut h = std::collections::hash_map::DefaultHasher::new();
    (uid, name, restarts).hash(&mut h);
    format!("simulated://{:016x}{uid:032x}{restarts:016x}", h.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_is_read_and_templates_are_shared() {
        let pod = |n: u32, extra: &str| {
            let v = json!({"metadata": {"name": format!("p{n}"), "namespace": "d", "uid": format!("00000000-0000-0000-0000-{n:012}"),
                "annotations": {RUNS_FOR: "7"}},
                "spec": {"nodeName": "sim-1", "restartPolicy": extra, "containers": [{"name": "c", "image": "i", "readinessProbe": {"initialDelaySeconds": 4}}]},
                "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "ContainersReady", "status": "True"}],
                    "containerStatuses": [{"restartCount": 2, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}});
            Seen::of(&Object::from_value(v, 1).expect("object")).expect("a pod").expect("a uid")
        };
        let a = pod(1, "Never");
        assert_eq!((a.stage, a.restarts, a.grace, a.uid), (Stage::Ready, 2, 30, 1));
        assert_eq!(
            (a.template.ready_after, a.template.runs_for, a.template.restart),
            (4, Some(7), Restart::Never)
        );
        assert_eq!(a.started, Some(1_767_225_600));
        let mut all = Templates::default();
        let (x, y) = (all.share(a.template), all.share(pod(2, "Never").template));
        assert!(Arc::ptr_eq(&x, &y));
        assert!(!Arc::ptr_eq(&x, &all.share(pod(3, "Always").template)));
        assert_eq!(container_id(1, "c", 0).len(), "simulated://".len() + 64);
        assert_ne!(container_id(1, "c", 0), container_id(1, "c", 1));
    }

    #[test]
    fn a_pod_is_small() {
        // Half a million of them have to fit beside the API server.
        assert!(size_of::<Pod>() <= 136, "{}", size_of::<Pod>());
    }
}
