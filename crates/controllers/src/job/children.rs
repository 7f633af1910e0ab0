//! A job's pods: their marks, the bodies of new ones, and which go first when there are too many. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use api::Object;
use api::resource::JOBS;
use client::clock;
use serde_json::{Value, json};

use super::policy::{self, FailurePolicy, Verdict};
use crate::pods::Pod;
use crate::template;

/// Holds an ended pod until it is counted.
pub const TRACKING: &str = "batch.kubernetes.io/job-tracking";
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// Room for the random tail of a generated name.
const PREFIX: usize = 58;

pub fn is_tracked(o: &Object) -> bool {
    o.meta().finalizers().iter().any(|f| f == TRACKING)
}

pub fn index(pod: &Pod) -> Option<i64> {
    pod.annotation(INDEX)?.parse().ok().filter(|i| *i >= 0)
}

/// The pods' indexes.
pub fn indexes<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> BTreeSet<i64> {
    pods.into_iter().filter_map(index).collect()
}

fn count(pod: &Pod, annotation: &str) -> u32 {
    pod.annotation(annotation)
        .and_then(|v| v.parse::<i32>().ok())
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or(0)
}

/// Counted failures of the pod's index before this pod.
pub fn failures_before(pod: &Pod) -> u32 {
    count(pod, FAILURES)
}

/// All failures of the pod's index before this pod.
pub fn all_failures_before(pod: &Pod) -> u32 {
    count(pod, FAILURES).saturating_add(count(pod, IGNORED))
}

/// A pod to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewPod {
    pub index: Option<i64>,
    /// Counted and ignored failures of its index so far, where they are kept per index.
    pub failures: Option<(u32, u32)>,
}

impl NewPod {
    /// For an index whose failures count on their own; `replaces` is the failed pod before it.
    pub fn per_index(index: i64, replaces: Option<&Pod>, policy: Option<&FailurePolicy>) -> Self {
        let failures = replaces.map_or((0, 0), |p| {
            let (counted, ignored) = (count(p, FAILURES), count(p, IGNORED));
            match policy::judge(policy, p) {
                Verdict::Ignore => (counted, ignored.saturating_add(1)),
                _ => (counted.saturating_add(1), ignored),
            }
        });
        Self { index: Some(index), failures: Some(failures) }
    }

    pub fn body(&self, template: &Value, job: &Object) -> Value {
        let part = |field: &str| template[field].as_object().cloned().unwrap_or_default();
        let (mut meta, mut spec) = (part("metadata"), part("spec"));
        let mut finalizers = meta.get("finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
        if !finalizers.iter().any(|f| f == TRACKING) {
            finalizers.push(json!(TRACKING));
        }
        meta.insert("finalizers".into(), Value::Array(finalizers));
        let Some(index) = self.index else {
            return template::pod(&json!({ "metadata": meta, "spec": spec }), &JOBS, job);
        };
        let labels = BTreeMap::from([(INDEX, index.to_string())]);
        let mut annotations = labels.clone();
        if let Some((counted, ignored)) = self.failures {
            annotations.insert(FAILURES, counted.to_string());
            if ignored > 0 {
                annotations.insert(IGNORED, ignored.to_string());
            }
        }
        for (field, values) in [("labels", labels), ("annotations", annotations)] {
            let mut all = meta.get(field).and_then(Value::as_object).cloned().unwrap_or_default();
            all.extend(values.into_iter().map(|(k, v)| (k.to_owned(), json!(v))));
            meta.insert(field.into(), Value::Object(all));
        }
        spec.insert("hostname".into(), json!(format!("{}-{index}", job.name())));
        for list in ["initContainers", "containers"] {
            spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().for_each(tell_index);
        }
        let tail = format!("-{index}-");
        let base: String = job.name().chars().take(PREFIX.saturating_sub(tail.len())).collect();
        let identity = json!({ "generateName": format!("{base}{tail}") });
        template::named_pod(&json!({ "metadata": meta, "spec": spec }), &JOBS, job, identity)
    }
}

/// The environment variable with the index, unless the author has set it.
fn tell_index(container: &mut Value) {
    let Some(c) = container.as_object_mut() else { return };
    let mut env = c.get("env").and_then(Value::as_array).cloned().unwrap_or_default();
    if env.iter().any(|e| e["name"] == INDEX_VARIABLE) {
        return;
    }
    let path = format!("metadata.labels['{INDEX}']");
    env.push(json!({ "name": INDEX_VARIABLE, "valueFrom": { "fieldRef": { "fieldPath": path } } }));
    c.insert("env".into(), Value::Array(env));
}

/// At least `count` of the active pods, those that lose least first. Of an indexed job all go that stand twice for an
/// index, or for none.
pub fn surplus<'a>(active: &[&'a Pod], count: usize, completions: Option<i64>) -> Vec<&'a Pod> {
    let mut sorted = active.to_vec();
    sorted.sort_by_cached_key(|p| rank(p));
    let mut gone: Vec<&Pod> = Vec::new();
    if let Some(completions) = completions {
        // From the most valuable down: the first of an index stays.
        let mut seen = HashSet::new();
        sorted.reverse();
        let (stay, go): (Vec<&Pod>, Vec<&Pod>) =
            sorted.into_iter().partition(|p| index(p).is_some_and(|i| i < completions && seen.insert(i)));
        gone = go;
        sorted = stay;
        sorted.reverse();
    }
    let more = count.saturating_sub(gone.len());
    gone.extend(sorted.into_iter().take(more));
    gone
}

/// Not placed, not running, not ready, ready for a shorter time, restarted more often, younger: those go first.
fn rank(p: &Pod) -> impl Ord + use<> {
    let phase = match p.view.status.phase.as_str() {
        "Pending" => 0,
        "Running" => 2,
        _ => 1,
    };
    (
        !p.view.spec.node_name.is_empty(),
        phase,
        p.is_ready(),
        Reverse(p.ready_since()),
        Reverse(p.restarts()),
        Reverse(clock::parse(p.created())),
        p.object.uid().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Object {
        let v = json!({"metadata": {"name": "j".repeat(60), "namespace": "n", "uid": "u"}});
        Object::from_value(v, 1).expect("object")
    }

    fn pod(name: &str, index: Option<&str>, v: Value) -> Pod {
        let mut v = v;
        v["metadata"] = json!({"name": name, "uid": name, "annotations": index.map(|i| json!({INDEX: i}))});
        Pod::of(Object::from_value(v, 1).expect("object")).expect("pod")
    }

    #[test]
    fn an_indexed_pod_knows_its_index() {
        let template = json!({"metadata": {"labels": {"a": "b"}, "finalizers": ["x/y"]}, "spec": {
            "initContainers": [{"name": "i"}],
            "containers": [{"name": "c", "env": [{"name": INDEX_VARIABLE, "value": "own"}]}]}});
        let body = NewPod { index: Some(12), failures: Some((2, 0)) }.body(&template, &job());
        let meta = &body["metadata"];
        assert_eq!(meta["generateName"], format!("{}-12-", "j".repeat(54)));
        assert_eq!(meta["labels"], json!({"a": "b", INDEX: "12"}));
        assert_eq!(meta["annotations"], json!({INDEX: "12", FAILURES: "2"}));
        assert_eq!(meta["finalizers"], json!(["x/y", TRACKING]));
        assert_eq!(meta["ownerReferences"][0]["kind"], "Job");
        assert_eq!(body["spec"]["hostname"], format!("{}-12", "j".repeat(60)));
        let field = &body["spec"]["initContainers"][0]["env"][0]["valueFrom"]["fieldRef"]["fieldPath"];
        assert_eq!(field, &json!(format!("metadata.labels['{INDEX}']")));
        assert_eq!(body["spec"]["containers"][0]["env"], json!([{"name": INDEX_VARIABLE, "value": "own"}]));
    }

    #[test]
    fn a_plain_pod_is_only_tracked() {
        let body = NewPod::default().body(&json!({"spec": {"containers": [{"name": "c"}]}}), &job());
        assert_eq!(body["metadata"]["finalizers"], json!([TRACKING]));
        assert_eq!(body["metadata"]["generateName"], format!("{}-", "j".repeat(57)));
        assert_eq!(body["spec"], json!({"containers": [{"name": "c"}]}));
    }

    #[test]
    fn failures_are_handed_on_to_the_replacement() {
        let policy: FailurePolicy = serde_json::from_value(
            json!({"rules": [{"action": "Ignore", "onPodConditions": [{"type": "D", "status": "True"}]}]}),
        )
        .expect("policy");
        let mut failed = pod("p", Some("1"), json!({}));
        failed.view.metadata.annotations =
            Some([(FAILURES.into(), "3".into()), (IGNORED.into(), "x".into())].into());
        assert_eq!(NewPod::per_index(1, None, Some(&policy)).failures, Some((0, 0)));
        assert_eq!(NewPod::per_index(1, Some(&failed), Some(&policy)).failures, Some((4, 0)));
        failed.view.status.conditions =
            serde_json::from_value(json!([{"type": "D", "status": "True"}])).expect("conditions");
        assert_eq!(NewPod::per_index(1, Some(&failed), Some(&policy)).failures, Some((3, 1)));
    }

    #[test]
    fn those_that_lose_least_go_first() {
        let placed = |phase: &str| json!({"spec": {"nodeName": "n"}, "status": {"phase": phase}});
        let ready = |at: &str| {
            json!({"spec": {"nodeName": "n"}, "status": {"phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at}]}})
        };
        let all = [
            pod("old", Some("0"), ready("2026-01-01T00:00:00Z")),
            pod("new", Some("0"), ready("2026-01-02T00:00:00Z")),
            pod("running", Some("1"), placed("Running")),
            pod("pending", Some("1"), placed("Pending")),
            pod("unplaced", Some("2"), json!({})),
            pod("beyond", Some("9"), placed("Running")),
            pod("none", None, placed("Running")),
        ];
        let refs: Vec<&Pod> = all.iter().collect();
        let names = |v: Vec<&Pod>| {
            let mut n: Vec<String> = v.iter().map(|p| p.object.name().to_owned()).collect();
            n.sort();
            n.join(" ")
        };
        assert_eq!(names(surplus(&refs, 2, None)), "pending unplaced");
        assert_eq!(names(surplus(&refs, 0, Some(3))), "beyond new none pending");
        assert_eq!(names(surplus(&refs, 5, Some(3))), "beyond new none pending unplaced");
        assert_eq!(names(surplus(&refs[..2], 1, None)), "new");
    }
}
