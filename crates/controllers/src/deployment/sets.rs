//! A Deployment and its ReplicaSets as small views: what the decisions read, nothing else. Pure.

use api::Object;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::pods::Condition;
use crate::skeleton::Error;

pub const REVISION: &str = "deployment.kubernetes.io/revision";
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
pub const ROLLBACK: &str = "deprecated.deployment.rollback.to";
pub const HASH_LABEL: &str = "pod-template-hash";

#[derive(Deserialize)]
pub struct View {
    pub metadata: Annotated,
    pub spec: Spec,
    #[serde(default)]
    pub status: Value,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Annotated {
    pub annotations: Option<Map<String, Value>>,
}

impl Annotated {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name)?.as_str()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    #[serde(default)]
    replicas: Option<i64>,
    pub selector: Value,
    pub template: Value,
    #[serde(default)]
    pub strategy: Value,
    #[serde(default)]
    pub min_ready_seconds: i64,
    #[serde(default)]
    revision_history_limit: Option<i64>,
    #[serde(default)]
    progress_deadline_seconds: Option<i64>,
    #[serde(default)]
    pub paused: bool,
}

impl Spec {
    pub fn desired(&self) -> i64 {
        self.replicas.unwrap_or(1)
    }

    /// The largest number stands for "no deadline", as upstream has it; so it does for the history.
    pub fn deadline(&self) -> Option<i64> {
        self.progress_deadline_seconds.filter(|s| *s < i64::from(i32::MAX))
    }

    pub fn history_limit(&self) -> Option<usize> {
        self.revision_history_limit.filter(|l| *l < i64::from(i32::MAX)).and_then(|l| usize::try_from(l).ok())
    }

    /// An empty selector would take every pod.
    pub fn selects_all(&self) -> bool {
        let empty = |v: &Value| match v {
            Value::Object(m) => m.is_empty(),
            Value::Array(a) => a.is_empty(),
            _ => true,
        };
        empty(&self.selector["matchLabels"]) && empty(&self.selector["matchExpressions"])
    }
}

/// A ReplicaSet of the deployment with what the decisions need.
#[derive(Debug, Clone)]
pub struct Rs {
    pub object: Object,
    pub template: Value,
    pub annotations: Map<String, Value>,
    pub min_ready_seconds: i64,
    pub replicas: i64,
    pub status_replicas: i64,
    pub ready: i64,
    pub available: i64,
    /// `None` until its loop has counted.
    pub terminating: Option<i64>,
    pub conditions: Vec<Condition>,
    pub observed: bool,
}

impl Rs {
    pub fn of(object: Object) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct V {
            metadata: Annotated,
            spec: S,
            #[serde(default)]
            status: T,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct S {
            #[serde(default)]
            replicas: Option<i64>,
            #[serde(default)]
            template: Value,
            #[serde(default)]
            min_ready_seconds: i64,
        }
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "camelCase", default)]
        struct T {
            replicas: i64,
            ready_replicas: i64,
            available_replicas: i64,
            terminating_replicas: Option<i64>,
            observed_generation: i64,
            conditions: Option<Vec<Condition>>,
        }
        let v: V = object.view()?;
        Ok(Self {
            template: v.spec.template,
            annotations: v.metadata.annotations.unwrap_or_default(),
            min_ready_seconds: v.spec.min_ready_seconds,
            replicas: v.spec.replicas.unwrap_or(1),
            status_replicas: v.status.replicas,
            ready: v.status.ready_replicas,
            available: v.status.available_replicas,
            terminating: v.status.terminating_replicas,
            conditions: v.status.conditions.unwrap_or_default(),
            observed: v.status.observed_generation >= object.meta().generation,
            object,
        })
    }

    pub fn name(&self) -> &str {
        self.object.name()
    }

    pub fn revision(&self) -> i64 {
        self.annotation_number(REVISION).unwrap_or(0)
    }

    pub fn annotation_number(&self, name: &str) -> Option<i64> {
        self.annotations.get(name)?.as_str()?.parse().ok()
    }

    /// Orders by age, the oldest first; names decide among equals.
    pub fn older(a: &Rs, b: &Rs) -> std::cmp::Ordering {
        a.object.by_age(&b.object)
    }
}

pub struct Sets {
    /// The one with the present template.
    pub new: Option<Rs>,
    /// All others, oldest first.
    pub old: Vec<Rs>,
}

impl Sets {
    /// Tells the newest template's set from the others. Of several the oldest is it, so that the choice is stable.
    pub fn sort(mut all: Vec<Rs>, template: &Value) -> Self {
        all.sort_by(Rs::older);
        let newest = all.iter().position(|rs| same_template(&rs.template, template));
        Self { new: newest.map(|i| all.remove(i)), old: all }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Rs> {
        self.old.iter().chain(self.new.iter())
    }
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Rs> {
        self.old.iter_mut().chain(self.new.iter_mut())
    }
    pub fn total(&self) -> i64 {
        self.iter().map(|r| r.replicas).sum()
    }
    pub fn status_total(&self) -> i64 {
        self.iter().map(|r| r.status_replicas).sum()
    }
    pub fn available(&self) -> i64 {
        self.iter().map(|r| r.available).sum()
    }
}

/// Whether two templates are the same but for the hash label that this loop adds.
pub fn same_template(a: &Value, b: &Value) -> bool {
    let strip = |v: &Value| {
        let mut v = v.clone();
        let labels = v.get_mut("metadata").and_then(|m| m.get_mut("labels")).and_then(Value::as_object_mut);
        if let Some(l) = labels {
            l.remove(HASH_LABEL);
            if l.is_empty() {
                v["metadata"].as_object_mut().map(|m| m.remove("labels"));
            }
        }
        v
    };
    strip(a) == strip(b)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;

    pub fn rs(name: &str, replicas: i64, available: i64) -> Rs {
        let object = Object::from_value(json!({"metadata": {"name": name}}), 1).expect("object");
        Rs {
            object,
            template: Value::Null,
            annotations: Map::new(),
            min_ready_seconds: 0,
            replicas,
            status_replicas: replicas,
            ready: available,
            available,
            terminating: Some(0),
            conditions: Vec::new(),
            observed: true,
        }
    }

    #[test]
    fn templates_are_compared_without_the_hash() {
        let t =
            |labels: Value, image: &str| json!({"metadata": {"labels": labels}, "spec": {"image": image}});
        assert!(same_template(&t(json!({"a": "b", HASH_LABEL: "x"}), "1"), &t(json!({"a": "b"}), "1")));
        assert!(same_template(
            &t(json!({HASH_LABEL: "x"}), "1"),
            &json!({"metadata": {}, "spec": {"image": "1"}})
        ));
        assert!(!same_template(&t(json!({"a": "b"}), "1"), &t(json!({"a": "b"}), "2")));
    }

    #[test]
    fn the_largest_number_is_no_limit_and_an_empty_selector_takes_all() {
        let spec = |v: Value| -> Spec { serde_json::from_value(v).expect("spec") };
        let s = spec(
            json!({"selector": {}, "template": {}, "progressDeadlineSeconds": i32::MAX, "revisionHistoryLimit": i32::MAX}),
        );
        assert_eq!((s.deadline(), s.history_limit(), s.selects_all(), s.desired()), (None, None, true, 1));
        let s = spec(
            json!({"selector": {"matchLabels": {"a": "b"}}, "template": {}, "progressDeadlineSeconds": 5, "revisionHistoryLimit": 0}),
        );
        assert_eq!((s.deadline(), s.history_limit(), s.selects_all()), (Some(5), Some(0), false));
    }
}
