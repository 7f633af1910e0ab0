//! Authentication, authorization, admission and bootstrap together, over a fake store.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::admission::{Chain, Operation, Options, Request};
use crate::authn::review::token_review;
use crate::authn::{Anonymous, Authn, Peer, TokenAuthenticator, TokenIssuer};
use crate::authz::{Attributes, Authorizer, escalation};
use crate::fake::FakeReader;
use crate::{Reader, RequestInfo, User, bootstrap};

const RBAC: &str = "rbac.authorization.k8s.io";

struct World {
    fake: FakeReader,
    reader: Arc<dyn Reader>,
    authorizer: Arc<Authorizer>,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn world() -> World {
    let fake = FakeReader::new();
    let reader: Arc<dyn Reader> = Arc::new(fake.clone());
    bootstrap::run(reader.as_ref(), None).await.expect("bootstrap");
    let authorizer = Authorizer::new(reader.clone());
    let stop = CancellationToken::new();
    authorizer.start(&stop).await.expect("start");
    World { fake, reader, authorizer, stop }
}

fn info(method: &str, uri: &str) -> RequestInfo {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    RequestInfo::parse(&method.parse().expect("method"), path, query)
}

async fn may(w: &World, u: &User, method: &str, uri: &str) -> Result<(), String> {
    w.authorizer.check(&Attributes::new(u, &info(method, uri))).await.map_err(|s| s.message)
}

fn account(name: &str) -> User {
    User::new(
        format!("system:serviceaccount:kube-system:{name}"),
        &["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
    )
}

#[tokio::test]
async fn a_second_start_writes_nothing_and_a_weakened_role_comes_back() {
    let w = world().await;
    let first = w.fake.writes();
    assert!(first > 100);
    bootstrap::run(w.reader.as_ref(), None).await.expect("again");
    assert_eq!(w.fake.writes(), first);
    let mut v = w
        .reader
        .get(RBAC, "clusterroles", "", "view")
        .await
        .expect("get")
        .expect("view")
        .value()
        .expect("value");
    v["rules"] = json!([]);
    w.fake.put(RBAC, "clusterroles", v);
    bootstrap::run(w.reader.as_ref(), None).await.expect("again");
    assert_eq!(w.fake.writes(), first + 2);
}

#[tokio::test]
async fn default_roles_serve_the_components() {
    let w = world().await;
    let admin = User::new("kubernetes-admin", &["system:masters", "system:authenticated"]);
    let nobody = User::new("eve", &["system:authenticated"]);
    let t: Vec<(&User, &str, &str, bool)> = vec![
        (&admin, "DELETE", "/api/v1/nodes/n1", true),
        (&nobody, "GET", "/api/v1/namespaces/default/pods", false),
        (&nobody, "GET", "/version", true),
        (&nobody, "GET", "/apis", true),
        (&nobody, "GET", "/metrics", false),
        (&nobody, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", true),
    ];
    for (u, m, uri, want) in t {
        assert_eq!(may(&w, u, m, uri).await.is_ok(), want, "{} {m} {uri}", u.name);
    }
    for (name, m, uri) in [
        ("deployment-controller", "POST", "/apis/apps/v1/namespaces/a/replicasets"),
        ("replicaset-controller", "POST", "/api/v1/namespaces/a/pods"),
        ("namespace-controller", "DELETE", "/apis/anything/v1/namespaces/a/things"),
        ("generic-garbage-collector", "PATCH", "/api/v1/namespaces/a/pods/p"),
        ("endpointslice-controller", "POST", "/apis/discovery.k8s.io/v1/namespaces/a/endpointslices"),
        ("service-account-controller", "POST", "/api/v1/namespaces/a/serviceaccounts"),
        ("root-ca-cert-publisher", "POST", "/api/v1/namespaces/a/configmaps"),
        ("resourcequota-controller", "PUT", "/api/v1/namespaces/a/resourcequotas/q/status"),
        ("node-controller", "PATCH", "/api/v1/nodes/n/status"),
        ("coredns", "GET", "/apis/discovery.k8s.io/v1/endpointslices"),
    ] {
        may(&w, &account(name), m, uri).await.unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let scheduler = User::new("system:kube-scheduler", &["system:authenticated"]);
    may(&w, &scheduler, "POST", "/api/v1/namespaces/a/pods/p/binding").await.expect("bind");
    assert_eq!(
        may(&w, &scheduler, "POST", "/api/v1/namespaces/a/secrets").await,
        Err("secrets is forbidden: User \"system:kube-scheduler\" cannot create resource \"secrets\" in API group \"\" in the \
             namespace \"a\"".into())
    );
}

#[tokio::test]
async fn changes_of_bindings_take_effect() {
    let w = world().await;
    let bob = User::new("bob", &["system:authenticated"]);
    let uri = "/api/v1/namespaces/a/pods";
    assert!(may(&w, &bob, "GET", uri).await.is_err());
    w.fake.put(
        RBAC,
        "rolebindings",
        json!({"metadata": {"name": "rb", "namespace": "a"},
        "roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": [{"kind": "User", "name": "bob"}]}),
    );
    while may(&w, &bob, "GET", uri).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(may(&w, &bob, "GET", "/api/v1/namespaces/b/pods").await.is_err());
    assert!(may(&w, &bob, "GET", "/api/v1/namespaces/a/secrets").await.is_err());
    w.fake.delete(RBAC, "rolebindings", "a", "rb");
    while may(&w, &bob, "GET", uri).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_kubelet_reads_what_its_pods_name() {
    let w = world().await;
    let n1 = User::new("system:node:n1", &["system:nodes", "system:authenticated"]);
    w.fake.put("", "pods", json!({"metadata": {"name": "p", "namespace": "a"}, "spec": {"nodeName": "n1", "serviceAccountName": "sa",
        "volumes": [{"name": "v", "secret": {"secretName": "s"}}]}}));
    // No waiting: the store is asked when the graph is behind.
    let t = [
        ("GET", "/api/v1/namespaces/a/secrets/s", Ok(())),
        ("GET", "/api/v1/namespaces/a/secrets?watch=1&fieldSelector=metadata.name%3Ds", Ok(())),
        (
            "GET",
            "/api/v1/namespaces/a/secrets/other",
            Err("no relationship found between node 'n1' and this object"),
        ),
        ("GET", "/api/v1/namespaces/a/secrets", Err("No Object name found")),
        ("GET", "/api/v1/secrets", Err("can only read namespaced object of this type")),
        ("POST", "/api/v1/namespaces/a/serviceaccounts/sa/token", Ok(())),
        (
            "POST",
            "/api/v1/namespaces/a/serviceaccounts/other/token",
            Err("no relationship found between node 'n1' and this object"),
        ),
        ("GET", "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn1", Ok(())),
        ("GET", "/api/v1/pods", Err("can only list/watch pods with spec.nodeName field selector")),
        ("GET", "/api/v1/namespaces/a/pods/p", Ok(())),
        ("GET", "/api/v1/nodes/n1", Ok(())),
        ("GET", "/api/v1/nodes/n2", Err("node 'n1' cannot read 'n2', only its own Node object")),
        ("PATCH", "/api/v1/namespaces/a/pods/p/status", Ok(())),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1", Ok(())),
        (
            "PUT",
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n2",
            Err("can only access node lease with the same name as the requesting node"),
        ),
        ("GET", "/api/v1/services", Ok(())),
        ("POST", "/api/v1/namespaces/a/events", Ok(())),
        ("DELETE", "/apis/apps/v1/namespaces/a/deployments/d", Err("")),
    ];
    for (m, uri, want) in t {
        let got = may(&w, &n1, m, uri).await;
        match want {
            Ok(()) => assert_eq!(got, Ok(()), "{m} {uri}"),
            Err(reason) => assert!(got.as_ref().is_err_and(|g| g.ends_with(reason)), "{m} {uri}: {got:?}"),
        }
    }
}

#[tokio::test]
async fn nobody_grants_what_they_lack() {
    let w = world().await;
    w.fake.put(
        RBAC,
        "clusterrolebindings",
        json!({"metadata": {"name": "b"},
        "roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": [{"kind": "User", "name": "bob"}]}),
    );
    let bob = User::new("bob", &["system:authenticated"]);
    while may(&w, &bob, "GET", "/api/v1/pods").await.is_err() {
        tokio::task::yield_now().await;
    }
    let role = |rules: Value| json!({"metadata": {"name": "r", "namespace": "a"}, "rules": rules});
    let held = role(json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]));
    escalation::check(&w.authorizer, &bob, "roles", "a", &held, None).await.expect("held");
    let more = role(json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}]));
    let e = escalation::check(&w.authorizer, &bob, "roles", "a", &more, None).await.expect_err("lacking");
    assert_eq!(
        e.message,
        "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"bob\" (groups=[\"system:authenticated\"]) is attempting to \
         grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}"
    );
    let bind = |role: &str| {
        json!({"metadata": {"name": "x", "namespace": "a"}, "roleRef": {"kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": "eve"}]})
    };
    escalation::check(&w.authorizer, &bob, "rolebindings", "a", &bind("view"), None).await.expect("view");
    let e = escalation::check(&w.authorizer, &bob, "rolebindings", "a", &bind("gone"), None)
        .await
        .expect_err("missing");
    assert_eq!(e.message, "clusterrole.rbac.authorization.k8s.io \"gone\" not found");
    assert!(
        escalation::check(&w.authorizer, &bob, "rolebindings", "a", &bind("cluster-admin"), None)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn tokens_live_as_long_as_what_they_are_bound_to() {
    let w = world().await;
    let tmp = tempfile::tempdir().expect("tmp");
    let now = client::clock::now().as_second();
    let pki = pki::Pki::open(tmp.path(), &pki::Options::default(), now).expect("pki");
    let issuer = "https://kubernetes.default.svc.cluster.local";
    let tokens = TokenAuthenticator::new(pki.tokens.verifier(issuer), vec![]);
    let authn = Authn::new(pki.client_trust().expect("trust"), tokens, w.reader.clone(), Anonymous::health());
    let mint = TokenIssuer::new(pki.tokens.clone(), issuer.into(), vec![]);
    w.fake.put("", "serviceaccounts", json!({"metadata": {"name": "sa", "namespace": "a"}}));
    let pod = w.fake.put("", "pods", json!({"metadata": {"name": "p", "namespace": "a"}, "spec": {"serviceAccountName": "sa", "nodeName": "n"}}));
    let ask = |kind: &str, uid: &str| json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": "p", "uid": uid}}});
    let done = mint.create(w.reader.as_ref(), "a", "sa", ask("Pod", pod.uid()), false).await.expect("token");
    assert_eq!(done["spec"]["expirationSeconds"], 3600);
    let token = done["status"]["token"].as_str().expect("token").to_owned();
    let mut h = HeaderMap::new();
    h.insert(AUTHORIZATION, format!("Bearer {token}").parse().expect("header"));
    let u = authn.authenticate(None, &Peer::None, &h, "/api").await.expect("user");
    assert_eq!(u.name, "system:serviceaccount:a:sa");
    assert_eq!(u.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    let review = token_review(&authn, json!({"spec": {"token": token}})).await.expect("review");
    assert_eq!(review["status"]["authenticated"], true);
    let e = mint.create(w.reader.as_ref(), "a", "sa", ask("Pod", "other"), false).await.expect_err("uid");
    assert_eq!(e.code, 409);
    let e = mint.create(w.reader.as_ref(), "a", "none", json!({}), false).await.expect_err("no account");
    assert_eq!(e.message, "serviceaccounts \"none\" not found");
    let e = mint
        .create(w.reader.as_ref(), "a", "sa", json!({"spec": {"expirationSeconds": 5}}), false)
        .await
        .expect_err("short");
    assert_eq!(e.code, 422);
    w.fake.delete("", "pods", "a", "p");
    let e = authn.authenticate(None, &Peer::None, &h, "/api").await.expect_err("pod is gone");
    assert_eq!((e.code, e.message.as_str()), (401, "Unauthorized"));
    let none = HeaderMap::new();
    assert_eq!(
        authn.authenticate(None, &Peer::None, &none, "/readyz").await.expect("health").name,
        "system:anonymous"
    );
    assert!(authn.authenticate(None, &Peer::None, &none, "/api").await.is_err());
    assert!(authn.authenticate(None, &Peer::Untrusted, &none, "/readyz").await.is_err());
}

#[tokio::test]
async fn only_the_front_proxy_speaks_for_others() {
    let w = world().await;
    let tmp = tempfile::tempdir().expect("tmp");
    let now = client::clock::now().as_second();
    let pki = pki::Pki::open(tmp.path(), &pki::Options::default(), now).expect("pki");
    let (authn, _) =
        crate::authn::from_pki(&pki, w.reader.clone(), "https://issuer", &[], Anonymous::health())
            .expect("authn");
    let chain = |c: &pki::CertKey| pki::trust::certificates(&c.cert).expect("certificate");
    let mut h = HeaderMap::new();
    h.insert("x-remote-user", "jane".parse().expect("header"));
    h.insert("x-remote-group", "devs".parse().expect("header"));
    let proxy = authn.peer(&chain(&pki.front_proxy_client));
    let u = authn.authenticate(None, &proxy, &h, "/api").await.expect("jane");
    assert_eq!(
        (u.name.as_str(), u.in_group("devs"), u.in_group("system:authenticated")),
        ("jane", true, true)
    );
    // Without a name it is nobody, and a client of the cluster is itself whatever it says.
    assert_eq!(
        authn.authenticate(None, &proxy, &HeaderMap::new(), "/api").await.expect_err("nobody").code,
        401
    );
    let admin = authn.peer(&chain(&pki.admin(now).expect("admin")));
    assert_eq!(authn.authenticate(None, &admin, &h, "/api").await.expect("admin").name, "kubernetes-admin");
    // A certificate of the right authority for another name does not count.
    let other =
        pki.front_proxy.issue(&pki::Subject::new("other"), &pki::Usage::Client, now).expect("certificate");
    let other = authn.peer(&chain(&other));
    assert!(authn.authenticate(None, &other, &h, "/api").await.is_err());
}

fn create<'a>(user: &'a User, resource: &'a str, namespace: &'a str, object: Value) -> Request<'a> {
    Request {
        operation: Operation::Create,
        user,
        group: "",
        version: "v1",
        resource,
        subresource: "",
        kind: "",
        namespace,
        name: "",
        object,
        old: None,
        dry_run: false,
        charges: None,
        warnings: None,
        reinvocation: Default::default(),
    }
}

#[tokio::test]
async fn a_pod_passes_the_chain() {
    let w = world().await;
    let chain = Chain::new(w.reader.clone(), w.authorizer.clone());
    let u = User::new("bob", &[]);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}});
    let mut r = create(&u, "pods", "nowhere", pod.clone());
    assert_eq!(
        chain.admit(&mut r).await.expect_err("no namespace").message,
        "namespaces \"nowhere\" not found"
    );
    let mut r = create(&u, "pods", "default", {
        let mut p = pod.clone();
        p["spec"]["serviceAccountName"] = json!("none");
        p
    });
    assert_eq!(
        chain.admit(&mut r).await.expect_err("no account").message,
        "pods \"p\" is forbidden: error looking up service account default/none: serviceaccount \"none\" not found"
    );
    w.fake.put("", "serviceaccounts", json!({"metadata": {"name": "default", "namespace": "default"}}));
    let mut r = create(&u, "pods", "default", pod.clone());
    chain.admit(&mut r).await.expect("admitted");
    let spec = &r.object["spec"];
    assert_eq!((&spec["priority"], &spec["preemptionPolicy"]), (&json!(0), &json!("PreemptLowerPriority")));
    assert_eq!(spec["tolerations"].as_array().map(Vec::len), Some(2));
    w.fake.put(
        "",
        "resourcequotas",
        json!({"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": {"pods": "1"}},
        "status": {"hard": {"pods": "1"}, "used": {"pods": "0"}}}),
    );
    r.dry_run = true;
    chain.validate(&r).await.expect("a dry run charges nothing");
    r.dry_run = false;
    chain.validate(&r).await.expect("fits");
    assert_eq!(
        chain.validate(&r).await.expect_err("full").message,
        "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"
    );
    let mut bad = create(&u, "pods", "default", {
        let mut p = pod;
        p["spec"]["priorityClassName"] = json!("none");
        p
    });
    assert_eq!(
        chain.admit(&mut bad).await.expect_err("no class").message,
        "pods \"p\" is forbidden: no PriorityClass with name none was found"
    );
    let mut gone = create(&u, "namespaces", "default", Value::Null);
    gone.operation = Operation::Delete;
    gone.name = "default";
    assert_eq!(
        chain.admit(&mut gone).await.expect_err("immortal").message,
        "namespaces \"default\" is forbidden: this namespace may not be deleted"
    );
}

#[tokio::test]
async fn a_kubelet_writes_its_own_only() {
    let w = world().await;
    let options = Options { taint_new_nodes: true, ..Options::default() };
    let chain = Chain::with(w.reader.clone(), w.authorizer.clone(), &options);
    let n1 = User::new("system:node:n1", &["system:nodes"]);
    let node = w.fake.put("", "nodes", json!({"metadata": {"name": "n1"}}));
    let pod = w.fake.put(
        "",
        "pods",
        json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {"nodeName": "n2"}}),
    );
    let old = pod.value().expect("value");
    let mut r = create(&n1, "pods", "default", old.clone());
    (r.operation, r.subresource, r.name, r.old) = (Operation::Update, "status", "p", Some(&old));
    assert_eq!(
        chain.admit(&mut r).await.expect_err("foreign pod").message,
        "pods \"p\" is forbidden: node \"n1\" can only update pod status for pods with spec.nodeName set to itself"
    );
    w.fake.put("", "serviceaccounts", json!({"metadata": {"name": "default", "namespace": "default"}}));
    let mut r = create(&n1, "pods", "default", json!({"metadata": {"name": "x"}}));
    assert_eq!(
        chain.admit(&mut r).await.expect_err("no mirror pod").message,
        "pods \"x\" is forbidden: pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n1\" can only create mirror pods"
    );
    let mirror = json!({"metadata": {"name": "m", "annotations": {"kubernetes.io/config.mirror": "h"}, "ownerReferences":
        [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": node.uid(), "controller": true}]}, "spec": {"nodeName": "n1"}});
    chain.admit(&mut create(&n1, "pods", "default", mirror)).await.expect("mirror pod");
    let mut r = create(&n1, "nodes", "", json!({"metadata": {"name": "n2"}}));
    assert_eq!(
        chain.admit(&mut r).await.expect_err("foreign node").message,
        "nodes \"n2\" is forbidden: node \"n1\" is not allowed to modify node \"n2\""
    );
    let mut r = create(&n1, "nodes", "", json!({"metadata": {"name": "n1"}}));
    chain.admit(&mut r).await.expect("own node");
    assert_eq!(r.object["spec"]["taints"][0]["key"], "node.kubernetes.io/not-ready");
}
