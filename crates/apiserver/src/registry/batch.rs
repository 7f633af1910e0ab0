//! Jobs and cron jobs: a job's selector and its pods' labels are made from its uid, unless its author does that.

use api::validation::names;
use serde_json::{Map, Value, json};

use super::{Strategy, status};

pub struct Jobs;
pub struct CronJobs;

/// Both have a name with the project's prefix, and one from before there was a prefix.
const UID: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

/// The map at that place, made when it is not there.
fn map<'a>(v: &'a mut Value, path: &[&str]) -> Option<&'a mut Map<String, Value>> {
    let mut at = v;
    for field in path {
        at = at.as_object_mut()?.entry(*field).or_insert_with(|| json!({}));
        if at.is_null() {
            *at = json!({});
        }
    }
    at.as_object_mut()
}

impl Strategy for Jobs {
    /// What the author has set himself stays; validation holds it against what it has to be.
    fn prepare_create(&self, new: &mut Value) {
        status::clear_status(new);
        if new.pointer("/spec/manualSelector").and_then(Value::as_bool) == Some(true) {
            return;
        }
        let uid = new["metadata"]["uid"].clone();
        let name = new["metadata"]["name"].clone();
        if let Some(labels) = map(new, &["spec", "template", "metadata", "labels"]) {
            for (keys, value) in [(UID, &uid), (NAME, &name)] {
                for key in keys {
                    labels.entry(key).or_insert_with(|| value.clone());
                }
            }
        }
        if let Some(wanted) = map(new, &["spec", "selector", "matchLabels"]) {
            wanted.entry(UID[0]).or_insert(uid);
        }
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        warnings(new, old, &new["spec"])
    }
}

impl Strategy for CronJobs {
    fn prepare_create(&self, new: &mut Value) {
        status::clear_status(new);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        warnings(new, old, &new["spec"]["jobTemplate"]["spec"])
    }
}

fn warnings(new: &Value, old: Option<&Value>, spec: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let why = names::dns1123_label(new["metadata"]["name"].as_str().unwrap_or_default());
    if old.is_none() && !why.is_empty() {
        out.push(format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{}]",
            why.join(" ")
        ));
    }
    let above = |field: &str, limit: i64| spec[field].as_i64().is_some_and(|n| n > limit);
    if spec["completionMode"] == "Indexed" && above("completions", 100_000) && above("parallelism", 10_000) {
        out.push(
            "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
                .into(),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_selects_its_own_pods() {
        let mut v = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {"spec": {}}}, "status": {"active": 1}});
        Jobs.prepare_create(&mut v);
        assert_eq!(v["spec"]["selector"]["matchLabels"], json!({"batch.kubernetes.io/controller-uid": "u"}));
        assert_eq!(v["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
        assert_eq!(v["status"], json!({}));
        let mut v =
            json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"manualSelector": true, "template": {}}});
        Jobs.prepare_create(&mut v);
        assert!(v["spec"].get("selector").is_none());
    }

    #[test]
    fn what_the_author_set_is_not_overwritten() {
        let mut v = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b", "controller-uid": "other"}}}}});
        Jobs.prepare_create(&mut v);
        let labels = &v["spec"]["template"]["metadata"]["labels"];
        assert_eq!(
            (&labels["controller-uid"], &labels["batch.kubernetes.io/job-name"]),
            (&json!("other"), &json!("j"))
        );
        assert_eq!(
            v["spec"]["selector"]["matchLabels"],
            json!({"a": "b", "batch.kubernetes.io/controller-uid": "u"})
        );
    }

    #[test]
    fn names_that_make_odd_pods_are_warned_about() {
        let v = json!({"metadata": {"name": "a.b"}, "spec": {}});
        assert!(Jobs.warnings(&v, None)[0].starts_with("metadata.name: this is used in Pod names"));
        assert!(CronJobs.warnings(&v, Some(&v)).is_empty());
    }
}
