//! Streams between a client and a node or a pod: logs, exec, attach, port-forward, proxies.

use std::io;

use api::{Reason, Status};
use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::body::Reply;
use crate::call::Call;
use crate::handlers::Target;
use crate::server::ApiServer;

/// A connection, whatever carries it.
pub trait AsyncReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> AsyncReadWrite for T {}

/// The way to a node's kubelet; HTTP/1.1 is spoken on what it hands out.
#[async_trait]
pub trait NodeTransport: Send + Sync {
    async fn connect(&self, node: &str) -> io::Result<Box<dyn AsyncReadWrite>>;
}

pub async fn handle(_s: &ApiServer, _call: Call, _target: &Target, _sub: &str) -> Result<Reply, Status> {
    Err(Status::new(Reason::ServiceUnavailable, "streams are not served yet"))
}
