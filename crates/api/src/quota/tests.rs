//! Tables of usage, scopes and demands.

use serde_json::json;

use super::*;

const NOW: i64 = 1_800_000_000;

#[test]
fn usage_by_kind() {
    let t = [
        (
            "",
            "pods",
            json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": "1"}}},
            {"resources": {"requests": {"cpu": "50m"}}}], "initContainers": [{"resources": {"requests": {"cpu": "200m"}}},
            {"restartPolicy": "Always", "resources": {"requests": {"cpu": "30m"}}}]}}),
            "count/pods=1,cpu=200m,limits.cpu=1,memory=1Gi,pods=1,requests.cpu=200m,requests.memory=1Gi",
        ),
        // Being resized: the most of what is asked for, granted and had.
        (
            "",
            "pods",
            json!({"spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": "100m", "memory": "2Gi"}}}]},
                "status": {"containerStatuses": [{"name": "a", "allocatedResources": {"cpu": "200m", "memory": "1Gi"},
                    "resources": {"requests": {"cpu": "300m", "memory": "1Gi"}}}]}}),
            "count/pods=1,cpu=300m,memory=2Gi,pods=1,requests.cpu=300m,requests.memory=2Gi",
        ),
        ("", "pods", json!({"status": {"phase": "Succeeded"}}), "count/pods=1"),
        (
            "",
            "pods",
            json!({"spec": {"containers": [{"resources": {"requests": {"nvidia.com/gpu": "2"}}}]}}),
            "count/pods=1,pods=1,requests.nvidia.com/gpu=2",
        ),
        (
            "",
            "services",
            json!({"spec": {"type": "NodePort", "ports": [{}, {}]}}),
            "count/services=1,services=1,services.loadbalancers=0,services.nodeports=2",
        ),
        (
            "",
            "persistentvolumeclaims",
            json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "2Gi"}}}}),
            "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
             gold.storageclass.storage.k8s.io/requests.storage=2Gi,persistentvolumeclaims=1,requests.storage=2Gi",
        ),
        ("", "secrets", json!({}), "count/secrets=1,secrets=1"),
        ("apps", "deployments", json!({}), "count/deployments.apps=1"),
    ];
    for (group, plural, object, want) in t {
        assert_eq!(pretty(&usage(group, plural, &object, NOW)), want, "{plural}");
    }
}

#[test]
fn scopes_choose_pods() {
    let best = json!({"spec": {"containers": [{}], "priorityClassName": "high"}});
    let t = [
        (json!({"spec": {"scopes": ["BestEffort"]}}), true),
        (json!({"spec": {"scopes": ["NotBestEffort"]}}), false),
        (json!({"spec": {"scopes": ["BestEffort", "Terminating"]}}), false),
        (
            json!({"spec": {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}}),
            true,
        ),
        (
            json!({"spec": {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "NotIn", "values": ["high"]}]}}}),
            false,
        ),
        (json!({}), true),
    ];
    for (mut quota, want) in t {
        quota["status"] = json!({"hard": {"pods": "1"}});
        assert_eq!(applies("", "pods", &quota, &best), want, "{quota}");
        assert!(!applies("", "secrets", &quota, &best));
    }
}

#[test]
fn demands() {
    let pod = json!({"spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}, {"name": "b"}]}});
    let r = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        constraints("", "pods", &r(&["pods", "requests.cpu", "limits.memory"]), &pod),
        Err("must specify limits.memory for: a,b; requests.cpu for: b".into())
    );
    assert_eq!(constraints("", "pods", &r(&["pods"]), &pod), Ok(()));
}
