//! Golden texts of whole answers, and what must hold for any facts.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{Cause, Facts, everything, explain, render};

/// 2026-01-01T00:10:00Z
const NOW: i64 = 1_767_226_200;

fn facts(lists: &[(&'static str, Vec<Value>)]) -> Facts {
    let mut f = Facts::at(NOW);
    for k in &crate::target::KINDS {
        if !matches!(k.name, "secret" | "configmap") {
            let all = lists.iter().filter(|(n, _)| *n == k.name).flat_map(|(_, v)| v.clone()).collect();
            f.set_list(k.name, "", all);
        }
    }
    f
}

fn node(name: &str, cpu: &str, extra: Value) -> Value {
    let mut v = json!({"metadata": {"name": name, "uid": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {},
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}, "conditions": [{"type": "Ready", "status": "True"}]}});
    merge(&mut v, extra);
    v
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(a), Value::Object(b)) => {
            b.into_iter().for_each(|(k, v)| merge(a.entry(k).or_insert(Value::Null), v));
        }
        (a, b) => *a = b,
    }
}

fn pod(name: &str, extra: Value) -> Value {
    let mut v = json!({"metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"app": "web"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": [{"name": "c", "image": "web:1"}]}, "status": {"phase": "Pending"}});
    merge(&mut v, extra);
    v
}

fn cpu(amount: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "image": "web:1", "resources": {"requests": {"cpu": amount}}}]}})
}

fn said(f: &Facts, kind: &'static str, ns: &str, name: &str) -> String {
    render::thing(&explain(f, f.find(kind, ns, name).expect("the thing")))
}

#[test]
fn full_nodes() {
    let mut running = pod("running", cpu("3800m"));
    merge(&mut running, json!({"spec": {"nodeName": "node-2"}, "status": {"phase": "Running"}}));
    let f = facts(&[
        (
            "node",
            vec![
                node("node-1", "1", json!({})),
                node("node-2", "5", json!({})),
                node("node-3", "2", json!({"spec": {"unschedulable": true}})),
            ],
        ),
        ("pod", vec![running, pod("web", cpu("4"))]),
    ]);
    assert_eq!(
        said(&f, "pod", "shop", "web"),
        "\
pod/web in shop: it needs 4 cpu; the most any node has free is 1.2 (node-2: 3.8 of 5 used)
  seen in:
    node/node-1: status.allocatable.cpu = 1 (0 used)
    node/node-2: status.allocatable.cpu = 5 (3.8 used)
    node/node-3: spec.unschedulable = true
    node/node-3: status.allocatable.cpu = 2 (0 used)
  what helps:
    ask for at most 1.2 cpu (now 4), free 2.8 on node-2, or add a node
      kubectl get pod/web -o yaml -n shop > web.yaml   # change it, then: kubectl replace --force -f web.yaml
"
    );
}

#[test]
fn the_nearest_node_may_need_two_changes() {
    let wish = json!({"spec": {"nodeSelector": {"disk": "ssd"}}});
    let fast = json!({"metadata": {"labels": {"disk": "ssd"}}, "spec": {"unschedulable": true, "taints": [
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}, {"key": "team", "value": "db", "effect": "NoSchedule"}]}});
    let f = facts(&[
        ("node", vec![node("slow", "8", json!({})), node("fast", "8", fast)]),
        ("pod", vec![pod("web", wish)]),
    ]);
    assert_eq!(
        said(&f, "pod", "shop", "web"),
        "\
pod/web in shop: the node fast has the taints node.kubernetes.io/unschedulable:NoSchedule, team=db:NoSchedule, which it does not tolerate
  seen in:
    node/fast: spec.taints = node.kubernetes.io/unschedulable:NoSchedule, team=db:NoSchedule
    pod/web: nodes that are out of the question = slow (lacks what its node selector or affinity asks for)
  what helps:
    let pods go to fast again
      kubectl uncordon fast
    let it tolerate team=db:NoSchedule (spec.tolerations), or take the taint from fast
      kubectl taint nodes fast team=db:NoSchedule-
"
    );
}

#[test]
fn a_deployment_tells_of_its_pods_once() {
    let owned =
        |kind: &str, name: &str| json!([{"kind": kind, "name": name, "uid": name, "controller": true}]);
    let crash = |name: &str, code: i64| {
        pod(
            name,
            json!({"metadata": {"ownerReferences": owned("ReplicaSet", "rs")}, "spec": {"nodeName": "node-1"},
            "status": {"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": 4, "ready": false,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": code, "reason": "Error", "finishedAt": "2026-01-01T00:09:00Z"}}}]}}),
        )
    };
    let mut f = facts(&[
        ("node", vec![node("node-1", "8", json!({}))]),
        (
            "deployment",
            vec![
                json!({"metadata": {"name": "web", "namespace": "shop", "uid": "web"}, "spec": {"replicas": 3},
            "status": {"replicas": 3, "updatedReplicas": 3, "readyReplicas": 0, "conditions": [
                {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "too late"}]}}),
            ],
        ),
        (
            "replicaset",
            vec![
                json!({"metadata": {"name": "rs", "namespace": "shop", "uid": "rs", "ownerReferences": owned("Deployment", "web")},
            "spec": {"replicas": 3}}),
            ],
        ),
        ("pod", vec![crash("web-a", 1), crash("web-b", 1), crash("web-c", 139)]),
    ]);
    f.logs.insert(("shop".into(), "web-a".into(), "c".into()), "no such table: users\n".into());
    f.unread.insert("events in shop".into(), "events is forbidden".into());
    assert_eq!(
        said(&f, "deployment", "shop", "web"),
        "\
deployment/web in shop: the container c crashes again and again with exit code 1 [pod/web-a, pod/web-b]
  seen in:
    pod/web-a: status.containerStatuses[c].lastState.terminated.exitCode = 1
    pod/web-a: status.containerStatuses[c].lastState.terminated.reason = Error
    pod/web-a: status.containerStatuses[c].restartCount = 4
    pod/web-a: log of c before it ended = no such table: users
  what helps:
    see what it said
      kubectl logs web-a -c c --previous -n shop
  also: the container c crashes again and again with exit code 139, which says that it read or wrote memory that is not its own (SIGSEGV) [pod/web-c]
    seen in:
      pod/web-c: status.containerStatuses[c].lastState.terminated.exitCode = 139
      pod/web-c: status.containerStatuses[c].lastState.terminated.reason = Error
      pod/web-c: status.containerStatuses[c].restartCount = 4
    what helps:
      see what it said
        kubectl logs web-c -c c --previous -n shop
  so: its rollout has made no progress for longer than progressDeadlineSeconds
not looked at: events in shop (events is forbidden)
"
    );
    assert_eq!(
        render::everything(&everything(&f)),
        "\
the container c crashes again and again with exit code 1
  deployment/web in shop [pod/web-a, pod/web-b]
  what helps: see what it said: kubectl logs web-a -c c --previous -n shop
not looked at: events in shop (events is forbidden)
"
    );
    let report = explain(&f, f.find("deployment", "shop", "web").expect("it")).to_json();
    assert_eq!(report["findings"][0]["ok"], false);
    assert_eq!(report["findings"][0]["causes"][0]["code"], "crash");
    assert_eq!(
        report["findings"][0]["causes"][0]["help"][0]["command"],
        "kubectl logs web-a -c c --previous -n shop"
    );
    assert_eq!(report["unread"][0]["resource"], "events in shop");
}

#[test]
fn what_is_fine_is_said_to_be() {
    let fine = pod(
        "web",
        json!({"spec": {"nodeName": "node-1"}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "c", "ready": true, "started": true, "state": {"running": {}}}]}}),
    );
    let f = facts(&[("node", vec![node("node-1", "8", json!({}))]), ("pod", vec![fine])]);
    assert_eq!(said(&f, "pod", "shop", "web"), "pod/web in shop: nothing is wrong with it\n");
    assert_eq!(said(&f, "node", "", "node-1"), "node/node-1: nothing is wrong with it\n");
    assert_eq!(render::everything(&everything(&f)), "everything does what it should\n");
}

#[test]
fn a_slip_in_a_selector_is_found() {
    let service = json!({"metadata": {"name": "web", "namespace": "shop", "uid": "s"}, "spec": {"selector": {"app": "wbe"}, "ports": [{"port": 80}]}});
    let other = pod("db", json!({"metadata": {"labels": {"app": "database"}}}));
    let f = facts(&[("service", vec![service]), ("pod", vec![other, pod("web", json!({}))])]);
    assert_eq!(
        said(&f, "service", "shop", "web"),
        "\
service/web in shop: it leads nowhere: no pod has app=wbe
  seen in:
    service/web: spec.selector = app=wbe
    pod/web: metadata.labels = app=web
  what helps:
    the nearest is pod/web, which has app=web
    correct the selector
      kubectl edit service/web -n shop
"
    );
}

/// What a node that may not be read leaves: the scheduler's own words.
#[test]
fn without_nodes_the_scheduler_is_believed() {
    let told = "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu. preemption: 0/3 nodes are available: 3 x.";
    let mut f = Facts::at(NOW);
    let waits = json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": told}]}});
    f.set_list("pod", "shop", vec![pod("web", waits)]);
    let all = explain(&f, f.find("pod", "shop", "web").expect("it"));
    let first: Option<&Cause> = all.findings.first().and_then(|x| x.causes.first());
    assert_eq!(
        first.map(|c| (c.code, c.says.as_str())),
        Some((
            "nodes-full",
            "no node has room, says the scheduler: 0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu"
        ))
    );
}

/// Objects with holes and values of any kind in the places where the families look.
fn odd() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        Just(json!(true)),
        Just(json!(-1)),
        Just(json!("")),
        Just(json!("x")),
        Just(json!("2026-01-01T00:00:00Z")),
        Just(json!("9999999999999999Ei")),
        Just(json!("CrashLoopBackOff")),
        Just(json!("é\u{1F980}")),
    ];
    let keys = prop_oneof![
        Just("metadata"),
        Just("spec"),
        Just("status"),
        Just("name"),
        Just("namespace"),
        Just("labels"),
        Just("containers"),
        Just("containerStatuses"),
        Just("state"),
        Just("waiting"),
        Just("terminated"),
        Just("reason"),
        Just("message"),
        Just("conditions"),
        Just("type"),
        Just("selector"),
        Just("ownerReferences"),
        Just("uid"),
        Just("controller"),
        Just("volumes"),
        Just("configMap"),
        Just("affinity"),
        Just("nodeSelector"),
        Just("phase"),
        Just("deletionTimestamp"),
        Just("finalizers"),
        Just("resources"),
        Just("requests"),
        Just("cpu"),
        Just("taints"),
        Just("ports"),
        Just("targetPort"),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::vec((keys.clone(), inner), 0..6)
                .prop_map(|all| Value::Object(all.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is read, an answer comes, and in order: what is nearest to the root first.
    #[test]
    fn any_facts_have_an_answer(all in prop::collection::vec((0usize..30, odd()), 1..12)) {
        let mut f = Facts::at(NOW);
        f.set_list("pod", "", vec![pod("web", cpu("1"))]);
        f.set_list("node", "", vec![node("node-1", "1", json!({}))]);
        for (kind, v) in all {
            f.set_one(crate::target::KINDS[kind].name, v);
        }
        let report = everything(&f);
        for x in &report.findings {
            prop_assert!(x.causes.is_sorted_by_key(|c| c.weight));
            prop_assert!(x.causes.iter().all(|c| !c.says.is_empty()));
        }
        prop_assert!(!render::everything(&report).is_empty());
        for t in f.all("pod") {
            let _ = render::thing(&explain(&f, t));
        }
    }
}
