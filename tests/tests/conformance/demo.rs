//! Whole applications by kubectl (test/e2e/kubectl/kubectl.go): a controller's pods that serve a page, and a guestbook of
//! three parts that find each other by name.

use serde_json::{Value, json};
use testkit::{node_possible, skip, wait_for};

use crate::world::{Tests, World};

pub const TESTS: Tests = &[
    (
        "[sig-cli] Kubectl client Update Demo should create and stop a replication controller [Conformance]",
        create_and_stop,
    ),
    ("[sig-cli] Kubectl client Update Demo should scale a replication controller [Conformance]", scale),
    (
        "[sig-cli] Kubectl client Guestbook application should create and stop a working application [Conformance]",
        guestbook,
    ),
];

const DEMO: &str = "
apiVersion: v1
kind: ReplicationController
metadata: {name: update-demo}
spec:
  replicas: 2
  selector: {name: update-demo}
  template:
    metadata: {labels: {name: update-demo}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: update-demo
        image: busybox:1.36
        command: [sh, -c, 'echo \"{\\\"image\\\":\\\"nautilus.jpg\\\"}\" >/www/data.json; exec httpd -f -h /www']
        ports: [{containerPort: 80}]
";

fn create(w: &World, manifest: &str) {
    let out = w.try_kubectl(&["create", "-f", "-"], Some(manifest));
    assert!(out.ok, "{out:?}");
}

/// Deletes what a manifest has made; nothing is left under the selector but pods on their way.
fn stop(w: &World, manifest: &str, selector: &str) {
    let out = w.try_kubectl(&["delete", "--grace-period=0", "--force", "-f", "-"], Some(manifest));
    assert!(out.ok, "{out:?}");
    wait_for("all to be gone", || {
        let left = w.kubectl(&["get", "rc,svc,deployments", "-l", selector, "--no-headers"]);
        let pods =
            w.items(&format!("{}?labelSelector={}", w.path("api/v1", "pods"), selector.replace('=', "%3D")));
        left.is_empty() && pods.iter().all(|p| !p["metadata"]["deletionTimestamp"].is_null())
    });
}

/// Waits until there are this many pods of the demo, and each serves its page.
fn serves(w: &World, replicas: usize) {
    let path = w.path("api/v1", "pods");
    let all = format!("{path}?labelSelector=name%3Dupdate-demo");
    let is_fine = |pod: &Value| {
        let container = &pod["status"]["containerStatuses"][0];
        let data = format!("{path}/{}/proxy/data.json", pod["metadata"]["name"].as_str().unwrap_or_default());
        container["name"] == "update-demo"
            && !container["state"]["running"].is_null()
            && pod["spec"]["containers"][0]["image"] == "busybox:1.36"
            && w.http.get(&data).json()["image"] == "nautilus.jpg"
    };
    wait_for("the pods of the demo to serve", || {
        let pods = w.items(&all);
        pods.len() == replicas && pods.iter().all(is_fine)
    });
}

fn create_and_stop(w: &World) {
    if !node_possible() {
        return skip("running containers needs root");
    }
    create(w, DEMO);
    serves(w, 2);
    stop(w, DEMO, "name=update-demo");
}

fn scale(w: &World) {
    if !node_possible() {
        return skip("running containers needs root");
    }
    create(w, DEMO);
    serves(w, 2);
    for replicas in [1, 2] {
        w.kubectl(&["scale", "rc", "update-demo", &format!("--replicas={replicas}"), "--timeout=5m"]);
        serves(w, replicas);
    }
    stop(w, DEMO, "name=update-demo");
}

/// What each part of the guestbook does with a request. A replica has made itself known before it serves.
const BOOK: &str = r#"#!/bin/sh
printf 'Content-Type: application/json\r\n\r\n'
ask() { wget -qO- "http://$1:6379/cgi-bin/guestbook?$2"; }
value=${QUERY_STRING##*value=}
case $ROLE:$QUERY_STRING in
frontend:cmd=set*) ask primary "$QUERY_STRING" ;;
frontend:cmd=get*) ask replica "$QUERY_STRING" ;;
primary:cmd=register*) echo "$value" >>/tmp/replicas ;;
primary:cmd=set*)
    for replica in $(cat /tmp/replicas); do ask "$replica" "$QUERY_STRING" || exit 1; done
    printf '{"message":"Updated"}'
    ;;
replica:cmd=set*) echo "$value" >/tmp/value ;;
replica:cmd=get*) printf '{"data":"%s"}' "$(cat /tmp/value 2>/dev/null)" ;;
esac
"#;

fn part(role: &str, replicas: u32) -> [Value; 2] {
    let labels = json!({"app": "guestbook", "role": role});
    let register =
        "until wget -qO- http://primary:6379/cgi-bin/guestbook?cmd=register\\&value=$IP; do sleep 1; done; ";
    let register = if role == "replica" { register } else { "" };
    let container = json!({
        "name": role, "image": "busybox:1.36",
        "command": ["sh", "-c", format!("{register}exec httpd -f -p 6379 -h /www")],
        "env": [
            {"name": "ROLE", "value": role},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
        "ports": [{"containerPort": 6379}],
        "readinessProbe": {"tcpSocket": {"port": 6379}, "periodSeconds": 1},
        "volumeMounts": [{"name": "book", "mountPath": "/www/cgi-bin"}],
    });
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "book", "configMap": {"name": "book", "defaultMode": 0o755}}],
    });
    let template = json!({"metadata": {"labels": labels}, "spec": spec});
    let metadata = json!({"name": role, "labels": labels});
    let deployment = json!({"replicas": replicas, "selector": {"matchLabels": labels}, "template": template});
    let service = json!({"selector": labels, "ports": [{"port": 6379}]});
    [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": deployment}),
    ]
}

fn guestbook(w: &World) {
    if !node_possible() {
        return skip("running containers needs root");
    }
    let roles = [("primary", 1), ("replica", 2), ("frontend", 3)];
    let book = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "book"}, "data": {"guestbook": BOOK},
    });
    let mut items = vec![book];
    items.extend(roles.iter().flat_map(|(role, n)| part(role, *n)));
    let all = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    create(w, &all);
    for (role, _) in roles {
        w.kubectl(&["rollout", "status", &format!("deployment/{role}"), "--timeout=90s"]);
    }
    let frontend = w.path("api/v1", "services/frontend/proxy/cgi-bin/guestbook");
    let answers = |query: &str, wanted: &Value| {
        wait_for(&format!("{query} to be answered with {wanted}"), || {
            w.http.get(&format!("{frontend}?{query}")).json() == *wanted
        });
    };
    answers("cmd=get&key=messages&value=", &json!({"data": ""}));
    answers("cmd=set&key=messages&value=TestEntry", &json!({"message": "Updated"}));
    answers("cmd=get&key=messages&value=", &json!({"data": "TestEntry"}));
    stop(w, &all, "app=guestbook");
}
