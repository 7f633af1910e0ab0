//! How the API server reaches kubelets: that of its own process over a pipe in memory, all others at their node's address by
//! TLS with the API server's own certificate, or through a tunnel that the node made. HTTP/1.1 is spoken on all.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::resource::NODES;
use apiserver::streaming::{AsyncReadWrite, NodeTransport};
use async_trait::async_trait;
use client::Client;
use jiff::{SignedDuration, Timestamp};
use parking_lot::{Mutex, RwLock};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::DuplexStream;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::tunnels::Tunnels;
use crate::node::object::internal_addresses;

const BUFFER: usize = 64 << 10;
const CONNECT: Duration = Duration::from_secs(10);
/// Where there is a tunnel, the direct way may take no longer.
const CONNECT_OR_TUNNEL: Duration = Duration::from_secs(2);
/// So long the direct way is not tried again after it failed.
const DISCOURAGED: SignedDuration = SignedDuration::from_secs(60);

type Accept = Arc<dyn Fn(DuplexStream) + Send + Sync>;

/// The way to nodes elsewhere.
struct Far {
    /// Reads nodes.
    client: Client,
    tls: TlsConnector,
    tunnels: Tunnels,
    /// Nodes that were reached by their tunnel only, and since when.
    away: Mutex<HashMap<String, Timestamp>>,
}

/// The ways to all nodes.
pub struct Nodes {
    /// That of this process.
    own: String,
    accept: RwLock<Option<Accept>>,
    far: OnceLock<Far>,
}

fn failed(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, why.into())
}

/// Where the kubelet of a node listens, or why that is not known.
fn place(node: &Value) -> Result<(IpAddr, u16), &'static str> {
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
    let port = port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0);
    let address = internal_addresses(node).next().ok_or("it has told no address yet")?;
    Ok((address, port.ok_or("its kubelet listens on no port; give it one with --kubelet-port")?))
}

impl Nodes {
    pub fn new(own: &str) -> Self {
        Self { own: own.to_owned(), accept: RwLock::new(None), far: OnceLock::new() }
    }

    /// Called once the kubelet of this process can serve: `accept` spawns the serving of one connection.
    pub fn attach(&self, accept: impl Fn(DuplexStream) + Send + Sync + 'static) {
        *self.accept.write() = Some(Arc::new(accept));
    }

    /// Called once the API and the cluster's keys are there: from then on nodes elsewhere are reached.
    pub fn reach(&self, client: Client, pki: &pki::Pki) -> Result<(), pki::Error> {
        let believed = pki::authorities::verifier(pki::trust::certificates(pki.ca.cert_pem())?)?;
        let mut tls = pki::dir::client_config(believed, Some(&pki.kubelet_client))?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tls = TlsConnector::from(Arc::new(tls));
        let _ = self.far.set(Far { client, tls, tunnels: Tunnels::default(), away: Mutex::default() });
        Ok(())
    }
}

impl Far {
    /// By the node's address, or through its tunnel where that does not do.
    async fn connect(&self, node: &str) -> Result<Box<dyn AsyncReadWrite>, String> {
        if !self.tunnels.has(node) {
            return self.direct(node, CONNECT).await;
        }
        let now = client::clock::now();
        let away = self.away.lock().get(node).is_some_and(|t| now.duration_since(*t) < DISCOURAGED);
        if !away {
            match self.direct(node, CONNECT_OR_TUNNEL).await {
                Ok(stream) => {
                    self.away.lock().remove(node);
                    return Ok(stream);
                }
                Err(e) => tracing::debug!(node, error = e, "going through the node's tunnel"),
            }
            let mut all = self.away.lock();
            all.retain(|_, t| now.duration_since(*t) < DISCOURAGED);
            all.insert(node.to_owned(), now);
        }
        self.secured(node, self.tunnels.connect(node).await?).await
    }

    async fn direct(&self, node: &str, patience: Duration) -> Result<Box<dyn AsyncReadWrite>, String> {
        let object = self.client.find(&NODES, "", node).await.map_err(|e| e.to_string())?;
        let object = object.ok_or("there is no such node")?.value().map_err(|e| e.to_string())?;
        let (address, port) = place(&object)?;
        let work = async {
            let tcp = TcpStream::connect((address, port))
                .await
                .map_err(|e| format!("dial tcp {address}:{port}: {e}"))?;
            let _ = tcp.set_nodelay(true);
            self.secured(node, tcp).await
        };
        match tokio::time::timeout(patience, work).await {
            Ok(done) => done,
            Err(_) => Err(format!("dial tcp {address}:{port}: timed out")),
        }
    }

    /// A node's name stands in its kubelet's certificate, and only that node gets such a one: its address may be anybody's.
    async fn secured<S>(&self, node: &str, stream: S) -> Result<Box<dyn AsyncReadWrite>, String>
    where
        S: AsyncReadWrite + 'static,
    {
        let name = ServerName::try_from(node.to_owned()).map_err(|e| e.to_string())?;
        match tokio::time::timeout(CONNECT, self.tls.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(e)) => Err(format!("tls: {e}")),
            Err(_) => Err("tls: timed out".into()),
        }
    }
}

#[async_trait]
impl NodeTransport for Nodes {
    async fn connect(&self, node: &str) -> io::Result<Box<dyn AsyncReadWrite>> {
        let why = |why: &str| failed(format!("node {node} can't be reached: {why}"));
        if node != self.own {
            let far = self.far.get().ok_or_else(|| why("this server is just starting"))?;
            return far.connect(node).await.map_err(|e| why(&e));
        }
        let accept = self.accept.read().clone().ok_or_else(|| why("its kubelet is not running"))?;
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        accept(theirs);
        Ok(Box::new(ours))
    }

    fn tunnel(&self, node: &str, stream: Box<dyn AsyncReadWrite>) {
        if let Some(far) = self.far.get() {
            far.tunnels.adopt(node, stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn where_a_kubelet_listens() {
        let node = |addresses: Value, port: u32| {
            json!({"status": {"addresses": addresses,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}})
        };
        let address =
            json!([{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "10.0.0.2"}]);
        assert_eq!(place(&node(address.clone(), 10250)), Ok(([10, 0, 0, 2].into(), 10250)));
        assert!(place(&node(address.clone(), 0)).is_err_and(|e| e.contains("--kubelet-port")));
        assert!(place(&node(address, 70_000)).is_err());
        assert!(place(&node(json!([]), 10250)).is_err_and(|e| e.contains("no address")));
    }
}
