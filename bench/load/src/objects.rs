//! The objects of the load: names, paths and bodies.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use bytes::Bytes;
use serde_json::json;

/// So many objects share a label, which the lists with a selector ask for.
pub const GROUPS: usize = 100;

pub struct Resource {
    api_version: String,
    kind: String,
    /// Of the collection in its namespace.
    pub path: String,
    /// Payload of an object, before its name.
    filler: String,
}

impl Resource {
    pub fn parse(resource: &str, kind: &str, namespace: &str, bytes: usize) -> Result<Self> {
        let parts: Vec<&str> = resource.split('/').collect();
        let (api_version, path) = match parts[..] {
            ["v1", plural] => ("v1".to_owned(), format!("/api/v1/namespaces/{namespace}/{plural}")),
            [group, version, plural] => (
                format!("{group}/{version}"),
                format!("/apis/{group}/{version}/namespaces/{namespace}/{plural}"),
            ),
            _ => bail!("{resource}: a resource is v1/plural or group/version/plural"),
        };
        let mut filler = String::with_capacity(bytes + 8);
        while filler.len() < bytes {
            write!(filler, "{:x} ", filler.len() * 2_654_435_761)?;
        }
        filler.truncate(bytes);
        Ok(Self { api_version, kind: kind.to_owned(), path, filler })
    }

    pub fn name(n: usize) -> String {
        format!("load-{n:07}")
    }

    pub fn item(&self, n: usize) -> String {
        format!("{}/{}", self.path, Self::name(n))
    }

    /// The whole object. `version` 0 makes no demand; `turn` makes it differ from its last state.
    pub fn body(&self, n: usize, turn: u64, version: u64) -> Bytes {
        let mut o = json!({
            "apiVersion": self.api_version,
            "kind": self.kind,
            "metadata": {"name": Self::name(n), "labels": {"group": format!("g{}", n % GROUPS), "app": "load"}},
            "data": {"payload": self.filler, "turn": turn.to_string()},
        });
        if version > 0 {
            o["metadata"]["resourceVersion"] = version.to_string().into();
        }
        Bytes::from(o.to_string())
    }

    pub fn patch(turn: u64) -> Bytes {
        Bytes::from(json!({"data": {"turn": turn.to_string()}}).to_string())
    }
}

/// The version in an answered object: the first of its text, which stands in its own metadata.
pub fn version_of(body: &[u8]) -> u64 {
    const KEY: &[u8] = b"\"resourceVersion\":\"";
    let Some(at) = body.windows(KEY.len()).position(|w| w == KEY) else { return 0 };
    body[at + KEY.len()..]
        .iter()
        .take_while(|b| b.is_ascii_digit())
        .fold(0, |n, b| n * 10 + u64::from(b - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_answers() {
        assert_eq!(version_of(br#"{"metadata":{"resourceVersion":"4711"}}"#), 4711);
        assert_eq!(version_of(b"{}"), 0);
    }

    #[test]
    fn paths() {
        let r = Resource::parse("v1/configmaps", "ConfigMap", "x", 10).unwrap();
        assert_eq!(r.item(3), "/api/v1/namespaces/x/configmaps/load-0000003");
        let r = Resource::parse("a.b/v2/cs", "C", "x", 10).unwrap();
        assert_eq!(r.path, "/apis/a.b/v2/namespaces/x/cs");
        assert_eq!(r.filler.len(), 10);
        assert!(Resource::parse("configmaps", "C", "x", 10).is_err());
    }
}
