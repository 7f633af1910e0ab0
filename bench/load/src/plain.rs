//! The limit that big lists are held against: a server that does nothing but send so many bytes over TLS and HTTP/2.
//! Spawns a task for each connection and runs until it is killed.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use http::Response;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::net::TcpListener;

use bench_load::client::identity;

/// As large as the pieces in which lists are sent.
const CHUNK: usize = 256 * 1024;

/// Answers everything with `size` bytes. Prints its URL once it listens.
pub async fn serve(cert: &Path, key: &Path, size: usize) -> Result<()> {
    let (chain, key) = identity(cert, key)?;
    let mut config = ServerConfig::builder_with_provider(pki::trust::provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("https://{}", listener.local_addr()?);
    let chunk = Bytes::from(vec![b'x'; CHUNK]);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (acceptor, chunk) = (acceptor.clone(), chunk.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let answer = service_fn(move |_| {
                let chunk = chunk.clone();
                let pieces = (0..size.div_ceil(CHUNK)).map(move |n| {
                    let left = size - n * CHUNK;
                    Ok::<_, Infallible>(Frame::data(chunk.slice(..left.min(CHUNK))))
                });
                let body = StreamBody::new(futures::stream::iter(pieces));
                async move { Ok::<_, Infallible>(Response::new(body)) }
            });
            let connection = http2::Builder::new(TokioExecutor::new());
            // A client that went away is no failure.
            let _ = connection.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
