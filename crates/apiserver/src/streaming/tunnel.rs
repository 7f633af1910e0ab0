//! A node that this server may not reach offers a way back: it asks for an upgrade of a connection that it made, and what
//! comes of it is the transport's. Spawns one task per upgrade, which ends when the upgrade is done.

use api::{Reason, Status};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;

use crate::body::{Body, Reply};
use crate::call::Call;
use crate::server::ApiServer;

/// Where a node asks for it.
pub const PATH: &str = "/kelson/v1/tunnel";
/// What the connection is upgraded to.
pub const PROTOCOL: &str = "kelson-tunnel";

/// Only a node has a tunnel, and only one to itself: its name is that of who asks.
pub fn accept(s: &ApiServer, mut call: Call) -> Result<Reply, Status> {
    let refused = |why: &str| Status::new(Reason::Forbidden, format!("no tunnel: {why}"));
    let node = call.user.node().ok_or_else(|| refused("only a node can have one"))?.to_owned();
    let nodes = s.nodes.clone().ok_or_else(|| refused("this server reaches no nodes"))?;
    if call.header("upgrade") != PROTOCOL {
        return Err(Status::bad_request(format!("a tunnel asks for an upgrade to {PROTOCOL}")));
    }
    let Some(upgrade) = call.upgrade.take() else {
        return Err(Status::bad_request("a tunnel needs HTTP/1.1, which alone can be upgraded"));
    };
    tokio::spawn(async move {
        match upgrade.await {
            Ok(io) => nodes.tunnel(&node, Box::new(TokioIo::new(io))),
            Err(e) => tracing::debug!(node, error = %e, "the upgrade to a tunnel failed"),
        }
    });
    let mut opened = Reply::new(Body::Bytes(Bytes::new()));
    *opened.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    opened.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    opened.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
    Ok(opened)
}
