//! Pulling from registries (OCI distribution): names to manifests, layers in parallel, tokens and basic authentication,
//! redirects. HTTP/1.1 over rustls with the system's certificates; plain HTTP only for loopback and registries that the
//! operator calls insecure. Nothing a registry says is believed before its digest and size are seen. Spawns one task
//! per connection and one blocking thread per layer, at most [`PARALLEL`] at a time, all gone when a pull returns.

use super::archive::now;
use super::model::*;
use super::reference::Reference;
use super::store::{ImageError, ImageStore, Result, digest_of};
use base64::Engine;
use bytes::Bytes;
use cri::AuthConfig;
use futures::StreamExt;
use http::header::{AUTHORIZATION, HOST, HeaderValue, LOCATION, USER_AGENT, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

const PARALLEL: usize = 4;
const MAX_DOCUMENT: u64 = 4 << 20;
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// Silence of a connection after which it is given up.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
const ATTEMPTS: u32 = 3;
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// Counts bytes for whoever shows a bar.
#[derive(Debug, Default)]
pub struct Progress {
    pub total: AtomicU64,
    pub done: Arc<AtomicU64>,
}

struct Session<'a> {
    name: &'a Reference,
    base: String,
    auth: Option<&'a AuthConfig>,
    /// The Authorization header that worked last.
    token: Mutex<Option<String>>,
}

fn unavailable(what: impl std::fmt::Display) -> ImageError {
    ImageError::Unavailable(what.to_string())
}

fn loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// What the operator says of registries.
pub struct Registries<'a> {
    /// Spoken to without TLS.
    pub insecure: &'a [String],
    /// URLs asked before the registry itself.
    pub mirrors: &'a BTreeMap<String, Vec<String>>,
}

/// Pulls an image into the store. Layers that are there already aren't fetched again.
pub async fn pull(
    store: Arc<ImageStore>,
    image: &str,
    auth: Option<&AuthConfig>,
    from: &Registries<'_>,
    progress: Option<&Progress>,
) -> Result<ImageRecord> {
    let name = Reference::parse(image)?;
    let host = if name.registry == "docker.io" { "registry-1.docker.io" } else { &name.registry };
    for mirror in from.mirrors.get(&name.registry).into_iter().flatten() {
        let base = format!("{}/v2/{}", mirror.trim_end_matches('/'), name.repository);
        // The registry's credentials are none of the mirror's business.
        let s = Session { name: &name, base, auth: None, token: Mutex::new(None) };
        match s.pull(store.clone(), progress).await {
            Ok(r) => return Ok(r),
            Err(e) => tracing::info!(image, mirror, error = %e, "a mirror does not have the image"),
        }
    }
    let plain = loopback(host) || from.insecure.iter().any(|i| i == host);
    let base = format!("{}://{host}/v2/{}", if plain { "http" } else { "https" }, name.repository);
    let s = Session { name: &name, base, auth, token: Mutex::new(None) };
    let failed = |e: ImageError| match e {
        ImageError::Unavailable(m) => ImageError::Unavailable(format!("failed to pull image {image:?}: {m}")),
        ImageError::Refused(m) => ImageError::Refused(format!("failed to pull image {image:?}: {m}")),
        e => ImageError::Invalid(format!("failed to pull image {image:?}: {e}")),
    };
    s.pull(store, progress).await.map_err(failed)
}

impl Session<'_> {
    async fn pull(&self, store: Arc<ImageStore>, progress: Option<&Progress>) -> Result<ImageRecord> {
        let mut manifests = BTreeSet::new();
        let mut selector = self.name.selector().to_string();
        let mut top = None;
        let manifest = loop {
            let (bytes, digest, kind) = self.manifest(&selector).await?;
            store.put_blob(&digest, &bytes)?;
            manifests.insert(digest.clone());
            top.get_or_insert(digest);
            let m: Manifest = parse("the manifest", &bytes)?;
            let kind = if m.media_type.is_empty() { kind } else { m.media_type.clone() };
            if !is_index(&kind, &m) {
                break m;
            }
            let next = choose(m.manifests.as_deref().unwrap_or_default()).filter(|_| manifests.len() < 4);
            let arch = host_architecture();
            selector = next.map(|d| d.digest.clone()).ok_or_else(|| {
                ImageError::Refused(format!("no match for platform linux/{arch} in its manifest"))
            })?;
        };
        let config_bytes = self.document(&manifest.config).await?;
        store.put_blob(&manifest.config.digest, &config_bytes)?;
        let config: ConfigFile = parse("the image config", &config_bytes)?;
        let diff_ids = config.rootfs.diff_ids.clone();
        if diff_ids.len() != manifest.layers.len() {
            return Err(ImageError::Invalid("manifest and config name different numbers of layers".into()));
        }
        let size = manifest.config.size + manifest.layers.iter().map(|l| l.size).sum::<u64>();
        let held_by = store.clone();
        let _held = held_by.hold(&diff_ids);
        let missing: BTreeMap<String, Descriptor> =
            diff_ids.iter().cloned().zip(manifest.layers).filter(|(d, _)| !store.has_layer(d)).collect();
        let done = progress.map(|p| {
            p.total.store(missing.values().map(|l| l.size).sum(), Ordering::Relaxed);
            p.done.clone()
        });
        let fetches =
            missing.into_iter().map(|(diff_id, l)| self.layer(store.clone(), diff_id, l, done.clone()));
        let mut running = futures::stream::iter(fetches).buffer_unordered(PARALLEL);
        while let Some(r) = running.next().await {
            r?;
        }
        drop(running);
        let top = top.unwrap_or_default();
        let rec = ImageRecord {
            id: manifest.config.digest.clone(),
            manifests,
            diff_ids: diff_ids.clone(),
            size,
            tags: self.name.digest.is_none().then(|| self.name.to_string()).into_iter().collect(),
            digests: BTreeSet::from([format!("{}@{top}", self.name.name())]),
            run: config.config.unwrap_or_default().into(),
            added_at: now(),
        };
        let commit = tokio::task::spawn_blocking(move || store.commit(rec));
        commit.await.unwrap_or_else(|e| Err(ImageError::Invalid(e.to_string())))
    }

    async fn manifest(&self, selector: &str) -> Result<(Vec<u8>, String, String)> {
        let url = format!("{}/manifests/{selector}", self.base);
        let resp = self.get(&url, Some(ACCEPT)).await?;
        let header =
            |n: &str| resp.headers().get(n).and_then(|v| v.to_str().ok()).unwrap_or_default().to_string();
        let (kind, claimed) = (header("content-type"), header("docker-content-digest"));
        let bytes = collect(resp, MAX_DOCUMENT).await?;
        let digest = digest_of(&bytes);
        let want = if super::reference::is_digest(selector) { selector } else { &claimed };
        match want.is_empty() || *want == digest {
            true => Ok((bytes, digest, kind)),
            false => {
                Err(ImageError::Digest { what: "the manifest".into(), want: want.to_string(), got: digest })
            }
        }
    }

    async fn document(&self, d: &Descriptor) -> Result<Vec<u8>> {
        if !super::reference::is_digest(&d.digest) || d.size > MAX_DOCUMENT {
            return Err(ImageError::Invalid(format!(
                "the manifest names a config of {} bytes, {:?}",
                d.size, d.digest
            )));
        }
        let resp = self.get(&format!("{}/blobs/{}", self.base, d.digest), None).await?;
        collect(resp, MAX_DOCUMENT).await
    }

    /// One layer, from the socket through the digest and the unpacker to its place. A broken connection is tried again.
    async fn layer(
        &self,
        store: Arc<ImageStore>,
        diff_id: String,
        d: Descriptor,
        done: Option<Arc<AtomicU64>>,
    ) -> Result<()> {
        if !super::reference::is_digest(&d.digest) {
            return Err(ImageError::Invalid(format!("the manifest names a layer {:?}", d.digest)));
        }
        let mut attempt = 1;
        loop {
            match self.layer_once(store.clone(), &diff_id, &d, done.clone()).await {
                Err(ImageError::Unavailable(e)) if attempt < ATTEMPTS => {
                    tracing::info!(layer = %d.digest, attempt, error = %e, "a layer's transfer broke off; trying again");
                    tokio::time::sleep(Duration::from_millis(200 * u64::from(attempt))).await;
                    attempt += 1;
                }
                r => return r,
            }
        }
    }

    async fn layer_once(
        &self,
        store: Arc<ImageStore>,
        diff_id: &str,
        d: &Descriptor,
        done: Option<Arc<AtomicU64>>,
    ) -> Result<()> {
        let mut body = self.get(&format!("{}/blobs/{}", self.base, d.digest), None).await?.into_body();
        let (tx, rx) = mpsc::channel::<std::io::Result<Bytes>>(16);
        let (diff_id, digest, size) = (diff_id.to_string(), d.digest.clone(), d.size);
        let unpack = tokio::task::spawn_blocking(move || {
            // A stream that doesn't end is cut one byte after the promised size, which then doesn't match.
            let reader = Chunks { rx, rest: Bytes::new() }.take(size.saturating_add(1));
            store.put_layer(&diff_id, reader, Some((&digest, size)))
        });
        let mut broken = None;
        loop {
            let frame = match tokio::time::timeout(IDLE_LIMIT, body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(f))) => f,
                Ok(Some(Err(e))) => {
                    broken = Some(format!("the registry broke off: {e}"));
                    break;
                }
                Err(_) => {
                    broken = Some(format!("the registry has been silent for {} s", IDLE_LIMIT.as_secs()));
                    break;
                }
            };
            if let Ok(data) = frame.into_data() {
                if let Some(n) = &done {
                    n.fetch_add(data.len() as u64, Ordering::Relaxed);
                }
                // The reader has gone: it has seen enough, and says why.
                if tx.send(Ok(data)).await.is_err() {
                    break;
                }
            }
        }
        if let Some(why) = &broken {
            let _ = tx.send(Err(std::io::Error::other(why.clone()))).await;
        }
        drop(tx);
        let result = unpack.await.unwrap_or_else(|e| Err(ImageError::Invalid(e.to_string())));
        match (result, broken) {
            (Err(_), Some(why)) => Err(unavailable(why)),
            (r, _) => r,
        }
    }

    /// GET with authentication and redirects; only success comes back.
    async fn get(&self, url: &str, accept: Option<&str>) -> Result<Response<Incoming>> {
        let mut asked = false;
        loop {
            let token = self.token.lock().clone();
            let resp = follow(url, accept, token.as_deref()).await?;
            match resp.status() {
                s if s.is_success() => return Ok(resp),
                StatusCode::UNAUTHORIZED if !asked => {
                    asked = true;
                    let challenges: Vec<String> = resp
                        .headers()
                        .get_all(WWW_AUTHENTICATE)
                        .iter()
                        .filter_map(|v| v.to_str().ok().map(str::to_string))
                        .collect();
                    let header = self.authenticate(&challenges).await?;
                    *self.token.lock() = Some(header);
                }
                StatusCode::NOT_FOUND => {
                    return Err(ImageError::Refused(format!("{}: not found", self.name)));
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    return Err(ImageError::Refused(
                        "pull access denied, repository does not exist or may require authorization".into(),
                    ));
                }
                s if s.is_server_error() || s == StatusCode::TOO_MANY_REQUESTS => {
                    return Err(unavailable(format!("the registry answered {s} to {url}")));
                }
                s => return Err(ImageError::Refused(format!("unexpected status {s} from GET {url}"))),
            }
        }
    }

    fn credentials(&self) -> Option<(String, String)> {
        let a = self.auth?;
        if !a.username.is_empty() {
            return Some((a.username.clone(), a.password.clone()));
        }
        let decoded = base64::engine::general_purpose::STANDARD.decode(a.auth.trim()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (u, p) = text.split_once(':')?;
        Some((u.to_string(), p.trim_end_matches('\0').to_string()))
    }

    fn basic(&self) -> Option<String> {
        let (u, p) = self.credentials()?;
        Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{u}:{p}"))))
    }

    async fn authenticate(&self, challenges: &[String]) -> Result<String> {
        let denied = || {
            ImageError::Refused(
                "pull access denied, repository does not exist or may require authorization".into(),
            )
        };
        if let Some(a) = self.auth.filter(|a| !a.registry_token.is_empty()) {
            return Ok(format!("Bearer {}", a.registry_token));
        }
        let bearer = challenges.iter().find_map(|c| challenge(c, "bearer"));
        let Some(params) = bearer else {
            let basic = challenges.iter().any(|c| challenge(c, "basic").is_some());
            return basic.then(|| self.basic()).flatten().ok_or_else(denied);
        };
        let realm =
            params.get("realm").cloned().ok_or_else(|| unavailable("the registry names no token server"))?;
        // Credentials don't go in the clear where the registry itself doesn't.
        if self.base.starts_with("https:") && !realm.starts_with("https:") {
            return Err(ImageError::Refused(format!(
                "the registry sends credentials to an unprotected place, {realm}"
            )));
        }
        let scope = params.get("scope").cloned();
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.name.repository));
        let service = params.get("service").map(String::as_str).unwrap_or_default();
        let join = if realm.contains('?') { '&' } else { '?' };
        let url = format!("{realm}{join}service={}&scope={}", encode(service), encode(&scope));
        let resp = follow(&url, None, self.basic().as_deref()).await?;
        match resp.status() {
            s if s.is_success() => {}
            s if s.is_server_error() => return Err(unavailable(format!("the token server answered {s}"))),
            _ => return Err(denied()),
        }
        #[derive(serde::Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let t: Token = parse("the token server's answer", &collect(resp, 1 << 20).await?)?;
        let token = t.token.or(t.access_token).filter(|t| !t.is_empty());
        token.map(|t| format!("Bearer {t}")).ok_or_else(|| unavailable("the token server gave no token"))
    }
}

/// `Bearer realm="…",service="…"` for the wanted scheme.
fn challenge(header: &str, scheme: &str) -> Option<BTreeMap<String, String>> {
    let (s, mut rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    if !s.eq_ignore_ascii_case(scheme) {
        return None;
    }
    let mut out = BTreeMap::new();
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim().trim_start_matches(',').trim().to_ascii_lowercase();
        let (value, next) = match after.strip_prefix('"') {
            Some(q) => q.split_once('"').unwrap_or((q, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        out.insert(key, value.to_string());
        rest = next;
    }
    Some(out)
}

fn encode(s: &str) -> String {
    use std::fmt::Write;
    s.bytes().fold(String::new(), |mut out, b| {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(b)),
            b => drop(write!(out, "%{b:02X}")),
        }
        out
    })
}

fn parse<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|e| ImageError::Invalid(format!("{what} is no valid JSON of its kind: {e}")))
}

async fn collect(resp: Response<Incoming>, limit: u64) -> Result<Vec<u8>> {
    let mut body = resp.into_body();
    let mut out = Vec::new();
    while let Some(frame) = tokio::time::timeout(IDLE_LIMIT, body.frame())
        .await
        .map_err(|_| unavailable("the registry went silent"))?
    {
        let frame = frame.map_err(|e| unavailable(format!("the registry broke off: {e}")))?;
        if let Ok(d) = frame.into_data() {
            out.extend_from_slice(&d);
        }
        if out.len() as u64 > limit {
            return Err(ImageError::Invalid(format!(
                "the registry sent a document of more than {limit} bytes"
            )));
        }
    }
    Ok(out)
}

async fn follow(url: &str, accept: Option<&str>, token: Option<&str>) -> Result<Response<Incoming>> {
    let first: Uri = url.parse().map_err(|e| ImageError::Invalid(format!("{url:?} is no URL: {e}")))?;
    let mut uri = first.clone();
    for _ in 0..6 {
        // What opens one host is no other host's business.
        let token = token.filter(|_| uri.authority() == first.authority());
        let resp = send(&uri, accept, token).await?;
        if !resp.status().is_redirection() {
            return Ok(resp);
        }
        let to = resp.headers().get(LOCATION).and_then(|v| v.to_str().ok());
        let to = to.ok_or_else(|| unavailable("the registry redirects to nowhere"))?;
        let next = match to.starts_with('/') {
            true => {
                let (scheme, host) = (uri.scheme_str().unwrap_or("https"), uri.authority());
                format!("{scheme}://{}{to}", host.map(|a| a.as_str()).unwrap_or_default())
            }
            false => to.to_string(),
        };
        let next: Uri = next.parse().map_err(|_| unavailable(format!("the registry redirects to {to:?}")))?;
        if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
            return Err(ImageError::Refused(format!(
                "the registry redirects to an unprotected place, {next}"
            )));
        }
        uri = next;
    }
    Err(unavailable("the registry redirects without end"))
}

async fn send(uri: &Uri, accept: Option<&str>, token: Option<&str>) -> Result<Response<Incoming>> {
    let authority = uri.authority().ok_or_else(|| ImageError::Invalid(format!("{uri} names no host")))?;
    let (host, tls) = (authority.host(), uri.scheme_str() == Some("https"));
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let reach = |e: &dyn std::fmt::Display| unavailable(format!("failed to reach {host}:{port}: {e}"));
    let tcp = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect((bare, port)))
        .await
        .map_err(|_| reach(&"no answer"))?
        .map_err(|e| reach(&e))?;
    let _ = tcp.set_nodelay(true);
    let path = uri.path_and_query().map(|p| p.as_str()).unwrap_or("/");
    let mut req = Request::get(path)
        .header(HOST, authority.as_str())
        .header(USER_AGENT, concat!("kelson/", env!("CARGO_PKG_VERSION")));
    if let Some(a) = accept {
        req = req.header(http::header::ACCEPT, a);
    }
    if let Some(t) = token {
        let mut v = HeaderValue::from_str(t)
            .map_err(|_| ImageError::Refused("the credentials hold odd bytes".into()))?;
        v.set_sensitive(true);
        req = req.header(AUTHORIZATION, v);
    }
    let req = req.body(Full::<Bytes>::default()).map_err(|e| ImageError::Invalid(e.to_string()))?;
    match tls {
        false => exchange(TokioIo::new(tcp), req).await,
        true => {
            let name = rustls::pki_types::ServerName::try_from(bare.to_string())
                .map_err(|_| ImageError::Invalid(format!("{bare:?} is no host name")))?;
            let connector = tokio_rustls::TlsConnector::from(tls_config()?);
            let stream = tokio::time::timeout(CONNECT_LIMIT, connector.connect(name, tcp))
                .await
                .map_err(|_| reach(&"the TLS handshake hangs"))?
                .map_err(|e| reach(&e))?;
            exchange(TokioIo::new(stream), req).await
        }
    }
}

async fn exchange<S>(io: TokioIo<S>, req: Request<Full<Bytes>>) -> Result<Response<Incoming>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, conn) = hyper::client::conn::http1::handshake(io)
        .await
        .map_err(|e| unavailable(format!("speak HTTP: {e}")))?;
    tokio::spawn(async move {
        let _ = conn.await;
    });
    let answer = tokio::time::timeout(IDLE_LIMIT, sender.send_request(req));
    let answer = answer.await.map_err(|_| unavailable("the registry doesn't answer"))?;
    answer.map_err(|e| unavailable(format!("the registry broke off: {e}")))
}

/// The system's certificates, read once.
fn tls_config() -> Result<Arc<rustls::ClientConfig>> {
    static CONFIG: OnceLock<Result<Arc<rustls::ClientConfig>, String>> = OnceLock::new();
    let made = CONFIG.get_or_init(|| {
        use rustls::pki_types::pem::PemObject;
        let own = std::env::var("SSL_CERT_FILE").ok();
        let files =
            ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
        let bundle = own.iter().map(String::as_str).chain(files).find_map(|f| std::fs::read(f).ok());
        let bundle =
            bundle.ok_or("no certificates of authorities on this machine; install ca-certificates")?;
        let mut roots = rustls::RootCertStore::empty();
        for cert in rustls::pki_types::CertificateDer::pem_slice_iter(&bundle).flatten() {
            let _ = roots.add(cert);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    });
    made.clone().map_err(unavailable)
}

/// A body as a blocking reader.
struct Chunks {
    rx: mpsc::Receiver<std::io::Result<Bytes>>,
    rest: Bytes,
}

impl Read for Chunks {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        while self.rest.is_empty() {
            match self.rx.blocking_recv() {
                Some(next) => self.rest = next?,
                None => return Ok(0),
            }
        }
        let n = self.rest.len().min(buf.len());
        if let Some(to) = buf.get_mut(..n) {
            to.copy_from_slice(&self.rest.split_to(n));
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let h = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let c = challenge(h, "bearer").unwrap();
        assert_eq!(c["realm"], "https://auth.docker.io/token");
        assert_eq!(c["scope"], "repository:a/b:pull,push");
        assert!(challenge(h, "basic").is_none());
        assert!(challenge("Basic realm=\"x\"", "basic").is_some());
        assert_eq!(encode("repository:a/b:pull"), "repository%3Aa%2Fb%3Apull");
    }

    #[test]
    fn what_is_loopback() {
        for yes in ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000"] {
            assert!(loopback(yes), "{yes}");
        }
        for no in ["localhost.evil.org", "10.0.0.1:5000", "registry.io", "127.0.0.1.evil.org"] {
            assert!(!loopback(no), "{no}");
        }
    }
}
