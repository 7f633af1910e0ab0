//! Connections to one API server. Owns the one that is kept; spawns one task per connection, which ends with it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Access;

/// For a connection and its handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// A server that is gone without a word is noticed after both, well before its node counts as lost.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(10);
/// What one watch that is not read may hold back of the whole connection's window.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// An API server's address: `https://HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    host: String,
    port: u16,
    name: ServerName<'static>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is no address of an API server such as https://10.0.0.1:6443: {why}")]
pub struct ServerError {
    url: String,
    why: String,
}

impl std::str::FromStr for Server {
    type Err = ServerError;
    fn from_str(url: &str) -> Result<Self, ServerError> {
        let bad = |why: &str| ServerError { url: url.to_owned(), why: why.to_owned() };
        let uri: Uri = url.parse().map_err(|e: http::uri::InvalidUri| bad(&e.to_string()))?;
        if uri.scheme_str() != Some("https") {
            return Err(bad("it has to begin with https://"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(bad("nothing may follow the port"));
        }
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone())
            .map_err(|_| bad("the host is neither a name nor an address"))?;
        Ok(Self { host, port: uri.port_u16().unwrap_or(443), name })
    }
}

impl Server {
    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

/// Why no answer came.
pub struct Failed {
    pub why: String,
    /// It was a connection from before: a new one may do better.
    pub again: bool,
    /// The server may have seen the request.
    pub sent: bool,
}

impl Failed {
    fn before(why: impl std::fmt::Display) -> Self {
        Self { why: why.to_string(), again: false, sent: false }
    }
}

type Two = http2::SendRequest<Full<Bytes>>;

struct State {
    access: Access,
    /// Counts identities, so that a connection made under a former one is not kept.
    generation: u64,
    kept: Option<Two>,
    /// How often connecting failed, and why it did last.
    failures: (u64, String),
    /// It was reached last time, or is away since; `None` before the first time.
    reached: Option<bool>,
}

enum Sender {
    /// With whether it was there before.
    Two(Two, bool),
    One(http1::SendRequest<Full<Bytes>>),
}

pub struct Connections {
    server: Server,
    state: Mutex<State>,
    /// Held while connecting: those who come meanwhile share the new connection.
    opening: tokio::sync::Mutex<()>,
}

/// Both protocols are offered.
fn offered(access: Access) -> Access {
    let mut tls = (*access.tls).clone();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Access { tls: Arc::new(tls), ..access }
}

impl Connections {
    pub fn new(server: Server, access: Access) -> Self {
        let state = State {
            access: offered(access),
            generation: 0,
            kept: None,
            failures: (0, String::new()),
            reached: None,
        };
        Self { server, state: Mutex::new(state), opening: tokio::sync::Mutex::default() }
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    pub fn token(&self) -> Option<String> {
        self.state.lock().access.token.clone()
    }

    pub fn exchange(&self, access: Access) {
        let access = offered(access);
        let mut s = self.state.lock();
        s.access = access;
        s.generation += 1;
        // Its watches hold it open until they end.
        s.kept = None;
    }

    async fn usable(&self) -> Option<Two> {
        let mut kept = self.state.lock().kept.clone().filter(|s| !s.is_closed())?;
        kept.ready().await.is_ok().then_some(kept)
    }

    async fn sender(&self) -> Result<Sender, String> {
        if let Some(s) = self.usable().await {
            return Ok(Sender::Two(s, true));
        }
        let before = self.state.lock().failures.0;
        let _one = self.opening.lock().await;
        if let Some(s) = self.usable().await {
            return Ok(Sender::Two(s, true));
        }
        {
            let s = self.state.lock();
            // Somebody has just tried: a server that is away is not tried by each one in turn.
            if s.failures.0 != before {
                return Err(s.failures.1.clone());
            }
        }
        let opened = match tokio::time::timeout(CONNECT, self.open()).await {
            Ok(opened) => opened,
            Err(_) => Err("connecting timed out".into()),
        };
        let mut s = self.state.lock();
        // Said once for all who ask.
        match (&opened, s.reached) {
            (Ok(_), Some(false)) => tracing::info!(server = %self.server, "the API server is reached again"),
            (Err(why), Some(true)) => {
                tracing::warn!(server = %self.server, error = why, "the API server is not reached any more, trying again");
            }
            _ => {}
        }
        match &opened {
            Ok(_) => s.reached = Some(true),
            Err(why) => {
                s.failures = (s.failures.0 + 1, why.clone());
                s.reached = s.reached.map(|_| false);
            }
        }
        drop(s);
        opened
    }

    async fn open(&self) -> Result<Sender, String> {
        let (tls, generation) = {
            let s = self.state.lock();
            (s.access.tls.clone(), s.generation)
        };
        let io = self.tls(tls).await?;
        if io.get_ref().1.alpn_protocol() != Some(b"h2") {
            let (sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(|e| e.to_string())?;
            tokio::spawn(ended(connection));
            return Ok(Sender::One(sender));
        }
        let (sender, connection) =
            lasting(PING, CONNECTION_WINDOW).handshake(TokioIo::new(io)).await.map_err(|e| e.to_string())?;
        tokio::spawn(ended(connection));
        let mut s = self.state.lock();
        if s.generation == generation {
            s.kept = Some(sender.clone());
        }
        Ok(Sender::Two(sender, false))
    }

    async fn tls(&self, config: Arc<rustls::ClientConfig>) -> Result<TlsStream<TcpStream>, String> {
        let tcp = TcpStream::connect((self.server.host.as_str(), self.server.port));
        let tcp = tcp.await.map_err(|e| e.to_string())?;
        let _ = tcp.set_nodelay(true);
        TlsConnector::from(config).connect(self.server.name.clone(), tcp).await.map_err(|e| e.to_string())
    }

    /// A connection of its own, given up by HTTP once the server agrees to another protocol on it.
    pub async fn upgrade(&self, path: &str, protocol: &str) -> Result<Upgraded, String> {
        let (mut tls, token) = {
            let s = self.state.lock();
            ((*s.access.tls).clone(), s.access.token.clone())
        };
        // HTTP/2 has no upgrades.
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let work = async {
            let io = self.tls(Arc::new(tls)).await?;
            let (mut sender, connection) =
                http1::handshake(TokioIo::new(io)).await.map_err(|e| reason(&e))?;
            tokio::spawn(ended(connection.with_upgrades()));
            let mut request = Request::get(path)
                .header(header::HOST, self.server.authority())
                .header(header::CONNECTION, "Upgrade")
                .header(header::UPGRADE, protocol);
            if let Some(token) = token {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let request = request.body(Full::new(Bytes::new())).map_err(|e| e.to_string())?;
            let answer = sender.send_request(request).await.map_err(|e| reason(&e))?;
            if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                return Err(format!("the server answers {}", answer.status()));
            }
            hyper::upgrade::on(answer).await.map_err(|e| reason(&e))
        };
        match tokio::time::timeout(CONNECT, work).await {
            Ok(done) => done,
            Err(_) => Err("the upgrade timed out".into()),
        }
    }

    pub async fn send(&self, parts: &Parts, body: Bytes) -> Result<Response<Incoming>, Failed> {
        let sender = self.sender().await.map_err(Failed::before)?;
        let authority = self.server.authority();
        let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = parts.method.clone();
        *request.headers_mut() = parts.headers.clone();
        match sender {
            Sender::Two(mut s, kept) => {
                *request.uri_mut() = format!("https://{authority}{path}").parse().map_err(Failed::before)?;
                s.send_request(request).await.map_err(|e| {
                    self.state.lock().kept.take_if(|k| k.is_closed());
                    Failed { sent: !e.is_canceled(), again: kept, why: reason(&e) }
                })
            }
            Sender::One(mut s) => {
                *request.uri_mut() = path.parse().map_err(Failed::before)?;
                let host = HeaderValue::from_str(&authority).map_err(Failed::before)?;
                request.headers_mut().insert(header::HOST, host);
                s.send_request(request).await.map_err(|e| Failed {
                    sent: true,
                    again: false,
                    why: reason(&e),
                })
            }
        }
    }
}

/// An HTTP/2 connection that is kept: `ping` is how often a silent other side is asked whether it is there, `window` what it
/// may send unread (bytes).
pub fn lasting(ping: Duration, window: u32) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(ping))
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(window);
    builder
}

/// The whole chain: hyper's own words alone say little.
fn reason(e: &hyper::Error) -> String {
    let mut out = e.to_string();
    let mut next = std::error::Error::source(e);
    while let Some(e) = next {
        out = format!("{out}: {e}");
        next = e.source();
    }
    out
}

async fn ended<F: Future<Output = Result<(), hyper::Error>>>(connection: F) {
    if let Err(e) = connection.await {
        tracing::debug!(error = %reason(&e), "a connection to the API server ended");
    }
}
