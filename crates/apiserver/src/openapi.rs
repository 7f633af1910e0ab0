//! `/openapi/v2` and `/openapi/v3`: made from the catalog when first asked for, kept compressed by nobody: clients cache
//! by hash.

use std::collections::HashMap;
use std::sync::Arc;

use api::Status;
use api::openapi::proto;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use crate::aggregation;
use crate::body::{self, Reply};
use crate::call::Call;
use crate::chain::no_such_path;
use crate::server::ApiServer;

struct Document {
    bytes: Bytes,
    hash: String,
}

#[derive(Default)]
struct Made {
    /// How often the catalog has changed.
    changes: u64,
    documents: HashMap<String, Arc<Document>>,
}

/// Documents that were asked for already, by path below `/openapi/`.
#[derive(Default)]
pub struct Documents(Mutex<Made>);

impl Documents {
    fn get(&self, key: &str, make: impl FnOnce() -> Vec<u8>) -> Arc<Document> {
        let changes = {
            let made = self.0.lock();
            if let Some(d) = made.documents.get(key) {
                return d.clone();
            }
            made.changes
        };
        let bytes = Bytes::from(make());
        let hash = Sha512::digest(&bytes).iter().map(|b| format!("{b:02X}")).collect();
        let d = Arc::new(Document { bytes, hash });
        let mut made = self.0.lock();
        // The catalog may have changed in the meantime: then this is for who asked before, and for nobody after.
        if made.changes == changes {
            made.documents.insert(key.to_owned(), d.clone());
        }
        d
    }

    /// After a change of the catalog.
    pub fn forget(&self) {
        let mut made = self.0.lock();
        made.changes += 1;
        made.documents.clear();
    }
}

fn send(call: &Call, d: &Document, content_type: &'static str) -> Reply {
    let etag = format!("\"{}\"", d.hash);
    let fresh = call.header("if-none-match") == etag;
    let mut r = if fresh {
        body::bytes(StatusCode::NOT_MODIFIED, "", "")
    } else {
        body::bytes(StatusCode::OK, content_type, d.bytes.clone())
    };
    if let Ok(v) = HeaderValue::from_str(&etag) {
        r.headers_mut().insert(header::ETAG, v);
    }
    if call.query.get("hash") == Some(d.hash.as_str()) {
        r.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    r
}

fn json_bytes(v: &Value) -> Vec<u8> {
    serde_json::to_vec(v).unwrap_or_default()
}

pub fn v2(s: &ApiServer, call: &Call) -> Result<Reply, Status> {
    let make = || {
        let mut v = api::openapi::v2(&s.catalog(), &api::openapi::descriptions::of);
        aggregation::documents::merge_v2(&mut v, &s.aggregation.all());
        v
    };
    let mut reply = if proto::wanted(call.header("accept")) {
        send(call, &s.openapi.get("v2.pb", || proto::encode(&make())), proto::CONTENT_TYPE)
    } else {
        send(call, &s.openapi.get("v2", || json_bytes(&make())), body::JSON)
    };
    reply.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    Ok(reply)
}

/// `rest` is what follows `/openapi/v3`: empty, `api/v1` or `apis/GROUP/VERSION`.
pub fn v3(s: &ApiServer, call: &Call, rest: &str) -> Result<Reply, Status> {
    let catalog = s.catalog();
    let all = || {
        catalog.groups().into_iter().flat_map(|g| {
            catalog.group_versions(g).into_iter().map(move |v| {
                let path = if g.is_empty() { format!("api/{v}") } else { format!("apis/{g}/{v}") };
                (path, g, v)
            })
        })
    };
    if rest.is_empty() {
        let mut paths = serde_json::Map::new();
        for (path, g, v) in all() {
            let d = document(s, g, v, &path);
            paths.insert(
                path.clone(),
                json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={}", d.hash)}),
            );
        }
        for r in s.aggregation.all() {
            if let Some(url) = r.documents().v3 {
                paths.insert(format!("apis/{}/{}", r.group, r.version), json!({"serverRelativeURL": url}));
            }
        }
        return Ok(body::json_value(StatusCode::OK, &json!({"paths": paths})));
    }
    match all().find(|(path, _, _)| path == rest) {
        Some((path, g, v)) => Ok(send(call, &document(s, g, v, &path), body::JSON)),
        None => Ok(no_such_path()),
    }
}

fn document(s: &ApiServer, group: &str, version: &str, path: &str) -> Arc<Document> {
    s.openapi.get(&format!("v3/{path}"), || {
        json_bytes(
            &api::openapi::v3(&s.catalog(), group, version, &api::openapi::descriptions::of)
                .unwrap_or_default(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_change_overtakes_is_not_kept() {
        let documents = Documents::default();
        let overtaken = documents.get("v2", || {
            documents.forget();
            b"old".to_vec()
        });
        assert_eq!(overtaken.bytes, "old");
        for made in ["new", "never made"] {
            assert_eq!(documents.get("v2", || made.into()).bytes, "new");
        }
    }
}
