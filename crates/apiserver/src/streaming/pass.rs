//! Passing a request on to a kubelet or a backend: one HTTP/1.1 exchange on a fresh connection, upgraded if both sides
//! want that.

use api::{Reason, Status};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use super::{AsyncReadWrite, target as place};
use crate::body::{self, Body, BoxError, Reply, WireBody};
use crate::call::{BodySource, Call};
use crate::handlers::Target;
use crate::server::ApiServer;

/// Most of a backend's error that is repeated to the client.
const ERROR_BYTES: usize = 4096;

pub fn unreachable(what: &str, e: impl std::fmt::Display) -> Status {
    let mut s = Status::new(Reason::ServiceUnavailable, format!("error trying to reach {what}: {e}"));
    s.retry_after_seconds = 1;
    s
}

async fn pod(s: &ApiServer, call: &Call, target: &Target) -> Result<Value, Status> {
    let o = s.storage.get(&target.key(call.namespace(), call.name())).await?;
    o.ok_or_else(|| target.not_found(call.name()))?.value().map_err(Status::internal)
}

pub async fn kubelet(s: &ApiServer, node: &str) -> Result<Box<dyn AsyncReadWrite>, Status> {
    let Some(nodes) = &s.nodes else {
        return Err(unreachable(&format!("node {node}"), "this server has no way to nodes"));
    };
    nodes.connect(node).await.map_err(|e| unreachable(&format!("node {node}"), e))
}

/// pods/log.
pub async fn log(s: &ApiServer, call: Call, target: &Target) -> Result<Reply, Status> {
    let pod = pod(s, &call, target).await?;
    let query = place::log_query(&call.query, call.name())?;
    let container = place::container(&pod, call.query.get("container").unwrap_or_default())?;
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if node.is_empty() {
        // Nothing has run, so there is nothing to show.
        return Ok(body::text(StatusCode::OK, ""));
    }
    let path = format!("/containerLogs/{}/{}/{container}{query}", call.namespace(), call.name());
    let io = kubelet(s, node).await?;
    let request = request(Method::GET, &path, node, HeaderMap::new(), empty())?;
    let response = exchange(io, request, &format!("node {node}")).await?;
    let (parts, incoming) = response.into_parts();
    if !parts.status.is_success() {
        return Err(repeat_error(parts.status, incoming).await);
    }
    let mut r = Reply::new(Body::Stream(incoming.map_err(|e| Box::new(e) as BoxError).boxed_unsync()));
    r.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(r)
}

/// exec, attach and port-forward.
pub async fn stream(s: &ApiServer, call: Call, target: &Target, sub: &str) -> Result<Reply, Status> {
    let pod = pod(s, &call, target).await?;
    let (ns, name) = (call.namespace().to_owned(), call.name().to_owned());
    let path = match sub {
        "portforward" => {
            let ports: Vec<(&str, &str)> = call.query.all("ports").map(|p| ("ports", p)).collect();
            format!("/portForward/{ns}/{name}{}", place::query(&ports))
        }
        _ => {
            let container = place::container(&pod, call.query.get("container").unwrap_or_default())?;
            format!("/{sub}/{ns}/{name}/{container}{}", place::stream_query(&call.query, sub)?)
        }
    };
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
    }
    if call.upgrade.is_none() {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let io = kubelet(s, &node).await?;
    forward(call, io, &path, &node, &format!("node {node}")).await
}

pub fn empty() -> WireBody {
    Full::new(Bytes::new()).map_err(|e: std::convert::Infallible| match e {}).boxed_unsync()
}

fn request(
    method: Method,
    path: &str,
    host: &str,
    mut headers: HeaderMap,
    body: WireBody,
) -> Result<Request<WireBody>, Status> {
    if let Ok(h) = HeaderValue::from_str(host) {
        headers.insert(header::HOST, h);
    }
    let mut r = Request::builder()
        .method(method)
        .uri(path)
        .body(body)
        .map_err(|e| Status::bad_request(format!("the path {path:?} can't be passed on: {e}")))?;
    *r.headers_mut() = headers;
    Ok(r)
}

async fn exchange(
    io: Box<dyn AsyncReadWrite>,
    request: Request<WireBody>,
    what: &str,
) -> Result<http::Response<hyper::body::Incoming>, Status> {
    let (mut sender, conn) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(|e| unreachable(what, e))?;
    tokio::spawn(async move {
        if let Err(e) = conn.with_upgrades().await {
            tracing::debug!(error = %e, "a passed-on connection ended");
        }
    });
    sender.send_request(request).await.map_err(|e| unreachable(what, e))
}

/// What a kubelet says at a path, whole.
pub async fn read(s: &ApiServer, node: &str, path: &str, limit: usize) -> Result<Bytes, Status> {
    let what = format!("node {node}");
    let io = kubelet(s, node).await?;
    let request = request(Method::GET, path, node, HeaderMap::new(), empty())?;
    let (parts, incoming) = exchange(io, request, &what).await?.into_parts();
    if !parts.status.is_success() {
        return Err(repeat_error(parts.status, incoming).await);
    }
    let body = http_body_util::Limited::new(incoming, limit).collect().await;
    body.map(|b| b.to_bytes()).map_err(|e| unreachable(&what, e))
}

/// A backend's refusal, in our form.
async fn repeat_error(code: StatusCode, body: hyper::body::Incoming) -> Status {
    let text = match http_body_util::Limited::new(body, ERROR_BYTES).collect().await {
        Ok(b) => String::from_utf8_lossy(&b.to_bytes()).trim().to_owned(),
        Err(_) => String::new(),
    };
    let parsed = Status::from_wire(code.as_u16(), text.as_bytes());
    if parsed.reason != Reason::Unknown {
        return parsed;
    }
    let reason = match code.as_u16() {
        400 => Reason::BadRequest,
        401 => Reason::Unauthorized,
        403 => Reason::Forbidden,
        404 => Reason::NotFound,
        409 => Reason::Conflict,
        429 => Reason::TooManyRequests,
        503 => Reason::ServiceUnavailable,
        504 => Reason::Timeout,
        _ => Reason::InternalError,
    };
    let mut s = Status::new(reason, if text.is_empty() { format!("the node answered {code}") } else { text });
    s.code = code.as_u16();
    s
}

/// Headers that belong to one hop.
const HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub fn passed_headers(headers: &HeaderMap, upgrade: bool) -> HeaderMap {
    let mut out = HeaderMap::new();
    for (k, v) in headers {
        let hop = HOP.contains(&k.as_str()) && !(upgrade && matches!(k.as_str(), "connection" | "upgrade"));
        if !hop && k != header::HOST && k != header::CONTENT_LENGTH {
            out.append(k, v.clone());
        }
    }
    out
}

/// Headers and body of a client's request as they go on; the body is not read here.
pub fn forwarded_body(call: &mut Call) -> (HeaderMap, WireBody) {
    let upgrade = call.upgrade.is_some();
    let mut headers = passed_headers(&call.headers, upgrade);
    if let Some(a) = call.peer.address
        && let Ok(v) = HeaderValue::from_str(&a.ip().to_string())
    {
        headers.append("x-forwarded-for", v);
    }
    let body = match call.source.take() {
        Some(BodySource::Incoming(i)) if !upgrade => {
            if let Some(l) = call.headers.get(header::CONTENT_LENGTH) {
                headers.insert(header::CONTENT_LENGTH, l.clone());
            }
            i.map_err(|e| Box::new(e) as BoxError).boxed_unsync()
        }
        Some(BodySource::Bytes(b)) if !upgrade => {
            Full::new(b).map_err(|e: std::convert::Infallible| match e {}).boxed_unsync()
        }
        _ => empty(),
    };
    (headers, body)
}

/// Sends the client's request over `io` and its answer back, upgraded if both agree.
pub async fn forward(
    mut call: Call,
    io: Box<dyn AsyncReadWrite>,
    path: &str,
    host: &str,
    what: &str,
) -> Result<Reply, Status> {
    let (headers, body) = forwarded_body(&mut call);
    let client = call.upgrade.take();
    let request = request(call.method.clone(), path, host, headers, body)?;
    let mut response = exchange(io, request, what).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client) = client else {
            return Err(Status::internal(format!("{what} switched protocols unasked")));
        };
        let backend = hyper::upgrade::on(&mut response);
        let mut reply = Reply::new(Body::Bytes(Bytes::new()));
        *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *reply.headers_mut() = response.headers().clone();
        let what = what.to_owned();
        tokio::spawn(async move {
            match tokio::try_join!(client, backend) {
                Ok((a, b)) => {
                    let (mut a, mut b) = (TokioIo::new(a), TokioIo::new(b));
                    if let Err(e) = tokio::io::copy_bidirectional(&mut a, &mut b).await {
                        tracing::debug!(what, error = %e, "stream ended");
                    }
                }
                Err(e) => tracing::debug!(what, error = %e, "upgrade failed"),
            }
        });
        return Ok(reply);
    }
    let (parts, incoming) = response.into_parts();
    let headers = passed_headers(&parts.headers, false);
    let mut reply = Reply::new(Body::Stream(incoming.map_err(|e| Box::new(e) as BoxError).boxed_unsync()));
    *reply.status_mut() = parts.status;
    *reply.headers_mut() = headers;
    if let Some(l) = parts.headers.get(header::CONTENT_LENGTH) {
        reply.headers_mut().insert(header::CONTENT_LENGTH, l.clone());
    }
    Ok(reply)
}
