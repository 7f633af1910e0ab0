//! HTTP/2 connections to one server, shared by all requests in turn. Spawns one task per connection, which ends with it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;

pub fn identity(cert: &Path, key: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .with_context(|| cert.display().to_string())?;
    Ok((chain, PrivateKeyDer::from_pem_file(key).with_context(|| key.display().to_string())?))
}

/// The client certificate; any server will do.
pub fn tls(cert: &Path, key: &Path) -> Result<Arc<ClientConfig>> {
    let (chain, key) = identity(cert, key)?;
    let mut config = ClientConfig::builder_with_provider(pki::trust::provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(pki::unverified::verifier())
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

pub struct Pool {
    url: String,
    address: String,
    tls: Arc<ClientConfig>,
    connections: Vec<SendRequest<Full<Bytes>>>,
    next: AtomicUsize,
}

impl Pool {
    pub async fn new(url: &str, tls: Arc<ClientConfig>, connections: usize) -> Result<Self> {
        let address = url.strip_prefix("https://").context("the URL is https://host:port")?.to_owned();
        let mut pool =
            Self { url: url.to_owned(), address, tls, connections: Vec::new(), next: AtomicUsize::new(0) };
        for _ in 0..connections.max(1) {
            pool.connections.push(pool.connect().await?);
        }
        Ok(pool)
    }

    /// One more connection, of nobody else.
    pub async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(&self.address).await.with_context(|| self.address.clone())?;
        stream.set_nodelay(true)?;
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(h, _)| h).to_owned();
        let connector = tokio_rustls::TlsConnector::from(self.tls.clone());
        let stream = connector.connect(ServerName::try_from(host)?, stream).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    pub fn request(
        &self,
        method: Method,
        path: &str,
        content: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>> {
        let mut r = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if !content.is_empty() {
            r = r.header(header::CONTENT_TYPE, content);
        }
        Ok(r.header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, "bench-load")
            .body(Full::new(body))?)
    }

    /// The whole answer, which is a success; otherwise the error says what the server said.
    pub async fn send(&self, method: Method, path: &str, content: &str, body: Bytes) -> Result<Bytes> {
        let n = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        let mut sender = self.connections[n].clone();
        sender.ready().await?;
        let response = sender.send_request(self.request(method, path, content, body)?).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }
}

/// Opens a stream whose body comes in pieces.
pub async fn open(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> Result<Incoming> {
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    ensure!(response.status() == StatusCode::OK, "{}", response.status());
    Ok(response.into_body())
}
