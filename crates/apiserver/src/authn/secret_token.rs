//! Tokens that stand in secrets (`kubernetes.io/service-account-token`): they have no end, and count while their secret
//! holds them and their account lives. The day of their last use is noted on the secret.
//! https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#auto-generated-legacy-serviceaccount-token-clean-up

use api::Object;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::clock;
use pki::token::LegacyClaims;
use serde_json::{Value, json};

use crate::user::AUTHENTICATED;
use crate::{Reader, User};

const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// What stands in the way of a token whose signature is good. Pure.
fn judge(
    c: &LegacyClaims,
    token: &str,
    secret: Option<&Value>,
    account: Option<&Object>,
) -> Result<(), String> {
    for (claim, text) in [
        ("namespace", &c.namespace),
        ("secretName", &c.secret),
        ("serviceAccountName", &c.account),
        ("serviceAccountUID", &c.account_uid),
    ] {
        if text.is_empty() {
            return Err(format!("{claim} claim is missing"));
        }
    }
    if c.sub != format!("system:serviceaccount:{}:{}", c.namespace, c.account) {
        return Err("sub claim is invalid".into());
    }
    let secret = secret.filter(|s| s["metadata"]["deletionTimestamp"].is_null());
    let secret = secret.ok_or("Token has been invalidated")?;
    let held = secret["data"]["token"].as_str().and_then(|t| STANDARD.decode(t).ok()).unwrap_or_default();
    // The signature is known to be good: there is nothing to be guessed by the time that this takes.
    if held != token.as_bytes() {
        return Err("Token does not match server's copy".into());
    }
    let Some(account) = account.filter(|a| !a.meta().is_deleting()) else {
        return Err(format!("ServiceAccount {}/{} has been deleted", c.namespace, c.account));
    };
    if account.uid() != c.account_uid {
        return Err(format!(
            "ServiceAccount UID ({}) does not match claim ({})",
            account.uid(),
            c.account_uid
        ));
    }
    if secret["metadata"]["labels"][INVALID_SINCE].as_str().is_some_and(|s| !s.is_empty()) {
        return Err(format!(
            "the token in secret {}/{} for service account {}/{} has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the '{INVALID_SINCE}' label from the secret to temporarily allow use of this token",
            c.namespace, c.secret, c.namespace, c.account
        ));
    }
    Ok(())
}

/// `own`: what the API server answers to, which such a token is always for.
pub async fn authenticate(
    reader: &dyn Reader,
    claims: &LegacyClaims,
    token: &str,
    own: &[String],
    wanted: &[String],
) -> Result<(User, Vec<String>), String> {
    let matched: Vec<String> =
        own.iter().filter(|a| wanted.is_empty() || wanted.contains(a)).cloned().collect();
    if matched.is_empty() {
        return Err(format!("token audiences {own:?} is invalid for the target audiences {wanted:?}"));
    }
    let get = |plural| {
        reader.get(
            "",
            plural,
            &claims.namespace,
            if plural == "secrets" { &claims.secret } else { &claims.account },
        )
    };
    let secret = get("secrets").await.map_err(|e| e.message)?;
    let account = get("serviceaccounts").await.map_err(|e| e.message)?;
    let value = secret.as_ref().and_then(|s| s.value().ok());
    let judged = judge(claims, token, value.as_ref(), account.as_ref());
    let held = judged.as_ref().map_or_else(|e| e.contains(INVALID_SINCE), |()| true);
    if held && let Some(secret) = &secret {
        used(reader, secret).await;
    }
    judged?;
    let groups = vec![
        "system:serviceaccounts".into(),
        format!("system:serviceaccounts:{}", claims.namespace),
        AUTHENTICATED.into(),
    ];
    let user = User {
        name: claims.sub.clone(),
        uid: claims.account_uid.clone(),
        groups,
        extra: std::collections::BTreeMap::new(),
    };
    Ok((user, matched))
}

/// Notes the day, once.
async fn used(reader: &dyn Reader, secret: &Object) {
    let now = clock::rfc3339(clock::now());
    let today = now.get(..10).unwrap_or_default().to_owned();
    if secret.meta().labels.get(LAST_USED) == Some(today.as_str()) {
        return;
    }
    let decide = &mut |mut v: Value| {
        if v["metadata"]["labels"][LAST_USED] == today.as_str() {
            return Ok(None);
        }
        v["metadata"]["labels"][LAST_USED] = json!(today);
        Ok(Some(v))
    };
    if let Err(e) = reader.update("", "secrets", secret.namespace(), secret.name(), decide).await {
        tracing::warn!(namespace = secret.namespace(), secret = secret.name(), error = %e, "failed to note the use of a token");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_counts_while_its_secret_holds_it() {
        let claims = LegacyClaims::new("n", "a", "u", "s");
        let account = |uid: &str| {
            Object::from_value(json!({"metadata": {"name": "a", "uid": uid}}), 1).expect("account")
        };
        let secret = json!({"metadata": {"name": "s"}, "data": {"token": STANDARD.encode("t")}});
        let with = |f: &str, v: Value| {
            let mut s = secret.clone();
            s["metadata"][f] = v;
            s
        };
        let u = account("u");
        assert_eq!(judge(&claims, "t", Some(&secret), Some(&u)), Ok(()));
        for (token, secret, account, want) in [
            ("t", None, Some(&u), "Token has been invalidated"),
            ("t", Some(with("deletionTimestamp", json!("x"))), Some(&u), "Token has been invalidated"),
            ("other", Some(secret.clone()), Some(&u), "Token does not match server's copy"),
            ("t", Some(secret.clone()), None, "ServiceAccount n/a has been deleted"),
            (
                "t",
                Some(secret.clone()),
                Some(&account("v")),
                "ServiceAccount UID (v) does not match claim (u)",
            ),
            (
                "t",
                Some(with("labels", json!({INVALID_SINCE: "2026-01-01"}))),
                Some(&u),
                "the token in secret n/s for",
            ),
        ] {
            let got = judge(&claims, token, secret.as_ref(), account).expect_err(want);
            assert!(got.starts_with(want), "{got}");
        }
        let forged = LegacyClaims { sub: "system:serviceaccount:n:b".into(), ..claims };
        assert_eq!(judge(&forged, "t", Some(&secret), Some(&u)), Err("sub claim is invalid".into()));
    }
}
