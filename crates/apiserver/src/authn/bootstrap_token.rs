//! Bootstrap tokens: `id.secret`, kept as Secrets in `kube-system`, with which a new node introduces itself.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::user::AUTHENTICATED;
use crate::{Reader, User};

/// Six characters, a dot, sixteen characters; lower-case letters and digits.
pub fn looks_like_one(token: &str) -> bool {
    let part =
        |s: &str, n: usize| s.len() == n && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    token.split_once('.').is_some_and(|(id, secret)| part(id, 6) && part(secret, 16))
}

pub async fn authenticate(reader: &dyn Reader, token: &str, now: i64) -> Result<User, String> {
    let invalid = || "invalid bearer token".to_owned();
    let (id, secret) = token.split_once('.').ok_or_else(invalid)?;
    let name = format!("bootstrap-token-{id}");
    let found =
        reader.get("", "secrets", "kube-system", &name).await.map_err(|e| e.message)?.ok_or_else(invalid)?;
    let v = found.value().map_err(|e| e.to_string())?;
    judge(&v, found.meta().is_deleting(), id, secret, now).ok_or_else(invalid)
}

fn judge(v: &Value, deleting: bool, id: &str, secret: &str, now: i64) -> Option<User> {
    let field = |f: &str| -> String {
        let raw = v["data"][f].as_str().and_then(|s| STANDARD.decode(s).ok()).unwrap_or_default();
        String::from_utf8(raw).unwrap_or_default()
    };
    let expired = match field("expiration").as_str() {
        "" => false,
        // What can't be read counts as past.
        t => client::clock::parse(t).is_none_or(|t| t.as_second() <= now),
    };
    let good = v["type"] == "bootstrap.kubernetes.io/token"
        && !deleting
        && !expired
        && field("token-id") == id
        && same(field("token-secret").as_bytes(), secret.as_bytes())
        && field("usage-bootstrap-authentication") == "true";
    if !good {
        return None;
    }
    let mut groups = vec!["system:bootstrappers".to_owned()];
    groups.extend(
        field("auth-extra-groups")
            .split(',')
            .map(str::trim)
            .filter(|g| g.starts_with("system:bootstrappers:"))
            .map(str::to_owned),
    );
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
    use serde_json::json;

    #[test]
    fn tokens() {
        assert!(
            looks_like_one("abcdef.0123456789abcdef")
                && !looks_like_one("abc.def")
                && !looks_like_one("ABCDEF.0123456789abcdef")
        );
        let e = |s: &str| STANDARD.encode(s);
        let v = json!({"type": "bootstrap.kubernetes.io/token", "data": {"token-id": e("abcdef"), "token-secret": e("0123456789abcdef"),
            "usage-bootstrap-authentication": e("true"), "expiration": e("2030-01-01T00:00:00Z"),
            "auth-extra-groups": e("system:bootstrappers:x,other")}});
        let u = judge(&v, false, "abcdef", "0123456789abcdef", 1_800_000_000).expect("user");
        assert_eq!(u.groups, ["system:bootstrappers", "system:bootstrappers:x", AUTHENTICATED]);
        assert!(judge(&v, false, "abcdef", "0123456789abcdeg", 1_800_000_000).is_none());
        assert!(judge(&v, false, "abcdef", "0123456789abcdef", 2_000_000_000).is_none());
        assert!(judge(&v, true, "abcdef", "0123456789abcdef", 1_800_000_000).is_none());
    }
}
