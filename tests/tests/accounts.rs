//! Service accounts and their tokens.

use testkit::{Cluster, wait_for};

const SECRET: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot}
---
apiVersion: v1
kind: Secret
metadata: {name: robot-token, annotations: {kubernetes.io/service-account.name: robot}}
type: kubernetes.io/service-account-token
"#;

#[test]
fn a_secret_holds_a_token_without_an_end() {
    let c = Cluster::control_plane();
    c.apply(SECRET);
    let get = |path: &str| {
        let path = format!("jsonpath={path}");
        c.try_kubectl(&["get", "secret", "robot-token", "-o", &path], None).stdout
    };
    let decoded = |path: &str| {
        let script = format!("go-template={{{{index .data \"{path}\" | base64decode}}}}");
        c.kubectl(&["get", "secret", "robot-token", "-o", &script])
    };
    wait_for("the token", || !get("{.data.token}").is_empty());
    assert_eq!(decoded("namespace"), "default");
    assert!(decoded("ca.crt").starts_with("-----BEGIN CERTIFICATE-----"));
    let uid = c.kubectl(&["get", "serviceaccount", "robot", "-o", "jsonpath={.metadata.uid}"]);
    assert_eq!(get(r"{.metadata.annotations.kubernetes\.io/service-account\.uid}"), uid);
    let token = decoded("token");
    // Without the certificate of the administrator, which the kubeconfig holds.
    let whoami = || {
        let server = format!("--server=https://127.0.0.1:{}", c.port());
        let (token, empty) = (format!("--token={token}"), "--kubeconfig=/dev/null");
        let ask = [empty, &server, "--insecure-skip-tls-verify", &token, "auth", "whoami", "-o"];
        c.try_kubectl(&[&ask[..], &["jsonpath={.status.userInfo.username}"]].concat(), None)
    };
    assert_eq!(whoami().stdout, "system:serviceaccount:default:robot");
    wait_for("the day of the use", || {
        !get(r"{.metadata.labels.kubernetes\.io/legacy-token-last-used}").is_empty()
    });
    // It is as good as its secret says.
    let label = "kubernetes.io/legacy-token-invalid-since";
    c.kubectl(&["label", "secret", "robot-token", &format!("{label}=2026-01-01")]);
    wait_for("the token to be refused", || !whoami().ok);
    c.kubectl(&["label", "secret", "robot-token", &format!("{label}-")]);
    wait_for("the token to count again", || whoami().ok);
    c.kubectl(&["delete", "serviceaccount", "robot"]);
    wait_for("the secret to go", || !c.try_kubectl(&["get", "secret", "robot-token"], None).ok);
    assert!(!whoami().ok);
}
