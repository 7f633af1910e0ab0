//! A request for a remote group version on its way there and back: the user goes along in headers, bodies and watches are
//! streamed, upgrades are passed through.

use std::sync::Arc;

use api::{Object, Reason, Status};
use bytes::{Bytes, BytesMut};
use client::{WatchEvent, WatchStream};
use futures::StreamExt;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, BodyStream};
use hyper::body::Incoming;
use serde_json::Value;

use super::{Remote, connect};
use crate::body::{self, Body, BoxError, Reply, WatchBody};
use crate::call::Call;
use crate::server::ApiServer;
use crate::streaming::{forward, forwarded_body, passed_headers};

/// Most of a line of a watch that a caller in this process follows.
const LINE: usize = 8 << 20;

/// As upstream's proxy: plain text, whatever the client accepts.
fn unavailable(why: &str) -> Reply {
    body::text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
}

pub async fn handle(s: &ApiServer, mut call: Call, remote: Arc<Remote>) -> Result<Reply, Status> {
    if !remote.is_available() {
        return Ok(unavailable("service unavailable"));
    }
    let path =
        call.uri.path_and_query().map_or_else(|| call.uri.path().to_owned(), |p| p.as_str().to_owned());
    connect::identify(&mut call.headers, &call.user);
    let b = &remote.backend;
    let reader = s.reader().as_ref();
    if call.upgrade.is_some() {
        let address = match b.resolve(reader).await {
            Ok(a) => a,
            Err(e) => return Ok(refused(&remote, &e)),
        };
        let io = match s.connections.plain(b, &address).await {
            Ok(io) => io,
            Err(e) => return Ok(unavailable(&e)),
        };
        let host = format!("{}:{}", b.server_name(), b.port);
        return forward(call, Box::new(io), &path, &host, &remote.name).await;
    }
    let (watch, local) = (call.info.verb == "watch", call.peer.local);
    let (headers, content) = forwarded_body(&mut call);
    let mut request = Request::builder()
        .method(call.method.clone())
        .uri(&path)
        .body(content)
        .map_err(|e| Status::bad_request(format!("the path {path:?} can't be passed on: {e}")))?;
    *request.headers_mut() = headers;
    let response = match s.connections.send(reader, b, request).await {
        Ok(r) => r,
        Err(e) => return Ok(refused(&remote, &e)),
    };
    let (parts, incoming) = response.into_parts();
    let mut headers: HeaderMap = passed_headers(&parts.headers, false);
    if let Some(l) = parts.headers.get(http::header::CONTENT_LENGTH) {
        headers.insert(http::header::CONTENT_LENGTH, l.clone());
    }
    let content = match watch && local && parts.status.is_success() {
        true => Body::Watch(WatchBody {
            events: events(incoming),
            api_version: String::new(),
            kind: String::new(),
        }),
        false => Body::Stream(incoming.map_err(|e| Box::new(e) as BoxError).boxed_unsync()),
    };
    let mut reply = Reply::new(content);
    *reply.status_mut() = parts.status;
    *reply.headers_mut() = headers;
    Ok(reply)
}

fn refused(remote: &Remote, why: &str) -> Reply {
    tracing::debug!(apiservice = remote.name, why, "a request could not be passed on");
    remote.look.notify_one();
    unavailable(why)
}

/// A watch in JSON lines as events, for callers in this process.
fn events(incoming: Incoming) -> WatchStream {
    let state = (BodyStream::new(incoming), BytesMut::new(), false);
    futures::stream::unfold(state, |(mut frames, mut buffer, over)| async move {
        if over {
            return None;
        }
        loop {
            if let Some(end) = buffer.iter().position(|b| *b == b'\n') {
                let line = buffer.split_to(end + 1);
                let event = event(&line);
                let over = matches!(event, WatchEvent::Error(_));
                return Some((event, (frames, buffer, over)));
            }
            match frames.next().await {
                Some(Ok(f)) => {
                    let data: Bytes = f.into_data().unwrap_or_default();
                    if buffer.len() + data.len() > LINE {
                        let e = Status::internal("an event of a remote watch is too large");
                        return Some((WatchEvent::Error(e), (frames, buffer, true)));
                    }
                    buffer.extend_from_slice(&data);
                }
                _ => return None,
            }
        }
    })
    .boxed()
}

fn event(line: &[u8]) -> WatchEvent {
    let broken = |why: String| WatchEvent::Error(Status::new(Reason::InternalError, why));
    let mut v: Value = match serde_json::from_slice(line) {
        Ok(v) => v,
        Err(e) => return broken(format!("an event of a remote watch can't be read: {e}")),
    };
    let object = v.get_mut("object").map(Value::take).unwrap_or_default();
    let revision = object["metadata"]["resourceVersion"].as_str().and_then(|r| r.parse().ok()).unwrap_or(0);
    let kind = v["type"].as_str().unwrap_or_default();
    match kind {
        "BOOKMARK" => {
            let end = object["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true";
            return WatchEvent::Bookmark { revision, initial_events_end: end };
        }
        "ERROR" => {
            let code = object["code"].as_u64().and_then(|c| u16::try_from(c).ok()).unwrap_or(500);
            return WatchEvent::Error(Status::from_wire(code, object.to_string().as_bytes()));
        }
        _ => {}
    }
    let o = match Object::from_value(object, revision) {
        Ok(o) => o,
        Err(e) => return broken(e.to_string()),
    };
    match kind {
        "ADDED" => WatchEvent::Added(o),
        "MODIFIED" => WatchEvent::Modified(o),
        "DELETED" => WatchEvent::Deleted(o),
        other => broken(format!("an event of a remote watch is of unknown type {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_remote_watch() {
        let line = br#"{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"7"}}}"#;
        assert!(matches!(event(line), WatchEvent::Added(o) if o.name() == "a" && o.revision() == 7));
        let line =
            br#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"old"}}"#;
        assert!(matches!(event(line), WatchEvent::Error(s) if s.code == 410));
        for line in [
            &b"nonsense"[..],
            b"5",
            b"[]",
            b"{}",
            br#"{"type":"ADDED"}"#,
            br#"{"type":"ADDED","object":{"metadata":1}}"#,
        ] {
            assert!(matches!(event(line), WatchEvent::Error(_)), "{line:?}");
        }
        let line = br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#;
        assert!(matches!(event(line), WatchEvent::Bookmark { revision: 9, initial_events_end: false }));
    }
}
