//! Whatever happens to a cluster, in whatever order: the core decides as the reference does, and keeps its books.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::reference::judge;
use super::*;

const APPS: [&str; 3] = ["a", "b", "c"];

/// A node with a zone (or none), a taint (or none), cordoned or not.
fn some_node(i: usize, zone: u8, taint: u8, cordoned: bool, cpu: i64) -> NodeInfo {
    let mut labels = json!({"kubernetes.io/hostname": format!("n{i}")});
    if zone > 0 {
        labels["topology.kubernetes.io/zone"] = json!(format!("z{zone}"));
        labels["disk"] = json!(if zone.is_multiple_of(2) { "ssd" } else { "hdd" });
    }
    let effect = ["NoSchedule", "PreferNoSchedule"].get(usize::from(taint).wrapping_sub(1));
    let taints: Vec<Value> = effect.iter().map(|e| json!({"key": "k", "value": "v", "effect": e})).collect();
    let v = json!({"metadata": {"name": format!("n{i}"), "labels": labels},
        "spec": {"unschedulable": cordoned, "taints": taints},
        "status": {"allocatable": {"cpu": format!("{cpu}m"), "memory": "4Gi", "pods": "6"}}});
    NodeInfo::from_object(&Object::from_value(v, 1).expect("object")).expect("node")
}

/// A pod of one of few shapes.
fn some_pod(uid: &str, kind: u8, app: usize) -> PodInfo {
    let app = APPS[app % APPS.len()];
    let term =
        |key: &str, app: &str| json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}});
    let (zone, host) = ("topology.kubernetes.io/zone", "kubernetes.io/hostname");
    let affinity = match kind % 13 {
        1 => json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term(zone, app)]}}),
        2 => {
            json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term(host, app)]}})
        }
        3 => json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
            [{"weight": 7, "podAffinityTerm": term(zone, "a")}]}}),
        4 => json!({"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
            [{"weight": 3, "podAffinityTerm": term(host, "b")}]}}),
        5 => json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
            [{"weight": 5, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}]}}),
        12 => json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
            [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [format!("n{}", kind % 4)]}]}]}}}),
        _ => json!({}),
    };
    let constraint = |key: &str, when: &str, skew: i64| json!({"maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": when, "labelSelector": {"matchLabels": {"app": app}}});
    let spread = match kind % 13 {
        6 => json!([constraint(zone, "DoNotSchedule", 1)]),
        7 => json!([constraint(host, "ScheduleAnyway", 1), constraint(zone, "ScheduleAnyway", 2)]),
        8 => json!([constraint(host, "DoNotSchedule", 2), constraint(zone, "ScheduleAnyway", 1)]),
        _ => json!([]),
    };
    let tolerations =
        if kind.is_multiple_of(5) { json!([{"key": "k", "operator": "Exists"}]) } else { json!([]) };
    let selector = if kind % 13 == 9 { json!({"disk": "ssd"}) } else { json!({}) };
    let ports = if kind % 13 == 10 { json!([{"hostPort": 80, "containerPort": 80}]) } else { json!([]) };
    let requests = if kind % 13 == 11 { json!({}) } else { json!({"cpu": "300m", "memory": "256Mi"}) };
    let v = json!({"metadata": {"name": uid, "namespace": "d", "uid": uid, "labels": {"app": app}},
        "spec": {"affinity": affinity, "topologySpreadConstraints": spread, "tolerations": tolerations,
            "nodeSelector": selector, "containers": [{"ports": ports, "resources": {"requests": requests}}]}});
    PodInfo::from_object(&Object::from_value(v, 1).expect("object")).expect("pod")
}

#[derive(Debug, Clone)]
enum Step {
    Node { i: usize, zone: u8, taint: u8, cordoned: bool, cpu: i64 },
    NodeGone(usize),
    Place { kind: u8, app: usize },
    PodGone(usize),
    Deleting(usize),
    Service(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0usize..7, 0u8..4, 0u8..6, 0u8..8, 500i64..4000).prop_map(|(i, zone, taint, c, cpu)| {
            Step::Node { i, zone, taint, cordoned: c == 0, cpu }
        }),
        1 => (0usize..7).prop_map(Step::NodeGone),
        12 => (0u8..60, 0usize..3).prop_map(|(kind, app)| Step::Place { kind, app }),
        3 => any::<usize>().prop_map(Step::PodGone),
        1 => any::<usize>().prop_map(Step::Deleting),
        1 => (0usize..3).prop_map(Step::Service),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    #[test]
    fn the_core_decides_as_the_reference_does(steps in steps()) {
        let mut cache = Cache::default();
        for i in 0..3 {
            cache.set_node(some_node(i, 1 + u8::try_from(i).expect("few"), 0, false, 2000));
        }
        let mut placed: Vec<(String, String)> = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Node { i, zone, taint, cordoned, cpu } => {
                    cache.set_node(some_node(i, zone, taint, cordoned, cpu));
                }
                Step::NodeGone(i) => cache.remove_node(&format!("n{i}")),
                Step::Service(app) => {
                    let v = json!({"metadata": {"name": APPS[app], "namespace": "d"}, "spec": {"selector": {"app": APPS[app]}}});
                    let o = Object::from_value(v, 1).expect("object");
                    cache.groups.set(Group::by_map("Service", &o).expect("group"));
                }
                Step::PodGone(i) if !placed.is_empty() => {
                    let (uid, _) = placed.swap_remove(i % placed.len());
                    cache.remove_pod(&uid);
                }
                Step::Deleting(i) if !placed.is_empty() => {
                    let (uid, _) = &placed[i % placed.len()];
                    let pod = cache.pod(uid).expect("pod").clone();
                    cache.set_pod(Arc::new(PodInfo { deleting: true, ..(*pod).clone() }));
                }
                Step::PodGone(_) | Step::Deleting(_) => {}
                Step::Place { kind, app } => {
                    let pod = some_pod(&format!("p{n}"), kind, app);
                    let judged: BTreeMap<String, i64> = judge(&cache, &pod).into_iter().collect();
                    let best = judged.values().max().copied();
                    match schedule(&mut cache, &pod) {
                        Outcome::Node(name) => {
                            prop_assert_eq!(judged.get(&name).copied(), best, "{} of {:?}", name, judged);
                            cache.assume(&pod, &name);
                            placed.push((pod.uid.clone(), name));
                        }
                        Outcome::Unschedulable { message, .. } => {
                            prop_assert!(judged.is_empty(), "{} but {:?}", message, judged);
                            // Every node is accounted for, once at least.
                            let refused = refusals(&mut cache, &pod).len();
                            prop_assert_eq!(refused, cache.len());
                        }
                    }
                }
            }
            // The books: what is used is what the pods there ask for.
            for node in cache.nodes() {
                let cpu: i64 = node.pods.iter().map(|p| p.requests.cpu_milli).sum();
                prop_assert_eq!(node.used.cpu_milli, cpu);
                prop_assert!(node.pods.iter().all(|p| p.node_name == node.name));
            }
        }
    }
}
