//! The listener: TLS, HTTP/2 and HTTP/1.1 on one port. Spawns one task per connection; all of them end when the stop
//! token fires, after the requests that they are working on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::body::{WireBody, encode};
use crate::call::{BodySource, Peer};
use crate::chain;
use crate::coalesce::gather;
use crate::negotiate::accepts_gzip;
use crate::server::ApiServer;

/// Connections at one time; more wait in the kernel's queue.
const CONNECTIONS: usize = 8192;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// For a request's headers, and on HTTP/1.1 also how long a kept connection may idle, for which upstream has 90 s.
const HEADERS: Duration = Duration::from_secs(90);
/// How long requests may run on after the stop.
const DRAIN: Duration = Duration::from_secs(30);
const STREAMS: u32 = 1000;
/// Headers of one request, and their bytes: impersonation sends one for each group.
const HEADER_COUNT: usize = 300;
const HEADER_BYTES: usize = 1024 * 1024;

/// Serves until the server's stop token fires and the connections have drained.
pub async fn run(server: ApiServer, listener: TcpListener, tls: Arc<rustls::ServerConfig>) -> io::Result<()> {
    let acceptor = TlsAcceptor::from(tls);
    let graceful = GracefulShutdown::new();
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(seat) = seats.clone().acquire_owned().await else { break };
        let stream = tokio::select! {
            () = server.stop.cancelled() => break,
            s = listener.accept() => match s {
                Ok((stream, _)) => stream,
                Err(e) => {
                    // Out of file descriptors, or a client that was gone at once: neither is ours to die of.
                    tracing::warn!(error = %e, "failed to accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let (server, acceptor, watcher) = (server.clone(), acceptor.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _seat = seat;
            if let Err(e) = connection(server, acceptor, stream, watcher).await {
                tracing::debug!(error = %e, "connection ended");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests were still running when the server stopped");
    }
    Ok(())
}

async fn connection(
    server: ApiServer,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    watcher: hyper_util::server::graceful::Watcher,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let address = stream.peer_addr().ok();
    stream.set_nodelay(true)?;
    let tls = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let identity = server.authn.peer(tls.get_ref().1.peer_certificates().unwrap_or_default());
    let peer = Peer { address, identity, local: false };
    let service = service_fn(move |request: Request<Incoming>| {
        let (server, peer) = (server.clone(), peer.clone());
        // In a box: hyper makes a task of it, whose memory is aligned, and what glibc 2.36 cuts out for that fits no other
        // task afterwards. It is freed before the answer's body is sent, too, which for a watch lasts long.
        Box::pin(async move { Ok::<_, std::convert::Infallible>(respond(&server, request, peer).await) })
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .keep_alive(true)
        .max_headers(HEADER_COUNT)
        .max_buf_size(HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES as u32)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20));
    // A connection of HTTP/1.1 writes an answer at a time, and what it is upgraded to may not flush.
    if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
        return gather(tls, |io| {
            watcher.watch(builder.serve_connection(TokioIo::new(io), service).into_owned())
        })
        .await;
    }
    let conn = builder.serve_connection_with_upgrades(TokioIo::new(tls), service);
    watcher.watch(conn).await
}

async fn respond(server: &ApiServer, request: Request<Incoming>, peer: Peer) -> Response<WireBody> {
    let (parts, body) = request.into_parts();
    let gzip = accepts_gzip(&parts.headers);
    encode(chain::handle(server, parts, BodySource::Incoming(body), peer).await, gzip)
}
