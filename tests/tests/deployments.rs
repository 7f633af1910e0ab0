//! Deployments whose pods do not come, or must not come yet; against a control plane alone.

use testkit::{Cluster, wait_for};

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  progressDeadlineSeconds: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: "busybox:1"}]
"#;

#[test]
fn a_deadline_passes_a_pause_holds_and_changes_reach_the_replica_set() {
    let c = Cluster::control_plane();
    c.apply(WEB);
    let late = c.kubectl_fails(&["rollout", "status", "deployment", "web"], None);
    assert!(late.contains("deployment \"web\" exceeded its progress deadline"), "{late}");
    let progressing = |path: &str| {
        c.kubectl(&[
            "get",
            "deployment",
            "web",
            "-o",
            &format!("jsonpath={{.status.conditions[?(@.type==\"Progressing\")].{path}}}"),
        ])
    };
    assert_eq!(progressing("reason"), "ProgressDeadlineExceeded");
    assert!(progressing("message").contains("has timed out progressing."));

    let sets =
        |path: &str| c.kubectl(&["get", "replicasets", "-o", &format!("jsonpath={{.items[*].{path}}}")]);
    let generation = || c.kubectl(&["get", "deployment", "web", "-o", "jsonpath={.metadata.generation}"]);
    let first = sets("metadata.name");
    c.kubectl(&["patch", "deployment", "web", "--type=merge", "-p", "{\"spec\":{\"minReadySeconds\":1}}"]);
    wait_for("minReadySeconds to reach the replica set", || sets("spec.minReadySeconds") == "1");
    assert_eq!(sets("metadata.name"), first, "no new template, no new replica set");
    let before = generation();
    c.kubectl(&["annotate", "deployment", "web", "note=x"]);
    assert_ne!(generation(), before, "annotations are passed on, so they count");
    wait_for("the annotation to reach the replica set", || sets("metadata.annotations.note") == "x");

    c.kubectl(&["rollout", "pause", "deployment", "web"]);
    c.kubectl(&["set", "image", "deployment/web", "web=busybox:2"]);
    c.kubectl(&["scale", "deployment", "web", "--replicas=2"]);
    wait_for("a paused deployment to scale", || sets("spec.replicas") == "2");
    assert_eq!(sets("metadata.name"), first, "a paused deployment rolls nothing out");
    c.kubectl(&["rollout", "resume", "deployment", "web"]);
    wait_for("the second revision", || {
        c.kubectl(&[
            "get",
            "deployment",
            "web",
            "-o",
            "jsonpath={.metadata.annotations.deployment\\.kubernetes\\.io/revision}",
        ]) == "2"
    });
    c.kubectl(&["rollout", "undo", "deployment", "web"]);
    wait_for("the first template again, as the third revision", || {
        let set = c.kubectl(&["get", "replicaset", &first, "-o", "jsonpath={.metadata.annotations}"]);
        set.contains("\"deployment.kubernetes.io/revision\":\"3\"")
            && set.contains("\"deployment.kubernetes.io/revision-history\":\"1\"")
    });
}

#[test]
fn recreate_waits_until_the_old_pods_are_gone() {
    let c = Cluster::with_flags(false, &["--node-monitor-grace-period=5h"]);
    c.add_silent_node("ghost");
    let recreate = WEB
        .replace("replicas: 1", "replicas: 1\n  strategy: {type: Recreate}")
        .replace("progressDeadlineSeconds: 2", "");
    c.apply(&recreate);
    let pods = |path: &str| c.kubectl(&["get", "pods", "-o", &format!("jsonpath={{.items[*].{path}}}")]);
    wait_for("the first pod on its node", || pods("spec.nodeName") == "ghost");
    let old = pods("metadata.name");
    c.kubectl(&["set", "image", "deployment/web", "web=busybox:2"]);
    // No kubelet ends it: it is on its way out until somebody takes it away.
    wait_for("the old pod to be on its way out", || !pods("metadata.deletionTimestamp").is_empty());
    wait_for("the old pod to be counted as terminating", || {
        c.kubectl(&["get", "deployment", "web", "-o", "jsonpath={.status.terminatingReplicas}"]) == "1"
    });
    assert_eq!(pods("metadata.name"), old, "nothing new beside the old pod");
    assert_eq!(c.kubectl(&["get", "replicasets", "-o", "name"]).lines().count(), 1);
    c.kubectl(&["delete", "pod", &old, "--force", "--grace-period=0"]);
    wait_for("the new pod", || pods("spec.containers[0].image") == "busybox:2");
}
