//! Disruption budgets (test/e2e/apps/disruption.go).

use serde_json::{Value, json};
use testkit::wait_for;

use crate::common::{
    apps, count, is_observed, is_ready, name, pod, pod_path, pods, pods_path, selecting, sleeping,
    wait_until, workload,
};
use crate::world::{Tests, World, newer};

pub const TESTS: Tests = &[
    (
        "[sig-apps] DisruptionController Listing PodDisruptionBudgets for all namespaces should list and delete a collection of PodDisruptionBudgets [Conformance]",
        collection,
    ),
    ("[sig-apps] DisruptionController should create a PodDisruptionBudget [Conformance]", create_one),
    (
        "[sig-apps] DisruptionController should observe PodDisruptionBudget status updated [Conformance]",
        observed,
    ),
    ("[sig-apps] DisruptionController should update/patch PodDisruptionBudget status [Conformance]", status),
    (
        "[sig-apps] DisruptionController should block an eviction until the PDB is updated to allow it [Conformance]",
        block,
    ),
];

const PODS: &str = "foo=bar";

fn budgets(namespace: &str) -> String {
    format!("/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets")
}

fn path(w: &World) -> String {
    format!("{}/foo", budgets(&w.namespace))
}

/// Waits until the controller has seen it.
fn processed(w: &World, path: &str) -> Value {
    wait_until(w, path, "to be processed", is_observed)
}

fn create_in(w: &World, namespace: &str, name: &str, least: Value, labels: Value) {
    let spec = json!({"minAvailable": least, "selector": {"matchLabels": {"foo": "bar"}}});
    let budget = json!({"metadata": {"name": name, "labels": labels}, "spec": spec});
    w.create(&budgets(namespace), &budget);
    processed(w, &format!("{}/{name}", budgets(namespace)));
}

fn create(w: &World, least: Value) {
    create_in(w, &w.namespace, "foo", least, json!({"foo": "bar"}));
}

fn create_pods(w: &World, n: usize) {
    for i in 0..n {
        let pod = pod(&format!("pod-{i}"), &json!({"foo": "bar"}), sleeping());
        w.create(&pods_path(w), &pod);
    }
    wait_ready(w, n);
}

fn ready(w: &World) -> Vec<Value> {
    pods(w, PODS).into_iter().filter(is_ready).collect()
}

fn wait_ready(w: &World, n: usize) {
    wait_for(&format!("{n} ready pods"), || ready(w).len() >= n);
}

fn collection(w: &World) {
    let other = format!("{}-2", w.namespace);
    w.create_namespace(&other, json!({}));
    let labels = json!({"foo_pdb": w.namespace});
    create_in(w, &w.namespace, "foo", json!(2), labels.clone());
    create_in(w, &w.namespace, "foo2", json!("1%"), labels.clone());
    create_in(w, &other, "foo3", json!(2), labels);
    let selected = selecting(&format!("foo_pdb={}", w.namespace));
    let names = |path: &str| {
        let mut names: Vec<String> =
            w.items(&format!("{path}?{selected}")).iter().map(|b| name(b).to_owned()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names("/apis/policy/v1/poddisruptionbudgets"), ["foo", "foo2", "foo3"]);
    assert_eq!(names(&budgets(&w.namespace)), ["foo", "foo2"]);
    w.delete(&budgets(&w.namespace));
    wait_for("the budgets to go", || w.items(&budgets(&w.namespace)).is_empty());
    assert_eq!(names("/apis/policy/v1/poddisruptionbudgets"), ["foo3"]);
}

fn create_one(w: &World) {
    create(w, json!("1%"));
    let updated = w.update(&path(w), "", |b| b["spec"]["minAvailable"] = json!("2%"));
    assert_eq!(updated["spec"]["minAvailable"], "2%");
    processed(w, &path(w));
    let patched = w.patch(&path(w), "merge-patch+json", &json!({"spec": {"minAvailable": "3%"}}));
    assert_eq!(patched["spec"]["minAvailable"], "3%");
    assert!(newer(&patched, &updated));
    processed(w, &path(w));
    w.delete(&path(w));
    wait_for("it to go", || w.gone(&path(w)));
}

fn observed(w: &World) {
    create(w, json!(1));
    create_pods(w, 3);
    wait_until(w, &path(w), "to allow disruptions", |b| count(b, "disruptionsAllowed") > 0);
}

fn status(w: &World) {
    create(w, json!(1));
    create_pods(w, 1);
    let pod = ready(w).remove(0);
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    w.update(&path(w), "/status", |b| b["status"]["disruptedPods"] = json!({name(&pod): now}));
    processed(w, &path(w));
    let read = w.get(&format!("{}/status", path(w)));
    assert!(read["status"]["disruptedPods"][name(&pod)].is_string(), "{read}");
    let none = json!({"status": {"disruptedPods": {name(&pod): null}}});
    let patched = w.patch(&format!("{}/status", path(w)), "merge-patch+json", &none);
    assert!(
        patched["status"]["disruptedPods"].as_object().is_none_or(serde_json::Map::is_empty),
        "{patched}"
    );
    processed(w, &path(w));
}

fn block(w: &World) {
    create(w, json!(3));
    w.create(&apps(w, "replicasets"), &workload("rs", 3, &json!({"foo": "bar"}), sleeping()));
    let evict = |pod: &Value| {
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name(pod), "namespace": w.namespace}});
        w.http.json("POST", &format!("{}/eviction", pod_path(w, name(pod))), &eviction)
    };
    let refused = |pod: &Value| {
        let answer = evict(pod);
        let causes = answer.json()["details"]["causes"].clone();
        let by_budget =
            causes.as_array().is_some_and(|l| l.iter().any(|c| c["reason"] == "DisruptionBudget"));
        assert!(answer.code == 429 && by_budget, "{}", answer.text());
    };
    wait_ready(w, 3);
    let pod = ready(w).remove(0);
    refused(&pod);
    w.update(&path(w), "", |b| b["spec"]["minAvailable"] = json!(2));
    processed(w, &path(w));
    wait_ready(w, 3);
    wait_until(w, &path(w), "to count three", |b| {
        count(b, "currentHealthy") == 3 && count(b, "desiredHealthy") == 2
    });
    assert_eq!(evict(&pod).code, 201);

    let none = json!({"spec": {"minAvailable": null, "maxUnavailable": 0}});
    w.patch(&path(w), "merge-patch+json", &none);
    processed(w, &path(w));
    wait_ready(w, 3);
    let pod = ready(w).remove(0);
    refused(&pod);
    w.delete(&path(w));
    wait_for("it to go", || w.gone(&path(w)));
    wait_ready(w, 3);
    assert_eq!(evict(&pod).code, 201);
}
