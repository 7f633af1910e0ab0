//! A job as the loops see it: the fields of its specification that they read, and its status, which they write.

use api::Object;
use api::object::DecodeError;
use api::selector::LabelSelector;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::policy::{FailurePolicy, SuccessPolicy};

/// This controller's name in `spec.managedBy`.
const OURSELVES: &str = "kubernetes.io/job-controller";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Job {
    pub spec: Spec,
    pub status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    pub parallelism: Option<i64>,
    pub completions: Option<i64>,
    pub active_deadline_seconds: Option<i64>,
    pub backoff_limit: Option<i64>,
    pub backoff_limit_per_index: Option<i64>,
    pub max_failed_indexes: Option<i64>,
    pub ttl_seconds_after_finished: Option<i64>,
    pub completion_mode: Option<String>,
    pub suspend: Option<bool>,
    pub selector: Value,
    pub template: Value,
    pub pod_failure_policy: Option<FailurePolicy>,
    pub success_policy: Option<SuccessPolicy>,
    pub pod_replacement_policy: Option<String>,
    pub managed_by: Option<String>,
}

impl Spec {
    pub fn is_indexed(&self) -> bool {
        self.completion_mode.as_deref() == Some("Indexed")
    }

    pub fn knows_mode(&self) -> bool {
        matches!(self.completion_mode.as_deref(), None | Some("Indexed" | "NonIndexed"))
    }

    pub fn suspended(&self) -> bool {
        self.suspend == Some(true)
    }

    /// A replacement waits until its predecessor has really ended.
    pub fn replaces_ended_only(&self) -> bool {
        self.pod_replacement_policy.as_deref() == Some("Failed") || self.pod_failure_policy.is_some()
    }

    /// Another controller looks after this job.
    pub fn managed_elsewhere(&self) -> bool {
        self.managed_by.as_deref().is_some_and(|m| m != OURSELVES)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    #[serde(skip_serializing_if = "is_zero")]
    pub active: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub succeeded: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub failed: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminating: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub completed_indexes: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_indexes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncounted_terminated_pods: Option<Uncounted>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Pods that have ended, whose finalizer may be on its way out, and that no counter holds yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Uncounted {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub succeeded: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    pub r#type: String,
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_probe_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Condition {
    pub fn new(r#type: &str, on: bool, reason: &str, message: &str, now: Timestamp) -> Self {
        let now = client::clock::rfc3339(now);
        Self {
            r#type: r#type.into(),
            status: if on { "True" } else { "False" }.into(),
            last_probe_time: Some(now.clone()),
            last_transition_time: Some(now),
            reason: reason.into(),
            message: message.into(),
        }
    }
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

impl Status {
    /// The condition of that type, when it is true.
    pub fn on(&self, r#type: &str) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.r#type == r#type && c.status == "True")
    }

    /// The condition that ended the job.
    pub fn end(&self) -> Option<&Condition> {
        self.on("Complete").or_else(|| self.on("Failed"))
    }

    /// Sets a condition; false when nothing changed. What was never there is not set to false.
    pub fn set(&mut self, new: Condition) -> bool {
        match self.conditions.iter_mut().find(|c| c.r#type == new.r#type) {
            Some(old)
                if (&old.status, &old.reason, &old.message) == (&new.status, &new.reason, &new.message) =>
            {
                false
            }
            Some(old) => {
                *old = new;
                true
            }
            None if new.status == "False" => false,
            None => {
                self.conditions.push(new);
                true
            }
        }
    }

    pub fn start(&self) -> Option<Timestamp> {
        client::clock::parse(self.start_time.as_deref()?)
    }

    /// The job with this status; fields of the status that nobody here knows stay.
    pub fn onto(&self, job: &Object) -> Result<Value, DecodeError> {
        let mut v = job.value()?;
        let mut status = v.get("status").and_then(Value::as_object).cloned().unwrap_or_default();
        for known in KNOWN {
            status.remove(*known);
        }
        if let Value::Object(ours) = serde_json::to_value(self)? {
            status.extend(ours);
        }
        if let Some(o) = v.as_object_mut() {
            o.insert("status".into(), Value::Object(status));
        }
        Ok(v)
    }
}

const KNOWN: &[&str] = &[
    "active",
    "succeeded",
    "failed",
    "ready",
    "terminating",
    "startTime",
    "completionTime",
    "completedIndexes",
    "failedIndexes",
    "uncountedTerminatedPods",
    "conditions",
];

/// The job's selector; the API lets no job in whose selector cannot be read.
pub fn selector(spec: &Spec) -> Result<LabelSelector, api::Status> {
    LabelSelector::from_value(&spec.selector).map_err(|e| api::Status::bad_request(e.to_string()))
}
