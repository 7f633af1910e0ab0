//! One API object as it travels through Kelson: canonical JSON bytes (shared, never copied), the revision that the
//! store gave it, and its parsed metadata. The bytes hold no resourceVersion; it is spliced in on the way out.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::meta::Meta;

/// A shared handle on one object at one revision; cloning copies no bytes.
#[derive(Clone)]
pub struct Object {
    bytes: Bytes,
    meta: Arc<Meta>,
    revision: u64,
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Object({}/{}@{})", self.namespace(), self.name(), self.revision)
    }
}

/// The bytes are no API object.
#[derive(Debug, thiserror::Error)]
#[error("failed to decode object: {0}")]
pub struct DecodeError(#[from] serde_json::Error);

#[derive(Deserialize)]
struct MetaOnly {
    #[serde(default)]
    metadata: Meta,
}

#[derive(Deserialize)]
struct WithVersion {
    #[serde(default)]
    metadata: VersionOnly,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct VersionOnly {
    resource_version: String,
}

impl Object {
    /// From bytes as the store keeps them (no resourceVersion inside).
    pub fn from_stored(bytes: Bytes, revision: u64) -> Result<Self, DecodeError> {
        let m: MetaOnly = serde_json::from_slice(&bytes)?;
        Ok(Self { bytes, meta: Arc::new(m.metadata), revision })
    }

    /// From parts that are known to belong together; nothing is parsed.
    pub fn from_parts(bytes: Bytes, meta: Arc<Meta>, revision: u64) -> Self {
        Self { bytes, meta, revision }
    }

    /// From JSON off the wire, which carries its resourceVersion; it is taken out of the bytes.
    pub fn from_wire(raw: &[u8]) -> Result<Self, DecodeError> {
        let v: WithVersion = serde_json::from_slice(raw)?;
        let revision = v.metadata.resource_version.parse().unwrap_or(0);
        if v.metadata.resource_version.is_empty() {
            return Self::from_stored(Bytes::copy_from_slice(raw), 0);
        }
        Self::from_value(serde_json::from_slice(raw)?, revision)
    }

    /// From a value; any resourceVersion in it is dropped in favour of `revision`.
    pub fn from_value(mut value: Value, revision: u64) -> Result<Self, DecodeError> {
        if let Some(m) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            m.remove("resourceVersion");
        }
        Self::from_stored(Bytes::from(serde_json::to_vec(&value)?), revision)
    }

    pub fn meta(&self) -> &Meta {
        &self.meta
    }
    pub fn meta_shared(&self) -> &Arc<Meta> {
        &self.meta
    }
    pub fn name(&self) -> &str {
        self.meta.name()
    }
    pub fn namespace(&self) -> &str {
        self.meta.namespace()
    }
    pub fn uid(&self) -> &str {
        self.meta.uid()
    }
    pub fn revision(&self) -> u64 {
        self.revision
    }
    /// The oldest first; names decide among equals.
    pub fn by_age(&self, other: &Self) -> std::cmp::Ordering {
        let born = self.meta.creation_timestamp().cmp(&other.meta.creation_timestamp());
        born.then_with(|| self.name().cmp(other.name()))
    }
    /// Stored form, without resourceVersion.
    pub fn stored_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// A typed view over the fields that the caller's struct names.
    pub fn view<'a, T: Deserialize<'a>>(&'a self) -> Result<T, DecodeError> {
        Ok(serde_json::from_slice(&self.bytes)?)
    }

    /// The whole object as a value, resourceVersion included (when there is one).
    pub fn value(&self) -> Result<Value, DecodeError> {
        let mut v: Value = serde_json::from_slice(&self.bytes)?;
        if self.revision != 0
            && let Some(m) = v.get_mut("metadata").and_then(Value::as_object_mut)
        {
            m.insert("resourceVersion".into(), Value::String(self.revision.to_string()));
        }
        Ok(v)
    }

    /// Appends the JSON with the resourceVersion spliced in.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match (self.revision, splice_offset(&self.bytes)) {
            (0, _) | (_, None) => out.extend_from_slice(&self.bytes),
            (rev, Some(at)) => {
                out.reserve(self.bytes.len() + 44);
                out.extend_from_slice(&self.bytes[..at]);
                out.extend_from_slice(b"\"resourceVersion\":\"");
                out.extend_from_slice(rev.to_string().as_bytes());
                out.push(b'"');
                if self.bytes.get(at) != Some(&b'}') {
                    out.push(b',');
                }
                out.extend_from_slice(&self.bytes[at..]);
            }
        }
    }

    pub fn to_json(&self) -> Vec<u8> {
        let mut v = Vec::with_capacity(self.bytes.len() + 44);
        self.write_json(&mut v);
        v
    }
}

/// Where the top-level `"metadata":{` ends: a scan that steps over strings and counts depth, so that a `metadata`
/// inside `data` or a template is never taken for it.
fn splice_offset(bytes: &[u8]) -> Option<usize> {
    const KEY: &[u8] = b"\"metadata\":{";
    let (mut i, mut depth) = (0usize, 0usize);
    while i < bytes.len() {
        match bytes[i] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b'"' => {
                if depth == 1 && bytes[i..].starts_with(KEY) {
                    return Some(i + KEY.len());
                }
                i += 1;
                while i < bytes.len() && bytes[i] != b'"' {
                    i += if bytes[i] == b'\\' { 2 } else { 1 };
                }
            }
            _ => {}
        }
        i += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn version_is_spliced_into_the_top_level_metadata_only() {
        let v =
            json!({"data": {"metadata": "\"metadata\":{"}, "kind": "ConfigMap", "metadata": {"name": "a"}});
        let o = Object::from_value(v, 7).expect("object");
        let back: Value = serde_json::from_slice(&o.to_json()).expect("json");
        assert_eq!(back["metadata"]["resourceVersion"], "7");
        assert_eq!(back["data"]["metadata"], "\"metadata\":{");
        assert_eq!(o.value().expect("value"), back);
    }

    #[test]
    fn empty_metadata_and_wire_round_trip() {
        let o = Object::from_wire(br#"{"kind":"X","metadata":{"resourceVersion":"12"}}"#).expect("object");
        assert_eq!(o.revision(), 12);
        assert_eq!(o.to_json(), br#"{"kind":"X","metadata":{"resourceVersion":"12"}}"#);
    }
}
