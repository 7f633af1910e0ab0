//! Who may not come in, and who may not do it.

use serde_json::json;

use super::*;

#[test]
fn tokens_certificates_and_rights() {
    let mut b = Bench::start();
    let nobody = Http::nobody(&b.cluster);
    let a = nobody.get("/api/v1/pods");
    b.check("nobody", &a, 401, "Unauthorized", "Unauthorized");
    assert_eq!(nobody.get("/readyz").code, 200, "health needs no name");
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJzeXN0ZW06YWRtaW4ifQ.";
    let forged = "eyJhbGciOiJIUzI1NiIsImtpZCI6IngifQ.eyJpc3MiOiJodHRwczovL2t1YmVybmV0ZXMuZGVmYXVsdC5zdmMiLCJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6a3ViZS1zeXN0ZW06ZGVmYXVsdCJ9.AAAA";
    for token in [
        "Bearer nonsense",
        "Bearer a.b.c",
        "Bearer ",
        "Basic YWRtaW46YWRtaW4=",
        &format!("Bearer {unsigned}"),
        &format!("Bearer {forged}"),
    ] {
        let a = nobody.send("GET", "/api/v1/pods", &[("authorization", token)], b"");
        b.check(token, &a, 401, "Unauthorized", "Unauthorized");
        assert!(!a.text().contains("nonsense"), "the token came back");
    }
    // A certificate of another authority is no way in, and a bad token is none beside it.
    let (cert, key) = self_signed();
    let stranger = Http::with_certificate(&b.cluster, &cert, &key);
    match stranger.try_send("GET", "/api/v1/pods", &[], b"") {
        Ok(a) => b.check("unknown certificate", &a, 401, "Unauthorized", "Unauthorized"),
        Err(e) => {
            assert!(e.to_string().contains("alert") || e.kind() == std::io::ErrorKind::ConnectionReset, "{e}")
        }
    }

    let token = b.http.json(
        "POST",
        "/api/v1/namespaces/default/serviceaccounts/default/token",
        &json!({"spec": {"expirationSeconds": 600}}),
    );
    let token = token.json()["status"]["token"].as_str().unwrap_or_default().to_owned();
    let account = nobody.clone().with_header("authorization", &format!("Bearer {token}"));
    let user = "User \"system:serviceaccount:default:default\" cannot";
    for (method, path, what) in [
        (
            "GET",
            "/api/v1/pods",
            format!(
                "pods is forbidden: {user} list resource \"pods\" in API group \"\" at the cluster scope"
            ),
        ),
        (
            "GET",
            CMS,
            format!(
                "configmaps is forbidden: {user} list resource \"configmaps\" in API group \"\" in the namespace \"default\""
            ),
        ),
        (
            "GET",
            "/api/v1/namespaces/default/configmaps?watch=1",
            format!(
                "configmaps is forbidden: {user} watch resource \"configmaps\" in API group \"\" in the namespace \"default\""
            ),
        ),
        (
            "GET",
            "/api/v1/namespaces/default/secrets/s",
            format!(
                "secrets \"s\" is forbidden: {user} get resource \"secrets\" in API group \"\" in the namespace \"default\""
            ),
        ),
        (
            "PUT",
            "/apis/apps/v1/namespaces/default/deployments/d/scale",
            format!(
                "deployments.apps \"d\" is forbidden: {user} update resource \"deployments/scale\" in API group \"apps\" in the namespace \"default\""
            ),
        ),
        (
            "DELETE",
            "/api/v1/nodes/n",
            format!(
                "nodes \"n\" is forbidden: {user} delete resource \"nodes\" in API group \"\" at the cluster scope"
            ),
        ),
        (
            "DELETE",
            CMS,
            format!(
                "configmaps is forbidden: {user} deletecollection resource \"configmaps\" in API group \"\" in the namespace \"default\""
            ),
        ),
        ("GET", "/metrics", format!("forbidden: {user} get path \"/metrics\"")),
        (
            "POST",
            "/api/v1/namespaces/default/pods/p/exec?command=sh",
            format!(
                "pods \"p\" is forbidden: {user} create resource \"pods/exec\" in API group \"\" in the namespace \"default\""
            ),
        ),
        (
            "GET",
            "/api/v1/namespaces/nowhere/pods",
            format!(
                "pods is forbidden: {user} list resource \"pods\" in API group \"\" in the namespace \"nowhere\""
            ),
        ),
        (
            "GET",
            "/apis/example.com/v1/things",
            format!(
                "things.example.com is forbidden: {user} list resource \"things\" in API group \"example.com\" at the cluster scope"
            ),
        ),
    ] {
        let a = account.send(method, path, &[], b"");
        b.check(&format!("{method} {path}"), &a, 403, "Forbidden", &what);
    }
    let a = account.get("/api/v1/namespaces/default/secrets/s");
    b.equal("forbidden details", &a.json()["details"], json!({"name": "s", "kind": "secrets"}));
    let a = account.send("GET", "/api/v1/pods", &[("impersonate-user", "admin")], b"");
    b.check("impersonation", &a, 403, "Forbidden", &format!("users \"admin\" is forbidden: {user} impersonate resource \"users\" in API group \"\" at the cluster scope"));
    let a = b.http.send("GET", "/api/v1/pods", &[("impersonate-group", "system:masters")], b"");
    b.check("groups without a user", &a, 500, "InternalError", "Internal error occurred: requested …");
    let a = b.http.json("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", &json!({"metadata": {"name": "x"}, "rules": [{"verbs": ["get"], "resources": ["pods"], "apiGroups": [""], "nonResourceURLs": ["/x"]}]}));
    b.check("a rule of two kinds", &a, 422, "Invalid", "ClusterRole.rbac.authorization.k8s.io \"x\" is invalid: rules[0].nonResourceURLs: Invalid value: [\"/x\"]: rules cannot apply to both regular resources and non-resource URLs");
    b.end();
}

/// A certificate that nobody knows.
fn self_signed() -> (String, String) {
    let dir = std::env::temp_dir().join(format!("kelson-e2e-cert-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("directory");
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let done = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/O=system:masters/CN=admin", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .expect("openssl");
    assert!(done.status.success(), "{done:?}");
    let text =
        (std::fs::read_to_string(&cert).expect("certificate"), std::fs::read_to_string(&key).expect("key"));
    let _ = std::fs::remove_dir_all(dir);
    text
}
