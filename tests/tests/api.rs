//! What kubectl does with objects, against a control plane alone.

use serde_json::Value;
use testkit::{Cluster, wait_for};

const CONFIG: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: \"1\"}\n";
const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: "busybox:1.36", ports: [{containerPort: 80}]}]
"#;

#[test]
fn apply_get_diff_label_edit_and_delete() {
    let c = Cluster::control_plane();
    assert!(c.apply(CONFIG).contains("created"));
    assert!(c.apply(CONFIG).contains("unchanged"));
    assert!(c.apply(&CONFIG.replace("\"1\"", "\"2\"")).contains("configured"));
    assert_eq!(c.kubectl(&["get", "configmap", "settings", "-o", "jsonpath={.data.a}"]), "2");
    let version =
        || c.kubectl(&["get", "configmap", "settings", "-o", "jsonpath={.metadata.resourceVersion}"]);
    let before = version();
    c.apply(&CONFIG.replace("\"1\"", "\"2\""));
    assert_eq!(version(), before, "a no-op must not write");
    let diff = c.try_kubectl(&["diff", "-f", "-"], Some(&CONFIG.replace("\"1\"", "\"3\"")));
    assert!(!diff.ok && diff.stdout.contains("+  a: \"3\""), "{diff:?}");
    c.kubectl(&["label", "configmap", "settings", "team=one"]);
    assert!(c.kubectl(&["get", "configmaps", "-l", "team=one", "-o", "name"]).contains("configmap/settings"));
    assert!(c.kubectl(&["get", "configmap", "settings", "-o", "yaml"]).contains("team: one"));
    c.kubectl(&["delete", "configmap", "settings"]);
    assert!(
        c.kubectl_fails(&["get", "configmap", "settings"], None)
            .contains("configmaps \"settings\" not found")
    );
}

#[test]
fn explain_tables_and_dry_run() {
    let c = Cluster::control_plane();
    assert!(c.kubectl(&["explain", "pod.spec.containers.image"]).contains("image"));
    c.apply(DEPLOYMENT);
    wait_for("two pods", || c.kubectl(&["get", "pods", "-o", "name"]).lines().count() == 2);
    let wide = c.kubectl(&["get", "deployments", "-o", "wide"]);
    assert!(wide.contains("SELECTOR") && wide.contains("busybox:1.36"), "{wide}");
    assert!(c.kubectl(&["describe", "deployment", "web"]).contains("RollingUpdateStrategy"));
    c.kubectl(&["create", "configmap", "none", "--dry-run=server"]);
    assert!(!c.try_kubectl(&["get", "configmap", "none"], None).ok);
    c.kubectl(&["scale", "deployment", "web", "--replicas=3"]);
    wait_for("three pods", || c.kubectl(&["get", "pods", "-o", "name"]).lines().count() == 3);
}

#[test]
fn server_side_apply_tells_of_conflicts() {
    let c = Cluster::control_plane();
    let apply = |manager: &str, text: &str, force: bool| {
        let manager = format!("--field-manager={manager}");
        let mut args = vec!["apply", "--server-side", &manager, "-f", "-"];
        if force {
            args.push("--force-conflicts");
        }
        c.try_kubectl(&args, Some(text))
    };
    assert!(apply("one", CONFIG, false).ok);
    let other = CONFIG.replace("\"1\"", "\"2\"");
    let refused = apply("two", &other, false);
    assert!(
        !refused.ok && refused.stderr.contains("conflict with \"one\"") && refused.stderr.contains(".data.a"),
        "{refused:?}"
    );
    assert!(apply("two", &other, true).ok);
    let refused = apply("one", CONFIG, false);
    assert!(refused.stderr.contains("conflict with \"two\""), "{refused:?}");
}

#[test]
fn bad_input_is_told_in_upstreams_words() {
    let c = Cluster::control_plane();
    let refuse = |text: &str| c.kubectl_fails(&["apply", "-f", "-"], Some(text));
    assert!(refuse(&CONFIG.replace("\ndata:", "\ndta:")).contains("unknown field \"dta\""));
    assert!(refuse(&CONFIG.replace("settings", "Not_A_Name")).contains("a lowercase RFC 1123 subdomain"));
    let selector = DEPLOYMENT.replace("matchLabels: {app: web}", "matchLabels: {app: other}");
    assert!(refuse(&selector).contains("`selector` does not match template `labels`"));
    assert!(
        c.kubectl_fails(&["get", "nonsense"], None)
            .contains("the server doesn't have a resource type \"nonsense\"")
    );
    assert!(c.kubectl_fails(&["get", "--raw", "/nonsense"], None).contains("NotFound"));
    c.apply(CONFIG);
    let stale: Value =
        serde_json::from_str(&c.kubectl(&["get", "configmap", "settings", "-o", "json"])).expect("json");
    c.kubectl(&["label", "configmap", "settings", "x=y"]);
    let conflict = c.kubectl_fails(&["replace", "-f", "-"], Some(&stale.to_string()));
    assert!(
        conflict.contains("the object has been modified; please apply your changes to the latest version"),
        "{conflict}"
    );
}

#[test]
fn rights_are_checked() {
    let c = Cluster::control_plane();
    let denied = c.kubectl_fails(&["get", "pods", "--as=eve"], None);
    assert!(denied.contains("pods is forbidden: User \"eve\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""), "{denied}");
    c.kubectl(&["create", "role", "reader", "--verb=get,list", "--resource=pods"]);
    c.kubectl(&["create", "rolebinding", "eve", "--role=reader", "--user=eve"]);
    wait_for("the right to be in force", || c.try_kubectl(&["get", "pods", "--as=eve"], None).ok);
    assert!(
        c.kubectl_fails(&["delete", "pod", "x", "--as=eve"], None)
            .contains("cannot delete resource \"pods\"")
    );
    let token = c.kubectl(&["create", "token", "default"]);
    assert_eq!(token.trim().split('.').count(), 3);
}

#[test]
fn a_namespace_goes_with_all_that_is_in_it() {
    let c = Cluster::control_plane();
    c.kubectl(&["create", "namespace", "team"]);
    wait_for("the default service account", || {
        c.try_kubectl(&["-n", "team", "get", "serviceaccount", "default"], None).ok
    });
    assert!(
        c.kubectl(&["-n", "team", "get", "configmap", "kube-root-ca.crt", "-o", "name"])
            .contains("kube-root-ca.crt")
    );
    c.kubectl(&["-n", "team", "create", "configmap", "x"]);
    c.kubectl(&["delete", "namespace", "team", "--timeout=60s"]);
    assert!(!c.try_kubectl(&["get", "namespace", "team"], None).ok);
}

#[test]
fn nothing_answered_is_lost_by_kill_9() {
    let mut c = Cluster::control_plane();
    for i in 0..20 {
        c.kubectl(&["create", "configmap", &format!("c{i}"), &format!("--from-literal=n={i}")]);
    }
    c.crash();
    c.run();
    for i in 0..20 {
        assert_eq!(
            c.kubectl(&["get", "configmap", &format!("c{i}"), "-o", "jsonpath={.data.n}"]),
            i.to_string()
        );
    }
}

#[test]
fn a_second_server_on_the_same_data_is_refused_in_one_sentence() {
    let c = Cluster::control_plane();
    let out = c.kelson(&["server", "--no-node", "--data-dir", &c.data(), "--listen", "127.0.0.1:0"]);
    assert!(!out.ok);
    assert_eq!(out.stderr.lines().filter(|l| l.starts_with("kelson:")).count(), 1, "{out:?}");
}

#[test]
fn dependents_go_with_their_owner_or_stay_when_asked() {
    let c = Cluster::control_plane();
    let count = |kind: &str| c.kubectl(&["get", kind, "-o", "name"]).lines().count();
    for mode in ["background", "foreground", "orphan"] {
        c.apply(DEPLOYMENT);
        wait_for("two pods", || count("pods") == 2);
        c.kubectl(&["delete", "deployment", "web", &format!("--cascade={mode}"), "--timeout=60s"]);
        if mode == "orphan" {
            wait_for("a replica set without an owner", || {
                c.kubectl(&["get", "replicasets", "-o", "jsonpath={.items[*].metadata.ownerReferences}"])
                    .is_empty()
            });
            assert_eq!((count("replicasets"), count("pods")), (1, 2));
        } else {
            wait_for("nothing to be left", || count("replicasets") + count("pods") == 0);
        }
    }
}

#[test]
fn a_quota_counts_refuses_and_gives_back() {
    let c = Cluster::control_plane();
    c.kubectl(&["create", "quota", "q", "--hard=count/configmaps=3"]);
    let used = || c.kubectl(&["get", "quota", "q", "-o", "jsonpath={.status.used['count/configmaps']}"]);
    // kube-root-ca.crt is one of the three.
    wait_for("the first count", || used() == "1");
    c.kubectl(&["create", "configmap", "a"]);
    c.kubectl(&["create", "configmap", "b"]);
    let refused = c.kubectl_fails(&["create", "configmap", "c"], None);
    assert!(refused.contains("exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=3, limited: count/configmaps=3"), "{refused}");
    c.kubectl(&["delete", "configmap", "a"]);
    wait_for("the delete to be given back", || used() == "2");
    c.kubectl(&["create", "configmap", "c"]);
}

#[test]
fn owners_in_a_circle_go_together() {
    let c = Cluster::control_plane();
    for name in ["one", "two", "three"] {
        c.kubectl(&["create", "configmap", name]);
    }
    let uid = |name: &str| c.kubectl(&["get", "configmap", name, "-o", "jsonpath={.metadata.uid}"]);
    for (name, owner) in [("one", "three"), ("two", "one"), ("three", "two")] {
        let uid = uid(owner);
        let patch = format!(
            r#"{{"metadata":{{"ownerReferences":[{{"apiVersion":"v1","kind":"ConfigMap","name":"{owner}","uid":"{uid}","controller":true,"blockOwnerDeletion":true}}]}}}}"#
        );
        c.kubectl(&["patch", "configmap", name, "--type=merge", "-p", &patch]);
    }
    c.kubectl(&["delete", "configmap", "one", "--cascade=foreground", "--wait=false"]);
    wait_for("the circle to go", || {
        let left = c.kubectl(&["get", "configmaps", "-o", "name"]);
        !["/one", "/two", "/three"].iter().any(|n| left.contains(n))
    });
}

#[test]
fn metadata_goes_through_status_where_upstream_lets_it() {
    let c = Cluster::control_plane();
    c.apply(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: way}\nspec: {defaultBackend: {service: {name: s, port: {number: 80}}}}\n",
    );
    let patch = r#"{"metadata":{"annotations":{"seen":"yes"}},"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}"#;
    c.kubectl(&["patch", "ingress", "way", "--subresource=status", "--type=merge", "-p", patch]);
    let all = c.kubectl(&[
        "get",
        "ingress",
        "way",
        "-o",
        "jsonpath={.metadata.annotations.seen} {.status.loadBalancer.ingress[0].ip}",
    ]);
    assert_eq!(all, "yes 192.0.2.1");
    assert!(c.kubectl(&["explain", "ingress.metadata"]).contains("CreationTimestamp is a timestamp"));
}
