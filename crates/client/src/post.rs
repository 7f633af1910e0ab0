//! One POST to a service that is no API server (a scheduler's extender): HTTP/1.1, plain or over TLS, a connection of its
//! own each time. Spawns one task a request, which ends with it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The largest answer.
const LARGEST: usize = 64 << 20;

/// Where requests go, and whom to believe there.
#[derive(Clone)]
pub struct Endpoint {
    uri: Uri,
    tls: Option<Arc<rustls::ClientConfig>>,
    /// The name in the server's certificate, when it is not the host's.
    name: Option<String>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.uri)
    }
}

impl Endpoint {
    /// `url` is a prefix; without `tls` it has to begin with `http://`.
    pub fn new(
        url: &str,
        tls: Option<Arc<rustls::ClientConfig>>,
        name: Option<String>,
    ) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|e| format!("{url:?} is no URL: {e}"))?;
        match (uri.scheme_str(), uri.host(), &tls) {
            (Some("http"), Some(_), None) | (Some("https"), Some(_), Some(_)) => Ok(Self { uri, tls, name }),
            (Some("https"), Some(_), None) => Err(format!("{url:?}: no certificates to believe are given")),
            (Some("http"), Some(_), Some(_)) => Err(format!("{url:?} has to begin with https://")),
            _ => Err(format!("{url:?} is no URL with http:// or https:// and a host")),
        }
    }

    /// The body of the answer, which has status 200.
    pub async fn post(&self, verb: &str, body: Vec<u8>, patience: Duration) -> Result<Bytes, String> {
        match tokio::time::timeout(patience, self.send(verb, body)).await {
            Ok(answer) => answer.map_err(|e| format!("{}{verb}: {e}", self.prefix())),
            Err(_) => Err(format!("{}{verb}: no answer within {patience:?}", self.prefix())),
        }
    }

    fn prefix(&self) -> String {
        format!("{}/", self.uri.to_string().trim_end_matches('/'))
    }

    async fn send(&self, verb: &str, body: Vec<u8>) -> Result<Bytes, String> {
        let host = self.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = self.uri.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let tcp = TcpStream::connect((host, port)).await.map_err(|e| e.to_string())?;
        let _ = tcp.set_nodelay(true);
        let Some(tls) = &self.tls else { return self.exchange(tcp, verb, body).await };
        let name = self.name.clone().unwrap_or_else(|| host.to_owned());
        let name = ServerName::try_from(name).map_err(|e| e.to_string())?;
        let tls = TlsConnector::from(tls.clone()).connect(name, tcp).await.map_err(|e| e.to_string())?;
        self.exchange(tls, verb, body).await
    }

    async fn exchange<S>(&self, stream: S, verb: &str, body: Vec<u8>) -> Result<Bytes, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        let path = format!("{}/{verb}", self.uri.path().trim_end_matches('/'));
        let host = self.uri.authority().map_or("", |a| a.as_str());
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| e.to_string())?;
        let answer = async {
            let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
            let status = answer.status();
            let body =
                Limited::new(answer.into_body(), LARGEST).collect().await.map_err(|e| e.to_string())?;
            match status {
                StatusCode::OK => Ok(body.to_bytes()),
                other => Err(format!("the answer is {other}")),
            }
        };
        let answer = answer.await;
        driver.abort();
        answer
    }
}
