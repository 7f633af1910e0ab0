//! What the loop reads of an autoscaler, in autoscaling/v2's form.

use api::quantity::Quantity;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct View {
    pub spec: Spec,
    pub status: Value,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    pub scale_target_ref: Reference,
    pub min_replicas: Option<i32>,
    pub max_replicas: i32,
    pub metrics: Vec<Metric>,
    pub behavior: Option<Behavior>,
}

impl Spec {
    pub fn min(&self) -> i32 {
        self.min_replicas.unwrap_or(1)
    }

    /// Only what is measured elsewhere can tell that the first pod is needed.
    pub fn measures_outside(&self) -> bool {
        self.metrics.iter().any(|m| matches!(m.r#type.as_str(), "Object" | "External"))
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reference {
    pub api_version: String,
    pub kind: String,
    pub name: String,
}

impl Reference {
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(g, _)| g)
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Behavior {
    pub scale_up: Rules,
    pub scale_down: Rules,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rules {
    pub stabilization_window_seconds: Option<i64>,
    pub select_policy: Option<String>,
    pub policies: Vec<Policy>,
    pub tolerance: Option<String>,
}

impl Rules {
    pub fn tolerance(&self) -> Option<f64> {
        Quantity::parse(self.tolerance.as_deref()?).ok().map(|q| q.as_f64())
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    pub r#type: String,
    pub value: i32,
    pub period_seconds: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metric {
    pub r#type: String,
    pub resource: Option<Resource>,
    pub container_resource: Option<Resource>,
    pub pods: Option<Custom>,
    pub object: Option<Custom>,
    pub external: Option<Custom>,
}

/// Of a pod, or of one of its containers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Resource {
    pub name: String,
    pub container: String,
    pub target: Target,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Custom {
    pub metric: Identifier,
    pub target: Target,
    /// As it stands, for the status.
    pub described_object: Value,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Identifier {
    pub name: String,
    pub selector: Value,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Target {
    pub r#type: String,
    pub value: Option<String>,
    pub average_value: Option<String>,
    pub average_utilization: Option<i32>,
}

/// Thousandths of a quantity; the API has taken it, so it can be read.
pub fn milli(q: Option<&String>) -> Option<i64> {
    Quantity::parse(q?).ok().map(|q| q.milli_value())
}
