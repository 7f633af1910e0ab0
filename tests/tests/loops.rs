//! Smaller loops, on a control plane alone: nodes and pods are there in name only.

use testkit::{Cluster, wait_for};

fn get(c: &Cluster, what: &str, path: &str) -> String {
    c.try_kubectl(&["get", what, "-o", &format!("jsonpath={path}")], None).stdout
}

fn says(c: &Cluster, name: &str, text: &str) {
    wait_for(&format!("an event about {name}: {text}"), || {
        c.kubectl(&["get", "events", "--field-selector", &format!("involvedObject.name={name}")])
            .contains(text)
    });
}

#[test]
fn nodes_say_how_long_their_caches_are_good() {
    let c = Cluster::control_plane();
    c.add_silent_node("quiet");
    wait_for("the annotation", || {
        get(&c, "node/quiet", r"{.metadata.annotations.node\.alpha\.kubernetes\.io/ttl}") == "0"
    });
}

const VOLUME: &str = r#"
apiVersion: v1
kind: PersistentVolume
metadata: {name: disk}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: far
  claimRef: {namespace: default, name: data}
  csi: {driver: far.example.com, volumeHandle: d-1}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: far}
provisioner: far.example.com
allowVolumeExpansion: true
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {storageClassName: far, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"#;

fn user(name: &str, node: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  nodeName: {node}\n  containers: [{{name: c, image: i}}]\n  volumes: [{{name: v, persistentVolumeClaim: {{claimName: data}}}}]\n"
    )
}

#[test]
fn drivers_are_told_where_volumes_go() {
    let c = Cluster::control_plane();
    for node in ["one", "two"] {
        c.add_silent_node(node);
    }
    c.apply(VOLUME);
    wait_for("the claim to be bound", || get(&c, "pvc/data", "{.status.phase}") == "Bound");
    c.apply(&user("first", "one"));
    let attachments = || {
        let path = "jsonpath={range .items[*]}{.spec.attacher} {.spec.nodeName} {.spec.source.persistentVolumeName};{end}";
        c.kubectl(&["get", "volumeattachments", "-o", path])
    };
    wait_for("the attachment", || attachments() == "far.example.com one disk;");
    // What a driver's attacher says.
    let name = c.kubectl(&["get", "volumeattachments", "-o", "jsonpath={.items[0].metadata.name}"]);
    assert!(name.starts_with("csi-") && name.len() == 68, "{name}");
    let attached = r#"{"status": {"attached": true}}"#;
    c.kubectl(&["patch", "volumeattachment", &name, "--subresource=status", "--type=merge", "-p", attached]);
    let unique = "kubernetes.io/csi/far.example.com^d-1";
    let on_node = || get(&c, "node/one", "{.status.volumesAttached[*].name}");
    wait_for("the node's status", || on_node() == unique);
    says(&c, "first", "AttachVolume.Attach succeeded for volume \"disk\"");

    // Another node has to wait, as long as the first one uses it.
    let in_use = format!(r#"{{"status": {{"volumesInUse": ["{unique}"]}}}}"#);
    c.kubectl(&["patch", "node", "one", "--subresource=status", "--type=merge", "-p", &in_use]);
    c.apply(&user("second", "two"));
    says(&c, "second", "Multi-Attach error for volume \"disk\" Volume is already used by pod(s) first");
    c.kubectl(&["delete", "pod", "first", "--force", "--grace-period=0"]);
    assert_eq!(attachments(), "far.example.com one disk;");
    // A node that somebody declared lost uses nothing any more.
    c.kubectl(&["taint", "node", "one", "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"]);
    wait_for("the move", || attachments() == "far.example.com two disk;");
    assert_eq!(on_node(), "");

    // Nothing in here makes a volume larger.
    let more = r#"{"spec": {"resources": {"requests": {"storage": "2Gi"}}}}"#;
    c.kubectl(&["patch", "pvc", "data", "--type=merge", "-p", more]);
    says(&c, "data", "waiting for an external controller to expand this PVC");
}

#[test]
fn ranges_of_services_go_when_nobody_needs_them() {
    let c = Cluster::control_plane();
    let ready = |name: &str, field: &str| {
        get(
            &c,
            &format!("servicecidr/{name}"),
            &format!("{{.status.conditions[?(@.type==\"Ready\")].{field}}}"),
        )
    };
    wait_for("the first range", || ready("kubernetes", "status") == "True");
    c.apply("apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: more}\nspec: {cidrs: [10.211.0.0/24]}\n");
    wait_for("the second range", || ready("more", "status") == "True");
    assert_eq!(
        get(&c, "servicecidr/more", "{.metadata.finalizers[0]}"),
        "networking.k8s.io/service-cidr-finalizer"
    );
    c.apply("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.211.0.7, ports: [{port: 80}]}\n");
    assert_eq!(get(&c, "ipaddress/10.211.0.7", "{.spec.parentRef.name}"), "web");
    c.kubectl(&["delete", "servicecidr", "more", "--wait=false"]);
    wait_for("the reason to stay", || ready("more", "reason") == "Terminating");
    // Nothing is taken from it any more.
    let other = "apiVersion: v1\nkind: Service\nmetadata: {name: other}\nspec: {clusterIP: 10.211.0.8, ports: [{port: 80}]}\n";
    assert!(c.kubectl_fails(&["apply", "-f", "-"], Some(other)).contains("not in the valid range"));
    c.kubectl(&["delete", "service", "web"]);
    wait_for("the range to go", || !c.try_kubectl(&["get", "servicecidr", "more"], None).ok);
}

const TWO_VERSIONS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: things, singular: thing, kind: Thing}
  versions:
  - {name: v1, served: true, storage: STORE1, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
  - {name: v2, served: true, storage: STORE2, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
"#;

#[test]
fn objects_move_to_the_version_of_today() {
    let c = Cluster::control_plane();
    let define = |v1: &str, v2: &str| c.apply(&TWO_VERSIONS.replace("STORE1", v1).replace("STORE2", v2));
    define("true", "false");
    c.kubectl(&["wait", "--for=condition=Established", "crd/things.example.com", "--timeout=60s"]);
    let thing = "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: one}\ndata: x\n";
    wait_for("the thing", || c.try_kubectl(&["apply", "-f", "-"], Some(thing)).ok);
    define("false", "true");
    let stored = || get(&c, "crd/things.example.com", "{.status.storedVersions[*]}");
    wait_for("both versions to be noted", || stored() == "v1 v2");
    let revision = || get(&c, "thing/one", "{.metadata.resourceVersion}");
    let before = revision();
    let migration = |name: &str, resource: &str| {
        c.apply(&format!("apiVersion: storagemigration.k8s.io/v1\nkind: StorageVersionMigration\nmetadata: {{name: {name}}}\nspec: {{resource: {{group: example.com, resource: {resource}}}}}\n"))
    };
    migration("things", "things");
    c.kubectl(&["wait", "--for=condition=Succeeded", "storageversionmigration/things", "--timeout=60s"]);
    wait_for("the older version to be forgotten", || stored() == "v2");
    assert_ne!(revision(), before, "the object was not written anew");
    wait_for("the end of it", || {
        get(&c, "storageversionmigration/things", "{.status.conditions[?(@.type==\"Running\")].status}")
            == "False"
    });
    // Once more there is nothing to do.
    let before = revision();
    migration("again", "things");
    c.kubectl(&["wait", "--for=condition=Succeeded", "storageversionmigration/again", "--timeout=60s"]);
    assert_eq!(revision(), before);
}

const DEVICES: &str = r#"
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: gpu}
spec:
  metadata: {labels: {made: 'yes'}}
  spec: {devices: {requests: [{name: one, exactly: {deviceClassName: gpus}}]}}
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: far-gpus}
spec:
  driver: gpus.example.com
  nodeName: far
  pool: {name: far, generation: 1, resourceSliceCount: 1}
  devices: [{name: gpu-0}]
---
apiVersion: v1
kind: Pod
metadata: {name: miner}
spec:
  nodeName: far
  containers: [{name: c, image: i, resources: {claims: [{name: gpu}]}}]
  resourceClaims: [{name: gpu, resourceClaimTemplateName: gpu}]
"#;

#[test]
fn claims_are_made_held_and_given_back() {
    let c = Cluster::control_plane();
    c.add_silent_node("far");
    c.apply(DEVICES);
    let name = || get(&c, "pod/miner", "{.status.resourceClaimStatuses[0].resourceClaimName}");
    wait_for("the claim in the pod's status", || name().starts_with("miner-gpu-"));
    let claim = format!("resourceclaim/{}", name());
    assert_eq!(get(&c, &claim, "{.metadata.labels.made} {.metadata.ownerReferences[0].name}"), "yes miner");
    // What a scheduler says, which does not know the pod.
    let protect = r#"{"metadata": {"finalizers": ["resource.kubernetes.io/delete-protection"]}}"#;
    c.kubectl(&["patch", &claim, "--type=merge", "-p", protect]);
    let allocation = r#"{"status": {"allocation": {"devices": {"results": [{"request": "one", "driver": "gpus.example.com", "pool": "far", "device": "gpu-0"}]}}}}"#;
    c.kubectl(&["patch", &claim, "--subresource=status", "--type=merge", "-p", allocation]);
    wait_for("the reservation", || get(&c, &claim, "{.status.reservedFor[*].name}") == "miner");
    // A device that is broken drives its pod away; its claim goes with it.
    let taint = r#"[{"op": "add", "path": "/spec/devices/0/taints", "value": [{"key": "broken", "effect": "NoExecute"}]}]"#;
    c.kubectl(&["patch", "resourceslice", "far-gpus", "--type=json", "-p", taint]);
    says(&c, "miner", "Marking for deletion");
    wait_for("the mark", || {
        get(&c, "pod/miner", "{.status.conditions[?(@.type==\"DisruptionTarget\")].reason}")
            == "DeletionByDeviceTaintManager"
    });
    assert!(!get(&c, "pod/miner", "{.metadata.deletionTimestamp}").is_empty());
    c.kubectl(&["delete", "pod", "miner", "--force", "--grace-period=0"]);
    wait_for("the claim to go", || !c.try_kubectl(&["get", &claim], None).ok);
}

#[test]
fn the_authority_of_the_api_is_published() {
    let c = Cluster::control_plane();
    let path = "jsonpath={range .items[?(@.spec.signerName==\"kubernetes.io/kube-apiserver-serving\")]}{.metadata.name} {.spec.trustBundle}{end}";
    let all = || c.kubectl(&["get", "clustertrustbundles", "-o", path]);
    wait_for("the bundle", || all().starts_with("kubernetes.io:kube-apiserver-serving:"));
    let root = get(&c, "configmap/kube-root-ca.crt", r"{.data.ca\.crt}");
    assert!(!root.is_empty() && all().contains(root.trim()));
    // It comes back, and others of its signer go.
    let name = all().split_whitespace().next().map(str::to_owned).unwrap_or_default();
    c.kubectl(&["delete", "clustertrustbundle", &name]);
    wait_for("the bundle again", || all().starts_with(&name));
}
