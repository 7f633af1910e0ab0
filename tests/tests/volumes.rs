//! Persistent volumes on a real node: binding, data that outlives pods, release, claims of StatefulSets.

use std::path::{Path, PathBuf};

use testkit::{Cluster, wait_for};

fn field(c: &Cluster, what: &str, path: &str) -> String {
    c.try_kubectl(&["get", what, "-o", &format!("jsonpath={path}")], None).stdout
}

fn volume(name: &str, class: &str, source: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: {name}}}\nspec:\n  storageClassName: {class}\n  capacity: {{storage: 1Gi}}\n  accessModes: [ReadWriteOnce]\n  {source}\n---\n"
    )
}

fn host_path(dir: &Path) -> String {
    format!("hostPath: {{path: {}, type: DirectoryOrCreate}}", dir.display())
}

fn claim(name: &str, class: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec: {{storageClassName: {class}, accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 100Mi}}}}}}\n---\n"
    )
}

fn pod(name: &str, claim: &str, command: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - {{name: c, image: 'busybox:1.36', command: [sh, -c, '{command}'], volumeMounts: [{{name: data, mountPath: /data}}]}}\n  volumes: [{{name: data, persistentVolumeClaim: {{claimName: {claim}}}}}]\n"
    )
}

fn phase(c: &Cluster, what: &str, want: &str) {
    wait_for(&format!("{what} to be {want}"), || field(c, what, "{.status.phase}") == want);
}

fn says(c: &Cluster, what: &str, text: &str) {
    wait_for(&format!("an event about {what}: {text}"), || {
        let (kind, name) = what.split_once('/').expect("kind/name");
        let about = format!("involvedObject.kind={kind},involvedObject.name={name}");
        let path = "jsonpath={range .items[*]}{.message}{\"\\n\"}{end}";
        c.try_kubectl(&["get", "events", "--field-selector", &about, "-o", path], None).stdout.contains(text)
    });
}

#[test]
fn images_are_mounted_as_volumes() {
    let Some(c) = Cluster::with_node() else { return };
    let pod = |name: &str, mount: &str, source: &str, command: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  containers:\n  - {{name: c, image: 'busybox:1.36', command: [sh, -c, '{command}'], volumeMounts: [{{name: data, mountPath: /data{mount}}}]}}\n  volumes: [{{name: data, image: {{{source}}}}}]\n---\n"
        )
    };
    let there = "reference: 'busybox:1.36'";
    c.apply(
        &(pod("whole", "", there, "test -x /data/bin/sh && ! touch /data/x && /data/bin/sh -c true")
            + &pod("part", ", subPath: bin", there, "test -x /data/sh")
            + &pod("lost", ", subPath: nowhere", there, "true")
            + &pod("absent", "", "reference: 'none.test/none:1', pullPolicy: Never", "true")),
    );
    phase(&c, "pod/whole", "Succeeded");
    phase(&c, "pod/part", "Succeeded");
    let reason = |pod: &str, want: &str, words: &str| {
        wait_for(&format!("{pod} to say {want}"), || {
            let waiting = field(&c, pod, "{.status.containerStatuses[0].state.waiting}");
            waiting.contains(want) && waiting.contains(words)
        });
    };
    reason("pod/lost", "CreateContainerError", "ImageVolumeMountFailed");
    reason("pod/absent", "ErrImageNeverPull", "none.test/none:1");
    says(&c, "Pod/absent", "Container image \"none.test/none:1\" is not present with pull policy of Never");
    let wrong = c.kubectl_fails(&["apply", "-f", "-"], Some(&pod("wrong", "", "pullPolicy: Never", "true")));
    assert!(wrong.contains("spec.volumes[0].image.reference: Required value"), "{wrong}");
}

/// A certificate authority of its own, as PEM.
fn authority() -> String {
    let key = rcgen::KeyPair::generate().expect("key");
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&key).expect("certificate").pem().replace('\r', "")
}

fn bundle(name: &str, signer: &str, pem: &str) -> String {
    let pem: Vec<String> = pem.lines().map(|l| format!("    {l}")).collect();
    let signer = if signer.is_empty() { String::new() } else { format!("signerName: {signer}\n  ") };
    format!(
        "apiVersion: certificates.k8s.io/v1\nkind: ClusterTrustBundle\nmetadata: {{name: '{name}', labels: {{alive: 'true'}}}}\nspec:\n  {signer}trustBundle: |\n{}\n---\n",
        pem.join("\n")
    )
}

#[test]
fn trust_bundles_are_shown_as_files() {
    let Some(c) = Cluster::with_node() else { return };
    let [named, one, two, late] = std::array::from_fn(|_| authority());
    c.apply(
        &(bundle("named", "", &named)
            + &bundle("example.com:ca:one", "example.com/ca", &one)
            + &bundle("example.com:ca:two", "example.com/ca", &format!("{two}{one}"))),
    );
    let pod = |name: &str, sources: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n  - {{name: c, image: 'busybox:1.36', command: [sleep, '100000'], volumeMounts: [{{name: t, mountPath: /t}}]}}\n  volumes: [{{name: t, projected: {{sources: [{sources}]}}}}]\n---\n"
        )
    };
    let source = |what: &str, path: &str| format!("{{clusterTrustBundle: {{{what}, path: {path}}}}}, ");
    let all = source("name: named", "named")
        + &source("name: 'example.com:ca:one'", "one")
        + &source("signerName: example.com/ca, labelSelector: {matchLabels: {alive: 'true'}}", "signer")
        + &source("signerName: example.com/ca, optional: true", "none")
        + &source("name: late, optional: true", "late");
    c.apply(&(pod("shown", &all) + &pod("waits", &source("name: late", "late"))));
    c.kubectl(&["wait", "--for=condition=ready", "pod/shown", "--timeout=90s"]);
    let read = |pod: &str, path: &str| c.kubectl(&["exec", pod, "--", "cat", &format!("/t/{path}")]);
    assert_eq!((read("shown", "named"), read("shown", "one")), (named, one.clone()));
    // Each anchor stands there once.
    let both = read("shown", "signer");
    assert!(both == format!("{one}{two}") || both == format!("{two}{one}"), "{both}");
    assert_eq!((read("shown", "none"), read("shown", "late")), (String::new(), String::new()));

    says(&c, "Pod/waits", "clustertrustbundle.certificates.k8s.io \"late\" not found");
    c.apply(&bundle("late", "", &late));
    c.kubectl(&["wait", "--for=condition=ready", "pod/waits", "--timeout=90s"]);
    assert_eq!(read("waits", "late"), late);
    wait_for("the file to be shown in a running pod", || read("shown", "late") == late);
    c.apply(&bundle("late", "", &two));
    wait_for("the file to change", || read("shown", "late") == two);

    let wrong = source("name: 'a:B', labelSelector: {}", "here") + &source("signerName: ca", "there");
    let said = c.kubectl_fails(&["create", "-f", "-"], Some(&pod("wrong", &wrong)));
    for part in [
        "clusterTrustBundle.name: Invalid value: \"a:B\": not a valid clustertrustbundlename: a lowercase RFC 1123 subdomain",
        "labelSelector must be unset if name is specified",
        "clusterTrustBundle.signerName: Invalid value: \"ca\": must be a fully qualified domain and path",
    ] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

#[test]
fn volumes_bind_outlive_their_pods_and_are_released() {
    let Some(c) = Cluster::with_node() else { return };
    let dir = |name: &str| -> PathBuf { c.dir().join(name) };
    data_outlives_the_pod(&c, &dir("static"));
    binding_waits_for_the_first_pod(&c, &dir("late"));
    a_set_has_claims_of_its_own(&c, &dir("set"));
}

fn data_outlives_the_pod(c: &Cluster, dir: &Path) {
    // The pod waits for the claim, the claim for a volume.
    c.apply(&(claim("data", "hand") + &pod("writer", "data", "echo kept > /data/file; sleep 100000")));
    let why = "{.status.conditions[?(@.type==\"PodScheduled\")].message}";
    wait_for("the pod to say why it waits", || {
        field(c, "pod/writer", why).contains("pod has unbound immediate PersistentVolumeClaims")
    });
    assert_eq!(field(c, "pvc/data", "{.status.phase}"), "Pending");
    c.apply(&volume("static", "hand", &host_path(dir)));
    phase(c, "pvc/data", "Bound");
    phase(c, "pv/static", "Bound");
    c.kubectl(&["wait", "--for=condition=ready", "pod/writer", "--timeout=90s"]);
    wait_for("the file", || std::fs::read_to_string(dir.join("file")).is_ok_and(|t| t == "kept\n"));
    assert!(c.kubectl(&["get", "pvc"]).contains("static"));

    // A used claim stays until its pod is gone.
    c.kubectl(&["delete", "pvc", "data", "--wait=false"]);
    wait_for("the claim to be going", || !field(c, "pvc/data", "{.metadata.deletionTimestamp}").is_empty());
    assert_eq!(field(c, "pvc/data", "{.metadata.finalizers[*]}"), "kubernetes.io/pvc-protection");
    c.kubectl(&["delete", "pod", "writer", "--timeout=90s"]);
    wait_for("the claim to be gone", || !c.try_kubectl(&["get", "pvc", "data"], None).ok);
    phase(c, "pv/static", "Released");
    assert_eq!(std::fs::read_to_string(dir.join("file")).expect("file"), "kept\n");

    // Given free by hand, it serves the next one, which reads what is there.
    c.kubectl(&["patch", "pv", "static", "-p", r#"{"spec":{"claimRef":null}}"#]);
    c.apply(&(claim("again", "hand") + &pod("reader", "again", "cat /data/file; sleep 100000")));
    wait_for("what was kept", || c.try_kubectl(&["logs", "reader"], None).stdout.trim() == "kept");
    c.kubectl(&["delete", "pod/reader", "pvc/again", "pv/static", "--timeout=90s"]);
    assert!(dir.join("file").exists());
}

fn binding_waits_for_the_first_pod(c: &Cluster, dir: &Path) {
    std::fs::create_dir_all(dir).expect("directory");
    let local = |name: &str, node: &str| {
        let affinity = format!(
            "nodeAffinity: {{required: {{nodeSelectorTerms: [{{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [{node}]}}]}}]}}}}"
        );
        volume(name, "late", &format!("local: {{path: {}}}\n  {affinity}", dir.display()))
    };
    let class = "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: late}\nprovisioner: kubernetes.io/no-provisioner\nvolumeBindingMode: WaitForFirstConsumer\n---\n";
    c.apply(&(class.to_owned() + &local("elsewhere", "node-9") + &claim("late", "late")));
    says(c, "PersistentVolumeClaim/late", "waiting for first consumer to be created before binding");
    c.apply(&pod("late", "late", "echo here > /data/late; sleep 100000"));
    says(c, "Pod/late", "1 node(s) didn't find available persistent volumes to bind");
    let hostname = field(c, "node/node-1", "{.metadata.labels.kubernetes\\.io/hostname}");
    c.apply(&local("here", &hostname));
    c.kubectl(&["wait", "--for=condition=ready", "pod/late", "--timeout=90s"]);
    assert_eq!(field(c, "pvc/late", "{.spec.volumeName}"), "here");
    wait_for("the file", || dir.join("late").exists());
    c.kubectl(&["delete", "pod/late", "pvc/late", "pv/here", "pv/elsewhere", "--timeout=90s"]);
}

fn a_set_has_claims_of_its_own(c: &Cluster, dir: &Path) {
    for n in 0..2 {
        c.apply(&volume(&format!("set-{n}"), "set", &host_path(&dir.join(n.to_string()))));
    }
    c.apply(
        r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain, whenScaled: Delete}
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: c, image: 'busybox:1.36', command: [sh, -c, 'hostname >> /data/names; sleep 100000'], volumeMounts: [{name: data, mountPath: /data}]}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {storageClassName: set, accessModes: [ReadWriteOnce], resources: {requests: {storage: 100Mi}}}
"#,
    );
    c.kubectl(&["rollout", "status", "statefulset/db", "--timeout=90s"]);
    let behind = |n: u32| -> PathBuf {
        let pv = field(c, &format!("pvc/data-db-{n}"), "{.spec.volumeName}");
        dir.join(pv.trim_start_matches("set-")).join("names")
    };
    let (zero, one) = (behind(0), behind(1));
    wait_for("a name on each volume", || {
        std::fs::read_to_string(&zero).is_ok_and(|t| t == "db-0\n")
            && std::fs::read_to_string(&one).is_ok_and(|t| t == "db-1\n")
    });
    // A pod that is made anew finds its own volume.
    c.kubectl(&["delete", "pod", "db-0", "--timeout=90s"]);
    wait_for("the same pod on the same volume", || {
        std::fs::read_to_string(&zero).is_ok_and(|t| t == "db-0\ndb-0\n")
    });
    c.kubectl(&["scale", "statefulset", "db", "--replicas=1"]);
    wait_for("the claim to go with its pod", || !c.try_kubectl(&["get", "pvc", "data-db-1"], None).ok);
    c.kubectl(&["delete", "statefulset", "db", "--timeout=90s"]);
    assert_eq!(field(c, "pvc/data-db-0", "{.status.phase}"), "Bound");
}
