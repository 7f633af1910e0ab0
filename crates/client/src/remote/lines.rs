//! Watch events as they come over the wire: JSON, one a line. What is read ahead is bounded by one line. Spawns nothing.

use api::{Object, Reason, Status};
use bytes::{Buf, BytesMut};
use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::transport::{WatchEvent, WatchStream};

/// The largest event; an object of the API is far smaller.
const LARGEST: usize = 16 << 20;

#[derive(Deserialize)]
struct Line<'a> {
    r#type: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// Reads one line.
pub fn event(line: &[u8]) -> Result<WatchEvent, Status> {
    let broken = |e: &dyn std::fmt::Display| Status::internal(format!("a watch event can't be read: {e}"));
    let line: Line<'_> = serde_json::from_slice(line).map_err(|e| broken(&e))?;
    let raw = line.object.get().as_bytes();
    if raw.first() != Some(&b'{') {
        return Err(broken(&"it holds no object"));
    }
    let object = || Object::from_wire(raw).map_err(|e| broken(&e));
    Ok(match line.r#type.as_str() {
        "ADDED" => WatchEvent::Added(object()?),
        "MODIFIED" => WatchEvent::Modified(object()?),
        "DELETED" => WatchEvent::Deleted(object()?),
        "BOOKMARK" => {
            let v: Value = serde_json::from_slice(raw).map_err(|e| broken(&e))?;
            let metadata = &v["metadata"];
            let revision = metadata["resourceVersion"].as_str().and_then(|r| r.parse().ok());
            WatchEvent::Bookmark {
                revision: revision.ok_or_else(|| broken(&"a bookmark without a resourceVersion"))?,
                initial_events_end: metadata["annotations"]["k8s.io/initial-events-end"] == "true",
            }
        }
        "ERROR" => WatchEvent::Error(Status::from_wire(Reason::InternalError.code(), raw)),
        other => return Err(broken(&format!("its type is {other:?}"))),
    })
}

struct Reader {
    body: Incoming,
    buffer: BytesMut,
    /// How much of the buffer holds no end of a line.
    searched: usize,
    over: bool,
}

impl Reader {
    /// The next event; `None` when the server ended the watch, or the connection was lost.
    async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            if self.over {
                return None;
            }
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(self.searched + at);
                self.buffer.advance(1);
                self.searched = 0;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                let event = event(&line).unwrap_or_else(WatchEvent::Error);
                self.over = matches!(event, WatchEvent::Error(_));
                return Some(event);
            }
            self.searched = self.buffer.len();
            if self.searched > LARGEST {
                self.over = true;
                let why = format!("a watch event is larger than {LARGEST} bytes");
                return Some(WatchEvent::Error(Status::internal(why)));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(e)) => {
                    tracing::debug!(error = %e, "a watch was cut off");
                    self.over = true;
                }
                None => self.over = true,
            }
        }
    }
}

pub fn events(body: Incoming) -> WatchStream {
    let reader = Reader { body, buffer: BytesMut::new(), searched: 0, over: false };
    stream::unfold(reader, |mut r| async move { r.next().await.map(|e| (e, r)) }).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read() {
        let object = r#"{"metadata":{"name":"a","resourceVersion":"7"}}"#;
        let read = |t: &str, o: &str| event(format!(r#"{{"type":"{t}","object":{o}}}"#).as_bytes());
        assert!(matches!(read("ADDED", object), Ok(WatchEvent::Added(o)) if o.revision() == 7));
        assert!(matches!(read("MODIFIED", object), Ok(WatchEvent::Modified(o)) if o.name() == "a"));
        assert!(matches!(read("DELETED", object), Ok(WatchEvent::Deleted(_))));
        assert!(matches!(
            read("BOOKMARK", object),
            Ok(WatchEvent::Bookmark { revision: 7, initial_events_end: false })
        ));
        let last =
            r#"{"metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}}}"#;
        assert!(matches!(
            read("BOOKMARK", last),
            Ok(WatchEvent::Bookmark { revision: 9, initial_events_end: true })
        ));
        let gone = Status::expired("too old").to_value().to_string();
        assert!(matches!(read("ERROR", &gone), Ok(WatchEvent::Error(s)) if s.is_gone()));
        for (kind, object) in [("ADDED", "[]"), ("BOOKMARK", "{}"), ("OTHER", "{}"), ("ADDED", "{")] {
            assert!(read(kind, object).is_err(), "{kind} {object}");
        }
        assert!(event(b"").is_err() && event(b"\xff").is_err());
    }
}
