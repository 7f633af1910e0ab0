//! How a request reaches the API server. In process it passes the whole filter chain under the caller's identity,
//! without a socket, and objects come back shared instead of copied.

use std::sync::Arc;

use api::{Object, Status};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use http::{Request, Response};
use serde_json::Value;

/// A list as it was read at one revision.
#[derive(Debug, Clone, Default)]
pub struct ObjectList {
    pub items: Vec<Object>,
    pub revision: u64,
    /// Empty when this was the last page.
    pub continue_token: String,
    pub remaining: Option<u64>,
}

/// One event of a watch.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    Added(Object),
    Modified(Object),
    /// The last state, at the revision of the delete (or of leaving the selector).
    Deleted(Object),
    Bookmark {
        revision: u64,
        initial_events_end: bool,
    },
    /// Ends the watch; 410 means: list again.
    Error(Status),
}

/// Ends when the server ends the watch; go on from the last revision seen.
pub type WatchStream = BoxStream<'static, WatchEvent>;

/// Carries requests of one identity.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Any request, answered in bytes; a status code of 400 or more becomes the `Status`.
    async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status>;
    /// A request that is answered with one object.
    async fn object(&self, request: Request<Bytes>) -> Result<Object, Status>;
    async fn list(&self, request: Request<Bytes>) -> Result<ObjectList, Status>;
    async fn watch(&self, request: Request<Bytes>) -> Result<WatchStream, Status>;
}

/// Who an in-process request comes from; put into the request's extensions, where no socket can put it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalIdentity {
    pub name: String,
    pub groups: Vec<String>,
}

impl LocalIdentity {
    /// The identity of a service account, as its token would give it.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec![
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".into(),
            ],
        }
    }
    pub fn user(name: &str, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        groups.push("system:authenticated".into());
        Self { name: name.into(), groups }
    }
}

/// The body of an in-process answer: shared objects where the server has them, bytes for everything else.
pub enum LocalBody {
    Bytes(Bytes),
    Object(Object),
    List(ObjectList),
    Watch(WatchStream),
}

/// What the API server offers to the process it lives in.
#[async_trait]
pub trait LocalServer: Send + Sync + 'static {
    /// Runs the request through the filter chain. The identity stands in the extensions.
    async fn serve(&self, request: Request<Bytes>) -> Response<LocalBody>;
}

/// The in-process transport of one identity.
#[derive(Clone)]
pub struct LocalTransport {
    server: Arc<dyn LocalServer>,
    identity: LocalIdentity,
}

impl LocalTransport {
    pub fn new(server: Arc<dyn LocalServer>, identity: LocalIdentity) -> Self {
        Self { server, identity }
    }

    async fn send(&self, mut request: Request<Bytes>) -> Result<(http::response::Parts, LocalBody), Status> {
        request.extensions_mut().insert(self.identity.clone());
        let (parts, body) = self.server.serve(request).await.into_parts();
        if parts.status.as_u16() < 400 {
            return Ok((parts, body));
        }
        Err(match body {
            LocalBody::Bytes(b) => Status::from_wire(parts.status.as_u16(), &b),
            _ => Status::internal("the server answered an error without a status"),
        })
    }
}

#[async_trait]
impl Transport for LocalTransport {
    async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let (parts, body) = self.send(request).await?;
        let bytes = match body {
            LocalBody::Bytes(b) => b,
            LocalBody::Object(o) => o.to_json().into(),
            LocalBody::List(_) | LocalBody::Watch(_) => {
                return Err(Status::internal("a list or watch was asked for as plain bytes"));
            }
        };
        Ok(Response::from_parts(parts, bytes))
    }

    async fn object(&self, request: Request<Bytes>) -> Result<Object, Status> {
        match self.send(request).await?.1 {
            LocalBody::Object(o) => Ok(o),
            LocalBody::Bytes(b) => Object::from_wire(&b).map_err(Status::internal),
            _ => Err(Status::internal("the server answered something else than an object")),
        }
    }

    async fn list(&self, request: Request<Bytes>) -> Result<ObjectList, Status> {
        match self.send(request).await?.1 {
            LocalBody::List(l) => Ok(l),
            LocalBody::Bytes(b) => list_from_wire(&b),
            _ => Err(Status::internal("the server answered something else than a list")),
        }
    }

    async fn watch(&self, request: Request<Bytes>) -> Result<WatchStream, Status> {
        match self.send(request).await?.1 {
            LocalBody::Watch(w) => Ok(w),
            _ => Err(Status::internal("the server answered something else than a watch")),
        }
    }
}

/// Reads a `…List` body.
pub(crate) fn list_from_wire(body: &[u8]) -> Result<ObjectList, Status> {
    let mut v: Value = serde_json::from_slice(body).map_err(Status::internal)?;
    if !v.is_object() {
        return Err(Status::internal("the server answered something else than a list"));
    }
    let meta = v["metadata"].take();
    let mut out = ObjectList {
        revision: meta["resourceVersion"].as_str().and_then(|s| s.parse().ok()).unwrap_or(0),
        continue_token: meta["continue"].as_str().unwrap_or_default().to_owned(),
        remaining: meta["remainingItemCount"].as_u64(),
        items: Vec::new(),
    };
    if let Value::Array(items) = v["items"].take() {
        for item in items {
            let rev = item["metadata"]["resourceVersion"].as_str().and_then(|s| s.parse().ok()).unwrap_or(0);
            out.items.push(Object::from_value(item, rev).map_err(Status::internal)?);
        }
    }
    Ok(out)
}
