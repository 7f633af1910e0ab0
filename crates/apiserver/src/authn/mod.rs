//! Who sends this request? In order: the identity that the in-process transport puts into the request, the headers of a
//! front proxy that shows its own certificate, a client certificate, a bearer token (service account, then bootstrap token), and nobody at all, which is allowed for the
//! health paths only unless configured otherwise.
//!
//! A certificate is judged once per connection ([`Authn::peer`]), a token's signature once per token while it stays in
//! a bounded cache; that its service account and pod still exist is looked up each time, in memory.

pub mod bootstrap_token;
pub mod review;
mod secret_token;
pub mod service_account;
pub mod token_request;

use std::borrow::Cow;
use std::sync::Arc;

use api::{Reason, Status};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use client::LocalIdentity;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue};
use rustls_pki_types::CertificateDer;

use crate::user::{ANONYMOUS, AUTHENTICATED};
use crate::{Reader, User};

pub use service_account::TokenAuthenticator;
pub use token_request::TokenIssuer;

/// Before the token, in a WebSocket's list of subprotocols.
const WEBSOCKET_TOKEN: &str = "base64url.bearer.authorization.k8s.io.";

/// What a connection's TLS handshake told about its client.
#[derive(Debug, Clone, Default)]
pub enum Peer {
    /// No certificate.
    #[default]
    None,
    Certificate(Arc<Certified>),
    /// The certificate of a front proxy, which says in headers whose requests it passes on.
    FrontProxy(Arc<pki::CertIdentity>),
    /// A certificate that no authority of ours stands behind.
    Untrusted,
}

/// Whom a certificate names.
#[derive(Debug)]
pub struct Certified {
    user: Arc<User>,
    /// Unix seconds; a connection may outlive its certificate.
    not_after: i64,
}

/// Which requests may come without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Anonymous {
    Never,
    /// On these paths and below `/livez/`, `/readyz/`, `/healthz/` when they are among them.
    Paths(Vec<String>),
    Always,
}

impl Anonymous {
    pub fn health() -> Self {
        Self::Paths(["/livez", "/readyz", "/healthz"].map(str::to_owned).to_vec())
    }
    /// The health paths, and what a machine that joins is told first: where the API is and whose certificates to believe.
    pub fn health_and_cluster_info() -> Self {
        match Self::health() {
            Self::Paths(mut p) => {
                p.push("/api/v1/namespaces/kube-public/configmaps/cluster-info".into());
                Self::Paths(p)
            }
            other => other,
        }
    }
    fn allows(&self, path: &str) -> bool {
        match self {
            Anonymous::Never => false,
            Anonymous::Always => true,
            Anonymous::Paths(p) => p
                .iter()
                .any(|a| path.strip_prefix(a.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/'))),
        }
    }
}

pub struct Authn {
    trust: pki::ClientTrust,
    front_proxy: Option<pki::ClientTrust>,
    tokens: TokenAuthenticator,
    reader: Arc<dyn Reader>,
    anonymous: Anonymous,
}

/// 401 as upstream words it.
pub fn unauthorized() -> Status {
    Status::new(Reason::Unauthorized, "Unauthorized")
}

fn now() -> i64 {
    client::clock::now().as_second()
}

/// Authentication and token signing as a cluster's own keys give them. `audiences` empty: the issuer alone.
pub fn from_pki(
    pki: &pki::Pki,
    reader: Arc<dyn Reader>,
    issuer: &str,
    audiences: &[String],
    anonymous: Anonymous,
) -> Result<(Authn, TokenIssuer), pki::Error> {
    let tokens = TokenAuthenticator::new(pki.tokens.verifier(issuer), audiences.to_vec());
    let mint = TokenIssuer::new(pki.tokens.clone(), issuer.to_owned(), audiences.to_vec());
    let authn = Authn::new(pki.client_trust()?, tokens, reader, anonymous);
    Ok((authn.with_front_proxy(pki.front_proxy_trust()?), mint))
}

impl Authn {
    pub fn new(
        trust: pki::ClientTrust,
        tokens: TokenAuthenticator,
        reader: Arc<dyn Reader>,
        anonymous: Anonymous,
    ) -> Self {
        Self { trust, front_proxy: None, tokens, reader, anonymous }
    }

    /// Also believes the headers of those who show a certificate of this authority for the front proxy's name.
    pub fn with_front_proxy(mut self, trust: pki::ClientTrust) -> Self {
        self.front_proxy = Some(trust);
        self
    }

    pub fn tokens(&self) -> &TokenAuthenticator {
        &self.tokens
    }

    /// To be called once per connection, with the chain that the client sent.
    pub fn peer(&self, chain: &[CertificateDer<'_>]) -> Peer {
        if chain.is_empty() {
            return Peer::None;
        }
        let proxy = self.front_proxy.as_ref().and_then(|t| t.identify(chain, now()).ok());
        if let Some(id) = proxy.filter(|id| id.user == pki::dir::FRONT_PROXY_CLIENT) {
            return Peer::FrontProxy(Arc::new(id));
        }
        match self.trust.identify(chain, now()) {
            Ok(id) => Peer::Certificate(Arc::new(Certified {
                not_after: id.not_after,
                user: Arc::new(from_certificate(id)),
            })),
            Err(e) => {
                tracing::debug!(error = %e, "client certificate does not count");
                Peer::Untrusted
            }
        }
    }

    /// The sender of a request, or 401.
    pub async fn authenticate(
        &self,
        local: Option<&LocalIdentity>,
        peer: &Peer,
        headers: &HeaderMap,
        path: &str,
    ) -> Result<Arc<User>, Status> {
        if let Some(l) = local {
            let user = User { name: l.name.clone(), groups: l.groups.clone(), ..User::default() };
            return Ok(Arc::new(user));
        }
        match peer {
            Peer::Certificate(c) if c.not_after > now() => return Ok(c.user.clone()),
            Peer::FrontProxy(c) if c.not_after > now() => {
                if let Some(user) = from_headers(headers) {
                    return Ok(Arc::new(user));
                }
            }
            _ => {}
        }
        match bearer(headers) {
            Some(token) => self.token(&token).await.map(|(user, _)| Arc::new(user)).map_err(|why| {
                tracing::debug!(why, "bearer token does not count");
                unauthorized()
            }),
            None if matches!(peer, Peer::None)
                && !headers.contains_key(AUTHORIZATION)
                && self.anonymous.allows(path) =>
            {
                Ok(Arc::new(User::anonymous()))
            }
            None => Err(unauthorized()),
        }
    }

    /// The owner of a bearer token for the API server's own audiences, and the audiences that matched.
    async fn token(&self, token: &str) -> Result<(User, Vec<String>), String> {
        self.token_for(token, &[]).await
    }

    /// As above; `audiences` empty means the API server's own.
    pub async fn token_for(&self, token: &str, audiences: &[String]) -> Result<(User, Vec<String>), String> {
        if api::bootstrap_token::split(token).is_some() && audiences.is_empty() {
            return bootstrap_token::authenticate(self.reader.as_ref(), token, now())
                .await
                .map(|u| (u, Vec::new()));
        }
        self.tokens.authenticate(self.reader.as_ref(), token, audiences, now()).await
    }
}

fn from_certificate(c: pki::CertIdentity) -> User {
    let mut groups = c.groups;
    groups.push(AUTHENTICATED.into());
    let credential = (
        "authentication.kubernetes.io/credential-id".to_owned(),
        vec![format!("X509SHA256={}", c.fingerprint)],
    );
    User { name: c.user, uid: c.uid, groups, extra: [credential].into() }
}

/// The user that a front proxy names.
fn from_headers(headers: &HeaderMap) -> Option<User> {
    let text = |v: &http::HeaderValue| v.to_str().ok().filter(|s| !s.is_empty()).map(str::to_owned);
    let one = |name: &str| headers.get(name).and_then(text);
    let name = one("x-remote-user")?;
    let mut groups: Vec<String> = headers.get_all("x-remote-group").iter().filter_map(text).collect();
    if name != ANONYMOUS && !groups.iter().any(|g| g == AUTHENTICATED) {
        groups.push(AUTHENTICATED.into());
    }
    let mut user = User { name, uid: one("x-remote-uid").unwrap_or_default(), groups, ..User::default() };
    for (key, value) in headers {
        if let (Some(key), Ok(value)) = (key.as_str().strip_prefix("x-remote-extra-"), value.to_str()) {
            let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
            user.extra.entry(key).or_default().push(value.to_owned());
        }
    }
    Some(user)
}

/// The token of an `Authorization: Bearer` header, or of the subprotocol by which browsers send one with a WebSocket.
fn bearer(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.trim().split_once(' ')?;
        let token = token.trim();
        return (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(Cow::Borrowed(token));
    }
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    let encoded = offered.flat_map(|v| v.split(',')).find_map(|p| p.trim().strip_prefix(WEBSOCKET_TOKEN))?;
    let token = String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?;
    (!token.is_empty()).then_some(Cow::Owned(token))
}

/// Takes the credentials out of a request whose user is known: nothing behind authentication may see them.
pub fn strip(headers: &mut HeaderMap) {
    headers.remove(AUTHORIZATION);
    let is_token = |p: &str| p.trim().starts_with(WEBSOCKET_TOKEN);
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    let offered: Vec<&str> = offered.flat_map(|v| v.split(',')).collect();
    if offered.iter().any(|p| is_token(p)) {
        let kept: Vec<&str> = offered.into_iter().filter(|p| !is_token(p)).map(str::trim).collect();
        match HeaderValue::from_str(&kept.join(", ")) {
            Ok(v) if !kept.is_empty() => headers.insert(SEC_WEBSOCKET_PROTOCOL, v),
            _ => headers.remove(SEC_WEBSOCKET_PROTOCOL),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_is_for_health_only() {
        let a = Anonymous::health();
        for (path, want) in [
            ("/livez", true),
            ("/readyz/ping", true),
            ("/healthz", true),
            ("/livezx", false),
            ("/api", false),
            ("/version", false),
        ] {
            assert_eq!(a.allows(path), want, "{path}");
        }
    }

    #[test]
    fn a_front_proxy_names_a_user() {
        let mut h = HeaderMap::new();
        assert_eq!(from_headers(&h), None);
        for (k, v) in [
            ("x-remote-user", "jane"),
            ("x-remote-group", "a"),
            ("x-remote-group", "b"),
            ("x-remote-extra-example.com%2fscopes", "one"),
        ] {
            h.append(k, v.parse().expect("value"));
        }
        let u = from_headers(&h).expect("user");
        assert_eq!(
            (u.name.as_str(), u.groups.as_slice()),
            ("jane", &["a", "b", AUTHENTICATED].map(str::to_owned)[..])
        );
        assert_eq!(u.extra["example.com/scopes"], ["one"]);
    }

    #[test]
    fn bearer_headers() {
        for (value, want) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Basic abc", None),
            ("Bearer ", None),
            ("abc", None),
        ] {
            let mut h = HeaderMap::new();
            h.insert(AUTHORIZATION, value.parse().expect("header"));
            assert_eq!(bearer(&h).as_deref(), want, "{value}");
        }
        let mut h = HeaderMap::new();
        let offered = format!("{WEBSOCKET_TOKEN}{}, v5.channel.k8s.io", URL_SAFE_NO_PAD.encode("abc"));
        h.insert(SEC_WEBSOCKET_PROTOCOL, offered.parse().expect("header"));
        assert_eq!(bearer(&h).as_deref(), Some("abc"));
    }

    #[test]
    fn credentials_go_no_further() {
        let token = format!("{WEBSOCKET_TOKEN}{}", URL_SAFE_NO_PAD.encode("abc"));
        for (offered, want) in [
            (format!("{token}, a,b"), Some("a, b")),
            (format!("a, {token}"), Some("a")),
            (token.clone(), None),
            ("a,b".to_owned(), Some("a,b")),
        ] {
            let mut h = HeaderMap::new();
            h.insert(AUTHORIZATION, "Bearer abc".parse().expect("header"));
            h.insert(SEC_WEBSOCKET_PROTOCOL, offered.parse().expect("header"));
            strip(&mut h);
            assert!(!h.contains_key(AUTHORIZATION));
            assert_eq!(h.get(SEC_WEBSOCKET_PROTOCOL).map(|v| v.to_str().expect("text")), want, "{offered}");
        }
    }
}
