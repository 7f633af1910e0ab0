//! One server per test.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use api::{Object, Status};
use apiserver::authn::{Anonymous, Authn, TokenAuthenticator, TokenIssuer};
use apiserver::{ApiServer, Cluster, Config, FrontProxy, NodeTransport, Security};
use bytes::Bytes;
use client::{Client, LocalBody, LocalIdentity, LocalServer};
use http::{Request, Response};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub struct Server {
    pub api: ApiServer,
    pub client: Client,
    pub store: Arc<store::embedded::Engine>,
    pub stop: CancellationToken,
    dir: tempfile::TempDir,
}

const ISSUER: &str = "https://kubernetes.default.svc";

impl Server {
    pub async fn start() -> Self {
        Self::with("10.96.0.0/16").await
    }

    pub async fn with(service_cidr: &str) -> Self {
        Self::in_dir(tempfile::tempdir().expect("directory"), service_cidr, None).await
    }

    /// With a way to kubelets.
    pub async fn with_nodes(nodes: Arc<dyn NodeTransport>) -> Self {
        Self::in_dir(tempfile::tempdir().expect("directory"), "10.96.0.0/16", Some(nodes)).await
    }

    async fn in_dir(
        dir: tempfile::TempDir,
        service_cidr: &str,
        nodes: Option<Arc<dyn NodeTransport>>,
    ) -> Self {
        let now = client::clock::now().as_second();
        let keys = pki::Pki::open(&dir.path().join("pki"), &pki::Options::default(), now).expect("keys");
        let engine = store::embedded::Engine::open(store::embedded::Options::new(dir.path().join("store")));
        let store = Arc::new(engine.expect("store"));
        let stop = CancellationToken::new();
        let (trust, signer) = (keys.client_trust().expect("trust"), keys.tokens.clone());
        let proxies = keys.front_proxy_trust().expect("trust");
        let api = ApiServer::new(Config {
            store: store.clone(),
            catalog: api::catalog::builtin().clone(),
            cluster: Cluster {
                service_cidrs: vec![service_cidr.to_owned()],
                cluster_cidrs: vec!["10.244.0.0/16".into()],
                advertise_address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
                advertise_port: 6443,
                node_ports: 30000..=30010,
                feature_gates: Default::default(),
                shared: false,
            },
            admission: Default::default(),
            front_proxy: Some(FrontProxy::of(&keys)),
            nodes,
            security: Box::new(move |reader| Security {
                authn: Authn::new(
                    trust,
                    TokenAuthenticator::new(signer.verifier(ISSUER), Vec::new()),
                    reader,
                    Anonymous::health(),
                )
                .with_front_proxy(proxies),
                issuer: TokenIssuer::new(signer, ISSUER.into(), Vec::new()),
            }),
            stop: stop.clone(),
        })
        .expect("server");
        api.start().await.expect("start");
        let client = Client::local(Arc::new(api.clone()), admin(), "test");
        let s = Self { api, client, store, stop, dir };
        s.account("default").await;
        s
    }

    /// The same directory, opened again.
    pub async fn restart(self, service_cidr: &str) -> Self {
        self.stop.cancel();
        store::Store::close(self.store.as_ref()).await.expect("close");
        let Self { dir, .. } = self;
        Self::in_dir(dir, service_cidr, None).await
    }

    async fn account(&self, ns: &str) {
        let v = json!({"metadata": {"name": "default"}});
        match self.client.create(&api::resource::SERVICE_ACCOUNTS, ns, &v).await {
            Err(s) if !s.is_already_exists() => panic!("account: {s}"),
            _ => {}
        }
    }

    pub fn as_user(&self, name: &str) -> Client {
        Client::local(Arc::new(self.api.clone()), LocalIdentity::user(name, &[]), "test")
    }

    /// A raw request as the administrator.
    pub async fn send(&self, method: &str, uri: &str, content_type: &str, body: &str) -> Response<LocalBody> {
        let mut r = Request::builder()
            .method(method)
            .uri(uri)
            .header("content-type", content_type)
            .body(Bytes::copy_from_slice(body.as_bytes()))
            .expect("request");
        r.extensions_mut().insert(admin());
        self.api.serve(r).await
    }

    /// Status code and JSON of a raw request.
    pub async fn call(&self, method: &str, uri: &str, content_type: &str, body: &str) -> (u16, Value) {
        let (parts, body) = self.send(method, uri, content_type, body).await.into_parts();
        let v = match body {
            LocalBody::Bytes(b) => {
                serde_json::from_slice(&b).unwrap_or_else(|_| json!(String::from_utf8_lossy(&b).into_owned()))
            }
            LocalBody::Object(o) => o.value().expect("value"),
            LocalBody::List(l) => {
                json!({"items": l.items.iter().map(|o| o.value().expect("value")).collect::<Vec<_>>(),
                    "continue": l.continue_token, "remaining": l.remaining, "revision": l.revision})
            }
            LocalBody::Watch(_) => json!("watch"),
        };
        (parts.status.as_u16(), v)
    }

    pub async fn get(&self, uri: &str) -> (u16, Value) {
        self.call("GET", uri, "", "").await
    }

    pub async fn post(&self, uri: &str, v: &Value) -> (u16, Value) {
        self.call("POST", uri, "application/json", &v.to_string()).await
    }

    pub async fn put(&self, uri: &str, v: &Value) -> (u16, Value) {
        self.call("PUT", uri, "application/json", &v.to_string()).await
    }

    pub async fn merge(&self, uri: &str, v: &Value) -> (u16, Value) {
        self.call("PATCH", uri, "application/merge-patch+json", &v.to_string()).await
    }

    pub async fn delete(&self, uri: &str, options: &Value) -> (u16, Value) {
        let body = if options.is_null() { String::new() } else { options.to_string() };
        self.call("DELETE", uri, "application/json", &body).await
    }

    pub async fn config_map(&self, name: &str, labels: Value) -> Object {
        let v = json!({"metadata": {"name": name, "labels": labels}, "data": {"k": "v"}});
        self.client.create(&api::resource::CONFIG_MAPS, "default", &v).await.expect("config map")
    }
}

pub fn admin() -> LocalIdentity {
    LocalIdentity::user("admin", &["system:masters"])
}

pub fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}

pub fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}}})
}

pub const CMS: &str = "/api/v1/namespaces/default/configmaps";
pub const PODS: &str = "/api/v1/namespaces/default/pods";
pub const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
pub const SERVICES: &str = "/api/v1/namespaces/default/services";

pub fn code<T: std::fmt::Debug>(r: Result<T, Status>) -> u16 {
    r.expect_err("an error").code
}
