//! Bootstrap tokens, with which a new node introduces itself: `id.secret`, kept as Secrets of a type of their own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

pub const NAMESPACE: &str = "kube-system";
pub const TYPE: &str = "bootstrap.kubernetes.io/token";
/// Secrets are named so, with the token's id behind it.
pub const PREFIX: &str = "bootstrap-token-";
/// Groups of a token's bearer begin so.
pub const GROUP: &str = "system:bootstrappers";
/// Where the ConfigMap `CLUSTER_INFO` is, which says to those who join what the cluster is.
pub const PUBLIC_NAMESPACE: &str = "kube-public";
pub const CLUSTER_INFO: &str = "cluster-info";
/// Before a token's id, the key in `CLUSTER_INFO` of its signature.
pub const SIGNATURE: &str = "jws-kubeconfig-";

/// Id and secret: six characters, a dot, sixteen characters; lower-case letters and digits.
pub fn split(token: &str) -> Option<(&str, &str)> {
    let part =
        |s: &str, n: usize| s.len() == n && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    token.split_once('.').filter(|(id, secret)| part(id, 6) && part(secret, 16))
}

/// What such a Secret says.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BootstrapToken {
    pub id: String,
    pub secret: String,
    pub description: String,
    /// Empty: it holds for ever.
    pub expiration: String,
    pub authenticates: bool,
    pub signs: bool,
    pub groups: Vec<String>,
}

impl std::fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BootstrapToken({}.…)", self.id)
    }
}

impl BootstrapToken {
    /// `None` for a Secret that is no token, or is not named after its id.
    pub fn of(secret: &Value) -> Option<Self> {
        let field = |f: &str| -> String {
            let raw = secret["data"][f].as_str().and_then(|s| STANDARD.decode(s).ok()).unwrap_or_default();
            String::from_utf8(raw).unwrap_or_default()
        };
        let token = Self {
            id: field("token-id"),
            secret: field("token-secret"),
            description: field("description"),
            expiration: field("expiration"),
            authenticates: field("usage-bootstrap-authentication") == "true",
            signs: field("usage-bootstrap-signing") == "true",
            groups: field("auth-extra-groups")
                .split(',')
                .map(str::trim)
                .filter(|g| g.strip_prefix(GROUP).is_some_and(|rest| rest.starts_with(':')))
                .map(str::to_owned)
                .collect(),
        };
        let named = secret["metadata"]["name"].as_str().and_then(|n| n.strip_prefix(PREFIX));
        let good = secret["type"] == TYPE
            && !token.id.is_empty()
            && !token.secret.is_empty()
            && named == Some(token.id.as_str());
        good.then_some(token)
    }

    /// When it ends; what can't be read counts as past.
    pub fn ends(&self) -> Option<Timestamp> {
        match self.expiration.as_str() {
            "" => None,
            t => Some(t.parse().unwrap_or(Timestamp::MIN)),
        }
    }

    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.ends().is_some_and(|t| t <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn forms() {
        assert_eq!(split("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for wrong in ["abc.def", "ABCDEF.0123456789abcdef", "abcdef0123456789abcdef", ""] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn secrets() {
        let e = |s: &str| STANDARD.encode(s);
        let v = |name: &str, end: &str| {
            json!({"metadata": {"name": name}, "type": TYPE, "data": {"token-id": e("abcdef"),
                "token-secret": e("0123456789abcdef"), "usage-bootstrap-signing": e("true"), "expiration": e(end),
                "auth-extra-groups": e("system:bootstrappers:x, other,system:bootstrappersx")}})
        };
        let t = BootstrapToken::of(&v("bootstrap-token-abcdef", "2030-01-01T00:00:00Z")).expect("token");
        assert_eq!(t.groups, ["system:bootstrappers:x"]);
        assert!(t.signs && !t.authenticates);
        let at = |s: &str| s.parse::<Timestamp>().expect("time");
        assert!(!t.is_expired(at("2029-12-31T23:59:59Z")) && t.is_expired(at("2030-01-01T00:00:00Z")));
        assert!(BootstrapToken::of(&v("bootstrap-token-other", "")).is_none());
        let named = |end| BootstrapToken::of(&v("bootstrap-token-abcdef", end)).expect("token");
        assert!(
            !named("").is_expired(Timestamp::MAX) && named("soon").is_expired(at("2026-01-01T00:00:00Z"))
        );
        assert!(BootstrapToken::of(&json!({"type": "Opaque"})).is_none());
    }
}
