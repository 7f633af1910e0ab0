//! Bootstrap tokens as credentials: looked up each time, so that one that is deleted or has ended counts no more.

use api::bootstrap_token::{BootstrapToken, GROUP, NAMESPACE, PREFIX, split};
use jiff::Timestamp;
use serde_json::Value;

use crate::user::AUTHENTICATED;
use crate::{Reader, User};

pub async fn authenticate(reader: &dyn Reader, token: &str, now: i64) -> Result<User, String> {
    let invalid = || "invalid bearer token".to_owned();
    let (id, secret) = split(token).ok_or_else(invalid)?;
    let name = format!("{PREFIX}{id}");
    let found =
        reader.get("", "secrets", NAMESPACE, &name).await.map_err(|e| e.message)?.ok_or_else(invalid)?;
    let v = found.value().map_err(|e| e.to_string())?;
    judge(&v, found.meta().is_deleting(), id, secret, now).ok_or_else(invalid)
}

fn judge(v: &Value, deleting: bool, id: &str, secret: &str, now: i64) -> Option<User> {
    let token = BootstrapToken::of(v)?;
    let good = !deleting
        && !token.is_expired(Timestamp::from_second(now).unwrap_or(Timestamp::MAX))
        && token.id == id
        && same(token.secret.as_bytes(), secret.as_bytes())
        && token.authenticates;
    if !good {
        return None;
    }
    let mut groups = vec![GROUP.to_owned()];
    groups.extend(token.groups);
    groups.push(AUTHENTICATED.into());
    Some(User { name: format!("system:bootstrap:{id}"), groups, ..User::default() })
}

/// Takes the same time wherever two secrets differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0u8, |acc, (x, y)| acc | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    #[test]
    fn tokens() {
        let e = |s: &str| STANDARD.encode(s);
        let v = json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token",
            "data": {"token-id": e("abcdef"), "token-secret": e("0123456789abcdef"),
            "usage-bootstrap-authentication": e("true"), "expiration": e("2030-01-01T00:00:00Z"),
            "auth-extra-groups": e("system:bootstrappers:x,other")}});
        let u = judge(&v, false, "abcdef", "0123456789abcdef", 1_800_000_000).expect("user");
        assert_eq!(u.groups, ["system:bootstrappers", "system:bootstrappers:x", AUTHENTICATED]);
        assert!(judge(&v, false, "abcdef", "0123456789abcdeg", 1_800_000_000).is_none());
        assert!(judge(&v, false, "abcdef", "0123456789abcdef", 2_000_000_000).is_none());
        assert!(judge(&v, true, "abcdef", "0123456789abcdef", 1_800_000_000).is_none());
    }
}
