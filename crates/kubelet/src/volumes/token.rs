//! Service-account tokens of pods: asked for by TokenRequest, kept in memory, asked for again at four fifths of their
//! life. Owns the cache; spawns nothing.

use std::collections::HashMap;

use api::resource::SERVICE_ACCOUNTS;
use client::{Client, clock};
use parking_lot::Mutex;
use serde_json::json;

use crate::pod::{Pod, TokenSource};

#[derive(Clone)]
struct Token {
    value: String,
    refresh_at: i64,
    expires_at: i64,
}

pub struct Tokens {
    client: Client,
    /// (pod uid, audience, seconds)
    cache: Mutex<HashMap<(String, String, i64), Token>>,
}

impl Tokens {
    pub fn new(client: Client) -> Self {
        Self { client, cache: Mutex::default() }
    }

    /// The token and when it has to be asked for again (ms).
    pub async fn get(&self, pod: &Pod, source: &TokenSource) -> Result<(String, i64), String> {
        let seconds = source.expiration_seconds.unwrap_or(3600);
        let key = (pod.metadata.uid.clone(), source.audience.clone(), seconds);
        let now = clock::now().as_millisecond();
        let held = self.cache.lock().get(&key).cloned();
        if let Some(t) = held.as_ref().filter(|t| now < t.refresh_at) {
            return Ok((t.value.clone(), t.refresh_at));
        }
        let audiences: Vec<&str> = if source.audience.is_empty() { vec![] } else { vec![&source.audience] };
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {},
            "spec": {"audiences": audiences, "expirationSeconds": seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid}},
        });
        let (ns, sa) = (&pod.metadata.namespace, pod.spec.service_account());
        let answer = self.client.create_sub(&SERVICE_ACCOUNTS, ns, Some(sa), "token", &body).await;
        let v = match (answer, held) {
            (Ok(o), _) => o.value().map_err(|e| e.to_string())?,
            // An old token that still holds is better than a pod that does not start.
            (Err(_), Some(t)) if now < t.expires_at => return Ok((t.value, now + 60_000)),
            (Err(e), _) => return Err(format!("failed to fetch token: {e}")),
        };
        let value = v["status"]["token"].as_str().unwrap_or_default().to_owned();
        if value.is_empty() {
            return Err(format!("failed to fetch token of serviceaccount {ns}/{sa}: the answer holds none"));
        }
        let expires_at = v["status"]["expirationTimestamp"]
            .as_str()
            .and_then(clock::parse)
            .map_or(now + seconds * 1000, |t| t.as_millisecond());
        let life = (expires_at - now).max(10_000);
        let refresh_at = now + (life * 4 / 5).min(24 * 3_600_000);
        self.cache.lock().insert(key, Token { value: value.clone(), refresh_at, expires_at });
        Ok((value, refresh_at))
    }

    pub fn release(&self, uid: &str) {
        self.cache.lock().retain(|(u, ..), _| u != uid);
    }
}
