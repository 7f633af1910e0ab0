//! Replication controllers (test/e2e/apps/rc.go).

use serde_json::{Value, json};

use crate::common::{
    condition, count, is_observed, is_ready, name, now, pod, pod_spec, pods, pods_path, selecting, sleeping,
    wait_running, wait_until,
};
use crate::replica_sets::{release, replicas_serve, serving, wait_adopted};
use crate::world::{Tests, World, event, newer};
use testkit::wait_for;

pub const TESTS: Tests = &[
    (
        "[sig-apps] ReplicationController should serve a basic image on each replica with a public image [Conformance]",
        serve,
    ),
    (
        "[sig-apps] ReplicationController should surface a failure condition on a common issue like exceeded quota [Conformance]",
        quota,
    ),
    ("[sig-apps] ReplicationController should adopt matching pods on creation [Conformance]", adopt),
    ("[sig-apps] ReplicationController should release no longer matching pods [Conformance]", release_pod),
    (
        "[sig-apps] ReplicationController should test the lifecycle of a ReplicationController [Conformance]",
        lifecycle,
    ),
    (
        "[sig-apps] ReplicationController should get and update a ReplicationController scale [Conformance]",
        scale,
    ),
];

fn controllers(w: &World) -> String {
    w.path("api/v1", "replicationcontrollers")
}

fn path(w: &World) -> String {
    format!("{}/rc", controllers(w))
}

fn create(w: &World, replicas: usize, labels: &Value, container: Value) -> Value {
    let template = json!({"metadata": {"labels": labels}, "spec": pod_spec(container)});
    let spec = json!({"replicas": replicas, "selector": labels, "template": template});
    w.create(&controllers(w), &json!({"metadata": {"name": "rc", "labels": labels}, "spec": spec}))
}

fn app() -> Value {
    json!({"app": "rc"})
}

fn serve(w: &World) {
    create(w, 1, &app(), serving());
    wait_for("a ready replica", || pods(w, "app=rc").iter().all(is_ready) && pods(w, "app=rc").len() == 1);
    replicas_serve(w, "app=rc", 1);
}

fn quota(w: &World) {
    let quotas = w.path("api/v1", "resourcequotas");
    w.create(&quotas, &json!({"metadata": {"name": "two"}, "spec": {"hard": {"pods": "2"}}}));
    wait_until(w, &format!("{quotas}/two"), "to be counted", |q| q["status"]["hard"]["pods"] == "2");
    create(w, 3, &app(), sleeping());
    let failed = |rc: &Value| condition(rc, "ReplicaFailure").is_some();
    wait_until(w, &path(w), "to tell of its failure", |rc| is_observed(rc) && failed(rc));
    w.update(&path(w), "", |rc| rc["spec"]["replicas"] = json!(2));
    wait_until(w, &path(w), "to tell of no failure", |rc| is_observed(rc) && !failed(rc));
}

fn adopt(w: &World) {
    w.create(&pods_path(w), &pod("orphan", &app(), sleeping()));
    wait_running(w, "app=rc", 1);
    let rc = create(w, 1, &app(), sleeping());
    wait_adopted(w, "orphan", &rc);
    assert_eq!(pods(w, "app=rc").len(), 1);
}

fn release_pod(w: &World) {
    create(w, 1, &app(), sleeping());
    let own = wait_running(w, "app=rc", 1);
    release(w, name(&own[0]));
}

fn lifecycle(w: &World) {
    let labels = format!("test-rc-static={}", w.namespace);
    let from = now(w, &controllers(w));
    let mut lines = w.watch(&controllers(w), &from, &selecting(&labels));
    let created = create(w, 1, &json!({"test-rc-static": w.namespace}), sleeping());
    event(&mut lines, "ADDED", |rc| name(rc) == "rc");
    event(&mut lines, "MODIFIED", |rc| count(rc, "replicas") == 1 && count(rc, "readyReplicas") == 1);

    let label = json!({"metadata": {"labels": {"test-rc": "patched"}}});
    let patched = w.patch(&path(w), "strategic-merge-patch+json", &label);
    assert_eq!(patched["metadata"]["labels"]["test-rc"], "patched");
    assert!(newer(&patched, &created));
    event(&mut lines, "MODIFIED", |rc| rc["metadata"]["labels"]["test-rc"] == "patched");

    let none = json!({"status": {"readyReplicas": 0, "availableReplicas": 0}});
    let status = w.patch(&format!("{}/status", path(w)), "strategic-merge-patch+json", &none);
    assert_eq!(count(&status, "readyReplicas"), 0);
    event(&mut lines, "MODIFIED", |rc| count(rc, "readyReplicas") == 0);
    event(&mut lines, "MODIFIED", |rc| count(rc, "replicas") == 1);
    assert_eq!(count(&w.get(&format!("{}/status", path(w))), "replicas"), 1);

    // A whole Scale, as Go writes it.
    let two = json!({"metadata": {}, "spec": {"replicas": 2}, "status": {"replicas": 0}});
    w.patch(&format!("{}/scale", path(w)), "strategic-merge-patch+json", &two);
    event(&mut lines, "MODIFIED", |rc| rc["spec"]["replicas"] == 2);
    event(&mut lines, "MODIFIED", |rc| count(rc, "replicas") == 2 && count(rc, "readyReplicas") == 2);

    assert_eq!(w.get(&path(w))["metadata"]["labels"]["test-rc"], "patched");
    w.update(&path(w), "/status", |rc| {
        rc["status"]["availableReplicas"] = json!(1);
        rc["status"]["readyReplicas"] = json!(1);
    });
    event(&mut lines, "MODIFIED", |rc| count(rc, "readyReplicas") == 1);

    let found = w.items(&format!("/api/v1/replicationcontrollers?{}", selecting(&labels)));
    let own = |rc: &Value| {
        let (labels, static_) = (&rc["metadata"]["labels"], w.namespace.as_str());
        name(rc) == "rc" && labels["test-rc-static"] == static_ && labels["test-rc"] == "patched"
    };
    assert!(found.iter().any(own), "{found:#?}");
    w.delete(&format!("{}?{}", controllers(w), selecting(&labels)));
    event(&mut lines, "DELETED", |rc| name(rc) == "rc");
}

fn scale(w: &World) {
    create(w, 1, &app(), sleeping());
    wait_until(w, &path(w), "one replica", |rc| count(rc, "replicas") == 1);
    let scale_path = format!("{}/scale", path(w));
    let mut scale = w.get(&scale_path);
    assert_eq!(count(&scale, "replicas"), 1);
    scale["metadata"].as_object_mut().expect("metadata").remove("resourceVersion");
    scale["spec"]["replicas"] = json!(2);
    w.ask("PUT", &scale_path, &scale, 200);
    wait_until(w, &path(w), "two replicas", |rc| count(rc, "replicas") == 2);
}
