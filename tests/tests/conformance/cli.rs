//! kubectl (test/e2e/kubectl/kubectl.go, logs.go), on one pod or a controller of one.

use serde_json::{Value, json};
use testkit::{node_possible, skip, wait_for};

use crate::world::{Tests, World, assert_holds};

pub const TESTS: Tests = &[
    (
        "[sig-cli] Kubectl client Kubectl api-versions should check if v1 is in available api versions [Conformance]",
        api_versions,
    ),
    (
        "[sig-cli] Kubectl client Kubectl cluster-info should check if Kubernetes control plane services is included in cluster-info [Conformance]",
        cluster_info,
    ),
    ("[sig-cli] Kubectl client Kubectl version should check is all data is printed [Conformance]", versions),
    (
        "[sig-cli] Kubectl client Kubectl diff should check if kubectl diff finds a difference for Deployments [Conformance]",
        diff,
    ),
    (
        "[sig-cli] Kubectl client Kubectl server-side dry-run should check if kubectl can dry-run update Pods [Conformance]",
        dry_run,
    ),
    (
        "[sig-cli] Kubectl client Kubectl run pod should create a pod from an image when restart is Never [Conformance]",
        run,
    ),
    (
        "[sig-cli] Kubectl client Kubectl replace should update a single-container pod's image [Conformance]",
        replace,
    ),
    ("[sig-cli] Kubectl client Kubectl label should update the label on a resource [Conformance]", label),
    ("[sig-cli] Kubectl client Kubectl patch should add annotations for pods in rc [Conformance]", patch),
    ("[sig-cli] Kubectl client Kubectl expose should create services for rc [Conformance]", expose),
    (
        "[sig-cli] Kubectl client Kubectl describe should check if kubectl describe prints relevant information for rc and pods [Conformance]",
        describe,
    ),
    ("[sig-cli] Kubectl logs logs should be able to retrieve and filter logs [Conformance]", logs),
];

const IMAGE: &str = "busybox:1.36";

fn api_versions(w: &World) {
    let versions = w.kubectl(&["api-versions"]);
    assert!(versions.lines().any(|l| l == "v1"), "{versions}");
}

fn cluster_info(w: &World) {
    let info = w.kubectl(&["cluster-info"]);
    // Between the words there may be colours.
    assert!(info.contains("Kubernetes control plane") && info.contains("is running at"), "{info}");
    assert!(info.contains(&format!("https://127.0.0.1:{}", w.cluster.port())), "{info}");
}

fn versions(w: &World) {
    let said = w.kubectl(&["version"]);
    for which in ["Client Version: v", "Server Version: v"] {
        let version = said.lines().find_map(|l| l.strip_prefix(which)).unwrap_or_else(|| panic!("{said}"));
        let mut parts = version.splitn(3, '.');
        let mut digits =
            || parts.next().is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
        assert!(digits() && digits(), "{said}");
        let rest = parts.next().unwrap_or_default();
        assert!(
            !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.+_".contains(&b)),
            "{said}"
        );
    }
}

fn diff(w: &World) {
    let live = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  \
         selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    \
         spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: '{IMAGE}', args: [sleep, '3600']}}]}}\n"
    );
    let created = w.try_kubectl(&["create", "-f", "-"], Some(&live));
    assert!(created.ok, "{created:?}");
    let declared = live.replace(IMAGE, "another:2");
    let out = w.try_kubectl(&["diff", "-f", "-"], Some(&declared));
    assert_eq!(out.code, Some(1), "{out:?}");
    let line = |sign: &str, image: &str| {
        out.stdout.lines().any(|l| l.starts_with(sign) && l.contains(&format!("image: {image}")))
    };
    assert!(line("-", IMAGE) && line("+", "another:2"), "{}", out.stdout);
    assert!(w.try_kubectl(&["delete", "-f", "-"], Some(&declared)).ok);
}

/// `kubectl run` of a pod that sleeps, with these flags.
fn run_pod(w: &World, flags: &[&str]) {
    let image = format!("--image={IMAGE}");
    let grace = r#"--overrides={"spec":{"terminationGracePeriodSeconds":0}}"#;
    w.kubectl(&[&["run", "pod", &image, grace][..], flags, &["--", "sleep", "3600"]].concat());
}

fn pod(w: &World) -> Value {
    w.get(&w.path("api/v1", "pods/pod"))
}

fn is_ready(w: &World) {
    w.kubectl(&["wait", "--for=condition=Ready", "pod/pod", "--timeout=90s"]);
}

/// The images of a pod's containers.
fn images(pod: &Value) -> Vec<&str> {
    let containers = pod["spec"]["containers"].as_array().expect("containers");
    containers.iter().map(|c| c["image"].as_str().unwrap_or_default()).collect()
}

fn dry_run(w: &World) {
    run_pod(w, &["--labels=run=pod"]);
    let patch = json!({"spec": {"containers": [{"name": "pod", "image": "another:2"}]}}).to_string();
    let patched = w.kubectl(&["patch", "pod", "pod", "-p", &patch, "--dry-run=server", "-o", "json"]);
    let patched: Value = serde_json::from_str(&patched).expect("a pod");
    assert_eq!(images(&patched), ["another:2"]);
    assert_eq!(images(&pod(w)), [IMAGE]);
}

fn run(w: &World) {
    run_pod(w, &["--restart=Never"]);
    let pod = pod(w);
    assert_eq!(images(&pod), [IMAGE]);
    assert_eq!(pod["spec"]["restartPolicy"], "Never");
}

fn replace(w: &World) {
    if !node_possible() {
        return skip("running containers needs root");
    }
    run_pod(w, &["--labels=run=pod"]);
    is_ready(w);
    // The same image, under its whole name.
    let whole = format!("docker.io/library/{IMAGE}");
    let text = w.kubectl(&["get", "pod", "pod", "-o", "json"]);
    let replaced = w.try_kubectl(&["replace", "-f", "-"], Some(&text.replacen(IMAGE, &whole, 1)));
    assert!(replaced.ok, "{replaced:?}");
    assert_eq!(images(&pod(w)), [&whole]);
    wait_for("the container with the other image", || {
        let container = &pod(w)["status"]["containerStatuses"][0];
        container["restartCount"] == 1 && container["ready"] == true
    });
}

fn label(w: &World) {
    if !node_possible() {
        return skip("running containers needs root");
    }
    run_pod(w, &["--labels=name=pause"]);
    is_ready(w);
    let shown = || w.kubectl(&["get", "pod", "pod", "-L", "testing-label"]);
    let selected = || w.kubectl(&["get", "pods", "-l", "testing-label", "-o", "name"]);
    w.kubectl(&["label", "pods", "pod", "testing-label=testing-label-value"]);
    assert!(shown().contains("testing-label-value"));
    assert_eq!(selected(), "pod/pod\n");
    w.kubectl(&["label", "pods", "pod", "testing-label-"]);
    assert!(!shown().contains("testing-label-value"));
    assert_eq!(selected(), "");
}

/// A controller of one pod that listens, and the name of that pod, which runs.
fn primary(w: &World) -> String {
    let labels = json!({"app": "store", "role": "primary"});
    let listens = json!({
        "name": "primary", "image": IMAGE, "command": ["httpd", "-f", "-p", "6379"],
        "ports": [{"name": "server", "containerPort": 6379}],
    });
    let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [listens]});
    w.create(
        &w.path("api/v1", "replicationcontrollers"),
        &json!({
            "metadata": {"name": "primary", "labels": labels},
            "spec": {
                "replicas": 1, "selector": labels,
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        }),
    );
    let pods = format!("{}?labelSelector=app%3Dstore", w.path("api/v1", "pods"));
    let mut name = String::new();
    wait_for("the pod to run", || match &w.items(&pods)[..] {
        [pod] if pod["status"]["phase"] == "Running" => {
            name = pod["metadata"]["name"].as_str().expect("a name").to_owned();
            true
        }
        _ => false,
    });
    name
}

fn patch(w: &World) {
    if !node_possible() {
        return skip("running containers needs root");
    }
    let name = primary(w);
    w.kubectl(&["patch", "pod", &name, "-p", r#"{"metadata":{"annotations":{"x":"y"}}}"#]);
    let pod = w.get(&w.path("api/v1", &format!("pods/{name}")));
    assert_eq!(pod["metadata"]["annotations"]["x"], "y");
}

fn expose(w: &World) {
    if !node_possible() {
        return skip("running containers needs root");
    }
    primary(w);
    for (what, name, port) in [("rc/primary", "rm2", 1234), ("service/rm2", "rm3", 2345)] {
        w.kubectl(&[
            "expose",
            what,
            &format!("--name={name}"),
            &format!("--port={port}"),
            "--target-port=6379",
        ]);
        let slices = w.path("apis/discovery.k8s.io/v1", "endpointslices");
        let slices = format!("{slices}?labelSelector=kubernetes.io%2Fservice-name%3D{name}");
        let mut ends = Vec::new();
        wait_for("an endpoint", || {
            ends = w.items(&slices);
            ends.iter().any(|s| s["endpoints"].as_array().is_some_and(|l| !l.is_empty()))
        });
        assert_eq!(ends.len(), 1);
        assert_eq!(ends[0]["endpoints"].as_array().map(Vec::len), Some(1));
        assert_eq!(ends[0]["ports"][0]["port"], 6379);
        let service = w.get(&w.path("api/v1", &format!("services/{name}")));
        assert_eq!(service["spec"]["ports"].as_array().map(Vec::len), Some(1));
        assert_holds(&service["spec"]["ports"][0], &json!({"port": port, "targetPort": 6379}));
    }
}

/// Whether there are lines with these parts, in this order.
fn has_lines(output: &str, wanted: &[&[&str]]) -> bool {
    let mut lines = output.lines().peekable();
    wanted.iter().all(|parts| {
        while lines.next_if(|l| !l.contains(parts[0])).is_some() {}
        lines.peek().is_some_and(|line| parts.iter().all(|part| line.contains(part)))
    })
}

/// `kubectl describe`, until it has what is wanted: a status may come a moment later.
fn described(w: &World, what: &[&str], wanted: &[&[&str]]) {
    let describe = || w.kubectl(&[&["describe"], what].concat());
    wait_for(&format!("{wanted:?} in what is said of {what:?}"), || has_lines(&describe(), wanted));
}

fn describe(w: &World) {
    if !node_possible() {
        return skip("running containers needs root");
    }
    let name = primary(w);
    w.create(
        &w.path("api/v1", "services"),
        &json!({
            "metadata": {"name": "primary", "labels": {"app": "store", "role": "primary"}},
            "spec": {
                "ports": [{"port": 6379, "targetPort": "server"}],
                "selector": {"app": "store", "role": "primary"},
            },
        }),
    );
    described(
        w,
        &["pod", &name],
        &[
            &["Name:", "primary-"],
            &["Namespace:", &w.namespace],
            &["Node:"],
            &["Labels:", "app=store"],
            &["role=primary"],
            &["Annotations:"],
            &["Status:", "Running"],
            &["IP:"],
            &["Controlled By:", "ReplicationController/primary"],
            &["Image:", IMAGE],
            &["State:", "Running"],
            &["QoS Class:", "BestEffort"],
        ],
    );
    described(
        w,
        &["rc", "primary"],
        &[
            &["Name:", "primary"],
            &["Namespace:", &w.namespace],
            &["Selector:", "app=store,role=primary"],
            &["Labels:", "app=store"],
            &["role=primary"],
            &["Annotations:"],
            &["Replicas:", "1 current", "1 desired"],
            &["Pods Status:", "1 Running", "0 Waiting", "0 Succeeded", "0 Failed"],
            &["Pod Template:"],
            &["Image:", IMAGE],
            &["Events:"],
        ],
    );
    described(
        w,
        &["service", "primary"],
        &[
            &["Name:", "primary"],
            &["Namespace:", &w.namespace],
            &["Labels:", "app=store"],
            &["role=primary"],
            &["Annotations:"],
            &["Selector:", "app=store", "role=primary"],
            &["Type:", "ClusterIP"],
            &["IP:"],
            &["Port:", "<unset>", "6379/TCP"],
            &["Endpoints:"],
            &["Session Affinity:", "None"],
        ],
    );
    described(
        w,
        &["node", "node-1"],
        &[
            &["Name:", "node-1"],
            &["Labels:"],
            &["Annotations:"],
            &["CreationTimestamp:"],
            &["Conditions:"],
            &["Type", "Status", "LastHeartbeatTime", "LastTransitionTime", "Reason", "Message"],
            &["Addresses:"],
            &["Capacity:"],
            &["Kernel Version:"],
            &["OS Image:"],
            &["Container Runtime Version:"],
            &["Kubelet Version:"],
            &["Pods:"],
        ],
    );
    described(
        w,
        &["namespace", &w.namespace],
        &[&["Name:", &w.namespace], &["Labels:"], &["Annotations:"], &["Status:", "Active"]],
    );
}

fn logs(w: &World) {
    if !node_possible() {
        return skip("running containers needs root");
    }
    // Five lines a second, for longer than this takes.
    let script = "i=0; while [ $i -lt 500 ]; do echo $i GET /api/v1/namespaces/kube-system; i=$((i+1)); sleep 0.2; done";
    w.kubectl(&["run", "pod", &format!("--image={IMAGE}"), "--restart=Never", "--", "sh", "-c", script]);
    is_ready(w);
    let logs = |flags: &[&str]| w.kubectl(&[&["logs", "pod", "pod"][..], flags].concat());
    wait_for("a line", || logs(&[]).contains("/api/v1/namespaces/kube-system"));

    let last = logs(&["--tail=1"]);
    assert_eq!(last.lines().count(), 1, "{last}");
    assert!(last.contains("GET"), "{last}");
    assert_eq!(logs(&["--limit-bytes=1"]), "0");
    let stamped = logs(&["--tail=1", "--timestamps"]);
    assert_eq!(stamped.lines().count(), 1, "{stamped}");
    let (stamp, rest) = stamped.split_once(' ').expect("a timestamp and the line");
    let shape: String = stamp.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert!(shape.starts_with("0000-00-00T00:00:00") && shape.ends_with('Z'), "{stamp}");
    assert!(rest.contains("GET"), "{stamped}");
    wait_for("lines that are older than a second", || {
        let (recent, all) = (logs(&["--since=1s"]), logs(&["--since=24h"]));
        recent.lines().count() < all.lines().count()
    });
    w.kubectl(&["delete", "pod", "pod", "--grace-period=0", "--force"]);
}
