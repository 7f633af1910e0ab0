//! Limit ranges (test/e2e/scheduling/limit_range.go).

use serde_json::{Value, json};
use testkit::wait_for;

use crate::common::{name, pod, pod_path, pods_path, selecting, sleeping};
use crate::world::{Tests, World, event, newer, version};

pub const TESTS: Tests = &[
    (
        "[sig-scheduling] LimitRange should create a LimitRange with defaults and ensure pod has those defaults applied. [Conformance]",
        defaults,
    ),
    (
        "[sig-scheduling] LimitRange should list, patch and delete a LimitRange by collection [Conformance]",
        collection,
    ),
];

fn resources(cpu: &str, memory: &str, storage: &str) -> Value {
    json!({"cpu": cpu, "memory": memory, "ephemeral-storage": storage})
}

fn range(name: &str, labels: Value) -> Value {
    let limit = json!({
        "type": "Container",
        "min": resources("50m", "100Mi", "100Gi"),
        "max": resources("500m", "500Mi", "500Gi"),
        "default": resources("500m", "500Mi", "500Gi"),
        "defaultRequest": resources("100m", "200Mi", "200Gi"),
        "maxLimitRequestRatio": {},
    });
    json!({"metadata": {"name": name, "labels": labels}, "spec": {"limits": [limit]}})
}

fn asking(name: &str, requests: &Value, limits: &Value) -> Value {
    let mut container = sleeping();
    container["resources"] = json!({"requests": requests, "limits": limits});
    pod(name, &json!({}), container)
}

/// What a pod has once it is there.
fn has(w: &World, body: &Value, requests: &Value, limits: &Value) {
    w.create(&pods_path(w), body);
    let pod = w.get(&pod_path(w, name(body)));
    let own = &pod["spec"]["containers"][0]["resources"];
    assert_eq!((&own["requests"], &own["limits"]), (requests, limits));
}

fn defaults(w: &World) {
    let ranges = w.path("api/v1", "limitranges");
    let selected = selecting(&format!("time={}", w.namespace));
    let list = w.get(&format!("{ranges}?{selected}"));
    assert_eq!(list["items"], json!([]));
    let mut lines = w.watch(&ranges, version(&list), &selected);
    w.create(&ranges, &range("limit-range", json!({"time": w.namespace})));
    event(&mut lines, "ADDED", |r| name(r) == "limit-range");
    let path = format!("{ranges}/limit-range");
    let limit = w.get(&path)["spec"]["limits"][0].clone();
    let (request, most) = (resources("100m", "200Mi", "200Gi"), resources("500m", "500Mi", "500Gi"));
    assert_eq!((&limit["defaultRequest"], &limit["default"]), (&request, &most));

    let none = json!({});
    // No node has so much, which is not what this is about.
    has(w, &asking("pod-no-resources", &none, &none), &request, &most);
    let partial = asking(
        "pod-partial-resources",
        &json!({"memory": "150Mi", "ephemeral-storage": "150Gi"}),
        &json!({"cpu": "300m"}),
    );
    has(w, &partial, &resources("300m", "150Mi", "150Gi"), &resources("300m", "500Mi", "500Gi"));
    let refused = |requests: &Value, part: &str| {
        w.refused("POST", &pods_path(w), &asking("pfpod", requests, &none), part);
    };
    let (little, much) = (resources("10m", "50Mi", "50Gi"), resources("600m", "600Mi", "600Gi"));
    refused(&little, "minimum cpu usage per Container is 50m, but request is 10m");
    refused(&much, "must be less than or equal to cpu limit");

    let least = resources("9m", "49Mi", "49Gi");
    w.update(&path, "", |r| r["spec"]["limits"][0]["min"] = least.clone());
    assert_eq!(w.get(&path)["spec"]["limits"][0]["min"], least);
    // Admission knows of it a moment later.
    wait_for("a pod with little to be let in", || {
        w.http.json("POST", &pods_path(w), &asking("pfpod", &little, &none)).code == 201
    });
    refused(&much, "must be less than or equal to cpu limit");
    w.ask("DELETE", &path, &json!({"gracePeriodSeconds": 30}), 200);
    wait_for("the range to go", || w.items(&ranges).is_empty());
    wait_for("a pod with much to be let in", || {
        w.http.json("POST", &pods_path(w), &asking("pfpod2", &much, &none)).code == 201
    });
}

fn collection(w: &World) {
    let ranges = w.path("api/v1", "limitranges");
    let own = json!({"e2e-test": w.namespace, "state": "created"});
    let created = w.create(&ranges, &range("range", own.clone()));
    let other = format!("{}-2", w.namespace);
    w.create_namespace(&other, json!({}));
    w.create(&format!("/api/v1/namespaces/{other}/limitranges"), &range("range", own));
    let everywhere = format!("/api/v1/limitranges?{}", selecting(&format!("e2e-test={}", w.namespace)));
    assert_eq!(w.items(&everywhere).len(), 2);
    let mut limits = created["spec"]["limits"].clone();
    limits[0]["min"] = resources("9m", "49Mi", "49Gi");
    let patch = json!({"metadata": {"labels": {"state": "patched"}}, "spec": {"limits": limits}});
    let patched = w.patch(&format!("{ranges}/range"), "strategic-merge-patch+json", &patch);
    assert_eq!(patched["metadata"]["labels"]["state"], "patched");
    assert_eq!(patched["spec"]["limits"][0]["min"], limits[0]["min"]);
    assert!(newer(&patched, &created));
    let selected = format!("{ranges}?{}", selecting("state=patched"));
    w.delete(&selected);
    wait_for("it to go", || w.items(&selected).is_empty());
    assert_eq!(w.items(&everywhere).len(), 1);
}
