//! Long-lived tokens in secrets. `controller`: a secret of type `kubernetes.io/service-account-token` gets the token, the
//! authority and the namespace of the account that it names, and goes when that account goes. `cleaner`: those that
//! older clusters made for every account, and that nobody uses, are marked invalid and then deleted, a year apart.
//! Own nothing, spawn their workers.
//! https://kubernetes.io/docs/concepts/configuration/secret/#serviceaccount-token-secrets

use std::sync::Arc;
use std::time::Duration;

use api::Object;
use api::resource::{CONFIG_MAPS, PODS, SECRETS, SERVICE_ACCOUNTS};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::{DeleteOptions, Informer, Patch, Scope, clock};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde_json::{Map, Value, json};

use crate::Context;
use crate::skeleton::{self, Error, Key, Next, Queue, key_of};

pub const TYPE: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// Where the API server notes since when it marks the tokens that are used.
const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
const PERIOD: Duration = Duration::from_secs(24 * 3600);
/// Days without use.
const UNUSED: i64 = 365;

/// Signs a token: namespace, name and uid of the account, name of the secret.
pub type Mint = dyn Fn(&str, &str, &str, &str) -> Result<String, String> + Send + Sync;

/// What signs the tokens of secrets.
#[derive(Clone)]
pub struct SecretTokens(pub Arc<Mint>);

impl std::fmt::Debug for SecretTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretTokens")
    }
}

fn secrets(ctx: &Context) -> Informer {
    let field_selector = format!("type={TYPE}");
    ctx.informers.scoped(&SECRETS, Scope { field_selector, ..Scope::default() })
}

fn annotation<'a>(v: &'a Value, name: &str) -> &'a str {
    v["metadata"]["annotations"][name].as_str().unwrap_or_default()
}

/// Whether a secret is this account's.
fn is_of(secret: &Value, account: &Object) -> bool {
    let uid = annotation(secret, UID);
    annotation(secret, NAME) == account.name() && (uid.is_empty() || uid == account.uid())
}

/// What a secret lacks, as its `data`; the token is asked for only when it is missing.
fn lacking(
    secret: &Value,
    ca: &str,
    mint: impl FnOnce() -> Result<String, String>,
) -> Result<Map<String, Value>, String> {
    let mut out = Map::new();
    let has = |key: &str| secret["data"][key].as_str().unwrap_or_default();
    let encoded = STANDARD.encode(ca);
    if !ca.is_empty() && has("ca.crt") != encoded {
        out.insert("ca.crt".into(), json!(encoded));
    }
    if has("namespace").is_empty() {
        let ns = secret["metadata"]["namespace"].as_str().unwrap_or_default();
        out.insert("namespace".into(), json!(STANDARD.encode(ns)));
    }
    if has("token").is_empty() {
        out.insert("token".into(), json!(STANDARD.encode(mint()?)));
    }
    Ok(out)
}

pub async fn controller(ctx: Context) {
    let Some(mint) = ctx.config.secret_tokens.clone() else { return ctx.token.cancelled().await };
    let queue = Queue::default();
    let (secrets, accounts) = (secrets(&ctx), ctx.informers.get(&SERVICE_ACCOUNTS));
    skeleton::enqueue_self(&secrets, &queue);
    let (q, all) = (queue.clone(), secrets.clone());
    accounts.on_change(move |c| {
        let Some(account) = c.object() else { return };
        for secret in all.list(Some(account.namespace())) {
            if secret.value().is_ok_and(|v| annotation(&v, NAME) == account.name()) {
                q.add(key_of(&secret));
            }
        }
    });
    if !skeleton::synced(&ctx.token, &[&secrets, &accounts]).await {
        return;
    }
    // As upstream's: this loop acts as the controller manager itself.
    let client = ctx.informers.client().clone();
    skeleton::work("serviceaccount-token", &ctx.token, &queue, 2, |key: Key| {
        let (ctx, client, secrets, accounts, mint) = (&ctx, &client, &secrets, &accounts, &mint);
        async move {
            let Some(secret) = secrets.get(&key.0, &key.1) else { return Ok(Next::Wait) };
            if secret.meta().is_deleting() {
                return Ok(Next::Wait);
            }
            let v = secret.value()?;
            let name = annotation(&v, NAME);
            if name.is_empty() {
                return Ok(Next::Wait);
            }
            let found = match accounts.get(&key.0, name) {
                // The informer may lag behind an account that has just been made.
                None => client.find(&SERVICE_ACCOUNTS, &key.0, name).await?,
                found => found,
            };
            let Some(account) = found.filter(|a| is_of(&v, a)) else {
                let options = DeleteOptions::uid(secret.uid());
                client.delete_if_there(&SECRETS, &key.0, &key.1, &options).await?;
                return Ok(Next::Wait);
            };
            let make = || (mint.0)(&key.0, account.name(), account.uid(), &key.1);
            let data = lacking(&v, &ctx.config.root_ca, make).map_err(api::Status::internal)?;
            if data.is_empty() {
                return Ok(Next::Wait);
            }
            let mut body = v.clone();
            for (k, d) in data {
                body["data"][k] = d;
            }
            body["metadata"]["annotations"][NAME] = json!(account.name());
            body["metadata"]["annotations"][UID] = json!(account.uid());
            match client.update(&SECRETS, &key.0, &key.1, "", &body).await {
                Err(s) if s.is_not_found() || s.is_conflict() => Ok(Next::Wait),
                Err(s) => Err(s.into()),
                Ok(_) => Ok(Next::Wait),
            }
        }
    })
    .await;
}

fn date(text: &str) -> Option<Date> {
    text.parse().ok()
}

fn today(now: Timestamp) -> Date {
    now.to_zoned(TimeZone::UTC).date()
}

fn days_before(day: Date, days: i64) -> Date {
    day.checked_sub(Span::new().days(days)).unwrap_or(Date::MIN)
}

/// What happens to a token that was made for an account without anybody asking.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Stay,
    Invalid,
    Gone,
}

/// `tracked`: since when uses are noted.
fn fate(secret: &Value, tracked: Date, now: Timestamp) -> Fate {
    let edge = days_before(today(now), UNUSED);
    let text = |name: &str| secret["metadata"]["labels"][name].as_str();
    let label = |name: &str| text(name).and_then(date);
    if text(LAST_USED).is_some() && label(LAST_USED).is_none() {
        return Fate::Stay;
    }
    let created = secret["metadata"]["creationTimestamp"].as_str().and_then(clock::parse).map(today);
    let used = label(LAST_USED).into_iter().chain(created).chain([tracked]).max().unwrap_or(tracked);
    if used >= edge {
        return Fate::Stay;
    }
    match label(INVALID_SINCE) {
        None => Fate::Invalid,
        Some(since) if since < edge => Fate::Gone,
        Some(_) => Fate::Stay,
    }
}

/// Whether a part of a pod's spec names a secret, wherever such a name may stand.
fn names(part: &Value, secret: &str) -> bool {
    match part {
        Value::Object(o) => o.iter().any(|(k, v)| match k.as_str() {
            "secretName" => v == secret,
            "imagePullSecrets" => v.as_array().into_iter().flatten().any(|s| s["name"] == secret),
            "secret" | "secretRef" | "secretKeyRef" | "nodePublishSecretRef" => {
                v["name"] == secret || names(v, secret)
            }
            _ => names(v, secret),
        }),
        Value::Array(a) => a.iter().any(|v| names(v, secret)),
        _ => false,
    }
}

pub async fn cleaner(ctx: Context) {
    let queue = Queue::default();
    let (secrets, accounts, pods) =
        (secrets(&ctx), ctx.informers.get(&SERVICE_ACCOUNTS), ctx.informers.get(&PODS));
    if !skeleton::synced(&ctx.token, &[&secrets, &accounts, &pods]).await {
        return;
    }
    // One key stands for all: it is looked at once a day.
    queue.add(Key::default());
    skeleton::work("legacy-serviceaccount-token-cleaner", &ctx.token, &queue, 1, |_| {
        let (ctx, secrets, accounts, pods) = (&ctx, &secrets, &accounts, &pods);
        async move {
            clean(ctx, secrets, accounts, pods).await?;
            Ok(Next::After(PERIOD))
        }
    })
    .await;
}

async fn clean(ctx: &Context, secrets: &Informer, accounts: &Informer, pods: &Informer) -> Result<(), Error> {
    let Some(map) = ctx.client.find(&CONFIG_MAPS, "kube-system", TRACKING).await? else { return Ok(()) };
    let Some(since) = map.value()?["data"]["since"].as_str().and_then(date) else { return Ok(()) };
    let now = clock::now();
    for secret in secrets.list(None) {
        let v = secret.value()?;
        let (ns, name) = (secret.namespace(), secret.name());
        // Only what an account lists was made for it; what people made stays.
        let listed = accounts.get(ns, annotation(&v, NAME)).filter(|a| is_of(&v, a)).is_some_and(|a| {
            a.value().is_ok_and(|a| {
                a["secrets"].as_array().into_iter().flatten().any(|s| s["name"].as_str() == Some(name))
            })
        });
        if !listed || secret.meta().is_deleting() {
            continue;
        }
        if pods.list(Some(ns)).iter().any(|p| p.value().is_ok_and(|p| names(&p["spec"], name))) {
            continue;
        }
        match fate(&v, since, now) {
            Fate::Stay => {}
            Fate::Invalid => {
                let patch = json!({ "metadata": { "resourceVersion": secret.revision().to_string(),
                    "labels": { INVALID_SINCE: today(now).to_string() } } });
                match ctx.client.patch(&SECRETS, ns, name, "", &Patch::Merge(patch)).await {
                    Err(s) if !s.is_not_found() && !s.is_conflict() => return Err(s.into()),
                    _ => {}
                }
            }
            Fate::Gone => {
                ctx.client.delete_if_there(&SECRETS, ns, name, &DeleteOptions::uid(secret.uid())).await?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_added() {
        let b = |s: &str| STANDARD.encode(s);
        let of = |data: Value| {
            let v = json!({"metadata": {"namespace": "n"}, "data": data});
            Value::Object(lacking(&v, "ca", || Ok("token".into())).expect("data"))
        };
        assert_eq!(of(Value::Null), json!({"ca.crt": b("ca"), "namespace": b("n"), "token": b("token")}));
        assert_eq!(
            of(json!({"ca.crt": b("old"), "namespace": b("x"), "token": b("t")})),
            json!({"ca.crt": b("ca")})
        );
        assert_eq!(of(json!({"ca.crt": b("ca"), "namespace": b("x"), "token": b("t")})), json!({}));
        assert!(lacking(&json!({}), "", || Err("no key".into())).is_err());
    }

    #[test]
    fn a_secret_belongs_to_one_account() {
        let account = Object::from_value(json!({"metadata": {"name": "a", "uid": "u"}}), 1).expect("account");
        for (name, uid, want) in [("a", "", true), ("a", "u", true), ("a", "v", false), ("b", "u", false)] {
            let v = json!({"metadata": {"annotations": {NAME: name, UID: uid}}});
            assert_eq!(is_of(&v, &account), want, "{name} {uid}");
        }
    }

    #[test]
    fn secrets_that_pods_name() {
        for spec in [
            json!({"volumes": [{"secret": {"secretName": "s"}}]}),
            json!({"volumes": [{"projected": {"sources": [{"secret": {"name": "s"}}]}}]}),
            json!({"imagePullSecrets": [{"name": "s"}]}),
            json!({"containers": [{"envFrom": [{"secretRef": {"name": "s"}}]}]}),
            json!({"containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}]}),
        ] {
            assert!(names(&spec, "s") && !names(&spec, "k"), "{spec}");
        }
        assert!(!names(&json!({"containers": [{"name": "s"}]}), "s"));
    }

    #[test]
    fn tokens_that_nobody_uses() {
        let now: Timestamp = "2026-06-01T12:00:00Z".parse().expect("time");
        let tracked = date("2024-01-01").expect("date");
        for (created, used, invalid, want) in [
            ("2023-01-01T00:00:00Z", "", "", Fate::Invalid),
            ("2023-01-01T00:00:00Z", "2026-05-01", "", Fate::Stay),
            ("2023-01-01T00:00:00Z", "2025-05-01", "", Fate::Invalid),
            ("2026-01-01T00:00:00Z", "", "", Fate::Stay),
            ("2023-01-01T00:00:00Z", "lately", "", Fate::Stay),
            ("2023-01-01T00:00:00Z", "2024-05-01", "2026-01-01", Fate::Stay),
            ("2023-01-01T00:00:00Z", "2024-05-01", "2025-05-30", Fate::Gone),
        ] {
            let mut labels = json!({});
            for (name, value) in [(LAST_USED, used), (INVALID_SINCE, invalid)] {
                if !value.is_empty() {
                    labels[name] = json!(value);
                }
            }
            let v = json!({"metadata": {"creationTimestamp": created, "labels": labels}});
            assert_eq!(fate(&v, tracked, now), want, "{v}");
        }
        // Uses are noted for less than a year: nobody knows.
        let v = json!({"metadata": {"creationTimestamp": "2023-01-01T00:00:00Z"}});
        assert_eq!(fate(&v, date("2025-12-01").expect("date"), now), Fate::Stay);
    }
}
