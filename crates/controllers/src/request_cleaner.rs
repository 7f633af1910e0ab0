//! The csrcleaner loop: a certificate signing request goes when it has served its purpose, was refused, or waits for too long.
//! Owns nothing, spawns its worker.
//! https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#request-signing-process

use std::time::Duration;

use api::Object;
use api::resource::CERTIFICATE_REQUESTS;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::{DeleteOptions, clock};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use x509_parser::pem::Pem;

use crate::Context;
use crate::skeleton::{self, Key, Next, Queue};

/// Kept after it was issued, denied or failed.
const SETTLED: SignedDuration = SignedDuration::from_hours(1);
/// Kept while nobody decides, or nobody signs.
const PENDING: SignedDuration = SignedDuration::from_hours(24);

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let requests = ctx.informers.get(&CERTIFICATE_REQUESTS);
    skeleton::enqueue_self(&requests, &queue);
    if !skeleton::synced(&ctx.token, &[&requests]).await {
        return;
    }
    skeleton::work("csrcleaner", &ctx.token, &queue, 1, |key: Key| {
        let (client, seen) = (&ctx.client, requests.get("", &key.1));
        async move {
            let Some(request) = seen else { return Ok(Next::Wait) };
            let Some(left) = left(&request, &request.value()?, clock::now()) else { return Ok(Next::Wait) };
            if !left.is_zero() {
                return Ok(Next::After(left));
            }
            let this_one = DeleteOptions::uid(request.uid());
            client.delete_if_there(&CERTIFICATE_REQUESTS, "", &key.1, &this_one).await?;
            Ok(Next::Wait)
        }
    })
    .await;
}

/// When the certificate of a request ends.
fn expiry(certificate: &str) -> Option<Timestamp> {
    let pem = STANDARD.decode(certificate).ok()?;
    let block = Pem::iter_from_buffer(&pem).next()?.ok()?;
    let end = block.parse_x509().ok()?.validity().not_after.timestamp();
    Timestamp::from_second(end).ok()
}

/// How long the request may still stay; `None` when there is no telling.
fn left(request: &Object, v: &Value, now: Timestamp) -> Option<Duration> {
    let conditions = v["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let certificate = v["status"]["certificate"].as_str().unwrap_or_default();
    let since = |c: &Value| c["lastUpdateTime"].as_str().and_then(clock::parse);
    let mut ends: Vec<Timestamp> = Vec::new();
    let mut until = |from: Option<Timestamp>, kept| ends.extend(from.and_then(|t| t.checked_add(kept).ok()));
    if conditions.is_empty() {
        until(request.meta().creation_timestamp().and_then(clock::parse), PENDING);
    }
    for c in conditions {
        match c["type"].as_str() {
            Some("Denied" | "Failed") => until(since(c), SETTLED),
            Some("Approved") if certificate.is_empty() => until(since(c), PENDING),
            Some("Approved") => {
                until(since(c), SETTLED);
                until(expiry(certificate), SignedDuration::ZERO);
            }
            _ => {}
        }
    }
    ends.into_iter().min().map(|end| clock::between(now, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_go_when_their_time_is_over() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().expect("time");
        let c = |kind: &str, at: &str| json!({"type": kind, "lastUpdateTime": at});
        for (created, conditions, certificate, want) in [
            ("2026-01-01T12:00:00Z", vec![], "", Some(12 * 3600)),
            ("2025-12-31T00:00:00Z", vec![], "", Some(0)),
            ("2025-01-01T00:00:00Z", vec![c("Denied", "2026-01-01T23:30:00Z")], "", Some(1800)),
            ("2025-01-01T00:00:00Z", vec![c("Failed", "2026-01-01T22:30:00Z")], "", Some(0)),
            ("2025-01-01T00:00:00Z", vec![c("Approved", "2026-01-01T22:00:00Z")], "", Some(22 * 3600)),
            ("2025-01-01T00:00:00Z", vec![c("Approved", "2026-01-01T23:45:00Z")], "eA==", Some(2700)),
            ("2025-01-01T00:00:00Z", vec![c("Approved", "2026-01-01T22:00:00Z")], "eA==", Some(0)),
            ("2025-01-01T00:00:00Z", vec![json!({"type": "Approved"})], "eA==", None),
        ] {
            let v = json!({"metadata": {"name": "r", "creationTimestamp": created},
                "status": {"conditions": conditions, "certificate": certificate}});
            let o = Object::from_value(v.clone(), 1).expect("request");
            assert_eq!(left(&o, &v, now), want.map(Duration::from_secs), "{v}");
        }
    }
}
