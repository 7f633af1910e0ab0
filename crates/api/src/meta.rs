//! The part of `metadata` that selectors, queues, the garbage collector and the hot paths read, as small as it can be kept:
//! a server holds one for each object. Annotations and managedFields stay in the object's bytes.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};

use crate::LabelSet;

/// `metadata.ownerReferences[]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
}

/// Immutable once read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// Name, namespace, uid and creation timestamp, one after the other: one allocation for four.
    text: Box<str>,
    /// Where in `text` each but the last ends.
    ends: [u32; 3],
    pub labels: LabelSet,
    pub generation: i64,
    /// What most objects have nothing of.
    rare: Option<Box<Rare>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rare {
    deletion_timestamp: Option<Box<str>>,
    deletion_grace_period_seconds: Option<i64>,
    finalizers: Vec<String>,
    owner_references: Vec<OwnerReference>,
}

impl Meta {
    pub fn name(&self) -> &str {
        &self.text[..self.ends[0] as usize]
    }

    pub fn namespace(&self) -> &str {
        &self.text[self.ends[0] as usize..self.ends[1] as usize]
    }

    pub fn uid(&self) -> &str {
        &self.text[self.ends[1] as usize..self.ends[2] as usize]
    }

    /// RFC 3339, as stored.
    pub fn creation_timestamp(&self) -> Option<&str> {
        Some(&self.text[self.ends[2] as usize..]).filter(|t| !t.is_empty())
    }

    /// RFC 3339, as stored.
    pub fn deletion_timestamp(&self) -> Option<&str> {
        self.rare.as_ref()?.deletion_timestamp.as_deref()
    }

    pub fn deletion_grace_period_seconds(&self) -> Option<i64> {
        self.rare.as_ref()?.deletion_grace_period_seconds
    }

    pub fn finalizers(&self) -> &[String] {
        self.rare.as_ref().map_or(&[], |r| &r.finalizers)
    }

    pub fn owner_references(&self) -> &[OwnerReference] {
        self.rare.as_ref().map_or(&[], |r| &r.owner_references)
    }

    /// The owner that manages this object (`controller: true`).
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references().iter().find(|o| o.controller == Some(true))
    }

    pub fn is_deleting(&self) -> bool {
        self.deletion_timestamp().is_some()
    }
}

/// As it stands in JSON.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Read<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    namespace: Cow<'a, str>,
    #[serde(borrow)]
    uid: Cow<'a, str>,
    generation: i64,
    #[serde(borrow)]
    creation_timestamp: Option<Cow<'a, str>>,
    deletion_timestamp: Option<Box<str>>,
    deletion_grace_period_seconds: Option<i64>,
    labels: Option<LabelSet>,
    finalizers: Option<Vec<String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

impl<'de> Deserialize<'de> for Meta {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let r = Read::deserialize(d)?;
        let parts = [&*r.name, &*r.namespace, &*r.uid, r.creation_timestamp.as_deref().unwrap_or_default()];
        let mut text = String::with_capacity(parts.iter().map(|p| p.len()).sum());
        let mut ends = [0; 3];
        for (i, part) in parts.into_iter().enumerate() {
            text.push_str(part);
            if let Some(end) = ends.get_mut(i) {
                *end = u32::try_from(text.len()).map_err(serde::de::Error::custom)?;
            }
        }
        let rare = Rare {
            deletion_timestamp: r.deletion_timestamp,
            deletion_grace_period_seconds: r.deletion_grace_period_seconds,
            finalizers: r.finalizers.unwrap_or_default(),
            owner_references: r.owner_references.unwrap_or_default(),
        };
        Ok(Self {
            text: text.into(),
            ends,
            labels: r.labels.unwrap_or_default(),
            generation: r.generation,
            rare: (rare != Rare::default()).then(|| Box::new(rare)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(v: &serde_json::Value) -> Meta {
        let one: Meta = serde_json::from_str(&v.to_string()).expect("metadata");
        assert_eq!(Meta::deserialize(v).expect("metadata"), one);
        one
    }

    #[test]
    fn all_of_it_comes_back() {
        let m = read(&json!({
            "name": "web\n", "namespace": "shop", "uid": "u-1", "generation": 3, "labels": {"a": "b"},
            "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z",
            "deletionGracePeriodSeconds": 30, "finalizers": ["x/y"],
            "ownerReferences": [{"kind": "ReplicaSet", "uid": "o", "controller": true}],
        }));
        assert_eq!((m.name(), m.namespace(), m.uid(), m.generation), ("web\n", "shop", "u-1", 3));
        assert_eq!(m.creation_timestamp(), Some("2026-01-01T00:00:00Z"));
        assert_eq!(m.deletion_timestamp(), Some("2026-01-02T00:00:00Z"));
        assert_eq!((m.deletion_grace_period_seconds(), m.is_deleting()), (Some(30), true));
        assert_eq!((m.finalizers(), m.labels.get("a")), (&["x/y".to_owned()][..], Some("b")));
        assert_eq!(m.controller().map(|o| o.uid.as_str()), Some("o"));
    }

    #[test]
    fn what_is_missing_is_empty() {
        for v in [
            json!({}),
            json!({"labels": null, "finalizers": null, "ownerReferences": null, "creationTimestamp": null}),
        ] {
            let m = read(&v);
            assert_eq!(m, Meta::default());
            assert_eq!((m.name(), m.namespace(), m.uid(), m.creation_timestamp()), ("", "", "", None));
            assert!(!m.is_deleting() && m.finalizers().is_empty() && m.controller().is_none());
        }
        let m = read(&json!({"namespace": "a", "creationTimestamp": "t"}));
        assert_eq!((m.name(), m.namespace(), m.uid(), m.creation_timestamp()), ("", "a", "", Some("t")));
    }
}
