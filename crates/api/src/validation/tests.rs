//! Every kind that has rules: a good object passes, and each broken variation is told what upstream would tell.

use super::{create, naming, update};
use serde_json::{Value, json};

fn texts(e: &super::ErrorList) -> Vec<String> {
    e.iter().map(ToString::to_string).collect()
}
fn merge(mut a: Value, b: &Value) -> Value {
    match (&mut a, b) {
        (Value::Object(x), Value::Object(y)) => {
            for (k, v) in y {
                let old = x.remove(k).unwrap_or(Value::Null);
                x.insert(k.clone(), if v.is_object() { merge(old, v) } else { v.clone() });
            }
            a
        }
        _ => b.clone(),
    }
}
fn named(group: &str, kind: &str, name: &str, body: Value) -> Value {
    let mut meta = json!({"name": name});
    if naming(group, kind).0 == super::Scope::Namespaced {
        meta["namespace"] = json!("n");
    }
    merge(json!({"metadata": meta}), &body)
}
fn template() -> Value {
    json!({"metadata": {"labels": {"a": "b"}}, "spec": {
        "containers": [{"name": "c", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File"}],
        "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30, "securityContext": {}}})
}
fn selector() -> Value {
    json!({"matchLabels": {"a": "b"}})
}

/// One kind: a good object, and changes with what they are told.
type Case = (&'static str, &'static str, &'static str, Value, Vec<(Value, &'static str)>);

fn cases() -> Vec<Case> {
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    let job_template = {
        let mut t = template();
        t["spec"]["restartPolicy"] = json!("Never");
        t
    };
    vec![
        (
            "apps",
            "Deployment",
            "d",
            json!({"spec": {"replicas": 1, "selector": selector(), "template": template(), "strategy": rolling, "progressDeadlineSeconds": 600}}),
            vec![
                (
                    json!({"spec": {"replicas": -1}}),
                    "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                ),
                (
                    json!({"spec": {"template": {"metadata": {"labels": {"a": "c"}}}}}),
                    "spec.template.metadata.labels: Invalid value: {\"a\":\"c\"}: `selector` does not match template `labels`",
                ),
                (json!({"spec": {"selector": null}}), "spec.selector: Required value"),
                (
                    json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": 0}}}}),
                    "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
                ),
                (
                    json!({"spec": {"strategy": {"type": "Recreate"}}}),
                    "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
                ),
                (
                    json!({"spec": {"template": {"spec": {"restartPolicy": "Never"}}}}),
                    "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
                ),
                (
                    json!({"spec": {"progressDeadlineSeconds": 5, "minReadySeconds": 5}}),
                    "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds",
                ),
            ],
        ),
        (
            "apps",
            "DaemonSet",
            "d",
            json!({"spec": {"selector": selector(), "template": template(), "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}}}),
            vec![
                (
                    json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0}}}}),
                    "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
                ),
                (
                    json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxSurge": "5%"}}}}),
                    "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: \"5%\": may not be set when maxUnavailable is non-zero",
                ),
            ],
        ),
        (
            "apps",
            "StatefulSet",
            "s",
            json!({"spec": {"replicas": 1, "selector": selector(), "template": template(), "podManagementPolicy": "OrderedReady", "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}}}),
            vec![(
                json!({"spec": {"podManagementPolicy": "x"}}),
                "spec.podManagementPolicy: Invalid value: \"x\": must be 'OrderedReady' or 'Parallel'",
            )],
        ),
        (
            "batch",
            "Job",
            "j",
            json!({"spec": {"completions": 1, "parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "manualSelector": true, "selector": selector(), "template": job_template}}),
            vec![
                (
                    json!({"spec": {"template": {"spec": {"restartPolicy": "Always"}}}}),
                    "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
                ),
                (
                    json!({"spec": {"completionMode": "Indexed", "completions": null}}),
                    "spec.completions: Required value: when completion mode is Indexed",
                ),
                (
                    json!({"spec": {"backoffLimit": -1}}),
                    "spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0",
                ),
            ],
        ),
        (
            "batch",
            "CronJob",
            "c",
            json!({"spec": {"schedule": "* * * * *", "concurrencyPolicy": "Allow", "jobTemplate": {"spec": {"template": job_template}}}}),
            vec![
                (
                    json!({"spec": {"schedule": "* * *"}}),
                    "spec.schedule: Invalid value: \"* * *\": expected exactly 5 fields, found 3: [* * *]",
                ),
                (json!({"spec": {"schedule": ""}}), "spec.schedule: Required value"),
                (
                    json!({"spec": {"timeZone": "No/Where"}}),
                    "spec.timeZone: Invalid value: \"No/Where\": unknown time zone No/Where",
                ),
                (
                    json!({"spec": {"concurrencyPolicy": "x"}}),
                    "spec.concurrencyPolicy: Unsupported value: \"x\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
                ),
            ],
        ),
        (
            "",
            "Service",
            "s",
            json!({"spec": {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]}}),
            vec![
                (json!({"spec": {"ports": []}}), "spec.ports: Required value"),
                (
                    json!({"spec": {"ports": [{"port": 0, "protocol": "TCP", "targetPort": 80}]}}),
                    "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                ),
                (
                    json!({"spec": {"ports": [{"port": 1, "nodePort": 30000, "protocol": "TCP", "targetPort": 80}]}}),
                    "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
                ),
                (json!({"spec": {"type": "ExternalName"}}), "spec.externalName: Required value"),
                (
                    json!({"spec": {"type": "x", "internalTrafficPolicy": null}}),
                    "spec.type: Unsupported value: \"x\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
                ),
                (
                    json!({"spec": {"clusterIP": "1.2.3", "clusterIPs": ["1.2.3"]}}),
                    "spec.clusterIPs[0]: Invalid value: \"1.2.3\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                ),
                (
                    json!({"spec": {"externalTrafficPolicy": "Local"}}),
                    "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
                ),
                (
                    json!({"spec": {"loadBalancerClass": "a.io/b"}}),
                    "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
                ),
            ],
        ),
        (
            "",
            "ConfigMap",
            "c",
            json!({"data": {"a": "b"}}),
            vec![
                (
                    json!({"data": {"a/b": ""}}),
                    "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
                ),
                (
                    json!({"binaryData": {"a": ""}}),
                    "data[a]: Invalid value: \"a\": duplicate of key present in binaryData",
                ),
                (
                    json!({"data": {"a": "x".repeat(1024 * 1024 + 1)}}),
                    "[]: Too long: may not be more than 1048576 bytes",
                ),
            ],
        ),
        (
            "",
            "Secret",
            "s",
            json!({"type": "Opaque", "data": {"a": "YQ=="}}),
            vec![
                (
                    json!({"type": "kubernetes.io/dockerconfigjson"}),
                    "data[.dockerconfigjson]: Required value",
                ),
                (json!({"type": "kubernetes.io/ssh-auth"}), "data[ssh-privatekey]: Required value"),
                (
                    json!({"type": "kubernetes.io/service-account-token"}),
                    "metadata.annotations[kubernetes.io/service-account.name]: Required value",
                ),
            ],
        ),
        (
            "",
            "Node",
            "n",
            json!({"spec": {}}),
            vec![
                (json!({"spec": {"taints": [{"key": "a"}]}}), "metadata.taints[0].effect: Required value"),
                (
                    json!({"spec": {"podCIDRs": ["x"]}}),
                    "spec.podCIDRs[0]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                ),
            ],
        ),
        (
            "",
            "ResourceQuota",
            "q",
            json!({"spec": {"hard": {"pods": "1"}}}),
            vec![
                (
                    json!({"spec": {"hard": {"foo": "1"}}}),
                    "spec.hard[foo]: Invalid value: \"foo\": must be a standard resource type or fully qualified",
                ),
                (
                    json!({"spec": {"hard": {"pods": "1500m"}}}),
                    "spec.hard[pods]: Invalid value: 1500m: must be an integer",
                ),
                (
                    json!({"spec": {"scopes": ["BestEffort", "NotBestEffort"]}}),
                    "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
                ),
            ],
        ),
        (
            "",
            "LimitRange",
            "l",
            json!({"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}}]}}),
            vec![(
                json!({"spec": {"limits": [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}}),
                "spec.limits[0].min[cpu]: Invalid value: 2: min value 2 is greater than max value 1",
            )],
        ),
        (
            "",
            "PersistentVolumeClaim",
            "c",
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeMode": "Filesystem"}}),
            vec![
                (
                    json!({"spec": {"accessModes": []}}),
                    "spec.accessModes: Required value: at least 1 access mode is required",
                ),
                (
                    json!({"spec": {"resources": {"requests": {"storage": "0"}}}}),
                    "spec.resources.requests[storage]: Invalid value: \"0\": must be greater than zero",
                ),
                (
                    json!({"spec": {"accessModes": ["x"]}}),
                    "spec.accessModes: Unsupported value: \"x\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
                ),
            ],
        ),
        (
            "",
            "PersistentVolume",
            "v",
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/a"}, "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"}}),
            vec![
                (json!({"spec": {"hostPath": null}}), "spec: Required value: must specify a volume type"),
                (
                    json!({"spec": {"nfs": {"server": "a", "path": "/"}}}),
                    "spec.nfs: Forbidden: may not specify more than 1 volume type",
                ),
            ],
        ),
        (
            "rbac.authorization.k8s.io",
            "Role",
            "r",
            json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}),
            vec![
                (
                    json!({"rules": [{"apiGroups": [""], "resources": ["pods"]}]}),
                    "rules[0].verbs: Required value: verbs must contain at least one value",
                ),
                (
                    json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}),
                    "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
                ),
            ],
        ),
        (
            "rbac.authorization.k8s.io",
            "RoleBinding",
            "r",
            json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}, "subjects": [{"kind": "ServiceAccount", "name": "a", "namespace": "b"}]}),
            vec![
                (
                    json!({"roleRef": {"kind": "x"}}),
                    "roleRef.kind: Unsupported value: \"x\": supported values: \"Role\", \"ClusterRole\"",
                ),
                (
                    json!({"subjects": [{"kind": "User", "name": "a"}]}),
                    "subjects[0].apiGroup: Unsupported value: \"\": supported values: \"rbac.authorization.k8s.io\"",
                ),
            ],
        ),
        (
            "networking.k8s.io",
            "NetworkPolicy",
            "p",
            json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}]}}),
            vec![
                (
                    json!({"spec": {"ingress": [{"from": [{}]}]}}),
                    "spec.ingress[0].from[0]: Required value: must specify a peer",
                ),
                (
                    json!({"spec": {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]}]}}),
                    "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
                ),
            ],
        ),
        (
            "networking.k8s.io",
            "Ingress",
            "i",
            json!({"spec": {"rules": [{"host": "a.b", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]}}),
            vec![
                (
                    json!({"spec": {"rules": [{"host": "1.2.3.4"}]}}),
                    "spec.rules[0].host: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address",
                ),
                (
                    json!({"spec": {"rules": []}}),
                    "spec: Invalid value: {\"rules\":[]}: either `defaultBackend` or `rules` must be specified",
                ),
                (
                    json!({"spec": {"rules": [{"http": {"paths": [{"path": "a", "pathType": "Exact", "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]}}),
                    "spec.rules[0].http.paths[0].path: Invalid value: \"a\": must be an absolute path",
                ),
            ],
        ),
        (
            "networking.k8s.io",
            "IPAddress",
            "10.0.0.1",
            json!({"spec": {"parentRef": {"resource": "services", "name": "a", "namespace": "b"}}}),
            vec![(
                json!({"metadata": {"name": "x"}}),
                "metadata.name: Invalid value: \"x\": not a valid ip in canonical format",
            )],
        ),
        (
            "networking.k8s.io",
            "ServiceCIDR",
            "s",
            json!({"spec": {"cidrs": ["10.0.0.0/24"]}}),
            vec![(json!({"spec": {"cidrs": []}}), "spec.cidrs: Required value: at least one CIDR required")],
        ),
        (
            "networking.k8s.io",
            "IngressClass",
            "c",
            json!({"spec": {"controller": "a.io/b"}}),
            vec![(
                json!({"spec": {"controller": "a"}}),
                "spec.controller: Invalid value: \"a\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            )],
        ),
        (
            "autoscaling",
            "HorizontalPodAutoscaler",
            "h",
            json!({"spec": {"minReplicas": 1, "maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}}),
            vec![
                (
                    json!({"spec": {"maxReplicas": 0, "minReplicas": null}}),
                    "spec.maxReplicas: Invalid value: 0: must be greater than 0",
                ),
                (
                    json!({"spec": {"minReplicas": 5}}),
                    "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`",
                ),
            ],
        ),
        (
            "policy",
            "PodDisruptionBudget",
            "p",
            json!({"spec": {"minAvailable": 1, "selector": selector()}}),
            vec![(
                json!({"spec": {"minAvailable": "101%"}}),
                "spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%",
            )],
        ),
        (
            "scheduling.k8s.io",
            "PriorityClass",
            "p",
            json!({"value": 5, "preemptionPolicy": "Never"}),
            vec![(
                json!({"value": 1_000_000_001}),
                "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
            )],
        ),
        (
            "coordination.k8s.io",
            "Lease",
            "l",
            json!({"spec": {"leaseDurationSeconds": 5}}),
            vec![(
                json!({"spec": {"leaseDurationSeconds": 0}}),
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
            )],
        ),
        (
            "discovery.k8s.io",
            "EndpointSlice",
            "e",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"name": "", "protocol": "TCP", "port": 80}]}),
            vec![
                (json!({"addressType": ""}), "addressType: Required value"),
                (
                    json!({"endpoints": [{"addresses": []}]}),
                    "endpoints[0].addresses: Required value: must contain at least 1 address",
                ),
            ],
        ),
        (
            "storage.k8s.io",
            "StorageClass",
            "s",
            json!({"provisioner": "a.io/b", "volumeBindingMode": "Immediate", "reclaimPolicy": "Delete"}),
            vec![(json!({"provisioner": ""}), "provisioner: Required value")],
        ),
        (
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            "as.b.io",
            json!({"spec": {"group": "b.io", "scope": "Namespaced", "names": {"plural": "as", "singular": "a", "kind": "A", "listKind": "AList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object"}}}}}]}}),
            vec![
                (
                    json!({"metadata": {"name": "x.b.io"}}),
                    "metadata.name: Invalid value: \"x.b.io\": must be spec.names.plural+\".\"+spec.group",
                ),
                (
                    json!({"spec": {"scope": "x"}}),
                    "spec.scope: Unsupported value: \"x\": supported values: \"Cluster\", \"Namespaced\"",
                ),
                (
                    json!({"spec": {"versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {}}}}}]}}),
                    "spec.versions[0].schema.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified object fields",
                ),
            ],
        ),
        (
            "admissionregistration.k8s.io",
            "ValidatingWebhookConfiguration",
            "w",
            json!({"webhooks": [{"name": "a.b.io", "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": {"service": {"name": "s", "namespace": "n"}}, "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]}]}),
            vec![(
                json!({"webhooks": [{"name": "a", "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": {"service": {"name": "s", "namespace": "n"}}}]}),
                "webhooks[0].name: Invalid value: \"a\": should be a domain with at least three segments separated by dots",
            )],
        ),
        (
            "apiregistration.k8s.io",
            "APIService",
            "v1.a.io",
            json!({"spec": {"group": "a.io", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}}),
            vec![(
                json!({"spec": {"versionPriority": 0}}),
                "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
            )],
        ),
        (
            "node.k8s.io",
            "RuntimeClass",
            "r",
            json!({"handler": "runc"}),
            vec![(
                json!({"handler": "A"}),
                "handler: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            )],
        ),
    ]
}

#[test]
fn kinds() {
    for (group, kind, name, body, changes) in cases() {
        let good = named(group, kind, name, body);
        assert_eq!(texts(&create(group, kind, &good)), [""; 0], "{kind}");
        assert_eq!(texts(&update(group, kind, &good, &good)), [""; 0], "{kind} unchanged");
        for (change, want) in changes {
            let bad = merge(good.clone(), &change);
            assert_eq!(texts(&create(group, kind, &bad)), [want], "{kind} {change}");
        }
    }
}

#[test]
fn what_an_update_may_not_change() {
    let cases = cases();
    let good = |kind: &str| {
        let (g, k, n, b, _) = cases.iter().find(|c| c.1 == kind).expect("listed");
        (*g, named(g, k, n, b.clone()))
    };
    let table: Vec<(&str, Value, &str)> = vec![
        (
            "Deployment",
            json!({"spec": {"selector": {"matchLabels": {"a": "b", "c": "d"}}, "template": {"metadata": {"labels": {"c": "d"}}}}}),
            "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\",\"c\":\"d\"}}: field is immutable",
        ),
        (
            "StatefulSet",
            json!({"spec": {"serviceName": "x"}}),
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        ),
        (
            "Job",
            json!({"spec": {"completions": 2}}),
            "spec.completions: Invalid value: 2: field is immutable",
        ),
        (
            "RoleBinding",
            json!({"roleRef": {"name": "x"}}),
            "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"Role\",\"name\":\"x\"}: cannot change roleRef",
        ),
        ("Secret", json!({"type": "x"}), "type: Invalid value: \"x\": field is immutable"),
        (
            "StorageClass",
            json!({"provisioner": "x.io/y"}),
            "provisioner: Forbidden: updates to provisioner are forbidden.",
        ),
        (
            "PersistentVolumeClaim",
            json!({"spec": {"accessModes": ["ReadWriteMany"]}}),
            "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        ),
        (
            "PersistentVolume",
            json!({"spec": {"hostPath": {"path": "/b"}}}),
            "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation",
        ),
        ("PriorityClass", json!({"value": 6}), "value: Forbidden: may not be changed in an update."),
    ];
    for (kind, change, want) in table {
        let (group, old) = good(kind);
        let new = merge(old.clone(), &change);
        assert_eq!(texts(&update(group, kind, &new, &old)), [want], "{kind}");
    }
    let (_, old) = good("ConfigMap");
    let old = merge(old, &json!({"immutable": true}));
    let new = merge(old.clone(), &json!({"data": {"a": "c"}}));
    assert_eq!(
        texts(&update("", "ConfigMap", &new, &old)),
        ["data: Forbidden: field is immutable when `immutable` is set"]
    );
    let (_, old) = good("Service");
    let old = merge(old, &json!({"spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}}));
    let new = merge(old.clone(), &json!({"spec": {"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.2"]}}));
    assert_eq!(
        texts(&update("", "Service", &new, &old)),
        ["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"]
    );
}

#[test]
fn kinds_without_rules_follow_the_schema() {
    let o = json!({"apiVersion": "resource.k8s.io/v1", "metadata": {"name": "a", "namespace": "n"},
        "spec": {"devices": {"requests": [{"exactly": {"deviceClassName": "x"}}]}}});
    assert_eq!(
        texts(&create("resource.k8s.io", "ResourceClaim", &o)),
        ["spec.devices.requests[0].name: Required value"]
    );
}

/// What people send, after defaulting, is fine: no rule asks for what a default did not fill in.
#[test]
fn defaulted_objects_pass() {
    let containers = json!([{"name": "c", "image": "nginx:1.25", "ports": [{"containerPort": 80}],
        "env": [{"name": "A", "value": "b"}, {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}}],
        "envFrom": [{"configMapRef": {"name": "c"}}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "128Mi", "ephemeral-storage": "1Gi"}},
        "livenessProbe": {"httpGet": {"port": 80}}, "readinessProbe": {"tcpSocket": {"port": "http"}}, "startupProbe": {"grpc": {"port": 80}},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "1"]}}},
        "volumeMounts": [{"name": "e", "mountPath": "/e"}, {"name": "p", "mountPath": "/p", "readOnly": true}],
        "securityContext": {"runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": false, "seccompProfile": {"type": "RuntimeDefault"}}}]);
    let volumes = json!([{"name": "e", "emptyDir": {}}, {"name": "c", "configMap": {"name": "c"}}, {"name": "s", "secret": {"secretName": "s"}},
        {"name": "h", "hostPath": {"path": "/var"}}, {"name": "d", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}, {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}},
        {"name": "v", "persistentVolumeClaim": {"claimName": "v"}}, {"name": "g", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}}]);
    let spec = json!({"serviceAccountName": "default", "containers": containers, "volumes": volumes,
        "initContainers": [{"name": "i", "image": "busybox"}, {"name": "side", "image": "busybox", "restartPolicy": "Always"}],
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]}},
            "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}}]}},
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"a": "b"}}, "matchLabelKeys": ["x"]}]});
    let small =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let never = merge(small.clone(), &json!({"spec": {"restartPolicy": "Never"}}));
    let full = json!({"metadata": {"labels": {"a": "b"}}, "spec": spec});
    let list: Vec<(&str, &str, &str, &str, Value)> = vec![
        ("", "v1", "Pod", "p", json!({"spec": spec})),
        (
            "",
            "v1",
            "Pod",
            "q",
            json!({"spec": {"hostNetwork": true, "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}}),
        ),
        ("", "v1", "ReplicationController", "r", json!({"spec": {"template": small}})),
        ("", "v1", "Service", "s", json!({"spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}})),
        (
            "",
            "v1",
            "Service",
            "t",
            json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b", "targetPort": "http"}]}}),
        ),
        ("", "v1", "Service", "u", json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}})),
        ("", "v1", "Service", "v", json!({"spec": {"type": "ExternalName", "externalName": "a.b"}})),
        (
            "",
            "v1",
            "Service",
            "w",
            json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"], "sessionAffinity": "ClientIP"}}),
        ),
        ("", "v1", "ConfigMap", "c", json!({})),
        ("", "v1", "Secret", "s", json!({"data": {"a": "YQ=="}})),
        ("", "v1", "Namespace", "n", json!({"spec": {"finalizers": ["kubernetes"]}})),
        (
            "",
            "v1",
            "Node",
            "n",
            json!({"metadata": {"labels": {"kubernetes.io/hostname": "n"}}, "spec": {"podCIDRs": ["10.0.0.0/24"]}, "status": {"capacity": {"cpu": "2", "pods": "110"}}}),
        ),
        ("", "v1", "ServiceAccount", "a", json!({})),
        (
            "",
            "v1",
            "PersistentVolumeClaim",
            "c",
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
        ),
        (
            "",
            "v1",
            "PersistentVolume",
            "v",
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/a"}}}),
        ),
        (
            "",
            "v1",
            "LimitRange",
            "l",
            json!({"spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "500m"}}]}}),
        ),
        (
            "",
            "v1",
            "ResourceQuota",
            "q",
            json!({"spec": {"hard": {"pods": "10", "requests.cpu": "4", "count/deployments.apps": "2"}, "scopes": ["NotTerminating"]}}),
        ),
        (
            "",
            "v1",
            "Endpoints",
            "e",
            json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}),
        ),
        (
            "",
            "v1",
            "Event",
            "e",
            json!({"involvedObject": {"kind": "Pod", "namespace": "n", "name": "p"}, "type": "Normal"}),
        ),
        ("apps", "v1", "Deployment", "d", json!({"spec": {"selector": selector(), "template": full}})),
        ("apps", "v1", "ReplicaSet", "r", json!({"spec": {"selector": selector(), "template": small}})),
        (
            "apps",
            "v1",
            "StatefulSet",
            "s",
            json!({"spec": {"serviceName": "s", "selector": selector(), "template": small,
            "volumeClaimTemplates": [{"metadata": {"name": "d"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]}}),
        ),
        ("apps", "v1", "DaemonSet", "d", json!({"spec": {"selector": selector(), "template": small}})),
        ("apps", "v1", "ControllerRevision", "c", json!({"data": {"a": 1}, "revision": 1})),
        (
            "batch",
            "v1",
            "Job",
            "j",
            json!({"spec": {"manualSelector": true, "selector": selector(), "template": never}}),
        ),
        (
            "batch",
            "v1",
            "CronJob",
            "c",
            json!({"spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": never}}}}),
        ),
        (
            "autoscaling",
            "v2",
            "HorizontalPodAutoscaler",
            "h",
            json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}}),
        ),
        (
            "policy",
            "v1",
            "PodDisruptionBudget",
            "p",
            json!({"spec": {"minAvailable": 1, "selector": selector()}}),
        ),
        (
            "networking.k8s.io",
            "v1",
            "NetworkPolicy",
            "n",
            json!({"spec": {"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 80}]}]}}),
        ),
        (
            "networking.k8s.io",
            "v1",
            "Ingress",
            "i",
            json!({"spec": {"defaultBackend": {"service": {"name": "s", "port": {"name": "http"}}}, "tls": [{"hosts": ["*.a.b"], "secretName": "s"}]}}),
        ),
        (
            "networking.k8s.io",
            "v1",
            "IngressClass",
            "i",
            json!({"spec": {"controller": "a.io/b", "parameters": {"kind": "K", "name": "n"}}}),
        ),
        (
            "discovery.k8s.io",
            "v1",
            "EndpointSlice",
            "e",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}], "ports": [{"port": 80}]}),
        ),
        (
            "coordination.k8s.io",
            "v1",
            "Lease",
            "l",
            json!({"spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}}),
        ),
        ("scheduling.k8s.io", "v1", "PriorityClass", "system-node-critical", json!({"value": 2_000_001_000})),
        (
            "storage.k8s.io",
            "v1",
            "StorageClass",
            "s",
            json!({"provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"}),
        ),
        ("storage.k8s.io", "v1", "CSIDriver", "a.io", json!({"spec": {}})),
        ("storage.k8s.io", "v1", "CSINode", "n", json!({"spec": {"drivers": []}})),
        (
            "rbac.authorization.k8s.io",
            "v1",
            "ClusterRole",
            "system:x",
            json!({"rules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}),
        ),
        (
            "rbac.authorization.k8s.io",
            "v1",
            "ClusterRoleBinding",
            "system:x",
            json!({"roleRef": {"kind": "ClusterRole", "name": "system:x"}, "subjects": [{"kind": "Group", "name": "system:masters"}]}),
        ),
        (
            "flowcontrol.apiserver.k8s.io",
            "v1",
            "PriorityLevelConfiguration",
            "p",
            json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}}),
        ),
        (
            "admissionregistration.k8s.io",
            "v1",
            "MutatingWebhookConfiguration",
            "m",
            json!({"webhooks": [{"name": "a.b.io", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"name": "s", "namespace": "n", "path": "/mutate"}}, "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]}]}),
        ),
        (
            "apiregistration.k8s.io",
            "v1",
            "APIService",
            "v1beta1.metrics.k8s.io",
            json!({"spec": {"group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100, "insecureSkipTLSVerify": true, "service": {"name": "m", "namespace": "kube-system"}}}),
        ),
        (
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
            "as.b.io",
            json!({"spec": {"group": "b.io", "scope": "Namespaced", "names": {"plural": "as", "kind": "A"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}}),
        ),
    ];
    for (group, version, kind, name, body) in list {
        let mut o = named(group, kind, name, body);
        o["apiVersion"] =
            json!(if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") });
        o["kind"] = json!(kind);
        crate::defaults::apply(group, version, kind, &mut o);
        assert_eq!(texts(&create(group, kind, &o)), [""; 0], "{kind} {name}");
        assert_eq!(texts(&update(group, kind, &o, &o)), [""; 0], "{kind} {name} again");
    }
}

#[test]
fn the_claims_of_a_statefulset_are_volumes_of_its_template() {
    let claims = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}, "volumeMode": "Filesystem"}}]);
    let set = |mount: &str| {
        let mut t = template();
        t["spec"]["containers"][0]["volumeMounts"] = json!([{"name": mount, "mountPath": "/data"}]);
        named(
            "apps",
            "StatefulSet",
            "s",
            json!({"spec": {"selector": selector(), "template": t, "volumeClaimTemplates": claims,
                "podManagementPolicy": "OrderedReady", "updateStrategy": {"type": "RollingUpdate"}}}),
        )
    };
    assert_eq!(texts(&create("apps", "StatefulSet", &set("data"))), Vec::<String>::new());
    let told = texts(&create("apps", "StatefulSet", &set("other")));
    assert_eq!(told, ["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"other\""]);
}
