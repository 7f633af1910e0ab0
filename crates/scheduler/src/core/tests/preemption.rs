//! Who makes room for whom, in which words.

use super::*;
use crate::plugins::Preemption;

/// A pod with a priority that wants so much CPU, started so many minutes into 2026.
fn ranked(uid: &str, priority: i64, amount: &str, minute: i64) -> PodInfo {
    let v = json!({"metadata": {"name": uid, "namespace": "d", "uid": uid, "labels": {"app": uid}},
        "spec": {"priority": priority, "containers": [{"resources": {"requests": {"cpu": amount}}}]},
        "status": {"startTime": format!("2026-01-01T00:{minute:02}:00Z")}});
    PodInfo::from_object(&Object::from_value(v, 1).expect("object")).expect("pod")
}

fn cluster(nodes: &[&str], pods: &[(&str, PodInfo)]) -> Cache {
    let mut cache = Cache::default();
    nodes.iter().for_each(|n| {
        cache.set_node(node(n, "4", json!({})));
    });
    for (node, pod) in pods {
        cache.set_pod(Arc::new(PodInfo { node_name: (*node).into(), ..pod.clone() }));
    }
    cache
}

fn budget(cache: &mut Cache, app: &str, allowed: i64) {
    let v = json!({"metadata": {"name": app, "namespace": "d"}, "spec": {"selector": {"matchLabels": {"app": app}}},
        "status": {"disruptionsAllowed": allowed}});
    let b = Budget::of(&Object::from_value(v, 1).expect("object")).expect("budget");
    cache.budgets.insert((b.namespace.clone(), b.name.clone()), b);
}

fn room(cache: &mut Cache, pod: &PodInfo) -> Preemption {
    match schedule(cache, pod) {
        Outcome::Unschedulable { preemption, .. } => preemption,
        Outcome::Node(n) => panic!("placed on {n}"),
    }
}

fn gone(p: &Preemption) -> (Option<&str>, Vec<&str>) {
    (p.nomination.as_deref(), p.victims.iter().map(|v| v.uid.as_str()).collect())
}

#[test]
fn the_least_important_make_room_and_no_more_than_needed() {
    let mut cache = cluster(
        &["a"],
        &[
            ("a", ranked("low", 1, "2", 0)),
            ("a", ranked("mid", 100, "1", 0)),
            ("a", ranked("young", 1, "1", 5)),
        ],
    );
    let p = room(&mut cache, &ranked("p", 1000, "1", 0));
    // The one that started last goes first, among equals.
    assert_eq!(gone(&p), (Some("a"), vec!["young"]));
    assert_eq!(p.message, "preemption: found a potential placement for pod on node a, preempting 1 victims");
    assert_eq!(gone(&room(&mut cache, &ranked("p", 1000, "2", 0))), (Some("a"), vec!["low"]));
    assert_eq!(gone(&room(&mut cache, &ranked("p", 1000, "4", 0))), (Some("a"), vec!["mid", "low", "young"]));
}

#[test]
fn nodes_compare_by_budgets_then_priorities_then_numbers_then_age() {
    let table: &[(&[(&str, PodInfo)], &str)] = &[
        (&[("a", ranked("a1", 5, "4", 0)), ("b", ranked("b1", 3, "4", 0))], "b"),
        (
            &[("a", ranked("a1", 5, "2", 0)), ("a", ranked("a2", 5, "2", 0)), ("b", ranked("b1", 5, "4", 0))],
            "b",
        ),
        (&[("a", ranked("a1", 5, "4", 9)), ("b", ranked("b1", 5, "4", 0))], "a"),
        (
            &[
                ("a", ranked("a1", -5, "2", 0)),
                ("a", ranked("a2", -5, "2", 0)),
                ("b", ranked("b1", -5, "4", 0)),
            ],
            "b",
        ),
    ];
    for (pods, want) in table {
        let mut cache = cluster(&["a", "b"], pods);
        assert_eq!(gone(&room(&mut cache, &ranked("p", 10, "4", 0))).0, Some(*want), "{pods:?}");
    }
    let mut cache = cluster(&["a", "b"], &[("a", ranked("a1", 1, "4", 0)), ("b", ranked("b1", 9, "4", 0))]);
    budget(&mut cache, "a1", 0);
    assert_eq!(gone(&room(&mut cache, &ranked("p", 10, "4", 0))), (Some("b"), vec!["b1"]));
    budget(&mut cache, "a1", 1);
    assert_eq!(gone(&room(&mut cache, &ranked("p", 10, "4", 0))), (Some("a"), vec!["a1"]));
}

#[test]
fn a_budget_spares_its_pods_on_the_node_but_does_not_forbid() {
    let mut cache = cluster(&["a"], &[("a", ranked("x", 1, "2", 9)), ("a", ranked("y", 2, "2", 0))]);
    budget(&mut cache, "x", 0);
    assert_eq!(gone(&room(&mut cache, &ranked("p", 10, "2", 0))).1, ["y"]);
    assert_eq!(gone(&room(&mut cache, &ranked("p", 10, "4", 0))).1, ["y", "x"]);
}

#[test]
fn what_cannot_help_is_said() {
    let full = [("a", ranked("high", 50, "4", 0))];
    let mut cache = cluster(&["a", "b"], &full);
    cache.set_node(node("b", "4", json!({"unschedulable": true})));
    let p = room(&mut cache, &ranked("p", 10, "1", 0));
    assert_eq!(
        p.message,
        "preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
    );
    assert_eq!(p.nomination.as_deref(), Some(""), "a former nomination is taken back");
    // More than the node has: nobody who leaves helps.
    let p = room(&mut cache, &ranked("p", 100, "5", 0));
    assert_eq!(p.message, "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.");
    let never = shaped(ranked("p", 100, "1", 0), |s| s.never_preempts = true);
    let p = room(&mut cache, &never);
    assert_eq!(p.message, "preemption: not eligible due to preemptionPolicy=Never.");
    assert_eq!(gone(&p), (None, vec![]));
}

#[test]
fn a_nominated_pod_waits_for_its_victims_and_holds_its_room() {
    let mut cache = cluster(&["a"], &[("a", ranked("low", 1, "4", 0))]);
    let p = Arc::new(ranked("p", 100, "4", 0));
    cache.nominate(&p, "a");
    let leaving =
        PodInfo { node_name: "a".into(), deleting: true, preempted: true, ..ranked("low", 1, "4", 0) };
    cache.set_pod(Arc::new(leaving));
    let waits = room(&mut cache, &p);
    assert_eq!(waits.message, "preemption: not eligible due to a terminating pod on the nominated node.");
    assert_eq!(gone(&waits), (None, vec![]));
    cache.remove_pod("low");
    // A less important one does not take the room, a more important one does.
    assert!(message(&schedule(&mut cache, &ranked("q", 10, "1", 0))).contains("Insufficient cpu"));
    assert_eq!(schedule(&mut cache, &ranked("r", 200, "1", 0)), Outcome::Node("a".into()));
    assert_eq!(schedule(&mut cache, &p), Outcome::Node("a".into()));
    cache.assume(&p, "a");
    assert!(cache.nominated("a").is_empty() && cache.nomination("p").is_none());
}

#[test]
fn victims_may_be_in_the_way_by_affinity_and_ports() {
    let anti = json!({"priority": 10, "containers": [{}], "affinity": {"podAntiAffinity":
        {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": {"app": "low"}}}]}}});
    let port = json!({"priority": 10, "containers": [{"ports": [{"hostPort": 80}]}]});
    let mut low = ranked("low", 1, "1", 0);
    low.shape_mut().host_ports = pod("x", port.clone()).host_ports.clone();
    let mut cache = cluster(&["a"], &[("a", low), ("a", ranked("other", 1, "1", 0))]);
    for spec in [anti, port] {
        assert_eq!(gone(&room(&mut cache, &pod("p", spec))), (Some("a"), vec!["low"]));
    }
}
