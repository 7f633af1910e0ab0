//! How the API server reaches the kubelet of its own process: by the same HTTP, over a pipe in memory.

use std::io;
use std::sync::Arc;

use apiserver::streaming::{AsyncReadWrite, NodeTransport};
use async_trait::async_trait;
use parking_lot::RwLock;
use tokio::io::DuplexStream;

const BUFFER: usize = 64 << 10;

type Accept = Arc<dyn Fn(DuplexStream) + Send + Sync>;

/// The one node of this process.
pub struct LocalNode {
    name: String,
    accept: RwLock<Option<Accept>>,
}

impl LocalNode {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), accept: RwLock::new(None) }
    }

    /// Called once the kubelet can serve: `accept` spawns the serving of one connection.
    pub fn attach(&self, accept: impl Fn(DuplexStream) + Send + Sync + 'static) {
        *self.accept.write() = Some(Arc::new(accept));
    }
}

#[async_trait]
impl NodeTransport for LocalNode {
    async fn connect(&self, node: &str) -> io::Result<Box<dyn AsyncReadWrite>> {
        let accept = self.accept.read().clone().filter(|_| node == self.name);
        let Some(accept) = accept else {
            let why = if node == self.name {
                "its kubelet is not running"
            } else {
                "no way leads to it from this server"
            };
            return Err(io::Error::new(
                io::ErrorKind::NotConnected,
                format!("node {node} can't be reached: {why}"),
            ));
        };
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        accept(theirs);
        Ok(Box::new(ours))
    }
}
