//! Nodes that are drained, cordoned or silent, and budgets that say no; against a control plane alone, with nodes that
//! exist in the API only.

use serde_json::{Value, json};
use testkit::{Cluster, wait_for};

fn patch_status(c: &Cluster, kind: &str, name: &str, status: &Value) {
    c.kubectl(&["patch", kind, name, "--subresource=status", "--type=strategic", "-p", &status.to_string()]);
}

fn get(c: &Cluster, kind: &str, name: &str, path: &str) -> String {
    c.try_kubectl(&["get", kind, name, "-o", &format!("jsonpath={{{path}}}")], None).stdout
}

fn pods(c: &Cluster, path: &str) -> Vec<String> {
    let all = c.kubectl(&[
        "get",
        "pods",
        "-o",
        &format!("jsonpath={{range .items[*]}}{{{path}}}{{\"\\n\"}}{{end}}"),
    ]);
    all.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect()
}

/// The part of a kubelet: every bound pod runs and is ready.
fn run_pods(c: &Cluster) {
    for line in pods(c, ".metadata.name}{\" \"}{.status.phase}{\" \"}{.spec.nodeName") {
        let parts: Vec<&str> = line.split(' ').collect();
        if let [name, "Pending", node] = parts.as_slice()
            && !node.is_empty()
        {
            let status = json!({"status": {"phase": "Running",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
            c.try_kubectl(
                &[
                    "patch",
                    "pod",
                    name,
                    "--subresource=status",
                    "--type=strategic",
                    "-p",
                    &status.to_string(),
                ],
                None,
            );
        }
    }
}

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: web, image: "busybox:1.36"}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec:
  minAvailable: 2
  selector: {matchLabels: {app: web}}
"#;

#[test]
fn a_budget_holds_a_drain_up_until_it_allows_it() {
    let c = Cluster::with_flags(false, &["--node-monitor-grace-period=5h"]);
    c.add_silent_node("ghost");
    c.apply(WEB);
    wait_for("two ready pods in the budget", || {
        run_pods(&c);
        get(
            &c,
            "pdb",
            "web",
            ".status.currentHealthy} {.status.desiredHealthy} {.status.expectedPods} {.status.disruptionsAllowed",
        ) == "2 2 2 0"
    });
    assert_eq!(get(&c, "pdb", "web", ".status.conditions[0].reason"), "InsufficientPods");

    // An eviction, asked directly: refused with the cause, whether in earnest or not.
    let name = pods(&c, ".metadata.name").remove(0);
    let eviction = |options: Value| {
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}, "deleteOptions": options}).to_string()
    };
    let path = format!("/api/v1/namespaces/default/pods/{name}/eviction");
    let ask =
        |options: Value| c.try_kubectl(&["create", "--raw", &path, "-f", "-"], Some(&eviction(options)));
    for options in [json!({}), json!({"dryRun": ["All"]})] {
        let refused = ask(options);
        assert!(
            !refused.ok
                && refused
                    .stderr
                    .contains("Cannot evict pod as it would violate the pod's disruption budget."),
            "{refused:?}"
        );
        assert!(refused.stderr.contains("TooManyRequests"), "{refused:?}");
    }

    // A drain cordons the node and says why it can't go on.
    let drain = |timeout: &str| c.try_kubectl(&["drain", "ghost", "--ignore-daemonsets", timeout], None);
    let stuck = drain("--timeout=5s");
    assert!(
        !stuck.ok
            && stuck.stderr.contains("Cannot evict pod as it would violate the pod's disruption budget."),
        "{stuck:?}"
    );
    assert_eq!(get(&c, "node", "ghost", ".spec.unschedulable"), "true");
    wait_for("the taint of a cordoned node", || {
        get(&c, "node", "ghost", ".spec.taints[*].key").contains("node.kubernetes.io/unschedulable")
    });
    assert!(c.kubectl(&["get", "nodes"]).contains("Ready,SchedulingDisabled"));

    // One may go: the budget is charged, and nothing more is allowed until the controller has counted.
    c.kubectl(&["patch", "pdb", "web", "--type=merge", "-p", "{\"spec\":{\"minAvailable\":1}}"]);
    wait_for("a place in the budget", || get(&c, "pdb", "web", ".status.disruptionsAllowed") == "1");
    let mismatch = ask(json!({"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}}));
    assert!(!mismatch.ok && mismatch.stderr.contains("Conflict"), "{mismatch:?}");
    assert!(
        pods(&c, ".metadata.name").contains(&name),
        "an eviction of another pod by that name must not touch it"
    );
    // The charge of the attempt stays until it is given up; a new budget lets the rest go.
    c.kubectl(&["delete", "pdb", "web"]);
    c.kubectl(&["create", "pdb", "all", "--selector=app=web", "--max-unavailable=100%"]);
    wait_for("both places in the new budget", || get(&c, "pdb", "all", ".status.disruptionsAllowed") == "2");
    assert!(ask(json!({"dryRun": ["All"]})).ok);
    assert!(pods(&c, ".metadata.name").contains(&name), "a dry run must not evict");
    let drained = drain("--timeout=80s");
    assert!(drained.ok && drained.stdout.contains("node/ghost drained"), "{drained:?}");
    assert!(!pods(&c, ".metadata.name").contains(&name));
    wait_for("pods that fit nowhere", || {
        pods(&c, ".spec.nodeName}-{.status.phase") == ["-Pending", "-Pending"]
    });

    // Back in service, the waiting pods come to it.
    c.kubectl(&["uncordon", "ghost"]);
    wait_for("the pods to be placed again", || {
        pods(&c, ".spec.nodeName") == ["ghost", "ghost"]
            && !get(&c, "node", "ghost", ".spec.taints[*].key").contains("unschedulable")
    });
}

const BOUND: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  nodeName: ghost
  tolerations:
  - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: SECONDS}
  - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
  containers: [{name: a, image: "busybox:1.36"}]
"#;

#[test]
fn a_silent_node_is_unreachable_and_its_pods_are_evicted() {
    let c = Cluster::with_flags(false, &["--node-monitor-grace-period=3s"]);
    c.add_silent_node("ghost");
    c.kubectl(&["label", "node", "ghost", "kubernetes.io/os=linux"]);
    for (name, seconds) in [("leaves", "1"), ("stays", "3600")] {
        c.apply(&BOUND.replace("NAME", name).replace("SECONDS", seconds));
    }
    run_pods(&c);
    wait_for("the node to be unknown", || {
        get(
            &c,
            "node",
            "ghost",
            ".status.conditions[?(@.type==\"Ready\")].status} {.status.conditions[?(@.type==\"Ready\")].reason",
        ) == "Unknown NodeStatusUnknown"
    });
    wait_for("the taints of an unreachable node", || {
        let taints = get(&c, "node", "ghost", ".spec.taints");
        taints.matches("node.kubernetes.io/unreachable").count() == 2
            && taints.contains("NoExecute")
            && taints.contains("NoSchedule")
    });
    assert_eq!(get(&c, "node", "ghost", ".metadata.labels.beta\\.kubernetes\\.io/os"), "linux");
    wait_for("its pods not to be ready", || {
        run_pods(&c);
        get(&c, "pod", "stays", ".status.conditions[?(@.type==\"Ready\")].status") == "False"
    });
    wait_for("the pod that bears it for a second only to be evicted", || {
        !get(&c, "pod", "leaves", ".metadata.deletionTimestamp").is_empty()
    });
    assert_eq!(
        get(&c, "pod", "leaves", ".status.conditions[?(@.type==\"DisruptionTarget\")].reason"),
        "DeletionByTaintManager"
    );
    assert!(get(&c, "pod", "stays", ".metadata.deletionTimestamp").is_empty());
    wait_for("an event that says so", || {
        c.kubectl(&["get", "events"]).contains("Marking for deletion Pod default/leaves")
    });

    // Out of service: what is on its way out goes without its kubelet, and what tolerates no more follows.
    c.kubectl(&["taint", "node", "ghost", "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"]);
    wait_for("both pods to be gone", || pods(&c, ".metadata.name").is_empty());

    // A sign of life, and all is well again.
    c.kubectl(&["taint", "node", "ghost", "node.kubernetes.io/out-of-service-"]);
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": "2026-01-02T00:00:00Z"}]}});
    let lease = |n: u32| {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "ghost", "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": "ghost", "leaseDurationSeconds": 40, "renewTime": format!("2026-01-03T00:{:02}:{:02}.000000Z", n / 60, n % 60)}})
        .to_string()
    };
    let mut beats = 0;
    wait_for("the taints to be taken away", || {
        beats += 1;
        c.apply(&lease(beats));
        patch_status(&c, "node", "ghost", &status);
        get(&c, "node", "ghost", ".spec.taints").is_empty()
    });
}
