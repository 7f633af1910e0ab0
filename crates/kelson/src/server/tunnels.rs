//! Connections that nodes made to this server, for the way back to their kubelets where the server can't reach them. HTTP/2
//! is spoken on one, the server asking: each CONNECT is a stream of bytes to that node's kubelet port, and nowhere else.
//! Owns one sender per node; spawns one task per tunnel, which ends with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use apiserver::streaming::AsyncReadWrite;
use client::remote::lasting;
use http::{Method, Request};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use tracing::{debug, info};

/// A node that says nothing for so long has lost its tunnel.
const PING: Duration = Duration::from_secs(20);
/// Streams are for people: a megabyte a connection is enough.
const WINDOW: u32 = 1 << 20;

type Sender = SendRequest<Empty<Bytes>>;

#[derive(Default)]
pub struct Tunnels(Arc<RwLock<HashMap<String, Sender>>>);

impl Tunnels {
    /// Takes a connection that the node made; an older one of its is not used any more.
    pub fn adopt(&self, node: &str, stream: Box<dyn AsyncReadWrite>) {
        let (all, node) = (self.0.clone(), node.to_owned());
        tokio::spawn(async move {
            let (sender, connection) = match lasting(PING, WINDOW).handshake(TokioIo::new(stream)).await {
                Ok(both) => both,
                Err(e) => return debug!(node, error = %e, "a tunnel did not come about"),
            };
            info!(node, "the node has opened a tunnel");
            all.write().insert(node.clone(), sender);
            let ended = connection.await;
            debug!(node, error = ?ended.err(), "a tunnel ended");
            // It may have been replaced meanwhile.
            all.write().retain(|n, s| *n != node || !s.is_closed());
        });
    }

    pub fn has(&self, node: &str) -> bool {
        self.0.read().get(node).is_some_and(|s| !s.is_closed())
    }

    /// A stream to the node's kubelet port.
    pub async fn connect(&self, node: &str) -> Result<Box<dyn AsyncReadWrite>, String> {
        let sender = self.0.read().get(node).cloned();
        let mut sender = sender.ok_or("it has no tunnel to this server")?;
        let request = Request::builder().method(Method::CONNECT).uri("kubelet:443").body(Empty::new());
        let request = request.map_err(|e| e.to_string())?;
        let said = |e: hyper::Error| format!("its tunnel: {e}");
        sender.ready().await.map_err(said)?;
        let answer = sender.send_request(request).await.map_err(said)?;
        if !answer.status().is_success() {
            return Err(format!("its tunnel: the node answers {}", answer.status()));
        }
        let stream = hyper::upgrade::on(answer).await.map_err(said)?;
        Ok(Box::new(TokioIo::new(stream)))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::agent::tunnel::serve;

    /// Both ends over a pipe: what is sent to the kubelet's port comes back from there.
    #[tokio::test]
    async fn bytes_go_to_the_kubelet_and_back() {
        let kubelet = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = kubelet.local_addr().expect("address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = kubelet.accept().await {
                tokio::spawn(async move {
                    let (mut r, mut w) = stream.split();
                    let _ = tokio::io::copy(&mut r, &mut w).await;
                });
            }
        });
        let (ours, theirs) = tokio::io::duplex(4096);
        let agent = tokio::spawn(serve(theirs, address));
        let tunnels = Tunnels::default();
        assert!(tunnels.connect("n").await.is_err_and(|e| e.contains("no tunnel")));
        tunnels.adopt("n", Box::new(ours));
        while !tunnels.has("n") {
            tokio::task::yield_now().await;
        }
        for text in ["one", "two"] {
            let mut stream = tunnels.connect("n").await.expect("stream");
            stream.write_all(text.as_bytes()).await.expect("sent");
            let mut back = [0u8; 3];
            stream.read_exact(&mut back).await.expect("read");
            assert_eq!(back, text.as_bytes());
        }
        // The node goes away: its tunnel is forgotten.
        agent.abort();
        while tunnels.has("n") {
            tokio::task::yield_now().await;
        }
        assert!(tunnels.connect("n").await.is_err());
    }

    #[tokio::test]
    async fn a_kubelet_that_is_away_is_said() {
        let closed = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = closed.local_addr().expect("address");
        drop(closed);
        let (ours, theirs) = tokio::io::duplex(4096);
        tokio::spawn(serve(theirs, address));
        let tunnels = Tunnels::default();
        tunnels.adopt("n", Box::new(ours));
        while !tunnels.has("n") {
            tokio::task::yield_now().await;
        }
        let e = tunnels.connect("n").await.err().expect("no stream");
        assert!(e.contains("502"), "{e}");
    }
}
