//! The filter chain, top to bottom. Every request of every transport passes `handle`, and every error leaves it as a
//! Status. Spawns nothing.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::{Reason, Status};
use bytes::Bytes;
use client::LocalIdentity;
use futures::FutureExt;
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use tokio::time::Instant;

use crate::authz::Attributes;
use crate::body::{self, Reply};
use crate::call::{BODY_LIMIT, BodySource, Call, Peer, Warnings};
use crate::metrics::{Key, Labels};
use crate::request_info::{Query, RequestInfo};
use crate::server::ApiServer;
use crate::{aggregation, authn, flow, handlers, impersonation, nonresource};

/// Time that a request without an own timeout gets.
const DEADLINE: Duration = Duration::from_secs(60);

/// Streams and watches: they may take for ever, hold no seat, and are not timed out.
pub fn is_long_running(info: &RequestInfo) -> bool {
    info.verb == "watch"
        || info.verb == "proxy"
        || matches!(info.subresource.as_str(), "attach" | "exec" | "proxy" | "log" | "portforward")
}

pub async fn handle(s: &ApiServer, parts: Parts, body: BodySource, peer: Peer) -> Reply {
    let started = Instant::now();
    let info = RequestInfo::parse(&parts.method, parts.uri.path(), parts.uri.query().unwrap_or_default());
    let long = is_long_running(&info);
    let labels = labels(s, &info, parts.method.as_str());
    // Request id: every log line and audit event of this request carries it; a client may choose it.
    let audit_id = match parts.headers.get("audit-id").and_then(|v| v.to_str().ok()) {
        Some(id) if !id.is_empty() && id.len() <= 64 => id.to_owned(),
        _ => uuid::Uuid::new_v4().to_string(),
    };
    let warnings = Arc::new(Warnings::default());
    let flow_names = parking_lot::Mutex::new(("", ""));
    let local = peer.local;
    let accept = parts.headers.get(header::ACCEPT).cloned();

    let inner = filters(s, parts, body, peer, info, audit_id.clone(), warnings.clone(), &flow_names);
    // Panic guard, outermost: a bug in one request answers 500 and ends nothing else.
    let guarded = AssertUnwindSafe(inner).catch_unwind();
    let result = match guarded.await {
        Ok(r) => r,
        Err(panic) => {
            let why = panic
                .downcast_ref::<&str>()
                .map(|s| (*s).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            tracing::error!(audit_id, why, "request panicked");
            Err(Status::internal("This request caused apiserver to panic. Look in the logs for details."))
        }
    };
    let accept = accept.as_ref().and_then(|v| v.to_str().ok()).unwrap_or_default();
    let mut reply = result.unwrap_or_else(|s| handlers::output::failure(&s, accept));

    let code = reply.status().as_u16();
    s.metrics.request(labels, code, (!long).then(|| started.elapsed()));
    if code >= 500 {
        tracing::warn!(audit_id, code, took_ms = started.elapsed().as_millis() as u64, "request failed");
    }
    if local && reply.status().as_u16() < 400 {
        // Nobody reads headers in process.
        return reply;
    }
    let h = reply.headers_mut();
    if let Ok(v) = HeaderValue::from_str(&audit_id) {
        h.insert("audit-id", v);
    }
    h.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
    let (schema, level) = *flow_names.lock();
    let (schema, level) = s.flow.uids(schema, level);
    if let (Some(schema), Some(level)) = (schema, level) {
        h.insert("x-kubernetes-pf-flowschema-uid", schema);
        h.insert("x-kubernetes-pf-prioritylevel-uid", level);
    }
    for w in warnings.take() {
        let text = w.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ");
        if let Ok(v) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            h.append(header::WARNING, v);
        }
    }
    reply
}

async fn filters(
    s: &ApiServer,
    mut parts: Parts,
    body: BodySource,
    peer: Peer,
    info: RequestInfo,
    audit_id: String,
    warnings: Arc<Warnings>,
    flow_names: &parking_lot::Mutex<(&'static str, &'static str)>,
) -> Result<Reply, Status> {
    // Draining: new work on kept connections goes elsewhere; what runs is finished.
    if s.is_stopping() && !peer.local && info.is_resource {
        let mut st =
            Status::new(Reason::TooManyRequests, "The apiserver is shutting down, please try again later.");
        st.retry_after_seconds = 1;
        return Err(st);
    }

    // Authentication: who is it? In-process callers carry an identity that no socket can forge.
    let identity = parts.extensions.get::<LocalIdentity>().filter(|_| peer.local);
    let mut user = s.authn.authenticate(identity, &peer.identity, &parts.headers, parts.uri.path()).await?;
    // The credential has done its work; nothing behind this line (proxies above all) may see it.
    authn::strip(&mut parts.headers);
    aggregation::strip(&mut parts.headers);

    // Impersonation comes before authorization: from here on the request is judged as the other user's.
    if let Some(other) = impersonation::apply(s, &user, &parts.headers).await? {
        user = Arc::new(other);
    }
    impersonation::strip(&mut parts.headers);

    // Priority and fairness stand before the costly layers, so that overload is turned away cheaply.
    let (schema, level) = flow::classify(&user, &info);
    *flow_names.lock() = (schema, level);
    let long = is_long_running(&info);
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let deadline = if long { None } else { Some(deadline(&query)?) };
    let patience = deadline.unwrap_or(DEADLINE) / 4;
    let seat = match s.flow.enter(level, info.is_read_only(), patience).await {
        Ok(seat) => seat,
        Err(st) => {
            s.metrics.terminated(st.code);
            return Err(st);
        }
    };
    let gauge = match (long, info.is_read_only()) {
        (true, _) => &s.metrics.long_running,
        (false, true) => &s.metrics.in_flight_read,
        (false, false) => &s.metrics.in_flight_write,
    };
    gauge.fetch_add(1, Ordering::Relaxed);
    let _count = Counted(gauge);

    // Authorization: may this user do that?
    s.authorizer.check(&Attributes::new(&user, &info)).await?;

    let upgrade = parts
        .headers
        .contains_key(header::UPGRADE)
        .then(|| parts.extensions.remove::<hyper::upgrade::OnUpgrade>())
        .flatten();
    let mut call = Call {
        info,
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        query,
        user,
        peer,
        audit_id,
        warnings,
        body: Bytes::new(),
        source: Some(body),
        upgrade,
    };
    // What another API server answers goes there, its body unread.
    let remote = s.aggregation.find(call.uri.path());
    let work = async move {
        if let Some(remote) = remote {
            return aggregation::proxy::handle(s, call, remote).await;
        }
        if !long && let Some(source) = call.source.take() {
            call.body = source.read(BODY_LIMIT).await?;
        }
        // The store learns of a write before it is ready, so that writes that come together share an fsync.
        let _coming = (!long && !call.info.is_read_only()).then(|| s.storage.store().coming());
        if call.info.is_resource {
            handlers::dispatch(s, call).await
        } else {
            nonresource::dispatch(s, call).await
        }
    };
    // Deadline last: it covers reading the body and the work, not a stream that was begun.
    let reply = match deadline {
        None => Box::pin(work).await,
        Some(d) => match tokio::time::timeout(d, Box::pin(work)).await {
            Ok(r) => r,
            Err(_) => {
                s.metrics.terminated(504);
                Err(Status::new(
                    Reason::Timeout,
                    "Timeout: request did not complete within the allotted timeout",
                ))
            }
        },
    };
    drop(seat);
    reply
}

struct Counted<'a>(&'a std::sync::atomic::AtomicI64);
impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `timeout=10s`, cut to the server's own limit.
fn deadline(q: &Query) -> Result<Duration, Status> {
    let Some(t) = q.get("timeout").filter(|t| !t.is_empty()) else { return Ok(DEADLINE) };
    let nanos = cel::functions::duration(t).map_err(|why| {
        Status::bad_request(format!("invalid timeout specified in the request URL - {why}"))
    })?;
    Ok(if nanos == 0 { DEADLINE } else { Duration::from_nanos(nanos.try_into().unwrap_or(0)).min(DEADLINE) })
}

fn labels(s: &ApiServer, info: &RequestInfo, method: &str) -> Key {
    let catalog = s.catalog();
    let kind = catalog.by_plural(&info.api_group, &info.resource).filter(|_| info.is_resource);
    // Nothing from the outside becomes a label.
    let known = kind.is_some_and(|k| k.version(&info.api_version).is_some());
    if !known {
        return Labels { verb: known_method(method), ..Labels::default() }.key();
    }
    let verb = match info.verb.as_str() {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" => "POST",
        "update" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "CONNECT",
    };
    const SUBS: [&str; 15] = [
        "status",
        "scale",
        "binding",
        "eviction",
        "token",
        "log",
        "exec",
        "attach",
        "portforward",
        "proxy",
        "finalize",
        "approval",
        "ephemeralcontainers",
        "resize",
        "",
    ];
    Labels {
        verb,
        group: &info.api_group,
        version: &info.api_version,
        resource: &info.resource,
        subresource: if SUBS.contains(&info.subresource.as_str()) { &info.subresource } else { "" },
        scope: match (info.name.is_empty(), info.namespace.is_empty()) {
            (false, _) => "resource",
            (true, false) => "namespace",
            (true, true) => "cluster",
        },
    }
    .key()
}

fn known_method(m: &str) -> &'static str {
    ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
        .into_iter()
        .find(|k| *k == m)
        .unwrap_or("other")
}

/// Answer for paths that nothing serves.
pub fn no_such_path() -> Reply {
    body::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines() {
        let of = |q: &str| deadline(&Query::parse(q));
        assert_eq!(of("timeout=1m30s").expect("a timeout"), DEADLINE.min(Duration::from_secs(90)));
        assert_eq!(of("timeout=500ms").expect("a timeout"), Duration::from_millis(500));
        for none in ["", "timeout=", "timeout=0", "timeout=0s", "timeout=9h"] {
            assert_eq!(of(none).expect("a timeout"), DEADLINE, "{none}");
        }
        assert_eq!(of("timeout=-1s").expect("a timeout"), Duration::ZERO);
        let refused = of("timeout=10").expect_err("no unit");
        assert_eq!(
            (refused.code, refused.message.as_str()),
            (400, "invalid timeout specified in the request URL - time: missing unit in duration \"10\"")
        );
    }
}
