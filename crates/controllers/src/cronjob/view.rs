//! A cron job as its loop sees it, and the jobs it makes.

use api::Object;
use api::object::DecodeError;
use api::resource::CRON_JOBS;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::plan::Policy;
use crate::job::view::Job;
use crate::owners::controller_ref;

const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CronJob {
    pub spec: Spec,
    pub status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    pub schedule: String,
    pub time_zone: Option<String>,
    pub suspend: Option<bool>,
    pub starting_deadline_seconds: Option<i64>,
    pub concurrency_policy: String,
    pub successful_jobs_history_limit: Option<i64>,
    pub failed_jobs_history_limit: Option<i64>,
    pub job_template: Value,
}

impl Spec {
    pub fn policy(&self) -> Policy {
        match self.concurrency_policy.as_str() {
            "Forbid" => Policy::Forbid,
            "Replace" => Policy::Replace,
            _ => Policy::Allow,
        }
    }

    /// UTC, unless it is said otherwise; `None` for a zone that nobody knows.
    pub fn zone(&self) -> Option<TimeZone> {
        api::cron::zone(self.time_zone.as_deref().unwrap_or_default())
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub active: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<String>,
}

impl Status {
    pub fn is_active(&self, uid: &str) -> bool {
        self.active.iter().any(|r| r["uid"] == uid)
    }

    pub fn drop_active(&mut self, uid: &str) {
        self.active.retain(|r| r["uid"] != uid);
    }

    pub fn add_active(&mut self, job: &Object) {
        let about = client::ObjectRef::of(&api::resource::JOBS, job);
        self.active.push(json!(about));
    }

    /// The cron job with this status.
    pub fn onto(&self, cron: &Object) -> Result<Value, DecodeError> {
        let mut v = cron.value()?;
        if let Some(o) = v.as_object_mut() {
            o.insert("status".into(), serde_json::to_value(self)?);
        }
        Ok(v)
    }
}

/// One of its jobs.
#[derive(Debug, Clone)]
pub struct Child {
    pub object: Object,
    /// `Complete` or `Failed`.
    pub ended: Option<String>,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<String>,
}

impl Child {
    pub fn of(object: Object) -> Result<Self, DecodeError> {
        let view: Job = object.view()?;
        Ok(Self {
            ended: view.status.end().map(|c| c.r#type.clone()),
            started_at: view.status.start(),
            completed_at: view.status.completion_time,
            object,
        })
    }

    pub fn succeeded(&self) -> bool {
        self.ended.as_deref() == Some("Complete")
    }
}

/// The jobs beyond the history limits, oldest first.
pub fn beyond_history<'a>(spec: &Spec, children: &'a [Child]) -> Vec<&'a Child> {
    let mut out = Vec::new();
    for (kind, limit) in
        [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)]
    {
        let Some(limit) = limit.and_then(|l| usize::try_from(l).ok()) else { continue };
        let mut ended: Vec<&Child> = children.iter().filter(|c| c.ended.as_deref() == Some(kind)).collect();
        // What never started is the youngest.
        ended.sort_by_key(|c| (c.started_at.is_none(), c.started_at, c.object.name().to_owned()));
        let surplus = ended.len().saturating_sub(limit);
        out.extend(ended.into_iter().take(surplus));
    }
    out
}

/// Named after its minute, so that no second one is made for it.
pub fn job_name(cron: &str, at: Timestamp) -> String {
    format!("{cron}-{}", at.as_second().div_euclid(60))
}

/// The job of that time.
pub fn job(cron: &Object, spec: &Spec, at: Timestamp) -> Value {
    let template = &spec.job_template;
    let zone = spec.zone().unwrap_or(TimeZone::UTC);
    let time = if zone == TimeZone::UTC {
        client::clock::rfc3339(at)
    } else {
        at.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    };
    let mut annotations = template["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    annotations.insert(SCHEDULED.into(), json!(time));
    let mut metadata = json!({ "name": job_name(cron.name(), at), "annotations": annotations,
        "ownerReferences": [controller_ref(&CRON_JOBS, cron)] });
    if let Some(labels) = template["metadata"].get("labels").filter(|l| !l.is_null()) {
        metadata["labels"] = labels.clone();
    }
    json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(name: &str, ended: &str, started: Option<&str>) -> Child {
        let v = json!({"metadata": {"name": name, "uid": name}, "status": {"startTime": started,
            "conditions": [{"type": ended, "status": "True"}]}});
        Child::of(Object::from_value(v, 1).expect("job")).expect("view")
    }

    #[test]
    fn the_oldest_go_beyond_the_limits() {
        let (first, second) = (Some("2026-01-01T00:00:00Z"), Some("2026-01-01T00:01:00Z"));
        let all = [
            child("b", "Complete", second),
            child("a", "Complete", first),
            child("c", "Complete", None),
            child("f", "Failed", first),
            child("g", "Failed", first),
            child("r", "Suspended", first),
        ];
        let names = |ok: Option<i64>, bad: Option<i64>| {
            let spec =
                Spec { successful_jobs_history_limit: ok, failed_jobs_history_limit: bad, ..Spec::default() };
            beyond_history(&spec, &all).iter().map(|c| c.object.name()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(Some(3), Some(2)), "");
        assert_eq!(names(Some(1), Some(1)), "a b f");
        assert_eq!(names(Some(0), None), "a b c");
        assert_eq!(names(None, Some(0)), "f g");
    }

    #[test]
    fn a_job_carries_the_template_and_its_time() {
        let cron = Object::from_value(json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"}}), 1)
            .expect("cron");
        let template = json!({"metadata": {"labels": {"a": "b"}, "annotations": {"x": "y"}}, "spec": {"completions": 2}});
        let mut spec = Spec { job_template: template, ..Spec::default() };
        let at: Timestamp = "2026-07-01T10:00:00Z".parse().expect("time");
        let made = job(&cron, &spec, at);
        assert_eq!(made["metadata"]["name"], format!("c-{}", at.as_second() / 60));
        assert_eq!(made["metadata"]["annotations"], json!({"x": "y", SCHEDULED: "2026-07-01T10:00:00Z"}));
        assert_eq!(made["metadata"]["labels"], json!({"a": "b"}));
        assert_eq!(made["metadata"]["ownerReferences"][0]["kind"], "CronJob");
        assert_eq!(made["spec"], json!({"completions": 2}));
        spec.time_zone = Some("Europe/Berlin".into());
        if spec.zone().is_some() {
            let made = job(&cron, &spec, at);
            assert_eq!(made["metadata"]["annotations"][SCHEDULED], "2026-07-01T12:00:00+02:00");
        }
    }
}
