//! What pods use, and who scales by it.

use e2e::extension::Extension;
use serde_json::json;
use testkit::{Cluster, wait_for};

const BUSY: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: busy, labels: {app: busy}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: burns, image: 'busybox:1.36', command: [sh, -c, 'while true; do :; done'], resources: {limits: {cpu: 200m}}}
  - {name: sleeps, image: 'busybox:1.36', command: [sleep, '1000']}
"#;

/// Millicores of a container as `kubectl top` tells them.
fn millicores(line: &str, column: usize) -> Option<u64> {
    line.split_whitespace().nth(column)?.strip_suffix('m')?.parse().ok()
}

#[test]
fn top_shows_what_nodes_and_pods_use() {
    let Some(c) = Cluster::with_node() else { return };
    c.apply(BUSY);
    c.kubectl(&["wait", "--for=condition=ready", "pod/busy", "--timeout=60s"]);
    let nodes = c.kubectl(&["top", "nodes", "--no-headers"]);
    let line: Vec<&str> = nodes.split_whitespace().collect();
    assert!(
        line.len() == 5 && line[0] == "node-1" && line[1].ends_with('m') && line[4].ends_with('%'),
        "{nodes}"
    );
    let of = |container: &str| {
        let out = c.try_kubectl(&["top", "pods", "--containers", "--no-headers", "-l", "app=busy"], None);
        let line = out.stdout.lines().find(|l| l.contains(container)).unwrap_or_default().to_owned();
        millicores(&line, 2)
    };
    wait_for("the load of a container", || of("burns").is_some_and(|m| m > 50));
    assert!(of("sleeps").is_some_and(|m| m < 20));
    let sum = c.kubectl(&["top", "pod", "busy", "--no-headers"]);
    assert!(millicores(&sum, 1).is_some_and(|m| m > 50), "{sum}");
    let table = c.kubectl(&["get", "pods.metrics.k8s.io"]);
    let head: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(head, ["NAME", "CPU", "MEMORY", "WINDOW"], "{table}");
    assert!(c.kubectl(&["explain", "nodes", "--api-version=metrics.k8s.io/v1beta1"]).contains("NodeMetrics"));
    let said = c.kubectl_fails(&["top", "pod", "none"], None);
    assert!(said.contains("podmetrics.metrics.k8s.io \"default/none\" not found"), "{said}");

    // A server of one's own takes the place of the one that is built in, and gives it back.
    let e = Extension::start(&c, &["metrics-server.default.svc"]);
    e.service("metrics-server", 443).iter().for_each(|o| drop(c.apply(&o.to_string())));
    let gv = "metrics.k8s.io/v1beta1";
    let root = format!("/apis/{gv}");
    let usage = json!({"cpu": "1234m", "memory": "1Gi"});
    let item = json!({"metadata": {"name": "node-1"}, "timestamp": "2026-01-01T00:00:00Z", "window": "30s", "usage": usage});
    let verbs = ["get", "list"];
    let kind = json!({"name": "nodes", "singularName": "", "namespaced": false, "kind": "NodeMetrics", "verbs": verbs});
    let list = json!({"kind": "NodeMetricsList", "apiVersion": gv, "metadata": {}, "items": [item]});
    let kinds =
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": gv, "resources": [kind]});
    e.documents(&[(root.clone(), kinds), (format!("{root}/nodes"), list)]);
    e.register(&c, "metrics-server", "metrics.k8s.io", "v1beta1");
    let top = || c.try_kubectl(&["top", "nodes", "--no-headers"], None).stdout;
    wait_for("the figures of the other server", || top().contains("1234m"));
    c.kubectl(&["delete", "apiservice", "v1beta1.metrics.k8s.io"]);
    wait_for("our own figures", || top().contains("node-1") && !top().contains("1234m"));
}

#[test]
fn roles_gather_what_others_bring() {
    let c = Cluster::control_plane();
    c.kubectl(&["create", "clusterrole", "widgets", "--verb=get", "--resource=configmaps"]);
    let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: all}\naggregationRule: {clusterRoleSelectors: [{matchLabels: {part: 'yes'}}]}\n";
    c.apply(role);
    c.kubectl(&["label", "clusterrole", "widgets", "part=yes"]);
    let verbs =
        |name: &str| c.kubectl(&["get", "clusterrole", name, "-o", "jsonpath={.rules[*].resources[*]}"]);
    wait_for("the gathered rule", || verbs("all") == "configmaps");
    c.kubectl(&[
        "label",
        "clusterrole",
        "widgets",
        "part-",
        "rbac.authorization.k8s.io/aggregate-to-view=true",
    ]);
    wait_for("the rule to go", || verbs("all").is_empty());
    let may =
        |verb: &str| c.try_kubectl(&["auth", "can-i", verb, "nodes.metrics.k8s.io", "--as=jane"], None).ok;
    assert!(!may("list"));
    c.kubectl(&["create", "clusterrolebinding", "jane", "--clusterrole=view", "--user=jane"]);
    wait_for("what view holds", || may("list"));
}
