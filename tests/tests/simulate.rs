//! Simulated nodes, as kubectl sees them: they register, are ready and renew leases, play what pods go through, and when one
//! falls silent its pods come back elsewhere.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::http::Http;
use testkit::{Cluster, wait_for};

const NODES: usize = 50;
const SILENT: &str = "kelson.dev/simulated-silent";

fn web(replicas: usize) -> String {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": replicas,
        "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
            "containers": [{"name": "c", "image": "web:1", "resources": {"requests": {"cpu": "100m"}}}],
            // Gone from a lost node at once.
            "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1},
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}]}}}})
    .to_string()
}

fn pods(http: &Http, selector: &str) -> Vec<Value> {
    let all = http.get(&format!("/api/v1/namespaces/default/pods?labelSelector={selector}")).json();
    all["items"].as_array().cloned().unwrap_or_default()
}

fn text<'a>(v: &'a Value, path: &str) -> &'a str {
    v.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn is_ready(v: &Value) -> bool {
    let mut all = v["status"]["conditions"].as_array().into_iter().flatten();
    all.any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn nodes(http: &Http) -> Vec<Value> {
    let all = http.get("/api/v1/nodes?labelSelector=kelson.dev/simulated%3Dtrue").json();
    all["items"].as_array().cloned().unwrap_or_default()
}

fn available(http: &Http) -> u64 {
    let d = http.get("/apis/apps/v1/namespaces/default/deployments/web").json();
    d["status"]["availableReplicas"].as_u64().unwrap_or(0)
}

#[test]
fn fifty_nodes_run_three_hundred_pods_and_lose_a_node() {
    let count = NODES.to_string();
    let c = Cluster::with_flags(false, &["--simulate-nodes", &count, "--node-monitor-grace-period", "15s"]);
    let http = Http::admin(&c);
    wait_for("all nodes to be ready", || nodes(&http).iter().filter(|n| is_ready(n)).count() == NODES);

    let all = nodes(&http);
    let zones: BTreeSet<&str> =
        all.iter().map(|n| text(n, "/metadata/labels/topology.kubernetes.io~1zone")).collect();
    assert_eq!(zones.len(), 3);
    let blocks: BTreeSet<&str> = all.iter().map(|n| text(n, "/spec/podCIDR")).collect();
    assert!(blocks.len() == NODES && !blocks.contains(""), "{blocks:?}");
    // Each node wrote its own objects: managed fields name the manager, the lease its holder.
    let leases = http.get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases").json();
    let holders: BTreeSet<&str> =
        leases["items"].as_array().into_iter().flatten().map(|l| text(l, "/spec/holderIdentity")).collect();
    assert!(all.iter().all(|n| holders.contains(text(n, "/metadata/name"))), "{holders:?}");
    let shown = c.kubectl(&["get", "nodes"]);
    assert_eq!(
        shown.lines().filter(|l| l.contains(" Ready ") && l.contains("v1.37.0")).count(),
        NODES,
        "{shown}"
    );

    c.apply(&web(300));
    wait_for("300 replicas", || available(&http) == 300);
    let running = pods(&http, "app%3Dweb");
    let used: BTreeSet<&str> = running.iter().map(|p| text(p, "/spec/nodeName")).collect();
    assert!(used.len() > NODES / 2, "they are spread: {used:?}");
    let addresses: BTreeSet<&str> = running.iter().map(|p| text(p, "/status/podIP")).collect();
    assert!(addresses.len() == 300 && !addresses.contains(""), "an address each");
    for p in &running {
        let node =
            all.iter().find(|n| text(n, "/metadata/name") == text(p, "/spec/nodeName")).expect("its node");
        let block = text(node, "/spec/podCIDR").trim_end_matches("0/24");
        assert!(text(p, "/status/podIP").starts_with(block), "{} in {block}", text(p, "/status/podIP"));
        assert_eq!(text(p, "/status/hostIP"), text(node, "/status/addresses/0/address"));
    }
    let name = text(running.first().expect("a pod"), "/metadata/name").to_owned();
    let line = c.kubectl(&["get", "pod", &name, "--no-headers"]);
    let columns: Vec<&str> = line.split_whitespace().take(4).collect();
    assert_eq!(columns, [&name, "1/1", "Running", "0"]);
    wait_for("the kubelet's events", || {
        let told = c.kubectl(&["events", "--for", &format!("pod/{name}")]);
        ["Scheduled", "Pulled", "Created", "Started"].iter().all(|w| told.contains(w))
    });

    jobs_end(&c, &http);
    a_deletion_is_graceful(&c, &http, &name);

    // A node falls silent: it is noticed, its pods come back elsewhere, and it takes none until it speaks again.
    let lost = (*used.first().expect("a node")).to_owned();
    c.kubectl(&["annotate", "node", &lost, &format!("{SILENT}=true")]);
    wait_for("the node to be lost", || {
        let n = http.get(&format!("/api/v1/nodes/{lost}")).json();
        let mut conditions = n["status"]["conditions"].as_array().into_iter().flatten();
        conditions.any(|c| c["type"] == "Ready" && c["status"] == "Unknown")
    });
    let alive = |p: &Value| p["metadata"]["deletionTimestamp"].is_null() && is_ready(p);
    wait_for("the pods to be back elsewhere", || {
        let all = pods(&http, "app%3Dweb");
        all.iter().filter(|p| alive(p) && text(p, "/spec/nodeName") != lost).count() == 300
    });
    assert!(
        pods(&http, "app%3Dweb").iter().any(|p| text(p, "/spec/nodeName") == lost),
        "nobody has ended those there"
    );
    c.kubectl(&["annotate", "node", &lost, &format!("{SILENT}-")]);
    wait_for("the node to be back, and rid of what was moved", || {
        is_ready(&http.get(&format!("/api/v1/nodes/{lost}")).json())
            && pods(&http, "app%3Dweb").iter().all(|p| p["metadata"]["deletionTimestamp"].is_null())
    });
    assert_eq!(pods(&http, "app%3Dweb").len(), 300);
    let why = c.kelson(&["why", "deployment/web", "--data-dir", &c.data()]);
    assert_eq!(why.stdout, "deployment/web in default: nothing is wrong with it\n");
}

fn jobs_end(c: &Cluster, http: &Http) {
    c.apply(
        &json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "sums"}, "spec": {"completions": 6, "parallelism": 3,
        "template": {"metadata": {"annotations": {"kelson.dev/simulated-run-seconds": "1"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "sums:1"}]}}}})
        .to_string(),
    );
    wait_for("the job", || {
        let job = http.get("/apis/batch/v1/namespaces/default/jobs/sums").json();
        job["status"]["succeeded"] == 6 && job.to_string().contains("Complete")
    });
    let done = pods(http, "job-name%3Dsums");
    assert!(done.iter().all(|p| p["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0));
}

fn a_deletion_is_graceful(c: &Cluster, http: &Http, name: &str) {
    c.kubectl(&["delete", "pod", name, "--wait=false"]);
    wait_for("the pod to be gone", || {
        http.get(&format!("/api/v1/namespaces/default/pods/{name}")).code == 404
    });
    let events = format!("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3D{name}");
    wait_for("its end to be told", || http.get(&events).text().contains("Stopping container c"));
    wait_for("300 replicas again", || available(http) == 300);
}

/// What goes wrong on purpose looks like what goes wrong.
#[test]
fn failures_are_played() {
    let flags = ["--simulate-nodes", "3", "--simulate-failures", "crash=100%,image=100%"];
    let c = Cluster::with_flags(false, &flags);
    let http = Http::admin(&c);
    wait_for("the nodes", || nodes(&http).iter().filter(|n| is_ready(n)).count() == 3);
    c.apply(&web(2));
    let shows = |what: &str| {
        wait_for(what, || c.kubectl(&["get", "pods", "-l", "app=web", "--no-headers"]).contains(what));
    };
    shows("ErrImagePull");
    shows("ImagePullBackOff");
    let out = c.kelson(&["why", "deployment/web", "--data-dir", &c.data()]);
    assert!(out.stdout.contains("the image web:1"), "{out:?}");
}

#[test]
fn too_many_nodes_for_the_network_are_refused() {
    let out = testkit::kelson(&[
        "server",
        "--no-node",
        "--simulate-nodes",
        "300",
        "--cluster-cidr",
        "10.1.0.0/16",
        "--service-cidr",
        "10.2.0.0/16",
        "--data-dir",
        "/nonexistent/kelson",
    ]);
    assert!(!out.ok && out.stderr.contains("--cluster-cidr has no 300 blocks"), "{out:?}");
    let out =
        testkit::kelson(&["server", "--no-node", "--simulate-nodes", "3", "--simulate-failures", "disk=1%"]);
    assert!(!out.ok && out.stderr.contains("crash=SHARE"), "{out:?}");
}
