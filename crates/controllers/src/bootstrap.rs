//! Loops about bootstrap tokens: the signer, which signs `cluster-info` with each token that may, so that its bearer can tell
//! the cluster from others; and the cleaner, which removes tokens that have ended. Own nothing, spawn their workers.

use std::collections::BTreeMap;

use api::bootstrap_token::{BootstrapToken, CLUSTER_INFO, NAMESPACE, PUBLIC_NAMESPACE, SIGNATURE, TYPE};
use api::resource::{CONFIG_MAPS, SECRETS};
use client::{DeleteOptions, Informer, Patch, Scope, clock};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::Context;
use crate::skeleton::{self, Key, Next, Queue};

fn tokens(ctx: &Context) -> Informer {
    let field_selector = format!("type={TYPE}");
    ctx.informers.scoped(&SECRETS, Scope { namespace: NAMESPACE.into(), field_selector, ..Scope::default() })
}

/// What has to change in the data of `cluster-info`, as a merge patch; and when a signature ends next.
fn changes(
    data: &Value,
    tokens: &[BootstrapToken],
    now: Timestamp,
) -> (Map<String, Value>, Option<Timestamp>) {
    let Some(content) = data["kubeconfig"].as_str() else { return (Map::new(), None) };
    let good: Vec<&BootstrapToken> = tokens.iter().filter(|t| t.signs && !t.is_expired(now)).collect();
    let want: BTreeMap<String, String> = good
        .iter()
        .map(|t| (format!("{SIGNATURE}{}", t.id), pki::jws::sign(content, &t.id, &t.secret)))
        .collect();
    let mut out = Map::new();
    for key in data.as_object().into_iter().flatten().map(|(k, _)| k) {
        if key.starts_with(SIGNATURE) && !want.contains_key(key) {
            out.insert(key.clone(), Value::Null);
        }
    }
    for (key, signature) in want {
        if data[&key] != signature.as_str() {
            out.insert(key, signature.into());
        }
    }
    (out, good.iter().filter_map(|t| t.ends()).min())
}

pub async fn signer(ctx: Context) {
    let queue = Queue::default();
    let secrets = tokens(&ctx);
    let field_selector = format!("metadata.name={CLUSTER_INFO}");
    let info = ctx.informers.scoped(
        &CONFIG_MAPS,
        Scope { namespace: PUBLIC_NAMESPACE.into(), field_selector, ..Scope::default() },
    );
    for informer in [&secrets, &info] {
        let queue = queue.clone();
        informer.on_change(move |_| queue.add((PUBLIC_NAMESPACE.into(), CLUSTER_INFO.into())));
    }
    if !skeleton::synced(&ctx.token, &[&secrets, &info]).await {
        return;
    }
    skeleton::work("bootstrap-signer", &ctx.token, &queue, 1, |key: Key| {
        let (ctx, secrets, info) = (&ctx, &secrets, &info);
        async move {
            let Some(map) = info.get(&key.0, &key.1) else { return Ok(Next::Wait) };
            let all: Vec<BootstrapToken> =
                secrets.list(None).iter().filter_map(|o| BootstrapToken::of(&o.value().ok()?)).collect();
            let now = clock::now();
            let (change, ends) = changes(&map.value()?["data"], &all, now);
            if !change.is_empty() {
                let patch =
                    json!({ "metadata": { "resourceVersion": map.revision().to_string() }, "data": change });
                ctx.client.patch(&CONFIG_MAPS, &key.0, &key.1, "", &Patch::Merge(patch)).await?;
            }
            Ok(ends.map_or(Next::Wait, |at| Next::After(clock::between(now, at))))
        }
    })
    .await;
}

pub async fn cleaner(ctx: Context) {
    let queue = Queue::default();
    let secrets = tokens(&ctx);
    skeleton::enqueue_self(&secrets, &queue);
    if !skeleton::synced(&ctx.token, &[&secrets]).await {
        return;
    }
    skeleton::work("token-cleaner", &ctx.token, &queue, 1, |key: Key| {
        let (ctx, secrets) = (&ctx, &secrets);
        async move {
            let Some(o) = secrets.get(&key.0, &key.1) else { return Ok(Next::Wait) };
            let Some(ends) = BootstrapToken::of(&o.value()?).and_then(|t| t.ends()) else {
                return Ok(Next::Wait);
            };
            let now = clock::now();
            if now < ends {
                return Ok(Next::After(clock::between(now, ends)));
            }
            ctx.client.delete_if_there(&SECRETS, &key.0, &key.1, &DeleteOptions::uid(o.uid())).await?;
            Ok(Next::Wait)
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_that_may_sign_signs() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("time");
        let token = |id: &str, signs, end: &str| BootstrapToken {
            id: id.into(),
            secret: "s".into(),
            signs,
            expiration: end.into(),
            ..BootstrapToken::default()
        };
        let all = [
            token("a", true, "2026-01-02T00:00:00Z"),
            token("b", true, ""),
            token("c", false, ""),
            token("d", true, "2025-12-31T00:00:00Z"),
        ];
        let data = json!({"kubeconfig": "k", "jws-kubeconfig-gone": "x", "jws-kubeconfig-d": "x", "other": "x",
            "jws-kubeconfig-b": pki::jws::sign("k", "b", "s")});
        let (change, ends) = changes(&data, &all, now);
        assert_eq!(
            Value::Object(change),
            json!({"jws-kubeconfig-gone": null, "jws-kubeconfig-d": null,
                "jws-kubeconfig-a": pki::jws::sign("k", "a", "s")})
        );
        assert_eq!(ends, clock::parse("2026-01-02T00:00:00Z"));
        assert!(changes(&json!({"other": "x"}), &all, now).0.is_empty(), "nothing to sign");
    }
}
