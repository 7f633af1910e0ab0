//! The kubelet's HTTP server, on any stream whose other end is known: the API server of the same process, who may do
//! everything, or a caller whose rights are asked for. Upstream's paths. Each connection is served by its
//! caller's task; an upgraded one by a task of its own that ends with the stream.

pub mod authorize;
pub mod logs;
mod port_forward;
pub mod remote;
mod resource;
pub mod spdy;
mod stats;
mod streams;
pub mod ws;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};

use self::authorize::Rights;
use crate::manager::Workers;
use crate::node_ctx::Node;
use crate::pod_worker::Snapshot;

pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

#[derive(Clone)]
pub struct Cx {
    pub node: Arc<Node>,
    pub workers: Arc<Workers>,
}

/// An answer that is no success.
#[derive(Debug)]
pub struct Refused {
    pub code: StatusCode,
    pub message: String,
    pub headers: Vec<(header::HeaderName, String)>,
}

impl Refused {
    pub fn new(code: StatusCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), headers: Vec::new() }
    }
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

/// `rights`: what each request needs; `None` where everything may be done.
pub async fn serve<S>(node: Arc<Node>, workers: Arc<Workers>, stream: S, rights: Option<Rights>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let cx = Cx { node, workers };
    let service = service_fn(move |r: Request<Incoming>| {
        let (cx, rights) = (cx.clone(), rights.clone());
        async move { Ok::<_, Infallible>(answer(&cx, rights.as_ref(), r).await) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(e) = connection.with_upgrades().await {
        tracing::debug!(error = %e, "a connection to the kubelet ended");
    }
}

pub fn full(code: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut r = Response::new(Full::new(body.into()).map_err(|e: Infallible| match e {}).boxed_unsync());
    *r.status_mut() = code;
    r.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    r
}

fn json_body(v: &Value) -> Response<Body> {
    full(StatusCode::OK, "application/json", v.to_string())
}

async fn answer(cx: &Cx, rights: Option<&Rights>, r: Request<Incoming>) -> Response<Body> {
    let allowed = match rights {
        Some(rights) => rights.check(&cx.node, r.method(), r.uri().path()).await,
        None => Ok(()),
    };
    let answered = match allowed {
        Ok(()) => route(cx, r).await,
        Err(e) => Err(e),
    };
    match answered {
        Ok(r) => r,
        Err(e) => {
            let mut r = full(e.code, "text/plain; charset=utf-8", e.message + "\n");
            for (k, v) in e.headers {
                if let Ok(v) = header::HeaderValue::from_str(&v) {
                    r.headers_mut().insert(k, v);
                }
            }
            r
        }
    }
}

/// Decoded query parameters, in order.
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(q: &str) -> Self {
        let plain = |s: &str| {
            let s = s.replace('+', " ");
            percent_encoding::percent_decode_str(&s).decode_utf8_lossy().into_owned()
        };
        let pairs = q.split('&').filter(|p| !p.is_empty()).map(|p| {
            let (k, v) = p.split_once('=').unwrap_or((p, ""));
            (plain(k), plain(v))
        });
        Self(pairs.collect())
    }
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
    pub fn all(&self, key: &str) -> Vec<String> {
        self.0.iter().filter(|(k, _)| k == key).map(|(_, v)| v.clone()).collect()
    }
    pub fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Some("1" | "true" | "True" | "TRUE" | "t"))
    }
    pub fn number(&self, key: &str) -> Option<i64> {
        self.get(key).and_then(|v| v.parse().ok())
    }
}

/// `/{verb}/{namespace}/{pod}[/{uid}][/{container}]`
fn pod(cx: &Cx, ns: &str, name: &str) -> Result<Snapshot, Refused> {
    cx.workers.find(ns, name).ok_or_else(|| Refused::not_found(format!("pod \"{name}\" not found")))
}

async fn route(cx: &Cx, r: Request<Incoming>) -> Result<Response<Body>, Refused> {
    let path = r.uri().path().to_owned();
    let query = Query::parse(r.uri().query().unwrap_or_default());
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let get = r.method() == Method::GET;
    match parts.as_slice() {
        ["healthz" | "livez" | "readyz", ..] if get => {
            Ok(full(StatusCode::OK, "text/plain; charset=utf-8", "ok"))
        }
        ["pods" | "runningpods"] if get => Ok(json_body(&pods(cx))),
        ["configz"] if get => Ok(json_body(&configz(cx))),
        ["stats", "summary"] if get => Ok(json_body(&stats::summary(cx).await)),
        ["metrics"] if get => {
            Ok(full(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", stats::metrics(cx)))
        }
        ["metrics", "resource"] if get => {
            Ok(full(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", resource::metrics(cx).await))
        }
        ["metrics", "cadvisor" | "probes"] if get => {
            Ok(full(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", ""))
        }
        ["containerLogs", ns, name, container] if get => {
            logs::serve(cx, &pod(cx, ns, name)?, container, &query)
        }
        ["exec", ns, name, container] | ["exec", ns, name, _, container] => {
            remote::exec(cx, r, &pod(cx, ns, name)?, container, &query)
        }
        ["attach", ns, name, container] | ["attach", ns, name, _, container] => {
            remote::attach(cx, r, &pod(cx, ns, name)?, container, &query)
        }
        ["run", ns, name, container] | ["run", ns, name, _, container] if r.method() == Method::POST => {
            remote::run(cx, &pod(cx, ns, name)?, container, &query).await
        }
        ["portForward", ns, name] | ["portForward", ns, name, _] => {
            port_forward::serve(cx, r, &pod(cx, ns, name)?, &query)
        }
        _ => Err(Refused::not_found("404 page not found")),
    }
}

fn pods(cx: &Cx) -> Value {
    let items: Vec<Value> = cx
        .workers
        .all()
        .into_iter()
        .map(|s| json!({"metadata": s.pod.metadata, "spec": s.pod.spec, "status": s.status}))
        .collect();
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
}

fn configz(cx: &Cx) -> Value {
    let c = &cx.node.cfg;
    json!({"kubeletconfig": {
        "kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "clusterDNS": c.cluster_dns.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "clusterDomain": c.cluster_domain, "maxPods": c.max_pods, "cgroupDriver": "cgroupfs",
        "cgroupRoot": c.cgroup_root, "seccompDefault": c.seccomp_default, "port": c.port,
        "staticPodPath": c.static_pod_dir.as_ref().map(|p| p.to_string_lossy().into_owned()).unwrap_or_default(),
        "nodeStatusReportFrequency": "5m0s", "nodeStatusUpdateFrequency": "10s", "nodeLeaseDurationSeconds": 40,
        "imageGCHighThresholdPercent": c.image_gc.high_percent, "imageGCLowThresholdPercent": c.image_gc.low_percent,
        "containerLogMaxSize": c.log_max_bytes.to_string(), "containerLogMaxFiles": c.log_max_files,
        "evictionHard": {"memory.available": c.eviction.memory.to_string(),
            "nodefs.available": c.eviction.nodefs.to_string(),
            "imagefs.available": c.eviction.imagefs.to_string(),
            "nodefs.inodesFree": c.eviction.nodefs_inodes.to_string()},
    }})
}

/// The running container of that name.
pub fn running(shot: &Snapshot, container: &str) -> Result<String, Refused> {
    let st = crate::pod_worker::plan::newest(&shot.containers, container);
    match st {
        Some(s) if s.state == cri::ContainerState::Running => Ok(s.id.clone()),
        _ => Err(Refused::not_found(format!("container not found (\"{container}\")"))),
    }
}

#[cfg(test)]
mod tests;
