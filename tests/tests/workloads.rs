//! StatefulSets and DaemonSets on a real node: order, identity, rolling updates, history.

use testkit::{Cluster, wait_for};

const SET: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: web
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: c, image: 'busybox:1.36', command: [sh, -c, 'sleep 100000'], env: [{name: V, value: one}]}
"#;

const DAEMONS: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: c, image: 'busybox:1.36', command: [sh, -c, 'sleep 100000'], env: [{name: V, value: one}]}
"#;

fn field(c: &Cluster, what: &str, path: &str) -> String {
    c.try_kubectl(&["get", what, "-o", &format!("jsonpath={path}")], None).stdout
}

fn rolled(c: &Cluster, what: &str) {
    c.kubectl(&["rollout", "status", what, "--timeout=90s"]);
}

fn revision_of(c: &Cluster, pod: &str) -> String {
    field(c, &format!("pod/{pod}"), "{.metadata.labels.controller-revision-hash}")
}

#[test]
fn a_statefulset_keeps_order_identity_and_history() {
    let Some(c) = Cluster::with_node() else { return };
    c.apply(SET);
    rolled(&c, "statefulset/web");

    // Each pod was made when the one before it was ready.
    let made = |n: u32| field(&c, &format!("pod/web-{n}"), "{.metadata.creationTimestamp}");
    let ready = |n: u32| {
        let path = "{.status.conditions[?(@.type==\"Ready\")].lastTransitionTime}";
        field(&c, &format!("pod/web-{n}"), path)
    };
    for n in 1..3 {
        assert!(made(n) >= ready(n - 1), "web-{n} was made at {}, before {}", made(n), ready(n - 1));
    }
    let labels = "{.metadata.labels.statefulset\\.kubernetes\\.io/pod-name} {.metadata.labels.apps\\.kubernetes\\.io/pod-index} {.spec.subdomain}";
    assert_eq!(field(&c, "pod/web-2", labels), "web-2 2 web");
    wait_for("the host name", || {
        c.try_kubectl(&["exec", "web-1", "--", "hostname"], None).stdout.trim() == "web-1"
    });
    let ip = field(&c, "pod/web-0", "{.status.podIP}");
    wait_for("a pod's own name", || {
        let ask = ["exec", "web-1", "--", "nslookup", "web-0.web.default.svc.cluster.local"];
        c.try_kubectl(&ask, None).stdout.contains(&ip)
    });

    // With a partition only the last pod changes.
    let first = revision_of(&c, "web-0");
    c.kubectl(&[
        "patch",
        "statefulset",
        "web",
        "-p",
        r#"{"spec":{"updateStrategy":{"rollingUpdate":{"partition":2}}}}"#,
    ]);
    c.kubectl(&["set", "env", "statefulset/web", "V=two"]);
    rolled(&c, "statefulset/web");
    let second = revision_of(&c, "web-2");
    assert_ne!(first, second);
    assert_eq!([revision_of(&c, "web-0"), revision_of(&c, "web-1")], [first.clone(), first.clone()]);
    wait_for("the status of a partition", || {
        field(
            &c,
            "statefulset/web",
            "{.status.currentRevision} {.status.updateRevision} {.status.updatedReplicas}",
        ) == format!("{first} {second} 1")
    });
    c.kubectl(&[
        "patch",
        "statefulset",
        "web",
        "-p",
        r#"{"spec":{"updateStrategy":{"rollingUpdate":{"partition":0}}}}"#,
    ]);
    rolled(&c, "statefulset/web");
    assert_eq!(revision_of(&c, "web-0"), second);

    let history = c.kubectl(&["rollout", "history", "statefulset/web"]);
    assert!(history.contains('1') && history.contains('2'), "{history}");
    c.kubectl(&["rollout", "undo", "statefulset/web"]);
    rolled(&c, "statefulset/web");
    assert_eq!(revision_of(&c, "web-0"), first);
    assert_eq!(field(&c, "pod/web-0", "{.spec.containers[0].env[0].value}"), "one");
    assert_eq!(field(&c, &format!("controllerrevision/{first}"), "{.revision}"), "3");

    c.kubectl(&["scale", "statefulset", "web", "--replicas=1"]);
    wait_for("one pod", || field(&c, "pods", "{.items[*].metadata.name}") == "web-0");
    let events = c.kubectl(&["get", "events", "-o", "jsonpath={range .items[*]}{.message}{\"\\n\"}{end}"]);
    assert!(events.contains("create Pod web-0 in StatefulSet web successful"), "{events}");
    assert!(events.contains("delete Pod web-2 in StatefulSet web successful"), "{events}");
}

#[test]
fn a_daemonset_runs_on_the_node_and_rolls() {
    let Some(c) = Cluster::with_node() else { return };
    c.apply(DAEMONS);
    rolled(&c, "daemonset/agent");
    let counts =
        "{.status.desiredNumberScheduled} {.status.numberAvailable} {.status.updatedNumberScheduled}";
    wait_for("the counts", || field(&c, "daemonset/agent", counts) == "1 1 1");
    let pinned = "{.items[0].spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].values[0]}";
    assert_eq!(field(&c, "pods", pinned), "node-1");
    assert!(
        field(&c, "pods", "{.items[0].spec.tolerations[*].key}").contains("node.kubernetes.io/unschedulable")
    );

    let value =
        "{.items[0].spec.containers[0].env[0].value} {.items[0].metadata.labels.pod-template-generation}";
    c.kubectl(&["set", "env", "daemonset/agent", "V=two"]);
    rolled(&c, "daemonset/agent");
    wait_for("the new pod alone", || {
        field(&c, "pods", value) == "two 2" && field(&c, "pods", "{.items[1]}").is_empty()
    });

    // Surging, the new pod serves before the old one goes.
    let surge = r#"{"spec":{"updateStrategy":{"rollingUpdate":{"maxSurge":1,"maxUnavailable":0}}}}"#;
    c.kubectl(&["patch", "daemonset", "agent", "-p", surge]);
    c.kubectl(&["set", "env", "daemonset/agent", "V=three"]);
    rolled(&c, "daemonset/agent");
    wait_for("the third pod alone", || {
        field(&c, "pods", value) == "three 3" && field(&c, "pods", "{.items[1]}").is_empty()
    });
    c.kubectl(&["rollout", "undo", "daemonset/agent"]);
    rolled(&c, "daemonset/agent");
    wait_for("the second version again", || field(&c, "pods", value) == "two 4");
    assert_eq!(field(&c, "controllerrevisions", "{.items[*].metadata.name}").split_whitespace().count(), 3);

    c.kubectl(&[
        "patch",
        "daemonset",
        "agent",
        "-p",
        r#"{"spec":{"template":{"spec":{"nodeSelector":{"no":"such"}}}}}"#,
    ]);
    wait_for("no pod where none belongs", || field(&c, "pods", "{.items[*].metadata.name}").is_empty());
    wait_for("nothing desired", || field(&c, "daemonset/agent", "{.status.desiredNumberScheduled}") == "0");
}
