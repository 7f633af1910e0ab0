//! What does not depend on a kind: paths, methods, bodies, access, discovery, health.

use api::resource::{CONFIG_MAPS, PODS as POD};
use client::ListParams;
use serde_json::json;

use super::setup::*;

#[tokio::test]
async fn paths_methods_and_bodies() {
    let s = Server::start().await;
    for (method, uri, want) in [
        ("GET", "/api/v1/nonsense", 404),
        ("GET", "/apis/apps/v2/deployments", 404),
        ("GET", "/nope", 404),
        ("GET", "/api/v1/namespaces/default/nodes", 404),
        ("POST", "/api/v1/pods", 405),
        ("PUT", "/api/v1/namespaces/default/pods", 405),
        ("DELETE", "/api/v1/namespaces", 405),
        ("POST", "/version", 405),
        ("GET", "/version", 200),
        ("GET", "/healthz", 200),
        ("GET", "/livez/ping", 200),
        ("GET", "/readyz?verbose", 200),
        ("GET", "/metrics", 200),
        ("GET", "/configz", 200),
        ("GET", "/openapi/v3", 200),
        ("GET", "/openapi/v3/apis/apps/v1", 200),
        ("GET", "/openapi/v2", 200),
        ("GET", "/.well-known/openid-configuration", 200),
        ("GET", "/openid/v1/jwks", 200),
        ("GET", "/api", 200),
        ("GET", "/apis", 200),
        ("GET", "/apis/apps", 200),
        ("GET", "/apis/apps/v1", 200),
    ] {
        let (code, v) = s.call(method, uri, "application/json", "").await;
        assert_eq!(code, want, "{method} {uri}: {v}");
    }
    let (code, v) = s.call("POST", CMS, "application/json", "{broken").await;
    assert_eq!((code, v["reason"].as_str()), (400, Some("BadRequest")));
    assert_eq!(s.call("POST", CMS, "text/plain", "{}").await.0, 415);
    let (code, v) = s.call("POST", CMS, "application/yaml", "metadata:\n  name: y\ndata:\n  a: b\n").await;
    assert_eq!((code, v["data"]["a"].as_str()), (201, Some("b")));
    let (code, v) = s.call("POST", CMS, "application/json", &format!("\"{}\"", "x".repeat(4 << 20))).await;
    assert_eq!((code, v["message"].as_str()), (413, Some("Request entity too large: limit is 3145728")));
    let wrong = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}});
    assert_eq!(s.post(CMS, &wrong).await.0, 400);
}

#[tokio::test]
async fn protobuf_bodies() {
    let s = Server::start().await;
    let v = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "pb"}, "data": {"a": "b"}});
    let body = api::protobuf::encode(&v).expect("encoded");
    let mut r = http::Request::post(CMS)
        .header("content-type", api::protobuf::CONTENT_TYPE)
        .header("user-agent", "kubectl/1")
        .body(bytes::Bytes::from(body))
        .expect("request");
    r.extensions_mut().insert(admin());
    assert_eq!(client::LocalServer::serve(&s.api, r).await.status(), 201);
    let (_, v) = s.get(&format!("{CMS}/pb")).await;
    assert_eq!(v["data"]["a"], "b");
    assert!(v["metadata"]["managedFields"][0]["fieldsV1"].get("f:metadata").is_none(), "{v}");
}

#[tokio::test]
async fn access_is_decided_by_roles() {
    let s = Server::start().await;
    let bob = s.as_user("bob");
    let e = bob.list(&POD, "default", &ListParams::default()).await.expect_err("forbidden");
    assert_eq!(
        e.message,
        "pods is forbidden: User \"bob\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let role = json!({"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]});
    assert_eq!(s.post(&format!("{rbac}/roles"), &role).await.0, 201);
    let binding = json!({"metadata": {"name": "b"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"}]});
    let (code, v) = s.post(&format!("{rbac}/rolebindings"), &binding).await;
    assert_eq!(code, 201, "{v}");
    // The index follows the store; it takes a moment.
    for _ in 0..1000 {
        if bob.list(&POD, "default", &ListParams::default()).await.is_ok() {
            break;
        }
        tokio::task::yield_now().await;
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    bob.list(&POD, "default", &ListParams::default()).await.expect("allowed now");
    assert_eq!(code_of(bob.get(&CONFIG_MAPS, "default", "x").await), 403);
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": "bob",
        "resourceAttributes": {"namespace": "default", "verb": "list", "resource": "pods"}}});
    let (_, v) = s.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review).await;
    assert_eq!(v["status"]["allowed"], true);
}

fn code_of<T: std::fmt::Debug>(r: Result<T, api::Status>) -> u16 {
    code(r)
}

#[tokio::test]
async fn impersonation_needs_a_right() {
    let s = Server::start().await;
    let ask = |as_user: &str, as_group: &str, who: client::LocalIdentity| {
        let mut r = http::Request::get(PODS)
            .header("impersonate-user", as_user)
            .header("impersonate-group", as_group)
            .body(bytes::Bytes::new())
            .expect("request");
        r.extensions_mut().insert(who);
        let api = s.api.clone();
        async move { client::LocalServer::serve(&api, r).await.status().as_u16() }
    };
    let bob = || client::LocalIdentity::user("bob", &[]);
    assert_eq!(ask("jane", "none", admin()).await, 403, "jane herself may not");
    assert_eq!(ask("jane", "system:masters", admin()).await, 200);
    assert_eq!(ask("jane", "system:masters", bob()).await, 403, "bob may be nobody else");
}
