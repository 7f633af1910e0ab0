//! Jobs by the clock (test/e2e/apps/cronjob.go). Schedules have minutes: a cron job that fires beside the one in question
//! tells when it had its turn.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::wait_within;

use crate::common::{IMAGE, condition, name, selecting, uid};
use crate::world::{Tests, World, event, newer, version};

pub const TESTS: Tests = &[
    ("[sig-apps] CronJob should schedule multiple jobs concurrently [Conformance]", concurrent),
    ("[sig-apps] CronJob should not schedule jobs when suspended [Slow] [Conformance]", suspended),
    ("[sig-apps] CronJob should not schedule new jobs when ForbidConcurrent [Slow] [Conformance]", forbid),
    ("[sig-apps] CronJob should replace jobs when ReplaceConcurrent [Conformance]", replace),
    ("[sig-apps] CronJob should support CronJob API operations [Conformance]", operations),
];

/// Two turns, and what a busy machine adds.
const PATIENCE: Duration = Duration::from_secs(200);
const EVERY_MINUTE: &str = "*/1 * * * ?";

fn path(w: &World, of: &str) -> String {
    format!("{}/{of}", w.path("apis/batch/v1", "cronjobs"))
}

fn cron_job(name: &str, schedule: &str, policy: &str, command: &[&str]) -> Value {
    let container = json!({"name": "c", "image": IMAGE, "command": command});
    let pod = json!({
        "restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 1, "containers": [container],
    });
    let job = json!({"spec": {"parallelism": 1, "completions": 1, "template": {"spec": pod}}});
    let spec = json!({"schedule": schedule, "concurrencyPolicy": policy, "jobTemplate": job});
    json!({"metadata": {"name": name}, "spec": spec})
}

/// One that sleeps.
fn create(w: &World, name: &str, policy: &str) {
    let job = cron_job(name, EVERY_MINUTE, policy, &["sleep", "300"]);
    w.create(&w.path("apis/batch/v1", "cronjobs"), &job);
}

fn active(w: &World, of: &str) -> usize {
    w.get(&path(w, of))["status"]["active"].as_array().map_or(0, Vec::len)
}

fn wait_active(w: &World, of: &str, at_least: usize) {
    wait_within(PATIENCE, &format!("{at_least} active jobs of {of}"), || active(w, of) >= at_least);
}

/// The jobs of a cron job that have not ended.
fn running(w: &World, of: &str) -> Vec<Value> {
    let mut jobs = w.items(&w.path("apis/batch/v1", "jobs"));
    let ended = |j: &Value| condition(j, "Complete").or_else(|| condition(j, "Failed")).is_some();
    jobs.retain(|j| name(j).starts_with(of) && !ended(j));
    jobs
}

fn remove(w: &World, of: &str) {
    w.delete(&path(w, of));
    assert!(w.gone(&path(w, of)));
}

fn concurrent(w: &World) {
    create(w, "concurrent", "Allow");
    wait_active(w, "concurrent", 2);
    assert!(running(w, "concurrent").len() >= 2);
    remove(w, "concurrent");
}

fn suspended(w: &World) {
    create(w, "witness", "Allow");
    let mut job = cron_job("suspended", EVERY_MINUTE, "Allow", &["sleep", "300"]);
    job["spec"]["suspend"] = json!(true);
    w.create(&w.path("apis/batch/v1", "cronjobs"), &job);
    let nothing = || {
        assert_eq!(active(w, "suspended"), 0);
        active(w, "witness")
    };
    wait_within(PATIENCE, "two turns of the other", || nothing() >= 2);
    let jobs = w.items(&w.path("apis/batch/v1", "jobs"));
    assert!(jobs.iter().all(|j| name(j).starts_with("witness")), "{jobs:?}");
    remove(w, "suspended");
}

fn forbid(w: &World) {
    create(w, "forbid", "Forbid");
    create(w, "witness", "Allow");
    wait_active(w, "forbid", 1);
    assert_eq!(active(w, "forbid"), 1);
    assert_eq!(running(w, "forbid").len(), 1);
    // It had another turn, and let it pass.
    let passed = || {
        assert!(active(w, "forbid") < 2, "two jobs at once");
        let events = w.items(&w.path("api/v1", "events"));
        let about = |e: &Value| e["involvedObject"]["name"] == "forbid" && e["reason"] == "JobAlreadyActive";
        active(w, "witness") >= 2 && events.iter().any(about)
    };
    wait_within(PATIENCE, "a turn to be passed over", passed);
    assert_eq!(running(w, "forbid").len(), 1);
    remove(w, "forbid");
}

fn replace(w: &World) {
    create(w, "replace", "Replace");
    wait_active(w, "replace", 1);
    assert_eq!(active(w, "replace"), 1);
    let jobs = running(w, "replace");
    let [first] = jobs.as_slice() else { panic!("{jobs:?}") };
    wait_within(PATIENCE, "the job to be replaced", || {
        let jobs = running(w, "replace");
        assert!(
            jobs.iter().filter(|j| j["metadata"]["deletionTimestamp"].is_null()).count() <= 1,
            "{jobs:?}"
        );
        jobs.len() == 1 && uid(&jobs[0]) != uid(first)
    });
    remove(w, "replace");
}

fn operations(w: &World) {
    let collection = w.path("apis/batch/v1", "cronjobs");
    let label = format!("special-label={}", w.namespace);
    let selected = selecting(&label);
    let mut job = cron_job("test-api", "* */1 * * ?", "Allow", &["true"]);
    job["metadata"]["labels"] = json!({"special-label": w.namespace});
    job["spec"]["successfulJobsHistoryLimit"] = json!(1);
    job["spec"]["failedJobsHistoryLimit"] = json!(0);
    // It is not to fire while it is looked at.
    job["spec"]["suspend"] = json!(true);
    let created = w.create(&collection, &job);
    let one = path(w, "test-api");
    assert_eq!(uid(&w.get(&one)), uid(&created));
    let list = w.get(&format!("{collection}?{selected}"));
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
    let mut lines = w.watch(&collection, version(&list), &selected);
    assert_eq!(w.items(&format!("/apis/batch/v1/cronjobs?{selected}")).len(), 1);
    let mut everywhere = w.watch("/apis/batch/v1/cronjobs", version(&list), &selected);

    let annotated = |name: &str| json!({"metadata": {"annotations": {name: "true"}}});
    let patched = w.patch(&one, "merge-patch+json", &annotated("patched"));
    assert_eq!(patched["metadata"]["annotations"]["patched"], "true");
    assert!(newer(&patched, &created));
    let updated = w.update(&one, "", |j| j["metadata"]["annotations"]["updated"] = json!("true"));
    assert_eq!(updated["metadata"]["annotations"]["updated"], "true");
    for lines in [&mut lines, &mut everywhere] {
        event(lines, "MODIFIED", |j| j["metadata"]["annotations"]["patched"] == "true");
        event(lines, "MODIFIED", |j| j["metadata"]["annotations"]["updated"] == "true");
    }

    let mut patch = annotated("patchedstatus");
    patch["status"] = json!({"lastScheduleTime": "2026-01-01T00:00:00Z"});
    let status = w.patch(&format!("{one}/status"), "merge-patch+json", &patch);
    assert_eq!(status["status"]["lastScheduleTime"], "2026-01-01T00:00:00Z");
    assert_eq!(status["metadata"]["annotations"]["patchedstatus"], "true");
    let later = json!("2026-01-02T00:00:00Z");
    let status = w.update(&one, "/status", |j| j["status"]["lastScheduleTime"] = later.clone());
    assert_eq!(status["status"]["lastScheduleTime"], later);
    assert_eq!(uid(&w.get(&format!("{one}/status"))), uid(&created));

    job["metadata"]["name"] = json!("for-removal");
    w.create(&collection, &job);
    w.delete(&path(w, "for-removal"));
    assert!(w.gone(&path(w, "for-removal")));
    w.delete(&format!("{collection}?{selected}"));
    assert!(w.items(&format!("{collection}?{selected}")).is_empty());
}
