//! Bound service-account tokens: the signature, then whether the service account and what the token is bound to are
//! still the ones it was minted for.

use std::collections::HashMap;
use std::sync::Arc;

use api::Object;
use parking_lot::Mutex;
use pki::token::{BoundRef, Claims, check};
use pki::{TokenError, Verifier};

use super::secret_token;
use crate::user::AUTHENTICATED;
use crate::{Reader, User};

/// Tokens whose signature is remembered as good. When full, all are forgotten: verifying costs 60 µs, evicting one by
/// one would cost more code than that.
const CACHED_TOKENS: usize = 4096;
/// A bound object being deleted keeps its tokens alive this long past its deletion time, for the last calls of a pod.
const LEEWAY_SECONDS: i64 = 60;

pub struct TokenAuthenticator {
    verifier: Verifier,
    audiences: Vec<String>,
    good: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
}

impl TokenAuthenticator {
    /// `audiences`: what the API server answers to; the issuer is always among them.
    pub fn new(verifier: Verifier, mut audiences: Vec<String>) -> Self {
        if audiences.is_empty() {
            audiences.push(verifier.issuer().to_owned());
        }
        Self { verifier, audiences, good: Mutex::new(HashMap::new()) }
    }

    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    fn claims(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        use sha2::Digest;
        let key: [u8; 32] = sha2::Sha256::digest(token.as_bytes()).into();
        if let Some(c) = self.good.lock().get(&key) {
            return Ok(c.clone());
        }
        let claims = Arc::new(self.verifier.verify(token)?);
        let mut good = self.good.lock();
        if good.len() >= CACHED_TOKENS {
            good.clear();
        }
        good.insert(key, claims.clone());
        Ok(claims)
    }

    /// The service account behind a token, and the audiences that matched. `audiences` empty: the API server's own.
    pub async fn authenticate(
        &self,
        reader: &dyn Reader,
        token: &str,
        audiences: &[String],
        now: i64,
    ) -> Result<(User, Vec<String>), String> {
        let claims = match self.claims(token) {
            Err(TokenError::Foreign) if let Ok(claims) = self.verifier.verify_legacy(token) => {
                return secret_token::authenticate(reader, &claims, token, &self.audiences, audiences).await;
            }
            other => other.map_err(|e| e.to_string())?,
        };
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        let matched = check(&claims, wanted, now).map_err(|e| e.to_string())?;
        let k = &claims.kubernetes;
        if claims.sub != format!("system:serviceaccount:{}:{}", k.namespace, k.serviceaccount.name) {
            return Err("sub does not match the service account".into());
        }
        alive(reader, "serviceaccounts", "service account", &k.namespace, &k.serviceaccount, now).await?;
        for (plural, what, bound) in [("pods", "pod", &k.pod), ("secrets", "secret", &k.secret)] {
            if let Some(b) = bound {
                alive(reader, plural, what, &k.namespace, b, now).await?;
            }
        }
        // A token bound to a node alone lives as long as the node; with a pod, the node is information only.
        if let (Some(node), None) = (&k.node, &k.pod) {
            alive(reader, "nodes", "node", "", node, now).await?;
        }
        Ok((user_of(&claims), matched))
    }
}

async fn alive(
    reader: &dyn Reader,
    plural: &str,
    what: &str,
    namespace: &str,
    bound: &BoundRef,
    now: i64,
) -> Result<(), String> {
    let found = reader.get("", plural, namespace, &bound.name).await.map_err(|e| e.message)?;
    let Some(o) = found else { return Err(format!("{what} {namespace}/{} has been deleted", bound.name)) };
    if deleted(&o, now) {
        return Err(format!("{what} {namespace}/{} has been deleted", bound.name));
    }
    if o.uid() != bound.uid {
        return Err(format!("{what} UID ({}) does not match claim ({})", o.uid(), bound.uid));
    }
    Ok(())
}

fn deleted(o: &Object, now: i64) -> bool {
    o.meta()
        .deletion_timestamp()
        .and_then(client::clock::parse)
        .is_some_and(|t| t.as_second() + LEEWAY_SECONDS < now)
}

fn user_of(claims: &Claims) -> User {
    let k = &claims.kubernetes;
    let mut extra = std::collections::BTreeMap::new();
    let mut put = |key: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        }
    };
    if !claims.jti.is_empty() {
        put("credential-id", &format!("JTI={}", claims.jti));
    }
    if let Some(p) = &k.pod {
        put("pod-name", &p.name);
        put("pod-uid", &p.uid);
    }
    if let Some(n) = &k.node {
        put("node-name", &n.name);
        put("node-uid", &n.uid);
    }
    User {
        name: claims.sub.clone(),
        uid: k.serviceaccount.uid.clone(),
        groups: vec![
            "system:serviceaccounts".into(),
            format!("system:serviceaccounts:{}", k.namespace),
            AUTHENTICATED.into(),
        ],
        extra,
    }
}
