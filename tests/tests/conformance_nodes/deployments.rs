//! Rollouts (test/e2e/apps/deployment.go).

use serde_json::{Value, json};
use testkit::wait_for;

use crate::common::{
    IMAGE, MISSING, NEXT, apps, controller, count, is_observed, name, now, pods_path, scales, selecting,
    sleeping, status_is_written, uid, wait_running, wait_until, workload,
};
use crate::world::{Tests, World, event, newer, version};

pub const TESTS: Tests = &[
    ("[sig-apps] Deployment deployment should support proportional scaling [Conformance]", proportional),
    ("[sig-apps] Deployment deployment should support rollover [Conformance]", rollover),
    ("[sig-apps] Deployment should run the lifecycle of a Deployment [Conformance]", lifecycle),
    (
        "[sig-apps] Deployment RollingUpdateDeployment should delete old pods and create new ones [Conformance]",
        rolling_update,
    ),
    (
        "[sig-apps] Deployment RecreateDeployment should delete old pods and create new ones [Conformance]",
        recreate,
    ),
    ("[sig-apps] Deployment deployment should delete old replica sets [Conformance]", old_sets),
    ("[sig-apps] Deployment Deployment should have a working scale subresource [Conformance]", scale),
    ("[sig-apps] Deployment should validate Deployment Status endpoints [Conformance]", status),
];

const REVISION: &str = "deployment.kubernetes.io/revision";

fn path(w: &World, name: &str) -> String {
    format!("{}/{name}", apps(w, "deployments"))
}

/// Pods with the label `app=<name>`; the path.
fn create(w: &World, name: &str, replicas: usize, change: impl FnOnce(&mut Value)) -> String {
    let mut body = workload(name, replicas, &json!({"app": name}), sleeping());
    change(&mut body);
    w.create(&apps(w, "deployments"), &body);
    path(w, name)
}

/// A set that a Deployment of this name would adopt.
fn create_set(w: &World, set: &str, of: &str) -> Value {
    let body = workload(set, 1, &json!({"app": of, "pod": "own"}), sleeping());
    let made = w.create(&apps(w, "replicasets"), &body);
    wait_running(w, &format!("app={of}"), 1);
    made
}

/// The sets of a Deployment, by whether they have its template: the new one and the old ones.
fn sets(w: &World, path: &str) -> (Option<Value>, Vec<Value>) {
    let deployment = w.get(path);
    let mut all = w.items(&apps(w, "replicasets"));
    all.retain(|s| controller(s) == Some(uid(&deployment)));
    let is_new = |s: &Value| {
        let mut template = s["spec"]["template"].clone();
        template["metadata"]["labels"].as_object_mut().expect("labels").remove("pod-template-hash");
        template == deployment["spec"]["template"]
    };
    let (mut new, old): (Vec<_>, Vec<_>) = all.into_iter().partition(is_new);
    assert!(new.len() < 2, "two sets of one template: {new:#?}");
    (new.pop(), old)
}

fn new_set(w: &World, path: &str) -> Value {
    sets(w, path).0.unwrap_or_else(|| panic!("{path} has no new set"))
}

/// Waits until the new set has this revision, as the Deployment has, and this image.
fn wait_revision(w: &World, path: &str, revision: &str, image: &str) {
    wait_for(&format!("revision {revision} of {path}"), || {
        let deployment = w.get(path);
        let is = |o: &Value| {
            o["metadata"]["annotations"][REVISION] == revision
                && o["spec"]["template"]["spec"]["containers"][0]["image"] == image
        };
        is_observed(&deployment) && is(&deployment) && sets(w, path).0.is_some_and(|s| is(&s))
    });
}

fn is_complete(d: &Value) -> bool {
    let replicas = d["spec"]["replicas"].as_u64().expect("replicas");
    let all = ["replicas", "updatedReplicas", "availableReplicas"];
    is_observed(d) && all.iter().all(|field| count(d, field) == replicas)
}

fn wait_complete(w: &World, path: &str) -> Value {
    wait_until(w, path, "to be complete", is_complete)
}

fn set_image(w: &World, path: &str, image: &str) -> Value {
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    w.patch(path, "strategic-merge-patch+json", &patch)
}

/// A set that is there already is adopted, and its revision counted on from.
fn rolling_update(w: &World) {
    let mut body = workload("before", 1, &json!({"app": "d", "pod": "own"}), sleeping());
    body["metadata"]["annotations"] = json!({REVISION: "3546343826724305832"});
    w.create(&apps(w, "replicasets"), &body);
    wait_running(w, "app=d", 1);
    let path = create(w, "d", 1, |_| {});
    wait_revision(w, &path, "3546343826724305833", IMAGE);
    wait_complete(w, &path);
    let (_, old) = sets(w, &path);
    let [old] = old.as_slice() else { panic!("{old:#?}") };
    assert_eq!(name(old), "before");
    // What came before is gone, but for what is on its way.
    wait_until(w, &format!("{}/before", apps(w, "replicasets")), "no pods", |s| count(s, "replicas") == 0);
}

fn recreate(w: &World) {
    let path = create(w, "d", 1, |d| d["spec"]["strategy"] = json!({"type": "Recreate"}));
    wait_revision(w, &path, "1", IMAGE);
    wait_complete(w, &path);
    let first = wait_running(w, "app=d", 1).remove(0);
    let mut seen = w.watch(&pods_path(w), &now(w, &pods_path(w)), &selecting("app=d"));
    let changed = set_image(w, &path, NEXT);
    let mut lines = w.watch(&apps(w, "deployments"), version(&changed), "");
    event(&mut lines, "MODIFIED", |d| {
        let (all, updated) = (count(d, "replicas"), count(d, "updatedReplicas"));
        assert!(updated == 0 || all == updated, "new pods beside old ones: {d}");
        is_observed(d) && d["spec"]["replicas"] == all && all == updated
    });
    // Also as the pods have it: the old one is gone before the new one is there.
    event(&mut seen, "DELETED", |p| uid(p) == uid(&first));
    event(&mut seen, "ADDED", |p| uid(p) != uid(&first));
    wait_complete(w, &path);
}

fn old_sets(w: &World) {
    create_set(w, "before", "d");
    let mut lines = w.watch(&pods_path(w), &now(w, &pods_path(w)), "");
    let path = create(w, "d", 1, |d| d["spec"]["revisionHistoryLimit"] = json!(0));
    wait_complete(w, &path);
    wait_for("the old set to be deleted", || sets(w, &path).1.is_empty() && sets(w, &path).0.is_some());
    wait_for("its pod to go", || w.items(&pods_path(w)).len() == 1);
    // One pod was made, by the new set; what follows is the end of the history that is looked at.
    let end = crate::common::pod("end", &json!({"is": "end"}), sleeping());
    w.create(&pods_path(w), &end);
    let mut made = Vec::new();
    event(&mut lines, "ADDED", |p| {
        made.push(p.clone());
        name(p) == "end"
    });
    let [first, _] = made.as_slice() else { panic!("{} pods were made", made.len() - 1) };
    assert_eq!(controller(first), Some(uid(&new_set(w, &path))));
    assert_eq!(first["spec"]["containers"][0]["name"], "c");
}

fn rollover(w: &World) {
    let before = create_set(w, "before", "d");
    let before = format!("{}/{}", apps(w, "replicasets"), name(&before));
    wait_until(w, &before, "to be ready", |s| count(s, "readyReplicas") == 1);
    let path = create(w, "d", 1, |d| {
        d["spec"]["strategy"] =
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}});
        d["spec"]["minReadySeconds"] = json!(2);
        d["spec"]["template"]["spec"]["containers"][0]["image"] = json!(MISSING);
    });
    wait_until(w, &path, "a new pod", |d| is_observed(d) && count(d, "updatedReplicas") >= 1);
    wait_revision(w, &path, "1", MISSING);
    let has = |set: &str, n: u64| {
        let s = w.get(set);
        assert_eq!((s["spec"]["replicas"].as_u64(), count(&s, "replicas")), (Some(n), n), "{set}");
    };
    // Nothing becomes of it, so that the old pod stays.
    let middle = format!("{}/{}", apps(w, "replicasets"), name(&new_set(w, &path)));
    wait_until(w, &middle, "to have made its pod", |s| count(s, "replicas") == 1);
    has(&before, 1);
    has(&middle, 1);
    set_image(w, &path, NEXT);
    wait_revision(w, &path, "2", NEXT);
    wait_for("the rollout to be complete", || {
        let d = w.get(&path);
        // At no time less than one that is available, nor more than one beside it.
        assert!(count(&d, "availableReplicas") >= 1, "{}", d["status"]);
        let running: u64 =
            w.items(&apps(w, "replicasets")).iter().filter_map(|s| s["spec"]["replicas"].as_u64()).sum();
        assert!(running <= 2, "{running} replicas are wanted");
        is_complete(&d)
    });
    has(&before, 0);
    has(&middle, 0);
}

fn scale(w: &World) {
    let path = create(w, "d", 1, |_| {});
    wait_revision(w, &path, "1", IMAGE);
    wait_complete(w, &path);
    scales(w, &path);
}

fn proportional(w: &World) {
    let path = create(w, "d", 10, |d| {
        d["spec"]["strategy"] =
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2, "maxSurge": 3}});
    });
    wait_running(w, "app=d", 10);
    wait_complete(w, &path);
    let first = format!("{}/{}", apps(w, "replicasets"), name(&new_set(w, &path)));
    set_image(w, &path, MISSING);
    let wants = |set: &str, n: u64| {
        wait_until(w, set, &format!("{n} replicas wanted"), |s| s["spec"]["replicas"] == n);
        wait_until(w, set, &format!("{n} replicas"), |s| is_observed(s) && count(s, "replicas") == n)
    };
    wait_until(w, &first, "8 available", |s| count(s, "availableReplicas") == 8);
    wants(&first, 8);
    let second = format!("{}/{}", apps(w, "replicasets"), name(&new_set(w, &path)));
    assert_eq!(count(&wants(&second, 5), "availableReplicas"), 0);
    wait_until(w, &path, "8 available", |d| count(d, "availableReplicas") >= 8);
    w.patch(&path, "merge-patch+json", &json!({"spec": {"replicas": 30}}));
    for (set, n) in [(&first, 20), (&second, 13)] {
        wait_until(w, set, &format!("{n} replicas wanted"), |s| s["spec"]["replicas"] == n);
    }
}

fn lifecycle(w: &World) {
    let (all, own) = ("/apis/apps/v1/deployments", apps(w, "deployments"));
    let labels = format!("test-deployment-static={}", w.namespace);
    let selected = selecting(&labels);
    let listed = w.get(&format!("{all}?{selected}"));
    let mut body = workload("d", 2, &json!({"test-deployment-static": w.namespace}), sleeping());
    body["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(1);
    let created = w.create(&own, &body);
    let path = path(w, "d");
    let mut lines = w.watch(&own, version(&listed), &selected);
    event(&mut lines, "ADDED", |d| name(d) == "d");
    event(&mut lines, "MODIFIED", |d| count(d, "readyReplicas") == 2);

    let template = json!({"spec": {
        "terminationGracePeriodSeconds": 2, "containers": [{"name": "c", "image": NEXT}],
    }});
    let patch = json!({
        "metadata": {"labels": {"test-deployment": "patched"}}, "spec": {"replicas": 1, "template": template},
    });
    let patched = w.patch(&path, "strategic-merge-patch+json", &patch);
    assert!(newer(&patched, &created));
    let is = |d: &Value, replicas: u64, image: &str| {
        let settled =
            [("readyReplicas", replicas), ("updatedReplicas", replicas), ("unavailableReplicas", 0)];
        settled.iter().all(|(field, n)| count(d, field) == *n)
            && d["spec"]["template"]["spec"]["containers"][0]["image"] == image
    };
    event(&mut lines, "MODIFIED", |d| d["metadata"]["labels"]["test-deployment"] == "patched");
    event(&mut lines, "MODIFIED", |d| {
        is(d, 1, NEXT) && d["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 2
    });
    let listed = w.get(&format!("{all}?{selected}"));
    let items = listed["items"].as_array().expect("items");
    assert!(items.iter().any(|d| name(d) == "d" && d["metadata"]["namespace"] == w.namespace.as_str()));

    // As a client that never read it writes it.
    body["metadata"]["labels"]["test-deployment"] = json!("updated");
    w.ask("PUT", &path, &body, 200);
    let mut lines = w.watch(&own, version(&listed), &selected);
    event(&mut lines, "MODIFIED", |d| d["metadata"]["labels"]["test-deployment"] == "updated");
    let has_it = || {
        let read = w.get(&format!("{path}/status"));
        assert_eq!(read["spec"]["template"]["spec"]["containers"][0]["image"], IMAGE);
        assert_eq!(read["metadata"]["labels"]["test-deployment"], "updated");
    };
    has_it();
    event(&mut lines, "MODIFIED", |d| is(d, 2, IMAGE));

    let from = now(w, &own);
    let patch = json!({"status": {"readyReplicas": 0, "availableReplicas": 0}});
    w.patch(&format!("{path}/status"), "strategic-merge-patch+json", &patch);
    let mut lines = w.watch(&own, &from, &selected);
    event(&mut lines, "MODIFIED", |d| count(d, "readyReplicas") == 0 && count(d, "availableReplicas") == 0);
    has_it();
    // The controller puts it right.
    event(&mut lines, "MODIFIED", |d| is(d, 2, IMAGE));

    w.ask("DELETE", &format!("{own}?{selected}"), &json!({"gracePeriodSeconds": 1}), 200);
    event(&mut lines, "DELETED", |d| name(d) == "d");
}

fn status(w: &World) {
    let from = now(w, &apps(w, "deployments"));
    let path = create(w, "d", 1, |_| {});
    wait_revision(w, &path, "1", IMAGE);
    wait_complete(w, &path);
    status_is_written(w, &apps(w, "deployments"), "d", "app=d", &from);
}
