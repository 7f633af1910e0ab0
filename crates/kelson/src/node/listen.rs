//! The kubelet's port: TLS with a certificate that may be exchanged while it listens, for callers who show one of this
//! cluster; what each of them may do, the kubelet asks the API. Spawns one task per connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use kubelet::{Caller, Kubelet};
use parking_lot::RwLock;
use pki::{CertKey, ClientTrust};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Node;

const CONNECTIONS: usize = 1024;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// After a connection that could not be accepted.
const PAUSE: Duration = Duration::from_millis(50);

/// The certificate that is shown; none yet: callers are hung up on.
#[derive(Debug, Default)]
pub struct Serving(RwLock<Option<Arc<CertifiedKey>>>);

impl Serving {
    pub fn set(&self, cert: &CertKey) -> anyhow::Result<()> {
        *self.0.write() = Some(Arc::new(pki::dir::certified_key(cert)?));
        Ok(())
    }

    /// What is shown now, as DER.
    #[cfg(test)]
    pub fn shown(&self) -> Option<Vec<u8>> {
        Some(self.0.read().as_ref()?.cert.first()?.to_vec())
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().clone()
    }
}

/// Listens, if there is a port to listen on; one that is taken is a warning. `ca` (PEM) stands for who may come.
pub async fn start(
    address: SocketAddr,
    node: &Node,
    serving: Arc<Serving>,
    ca: &str,
    token: &CancellationToken,
) -> anyhow::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    match TcpListener::bind(address).await {
        Ok(listener) => {
            let tls = tls(serving, ca).context("failed to set up the kubelet's TLS")?;
            let trust = pki::ClientTrust::new(ca)?;
            node.spawn(accept(listener, tls, trust, node.kubelet().clone(), token.clone()));
        }
        Err(e) => warn!(
            port = address.port(), error = %e,
            "the kubelet's port is taken: who is not in its process does not reach it; choose another with --kubelet-port"
        ),
    }
    Ok(())
}

fn tls(serving: Arc<Serving>, ca: &str) -> anyhow::Result<Arc<rustls::ServerConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    for ca in pki::trust::certificates(ca)? {
        roots.add(ca)?;
    }
    // Only who shows a certificate of this cluster gets in.
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), pki::trust::provider()).build()?;
    let mut config = rustls::ServerConfig::builder_with_provider(pki::trust::provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(serving);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

async fn accept(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    trust: ClientTrust,
    kubelet: Kubelet,
    token: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! { () = token.cancelled() => return, a = listener.accept() => a };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, perhaps for long.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
        let (acceptor, trust, kubelet) = (acceptor.clone(), trust.clone(), kubelet.clone());
        tokio::spawn(async move {
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
                match trust.identify(chain, client::clock::now().as_second()) {
                    Ok(who) => kubelet.serve_for(stream, Caller::of(who)).await,
                    Err(e) => {
                        tracing::debug!(error = %e, "a caller of the kubelet shows no certificate that counts")
                    }
                }
            }
            drop(slot);
        });
    }
}
