//! Answers on their way out: shared objects inside the server, bytes on the wire. The in-process transport takes the
//! shared form; the listener encodes it, here and nowhere else.

use std::convert::Infallible;
use std::io::Write as _;

use api::{Object, Status};
use bytes::Bytes;
use client::{ObjectList, WatchEvent, WatchStream};
use futures::StreamExt;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};

use crate::lines::{self, Form};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type WireBody = UnsyncBoxBody<Bytes, BoxError>;

/// A list with what its envelope says.
pub struct ListBody {
    pub list: ObjectList,
    pub api_version: String,
    /// `PodList`.
    pub kind: String,
}

pub struct WatchBody {
    pub events: WatchStream,
    pub api_version: String,
    /// Kind of the objects, for bookmarks.
    pub kind: String,
}

pub enum Body {
    Bytes(Bytes),
    Object(Object),
    List(ListBody),
    Watch(WatchBody),
    /// Logs, proxied answers, encoded watches.
    Stream(WireBody),
}

pub type Reply = Response<Body>;

pub const JSON: &str = "application/json";
pub const TEXT: &str = "text/plain; charset=utf-8";

/// Above this, a client that can take gzip gets it.
const GZIP_FROM: usize = 128 * 1024;
const CHUNK: usize = 256 * 1024;

fn with(code: StatusCode, content_type: &'static str, body: Body) -> Reply {
    let mut r = Response::new(body);
    *r.status_mut() = code;
    if !content_type.is_empty() {
        r.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    r
}

pub fn bytes(code: StatusCode, content_type: &'static str, b: impl Into<Bytes>) -> Reply {
    with(code, content_type, Body::Bytes(b.into()))
}

pub fn text(code: StatusCode, s: impl Into<String>) -> Reply {
    bytes(code, TEXT, s.into())
}

pub fn json_value(code: StatusCode, v: &Value) -> Reply {
    bytes(code, JSON, serde_json::to_vec(v).unwrap_or_default())
}

pub fn object(code: StatusCode, o: Object) -> Reply {
    with(code, JSON, Body::Object(o))
}

pub fn list(l: ListBody) -> Reply {
    with(StatusCode::OK, JSON, Body::List(l))
}

pub fn watch(w: WatchBody) -> Reply {
    with(StatusCode::OK, JSON, Body::Watch(w))
}

pub fn status(s: &Status) -> Reply {
    let code = StatusCode::from_u16(s.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut r = json_value(code, &s.to_value());
    retry_after(&mut r, s);
    r
}

pub fn retry_after(r: &mut Reply, s: &Status) {
    if s.retry_after_seconds > 0 {
        r.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(s.retry_after_seconds));
    }
}

/// `Status` of a request that worked and has nothing else to say.
pub fn success(details: Value) -> Value {
    let mut v = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    if !details.is_null() {
        v["details"] = details;
    }
    v
}

fn list_head(l: &ListBody) -> Vec<u8> {
    let mut meta = serde_json::Map::new();
    meta.insert("resourceVersion".into(), json!(l.list.revision.to_string()));
    if !l.list.continue_token.is_empty() {
        meta.insert("continue".into(), json!(l.list.continue_token));
    }
    if let Some(n) = l.list.remaining {
        meta.insert("remainingItemCount".into(), json!(n));
    }
    format!(
        "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{},\"items\":[",
        json!(l.kind),
        json!(l.api_version),
        Value::Object(meta)
    )
    .into_bytes()
}

/// A list as chunks of bytes; no more than one chunk exists beside the objects.
fn list_chunks(l: ListBody) -> impl Iterator<Item = Bytes> + Send {
    let mut buf = list_head(&l);
    let mut items = l.list.items.into_iter();
    let (mut first, mut done) = (true, false);
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        while buf.len() < CHUNK {
            match items.next() {
                Some(o) => {
                    if !first {
                        buf.push(b',');
                    }
                    first = false;
                    o.write_json(&mut buf);
                }
                None => {
                    buf.extend_from_slice(b"]}\n");
                    done = true;
                    break;
                }
            }
        }
        Some(Bytes::from(std::mem::take(&mut buf)))
    })
}

/// One watch event as a line.
pub fn event_line(e: &WatchEvent, api_version: &str, kind: &str) -> Bytes {
    let put = |word: &'static str, o: &Object| {
        lines::shared(o, word, Form::Json, || {
            framed(word, o.stored_bytes().len() + 96, |out| o.write_json(out))
        })
    };
    match e {
        WatchEvent::Added(o) => put("ADDED", o),
        WatchEvent::Modified(o) => put("MODIFIED", o),
        WatchEvent::Deleted(o) => put("DELETED", o),
        WatchEvent::Bookmark { revision, initial_events_end } => {
            value_line("BOOKMARK", &bookmark(*revision, *initial_events_end, api_version, kind))
        }
        WatchEvent::Error(s) => value_line("ERROR", &s.to_value()),
    }
}

pub fn value_line(word: &str, object: &Value) -> Bytes {
    format!("{{\"type\":\"{word}\",\"object\":{object}}}\n").into_bytes().into()
}

/// As `value_line`, for an object that is encoded already.
pub fn raw_line(word: &str, object: &[u8]) -> Bytes {
    framed(word, object.len() + 40, |out| out.extend_from_slice(object))
}

fn framed(word: &str, size: usize, put: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::with_capacity(size);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(word.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    put(&mut out);
    out.extend_from_slice(b"}\n");
    out.into()
}

pub fn bookmark(revision: u64, initial_end: bool, api_version: &str, kind: &str) -> Value {
    let mut v = json!({"kind": kind, "apiVersion": api_version, "metadata": {"resourceVersion": revision.to_string()}});
    if initial_end {
        v["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    v
}

fn full(b: impl Into<Bytes>) -> WireBody {
    Full::new(b.into()).map_err(|e: Infallible| match e {}).boxed_unsync()
}

pub fn stream<S, E>(s: S) -> WireBody
where
    S: futures::Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    StreamBody::new(s.map(|r| r.map(Frame::data).map_err(Into::into))).boxed_unsync()
}

fn zip(b: &[u8]) -> Option<Vec<u8>> {
    let mut z = flate2::write::GzEncoder::new(Vec::with_capacity(b.len() / 4), flate2::Compression::new(1));
    z.write_all(b).ok()?;
    z.finish().ok()
}

/// Turns an answer into what goes over the wire.
pub fn encode(reply: Reply, accepts_gzip: bool) -> Response<WireBody> {
    let (mut parts, body) = reply.into_parts();
    let whole = |parts: &mut http::response::Parts, b: Bytes| {
        if accepts_gzip
            && b.len() >= GZIP_FROM
            && let Some(z) = zip(&b)
        {
            parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            parts.headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
            return full(z);
        }
        full(b)
    };
    let body = match body {
        Body::Bytes(b) => whole(&mut parts, b),
        Body::Object(o) => {
            let mut b = o.to_json();
            b.push(b'\n');
            whole(&mut parts, b.into())
        }
        Body::List(l) => {
            let mut sizes = l.list.items.iter().map(|o| o.stored_bytes().len());
            let is_small = sizes.try_fold(0, |sum, n| Some(sum + n).filter(|s| *s < CHUNK)).is_some();
            if is_small {
                let all: Vec<u8> = list_chunks(l).flatten().collect();
                whole(&mut parts, all.into())
            } else if accepts_gzip {
                parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                parts.headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
                stream(futures::stream::iter(zip_chunks(list_chunks(l)).map(Ok::<_, Infallible>)))
            } else {
                stream(futures::stream::iter(list_chunks(l).map(Ok::<_, Infallible>)))
            }
        }
        Body::Watch(w) => {
            let WatchBody { events, api_version, kind } = w;
            stream(events.map(move |e| Ok::<_, Infallible>(event_line(&e, &api_version, &kind))))
        }
        Body::Stream(s) => s,
    };
    Response::from_parts(parts, body)
}

fn zip_chunks(chunks: impl Iterator<Item = Bytes> + Send) -> impl Iterator<Item = Bytes> + Send {
    let mut z = Some(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1)));
    let mut chunks = chunks;
    std::iter::from_fn(move || {
        loop {
            let enc = z.as_mut()?;
            match chunks.next() {
                Some(c) => {
                    // Writing into memory does not fail.
                    let _ = enc.write_all(&c);
                    let out = std::mem::take(enc.get_mut());
                    if !out.is_empty() {
                        return Some(Bytes::from(out));
                    }
                }
                None => return z.take().and_then(|e| e.finish().ok()).map(Bytes::from),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn obj(n: usize) -> Object {
        Object::from_value(json!({"metadata": {"name": format!("n{n}")}, "pad": "x".repeat(1000)}), 3)
            .expect("object")
    }

    async fn collect(r: Response<WireBody>) -> Vec<u8> {
        r.into_body().collect().await.expect("body").to_bytes().to_vec()
    }

    #[tokio::test]
    async fn lists_small_large_and_zipped_are_the_same_json() {
        for n in [0usize, 1, 3, 900] {
            for gz in [false, true] {
                let l = ListBody {
                    list: ObjectList { items: (0..n).map(obj).collect(), revision: 9, ..Default::default() },
                    api_version: "v1".into(),
                    kind: "XList".into(),
                };
                let r = encode(list(l), gz);
                let zipped = r.headers().contains_key(header::CONTENT_ENCODING);
                let mut raw = collect(r).await;
                if zipped {
                    let mut out = Vec::new();
                    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&raw[..]), &mut out)
                        .expect("gzip");
                    raw = out;
                }
                let v: Value = serde_json::from_slice(&raw).expect("json");
                assert_eq!(v["items"].as_array().map(Vec::len), Some(n));
                assert_eq!(v["metadata"]["resourceVersion"], "9");
            }
        }
    }

    #[test]
    fn event_lines() {
        let line = event_line(&WatchEvent::Added(obj(1)), "v1", "X");
        let v: Value = serde_json::from_slice(&line).expect("json");
        assert_eq!(
            (v["type"].as_str(), v["object"]["metadata"]["resourceVersion"].as_str()),
            (Some("ADDED"), Some("3"))
        );
        let line = event_line(&WatchEvent::Bookmark { revision: 5, initial_events_end: true }, "v1", "X");
        let v: Value = serde_json::from_slice(&line).expect("json");
        assert_eq!(v["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    }
}
