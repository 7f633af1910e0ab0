//! Jobs (test/e2e/apps/job.go).

use std::collections::BTreeSet;

use e2e::machines::NODES;
use serde_json::{Value, json};
use testkit::{wait_for, wait_within};

use crate::common::{
    IMAGE, controller, count, is, is_running, name, now, pod_path, pods, relabel, selecting, uid, wait_until,
};
use crate::world::{Tests, World, event, newer, version};

pub const TESTS: Tests = &[
    (
        "[sig-apps] Job should create pods for an Indexed job with completion indexes and specified hostname [Conformance]",
        indexed,
    ),
    (
        "[sig-apps] Job should run a job to completion when tasks sometimes fail and are locally restarted [Conformance]",
        restarted,
    ),
    ("[sig-apps] Job should delete a job [Conformance]", delete),
    (
        "[sig-apps] Job should adopt matching orphans and release non-matching pods [Conformance]",
        adopt_and_release,
    ),
    ("[sig-apps] Job should apply changes to a job status [Conformance]", status),
    ("[sig-apps] Job should manage the lifecycle of a job [Conformance]", lifecycle),
];

/// What a job's pods do, as upstream's do.
pub enum Does {
    Succeed,
    Fail,
    /// By its index: odd ones fail.
    FailOdd,
    /// The first time on its volume.
    FailOnce,
    Sleep,
    /// Sleeps for each index once, and is ready once the next would succeed.
    SleepOncePerIndex,
}

impl Does {
    fn script(&self) -> &'static str {
        match self {
            Self::Succeed => "exit 0",
            Self::Fail => "exit 1",
            Self::FailOdd => "exit $((JOB_COMPLETION_INDEX % 2))",
            Self::FailOnce => "[ ! -e /data/foo ] || exit 0; touch /data/foo; exit 1",
            Self::Sleep => "sleep 3600",
            Self::SleepOncePerIndex => {
                "[ ! -e /data/$JOB_COMPLETION_INDEX ] || exit 0; touch /data/$JOB_COMPLETION_INDEX; sleep 3600"
            }
        }
    }
}

pub fn path(w: &World) -> String {
    format!("{}/job", jobs(w))
}

fn jobs(w: &World) -> String {
    w.path("apis/batch/v1", "jobs")
}

/// The job `job`, whose pods have the label `job=<namespace>`; `more` is laid over its spec.
pub fn create(w: &World, does: &Does, parallelism: u32, completions: u32, more: &Value) -> Value {
    let mut container = json!({"name": "c", "image": IMAGE, "command": ["sh", "-c", does.script()]});
    let mut pod = json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 1});
    if matches!(does, Does::FailOnce | Does::SleepOncePerIndex) {
        // All pods on one node share it, and it goes with the cluster.
        let dir = w.cluster.dir().join(&w.namespace);
        container["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
        pod["volumes"] = json!([{"name": "data", "hostPath": {"path": dir, "type": "DirectoryOrCreate"}}]);
        pod["nodeName"] = json!(NODES[1]);
    }
    if matches!(does, Does::SleepOncePerIndex) {
        let command = ["sh", "-c", "cat /data/$JOB_COMPLETION_INDEX"];
        container["readinessProbe"] = json!({"periodSeconds": 1, "exec": {"command": command}});
    }
    pod["containers"] = json!([container]);
    let mut spec = json!({
        "parallelism": parallelism, "completions": completions, "backoffLimit": 6,
        "template": {"metadata": {"labels": {"job": w.namespace}}, "spec": pod},
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        match value {
            Value::Null => drop(spec.as_object_mut().expect("a spec").remove(field)),
            value if field == "restartPolicy" => {
                spec["template"]["spec"]["restartPolicy"] = value.clone();
            }
            value => spec[field] = value.clone(),
        }
    }
    let metadata = json!({"name": "job", "labels": {"e2e-job-label": w.namespace}});
    w.create(&jobs(w), &json!({"metadata": metadata, "spec": spec}))
}

pub fn own(w: &World) -> Vec<Value> {
    pods(w, &format!("job={}", w.namespace))
}

/// Waits until this many have succeeded and the job is complete for this reason.
pub fn wait_complete(w: &World, reason: &str, succeeded: u64) -> Value {
    let mut job = Value::Null;
    wait_for("the job to be complete", || {
        job = w.get(&path(w));
        assert!(!is(&job, "Failed"), "{}", job["status"]);
        count(&job, "succeeded") == succeeded && is(&job, "Complete")
    });
    assert_eq!(crate::common::condition(&job, "Complete").map(|c| &c["reason"]), Some(&json!(reason)));
    job
}

pub fn wait_failed(w: &World) -> Value {
    let mut job = Value::Null;
    // Pods that failed are made again after ten seconds, and twice that.
    wait_within(std::time::Duration::from_secs(180), "the job to have failed", || {
        job = w.get(&path(w));
        assert!(!is(&job, "Complete"), "{}", job["status"]);
        is(&job, "Failed")
    });
    job
}

fn wait_running(w: &World, n: usize) {
    wait_for(&format!("{n} running pods"), || own(w).iter().filter(|p| is_running(p)).count() == n);
}

pub const REACHED: &str = "CompletionsReached";

fn indexed(w: &World) {
    create(w, &Does::Succeed, 2, 4, &json!({"completionMode": "Indexed"}));
    wait_complete(w, REACHED, 4);
    let mut indexes = BTreeSet::new();
    for pod in own(w).iter().filter(|p| p["status"]["phase"] == "Succeeded") {
        let index = pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"].as_str();
        let index = index.unwrap_or_else(|| panic!("no index: {pod}"));
        assert_eq!(pod["spec"]["hostname"], format!("job-{index}"));
        indexes.insert(index.to_owned());
    }
    assert_eq!(indexes, ["0", "1", "2", "3"].map(str::to_owned).into());
}

fn restarted(w: &World) {
    // Each pod has a volume of its own.
    let container = json!({
        "name": "c", "image": IMAGE, "command": ["sh", "-c", Does::FailOnce.script()],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    });
    let pod = json!({
        "restartPolicy": "OnFailure", "containers": [container], "volumes": [{"name": "data", "emptyDir": {}}],
    });
    let template = json!({"metadata": {"labels": {"job": w.namespace}}, "spec": pod});
    create(w, &Does::Succeed, 2, 4, &json!({"template": template}));
    wait_complete(w, REACHED, 4);
    for pod in own(w) {
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 1, "{}", name(&pod));
    }
}

fn delete(w: &World) {
    create(w, &Does::Sleep, 2, 4, &Value::Null);
    wait_running(w, 2);
    w.ask("DELETE", &path(w), &json!({"propagationPolicy": "Background"}), 200);
    wait_for("the job to go", || w.gone(&path(w)));
    wait_for("its pods to go", || own(w).is_empty());
}

fn adopt_and_release(w: &World) {
    let job = create(w, &Does::Sleep, 2, 4, &Value::Null);
    wait_running(w, 2);
    let all = own(w);
    assert_eq!(all.len(), 2);
    let pod = name(&all[0]).to_owned();
    w.update(&pod_path(w, &pod), "", |p| {
        p["metadata"].as_object_mut().expect("metadata").remove("ownerReferences");
    });
    let adopted = wait_until(w, &pod_path(w, &pod), "to be adopted again", |p| controller(p).is_some());
    assert_eq!(controller(&adopted), Some(uid(&job)));
    relabel(w, &pod, &json!({}));
    wait_until(w, &pod_path(w, &pod), "to be released", |p| controller(p).is_none());
}

fn status(w: &World) {
    let job = create(w, &Does::Sleep, 2, 4, &Value::Null);
    wait_running(w, 2);
    let custom =
        |time: &str| json!({"type": "CustomConditionType", "status": "True", "lastTransitionTime": time});
    let since = |o: &Value| {
        crate::common::condition(o, "CustomConditionType").expect("it")["lastTransitionTime"].clone()
    };
    let patch = json!({
        "metadata": {"annotations": {"patchedstatus": "true"}},
        "status": {"conditions": [custom("2026-01-01T00:00:00Z")]},
    });
    let patched = w.patch(&format!("{}/status", path(w)), "merge-patch+json", &patch);
    assert_eq!(since(&patched), "2026-01-01T00:00:00Z");
    assert_eq!(patched["metadata"]["annotations"]["patchedstatus"], "true");
    let updated = w.update(&path(w), "/status", |j| {
        let list = j["status"]["conditions"].as_array_mut().expect("conditions");
        let own = list.iter_mut().find(|c| c["type"] == "CustomConditionType").expect("it");
        own["lastTransitionTime"] = json!("2026-01-02T00:00:00Z");
    });
    assert_eq!(since(&updated), "2026-01-02T00:00:00Z");
    assert_eq!(uid(&w.get(&format!("{}/status", path(w)))), uid(&job));
}

fn lifecycle(w: &World) {
    let selected = selecting(&format!("e2e-job-label={}", w.namespace));
    let from = now(w, &jobs(w));
    let job = create(w, &Does::Succeed, 2, 4, &json!({"suspend": true}));
    let label = json!({"metadata": {"labels": {"job": "patched"}}});
    let patched = w.patch(&path(w), "strategic-merge-patch+json", &label);
    assert!(newer(&patched, &job));
    assert_eq!(patched["metadata"]["labels"]["job"], "patched");
    let mut lines = w.watch(&jobs(w), &from, &selected);
    event(&mut lines, "MODIFIED", |j| j["metadata"]["labels"]["job"] == "patched");
    let updated = w.update(&path(w), "", |j| {
        j["spec"]["suspend"] = json!(false);
        j["metadata"]["annotations"]["updated"] = json!("true");
    });
    assert_eq!(updated["metadata"]["annotations"]["updated"], "true");
    let mut lines = w.watch(&jobs(w), version(&patched), &selected);
    event(&mut lines, "MODIFIED", |j| j["metadata"]["annotations"]["updated"] == "true");
    let everywhere = format!("/apis/batch/v1/jobs?{selected}");
    assert_eq!(w.items(&everywhere).len(), 1);
    wait_complete(w, REACHED, 4);
    let options = json!({"propagationPolicy": "Background"});
    w.ask("DELETE", &format!("{}?{selected}", jobs(w)), &options, 200);
    event(&mut lines, "DELETED", |j| j["metadata"]["labels"]["e2e-job-label"] == w.namespace.as_str());
    assert!(w.items(&everywhere).is_empty());
}
