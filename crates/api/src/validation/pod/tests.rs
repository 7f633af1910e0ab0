//! Pods: one small valid pod, and what each broken variation is told.

use super::super::{create, update, update_status, update_subresource};
use serde_json::{Value, json};

fn pod() -> Value {
    json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {
            "containers": [{"name": "c", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File", "resources": {}}],
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30,
            "securityContext": {}, "serviceAccountName": "default"
        }
    })
}
/// Sets what stands at a JSON pointer; missing parents are made, `-` appends.
fn with(mut v: Value, pointer: &str, to: Value) -> Value {
    let mut at = &mut v;
    for part in pointer.trim_start_matches('/').split('/') {
        at = match at {
            Value::Array(a) => {
                let i = part.parse().unwrap_or(a.len());
                while a.len() <= i {
                    a.push(Value::Null);
                }
                &mut a[i]
            }
            other => &mut other[part],
        };
    }
    *at = to;
    v
}
fn texts(e: &super::super::ErrorList) -> Vec<String> {
    e.iter().map(ToString::to_string).collect()
}

#[test]
fn a_plain_pod_is_fine() {
    assert_eq!(texts(&create("", "Pod", &pod())), [""; 0]);
}

#[test]
fn creation() {
    let c = "/spec/containers/0";
    let cases: Vec<(String, Value, &str)> = vec![
        ("/spec/containers".into(), json!([]), "spec.containers: Required value"),
        (format!("{c}/image"), json!(""), "spec.containers[0].image: Required value"),
        (
            format!("{c}/image"),
            json!(" a"),
            "spec.containers[0].image: Invalid value: \" a\": must not have leading or trailing whitespace",
        ),
        (
            format!("{c}/imagePullPolicy"),
            json!("x"),
            "spec.containers[0].imagePullPolicy: Unsupported value: \"x\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ),
        (
            "/spec/restartPolicy".into(),
            json!("x"),
            "spec.restartPolicy: Unsupported value: \"x\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ),
        (
            format!("{c}/ports"),
            json!([{"containerPort": 70000, "protocol": "TCP"}]),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            format!("{c}/ports"),
            json!([{"containerPort": 1, "hostPort": 1, "protocol": "TCP"}, {"containerPort": 2, "hostPort": 1, "protocol": "TCP"}]),
            "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//1\"",
        ),
        (
            format!("{c}/env"),
            json!([{"name": "A", "valueFrom": {}}]),
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ),
        (
            format!("{c}/env"),
            json!([{"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.phase"}}}]),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"status.phase\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
        ),
        (
            format!("{c}/resources"),
            json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            format!("{c}/resources"),
            json!({"requests": {"memory": "-1"}}),
            "spec.containers[0].resources.requests[memory]: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        (
            format!("{c}/resources"),
            json!({"requests": {"a.com/gpu": "1"}}),
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
        ),
        (
            format!("{c}/volumeMounts"),
            json!([{"name": "v", "mountPath": "/v"}]),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            format!("{c}/livenessProbe"),
            json!({"successThreshold": 1}),
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            format!("{c}/livenessProbe"),
            json!({"successThreshold": 2, "exec": {"command": ["a"]}}),
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            format!("{c}/lifecycle"),
            json!({"preStop": {"sleep": {"seconds": 31}}}),
            "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
        ),
        (
            format!("{c}/securityContext"),
            json!({"runAsUser": -1}),
            "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ),
        (
            "/spec/volumes".into(),
            json!([{"name": "a"}]),
            "spec.volumes[0]: Required value: must specify a volume type",
        ),
        (
            "/spec/volumes".into(),
            json!([{"name": "a", "emptyDir": {}, "hostPath": {"path": "/"}}]),
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (
            "/spec/volumes".into(),
            json!([{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]),
            "spec.volumes[1].name: Duplicate value: \"a\"",
        ),
        (
            "/spec/volumes".into(),
            json!([{"name": "a", "configMap": {"name": "c", "items": [{"key": "k", "path": "../x"}]}}]),
            "spec.volumes[0].configMap.items[0].path: Invalid value: \"../x\": must not contain '..'",
        ),
        (
            "/spec/initContainers".into(),
            json!([{"name": "c", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File"}]),
            "spec.initContainers[0].name: Duplicate value: \"c\"",
        ),
        (
            "/spec/initContainers".into(),
            json!([{"name": "d", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File", "livenessProbe": {}}]),
            "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ),
        (
            "/spec/dnsPolicy".into(),
            json!("None"),
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            "/spec/activeDeadlineSeconds".into(),
            json!(0),
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
        (
            "/spec/tolerations".into(),
            json!([{"operator": "Equal"}]),
            "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \\\"match all values and all keys\\\"",
        ),
        (
            "/spec/topologySpreadConstraints".into(),
            json!([{"maxSkew": 0, "topologyKey": "k", "whenUnsatisfiable": "DoNotSchedule"}]),
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
        ),
        (
            "/spec/affinity".into(),
            json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a b"}]}}),
            "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        ),
        (
            "/spec/securityContext/sysctls".into(),
            json!([{"name": "a..b", "value": "1"}]),
            "spec.securityContext.sysctls[0].name: Invalid value: \"a..b\": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
        ),
        (
            "/spec/ephemeralContainers".into(),
            json!([{"name": "e", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File"}]),
            "spec.ephemeralContainers: Forbidden: cannot be set on create",
        ),
    ];
    for (pointer, value, want) in cases {
        let got = texts(&create("", "Pod", &with(pod(), &pointer, value)));
        let want = want.replace("\\\"match", "\"match").replace("keys\\\"", "keys\"");
        assert_eq!(got, [want], "{pointer}");
    }
}

#[test]
fn two_things_wrong_are_both_told() {
    let p = with(pod(), "/spec/containers/0/name", json!("A_B"));
    let p = with(p, "/spec/hostname", json!("-"));
    let got = texts(&create("", "Pod", &p));
    assert_eq!(got.len(), 2);
    assert!(
        got[0].starts_with("spec.containers[0].name: Invalid value: \"A_B\": a lowercase RFC 1123 label")
    );
}

#[test]
fn updates() {
    let old = pod();
    let ok: [(&str, Value); 4] = [
        ("/spec/containers/0/image", json!("j")),
        ("/spec/activeDeadlineSeconds", json!(5)),
        ("/spec/tolerations", json!([{"key": "a", "operator": "Exists"}])),
        ("/metadata/labels", json!({"a": "b"})),
    ];
    for (p, v) in ok {
        assert_eq!(texts(&update("", "Pod", &with(old.clone(), p, v), &old)), [""; 0], "{p}");
    }
    let got = texts(&update("", "Pod", &with(old.clone(), "/spec/hostname", json!("x")), &old));
    assert!(got[0].starts_with(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    ));
    let got = texts(&update("", "Pod", &with(old.clone(), "/spec/containers/0/command", json!(["x"])), &old));
    assert!(got[0].contains("\n-   \"Command\": null,\n+   \"Command\": [\n+    \"x\"\n+   ],\n"), "{got:?}");
    let more = with(old.clone(), "/spec/containers/1", old["spec"]["containers"][0].clone());
    let more = with(more, "/spec/containers/1/name", json!("d"));
    assert_eq!(
        texts(&update("", "Pod", &more, &old)),
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
    let gated = with(old.clone(), "/spec/schedulingGates", json!([{"name": "x.io/a"}]));
    assert_eq!(texts(&update("", "Pod", &old, &gated)), [""; 0]);
    assert_eq!(
        texts(&update("", "Pod", &gated, &old)),
        [
            "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'x.io/a'"
        ]
    );
    let told = with(gated.clone(), "/spec/nodeSelector", json!({"a": "b"}));
    assert_eq!(texts(&update("", "Pod", &told, &gated)), [""; 0]);
}

#[test]
fn ephemeral_containers_are_only_added() {
    let e =
        json!([{"name": "e", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File"}]);
    let old = pod();
    let new = with(old.clone(), "/spec/ephemeralContainers", e);
    assert_eq!(texts(&update_subresource("", "Pod", "ephemeralcontainers", &new, &old)), [""; 0]);
    assert_eq!(
        texts(&update_subresource("", "Pod", "ephemeralcontainers", &old, &new)),
        ["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"e\" may not be removed\n"]
    );
}

#[test]
fn resize_changes_cpu_and_memory() {
    let old = with(pod(), "/spec/containers/0/resources", json!({"requests": {"cpu": "1"}}));
    let new = with(old.clone(), "/spec/containers/0/resources", json!({"requests": {"cpu": "2"}}));
    assert_eq!(texts(&update_subresource("", "Pod", "resize", &new, &old)), [""; 0]);
    let none = with(old.clone(), "/spec/containers/0/resources", json!({}));
    assert_eq!(
        texts(&update_subresource("", "Pod", "resize", &none, &old))[0],
        "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"
    );
    let limited =
        with(new.clone(), "/spec/containers/0/resources/limits", json!({"cpu": "3", "memory": "1Gi"}));
    assert_eq!(texts(&update_subresource("", "Pod", "resize", &limited, &old)), [""; 0]);
    let renamed = with(old.clone(), "/spec/containers/0/name", json!("other"));
    assert_eq!(
        texts(&update_subresource("", "Pod", "resize", &renamed, &old)),
        ["spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize"]
    );
    let storage = json!({"requests": {"cpu": "1", "ephemeral-storage": "1Gi"}});
    let storage = with(old.clone(), "/spec/containers/0/resources", storage);
    assert_eq!(
        texts(&update_subresource("", "Pod", "resize", &storage, &old)),
        ["spec: Forbidden: only cpu and memory resources are mutable"]
    );
    let init = json!([{"name": "i", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File",
        "resources": {"requests": {"cpu": "1"}}}]);
    let old = with(old, "/spec/initContainers", init);
    let new = with(old.clone(), "/spec/initContainers/0/resources/requests/cpu", json!("2"));
    assert_eq!(texts(&update_subresource("", "Pod", "resize", &new, &old)), [""; 0]);
}

#[test]
fn status_updates() {
    let old = with(pod(), "/spec/restartPolicy", json!("Never"));
    let old = with(
        old,
        "/status",
        json!({"qosClass": "BestEffort", "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 0}}}]}),
    );
    let new = with(old.clone(), "/status/containerStatuses/0/state", json!({"running": {}}));
    assert_eq!(
        texts(&update_status("", "Pod", &new, &old)),
        ["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"]
    );
    let new = with(old.clone(), "/status/podIPs", json!([{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]));
    assert!(
        texts(&update_status("", "Pod", &new, &old))[0]
            .ends_with("may specify no more than one IP for each IP family")
    );
}
