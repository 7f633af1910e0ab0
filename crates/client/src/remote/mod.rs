//! The transport over TLS, for whoever lives in another process than the API server: HTTP/2 where the server speaks it, else
//! HTTP/1.1. Owns one kept HTTP/2 connection, made anew when it ended; spawns one task per connection. The identity (a
//! client certificate or a token) can be exchanged while requests and watches go on.

mod connect;
mod lines;

use std::sync::Arc;
use std::time::Duration;

use api::{Object, Reason, Status};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use self::connect::{Connections, Failed};
use crate::transport::{ObjectList, Transport, WatchStream, list_from_wire};

pub use connect::{Server, ServerError, lasting};
pub use lines::event as watch_event;

/// For an answer that is no watch, from the first byte sent to the last one read.
const ANSWER: Duration = Duration::from_secs(60);
/// The largest answer; a list of everything has to fit.
const LARGEST: usize = 512 << 20;
/// An error's text.
const LARGEST_ERROR: usize = 1 << 20;

/// As whom the server is spoken to.
#[derive(Clone)]
pub struct Access {
    /// Whom to believe, and the client certificate if there is one.
    pub tls: Arc<rustls::ClientConfig>,
    pub token: Option<String>,
}

/// See the module text; cheap to clone.
#[derive(Clone)]
pub struct RemoteTransport {
    connections: Arc<Connections>,
}

impl RemoteTransport {
    pub fn new(server: Server, access: Access) -> Self {
        Self { connections: Arc::new(Connections::new(server, access)) }
    }

    /// What begins from now on is under this identity; what is under way ends under the former one.
    pub fn exchange(&self, access: Access) {
        self.connections.exchange(access);
    }

    /// A connection of its own that the server has agreed to speak `protocol` on.
    pub async fn upgrade(&self, path: &str, protocol: &str) -> Result<hyper::upgrade::Upgraded, Status> {
        self.connections.upgrade(path, protocol).await.map_err(|e| self.unreachable(e))
    }

    fn unreachable(&self, e: impl std::fmt::Display) -> Status {
        let server = self.connections.server();
        let mut s =
            Status::new(Reason::ServiceUnavailable, format!("failed to reach the API server {server}: {e}"));
        s.retry_after_seconds = 1;
        s
    }

    /// The head of the answer, which is no error.
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Incoming>, Status> {
        let (mut parts, body) = request.into_parts();
        if let Some(token) = self.connections.token() {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| Status::bad_request("the bearer token holds characters that no header may"))?;
            value.set_sensitive(true);
            parts.headers.insert(header::AUTHORIZATION, value);
        }
        // A connection may end at the moment it is used. What the server can't have acted on is sent again, on a new one.
        let harmless = parts.method == Method::GET;
        let mut answer = self.connections.send(&parts, body.clone()).await;
        if let Err(Failed { again, sent, .. }) = &answer
            && *again
            && (harmless || !*sent)
        {
            answer = self.connections.send(&parts, body).await;
        }
        let answer = answer.map_err(|e| self.unreachable(e.why))?;
        let code = answer.status().as_u16();
        if code < 400 {
            return Ok(answer);
        }
        let body = Limited::new(answer.into_body(), LARGEST_ERROR).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).map_err(|e| self.unreachable(e))?;
        Err(Status::from_wire(code, &body))
    }

    async fn whole(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let work = async {
            let (parts, body) = self.send(request).await?.into_parts();
            let body =
                Limited::new(body, LARGEST).collect().await.map_err(|e| self.unreachable(e))?.to_bytes();
            Ok(Response::from_parts(parts, body))
        };
        match tokio::time::timeout(ANSWER, work).await {
            Ok(answer) => answer,
            Err(_) => Err(self.unreachable(format!("no answer within {} s", ANSWER.as_secs()))),
        }
    }
}

#[async_trait]
impl Transport for RemoteTransport {
    async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        self.whole(request).await
    }

    async fn object(&self, request: Request<Bytes>) -> Result<Object, Status> {
        Object::from_wire(self.whole(request).await?.body()).map_err(Status::internal)
    }

    async fn list(&self, request: Request<Bytes>) -> Result<ObjectList, Status> {
        list_from_wire(self.whole(request).await?.body())
    }

    async fn watch(&self, request: Request<Bytes>) -> Result<WatchStream, Status> {
        match tokio::time::timeout(ANSWER, self.send(request)).await {
            Ok(answer) => Ok(lines::events(answer?.into_body())),
            Err(_) => Err(self.unreachable(format!("no answer within {} s", ANSWER.as_secs()))),
        }
    }
}

#[cfg(test)]
mod tests;
