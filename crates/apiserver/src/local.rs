//! The in-process way in: the same chain, no socket, shared objects.

use async_trait::async_trait;
use bytes::Bytes;
use client::{LocalBody, LocalServer};
use http::{Request, Response};
use http_body_util::BodyExt;

use crate::body::Body;
use crate::call::{BodySource, Peer};
use crate::chain;
use crate::server::ApiServer;

#[async_trait]
impl LocalServer for ApiServer {
    async fn serve(&self, request: Request<Bytes>) -> Response<LocalBody> {
        let (parts, body) = request.into_parts();
        let peer = Peer { local: true, ..Peer::default() };
        let reply = chain::handle(self, parts, BodySource::Bytes(body), peer).await;
        let (parts, body) = reply.into_parts();
        let body = match body {
            Body::Bytes(b) => LocalBody::Bytes(b),
            Body::Object(o) => LocalBody::Object(o),
            Body::List(l) => LocalBody::List(l.list),
            Body::Watch(w) => LocalBody::Watch(w.events),
            Body::Stream(s) => match s.collect().await {
                Ok(all) => LocalBody::Bytes(all.to_bytes()),
                Err(e) => {
                    tracing::debug!(error = %e, "an in-process stream broke off");
                    LocalBody::Bytes(Bytes::new())
                }
            },
        };
        Response::from_parts(parts, body)
    }
}
