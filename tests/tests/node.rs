//! Pods on a real node: containers, services, names, restarts, and that nothing stays behind.

use std::process::Command;

use testkit::{Cluster, wait_for};

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
      terminationGracePeriodSeconds: 5
      containers:
      - name: web
        image: busybox:1.36
        command: [sh, -c, "echo VERSION > /www/index.html; exec httpd -f -p 8080 -h /www"]
        ports: [{containerPort: 8080, name: http}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
"#;

fn pod(name: &str, command: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - {{name: c, image: 'busybox:1.36', command: [sh, -c, '{command}']}}\n"
    )
}

fn pods_ready(c: &Cluster, selector: &str, n: usize) {
    wait_for(&format!("{n} ready pods of {selector}"), || {
        let path =
            "jsonpath={range .items[*]}{.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}";
        c.kubectl(&["get", "pods", "-l", selector, "-o", path]).lines().filter(|l| *l == "True").count() == n
    });
}

#[test]
fn a_pod_runs_logs_and_exec() {
    let Some(c) = Cluster::with_node() else { return };
    c.apply(&pod("one", "echo hello; sleep 1000"));
    c.kubectl(&["wait", "--for=condition=ready", "pod/one", "--timeout=60s"]);
    wait_for("the log", || c.kubectl(&["logs", "one"]).trim() == "hello");
    assert_eq!(c.kubectl(&["exec", "one", "--", "cat", "/etc/hostname"]).trim(), "one");
    let failed = c.try_kubectl(&["exec", "one", "--", "sh", "-c", "exit 7"], None);
    assert!(!failed.ok && failed.stderr.contains("exit code 7"), "{failed:?}");
    c.kubectl(&["delete", "pod", "one", "--timeout=60s"]);
    c.apply(&pod("done", "exit 3").replace("spec:\n", "spec:\n  restartPolicy: Never\n"));
    wait_for("the exit code", || {
        c.kubectl(&[
            "get",
            "pod",
            "done",
            "-o",
            "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}",
        ]) == "3"
    });
    assert_eq!(c.kubectl(&["get", "pod", "done", "-o", "jsonpath={.status.phase}"]), "Failed");
}

#[test]
fn a_deployment_answers_by_name_and_rolls() {
    let Some(c) = Cluster::with_node() else { return };
    c.apply(&WEB.replace("VERSION", "one"));
    c.apply(&pod("client", "sleep 1000"));
    c.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    c.kubectl(&["wait", "--for=condition=ready", "pod/client", "--timeout=60s"]);
    let fetch = |url: &str| c.try_kubectl(&["exec", "client", "--", "wget", "-qO-", url], None).stdout;
    wait_for("the answer by name", || fetch("http://web").trim() == "one");
    assert_eq!(fetch("http://web.default.svc.cluster.local").trim(), "one");
    let port = c.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}"]);
    let ip = c.kubectl(&["get", "node", "node-1", "-o", "jsonpath={.status.addresses[0].address}"]);
    assert_eq!(fetch(&format!("http://{ip}:{port}")).trim(), "one");

    c.apply(&WEB.replace("VERSION", "two"));
    c.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    wait_for("the new version", || fetch("http://web").trim() == "two");
    c.kubectl(&["rollout", "undo", "deployment/web"]);
    c.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    wait_for("the old version again", || fetch("http://web").trim() == "one");
    assert!(c.kubectl(&["rollout", "history", "deployment/web"]).contains("3"));
}

#[test]
fn a_config_map_update_is_seen_and_a_crash_is_counted() {
    let Some(c) = Cluster::with_node() else { return };
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {k: VALUE}\n";
    c.apply(&map.replace("VALUE", "first"));
    let reader = pod("reader", "sleep 1000")
        .replace("sleep 1000']}", "sleep 1000'], volumeMounts: [{name: v, mountPath: /etc/m}]}")
        + "  volumes: [{name: v, configMap: {name: m}}]\n";
    c.apply(&reader);
    c.kubectl(&["wait", "--for=condition=ready", "pod/reader", "--timeout=60s"]);
    let read = || c.kubectl(&["exec", "reader", "--", "cat", "/etc/m/k"]);
    assert_eq!(read(), "first");
    c.apply(&map.replace("VALUE", "second"));
    wait_for("the update in the pod", || read() == "second");
    c.apply(&pod("crash", "exit 1"));
    wait_for("a restart", || {
        let n =
            c.kubectl(&["get", "pod", "crash", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"]);
        n.parse::<u32>().is_ok_and(|n| n >= 1)
    });
}

#[test]
fn kill_9_of_the_daemon_leaves_containers_running() {
    let Some(mut c) = Cluster::with_node() else { return };
    c.apply(&WEB.replace("VERSION", "one"));
    pods_ready(&c, "app=web", 2);
    let ids = |c: &Cluster| {
        c.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[0].containerID}"])
    };
    let before = ids(&c);
    let processes = || {
        let out = Command::new("pgrep").args(["-f", "httpd -f -p 8080"]).output().expect("pgrep");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let running = processes();
    assert!(running.lines().count() >= 2, "{running}");
    c.crash();
    assert_eq!(processes(), running);
    c.run();
    pods_ready(&c, "app=web", 2);
    assert_eq!(ids(&c), before);
    assert_eq!(processes(), running);
}

#[test]
fn nothing_is_left_after_clean() {
    let listing = || {
        let sh = "ip -o link | awk '{print $2}'; ls /run/netns 2>/dev/null; nft list tables 2>/dev/null; \
            awk '{print $2}' /proc/mounts | grep -i kelson; find /sys/fs/cgroup -maxdepth 3 -type d -name 'kelson*'; ls /run/kelson 2>/dev/null";
        let out = Command::new("sh").args(["-c", sh]).output().expect("sh");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let before = listing();
    {
        let Some(c) = Cluster::with_node() else { return };
        c.apply(&WEB.replace("VERSION", "one"));
        pods_ready(&c, "app=web", 2);
        assert_ne!(listing(), before);
    }
    assert_eq!(listing(), before);
}
