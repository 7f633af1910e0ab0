//! Calls to etcd: one connection to each endpoint, made when first used; a call that fails for reasons of the connection
//! or the member goes on to the next endpoint. Spawns nothing itself (a connection is a task of tonic's).

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Streaming};
use tonic_prost::ProstCodec;

use super::proto;
use crate::Error;

/// For one attempt at one member.
const ATTEMPT: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(3);
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(5);
/// Between attempts, once every endpoint had its turn.
const PAUSE: Duration = Duration::from_millis(200);

/// Files of the connection's TLS; read when the engine is opened.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    pub ca: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

pub(super) struct Client {
    endpoints: Vec<(String, Channel)>,
    current: AtomicUsize,
    timeout: Duration,
}

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// The member or the way to it: another attempt may succeed, and a write may have happened.
    Retry(String),
    Final(Error),
}

impl Client {
    pub fn new(endpoints: &[String], tls: &Tls, timeout: Duration) -> Result<Self, Error> {
        if endpoints.is_empty() {
            return Err(Error::Unavailable("no endpoint is given".into()));
        }
        let tls = load(tls)?;
        let endpoints = endpoints
            .iter()
            .map(|url| Ok((url.clone(), channel(url, &tls)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(Self { endpoints, current: AtomicUsize::new(0), timeout })
    }

    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// One attempt at one endpoint.
    pub async fn attempt<Q, A>(&self, at: usize, path: &'static str, request: Q) -> Result<A, Failed>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let (url, channel) = &self.endpoints[at % self.endpoints.len()];
        let call = async {
            let mut grpc = grpc(channel);
            grpc.ready().await.map_err(|e| tonic::Status::unavailable(e.to_string()))?;
            let codec = ProstCodec::<Q, A>::default();
            grpc.unary(Request::new(request), PathAndQuery::from_static(path), codec).await
        };
        match tokio::time::timeout(ATTEMPT.min(self.timeout), call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(classify(url, &status)),
            Err(_) => Err(Failed::Retry(format!("{url} does not answer"))),
        }
    }

    /// The endpoint that calls go to at present.
    pub fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed) % self.endpoints.len()
    }

    pub fn failed_at(&self, at: usize) {
        // Whoever saw it first moves on; the others follow.
        let _ = self.current.compare_exchange(
            at,
            (at + 1) % self.endpoints.len(),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// Tries until it is answered or time is over. `attempt` gets the endpoint's number.
    pub async fn retry<T, F>(&self, mut attempt: impl FnMut(usize) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Failed>>,
    {
        let deadline = Instant::now() + self.timeout;
        let mut tries = 0;
        loop {
            let at = self.current();
            let why = match attempt(at).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Final(e)) => return Err(e),
                Err(Failed::Retry(why)) => why,
            };
            self.failed_at(at);
            tries += 1;
            if Instant::now() >= deadline {
                return Err(Error::Unavailable(why));
            }
            if tries % self.endpoints.len() == 0 {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// A call that may be made twice without harm.
    pub async fn call<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Error>
    where
        Q: prost::Message + Clone + 'static,
        A: prost::Message + Default + 'static,
    {
        self.retry(|at| self.attempt(at, path, request.clone())).await
    }

    /// Opens a watch stream at one endpoint.
    pub async fn watch(
        &self,
        at: usize,
        requests: impl futures::Stream<Item = proto::WatchRequest> + Send + 'static,
    ) -> Result<Streaming<proto::WatchResponse>, Failed> {
        let (url, channel) = &self.endpoints[at % self.endpoints.len()];
        let call = async {
            let mut grpc = grpc(channel);
            grpc.ready().await.map_err(|e| tonic::Status::unavailable(e.to_string()))?;
            let mut request = Request::new(requests);
            // A member cut off from the others ends the watch instead of falling silent.
            request.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
            let codec = ProstCodec::<proto::WatchRequest, proto::WatchResponse>::default();
            grpc.streaming(request, PathAndQuery::from_static(proto::WATCH), codec).await
        };
        match tokio::time::timeout(ATTEMPT, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(classify(url, &status)),
            Err(_) => Err(Failed::Retry(format!("{url} does not answer"))),
        }
    }

    pub fn url(&self, at: usize) -> &str {
        &self.endpoints[at % self.endpoints.len()].0
    }
}

fn grpc(channel: &Channel) -> Grpc<Channel> {
    // etcd bounds what it takes in, and lists may be big.
    Grpc::new(channel.clone()).max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX)
}

fn load(tls: &Tls) -> Result<ClientTlsConfig, Error> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|source| Error::Io { what: format!("read {}", path.display()), source })
    };
    let mut config = ClientTlsConfig::new();
    if let Some(ca) = &tls.ca {
        config = config.ca_certificate(Certificate::from_pem(read(ca)?));
    }
    match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            config = config.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        (None, None) => {}
        _ => return Err(Error::Unavailable("a client certificate and its key go together".into())),
    }
    Ok(config)
}

fn channel(url: &str, tls: &ClientTlsConfig) -> Result<Channel, Error> {
    let bad = |e: tonic::transport::Error| Error::Unavailable(format!("endpoint {url}: {}", chain(&e)));
    let mut endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(bad)?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_ANSWER)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    if url.starts_with("https://") {
        endpoint = endpoint.tls_config(tls.clone()).map_err(bad)?;
    } else if !url.starts_with("http://") {
        return Err(Error::Unavailable(format!("endpoint {url} must begin with https:// or http://")));
    }
    Ok(endpoint.connect_lazy())
}

/// An error with its reasons; tonic's own text stops at "transport error".
fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut source = e.source();
    while let Some(s) = source {
        let more = s.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        source = s.source();
    }
    text
}

pub(super) fn classify(url: &str, status: &tonic::Status) -> Failed {
    let text = status.message();
    match status.code() {
        Code::InvalidArgument if text.contains("request is too large") => {
            Failed::Final(Error::TooLarge { key: String::new(), size: 0, limit: 0 })
        }
        Code::ResourceExhausted if text.contains("larger than max") => {
            Failed::Final(Error::TooLarge { key: String::new(), size: 0, limit: 0 })
        }
        Code::OutOfRange if text.contains("has been compacted") => {
            Failed::Final(Error::Compacted { asked: 0, oldest: 0 })
        }
        Code::OutOfRange if text.contains("future revision") => {
            Failed::Final(Error::Future { asked: 0, newest: 0 })
        }
        Code::ResourceExhausted if text.contains("database space exceeded") => {
            Failed::Final(Error::Full { path: format!("the etcd at {url} (over its quota)") })
        }
        Code::InvalidArgument
        | Code::OutOfRange
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented
        | Code::NotFound
        | Code::AlreadyExists => Failed::Final(Error::Unavailable(format!("{url}: {text}"))),
        _ => {
            let why = std::error::Error::source(status).map_or(String::new(), |s| format!(": {}", chain(s)));
            Failed::Retry(format!("{url}: {text}{why}"))
        }
    }
}

/// As etcd counts.
pub(super) fn revision(header: Option<&proto::Header>) -> i64 {
    header.map_or(0, |h| h.revision)
}
