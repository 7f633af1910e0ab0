//! How jobs succeed and fail by their policies (test/e2e/apps/job.go).

use serde_json::{Value, json};
use testkit::wait_for;

use crate::common::{condition, count, is_running, name, pod_path, wait_until};
use crate::jobs::{Does, REACHED, create, own, path, wait_complete, wait_failed};
use crate::world::{Tests, World};

pub const TESTS: Tests = &[
    (
        "[sig-apps] Job should execute all indexes despite some failing when using backoffLimitPerIndex [Conformance]",
        backoff_per_index,
    ),
    (
        "[sig-apps] Job should allow to use the pod failure policy on exit code to fail the job early [Conformance]",
        fail_by_code,
    ),
    (
        "[sig-apps] Job should allow to use a pod failure policy to ignore failure matching on DisruptionTarget condition [Conformance]",
        ignore_disruption,
    ),
    (
        "[sig-apps] Job with successPolicy should succeeded when all indexes succeeded [Conformance]",
        all_succeeded,
    ),
    (
        "[sig-apps] Job with successPolicy succeededIndexes rule should succeeded even when some indexes remain pending [Conformance]",
        some_indexes,
    ),
    (
        "[sig-apps] Job with successPolicy succeededCount rule should succeeded even when some indexes remain pending [Conformance]",
        some_count,
    ),
    (
        "[sig-apps] Job should terminate job execution when the number of failed indexes exceeds maxFailedIndexes [Conformance]",
        max_failed,
    ),
    (
        "[sig-apps] Job should mark indexes as failed when the FailIndex action is matched in podFailurePolicy [Conformance]",
        fail_index,
    ),
];

fn on_exit_code(action: &str) -> Value {
    let codes = json!({"operator": "In", "values": [1]});
    json!({"rules": [{"action": action, "onExitCodes": codes}]})
}

fn fail_by_code(w: &World) {
    create(w, &Does::FailOnce, 2, 4, &json!({"podFailurePolicy": on_exit_code("FailJob")}));
    let job = wait_failed(w);
    assert_eq!(condition(&job, "Failed").map(|c| &c["reason"]), Some(&json!("PodFailurePolicy")));
}

fn ignore_disruption(w: &World) {
    let disrupted = json!([{"type": "DisruptionTarget", "status": "True"}]);
    let policy = json!({"rules": [{"action": "Ignore", "onPodConditions": disrupted}]});
    let more = json!({"completionMode": "Indexed", "backoffLimit": 2, "podFailurePolicy": policy});
    create(w, &Does::SleepOncePerIndex, 3, 3, &more);
    wait_until(w, &path(w), "three ready pods", |j| count(j, "ready") == 3);
    let running: Vec<Value> = own(w).into_iter().filter(is_running).collect();
    assert_eq!(running.len(), 3);
    for pod in &running {
        let metadata = json!({"name": name(pod), "namespace": w.namespace});
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata});
        w.create(&format!("{}/eviction", pod_path(w, name(pod))), &eviction);
    }
    for pod in &running {
        wait_for("an evicted pod to go", || w.gone(&pod_path(w, name(pod))));
    }
    wait_complete(w, REACHED, 3);
}

/// Waits until the job is complete by its policy; nothing of it runs any more.
fn by_policy(w: &World, succeeded: u64) -> Value {
    wait_until(w, &path(w), "its criteria to be met", |j| {
        condition(j, "SuccessCriteriaMet")
            .is_some_and(|c| c["status"] == "True" && c["reason"] == "SuccessPolicy")
    });
    let job = wait_complete(w, "SuccessPolicy", succeeded);
    for field in ["active", "ready", "terminating"] {
        assert_eq!(count(&job, field), 0, "{field}");
    }
    // These two are told, also as nothing.
    assert!(job["status"]["ready"] == 0 && job["status"]["terminating"] == 0, "{}", job["status"]);
    job
}

fn success(rule: &Value) -> Value {
    json!({"completionMode": "Indexed", "successPolicy": {"rules": [rule]}})
}

fn all_succeeded(w: &World) {
    create(w, &Does::Succeed, 2, 2, &success(&json!({"succeededCount": 2})));
    let job = by_policy(w, 2);
    assert_eq!(count(&job, "failed"), 0);
}

fn some_indexes(w: &World) {
    create(w, &Does::FailOdd, 2, 5, &success(&json!({"succeededIndexes": "0"})));
    assert_eq!(by_policy(w, 1)["status"]["completedIndexes"], "0");
}

fn some_count(w: &World) {
    let mut more = success(&json!({"succeededCount": 1}));
    more["backoffLimit"] = json!(i32::MAX);
    create(w, &Does::FailOdd, 2, 5, &more);
    assert_eq!(by_policy(w, 1)["status"]["completedIndexes"], "0");
}

/// Laid over what an indexed job without a limit for all has.
fn per_index(limit: u32, more: &Value) -> Value {
    let mut spec = json!({"completionMode": "Indexed", "backoffLimit": null, "backoffLimitPerIndex": limit});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    spec
}

/// Whether a failed job's status has these: failed and completed indexes, failed and succeeded pods.
fn ended(job: &Value, failed: &str, completed: Option<&str>, pods: u64, succeeded: u64) {
    let status = &job["status"];
    assert_eq!(status["failedIndexes"], failed, "{status}");
    assert_eq!(status["completedIndexes"].as_str(), completed, "{status}");
    assert_eq!((count(job, "failed"), count(job, "succeeded")), (pods, succeeded), "{status}");
}

fn backoff_per_index(w: &World) {
    create(w, &Does::FailOdd, 2, 4, &per_index(1, &Value::Null));
    ended(&wait_failed(w), "1,3", Some("0,2"), 4, 2);
}

fn max_failed(w: &World) {
    create(w, &Does::Fail, 1, 4, &per_index(0, &json!({"maxFailedIndexes": 0})));
    ended(&wait_failed(w), "0", None, 1, 0);
}

fn fail_index(w: &World) {
    create(w, &Does::FailOdd, 2, 2, &per_index(1, &json!({"podFailurePolicy": on_exit_code("FailIndex")})));
    ended(&wait_failed(w), "1", Some("0"), 1, 1);
}
