//! Aggregated API servers: registration, availability, what is shown of them, and requests on their way there, over TLS on
//! loopback.

use std::sync::{Arc, Mutex};

use base64::Engine;
use bytes::Bytes;
use client::WatchEvent;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::crds::{condition, until};
use super::setup::*;

const APISERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const OURS: &str = "/apis/apiregistration.k8s.io/v1/apiservices/v1.remote.example.com";
const GROUP: &str = "/apis/remote.example.com";
const THINGS: &str = "/apis/remote.example.com/v1/namespaces/default/things";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

type Answer = Response<BoxBody<Bytes, std::convert::Infallible>>;

/// An extension API server; who asked for what stands in `seen`: user, groups, method and path, and the common name of the
/// certificate that the caller showed.
struct Remote {
    port: u16,
    ca: String,
    seen: Arc<Mutex<Vec<Value>>>,
}

fn full(v: &Value) -> Answer {
    Response::new(Full::new(Bytes::from(v.to_string())).boxed())
}

fn thing(name: &str, revision: u64) -> Value {
    json!({"apiVersion": "remote.example.com/v1", "kind": "Thing",
        "metadata": {"name": name, "namespace": "default", "resourceVersion": revision.to_string()}})
}

async fn answer(r: Request<Incoming>) -> Answer {
    let (path, query) = (r.uri().path().to_owned(), r.uri().query().unwrap_or_default().to_owned());
    match (r.method().as_str(), path.as_str()) {
        ("GET", "/apis/remote.example.com/v1") => {
            full(&json!({"kind": "APIResourceList", "groupVersion": "remote.example.com/v1", "resources": [
            {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["create", "get", "list", "watch"]}]}))
        }
        ("GET", "/openapi/v3") => full(
            &json!({"paths": {"apis/remote.example.com/v1": {"serverRelativeURL": "/openapi/v3/apis/remote.example.com/v1?hash=1"}}}),
        ),
        ("GET", "/openapi/v2") => full(
            &json!({"paths": {"/apis/remote.example.com/v1/namespaces/{namespace}/things": {"get": {"$ref": "#/definitions/com.example.remote.v1.Thing"}}},
            "definitions": {"com.example.remote.v1.Thing": {"type": "object"}}}),
        ),
        ("GET", "/openapi/v3/apis/remote.example.com/v1") => full(&json!({"openapi": "3.0.0"})),
        ("GET", THINGS) if query.contains("watch=true") => {
            let line = |t: &str, v: Value| {
                Ok(Frame::data(Bytes::from(format!("{}\n", json!({"type": t, "object": v})))))
            };
            let lines = [line("ADDED", thing("a", 5)), line("MODIFIED", thing("a", 6))];
            // It goes on, as watches do.
            let lines = futures::stream::iter(lines).chain(futures::stream::pending());
            Response::new(BodyExt::boxed(StreamBody::new(lines)))
        }
        ("GET", THINGS) => full(
            &json!({"kind": "ThingList", "metadata": {"resourceVersion": "7"}, "items": [thing("a", 6)]}),
        ),
        ("POST", THINGS) => {
            let body = r.into_body().collect().await.expect("body").to_bytes();
            let mut made = full(&serde_json::from_slice(&body).expect("json"));
            *made.status_mut() = http::StatusCode::CREATED;
            made
        }
        _ => {
            let mut none = full(
                &json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": "none of that"}),
            );
            *none.status_mut() = http::StatusCode::NOT_FOUND;
            none
        }
    }
}

impl Remote {
    async fn start() -> Self {
        let made =
            rcgen::generate_simple_self_signed(["remote.default.svc".to_owned()]).expect("certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let mut config = rustls::ServerConfig::builder_with_provider(pki::trust::provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(pki::RequestClientCert::new(&made.cert.pem()).expect("verifier"))
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("config");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
        let port = listener.local_addr().expect("address").port();
        let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (acceptor, log) = (TlsAcceptor::from(Arc::new(config)), seen.clone());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, log) = (acceptor.clone(), log.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let certificate = tls.get_ref().1.peer_certificates().and_then(|c| c.first());
                    let caller = certificate.and_then(|c| pki::trust::parse_identity(c).ok()).map(|i| i.user);
                    let serve = service_fn(move |r: Request<Incoming>| {
                        let all = |name: &str| -> Vec<String> {
                            r.headers()
                                .get_all(name)
                                .iter()
                                .filter_map(|v| Some(v.to_str().ok()?.to_owned()))
                                .collect()
                        };
                        log.lock().expect("log").push(
                            json!({"user": all("x-remote-user"), "groups": all("x-remote-group"),
                            "what": format!("{} {}", r.method(), r.uri().path()), "caller": caller,
                            "authorization": all("authorization")}),
                        );
                        async move { Ok::<_, std::convert::Infallible>(answer(r).await) }
                    });
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(tls), serve)
                        .await;
                });
            }
        });
        Self { port, ca: base64::engine::general_purpose::STANDARD.encode(made.cert.pem()), seen }
    }

    fn last(&self) -> Value {
        self.seen.lock().expect("log").last().cloned().unwrap_or_default()
    }
}

/// A service whose endpoint is on loopback; the API refuses such, so it is written where the server reads.
async fn service(s: &Server, port: u16) {
    let service = json!({"metadata": {"name": "remote"}, "spec": {"ports": [{"name": "tls", "port": 443}]}});
    assert_eq!(s.post(SERVICES, &service).await.0, 201);
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "remote-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "remote"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}],
        "ports": [{"name": "tls", "port": port}]});
    s.api.reader().create("discovery.k8s.io", "endpointslices", slice).await.expect("slice");
}

fn api_service(ca: &str) -> Value {
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.remote.example.com"},
        "spec": {"group": "remote.example.com", "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 200,
            "service": {"namespace": "default", "name": "remote"}, "caBundle": ca}})
}

/// Asks until the condition has this reason.
async fn until_reason(s: &Server, reason: &str) -> Value {
    let v = until(s, OURS, |_, v| condition(v, "Available")["reason"] == reason).await;
    condition(&v, "Available").clone()
}

#[tokio::test]
async fn requests_go_to_the_remote_server_and_it_is_shown_among_ours() {
    let s = Server::start().await;
    let remote = Remote::start().await;
    let (code, v) = s.post(APISERVICES, &api_service(&remote.ca)).await;
    assert_eq!((code, &v["spec"]["service"]["port"]), (201, &json!(443)), "{v}");
    let c = until_reason(&s, "ServiceNotFound").await;
    assert_eq!(
        (&c["status"], &c["message"]),
        (&json!("False"), &json!("service/remote in \"default\" is not present"))
    );
    let (code, text) = s.get(THINGS).await;
    assert_eq!((code, text), (503, json!("service unavailable\n")));
    service(&s, remote.port).await;
    let c = until_reason(&s, "Passed").await;
    assert_eq!((&c["status"], &c["message"]), (&json!("True"), &json!("all checks passed")));

    let (code, v) = s.get(THINGS).await;
    assert_eq!((code, &v["items"][0]["metadata"]["name"]), (200, &json!("a")), "{v}");
    assert_eq!(
        remote.last(),
        json!({"user": ["admin"], "groups": ["system:masters", "system:authenticated"], "what": format!("GET {THINGS}"),
            "caller": "front-proxy-client", "authorization": []})
    );
    let (code, v) = s.post(THINGS, &thing("b", 1)).await;
    assert_eq!((code, &v["metadata"]["name"]), (201, &json!("b")), "{v}");
    let (code, v) = s.get(&format!("{THINGS}/none")).await;
    assert_eq!((code, &v["message"]), (404, &json!("none of that")), "the remote's own words");
    // Whoever may not is refused here.
    let resource = api::Resource {
        group: "remote.example.com".into(),
        version: "v1".into(),
        plural: "things".into(),
        kind: "Thing".into(),
        namespaced: true,
    };
    let e = s.as_user("nobody").list(&resource, "default", &Default::default()).await;
    assert_eq!(code_of(e), 403);
    // A watch from inside the process: events as they come, although the stream goes on.
    let mut events = s.client.watch(&resource, "default", &Default::default()).await.expect("watch");
    assert!(
        matches!(events.next().await, Some(WatchEvent::Added(o)) if o.name() == "a" && o.revision() == 5)
    );
    assert!(matches!(events.next().await, Some(WatchEvent::Modified(o)) if o.revision() == 6));

    // Discovery in both forms, and OpenAPI in both.
    let (_, v) = s.get("/apis").await;
    let names: Vec<&str> =
        v["groups"].as_array().expect("groups").iter().filter_map(|g| g["name"].as_str()).collect();
    assert_eq!(names.first(), Some(&"apiregistration.k8s.io"));
    // By its priority, which only that of the metrics is below.
    assert_eq!(names.get(names.len() - 2..), Some(&["remote.example.com", "metrics.k8s.io"][..]));
    assert_eq!(s.get(GROUP).await.1["preferredVersion"]["version"], "v1");
    assert_eq!(s.get(&format!("{GROUP}/v1")).await.1["resources"][0]["name"], "things");
    let v = aggregated(&s).await;
    let version = json!([{"version": "v1", "freshness": "Current", "resources": [{"resource": "things", "scope": "Namespaced", "singularResource": "thing",
        "responseKind": {"group": "remote.example.com", "version": "v1", "kind": "Thing"}, "verbs": ["create", "get", "list", "watch"]}]}]);
    assert_eq!(remote_group(&v)["versions"], version);
    let (_, v) = s.get("/openapi/v3").await;
    assert_eq!(
        v["paths"]["apis/remote.example.com/v1"]["serverRelativeURL"],
        "/openapi/v3/apis/remote.example.com/v1?hash=1"
    );
    assert_eq!(s.get("/openapi/v3/apis/remote.example.com/v1").await.1["openapi"], "3.0.0");
    let (_, v) = s.get("/openapi/v2").await;
    assert!(
        v["definitions"]["com.example.remote.v1.Thing"].is_object()
            && v["definitions"]["io.k8s.api.core.v1.Pod"].is_object()
    );

    // Without endpoints it is unavailable, and what it said is stale.
    let slice = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/remote-1";
    assert_eq!(s.delete(slice, &Value::Null).await.0, 200);
    let c = until_reason(&s, "EndpointsNotFound").await;
    assert_eq!(c["status"], "False");
    until(&s, THINGS, |code, _| code == 503).await;
    let v = aggregated(&s).await;
    assert_eq!(remote_group(&v)["versions"][0]["freshness"], "Stale");
    assert_eq!(s.delete(OURS, &Value::Null).await.0, 200);
    until(&s, THINGS, |code, _| code == 404).await;
    assert_eq!(s.get(GROUP).await.0, 404);
}

fn code_of<T: std::fmt::Debug>(r: Result<T, api::Status>) -> u16 {
    r.expect_err("an error").code
}

fn remote_group(v: &Value) -> &Value {
    let all = v["items"].as_array().expect("items");
    all.iter().find(|g| g["metadata"]["name"] == "remote.example.com").expect("the remote group")
}

async fn aggregated(s: &Server) -> Value {
    let mut r = http::Request::get("/apis").header("accept", AGGREGATED).body(Bytes::new()).expect("request");
    r.extensions_mut().insert(admin());
    match client::LocalServer::serve(&s.api, r).await.into_body() {
        client::LocalBody::Bytes(b) => serde_json::from_slice(&b).expect("json"),
        _ => panic!("no document"),
    }
}

#[tokio::test]
async fn a_stranger_behind_the_service_is_not_talked_to() {
    let s = Server::start().await;
    let (remote, other) = (Remote::start().await, Remote::start().await);
    service(&s, remote.port).await;
    assert_eq!(s.post(APISERVICES, &api_service(&other.ca)).await.0, 201);
    let c = until_reason(&s, "FailedDiscoveryCheck").await;
    assert!(
        c["message"]
            .as_str()
            .is_some_and(|m| m.contains("failing or missing response from https://") && m.contains("tls:")),
        "{c}"
    );
    assert_eq!(s.get(THINGS).await.0, 503);
    // Unless one asks not to look.
    let spec = json!({"spec": {"caBundle": null, "insecureSkipTLSVerify": true}});
    assert_eq!(s.merge(OURS, &spec).await.0, 200);
    until_reason(&s, "Passed").await;
    until(&s, THINGS, |code, _| code == 200).await;
    assert!(other.seen.lock().expect("log").is_empty());
}

#[tokio::test]
async fn what_we_serve_ourselves_is_registered() {
    let s = Server::start().await;
    let (_, v) = s.get(&format!("{APISERVICES}/v1.apps")).await;
    assert_eq!(
        (
            &v["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"],
            &v["spec"]["groupPriorityMinimum"],
            &v["spec"]["versionPriority"]
        ),
        (&json!("onstart"), &json!(17800), &json!(15)),
        "{v}"
    );
    let c = condition(&v, "Available");
    assert_eq!((&c["status"], &c["reason"]), (&json!("True"), &json!("Local")));
    assert_eq!(s.get(&format!("{APISERVICES}/v1.")).await.0, 200);
    assert_eq!(s.get(&format!("{APISERVICES}/v1.apiregistration.k8s.io")).await.0, 404);

    // Custom resources come and go with their definition.
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    assert_eq!(s.post(super::crds::CRDS, &crd).await.0, 201);
    let uri = format!("{APISERVICES}/v1.example.com");
    let v = until(&s, &uri, |code, _| code == 200).await;
    assert_eq!(
        (
            &v["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"],
            &v["spec"]["groupPriorityMinimum"]
        ),
        (&json!("true"), &json!(1000))
    );
    assert_eq!(s.delete(&format!("{}/widgets.example.com", super::crds::CRDS), &Value::Null).await.0, 200);
    until(&s, &uri, |code, _| code == 404).await;

    // Somebody's own.
    let mine = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.mine.example.com"},
        "spec": {"group": "mine.example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10}});
    let (code, v) = s.post(APISERVICES, &mine).await;
    assert_eq!((code, &condition(&v, "Available")["reason"]), (201, &json!("Local")), "{v}");

    let (_, v) = s.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication").await;
    assert_eq!(v["data"]["requestheader-allowed-names"], "[\"front-proxy-client\"]");
    assert!(
        v["data"]["requestheader-client-ca-file"].as_str().is_some_and(|c| c.contains("BEGIN CERTIFICATE")),
        "{v}"
    );
}
