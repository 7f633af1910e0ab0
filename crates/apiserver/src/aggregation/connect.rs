//! Connections to remote API servers: TLS with the front proxy's certificate, HTTP/2 where the other side speaks it. One
//! HTTP/2 connection is kept per endpoint; spawns one task per connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Reader;
use crate::body::WireBody;
use crate::user::User;
use crate::webhook;

const CONNECT: Duration = Duration::from_secs(10);
/// Places whose connections are kept.
const PLACES: usize = 256;
/// What may stand unescaped in the name of a header.
const HEADER_KEY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'*')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The identity by which remote API servers know that a request comes from us.
#[derive(Debug, Clone)]
pub struct FrontProxy {
    /// Authority of the cluster's own client certificates, PEM.
    pub client_ca: String,
    /// Authority of the front proxy's certificate, PEM.
    pub ca: String,
    pub certificate: pki::CertKey,
}

impl FrontProxy {
    pub fn of(pki: &pki::Pki) -> Self {
        Self {
            client_ca: pki.ca.cert_pem().to_owned(),
            ca: pki.front_proxy.cert_pem().to_owned(),
            certificate: pki.front_proxy_client.clone(),
        }
    }
}

/// Where an APIService leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    pub namespace: String,
    pub name: String,
    pub port: u16,
    /// PEM; empty: the system's authorities.
    ca: Vec<u8>,
    insecure: bool,
}

impl Backend {
    /// `None` for a local one.
    pub fn of(spec: &Value) -> Option<Self> {
        let service = spec["service"].as_object()?;
        let text = |k: &str| service.get(k).and_then(Value::as_str).unwrap_or_default().to_owned();
        let port = service.get("port").and_then(Value::as_u64).unwrap_or(443);
        let ca = spec["caBundle"].as_str().unwrap_or_default();
        Some(Self {
            namespace: text("namespace"),
            name: text("name"),
            port: u16::try_from(port).ok()?,
            ca: base64::engine::general_purpose::STANDARD.decode(ca).unwrap_or_default(),
            insecure: spec["insecureSkipTLSVerify"] == true,
        })
    }

    /// The name that the certificate must bear.
    pub fn server_name(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }

    /// The address of one of its ready endpoints.
    pub async fn resolve(&self, reader: &dyn Reader) -> Result<String, String> {
        webhook::endpoint(reader, &self.namespace, &self.name, self.port).await
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    address: String,
    name: String,
    ca: Vec<u8>,
    insecure: bool,
}

type Multiplexed = hyper::client::conn::http2::SendRequest<WireBody>;

/// Opens and keeps connections.
pub struct Connections {
    identity: Option<FrontProxy>,
    kept: Mutex<HashMap<Place, Multiplexed>>,
}

/// What a connection came to.
enum Sender {
    Two(Multiplexed),
    One(hyper::client::conn::http1::SendRequest<WireBody>),
}

impl Connections {
    pub fn new(identity: Option<FrontProxy>) -> Self {
        Self { identity, kept: Mutex::default() }
    }

    pub fn identity(&self) -> Option<&FrontProxy> {
        self.identity.as_ref()
    }

    fn connector(&self, b: &Backend, protocols: &[&[u8]]) -> Result<TlsConnector, String> {
        let believed = if b.insecure { pki::unverified::verifier() } else { webhook::believed(&b.ca)? };
        let own = self.identity.as_ref().map(|i| &i.certificate);
        let mut config = pki::dir::client_config(believed, own).map_err(|e| e.to_string())?;
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        Ok(TlsConnector::from(Arc::new(config)))
    }

    async fn tls(
        &self,
        b: &Backend,
        address: &str,
        protocols: &[&[u8]],
    ) -> Result<TlsStream<TcpStream>, String> {
        let work = async {
            let tcp = TcpStream::connect(address).await.map_err(|e| format!("dial tcp {address}: {e}"))?;
            let _ = tcp.set_nodelay(true);
            let name =
                ServerName::try_from(b.server_name()).map_err(|e| format!("{:?}: {e}", b.server_name()))?;
            self.connector(b, protocols)?.connect(name, tcp).await.map_err(|e| format!("tls: {e}"))
        };
        match tokio::time::timeout(CONNECT, work).await {
            Ok(r) => r,
            Err(_) => Err(format!("dial tcp {address}: timed out")),
        }
    }

    /// A connection of one's own that speaks HTTP/1.1, for an upgrade.
    pub async fn plain(&self, b: &Backend, address: &str) -> Result<TlsStream<TcpStream>, String> {
        self.tls(b, address, &[b"http/1.1"]).await
    }

    async fn open(&self, b: &Backend, place: Place) -> Result<Sender, String> {
        let tls = self.tls(b, &place.address, &[b"h2", b"http/1.1"]).await?;
        if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(|e| e.to_string())?;
            tokio::spawn(ended(connection));
            return Ok(Sender::One(sender));
        }
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(Duration::from_secs(30)))
            .keep_alive_timeout(Duration::from_secs(15))
            .handshake(TokioIo::new(tls))
            .await
            .map_err(|e| e.to_string())?;
        tokio::spawn(ended(connection));
        let mut kept = self.kept.lock();
        if kept.len() >= PLACES {
            kept.clear();
        }
        kept.insert(place, sender.clone());
        Ok(Sender::Two(sender))
    }

    /// Sends a request to one of the service's endpoints; its URI holds path and query only.
    pub async fn send(
        &self,
        reader: &dyn Reader,
        b: &Backend,
        mut request: Request<WireBody>,
    ) -> Result<Response<Incoming>, String> {
        let address = b.resolve(reader).await?;
        let place = Place { address, name: b.server_name(), ca: b.ca.clone(), insecure: b.insecure };
        let kept = self.kept.lock().get(&place).filter(|s| !s.is_closed()).cloned();
        let authority = format!("{}:{}", place.name, b.port);
        let mut ready = None;
        if let Some(mut s) = kept
            && s.ready().await.is_ok()
        {
            ready = Some(s);
        }
        let sender = match ready {
            Some(s) => Sender::Two(s),
            None => {
                self.kept.lock().remove(&place);
                self.open(b, place).await?
            }
        };
        match sender {
            Sender::Two(mut s) => {
                let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
                *request.uri_mut() =
                    format!("https://{authority}{path}").parse::<Uri>().map_err(|e| e.to_string())?;
                s.send_request(request).await.map_err(|e| e.to_string())
            }
            Sender::One(mut s) => {
                let host = HeaderValue::from_str(&authority).map_err(|e| e.to_string())?;
                request.headers_mut().insert(header::HOST, host);
                s.send_request(request).await.map_err(|e| e.to_string())
            }
        }
    }

    /// Asks for a document as the aggregator itself, who may see everything.
    pub async fn get(
        &self,
        reader: &dyn Reader,
        b: &Backend,
        path: &str,
        headers: &[(HeaderName, &str)],
    ) -> Result<Response<Incoming>, String> {
        let mut request = Request::get(path).body(crate::streaming::empty()).map_err(|e| e.to_string())?;
        let h = request.headers_mut();
        for (k, v) in headers {
            h.insert(k.clone(), HeaderValue::from_str(v).map_err(|e| e.to_string())?);
        }
        identify(h, &User::new("system:kube-aggregator", &["system:masters"]));
        self.send(reader, b, request).await
    }
}

async fn ended<E: std::fmt::Display>(connection: impl Future<Output = Result<(), E>>) {
    if let Err(e) = connection.await {
        tracing::debug!(error = %e, "a connection to a remote API server ended");
    }
}

/// Says in the headers of a front proxy whose request this is.
pub fn identify(h: &mut HeaderMap, user: &User) {
    strip(h);
    let mut put = |name: &str, value: &str| {
        if let (Ok(n), Ok(v)) =
            (HeaderName::try_from(name.to_ascii_lowercase()), HeaderValue::from_str(value))
        {
            h.append(n, v);
        }
    };
    put("x-remote-user", &user.name);
    if !user.uid.is_empty() {
        put("x-remote-uid", &user.uid);
    }
    user.groups.iter().for_each(|g| put("x-remote-group", g));
    for (key, values) in &user.extra {
        let name = format!("x-remote-extra-{}", utf8_percent_encode(key, HEADER_KEY));
        values.iter().for_each(|v| put(&name, v));
    }
}

/// Takes out what a front proxy says about a user.
pub fn strip(h: &mut HeaderMap) {
    let names: Vec<HeaderName> = h.keys().filter(|n| n.as_str().starts_with("x-remote-")).cloned().collect();
    for n in names {
        h.remove(n);
    }
}

/// The body of an answer, up to `limit`.
pub async fn whole(body: Incoming, limit: usize) -> Result<Bytes, String> {
    use http_body_util::BodyExt;
    let all = http_body_util::Limited::new(body, limit).collect().await.map_err(|e| e.to_string())?;
    Ok(all.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_user_in_headers() {
        let mut h = HeaderMap::new();
        h.insert("x-remote-group", HeaderValue::from_static("system:masters"));
        h.insert("x-remote-extra-forged", HeaderValue::from_static("x"));
        let mut user = User::new("jane", &["a", "b"]);
        user.extra.insert("example.com/Scopes".into(), vec!["one".into(), "two".into()]);
        identify(&mut h, &user);
        let all: Vec<(&str, &str)> =
            h.iter().map(|(k, v)| (k.as_str(), v.to_str().unwrap_or_default())).collect();
        assert_eq!(
            all,
            [
                ("x-remote-user", "jane"),
                ("x-remote-group", "a"),
                ("x-remote-group", "b"),
                ("x-remote-extra-example.com%2fscopes", "one"),
                ("x-remote-extra-example.com%2fscopes", "two")
            ]
        );
        strip(&mut h);
        assert!(h.is_empty());
    }

    #[test]
    fn where_a_service_leads() {
        let spec =
            json!({"service": {"namespace": "n", "name": "s", "port": 8443}, "insecureSkipTLSVerify": true});
        let b = Backend::of(&spec).expect("backend");
        assert_eq!((b.server_name().as_str(), b.port, b.insecure), ("s.n.svc", 8443, true));
        assert!(Backend::of(&json!({"service": null})).is_none());
        assert!(Backend::of(&json!({"service": {"name": "s", "namespace": "n", "port": 70000}})).is_none());
    }
}
