//! The way to webhooks: where a client configuration leads, TLS with its own authority, one JSON body there and one back.
//! Owns a few idle connections per place and the TLS set-ups of the last authorities; spawns one task per connection.
//! https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#contacting-the-webhook

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use base64::Engine;
use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::Reader;
use crate::streaming::ready_endpoint;

/// Most of an answer that is read.
const ANSWER_LIMIT: usize = 4 << 20;
/// Idle connections kept per place.
const IDLE: usize = 8;
/// Places whose connections are kept.
const PLACES: usize = 256;
/// Authorities whose TLS set-up is kept.
const AUTHORITIES: usize = 64;
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Where a call goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    /// `host:port`, or the address of an endpoint.
    address: String,
    /// The name that the certificate must bear.
    name: String,
    ca: Vec<u8>,
}

type Sender = SendRequest<Full<Bytes>>;

#[derive(Default)]
struct Pool(Mutex<HashMap<Place, Vec<Sender>>>);

impl Pool {
    fn take(&self, place: &Place) -> Option<Sender> {
        let mut all = self.0.lock();
        let list = all.get_mut(place)?;
        while let Some(s) = list.pop() {
            if s.is_ready() {
                return Some(s);
            }
        }
        None
    }

    fn give(&self, place: Place, s: Sender) {
        let mut all = self.0.lock();
        if all.len() >= PLACES && !all.contains_key(&place) {
            all.clear();
        }
        let list = all.entry(place).or_default();
        list.retain(|s| !s.is_closed());
        if list.len() < IDLE {
            list.push(s);
        }
    }
}

fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(Pool::default)
}

/// The URL of a client configuration, as errors show it.
pub fn shown(config: &Value) -> String {
    if let Some(url) = config["url"].as_str() {
        return url.to_owned();
    }
    let s = &config["service"];
    let text = |k: &str| s[k].as_str().unwrap_or_default();
    let path = text("path");
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!(
        "https://{}.{}.svc:{}{slash}{path}",
        text("name"),
        text("namespace"),
        s["port"].as_u64().unwrap_or(443)
    )
}

/// Posts `body` to the admission webhook that `config` (a `WebhookClientConfig`) leads to; the answer's JSON.
pub async fn call(
    reader: &dyn Reader,
    config: &Value,
    body: &Value,
    timeout: Duration,
) -> Result<Value, String> {
    post_review(reader, config, body, timeout).await.map_err(|e| format!("failed to call webhook: {e}"))
}

/// Posts `body` to where `config` leads; errors begin with what was tried.
pub async fn post_review(
    reader: &dyn Reader,
    config: &Value,
    body: &Value,
    timeout: Duration,
) -> Result<Value, String> {
    let url = shown(config);
    let with_timeout =
        format!("{url}{}timeout={}s", if url.contains('?') { '&' } else { '?' }, timeout.as_secs());
    let work = async {
        let (place, uri) = place(reader, config, &with_timeout).await?;
        post(place, &uri, body).await
    };
    let result = match tokio::time::timeout(timeout, work).await {
        Ok(r) => r,
        Err(_) => Err("context deadline exceeded".to_owned()),
    };
    result.map_err(|e| format!("Post \"{with_timeout}\": {e}"))
}

async fn place(reader: &dyn Reader, config: &Value, url: &str) -> Result<(Place, Uri), String> {
    let uri: Uri = url.parse().map_err(|e| format!("invalid URL: {e}"))?;
    if uri.scheme_str() != Some("https") {
        return Err("the scheme of a webhook's URL must be https".into());
    }
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(443);
    let ca = match config["caBundle"].as_str().filter(|s| !s.is_empty()) {
        Some(b) => {
            base64::engine::general_purpose::STANDARD.decode(b).map_err(|e| format!("caBundle: {e}"))?
        }
        None => Vec::new(),
    };
    let service = &config["service"];
    let address = if service.is_object() {
        let text = |k: &str| service[k].as_str().unwrap_or_default();
        endpoint(reader, text("namespace"), text("name"), port).await?
    } else if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let name = host.strip_suffix('.').unwrap_or(&host).to_owned();
    Ok((Place { address, name, ca }, uri))
}

/// The address of one ready endpoint of a service.
pub async fn endpoint(reader: &dyn Reader, namespace: &str, name: &str, port: u16) -> Result<String, String> {
    let found = reader.get("", "services", namespace, name).await.map_err(|e| e.message)?;
    let Some(service) = found else { return Err(format!("service \"{name}\" not found")) };
    let v = service.value().map_err(|e| e.to_string())?;
    let spec = &v["spec"];
    if spec["type"] == "ExternalName" {
        return Ok(format!("{}:{port}", spec["externalName"].as_str().unwrap_or_default()));
    }
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(found) = ports.iter().find(|p| p["port"].as_u64() == Some(u64::from(port))) else {
        return Err(format!("no service port {port} found for service \"{name}\""));
    };
    let port_name = found["name"].as_str().unwrap_or_default();
    let endpoint = ready_endpoint(reader, namespace, name, port_name).await.map_err(|e| e.message)?;
    let Some((ip, port)) = endpoint else {
        return Err(format!("no endpoints available for service \"{name}\""));
    };
    Ok(if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") })
}

/// Who is believed by a `caBundle`, or by the system's authorities where there is none.
pub fn believed(ca: &[u8]) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let pem = match ca.is_empty() {
        false => String::from_utf8(ca.to_vec()).map_err(|_| "caBundle: no PEM text".to_owned())?,
        true => std::fs::read_to_string(SYSTEM_ROOTS)
            .map_err(|e| format!("there is no caBundle, and the system's authorities can't be read: {e}"))?,
    };
    let bundle = pki::trust::certificates(&pem).map_err(|e| format!("caBundle: {e}"))?;
    pki::authorities::verifier(bundle).map_err(|e| format!("caBundle: {e}"))
}

/// Whom a connection trusts: the authority of a configuration, or the system's, whose file may be replaced.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Trust {
    Bundle(Vec<u8>),
    System(Option<SystemTime>),
}

impl Trust {
    fn of(ca: &[u8]) -> Self {
        if ca.is_empty() {
            Self::System(std::fs::metadata(SYSTEM_ROOTS).and_then(|m| m.modified()).ok())
        } else {
            Self::Bundle(ca.to_vec())
        }
    }
}

type ClientConfigs = HashMap<Trust, Arc<rustls::ClientConfig>>;

/// The TLS set-up for an authority. Parsed once while it is kept: the system's alone are more than a hundred certificates.
fn client_config(configs: &Mutex<ClientConfigs>, ca: &[u8]) -> Result<Arc<rustls::ClientConfig>, String> {
    let trust = Trust::of(ca);
    if let Some(known) = configs.lock().get(&trust) {
        return Ok(known.clone());
    }
    let config = rustls::ClientConfig::builder_with_provider(pki::trust::provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(believed(ca)?)
        .with_no_client_auth();
    let config = Arc::new(config);
    let mut all = configs.lock();
    if all.len() >= AUTHORITIES {
        all.clear();
    }
    all.insert(trust, config.clone());
    Ok(config)
}

fn connector(ca: &[u8]) -> Result<TlsConnector, String> {
    static CONFIGS: OnceLock<Mutex<ClientConfigs>> = OnceLock::new();
    client_config(CONFIGS.get_or_init(Mutex::default), ca).map(TlsConnector::from)
}

async fn connect(place: &Place) -> Result<Sender, String> {
    let tcp =
        TcpStream::connect(&place.address).await.map_err(|e| format!("dial tcp {}: {e}", place.address))?;
    let _ = tcp.set_nodelay(true);
    let name = ServerName::try_from(place.name.clone()).map_err(|e| format!("{:?}: {e}", place.name))?;
    let tls = connector(&place.ca)?.connect(name, tcp).await.map_err(|e| format!("tls: {e}"))?;
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(|e| e.to_string())?;
    tokio::spawn(async move {
        if let Err(e) = connection.await {
            tracing::debug!(error = %e, "a connection to a webhook ended");
        }
    });
    Ok(sender)
}

async fn post(place: Place, uri: &Uri, body: &Value) -> Result<Value, String> {
    let bytes = Bytes::from(serde_json::to_vec(body).map_err(|e| e.to_string())?);
    // A kept connection may have been closed by the other side a moment ago: then a fresh one is used, once.
    let kept = pool().take(&place);
    let was_kept = kept.is_some();
    let mut sender = match kept {
        Some(s) => s,
        None => connect(&place).await?,
    };
    let response = match sender.send_request(request(uri, &place, bytes.clone())?).await {
        Ok(r) => r,
        Err(_) if was_kept => {
            sender = connect(&place).await?;
            sender.send_request(request(uri, &place, bytes)?).await.map_err(|e| e.to_string())?
        }
        Err(e) => return Err(e.to_string()),
    };
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await.map_err(|e| e.to_string())?;
    let body = body.to_bytes();
    if sender.ready().await.is_ok() {
        pool().give(place, sender);
    }
    if !status.is_success() {
        let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
        return Err(format!("the server answered {status}: {text}"));
    }
    serde_json::from_slice(&body).map_err(|e| format!("the answer is no JSON: {e}"))
}

fn request(uri: &Uri, place: &Place, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, uri.authority().map_or(place.name.as_str(), |a| a.as_str()))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, */*")
        .header(header::USER_AGENT, "kube-apiserver-admission")
        .body(Full::new(body))
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(n: usize) -> Vec<u8> {
        let ca = pki::Authority::create(&format!("ca-{n}"), 0).expect("authority");
        ca.cert_pem().as_bytes().to_vec()
    }

    #[test]
    fn one_set_up_for_each_authority() {
        let configs = Mutex::default();
        let (a, b) = (authority(1), authority(2));
        let first = client_config(&configs, &a).expect("config");
        assert!(Arc::ptr_eq(&first, &client_config(&configs, &a).expect("config")));
        assert!(!Arc::ptr_eq(&first, &client_config(&configs, &b).expect("config")));
        assert!(client_config(&configs, &[0xff]).is_err(), "no text");
        for n in 0..AUTHORITIES {
            // Different bytes are enough.
            let padded = [a.as_slice(), "\n".repeat(n + 1).as_bytes()].concat();
            client_config(&configs, &padded).expect("config");
            assert!(configs.lock().len() <= AUTHORITIES);
        }
    }
}
