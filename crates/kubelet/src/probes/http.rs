//! A small HTTP client for probes and hooks: one request, one connection, certificates not checked (as upstream: the
//! kubelet asks whether the program answers, not who it is).

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const MAX_BODY: usize = 10 << 10;

pub struct HttpClient {
    tls: Option<TlsConnector>,
}

impl Default for HttpClient {
    fn default() -> Self {
        Self { tls: pki::any_server().ok().map(TlsConnector::from) }
    }
}

impl HttpClient {
    /// The answer with at most 10 KiB of its body.
    pub async fn get(
        &self,
        tls: bool,
        host: &str,
        port: u16,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<Bytes>, String> {
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let tcp = TcpStream::connect((bare.as_str(), port))
            .await
            .map_err(|e| format!("dial tcp {host}:{port}: connect: {}", reason(&e)))?;
        if !tls {
            return send(TokioIo::new(tcp), request).await;
        }
        let connector = self.tls.as_ref().ok_or("TLS is not available")?;
        let name = ServerName::try_from(bare).map_err(|e| e.to_string())?;
        let stream = connector.connect(name, tcp).await.map_err(|e| format!("tls: {e}"))?;
        send(TokioIo::new(stream), request).await
    }
}

pub fn reason(e: &std::io::Error) -> String {
    match e.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "no route to host".into(),
        _ => e.to_string(),
    }
}

async fn send<T>(io: T, request: Request<Empty<Bytes>>) -> Result<Response<Bytes>, String>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let answer = sender
        .send_request(request)
        .await
        .map_err(|e| if e.is_incomplete_message() { "EOF".to_owned() } else { e.to_string() });
    let out = match answer {
        Ok(r) => {
            let (parts, body) = r.into_parts();
            let bytes =
                Limited::new(body, MAX_BODY).collect().await.map(|b| b.to_bytes()).unwrap_or_default();
            Ok(Response::from_parts(parts, bytes))
        }
        Err(e) => Err(e),
    };
    driver.abort();
    out
}
