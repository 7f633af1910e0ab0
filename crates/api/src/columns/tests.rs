//! Rows as `kubectl get` shows them.

use super::*;

const NOW: i64 = 1_704_067_200; // 2024-01-01T00:00:00Z

fn rows(group: &str, kind: &str, body: Value) -> Value {
    let mut o =
        json!({"metadata": {"name": "x", "namespace": "n", "creationTimestamp": "2023-12-31T23:55:00Z"}});
    for (k, v) in body.as_object().expect("object") {
        if k == "metadata" {
            for (k, v) in v.as_object().expect("metadata") {
                o["metadata"][k] = v.clone();
            }
        } else {
            o[k] = v.clone();
        }
    }
    let o = Object::from_value(o, 7).expect("object");
    let bytes = table(group, kind, &[o], NOW, IncludeObject::None, &ListMeta::default());
    serde_json::from_slice(&bytes).expect("JSON")
}
fn cells(group: &str, kind: &str, body: Value) -> Value {
    rows(group, kind, body)["rows"][0]["cells"].clone()
}

#[test]
fn pods() {
    let running = json!({"name": "c", "ready": true, "restartCount": 0, "state": {"running": {}}});
    let spec = json!({"containers": [{"name": "c"}], "nodeName": "w"});
    let cases = [
        (
            "running",
            json!({"spec": spec, "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "containerStatuses": [running]}}),
            json!(["x", "1/1", "Running", "0", "5m", "10.0.0.1", "w", "<none>", "<none>"]),
        ),
        (
            "pending",
            json!({"spec": {"containers": [{"name": "c"}]}, "status": {"phase": "Pending"}}),
            json!(["x", "0/1", "Pending", "0", "5m", "<none>", "<none>", "<none>", "<none>"]),
        ),
        (
            "crashing",
            json!({"spec": spec, "status": {"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2023-12-31T23:59:00Z"}}}]}}),
            json!(["x", "0/1", "CrashLoopBackOff", "3 (60s ago)", "5m", "<none>", "w", "<none>", "<none>"]),
        ),
        (
            "completed",
            json!({"spec": spec, "status": {"phase": "Succeeded", "containerStatuses": [{"name": "c", "state": {"terminated": {"reason": "Completed", "exitCode": 0}}}]}}),
            json!(["x", "0/1", "Completed", "0", "5m", "<none>", "w", "<none>", "<none>"]),
        ),
        (
            "signal",
            json!({"spec": spec, "status": {"phase": "Failed", "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 137, "signal": 9}}}]}}),
            json!(["x", "0/1", "Signal:9", "0", "5m", "<none>", "w", "<none>", "<none>"]),
        ),
        (
            "init",
            json!({"spec": {"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]}, "status": {"phase": "Pending",
            "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}}),
            json!(["x", "0/1", "Init:0/1", "0", "5m", "<none>", "<none>", "<none>", "<none>"]),
        ),
        (
            "init error",
            json!({"spec": {"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]}, "status": {"phase": "Pending",
            "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 2}}}]}}),
            json!(["x", "0/1", "Init:ExitCode:2", "0", "5m", "<none>", "<none>", "<none>", "<none>"]),
        ),
        (
            "sidecar",
            json!({"spec": {"containers": [{"name": "c"}], "initContainers": [{"name": "i", "restartPolicy": "Always"}]}, "status": {"phase": "Running",
            "initContainerStatuses": [{"name": "i", "ready": true, "started": true, "restartCount": 2, "state": {"running": {}}}], "containerStatuses": [running]}}),
            json!(["x", "2/2", "Running", "2", "5m", "<none>", "<none>", "<none>", "<none>"]),
        ),
        (
            "deleted",
            json!({"metadata": {"deletionTimestamp": "2023-12-31T23:59:00Z"}, "spec": spec, "status": {"phase": "Running", "containerStatuses": [running]}}),
            json!(["x", "1/1", "Terminating", "0", "5m", "<none>", "w", "<none>", "<none>"]),
        ),
        (
            "gated",
            json!({"spec": {"containers": [{"name": "c"}]}, "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}}),
            json!(["x", "0/1", "SchedulingGated", "0", "5m", "<none>", "<none>", "<none>", "<none>"]),
        ),
        (
            "readiness gate",
            json!({"spec": {"containers": [{"name": "c"}], "readinessGates": [{"conditionType": "a"}]}, "status": {"phase": "Running", "containerStatuses": [running], "conditions": [{"type": "a", "status": "True"}]}}),
            json!(["x", "1/1", "Running", "0", "5m", "<none>", "<none>", "<none>", "1/1"]),
        ),
    ];
    for (what, pod, want) in cases {
        assert_eq!(cells("", "Pod", pod), want, "{what}");
    }
    let done = rows("", "Pod", json!({"spec": spec, "status": {"phase": "Succeeded"}}));
    assert_eq!(done["rows"][0]["conditions"][0]["reason"], "Succeeded");
    assert_eq!(
        done["columnDefinitions"][5],
        json!({"name": "IP", "type": "string", "format": "", "description": "IP", "priority": 1})
    );
}

#[test]
fn other_kinds() {
    let template =
        json!({"spec": {"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "j"}]}});
    let sel = json!({"matchLabels": {"b": "c"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["y", "x"]}]});
    let cases = [
        (
            "",
            "Node",
            json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}, "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}], "nodeInfo": {"kubeletVersion": "v1"}}}),
            json!([
                "x",
                "Ready,SchedulingDisabled",
                "control-plane",
                "5m",
                "v1",
                "10.0.0.1",
                "<none>",
                "<unknown>",
                "<unknown>",
                "<unknown>"
            ]),
        ),
        (
            "",
            "Service",
            json!({"spec": {"type": "ClusterIP", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80, "protocol": "TCP"}], "selector": {"a": "b"}}}),
            json!(["x", "ClusterIP", "10.0.0.1", "<none>", "80/TCP", "5m", "a=b"]),
        ),
        (
            "",
            "Service",
            json!({"spec": {"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80, "nodePort": 30000, "protocol": "TCP"}]}}),
            json!(["x", "LoadBalancer", "10.0.0.1", "<pending>", "80:30000/TCP", "5m", "<none>"]),
        ),
        ("", "ConfigMap", json!({"data": {"a": "b"}, "binaryData": {"c": ""}}), json!(["x", 2, "5m"])),
        ("", "Namespace", json!({"status": {"phase": "Active"}}), json!(["x", "Active", "5m"])),
        (
            "",
            "Endpoints",
            json!({"subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.2"}, {"ip": "1.1.1.3"}, {"ip": "1.1.1.4"}], "ports": [{"port": 80}]}]}),
            json!(["x", "1.1.1.1:80,1.1.1.2:80,1.1.1.3:80 + 1 more...", "5m"]),
        ),
        (
            "",
            "Event",
            json!({"type": "Normal", "reason": "R", "message": "m\n", "involvedObject": {"kind": "Pod", "name": "p"}, "source": {"component": "c", "host": "h"},
            "firstTimestamp": "2023-12-31T23:59:00Z", "lastTimestamp": "2023-12-31T23:59:30Z", "count": 2}),
            json!(["30s", "Normal", "R", "pod/p", "", "c, h", "m", "60s", 2, "x"]),
        ),
        (
            "",
            "ResourceQuota",
            json!({"status": {"hard": {"pods": "5", "limits.cpu": "1"}, "used": {"pods": "1"}}}),
            json!(["x", "pods: 1/5", "limits.cpu: 0/1", "5m"]),
        ),
        (
            "",
            "PersistentVolumeClaim",
            json!({"spec": {"volumeName": "v", "storageClassName": "s", "volumeMode": "Filesystem"}, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}}),
            json!(["x", "Bound", "v", "1Gi", "RWO", "s", "<unset>", "5m", "Filesystem"]),
        ),
        (
            "apps",
            "Deployment",
            json!({"spec": {"replicas": 3, "template": template, "selector": sel}, "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1}}),
            json!(["x", "1/3", 2, 1, "5m", "c,d", "i,j", "a in (x,y),b=c"]),
        ),
        (
            "apps",
            "StatefulSet",
            json!({"spec": {"replicas": 2, "template": template}}),
            json!(["x", "0/2", "5m", "c,d", "i,j"]),
        ),
        (
            "batch",
            "Job",
            json!({"spec": {"completions": 1, "template": template}, "status": {"succeeded": 1, "startTime": "2023-12-31T23:55:00Z", "completionTime": "2023-12-31T23:55:10Z", "conditions": [{"type": "Complete", "status": "True"}]}}),
            json!(["x", "Complete", "1/1", "10s", "5m", "c,d", "i,j", "<none>"]),
        ),
        (
            "batch",
            "CronJob",
            json!({"spec": {"schedule": "* * * * *", "suspend": false, "jobTemplate": {"spec": {"template": template}}}, "status": {}}),
            json!(["x", "* * * * *", "<none>", "False", 0, "<none>", "5m", "c,d", "i,j", "<none>"]),
        ),
        (
            "autoscaling",
            "HorizontalPodAutoscaler",
            json!({"spec": {"minReplicas": 1, "maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 50}}}]}, "status": {"currentReplicas": 2, "currentMetrics": [{"type": "Resource", "resource": {"current": {"averageUtilization": 12}}}]}}),
            json!(["x", "Deployment/d", "cpu: 12%/50%", "1", 3, 2, "5m"]),
        ),
        (
            "networking.k8s.io",
            "Ingress",
            json!({"spec": {"rules": [{"host": "a"}], "tls": [{}]}}),
            json!(["x", "<none>", "a", "", "80, 443", "5m"]),
        ),
        (
            "discovery.k8s.io",
            "EndpointSlice",
            json!({"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["1.1.1.1"]}]}),
            json!(["x", "IPv4", "80", "1.1.1.1", "5m"]),
        ),
        (
            "storage.k8s.io",
            "StorageClass",
            json!({"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "p", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}),
            json!(["x (default)", "p", "Delete", "Immediate", false, "5m"]),
        ),
        (
            "policy",
            "PodDisruptionBudget",
            json!({"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 1}}),
            json!(["x", "50%", "N/A", 1, "5m"]),
        ),
        (
            "rbac.authorization.k8s.io",
            "RoleBinding",
            json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "m"}]}),
            json!(["x", "Role/r", "5m", "u", "", "m/s"]),
        ),
        ("rbac.authorization.k8s.io", "Role", json!({}), json!(["x", "2023-12-31T23:55:00Z"])),
        (
            "certificates.k8s.io",
            "CertificateSigningRequest",
            json!({"spec": {"signerName": "s", "username": "u"}, "status": {"certificate": "x", "conditions": [{"type": "Approved"}]}}),
            json!(["x", "5m", "s", "u", "<none>", "Approved,Issued"]),
        ),
    ];
    for (group, kind, body, want) in cases {
        assert_eq!(cells(group, kind, body), want, "{kind}");
    }
}

#[test]
fn every_built_in_kind_has_as_many_cells_as_columns() {
    let kinds = [
        (
            "",
            "Pod Node Service Namespace ConfigMap Secret ServiceAccount Endpoints Event ReplicationController PodTemplate ResourceQuota PersistentVolume PersistentVolumeClaim ComponentStatus LimitRange",
        ),
        ("apps", "Deployment ReplicaSet StatefulSet DaemonSet ControllerRevision"),
        ("batch", "Job CronJob"),
        ("autoscaling", "HorizontalPodAutoscaler Scale"),
        ("networking.k8s.io", "NetworkPolicy Ingress IngressClass ServiceCIDR"),
        ("discovery.k8s.io", "EndpointSlice"),
        (
            "storage.k8s.io",
            "StorageClass CSIDriver CSINode CSIStorageCapacity VolumeAttachment VolumeAttributesClass",
        ),
        (
            "admissionregistration.k8s.io",
            "ValidatingWebhookConfiguration MutatingWebhookConfiguration ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding",
        ),
        ("resource.k8s.io", "DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice DeviceTaintRule"),
        ("rbac.authorization.k8s.io", "Role ClusterRole RoleBinding ClusterRoleBinding"),
        ("coordination.k8s.io", "Lease LeaseCandidate"),
        ("scheduling.k8s.io", "PriorityClass"),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema PriorityLevelConfiguration"),
        ("certificates.k8s.io", "CertificateSigningRequest ClusterTrustBundle PodCertificateRequest"),
    ];
    for (group, list) in kinds {
        for kind in list.split(' ') {
            let t = rows(group, kind, json!({}));
            let columns = t["columnDefinitions"].as_array().expect("columns").len();
            assert_eq!(t["rows"][0]["cells"].as_array().expect("cells").len(), columns, "{kind}");
        }
    }
}

#[test]
fn the_object_of_a_row() {
    let o = Object::from_value(
        json!({"kind": "A", "metadata": {"name": "x", "managedFields": [{"manager": "m"}]}, "spec": {}}),
        7,
    )
    .expect("object");
    let list = ListMeta {
        resource_version: "9".into(),
        continue_token: "c".into(),
        remaining: Some(4),
        without_columns: false,
    };
    let get = |include| -> Value {
        let b = table("g", "A", std::slice::from_ref(&o), NOW, include, &list);
        serde_json::from_slice(&b).expect("JSON")
    };
    let t = get(IncludeObject::Metadata);
    assert_eq!(t["metadata"], json!({"resourceVersion": "9", "continue": "c", "remainingItemCount": 4}));
    assert_eq!(
        t["rows"][0]["object"],
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "x", "resourceVersion": "7", "managedFields": [{"manager": "m"}]}})
    );
    assert_eq!(get(IncludeObject::Object)["rows"][0]["object"]["metadata"]["resourceVersion"], "7");
    assert_eq!(get(IncludeObject::None)["rows"][0]["object"], Value::Null);
}

#[test]
fn custom_resources() {
    let o = Object::from_value(
        json!({"metadata": {"name": "x", "creationTimestamp": "2023-12-31T23:55:00Z"}, "spec": {"n": 3, "s": "t"}}),
        1,
    )
    .expect("object");
    let columns = custom::Columns::new(&json!([
        {"name": "N", "type": "integer", "jsonPath": ".spec.n"},
        {"name": "S", "type": "string", "jsonPath": ".spec.s", "priority": 1},
        {"name": "None", "type": "string", "jsonPath": ".spec.none"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]));
    let b = custom::table(&columns, std::slice::from_ref(&o), NOW, IncludeObject::None, &ListMeta::default());
    let t: Value = serde_json::from_slice(&b).expect("JSON");
    assert_eq!(t["rows"][0]["cells"], json!(["x", 3, "t", null, "5m"]));
    assert_eq!(t["columnDefinitions"][2]["priority"], 1);
    let plain = custom::table(
        &custom::Columns::new(&Value::Null),
        &[o],
        NOW,
        IncludeObject::None,
        &ListMeta::default(),
    );
    let t: Value = serde_json::from_slice(&plain).expect("JSON");
    assert_eq!(t["rows"][0]["cells"], json!(["x", "5m"]));
}
