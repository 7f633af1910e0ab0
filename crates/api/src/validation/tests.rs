//! What `tests/corpus` does not ask: kinds that it lacks, schemas as rules, defaulted objects.

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
    vec![
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
            "apiregistration.k8s.io",
            "APIService",
            "v1.a.io",
            json!({"spec": {"group": "a.io", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}}),
            vec![(
                json!({"spec": {"versionPriority": 0}}),
                "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
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
