//! The podcertificaterequest-cleaner loop: a request for a pod's certificate has served its purpose after a while, whatever
//! became of it, and goes. Owns nothing, spawns its worker.

use std::time::Duration;

use api::Object;
use api::resource::POD_CERTIFICATE_REQUESTS;
use client::{DeleteOptions, clock};
use jiff::{SignedDuration, Timestamp};

use crate::Context;
use crate::skeleton::{self, Key, Next, Queue};

/// All requests are through by then.
const KEPT: SignedDuration = SignedDuration::from_mins(15);

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let requests = ctx.informers.get(&POD_CERTIFICATE_REQUESTS);
    skeleton::enqueue_self(&requests, &queue);
    if !skeleton::synced(&ctx.token, &[&requests]).await {
        return;
    }
    skeleton::work("podcertificaterequest-cleaner", &ctx.token, &queue, 1, |key: Key| {
        let (client, seen) = (&ctx.client, requests.get(&key.0, &key.1));
        async move {
            let Some(request) = seen else { return Ok(Next::Wait) };
            let left = left(&request, clock::now());
            if !left.is_zero() {
                return Ok(Next::After(left));
            }
            let this_one = DeleteOptions::uid(request.uid());
            client.delete_if_there(&POD_CERTIFICATE_REQUESTS, &key.0, &key.1, &this_one).await?;
            Ok(Next::Wait)
        }
    })
    .await;
}

/// How long the request may still stay.
fn left(request: &Object, now: Timestamp) -> Duration {
    let born = request.meta().creation_timestamp().and_then(clock::parse).unwrap_or(Timestamp::MIN);
    clock::between(now, born.checked_add(KEPT).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_go_after_a_while() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().expect("time");
        for (born, want) in [
            ("2026-01-01T01:00:00Z", 900),
            ("2026-01-01T00:50:00Z", 300),
            ("2026-01-01T00:45:00Z", 0),
            ("2025-01-01T00:00:00Z", 0),
        ] {
            let v = json!({"metadata": {"name": "r", "namespace": "n", "creationTimestamp": born}});
            let o = Object::from_value(v, 1).expect("object");
            assert_eq!(left(&o, now), Duration::from_secs(want), "{born}");
        }
    }
}
