//! The way back from the server to this node's kubelet, for servers that can't reach it (NAT, firewalls): a connection that
//! the agent makes and keeps, on which the server asks by HTTP/2 for streams to the kubelet's port. The kubelet's own TLS
//! goes through it, so that nothing changes about who may do what. Spawns one task per stream.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use apiserver::streaming::{TUNNEL_PATH, TUNNEL_PROTOCOL};
use client::RemoteTransport;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rand::Rng;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tracing::{debug, info};

const PING: Duration = Duration::from_secs(20);
const PONG: Duration = Duration::from_secs(10);
/// Streams at one time.
const STREAMS: u32 = 256;
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// One that held so long was a good one: the next try comes soon.
const GOOD: Duration = Duration::from_secs(60);

/// Keeps a tunnel to the server, for ever.
pub async fn keep(transport: RemoteTransport, kubelet: SocketAddr) {
    let mut pause = FIRST_RETRY;
    loop {
        let began = client::clock::now();
        match transport.upgrade(TUNNEL_PATH, TUNNEL_PROTOCOL).await {
            Ok(io) => {
                info!("the server has a tunnel to this node");
                let ended = serve(TokioIo::new(io), kubelet).await;
                debug!(error = ?ended.err(), "the tunnel ended");
            }
            Err(e) => debug!(error = %e, "no tunnel to this node"),
        }
        let held = client::clock::between(began, client::clock::now());
        pause = if held > GOOD { FIRST_RETRY } else { (pause * 2).min(LAST_RETRY) };
        // Not all nodes at once, after a server was away.
        let wait = pause.mul_f64(rand::rng().random_range(0.5..1.0));
        tokio::time::sleep(wait).await;
    }
}

/// Serves one tunnel until it ends.
pub async fn serve<S>(stream: S, kubelet: SocketAddr) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(PING))
        .keep_alive_timeout(PONG)
        .max_concurrent_streams(STREAMS)
        .serve_connection(TokioIo::new(stream), service_fn(move |r| open(r, kubelet)))
        .await
}

/// Opens one stream to the kubelet's port, whatever the server calls it.
async fn open(request: Request<Incoming>, kubelet: SocketAddr) -> Result<Response<Empty<Bytes>>, Infallible> {
    let answer = |status: StatusCode| {
        let mut r = Response::new(Empty::new());
        *r.status_mut() = status;
        Ok(r)
    };
    if request.method() != Method::CONNECT {
        return answer(StatusCode::METHOD_NOT_ALLOWED);
    }
    let mut tcp = match TcpStream::connect(kubelet).await {
        Ok(tcp) => tcp,
        Err(e) => {
            debug!(error = %e, "the kubelet's port does not answer the tunnel");
            return answer(StatusCode::BAD_GATEWAY);
        }
    };
    let _ = tcp.set_nodelay(true);
    tokio::spawn(async move {
        match hyper::upgrade::on(request).await {
            Ok(io) => {
                let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(io), &mut tcp).await;
            }
            Err(e) => debug!(error = %e, "a stream of the tunnel did not open"),
        }
    });
    answer(StatusCode::OK)
}
