//! Defaults by kind, each applied twice to see that nothing moves the second time.

use super::*;
use serde_json::json;

fn with(group: &str, kind: &str, mut v: Value) -> Value {
    let version = if group == "autoscaling" { "v2" } else { "v1" };
    apply(group, version, kind, &mut v);
    let once = v.clone();
    apply(group, version, kind, &mut v);
    assert_eq!(once, v, "not idempotent");
    v
}

#[test]
fn a_pod_gets_what_upstream_gives() {
    let v = with(
        "",
        "Pod",
        json!({"spec": {"hostNetwork": true, "serviceAccountName": "sa",
        "volumes": [{"name": "v"}, {"name": "s", "secret": {}}, {"name": "p", "projected": {"sources": [
            {"serviceAccountToken": {"path": "t"}}, {"downwardAPI": {"items": [{"fieldRef": {"fieldPath": "x"}}]}}]}}],
        "containers": [{"name": "c", "image": "a.b:5000/nginx", "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "1", "memory": "1.0001"}, "requests": {"cpu": "500m"}},
            "livenessProbe": {"httpGet": {"port": 80}}, "env": [{"name": "e", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]}]}}),
    );
    let s = &v["spec"];
    assert_eq!(s["dnsPolicy"], "ClusterFirst");
    assert_eq!(s["enableServiceLinks"], true);
    assert_eq!(s["serviceAccount"], "sa");
    assert_eq!(s["terminationGracePeriodSeconds"], 30);
    assert_eq!(s["volumes"][0], json!({"name": "v", "emptyDir": {}}));
    assert_eq!(s["volumes"][1]["secret"]["defaultMode"], 420);
    assert_eq!(s["volumes"][2]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"], 3600);
    assert_eq!(
        s["volumes"][2]["projected"]["sources"][1]["downwardAPI"]["items"][0]["fieldRef"]["apiVersion"],
        "v1"
    );
    let c = &s["containers"][0];
    assert_eq!(c["imagePullPolicy"], "Always");
    assert_eq!(c["ports"][0], json!({"containerPort": 80, "hostPort": 80, "protocol": "TCP"}));
    assert_eq!(c["resources"]["requests"], json!({"cpu": "500m", "memory": "1001m"}));
    assert_eq!(
        c["livenessProbe"],
        json!({"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
        "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3})
    );
    assert_eq!(c["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
}

#[test]
fn fields_that_exist_twice_are_kept_in_step() {
    let v = with("", "Secret", json!({"data": {"a": "eA==", "b": "eQ=="}, "stringData": {"a": "hi"}}));
    assert_eq!(v, json!({"type": "Opaque", "data": {"a": "aGk=", "b": "eQ=="}}));
    let v = with("", "Node", json!({"spec": {"podCIDR": "10.0.0.0/24"}}));
    assert_eq!(v["spec"]["podCIDRs"], json!(["10.0.0.0/24"]));
    let v = with("", "Pod", json!({"status": {"podIPs": [{"ip": "10.0.0.1"}]}}));
    assert_eq!(v["status"]["podIP"], "10.0.0.1");
    let v = with("", "Pod", json!({"status": {"podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.1"}]}}));
    assert_eq!(v["status"]["podIPs"], json!([{"ip": "10.0.0.2"}]));
}

#[test]
fn pull_policies() {
    for (image, policy) in [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1", "IfNotPresent"),
        ("r:5000/nginx", "Always"),
        ("nginx@sha256:ab", "IfNotPresent"),
        ("nginx:latest@sha256:ab", "Always"),
    ] {
        let v = with("", "Pod", json!({"spec": {"containers": [{"image": image}]}}));
        assert_eq!(v["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
    }
}

#[test]
fn templates_get_spec_defaults_only() {
    let v = with(
        "apps",
        "Deployment",
        json!({"spec": {"template": {"spec": {"containers": [
        {"name": "c", "image": "x:1", "resources": {"limits": {"cpu": "1"}}}]}}}}),
    );
    assert_eq!(v["spec"]["replicas"], 1);
    assert_eq!(v["spec"]["strategy"]["rollingUpdate"], json!({"maxSurge": "25%", "maxUnavailable": "25%"}));
    let t = &v["spec"]["template"]["spec"];
    assert!(t.get("enableServiceLinks").is_none());
    assert!(t["containers"][0]["resources"].get("requests").is_none());
    assert_eq!(t["schedulerName"], "default-scheduler");
    let v = with("apps", "Deployment", json!({"spec": {"strategy": {"type": "Recreate"}}}));
    assert_eq!(v["spec"]["strategy"], json!({"type": "Recreate"}));
    let v =
        with("apps", "StatefulSet", json!({"spec": {"volumeClaimTemplates": [{"metadata": {"name": "d"}}]}}));
    assert_eq!(
        v["spec"]["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
    );
    assert_eq!(v["spec"]["volumeClaimTemplates"][0]["status"]["phase"], "Pending");
}

#[test]
fn services_jobs_and_others() {
    let v = with("", "Service", json!({"spec": {"type": "NodePort", "ports": [{"port": 80}]}}));
    assert_eq!(v["spec"]["ports"][0], json!({"port": 80, "protocol": "TCP", "targetPort": 80}));
    assert_eq!(v["spec"]["externalTrafficPolicy"], "Cluster");
    let v = with("", "Service", json!({"spec": {"type": "ExternalName", "externalName": "a.b"}}));
    assert!(v["spec"].get("internalTrafficPolicy").is_none());
    let v = with("batch", "Job", json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}}));
    assert_eq!((&v["spec"]["completions"], &v["spec"]["backoffLimit"]), (&json!(1), &json!(6)));
    assert_eq!(v["metadata"]["labels"], json!({"a": "b"}));
    let v = with("batch", "Job", json!({"spec": {"parallelism": 2}}));
    assert!(v["spec"].get("completions").is_none());
    let v = with("", "Namespace", json!({"metadata": {"name": "n"}}));
    assert_eq!(v["metadata"]["labels"]["kubernetes.io/metadata.name"], "n");
    let v = with("autoscaling", "HorizontalPodAutoscaler", json!({"spec": {"behavior": {"scaleDown": {}}}}));
    assert_eq!(v["spec"]["behavior"]["scaleUp"]["stabilizationWindowSeconds"], 0);
    assert!(v["spec"]["behavior"]["scaleDown"].get("stabilizationWindowSeconds").is_none());
    let v =
        with("networking.k8s.io", "NetworkPolicy", json!({"spec": {"egress": [{"ports": [{"port": 1}]}]}}));
    assert_eq!(v["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    let v = with(
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        json!({"spec": {"names": {"kind": "Wi"},
        "versions": [{"name": "v1", "storage": true}]}}),
    );
    assert_eq!(v["spec"]["names"], json!({"kind": "Wi", "singular": "wi", "listKind": "WiList"}));
    assert_eq!(v["status"]["storedVersions"], json!(["v1"]));
    let v = with("", "LimitRange", json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}}));
    assert_eq!(v["spec"]["limits"][0]["defaultRequest"], json!({"cpu": "2"}));
}
