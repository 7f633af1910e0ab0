//! One request on its way through the chain and the handlers.

use std::net::SocketAddr;
use std::sync::Arc;

use api::{Reason, Status};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Uri};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use parking_lot::Mutex;

use crate::request_info::{Query, RequestInfo};
use crate::user::User;

/// Largest body that is read: upstream's limit for objects.
pub const BODY_LIMIT: usize = 3 * 1024 * 1024;
/// Longest name of a field manager.
const MANAGER_BYTES: usize = 128;
/// A client that sends too much is listened to until here, so that it gets to read why it was refused.
const DRAIN_LIMIT: usize = 32 * 1024 * 1024;
/// Warnings beyond this are dropped, as upstream does.
const WARNING_BYTES: usize = 4096;

/// The other end of the connection.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    pub address: Option<SocketAddr>,
    /// What the handshake told about the client; judged once per connection.
    pub identity: crate::authn::Peer,
    /// The caller lives in this process; its identity stands in the extensions.
    pub local: bool,
}

/// A body that may not have been read yet.
pub enum BodySource {
    Bytes(Bytes),
    Incoming(hyper::body::Incoming),
}

impl BodySource {
    pub async fn read(self, limit: usize) -> Result<Bytes, Status> {
        let too_large = || {
            Status::new(Reason::RequestEntityTooLarge, format!("Request entity too large: limit is {limit}"))
        };
        let mut incoming = match self {
            BodySource::Bytes(b) if b.len() > limit => return Err(too_large()),
            BodySource::Bytes(b) => return Ok(b),
            BodySource::Incoming(i) => i,
        };
        let mut first: Option<Bytes> = None;
        let mut all = BytesMut::new();
        let mut size = 0usize;
        while let Some(frame) = incoming.frame().await {
            let frame =
                frame.map_err(|e| Status::bad_request(format!("failed to read the request body: {e}")))?;
            let Ok(data) = frame.into_data() else { continue };
            size += data.len();
            if size > limit {
                drain(incoming, size).await;
                return Err(too_large());
            }
            match first.take() {
                // Most bodies are one frame; they are not copied.
                None if all.is_empty() => first = Some(data),
                None => all.extend_from_slice(&data),
                Some(f) => {
                    all.extend_from_slice(&f);
                    all.extend_from_slice(&data);
                }
            }
        }
        Ok(first.unwrap_or_else(|| all.freeze()))
    }
}

/// Reads on and forgets: an answer given in the middle of a body is lost with the connection.
async fn drain(mut incoming: hyper::body::Incoming, mut size: usize) {
    while let (true, Some(Ok(frame))) = (size <= DRAIN_LIMIT, incoming.frame().await) {
        size += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// Texts for `Warning` headers, in order and without repetition.
#[derive(Default)]
pub struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    pub fn add(&self, text: impl Into<String>) {
        let text = text.into();
        let mut all = self.0.lock();
        let used: usize = all.iter().map(String::len).sum();
        if !text.is_empty() && !all.contains(&text) && used + text.len() <= WARNING_BYTES {
            all.push(text);
        }
    }
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

pub struct Call {
    pub info: RequestInfo,
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub query: Query,
    pub user: Arc<User>,
    pub peer: Peer,
    pub audit_id: String,
    pub warnings: Arc<Warnings>,
    /// Empty until read; streaming handlers take `source` instead.
    pub body: Bytes,
    pub source: Option<BodySource>,
    pub upgrade: Option<OnUpgrade>,
}

impl Call {
    pub fn namespace(&self) -> &str {
        &self.info.namespace
    }
    pub fn name(&self) -> &str {
        &self.info.name
    }
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// The namespace that a body of this kind belongs to: empty for cluster-scoped kinds.
    pub fn namespace_or_own(&self, target: &crate::handlers::Target) -> &str {
        if target.kind.namespaced { &self.info.namespace } else { "" }
    }

    /// Name of the options that the query holds, for messages.
    pub fn options_kind(&self) -> &'static str {
        match self.info.verb.as_str() {
            "update" => "UpdateOptions",
            "patch" => "PatchOptions",
            "delete" | "deletecollection" => "DeleteOptions",
            _ => "CreateOptions",
        }
    }

    /// `dryRun=All`; anything else than All is refused.
    pub fn dry_run(&self) -> Result<bool, Status> {
        check_dry_run(self.options_kind(), self.query.all("dryRun"))
    }

    /// `fieldManager`, or what upstream derives from the User-Agent.
    pub fn field_manager(&self) -> Result<String, Status> {
        let wrong = |reason: &str, message: String| {
            Err(Status::invalid(
                "meta.k8s.io",
                self.options_kind(),
                "",
                vec![api::Cause { reason: reason.into(), message, field: "fieldManager".into() }],
            ))
        };
        match self.query.get("fieldManager").unwrap_or_default() {
            "" => {
                let agent = self.header("user-agent");
                let first = agent.split('/').next().unwrap_or_default();
                let name: String = first.chars().filter(|c| !c.is_control()).take(128).collect();
                Ok(if name.is_empty() { "unknown".to_owned() } else { name })
            }
            m if m.len() > MANAGER_BYTES => {
                wrong("FieldValueTooLong", format!("Too long: may not be more than {MANAGER_BYTES} bytes"))
            }
            m => match m.char_indices().find(|(_, c)| c.is_control()) {
                Some((at, c)) => wrong(
                    "FieldValueInvalid",
                    format!(
                        "Invalid value: {m:?}: invalid character U+{:04X} (at position {at})",
                        u32::from(c)
                    ),
                ),
                None => Ok(m.to_owned()),
            },
        }
    }
}

pub fn check_dry_run<'a>(options: &str, values: impl Iterator<Item = &'a str>) -> Result<bool, Status> {
    let all: Vec<&str> = values.collect();
    if all.iter().all(|v| matches!(*v, "All" | "")) {
        return Ok(all.contains(&"All"));
    }
    Err(Status::invalid(
        "meta.k8s.io",
        options,
        "",
        vec![api::Cause {
            reason: "FieldValueNotSupported".into(),
            message: format!("Unsupported value: {}: supported values: \"All\"", serde_json::json!(all)),
            field: "dryRun".into(),
        }],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        let s = BodySource::Bytes(Bytes::from(vec![0u8; 11])).read(10).await.expect_err("too large");
        assert_eq!((s.code, s.message.as_str()), (413, "Request entity too large: limit is 10"));
    }

    #[test]
    fn dry_run_values() {
        assert_eq!(check_dry_run("X", ["All"].into_iter()), Ok(true));
        assert_eq!(check_dry_run("X", [].into_iter()), Ok(false));
        assert_eq!(check_dry_run("X", ["x"].into_iter()).expect_err("x").code, 422);
    }

    #[test]
    fn warnings_do_not_repeat() {
        let w = Warnings::default();
        w.add("a");
        w.add("a");
        w.add("x".repeat(5000));
        assert_eq!(w.take(), ["a"]);
    }
}
