//! A worker against the fake runtime and the fake API: whole lives of pods.

use std::sync::Arc;

use cri::{CriError, ExecSyncResponse, PullReason, RuntimeService};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::testing::{Rig, rig};

const STATUS: &str = "/api/v1/namespaces/ns/pods/p/status";
const POD: &str = "/api/v1/namespaces/ns/pods/p";

fn pod(spec: Value) -> Arc<Pod> {
    let mut spec = spec;
    for c in spec["containers"].as_array_mut().into_iter().flatten() {
        if c["image"].is_null() {
            c["image"] = json!("img");
        }
        if c["imagePullPolicy"].is_null() {
            c["imagePullPolicy"] = json!("IfNotPresent");
        }
    }
    let v = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u1"}, "spec": spec});
    Arc::new(serde_json::from_value(v).expect("pod"))
}

struct Run {
    rig: Rig,
    handle: Handle,
    ended: mpsc::Receiver<String>,
}

async fn start_on(rig: Rig, pod: Arc<Pod>) -> Run {
    let (tx, ended) = mpsc::channel(1);
    let mut events = rig.runtime.container_events().await.expect("events");
    let handle = spawn(rig.node.clone(), pod, None, tx);
    let to = handle.tx.clone();
    tokio::spawn(async move {
        while let Some(e) = events.next().await {
            if to.send(Msg::Runtime(Box::new(e))).await.is_err() {
                return;
            }
        }
    });
    Run { rig, handle, ended }
}

async fn start(spec: Value) -> Run {
    start_on(rig(), pod(spec)).await
}

impl Run {
    async fn status(&self, what: &str, f: impl Fn(&Value) -> bool) -> Value {
        let last = |api: &crate::testing::FakeApi| api.patches(STATUS).last().map(|p| p["status"].clone());
        self.rig.api.until(what, |a| last(a).is_some_and(|s| f(&s))).await;
        last(&self.rig.api).unwrap_or_default()
    }
    async fn running(&self) -> Value {
        self.status("running", |s| s["phase"] == "Running" && ready(s)).await
    }
    fn count(&self, call: &str) -> usize {
        self.rig.runtime.calls().iter().filter(|c| c.starts_with(call)).count()
    }
}

fn ready(s: &Value) -> bool {
    let mut c = s["conditions"].as_array().into_iter().flatten();
    c.any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn simple() -> Value {
    json!({"containers": [{"name": "a"}]})
}

#[tokio::test]
async fn a_pod_runs_and_says_so_once() {
    let r = start(simple()).await;
    let s = r.running().await;
    assert_eq!(s["hostIP"], "192.168.0.1");
    assert!(s["podIP"].as_str().is_some_and(|ip| ip.starts_with("10.88.")));
    assert_eq!(s["qosClass"], "BestEffort");
    assert_eq!(s["containerStatuses"][0]["started"], true);
    assert!(r.rig.api.patches(STATUS).len() <= 2);
    r.rig.api.until("events", |a| a.events().contains(&"Started".to_owned())).await;
    let c = r.rig.runtime.container_named("a").expect("container");
    assert!(c.config.mounts.iter().any(|m| m.container_path == "/etc/hosts"));
    assert!(r.rig.dir.path().join("links").read_dir().expect("links").count() == 1);
}

#[tokio::test]
async fn crashes_count_and_back_off() {
    let r = start(simple()).await;
    r.running().await;
    let first = r.rig.runtime.container_named("a").expect("container").status.id;
    std::fs::write(
        r.rig
            .runtime
            .container_named("a")
            .map(|c| c.config.annotations[crate::containers::config::MESSAGE_FILE].clone())
            .expect("file"),
        "bye",
    )
    .expect("message");
    r.rig.runtime.exit_container(&first, 3, "");
    let s = r.status("restarted", |s| s["containerStatuses"][0]["restartCount"] == 1 && ready(s)).await;
    let last = &s["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(
        (&last["exitCode"], &last["reason"], &last["message"]),
        (&json!(3), &json!("Error"), &json!("bye"))
    );
    let second = r.rig.runtime.container_named("a").expect("container").status.id;
    // The fake's clock is far behind ours; the back-off counts from the container's end.
    r.rig.runtime.exit_container(&second, 3, "OOMKilled");
    let s = r.status("the next state", |s| !ready(s) || s["containerStatuses"][0]["restartCount"] == 2).await;
    assert!(s["phase"] == "Running");
}

#[tokio::test]
async fn deletion_stops_reports_deletes_and_cleans() {
    let mut r = start(simple()).await;
    r.running().await;
    let mut p = (*r.handle.snapshot.read().pod).clone();
    p.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".into());
    p.metadata.deletion_grace_period_seconds = Some(7);
    r.handle.tx.send(Msg::Pod(Arc::new(p))).await.expect("worker");
    r.rig.api.until("the object's deletion", |a| a.deleted(POD)).await;
    let s = r.rig.api.patches(STATUS).pop().unwrap_or_default();
    assert!(s["status"]["containerStatuses"][0]["state"]["terminated"].is_object());
    assert!(matches!(s["status"]["phase"].as_str(), Some("Failed" | "Succeeded")));
    assert_eq!(r.count("stop_container a 7"), 1);
    r.handle.tx.send(Msg::Gone).await.expect("worker");
    assert_eq!(r.ended.recv().await.as_deref(), Some("u1"));
    assert!(r.rig.runtime.sandboxes().is_empty());
    assert!(!r.rig.node.cfg.pod_dir("u1").exists());
}

#[tokio::test]
async fn a_completed_pod_succeeds_and_stays() {
    let r = start(json!({"restartPolicy": "Never", "containers": [{"name": "a"}]})).await;
    r.running().await;
    let id = r.rig.runtime.container_named("a").expect("container").status.id;
    r.rig.runtime.exit_container(&id, 0, "");
    let s = r.status("the end", |s| s["phase"] == "Succeeded").await;
    assert_eq!(s["containerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
    r.rig.api.until("its sandbox stopped", |_| r.count("stop_pod_sandbox") == 1).await;
    assert_eq!(r.rig.runtime.containers().len(), 1, "its logs can still be read");
}

#[tokio::test]
async fn a_job_with_a_sidecar_ends_after_it() {
    let r = start(json!({"restartPolicy": "Never", "containers": [{"name": "a"}],
        "initContainers": [{"name": "s", "image": "img", "imagePullPolicy": "Never", "restartPolicy": "Always"}]}))
    .await;
    r.running().await;
    let id = r.rig.runtime.container_named("a").expect("container").status.id;
    r.rig.runtime.exit_container(&id, 0, "");
    let s = r.status("the end", |s| s["phase"] == "Succeeded").await;
    assert!(
        s["initContainerStatuses"][0]["state"]["terminated"].is_object(),
        "the sidecar ended before the pod did"
    );
    assert_eq!(r.count("stop_container s"), 1);
}

#[tokio::test]
async fn a_refused_pod_fails_without_running() {
    let rig = rig();
    let (tx, _ended) = mpsc::channel(1);
    let why = ("OutOfcpu".to_owned(), "Node didn't have enough resource".to_owned());
    let _handle = spawn(rig.node.clone(), pod(simple()), Some(why), tx);
    rig.api
        .until("the failure", |a| {
            a.patches(STATUS)
                .last()
                .is_some_and(|p| p["status"]["phase"] == "Failed" && p["status"]["reason"] == "OutOfcpu")
        })
        .await;
    assert!(rig.runtime.sandboxes().is_empty());
}

#[tokio::test]
async fn an_image_that_is_not_there() {
    let rig = rig();
    let why = CriError::pull(PullReason::ErrImagePull, "manifest unknown");
    rig.runtime.fail_pull("nope:1", why);
    let r =
        start_on(rig, pod(json!({"containers": [{"name": "a", "image": "nope:1"}, {"name": "b"}]}))).await;
    let of = |s: &Value, i: usize| s["containerStatuses"][i]["state"].clone();
    let s = r
        .status("an error", |s| {
            of(s, 0)["waiting"]["reason"] == "ErrImagePull" && of(s, 1)["running"].is_object()
        })
        .await;
    assert_eq!(s["phase"], "Pending");
    let s = r.status("back-off", |s| of(s, 0)["waiting"]["reason"] == "ImagePullBackOff").await;
    assert!(
        of(&s, 0)["waiting"]["message"]
            .as_str()
            .is_some_and(|m| m.starts_with("Back-off pulling image \"nope:1\""))
    );
}

#[tokio::test]
async fn a_missing_config_map_is_named() {
    let env = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}]);
    let r = start(json!({"containers": [{"name": "a", "env": env}]})).await;
    let s = r
        .status("the reason", |s| {
            s["containerStatuses"][0]["state"]["waiting"]["reason"] == "CreateContainerConfigError"
        })
        .await;
    assert_eq!(s["containerStatuses"][0]["state"]["waiting"]["message"], "configmap \"cm\" not found");
}

#[tokio::test]
async fn volumes_and_env_reach_the_container() {
    let rig = rig();
    rig.api.put(
        "/api/v1/namespaces/ns/configmaps/cm",
        json!({"metadata": {"name": "cm", "namespace": "ns"}, "data": {"k": "v"}}),
    );
    rig.api.put(
        "/api/v1/namespaces/ns/secrets/s",
        json!({"metadata": {"name": "s", "namespace": "ns"}, "data": {"pw": "eA=="}}),
    );
    let r = start_on(
        rig,
        pod(json!({
            "volumes": [{"name": "v", "configMap": {"name": "cm"}}, {"name": "t", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token"}}, {"secret": {"name": "s"}}]}}],
            "containers": [{"name": "a", "command": ["echo", "$(PW)"],
                "volumeMounts": [{"name": "v", "mountPath": "/c"}, {"name": "t", "mountPath": "/t"},
                    {"name": "v", "mountPath": "/one", "subPath": "k"}],
                "env": [{"name": "PW", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pw"}}}]}]
        })),
    )
    .await;
    r.running().await;
    let c = r.rig.runtime.container_named("a").expect("container").config;
    assert_eq!(c.command, ["echo", "x"]);
    let host = |at: &str| {
        c.mounts.iter().find(|m| m.container_path == at).map(|m| m.host_path.clone()).expect("mount")
    };
    let read = |p: String| std::fs::read_to_string(p).expect("file");
    assert_eq!(read(host("/c") + "/k"), "v");
    assert_eq!(read(host("/t") + "/token"), "tok");
    assert_eq!(read(host("/t") + "/pw"), "x");
    assert_eq!(read(host("/one")), "v");
}

/// What a patch leaves behind where nothing was.
fn without_nulls(v: Value) -> Value {
    match v {
        Value::Object(m) => {
            m.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect()
        }
        Value::Array(a) => a.into_iter().map(without_nulls).collect(),
        v => v,
    }
}

#[tokio::test]
async fn a_restarted_daemon_takes_over_what_runs() {
    let r = start(json!({"containers": [{"name": "a", "readinessProbe": {"exec": {"command": ["x"]}, "periodSeconds": 100}}]})).await;
    let s = r.running().await;
    let mut p = (*r.handle.snapshot.read().pod).clone();
    p.status = serde_json::from_value(without_nulls(s)).expect("status");
    let Run { rig, handle, .. } = r;
    drop(handle);
    rig.runtime.clear_calls();
    let before = rig.api.patches(STATUS).len();
    let r = start_on(rig, Arc::new(p)).await;
    r.rig.api.until("adoption", |_| r.handle.snapshot.read().containers.len() == 1).await;
    assert!(r.handle.snapshot.read().status.is_true("Ready"));
    for call in ["run_pod_sandbox", "create_container", "start_container", "stop_container"] {
        assert_eq!(r.count(call), 0, "{call}");
    }
    assert_eq!(r.rig.api.patches(STATUS).len(), before, "nothing changed, nothing is written");
}

#[tokio::test]
async fn hooks_run_and_probes_decide() {
    let rig = rig();
    rig.runtime.on_exec(|_, cmd| {
        let code = i32::from(cmd.first().is_some_and(|c| c == "unhealthy"));
        Ok(ExecSyncResponse { exit_code: code, stdout: b"no".to_vec(), ..Default::default() })
    });
    let r = start_on(
        rig,
        pod(json!({"terminationGracePeriodSeconds": 5, "containers": [{"name": "a",
            "lifecycle": {"postStart": {"exec": {"command": ["hello"]}}, "preStop": {"exec": {"command": ["bye"]}}},
            "livenessProbe": {"exec": {"command": ["unhealthy"]}, "periodSeconds": 1, "failureThreshold": 1}}]})),
    )
    .await;
    r.status("a restart", |s| s["containerStatuses"][0]["restartCount"] == 1).await;
    let calls = r.rig.runtime.calls();
    let at = |c: &str| calls.iter().position(|x| x.starts_with(c));
    assert!(at("start_container a") < at("exec a hello"));
    assert!(at("exec a hello") < at("exec a bye"));
    assert!(at("exec a bye") < at("stop_container a"));
    r.rig.api.until("the event", |a| a.events().contains(&"Unhealthy".to_owned())).await;
}

#[tokio::test]
async fn a_lost_sandbox_is_made_again() {
    let r = start(simple()).await;
    r.running().await;
    let id = r.rig.runtime.sandboxes().first().map(|s| s.status.id.clone()).expect("sandbox");
    r.rig.runtime.kill_sandbox(&id);
    let s = r.status("a new start", |s| s["containerStatuses"][0]["restartCount"] == 1 && ready(s)).await;
    assert_eq!(s["phase"], "Running");
    assert_eq!(r.count("run_pod_sandbox"), 2);
}
