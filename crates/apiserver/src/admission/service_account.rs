//! ServiceAccount: every pod runs as an account that exists, and finds its token, the cluster's CA and its namespace
//! under one well-known path.

use std::time::Duration;

use api::{Object, Status};
use async_trait::async_trait;
use rand::Rng;
use serde_json::{Value, json};

use super::json::{array, containers, items, object, text};
use super::{Context, Operation, Plugin, Request};
use crate::authn::token_request::WARN_SECONDS;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MIRROR: &str = "kubernetes.io/config.mirror";
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
/// A namespace's `default` account is made by a controller right after the namespace: a pod that comes first waits.
const PATIENCE: Duration = Duration::from_millis(1500);
const STEP: Duration = Duration::from_millis(15);

pub struct ServiceAccount;

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, r: &Request<'_>) -> bool {
        r.is_pod() && r.subresource.is_empty() && r.operation == Operation::Create
    }

    async fn admit(&self, cx: &Context, r: &mut Request<'_>) -> Result<(), Status> {
        let spec = &r.object["spec"];
        if !r.object["metadata"]["annotations"][MIRROR].is_null() {
            if !text(spec, "serviceAccountName").is_empty() {
                return Err(r.forbidden("a mirror pod may not reference service accounts"));
            }
            if names_secrets(spec) {
                return Err(r.forbidden("a mirror pod may not reference secrets"));
            }
            return Ok(());
        }
        let name = match text(spec, "serviceAccountName") {
            "" => "default",
            n => n,
        }
        .to_owned();
        let Some(account) = find(cx, r.namespace, &name).await? else {
            return Err(r.forbidden(format!(
                "error looking up service account {0}/{name}: serviceaccount {name:?} not found",
                r.namespace
            )));
        };
        let account = account.value().map_err(Status::internal)?;
        if let Err(why) = mountable(&account, spec) {
            return Err(r.forbidden(why));
        }
        prepare(object(&mut r.object), &name, &account, &random_suffix());
        Ok(())
    }
}

async fn find(cx: &Context, namespace: &str, name: &str) -> Result<Option<Object>, Status> {
    let get = || cx.reader.get("", "serviceaccounts", namespace, name);
    let first = get().await?;
    if first.is_some() || name != "default" {
        return Ok(first);
    }
    let end = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(STEP).await;
        if let Some(o) = get().await? {
            return Ok(Some(o));
        }
    }
    Ok(None)
}

fn random_suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rng = rand::rng();
    (0..5)
        .map(|_| ALPHABET.get(rng.random_range(0..ALPHABET.len())).copied().map_or('x', char::from))
        .collect()
}

fn names_secrets(spec: &Value) -> bool {
    let env = |c: &Value| {
        items(c, "env").iter().any(|e| e["valueFrom"]["secretKeyRef"].is_object())
            || items(c, "envFrom").iter().any(|e| e["secretRef"].is_object())
    };
    let volume = |v: &Value| {
        v["secret"].is_object() || items(&v["projected"], "sources").iter().any(|s| s["secret"].is_object())
    };
    !items(spec, "imagePullSecrets").is_empty()
        || containers(spec).any(env)
        || items(spec, "volumes").iter().any(volume)
}

/// With the annotation that asks for it, a pod may only use the secrets that its account lists.
fn mountable(account: &Value, spec: &Value) -> Result<(), String> {
    let asked = text(&account["metadata"]["annotations"], ENFORCE);
    if !matches!(asked, "true" | "1" | "t" | "T" | "TRUE" | "True") {
        return Ok(());
    }
    let name = text(&account["metadata"], "name");
    let listed = |field: &str, secret: &str| items(account, field).iter().any(|s| text(s, "name") == secret);
    for v in items(spec, "volumes").iter().filter(|v| v["secret"].is_object()) {
        let s = text(&v["secret"], "secretName");
        if !listed("secrets", s) {
            return Err(format!(
                "volume with secret.secretName={s:?} is not allowed because service account {name} does not reference that secret"
            ));
        }
    }
    for (field, word) in [
        ("initContainers", "init container"),
        ("containers", "container"),
        ("ephemeralContainers", "ephemeral container"),
    ] {
        for c in items(spec, field) {
            for e in items(c, "env") {
                let s = text(&e["valueFrom"]["secretKeyRef"], "name");
                if !s.is_empty() && !listed("secrets", s) {
                    return Err(format!(
                        "{word} {} with envVar {} referencing secret.secretName={s:?} is not allowed because service account \
                         {name} does not reference that secret",
                        text(c, "name"),
                        text(e, "name")
                    ));
                }
            }
        }
    }
    for (i, p) in items(spec, "imagePullSecrets").iter().enumerate() {
        let s = text(p, "name");
        if !listed("imagePullSecrets", s) {
            return Err(format!(
                "imagePullSecrets[{i}].name={s:?} is not allowed because service account {name} does not reference that \
                 imagePullSecret"
            ));
        }
    }
    Ok(())
}

/// Account, token volume and pull secrets. Pure.
fn prepare(pod: &mut serde_json::Map<String, Value>, name: &str, account: &Value, suffix: &str) {
    let spec = object(pod.entry("spec").or_insert(Value::Null));
    spec.insert("serviceAccountName".into(), json!(name));
    spec.insert("serviceAccount".into(), json!(name));
    let mount = spec
        .get("automountServiceAccountToken")
        .and_then(Value::as_bool)
        .or_else(|| account["automountServiceAccountToken"].as_bool())
        .unwrap_or(true);
    if mount {
        mount_token(spec, suffix);
    }
    let none = spec.get("imagePullSecrets").and_then(Value::as_array).is_none_or(Vec::is_empty);
    if none && let Some(s) = account["imagePullSecrets"].as_array().filter(|s| !s.is_empty()) {
        spec.insert("imagePullSecrets".into(), json!(s));
    }
}

fn mount_token(spec: &mut serde_json::Map<String, Value>, suffix: &str) {
    let existing = spec
        .get("volumes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|v| text(v, "name"))
        .find(|n| n.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let has = existing.is_some();
    let name = existing.unwrap_or_else(|| format!("{VOLUME_PREFIX}{suffix}"));
    let mut needed = false;
    for field in ["initContainers", "containers"] {
        let Some(list) = spec.get_mut(field).and_then(Value::as_array_mut) else { continue };
        for c in list {
            if items(c, "volumeMounts").iter().any(|m| text(m, "mountPath") == MOUNT_PATH) {
                continue;
            }
            array(object(c), "volumeMounts")
                .push(json!({"mountPath": MOUNT_PATH, "name": name, "readOnly": true}));
            needed = true;
        }
    }
    if has || !needed {
        return;
    }
    array(spec, "volumes").push(json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": WARN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}}));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_gets_account_token_and_pull_secrets() {
        let account = json!({"metadata": {"name": "default"}, "imagePullSecrets": [{"name": "reg"}]});
        let mut pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]}],
            "initContainers": [{"name": "i"}]}});
        prepare(object(&mut pod), "default", &account, "abcde");
        let spec = &pod["spec"];
        assert_eq!(spec["serviceAccountName"], "default");
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "reg"}]));
        assert_eq!(spec["volumes"][0]["name"], "kube-api-access-abcde");
        assert_eq!(
            spec["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"],
            3607
        );
        assert_eq!(
            spec["containers"][0]["volumeMounts"][0],
            json!({"name": "kube-api-access-abcde", "mountPath": MOUNT_PATH, "readOnly": true})
        );
        assert_eq!(spec["containers"][1]["volumeMounts"].as_array().map(Vec::len), Some(1));
        assert_eq!(spec["initContainers"][0]["volumeMounts"][0]["name"], "kube-api-access-abcde");
    }

    #[test]
    fn automount_can_be_refused_by_pod_or_account() {
        for (pod, account, want) in [
            (json!({"spec": {"containers": [{}], "automountServiceAccountToken": false}}), json!({}), false),
            (json!({"spec": {"containers": [{}]}}), json!({"automountServiceAccountToken": false}), false),
            (
                json!({"spec": {"containers": [{}], "automountServiceAccountToken": true}}),
                json!({"automountServiceAccountToken": false}),
                true,
            ),
        ] {
            let mut pod = pod;
            prepare(object(&mut pod), "x", &account, "abcde");
            assert_eq!(pod["spec"]["volumes"].is_array(), want);
        }
    }
}
