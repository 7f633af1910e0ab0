//! Quotas (test/e2e/apimachinery/resource_quota.go): what is counted, what is refused, and the objects themselves. Pods here
//! fit no node.

use serde_json::{Value, json};
use testkit::wait_for;

use crate::world::{Tests, World, assert_holds, event, holds, newer, version};

pub const TESTS: Tests = &[
    (
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and ensure its status is promptly calculated. [Conformance]",
        calculated,
    ),
    (
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a service. [Conformance]",
        services,
    ),
    (
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a secret. [Conformance]",
        secrets,
    ),
    (
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a pod. [Conformance]",
        pods,
    ),
    (
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a configMap. [Conformance]",
        config_maps,
    ),
    (
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replication controller. [Conformance]",
        replication_controllers,
    ),
    (
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replica set. [Conformance]",
        replica_sets,
    ),
    (
        "[sig-api-machinery] ResourceQuota should verify ResourceQuota with terminating scopes. [Conformance]",
        terminating_scopes,
    ),
    (
        "[sig-api-machinery] ResourceQuota should verify ResourceQuota with best effort scope. [Conformance]",
        best_effort_scopes,
    ),
    (
        "[sig-api-machinery] ResourceQuota should be able to update and delete ResourceQuota. [Conformance]",
        update_and_delete,
    ),
    (
        "[sig-api-machinery] ResourceQuota should manage the lifecycle of a ResourceQuota [Conformance]",
        lifecycle,
    ),
    (
        "[sig-api-machinery] ResourceQuota should apply changes to a resourcequota status [Conformance]",
        status,
    ),
];

fn quotas(w: &World) -> String {
    w.path("api/v1", "resourcequotas")
}

/// A quota, and that it is calculated.
fn quota(w: &World, name: &str, spec: &Value) {
    w.create(&quotas(w), &json!({"metadata": {"name": name}, "spec": spec}));
    used(w, name, &json!({"pods": "0"}));
}

/// Waits until a quota counts this much.
fn used(w: &World, name: &str, wanted: &Value) {
    let path = format!("{}/{name}", quotas(w));
    wait_for(&format!("{name} to count {wanted}"), || holds(&w.get(&path)["status"]["used"], wanted));
}

/// Lets a quota be calculated once more, which must not change what it counts.
fn still_used(w: &World, name: &str, wanted: &Value) {
    let path = format!("{}/{name}", quotas(w));
    let before: u32 =
        w.get(&path)["spec"]["hard"]["pods"].as_str().and_then(|n| n.parse().ok()).expect("pods");
    let hard = json!({"hard": {"pods": (before + 1).to_string()}});
    w.patch(&path, "merge-patch+json", &json!({"spec": hard}));
    wait_for("the calculation", || holds(&w.get(&path)["status"], &hard));
    assert_holds(&w.get(&path)["status"]["used"], wanted);
}

/// A quota of everything that the tests count.
fn everything(w: &World, secrets: usize, config_maps: usize) {
    let hard = json!({
        "pods": "5", "services": "10", "services.nodeports": "1", "services.loadbalancers": "1",
        "replicationcontrollers": "10", "resourcequotas": "1", "cpu": "1", "memory": "500Mi",
        "configmaps": config_maps.to_string(), "secrets": secrets.to_string(), "persistentvolumeclaims": "10",
        "requests.storage": "10Gi", "ephemeral-storage": "50Gi",
        "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "10",
        "gold.storageclass.storage.k8s.io/requests.storage": "10Gi",
        "count/replicasets.apps": "5", "requests.example.com/dongle": "3",
    });
    quota(w, "quota", &json!({"hard": hard}));
    used(w, "quota", &json!({"resourcequotas": "1"}));
}

fn calculated(w: &World) {
    everything(w, 10, 10);
}

/// One object is counted under `counted` from when it is there to when it is gone.
fn is_counted(w: &World, version: &str, resource: &str, counted: &str, object: &Value) {
    let path = w.path(version, resource);
    let before = w.items(&path).len();
    used(w, "quota", &json!({counted: before.to_string()}));
    let created = w.create(&path, object);
    used(w, "quota", &json!({"resourcequotas": "1", counted: (before + 1).to_string()}));
    let one = format!("{path}/{}", created["metadata"]["name"].as_str().expect("a name"));
    w.ask("DELETE", &one, &json!({"propagationPolicy": "Background"}), 200);
    used(w, "quota", &json!({counted: before.to_string()}));
}

/// There is one of the last kind that the quota has room for, so the next is refused.
fn is_counted_and_limited(w: &World, resource: &str, object: &Value) {
    let path = w.path("api/v1", resource);
    let last = w.items(&path).len() + 1;
    everything(w, last, last);
    is_counted(w, "api/v1", resource, resource, object);
    w.create(&path, object);
    let mut next = object.clone();
    next["metadata"]["name"] = "next".into();
    assert_eq!(w.ask("POST", &path, &next, 403)["reason"], "Forbidden");
}

fn secrets(w: &World) {
    let data = json!({"data-1": "dmFsdWUtMQo=", "data-2": "dmFsdWUtMgo="});
    is_counted_and_limited(w, "secrets", &json!({"metadata": {"name": "secret"}, "data": data}));
}

fn config_maps(w: &World) {
    let root = w.path("api/v1", "configmaps/kube-root-ca.crt");
    wait_for("the map that each namespace has", || !w.gone(&root));
    is_counted_and_limited(w, "configmaps", &json!({"metadata": {"name": "map"}, "data": {"a": "b"}}));
}

fn replication_controllers(w: &World) {
    everything(w, 10, 10);
    let template = json!({"metadata": {"labels": {"of": "rc"}}, "spec": pod(&json!({}))});
    let spec = json!({"replicas": 0, "selector": {"of": "rc"}, "template": template});
    let object = json!({"metadata": {"name": "rc"}, "spec": spec});
    is_counted(w, "api/v1", "replicationcontrollers", "replicationcontrollers", &object);
}

fn replica_sets(w: &World) {
    everything(w, 10, 10);
    let template = json!({"metadata": {"labels": {"of": "rs"}}, "spec": pod(&json!({}))});
    let spec = json!({"replicas": 0, "selector": {"matchLabels": {"of": "rs"}}, "template": template});
    let object = json!({"metadata": {"name": "rs"}, "spec": spec});
    is_counted(w, "apis/apps/v1", "replicasets", "count/replicasets.apps", &object);
}

fn services(w: &World) {
    everything(w, 10, 10);
    let path = w.path("api/v1", "services");
    let service = |name: &str, kind: &str| json!({"metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80, "targetPort": 80}]}});
    w.create(&path, &service("service", "ClusterIP"));
    w.create(&path, &service("node-port", "NodePort"));
    let mut balancer = service("balancer", "LoadBalancer");
    balancer["spec"]["allocateLoadBalancerNodePorts"] = true.into();
    let refused = w.ask("POST", &path, &balancer, 403);
    assert!(refused["message"].as_str().is_some_and(|m| m.contains("services.nodeports")), "{refused}");
    used(w, "quota", &json!({"resourcequotas": "1", "services": "2", "services.nodeports": "1"}));
    for name in ["service", "node-port"] {
        w.delete(&format!("{path}/{name}"));
    }
    used(w, "quota", &json!({"services": "0", "services.nodeports": "0"}));
}

/// The spec of a pod with these resources that no node suits.
fn pod(resources: &Value) -> Value {
    let container = json!({"name": "pause", "image": "busybox:1.36", "resources": resources});
    json!({"nodeSelector": {"of-no": "node"}, "containers": [container]})
}

fn named(name: &str, spec: &Value) -> Value {
    json!({"metadata": {"name": name}, "spec": spec})
}

fn delete_at_once(w: &World, name: &str) {
    w.ask("DELETE", &format!("{}/{name}", w.path("api/v1", "pods")), &json!({"gracePeriodSeconds": 0}), 200);
}

fn pods(w: &World) {
    everything(w, 10, 10);
    let path = w.path("api/v1", "pods");
    let resources = |cpu: &str, memory: &str| {
        json!({
            "requests": {"cpu": cpu, "memory": memory, "ephemeral-storage": "30Gi", "example.com/dongle": "2"},
            "limits": {"example.com/dongle": "2"},
        })
    };
    let mut created = w.create(&path, &named("fits", &pod(&resources("500m", "252Mi"))));
    let counted = json!({
        "resourcequotas": "1", "pods": "1", "cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi",
        "requests.example.com/dongle": "2",
    });
    used(w, "quota", &counted);

    let exceeds = |name: &str, resources: &Value, what: &str| {
        let refused = w.ask("POST", &path, &named(name, &pod(resources)), 403);
        assert!(refused["message"].as_str().is_some_and(|m| m.contains(what)), "{refused}");
    };
    exceeds(
        "cpu",
        &json!({"requests": {"cpu": "600m", "memory": "100Mi", "ephemeral-storage": "1Gi"}}),
        "cpu",
    );
    exceeds("dongle", &resources("500m", "100Mi"), "requests.example.com/dongle");

    // The scheduler has written since.
    created["metadata"]["resourceVersion"].take();
    created["spec"]["containers"][0]["resources"]["requests"] =
        json!({"cpu": "100m", "memory": "100Mi", "ephemeral-storage": "10Gi"});
    w.ask("PUT", &format!("{path}/fits"), &created, 422);
    still_used(w, "quota", &counted);

    delete_at_once(w, "fits");
    used(
        w,
        "quota",
        &json!({
            "resourcequotas": "1", "pods": "0", "cpu": "0", "memory": "0", "ephemeral-storage": "0",
            "requests.example.com/dongle": "0",
        }),
    );
}

/// A pod is counted by the one quota and not by the other; without it, by none.
fn is_counted_by(w: &World, by: &str, not_by: &str, spec: &Value, counted: &Value) {
    let nothing: Value =
        counted.as_object().expect("counts").keys().map(|k| (k.clone(), Value::from("0"))).collect();
    w.create(&w.path("api/v1", "pods"), &named("pod", spec));
    used(w, by, counted);
    still_used(w, not_by, &nothing);
    delete_at_once(w, "pod");
    used(w, by, &nothing);
}

fn bounded() -> Value {
    json!({"requests": {"cpu": "500m", "memory": "200Mi"}, "limits": {"cpu": "1", "memory": "400Mi"}})
}

fn terminating_scopes(w: &World) {
    let hard = json!({
        "pods": "5", "requests.cpu": "1", "requests.memory": "500Mi", "limits.cpu": "2", "limits.memory": "1Gi",
    });
    quota(w, "ends", &json!({"hard": hard, "scopes": ["Terminating"]}));
    quota(w, "stays", &json!({"hard": hard, "scopes": ["NotTerminating"]}));
    let counted = json!({
        "pods": "1", "requests.cpu": "500m", "requests.memory": "200Mi", "limits.cpu": "1", "limits.memory": "400Mi",
    });
    let mut spec = pod(&bounded());
    is_counted_by(w, "stays", "ends", &spec, &counted);
    spec["activeDeadlineSeconds"] = 3600.into();
    is_counted_by(w, "ends", "stays", &spec, &counted);
}

fn best_effort_scopes(w: &World) {
    for scope in ["BestEffort", "NotBestEffort"] {
        quota(w, &scope.to_lowercase(), &json!({"hard": {"pods": "5"}, "scopes": [scope]}));
    }
    let counted = json!({"pods": "1"});
    is_counted_by(w, "besteffort", "notbesteffort", &pod(&json!({})), &counted);
    is_counted_by(w, "notbesteffort", "besteffort", &pod(&bounded()), &counted);
}

fn hard(cpu: &str, memory: &str) -> Value {
    json!({"hard": {"cpu": cpu, "memory": memory}})
}

fn update_and_delete(w: &World) {
    let path = format!("{}/quota", quotas(w));
    w.create(&quotas(w), &named("quota", &hard("1", "500Mi")));
    assert_eq!(w.get(&path)["spec"], hard("1", "500Mi"));
    // Without a version, as upstream's client does it.
    let updated = w.ask("PUT", &path, &named("quota", &hard("2", "1Gi")), 200);
    assert_eq!(updated["spec"], hard("2", "1Gi"));
    assert_eq!(w.get(&path)["spec"], hard("2", "1Gi"));
    w.delete(&path);
    assert!(w.gone(&path));
}

/// A quota with a label of this test's own, and the query that selects it.
fn labelled(w: &World, spec: &Value) -> String {
    w.create(
        &quotas(w),
        &json!({"metadata": {"name": "quota", "labels": {"of": w.namespace}}, "spec": spec}),
    );
    format!("labelSelector=of%3D{}", w.namespace)
}

fn lifecycle(w: &World) {
    let path = format!("{}/quota", quotas(w));
    let selected = labelled(w, &hard("1", "500Mi"));
    assert_eq!(w.get(&path)["spec"], hard("1", "500Mi"));
    let all = w.items(&format!("/api/v1/resourcequotas?{selected}"));
    assert_eq!(all.len(), 1);
    let patch = json!({"metadata": {"labels": {"state": "patched"}}, "spec": {"hard": {"memory": "750Mi"}}});
    let patched = w.patch(&path, "strategic-merge-patch+json", &patch);
    assert_holds(&patched, &patch);
    assert_holds(&patched["spec"], &hard("1", "750Mi"));
    assert!(newer(&patched, &all[0]));
    w.delete(&format!("{}?{selected}", quotas(w)));
    assert!(w.gone(&path));
}

fn status(w: &World) {
    let path = format!("{}/quota", quotas(w));
    let from = version(&w.get(&quotas(w))).to_owned();
    let selected = labelled(w, &hard("500m", "500Mi"));
    let created = w.get(&path);
    assert_eq!(created["spec"], hard("500m", "500Mi"));

    let updated = w.update(&path, "/status", |o| o["status"] = json!({"hard": created["spec"]["hard"]}));
    assert_holds(&updated["status"], &hard("500m", "500Mi"));
    let is = |o: &Value, wanted: &Value| holds(&o["status"], wanted);
    let mut lines = w.watch(&quotas(w), &from, &selected);
    event(&mut lines, "MODIFIED", |o| is(o, &hard("500m", "500Mi")));

    let patched = w.patch(&path, "strategic-merge-patch+json", &json!({"spec": hard("1", "1Gi")}));
    assert_eq!(patched["spec"], hard("1", "1Gi"));
    let to = format!("{path}/status");
    w.patch(&to, "strategic-merge-patch+json", &json!({"status": hard("1", "1Gi")}));
    event(&mut lines, "MODIFIED", |o| is(o, &hard("1", "1Gi")));
    assert_holds(&w.get(&to)["status"], &hard("1", "1Gi"));

    // What the status is given does not reach the spec, and is corrected from there.
    let patched = w.patch(&to, "strategic-merge-patch+json", &json!({"status": hard("2", "2Gi")}));
    assert_holds(&patched["status"], &hard("2", "2Gi"));
    event(&mut lines, "MODIFIED", |o| is(o, &hard("2", "2Gi")));
    event(&mut lines, "MODIFIED", |o| is(o, &hard("1", "1Gi")));
    assert_eq!(w.get(&path)["spec"], hard("1", "1Gi"));
}
