//! What several loops need to know about a pod, as one small view.

use std::time::Duration;

use api::Object;
use api::object::DecodeError;
use jiff::Timestamp;
use serde::Deserialize;

use crate::skeleton::Next;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PodView {
    pub metadata: PodMeta,
    pub spec: PodSpec,
    pub status: PodStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PodMeta {
    pub annotations: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    pub node_name: String,
    pub hostname: String,
    pub subdomain: String,
    pub restart_policy: String,
    pub init_containers: Vec<InitContainer>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InitContainer {
    pub name: String,
    pub restart_policy: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    pub phase: String,
    pub reason: String,
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    #[serde(rename = "podIPs")]
    pub pod_ips: Vec<PodIp>,
    pub conditions: Vec<Condition>,
    pub container_statuses: Vec<ContainerStatus>,
    pub init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PodIp {
    pub ip: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    pub name: String,
    pub restart_count: i64,
    pub state: ContainerState,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    pub terminated: Option<Terminated>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Terminated {
    pub exit_code: i64,
    pub finished_at: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    pub r#type: String,
    pub status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<String>,
}

/// A pod with its parsed view.
#[derive(Debug, Clone)]
pub struct Pod {
    pub object: Object,
    pub view: PodView,
}

impl Pod {
    pub fn of(object: Object) -> Result<Self, DecodeError> {
        let view = object.view()?;
        Ok(Self { object, view })
    }

    /// Neither ended nor on its way out.
    pub fn is_active(&self) -> bool {
        !self.is_finished() && !self.object.meta().is_deleting()
    }

    pub fn is_finished(&self) -> bool {
        matches!(self.view.status.phase.as_str(), "Succeeded" | "Failed")
    }

    pub fn condition(&self, name: &str) -> Option<&Condition> {
        self.view.status.conditions.iter().find(|c| c.r#type == name)
    }

    pub fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|c| c.status == "True")
    }

    /// Since when it is ready.
    pub fn ready_since(&self) -> Option<Timestamp> {
        let c = self.condition("Ready").filter(|c| c.status == "True")?;
        client::clock::parse(c.last_transition_time.as_deref()?)
    }

    /// Ready for at least `min_ready_seconds`.
    pub fn is_available(&self, min_ready_seconds: i64, now: Timestamp) -> bool {
        self.is_ready()
            && (min_ready_seconds <= 0
                || self.ready_since().is_some_and(|t| now.duration_since(t).as_secs() >= min_ready_seconds))
    }

    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.view.metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }

    /// The most restarts of one container, and of one sidecar.
    pub fn restarts(&self) -> (i64, i64) {
        let most =
            |all: &mut dyn Iterator<Item = &ContainerStatus>| all.map(|c| c.restart_count).max().unwrap_or(0);
        let sidecar = |name: &str| {
            self.view.spec.init_containers.iter().any(|c| c.name == name && c.restart_policy == "Always")
        };
        let status = &self.view.status;
        let mut sidecars = status.init_container_statuses.iter().filter(|c| sidecar(&c.name));
        (most(&mut status.container_statuses.iter()), most(&mut sidecars))
    }

    /// On its way out, and still running.
    pub fn is_terminating(&self) -> bool {
        self.object.meta().is_deleting() && !self.is_finished()
    }

    pub fn created(&self) -> &str {
        self.object.meta().creation_timestamp().unwrap_or_default()
    }
}

/// Those that decode; what the API accepted always does.
pub fn parse(objects: Vec<Object>) -> Result<Vec<Pod>, DecodeError> {
    objects.into_iter().map(Pod::of).collect()
}

/// When the next ready pod becomes available by time alone.
pub fn next_available(active: &[Pod], min_ready: i64, now: Timestamp) -> Next {
    if min_ready <= 0 {
        return Next::Wait;
    }
    let soonest = active
        .iter()
        .filter(|p| p.is_ready() && !p.is_available(min_ready, now))
        .filter_map(|p| p.ready_since())
        .map(|t| min_ready - now.duration_since(t).as_secs())
        .min();
    match soonest {
        Some(s) => Next::After(Duration::from_secs(u64::try_from(s.max(1)).unwrap_or(1))),
        None => Next::Wait,
    }
}
