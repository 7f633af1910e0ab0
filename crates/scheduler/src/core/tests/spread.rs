//! Pods over topology domains, by table.

use super::*;

fn zoned(name: &str, zone: &str) -> NodeInfo {
    let mut n = node(name, "4", json!({}));
    if !zone.is_empty() {
        n.traits_mut().labels.insert("zone".into(), zone.into());
        n.traits_mut().labels.insert("topology.kubernetes.io/zone".into(), zone.into());
    }
    n
}

/// Nodes with their zones; pods are labelled `app: x` and sit where the list says.
fn cluster(nodes: &[(&str, &str)], pods: &[&str]) -> Cache {
    let mut cache = Cache::default();
    for (name, zone) in nodes {
        cache.set_node(zoned(name, zone));
    }
    for (i, at) in pods.iter().enumerate() {
        cache.set_pod(Arc::new(PodInfo {
            node_name: (*at).into(),
            ..pod(&format!("p{i}"), json!({"containers": []}))
        }));
    }
    cache
}

fn spread(extra: Value) -> PodInfo {
    let mut c = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "x"}}});
    for (k, v) in extra.as_object().into_iter().flatten() {
        c[k] = v.clone();
    }
    pod("new", json!({"containers": [], "topologySpreadConstraints": [c]}))
}

#[test]
fn a_hard_constraint_keeps_the_skew() {
    let two = [("a", "1"), ("b", "2")];
    for (nodes, pods, extra, want) in [
        (&two[..], &["a"][..], json!({}), "b"),
        (&two, &["b"], json!({}), "a"),
        (&two, &["a", "a"], json!({"maxSkew": 3, "labelSelector": {"matchLabels": {"app": "y"}}}), "new"),
        (
            &two[..1],
            &["a"],
            json!({"minDomains": 2}),
            "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints.",
        ),
        (
            &[("a", "1"), ("c", "")],
            &["a", "a"],
            json!({"topologyKey": "rack"}),
            "0/2 nodes are available: 2 node(s) didn't match pod topology spread constraints (missing required label).",
        ),
        // The pod is not among those that it counts.
        (&two[..1], &["a", "a"], json!({"labelSelector": {"matchLabels": {"app": "y"}}}), "a"),
        (&two, &["a"], json!({"matchLabelKeys": ["app"], "labelSelector": {}}), "b"),
    ] {
        let mut cache = cluster(nodes, pods);
        let out = schedule(&mut cache, &spread(extra.clone()));
        match want {
            "new" => assert!(matches!(out, Outcome::Node(_)), "{extra}"),
            _ => assert_eq!(message(&out), want, "{extra}"),
        }
    }
}

#[test]
fn nodes_that_the_pod_cannot_use_count_or_not() {
    let mut cache = cluster(&[("a", "1"), ("b", "2")], &["a"]);
    let mut b = zoned("b", "2");
    b.traits_mut().taints.push(Taint { key: "k".into(), value: String::new(), effect: "NoSchedule".into() });
    cache.set_node(b);
    let refused = "0/2 nodes are available: 1 node(s) didn't match pod topology spread constraints, 1 node(s) had untolerated taint(s).";
    assert_eq!(message(&schedule(&mut cache, &spread(json!({})))), refused);
    assert_eq!(message(&schedule(&mut cache, &spread(json!({"nodeTaintsPolicy": "Honor"})))), "a");

    let mut cache = cluster(&[("a", "1"), ("b", "2")], &["a"]);
    let only_a = |extra| shaped(spread(extra), |s| s.node_selector = [("zone".into(), "1".into())].into());
    assert_eq!(message(&schedule(&mut cache, &only_a(json!({})))), "a");
    assert!(
        message(&schedule(&mut cache, &only_a(json!({"nodeAffinityPolicy": "Ignore"}))))
            .contains("spread constraints")
    );
}

#[test]
fn soft_constraints_and_the_default_ones_prefer_empty_domains() {
    let nodes = [("a", "1"), ("b", "1"), ("c", "2")];
    let mut cache = cluster(&nodes, &["a", "b"]);
    assert_eq!(message(&schedule(&mut cache, &spread(json!({"whenUnsatisfiable": "ScheduleAnyway"})))), "c");
    // By default for the pods of a service: the zone with fewer of them, although all nodes look alike otherwise.
    let mut cache = cluster(&nodes, &["a", "b", "c"]);
    cache.set_pod(Arc::new(PodInfo { node_name: "a".into(), ..pod("p9", json!({"containers": []})) }));
    let service = json!({"metadata": {"name": "s", "namespace": "d"}, "spec": {"selector": {"app": "x"}}});
    let service = Object::from_value(service, 1).expect("object");
    cache.groups.set(Group::by_map("Service", &service).expect("group"));
    assert_eq!(message(&schedule(&mut cache, &pod("new", json!({"containers": []})))), "c");
    cache.groups.remove("Service", "d", "s");
    assert!(cache.groups.selector(&pod("new", json!({"containers": []}))).is_empty());
}

#[test]
fn owners_select_too_and_terms_look_into_namespaces_by_label() {
    let mut groups = Groups::default();
    let set = json!({"metadata": {"name": "r", "namespace": "d"}, "spec": {"selector": {"matchLabels": {"app": "x"}}}});
    groups
        .set(Group::by_selector("ReplicaSet", &Object::from_value(set, 1).expect("object")).expect("group"));
    let mut p = pod("p", json!({"containers": []}));
    assert!(groups.selector(&p).is_empty());
    p.shape_mut().owner = Some(("ReplicaSet".into(), "r".into()));
    assert_eq!(groups.selector(&p).len(), 1);

    let mut cache = cluster(&[("a", "1"), ("b", "2")], &["a"]);
    cache.set_namespace("d", [("team".to_owned(), "x".to_owned())].into());
    let near = |team: &str| {
        json!({"containers": [], "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "x"}},
             "namespaceSelector": {"matchLabels": {"team": team}}}]}}})
    };
    let elsewhere = |spec| shaped(pod("q", spec), |s| s.namespace = "e".into());
    assert_eq!(message(&schedule(&mut cache, &elsewhere(near("x")))), "a");
    assert!(message(&schedule(&mut cache, &elsewhere(near("y")))).contains("pod affinity rules"));
}
