//! The verbs of the API as typed calls. Loops write patches rather than whole objects, so that fields they do not know
//! survive.

use std::fmt::Write as _;
use std::sync::Arc;

use api::{Object, Resource, Status};
use bytes::Bytes;
use http::{Method, Request, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::{Value, json};

use crate::transport::{LocalIdentity, LocalServer, LocalTransport, ObjectList, Transport, WatchStream};

const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b':');
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// One part of a path, whatever stands in it.
pub fn segment(s: &str) -> String {
    utf8_percent_encode(s, SEGMENT).to_string()
}

/// A patch and its kind.
#[derive(Debug, Clone)]
pub enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
    /// Server-side apply.
    Apply {
        body: Value,
        force: bool,
    },
}

#[derive(Debug, Clone, Default)]
pub struct ListParams {
    pub label_selector: String,
    pub field_selector: String,
    pub limit: u64,
    pub continue_token: String,
    /// `""`: consistent; `"0"`: whatever is at hand.
    pub resource_version: String,
}

#[derive(Debug, Clone, Default)]
pub struct WatchParams {
    pub label_selector: String,
    pub field_selector: String,
    /// Events after this revision.
    pub resource_version: u64,
    pub bookmarks: bool,
    pub timeout_seconds: Option<u32>,
}

#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    /// `Background`, `Foreground` or `Orphan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preconditions: Option<Preconditions>,
}

#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preconditions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    /// Deletes only the object with this uid.
    pub fn uid(uid: &str) -> Self {
        Self {
            preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
            ..Self::default()
        }
    }
}

/// A handle on the API under one identity; cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    /// Field manager of writes.
    manager: Arc<str>,
}

struct Query(String);

impl Query {
    fn new(path: String) -> Self {
        Self(path)
    }
    fn add(mut self, key: &str, value: &str) -> Self {
        if !value.is_empty() {
            self.0.push(if self.0.contains('?') { '&' } else { '?' });
            let _ = write!(self.0, "{key}={}", utf8_percent_encode(value, QUERY));
        }
        self
    }
}

fn body<T: Serialize + ?Sized>(v: &T) -> Result<Bytes, Status> {
    serde_json::to_vec(v).map(Bytes::from).map_err(Status::internal)
}

fn build(method: Method, uri: &str, content_type: &str, body: Bytes) -> Result<Request<Bytes>, Status> {
    let mut b = Request::builder().method(method).uri(uri).header(http::header::ACCEPT, "application/json");
    if !content_type.is_empty() {
        b = b.header(http::header::CONTENT_TYPE, content_type);
    }
    b.body(body).map_err(|e| Status::bad_request(format!("failed to build a request for {uri}: {e}")))
}

impl Client {
    pub fn new(transport: Arc<dyn Transport>, manager: &str) -> Self {
        Self { transport, manager: manager.into() }
    }

    /// In process, under `identity`.
    pub fn local(server: Arc<dyn LocalServer>, identity: LocalIdentity, manager: &str) -> Self {
        Self::new(Arc::new(LocalTransport::new(server, identity)), manager)
    }

    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    fn uri(&self, r: &Resource, ns: &str, name: Option<&str>, sub: &str) -> Query {
        Query::new(r.path(ns, name, (!sub.is_empty()).then_some(sub)))
    }

    pub async fn get(&self, r: &Resource, ns: &str, name: &str) -> Result<Object, Status> {
        self.transport.object(build(Method::GET, &self.uri(r, ns, Some(name), "").0, "", Bytes::new())?).await
    }

    /// `None` when it does not exist.
    pub async fn find(&self, r: &Resource, ns: &str, name: &str) -> Result<Option<Object>, Status> {
        match self.get(r, ns, name).await {
            Ok(o) => Ok(Some(o)),
            Err(s) if s.is_not_found() => Ok(None),
            Err(s) => Err(s),
        }
    }

    pub async fn create<T: Serialize + ?Sized>(
        &self,
        r: &Resource,
        ns: &str,
        object: &T,
    ) -> Result<Object, Status> {
        self.create_sub(r, ns, None, "", object).await
    }

    /// POST to a subresource (`binding`, `eviction`, `token`).
    pub async fn create_sub<T: Serialize + ?Sized>(
        &self,
        r: &Resource,
        ns: &str,
        name: Option<&str>,
        sub: &str,
        object: &T,
    ) -> Result<Object, Status> {
        let uri = self.uri(r, ns, name, sub).add("fieldManager", &self.manager);
        self.transport.object(build(Method::POST, &uri.0, "application/json", body(object)?)?).await
    }

    /// PUT; `sub` is `""`, `"status"`, ….
    pub async fn update<T: Serialize + ?Sized>(
        &self,
        r: &Resource,
        ns: &str,
        name: &str,
        sub: &str,
        object: &T,
    ) -> Result<Object, Status> {
        let uri = self.uri(r, ns, Some(name), sub).add("fieldManager", &self.manager);
        self.transport.object(build(Method::PUT, &uri.0, "application/json", body(object)?)?).await
    }

    /// PATCH; `sub` is `""`, `"status"`, ….
    pub async fn patch(
        &self,
        r: &Resource,
        ns: &str,
        name: &str,
        sub: &str,
        patch: &Patch,
    ) -> Result<Object, Status> {
        let uri = self.uri(r, ns, Some(name), sub).add("fieldManager", &self.manager);
        let (uri, content_type, v) = match patch {
            Patch::Json(v) => (uri, "application/json-patch+json", v),
            Patch::Merge(v) => (uri, "application/merge-patch+json", v),
            Patch::Strategic(v) => (uri, "application/strategic-merge-patch+json", v),
            Patch::Apply { body, force } => {
                (uri.add("force", if *force { "true" } else { "" }), "application/apply-patch+yaml", body)
            }
        };
        self.transport.object(build(Method::PATCH, &uri.0, content_type, body(v)?)?).await
    }

    /// Merge-patches `status`.
    pub async fn patch_status(
        &self,
        r: &Resource,
        ns: &str,
        name: &str,
        status: Value,
    ) -> Result<Object, Status> {
        self.patch(r, ns, name, "status", &Patch::Merge(json!({ "status": status }))).await
    }

    pub async fn delete(
        &self,
        r: &Resource,
        ns: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<(), Status> {
        let uri = self.uri(r, ns, Some(name), "");
        self.transport
            .call(build(Method::DELETE, &uri.0, "application/json", body(options)?)?)
            .await
            .map(|_| ())
    }

    /// As `delete`; an object that is already gone is fine.
    pub async fn delete_if_there(
        &self,
        r: &Resource,
        ns: &str,
        name: &str,
        o: &DeleteOptions,
    ) -> Result<(), Status> {
        match self.delete(r, ns, name, o).await {
            Err(s) if s.is_not_found() => Ok(()),
            other => other,
        }
    }

    pub async fn delete_collection(
        &self,
        r: &Resource,
        ns: &str,
        p: &ListParams,
        o: &DeleteOptions,
    ) -> Result<(), Status> {
        let uri = self
            .uri(r, ns, None, "")
            .add("labelSelector", &p.label_selector)
            .add("fieldSelector", &p.field_selector);
        self.transport.call(build(Method::DELETE, &uri.0, "application/json", body(o)?)?).await.map(|_| ())
    }

    /// One page (everything, when `limit` is 0). `ns` empty: all namespaces.
    pub async fn list(&self, r: &Resource, ns: &str, p: &ListParams) -> Result<ObjectList, Status> {
        let limit = if p.limit > 0 { p.limit.to_string() } else { String::new() };
        let uri = self
            .uri(r, ns, None, "")
            .add("labelSelector", &p.label_selector)
            .add("fieldSelector", &p.field_selector)
            .add("limit", &limit)
            .add("continue", &p.continue_token)
            .add("resourceVersion", &p.resource_version);
        self.transport.list(build(Method::GET, &uri.0, "", Bytes::new())?).await
    }

    pub async fn watch(&self, r: &Resource, ns: &str, p: &WatchParams) -> Result<WatchStream, Status> {
        let timeout = p.timeout_seconds.map(|s| s.to_string()).unwrap_or_default();
        let uri = self
            .uri(r, ns, None, "")
            .add("watch", "true")
            .add("labelSelector", &p.label_selector)
            .add("fieldSelector", &p.field_selector)
            .add("resourceVersion", &p.resource_version.to_string())
            .add("allowWatchBookmarks", if p.bookmarks { "true" } else { "" })
            .add("timeoutSeconds", &timeout);
        self.transport.watch(build(Method::GET, &uri.0, "", Bytes::new())?).await
    }

    /// GET of a path whose answer is no stored object. Empty parameters are left out.
    pub async fn json(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Status> {
        let uri = query.iter().fold(Query::new(path.to_owned()), |q, (k, v)| q.add(k, v));
        let answer = self.transport.call(build(Method::GET, &uri.0, "", Bytes::new())?).await?;
        serde_json::from_slice(answer.body()).map_err(Status::internal)
    }

    /// Any request, for what the verbs above do not cover.
    pub async fn raw(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        self.transport.call(request).await
    }
}
