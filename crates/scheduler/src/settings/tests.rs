//! Configurations and what comes of them, by table.

use serde_json::json;

use super::*;
use crate::core::{FitStrategy, PodInfo, SpreadDefaults};

fn file(profile: Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": "KubeSchedulerConfiguration", "profiles": [profile]})
}

fn first(profile: Value) -> Profile {
    let s = Settings::parse(file(profile)).expect("settings");
    let mut pod = PodInfo::default();
    pod.shape_mut().scheduler_name = "mine".into();
    (**s.profiles.of(&pod).expect("profile")).clone()
}

#[test]
fn plugins_are_switched_and_weighed() {
    let p = first(json!({"schedulerName": "mine", "plugins": {
        "multiPoint": {"disabled": [{"name": "ImageLocality"}], "enabled": [{"name": "TaintToleration", "weight": 9}]},
        "score": {"disabled": [{"name": "*"}], "enabled": [{"name": "NodeResourcesFit", "weight": 5}]},
        "filter": {"disabled": [{"name": "NodePorts"}]}, "postFilter": {"disabled": [{"name": "DefaultPreemption"}]}}}));
    assert_eq!((p.weights.fit, p.weights.taint_toleration, p.weights.image_locality), (5, 0, 0));
    assert!(!p.filters("NodePorts") && p.filters("TaintToleration") && !p.preempts);
    let p = first(json!({"schedulerName": "mine", "plugins": {"multiPoint": {"disabled": [{"name": "*"}],
        "enabled": [{"name": "DefaultBinder"}, {"name": "PrioritySort"}, {"name": "NodeResourcesFit"}]}}}));
    assert!(p.filters("NodeResourcesFit") && !p.filters("NodeAffinity"));
    assert_eq!((p.weights.fit, p.weights.spread), (1, 0));
}

#[test]
fn arguments_reach_their_plugins() {
    let p = first(json!({"schedulerName": "mine", "pluginConfig": [
        {"name": "NodeResourcesFit", "args": {"ignoredResourceGroups": ["example.com"], "scoringStrategy": {"type": "RequestedToCapacityRatio",
            "resources": [{"name": "cpu", "weight": 3}, {"name": "example.org/gpu"}],
            "requestedToCapacityRatio": {"shape": [{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]}}}},
        {"name": "InterPodAffinity", "args": {"hardPodAffinityWeight": 50}},
        {"name": "PodTopologySpread", "args": {"defaultingType": "List", "defaultConstraints":
            [{"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "ScheduleAnyway"}]}},
        {"name": "DefaultPreemption", "args": {"minCandidateNodesAbsolute": 7}},
        {"name": "NodeAffinity", "args": {"addedAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions": [{"key": "k", "operator": "Exists"}]}]}}}}]}));
    assert_eq!(p.strategy, FitStrategy::RequestedToCapacityRatio(vec![(0, 0), (100, 100)]));
    assert_eq!(p.fit_resources, [("cpu".to_owned(), 3), ("example.org/gpu".to_owned(), 1)]);
    assert_eq!((p.hard_affinity_weight, p.candidates_least, p.candidates_percent), (50, 7, 10));
    assert!(matches!(&p.spread, SpreadDefaults::List(l) if l.len() == 1 && l[0].topology_key == "rack"));
    assert_eq!(p.added_required.map(|t| t.len()), Some(1));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let with = |profile: Value| file(profile);
    let args = |plugin: &str, args: Value| with(json!({"pluginConfig": [{"name": plugin, "args": args}]}));
    for (v, want) in [
        (json!({"apiVersion": "v1", "kind": "Pod"}), "are not kubescheduler.config.k8s.io/v1"),
        (with(json!({"plugin": {}})), "unknown field `plugin`"),
        (
            with(json!({"plugins": {"score": {"enabled": [{"name": "Mine"}]}}})),
            "profiles[0].plugins.score: plugin \"Mine\" does not exist",
        ),
        (
            with(json!({"plugins": {"bind": {"disabled": [{"name": "*"}]}}})),
            "DefaultBinder can't be switched off",
        ),
        (
            args("InterPodAffinity", json!({"hardPodAffinityWeight": 101})),
            "hardPodAffinityWeight: 101 is not between 0 and 100",
        ),
        (
            args("NodeResourcesFit", json!({"scoringStrategy": {"type": "Most"}})),
            "\"Most\" is not a strategy",
        ),
        (
            args("PodTopologySpread", json!({"defaultingType": "System", "defaultConstraints": [{}]})),
            "must be empty",
        ),
        (args("NodeName", json!({})), "takes no arguments"),
    ] {
        let e = Settings::parse(v).expect_err(want);
        assert!(e.contains(want), "{e}\n  lacks {want}");
    }
    let mut twice = file(json!({}));
    twice["profiles"] = json!([{}, {}]);
    assert!(Settings::parse(twice).expect_err("twice").contains("same schedulerName"));
}
