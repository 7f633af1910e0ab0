//! Stateful sets, but for their order (test/e2e/apps/statefulset.go).

use e2e::machines::NODES;
use serde_json::{Value, json};
use testkit::{wait_for, wait_within};

use crate::common::{
    IMAGE, NEXT, apps, count, is_observed, is_ready, is_running, name, now, pod, pod_path, pods, pods_path,
    running, scales, selecting, sleeping, status_is_written, uid, wait_running, wait_until, workload,
};
use crate::world::{Tests, World, event, newer};

pub const TESTS: Tests = &[
    (
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should perform canary updates and phased rolling updates of template modifications [Conformance]",
        canary,
    ),
    (
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should perform rolling updates and roll backs of template modifications [Conformance]",
        rollback,
    ),
    (
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Should recreate evicted statefulset [Conformance]",
        recreate,
    ),
    (
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should have a working scale subresource [Conformance]",
        scale,
    ),
    (
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should list, patch and delete a collection of StatefulSets [Conformance]",
        collection,
    ),
    (
        "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should validate Statefulset Status endpoints [Conformance]",
        status,
    ),
];

pub fn path(w: &World) -> String {
    format!("{}/ss", apps(w, "statefulsets"))
}

/// The set `ss` behind a headless service, with pods that are ready while a page is there: see `break_probe`.
pub fn create(w: &World, replicas: usize, change: impl FnOnce(&mut Value)) -> Value {
    let service = json!({"clusterIP": "None", "selector": {"app": "ss"}, "ports": [{"port": 80}]});
    w.create(&w.path("api/v1", "services"), &json!({"metadata": {"name": "test"}, "spec": service}));
    let mut container = running("mkdir -p /w; echo it >/w/page; httpd -f -p 80 -h /w");
    container["readinessProbe"] = json!({
        "httpGet": {"path": "/page", "port": 80}, "periodSeconds": 1, "successThreshold": 1, "failureThreshold": 1,
    });
    let mut body = workload("ss", replicas, &json!({"app": "ss"}), container);
    body["spec"]["serviceName"] = json!("test");
    change(&mut body);
    w.create(&apps(w, "statefulsets"), &body)
}

/// The pods of the set, by their ordinals.
pub fn own(w: &World) -> Vec<Value> {
    let mut all = pods(w, "app=ss");
    all.sort_by(|a, b| name(a).cmp(name(b)));
    all
}

pub fn wait_ready(w: &World, n: usize) -> Vec<Value> {
    wait_for(&format!("{n} ready pods"), || {
        let all = own(w);
        assert!(all.len() <= n, "{} pods", all.len());
        all.len() == n && all.iter().all(|p| is_running(p) && is_ready(p))
    });
    own(w)
}

/// Takes the page from a pod, or gives it back.
pub fn probe(w: &World, pod: &str, works: bool) {
    let (from, to) = if works { ("/page", "/w/page") } else { ("/w/page", "/page") };
    w.kubectl(&["exec", pod, "--", "sh", "-c", &format!("[ ! -e {from} ] || mv {from} {to}")]);
}

fn observed(w: &World) -> Value {
    wait_until(w, &path(w), "to be observed", is_observed)
}

fn revisions(set: &Value) -> (&str, &str) {
    let text = |field: &str| set["status"][field].as_str().unwrap_or_else(|| panic!("no {field}: {set}"));
    (text("currentRevision"), text("updateRevision"))
}

fn is_of(pod: &Value, image: &str, revision: &str) {
    assert_eq!(pod["spec"]["containers"][0]["image"], image, "{}", name(pod));
    assert_eq!(pod["metadata"]["labels"]["controller-revision-hash"], revision, "{}", name(pod));
}

fn set_image(w: &World, image: &str) {
    w.update(&path(w), "", |s| s["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image));
}

/// Waits until an update has come down to its partition.
fn wait_updated(w: &World, partition: usize) -> (Value, Vec<Value>) {
    let (mut set, mut all) = (Value::Null, Vec::new());
    wait_within(std::time::Duration::from_secs(120), "the update to be through", || {
        (set, all) = (w.get(&path(w)), own(w));
        let (current, update) = revisions(&set);
        all.len() == 3
            && (partition > 0 || current == update)
            && all
                .iter()
                .skip(partition)
                .all(|p| p["metadata"]["labels"]["controller-revision-hash"] == update)
    });
    (set, all)
}

fn not_ready(w: &World, pod: &str) {
    wait_until(w, &pod_path(w, pod), "not to be ready", |p| !is_ready(p));
}

fn rollback(w: &World) {
    create(w, 3, |_| {});
    let all = wait_ready(w, 3);
    let set = observed(w);
    let (first, update) = revisions(&set);
    assert_eq!(first, update);
    for pod in &all {
        is_of(pod, IMAGE, first);
    }
    // Twice: forward and back, each held up by a pod in the middle.
    let mut before = first.to_owned();
    for (image, back) in [(NEXT, false), (IMAGE, true)] {
        probe(w, "ss-1", false);
        not_ready(w, "ss-1");
        set_image(w, image);
        let set = observed(w);
        let (current, update) = revisions(&set);
        assert_eq!(current, before, "it is not through yet");
        assert_ne!(current, update);
        assert_eq!(back, update == first, "the way back leads to the revision that was");
        probe(w, "ss-1", true);
        let (after, all) = wait_updated(w, 0);
        assert_eq!(revisions(&after).0, update);
        for pod in &all {
            is_of(pod, image, update);
        }
        wait_ready(w, 3);
        before = update.to_owned();
    }
}

fn partition(w: &World, n: usize) {
    w.update(&path(w), "", |s| {
        s["spec"]["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": n}});
    });
}

fn canary(w: &World) {
    create(w, 3, |s| {
        s["spec"]["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 3}});
    });
    let all = wait_ready(w, 3);
    let set = observed(w);
    let (old, update) = revisions(&set);
    assert_eq!(old, update);
    for pod in &all {
        is_of(pod, IMAGE, old);
    }
    set_image(w, NEXT);
    let set = observed(w);
    let (current, new) = revisions(&set);
    assert!(current == old && current != new, "{}", set["status"]);
    crate::common::meanwhile(w, || {});
    for pod in own(w) {
        is_of(&pod, IMAGE, old);
    }
    let split = |all: &[Value], partition: usize| {
        for (n, pod) in all.iter().enumerate() {
            if n < partition { is_of(pod, IMAGE, old) } else { is_of(pod, NEXT, new) }
        }
    };
    partition(w, 2);
    split(&wait_updated(w, 2).1, 2);
    // What is made anew is what its place says.
    for pod in ["ss-0", "ss-2"] {
        let before = w.get(&pod_path(w, pod));
        w.delete(&pod_path(w, pod));
        wait_for("a pod to be made anew", || own(w).iter().any(|p| name(p) == pod && uid(p) != uid(&before)));
    }
    split(&wait_ready(w, 3), 2);
    for n in [1, 0] {
        partition(w, n);
        split(&wait_updated(w, n).1, n);
    }
    let set = w.get(&path(w));
    assert_eq!(revisions(&set).0, new);
}

/// A pod that its node refuses is made anew until it is let in.
fn recreate(w: &World) {
    let mut blocking = pod("test-pod", &json!({}), sleeping());
    let port = json!([{"hostPort": 21017, "containerPort": 21017, "name": "conflict"}]);
    blocking["spec"]["containers"][0]["ports"] = port.clone();
    blocking["spec"]["nodeName"] = json!(NODES[2]);
    w.create(&pods_path(w), &blocking);
    wait_until(w, &pod_path(w, "test-pod"), "to run", is_running);
    let from = now(w, &pods_path(w));
    create(w, 1, |s| {
        let pod = &mut s["spec"]["template"]["spec"];
        pod["containers"][0]["ports"] = port;
        pod["nodeName"] = json!(NODES[2]);
    });
    let mut lines = w.watch(&pods_path(w), &from, "fieldSelector=metadata.name%3Dss-0");
    let gone = event(&mut lines, "DELETED", |_| true);
    w.ask("DELETE", &pod_path(w, "test-pod"), &json!({"gracePeriodSeconds": 0}), 200);
    wait_for("the set's pod to run", || own(w).iter().any(|p| is_running(p) && uid(p) != uid(&gone)));
}

fn scale(w: &World) {
    create(w, 1, |_| {});
    wait_ready(w, 1);
    wait_until(w, &path(w), "to tell of it", |s| is_observed(s) && count(s, "replicas") == 1);
    scales(w, &path(w));
}

fn collection(w: &World) {
    let made = create(w, 1, |_| {});
    wait_ready(w, 1);
    observed(w);
    let label = format!("test-ss={}", w.namespace);
    let template = json!({"spec": {
        "terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": NEXT}],
    }});
    let patch = json!({"metadata": {"labels": {"test-ss": w.namespace}}, "spec": {"replicas": 2, "template": template}});
    let patched = w.patch(&path(w), "strategic-merge-patch+json", &patch);
    assert!(newer(&patched, &made));
    let set = w.get(&path(w));
    assert_eq!(set["spec"]["replicas"], 2);
    assert_eq!(set["spec"]["template"]["spec"]["containers"][0]["image"], NEXT);
    wait_ready(w, 2);
    observed(w);
    let everywhere = format!("/apis/apps/v1/statefulsets?{}", selecting(&label));
    assert_eq!(w.items(&everywhere).len(), 1);
    let own = format!("{}?{}", apps(w, "statefulsets"), selecting(&label));
    w.ask("DELETE", &own, &json!({"gracePeriodSeconds": 1}), 200);
    assert!(w.items(&everywhere).is_empty());
}

fn status(w: &World) {
    let from = now(w, &apps(w, "statefulsets"));
    create(w, 1, |_| {});
    wait_ready(w, 1);
    observed(w);
    w.patch(&path(w), "strategic-merge-patch+json", &json!({"metadata": {"labels": {"e2e": "testing"}}}));
    status_is_written(w, &apps(w, "statefulsets"), "ss", "e2e=testing", &from);
    wait_running(w, "app=ss", 1);
}
