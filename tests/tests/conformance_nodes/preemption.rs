//! Pods that make room for others (test/e2e/scheduling/preemption.go).

use e2e::machines::NODES;
use serde_json::{Value, json};
use testkit::wait_for;

use crate::common::{
    Undo, apps, condition, is_leaving, is_running, meanwhile, name, now, pod, pod_path, pods_path, selecting,
    sleeping, wait_until, workload,
};
use crate::predicates::node_path;
use crate::world::{Tests, World, newer};

pub const TESTS: Tests = &[
    ("[sig-scheduling] SchedulerPreemption [Serial] validates basic preemption works [Conformance]", basic),
    (
        "[sig-scheduling] SchedulerPreemption [Serial] validates lower priority pod preemption by critical pod [Conformance]",
        by_critical,
    ),
    (
        "[sig-scheduling] SchedulerPreemption [Serial] validates pod disruption condition is added to the preempted pod [Conformance]",
        told,
    ),
    (
        "[sig-scheduling] SchedulerPreemption [Serial] PreemptionExecutionPath runs ReplicaSets to verify preemption running path [Conformance]",
        sets,
    ),
    (
        "[sig-scheduling] SchedulerPreemption [Serial] PriorityClass endpoints verify PriorityClass endpoints can be operated with different HTTP methods [Conformance]",
        classes,
    ),
];

const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
const SCARCE: &str = "scheduling.k8s.io/foo";

/// A class that goes with the test; its name.
fn class(w: &World, name: &str, value: i64) -> String {
    let name = format!("{}-{name}", w.namespace);
    w.create_for_test(CLASSES, &json!({"metadata": {"name": name}, "value": value}));
    name
}

/// Gives a node something that only pods of the test ask for, until what this returns goes.
fn give<'w>(w: &'w World, node: &str, what: &'static str, amount: &str) -> Undo<impl FnMut() + use<'w>> {
    let status = format!("{}/status", node_path(node));
    let amounts = json!({what: amount});
    let patch = json!({"status": {"capacity": amounts, "allocatable": amounts}});
    w.patch(&status, "strategic-merge-patch+json", &patch);
    let none = json!({"status": {"capacity": {what: null}, "allocatable": {what: null}}});
    Undo(move || crate::common::try_patch(w, &status, &none))
}

fn asking(what: &str, amount: &str) -> Value {
    let mut container = sleeping();
    container["resources"] = json!({"requests": {what: amount}, "limits": {what: amount}});
    container
}

fn on(body: &mut Value, node: &str) {
    let is = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    body["spec"]["affinity"] = json!({"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [is]}]},
    }});
}

/// Two pods on each node that leave no room for a third; the first has the lowest priority.
fn fill(w: &World) -> Vec<String> {
    let (low, medium) = (class(w, "low", 1), class(w, "medium", 100));
    let mut names = Vec::new();
    for node in NODES {
        for j in 0..2 {
            let mut body = pod(&format!("pod-{node}-{j}"), &json!({}), asking(SCARCE, "2"));
            body["spec"]["priorityClassName"] = json!(if names.is_empty() { &low } else { &medium });
            on(&mut body, node);
            w.create(&pods_path(w), &body);
            names.push(name(&body).to_owned());
        }
    }
    for name in &names {
        wait_until(w, &pod_path(w, name), "to run", is_running);
    }
    names
}

/// The first of these had to go, the others are there.
fn only_the_first_went(w: &World, names: &[String]) {
    let (first, others) = names.split_first().expect("pods");
    let went = w.http.get(&pod_path(w, first));
    assert!(went.code == 404 || is_leaving(&went.json()), "{}", went.text());
    for name in others {
        assert!(!is_leaving(&w.get(&pod_path(w, name))), "{name} had to go");
    }
}

fn basic(w: &World) {
    let _given = NODES.map(|n| give(w, n, SCARCE, "5"));
    let names = fill(w);
    let mut body = pod("preemptor-pod", &json!({}), asking(SCARCE, "2"));
    body["spec"]["priorityClassName"] = json!(class(w, "high", 1000));
    w.create(&pods_path(w), &body);
    wait_until(w, &pod_path(w, "preemptor-pod"), "to run", is_running);
    only_the_first_went(w, &names);
}

fn by_critical(w: &World) {
    let _given = NODES.map(|n| give(w, n, SCARCE, "5"));
    let names = fill(w);
    let mut body = pod("critical-pod", &json!({}), asking(SCARCE, "2"));
    body["spec"]["priorityClassName"] = json!("system-cluster-critical");
    let path = w.create_for_test("/api/v1/namespaces/kube-system/pods", &body);
    wait_until(w, &path, "to run", is_running);
    only_the_first_went(w, &names);
    w.ask("DELETE", &path, &json!({"gracePeriodSeconds": 0}), 200);
}

fn told(w: &World) {
    let _given = give(w, NODES[0], SCARCE, "1");
    let asks = |name: &str, class: &str| {
        let mut body = pod(name, &json!({}), asking(SCARCE, "1"));
        body["spec"]["priorityClassName"] = json!(class);
        on(&mut body, NODES[0]);
        body
    };
    let mut victim = asks("victim-pod", &class(w, "low", 1));
    victim["metadata"]["finalizers"] = json!(["example.com/test-finalizer"]);
    w.create(&pods_path(w), &victim);
    let path = pod_path(w, "victim-pod");
    let free = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/test-finalizer"]}});
    let _freed = Undo(|| crate::common::try_patch(w, &path, &free));
    wait_until(w, &path, "to run", is_running);
    w.create(&pods_path(w), &asks("preemptor-pod", &class(w, "high", 1000)));
    let left = wait_until(w, &path, "to have to go", is_leaving);
    let told = condition(&left, "DisruptionTarget").unwrap_or_else(|| panic!("it was not told: {left}"));
    assert_eq!((&told["status"], &told["reason"]), (&json!("True"), &json!("PreemptionByScheduler")));
}

fn sets(w: &World) {
    const CPU: &str = "example.com/fakecpu";
    let _given = give(w, NODES[1], CPU, "1000");
    let host = w.get(&node_path(NODES[1]))["metadata"]["labels"]["kubernetes.io/hostname"].clone();
    let pods = pods_path(w);
    let mut lines = w.watch(&pods, &now(w, &pods), "");
    let spec_of = |body: &mut Value, n: i64| {
        body["priorityClassName"] = json!(class(w, &format!("p{n}"), n));
        body["nodeSelector"] = json!({"kubernetes.io/hostname": host});
    };
    for (n, amount) in [(1, "200"), (2, "300"), (3, "450")] {
        let set = format!("rs-pod{n}");
        let mut body = workload(&set, 1, &json!({"name": set}), asking(CPU, amount));
        spec_of(&mut body["spec"]["template"]["spec"], n);
        w.create(&apps(w, "replicasets"), &body);
        crate::common::wait_running(w, &format!("name={set}"), 1);
    }
    let mut preemptor = pod("pod4", &json!({"name": "pod4"}), asking(CPU, "500"));
    spec_of(&mut preemptor["spec"], 4);
    w.create(&pods, &preemptor);
    wait_until(w, &pod_path(w, "pod4"), "to get a node", |p| {
        p["spec"]["nodeName"].as_str().is_some_and(|n| !n.is_empty())
    });
    // Who went is made anew, and finds no place; who stayed is not.
    for (n, state) in [(1, "Pending"), (2, "Pending"), (3, "Running")] {
        let labels = selecting(&format!("name=rs-pod{n}"));
        wait_for(&format!("the pod of rs-pod{n} to be {state}"), || {
            let all = w.items(&format!("{pods}?{labels}"));
            all.len() == 1 && all.iter().all(|p| p["status"]["phase"] == state && !is_leaving(p))
        });
    }
    meanwhile(w, || {});
    let end = pod("end", &json!({}), sleeping());
    w.create(&pods, &end);
    let mut made = [0; 4];
    loop {
        let event = lines.event().expect("the watch ended before its end");
        assert_ne!(event["type"], "ERROR", "{event}");
        let pod = name(&event["object"]);
        if event["type"] != "ADDED" {
            continue;
        }
        if pod == "end" {
            break;
        }
        for (n, made) in made.iter_mut().enumerate() {
            *made += usize::from(pod.starts_with(&format!("rs-pod{n}")));
        }
    }
    assert_eq!(made, [0, 2, 2, 1], "pods that were made for each set");
}

fn classes(w: &World) {
    let made: Vec<Value> = [1, 2]
        .map(|n| {
            let metadata = json!({"name": format!("{}-p{n}", w.namespace), "labels": {"e2e": w.namespace}});
            let made = w.create(CLASSES, &json!({"metadata": metadata, "value": n}));
            w.remove_at_end(&format!("{CLASSES}/{}", name(&made)));
            made
        })
        .into();
    let path = |n: usize| format!("{CLASSES}/{}", name(&made[n]));
    let ten = |n: usize| made[n]["value"].as_i64().expect("a value") * 10;
    let kind = [("content-type", "application/strategic-merge-patch+json")];
    let refused = w.http.send("PATCH", &path(0), &kind, json!({"value": ten(0)}).to_string().as_bytes());
    assert!(
        refused.code == 422 && refused.message().contains("may not be changed in an update"),
        "{refused:?}"
    );
    let mut changed = made[1].clone();
    changed["value"] = json!(ten(1));
    w.refused("PUT", &path(1), &changed, "may not be changed in an update");

    let described = json!({"description": "updated description"});
    w.patch(&path(0), "strategic-merge-patch+json", &described);
    let mut changed = made[1].clone();
    changed["description"] = json!("updated description");
    w.ask("PUT", &path(1), &changed, 200);
    w.items(CLASSES);
    for (n, before) in made.iter().enumerate() {
        let live = w.get(&path(n));
        assert_eq!((&live["value"], &live["description"]), (&before["value"], &described["description"]));
        assert!(newer(&live, before));
    }
    let own = format!("{CLASSES}?{}", selecting(&format!("e2e={}", w.namespace)));
    w.delete(&own);
    assert!(w.items(&own).is_empty());
}
