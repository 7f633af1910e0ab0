//! Pods and hashes from a pod template.

use api::{Object, Resource};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::owners::controller_ref;

/// Without vowels and look-alikes, so that a hash spells no word.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A name-safe hash over a value; `collisions` makes another one after a clash.
pub fn hash(value: &Value, collisions: i64) -> String {
    let mut h = Sha256::new();
    h.update(value.to_string().as_bytes());
    if collisions > 0 {
        h.update(collisions.to_le_bytes());
    }
    h.finalize().iter().take(10).map(|b| char::from(ALPHABET[usize::from(*b) % ALPHABET.len()])).collect()
}

/// A pod of the template, owned by `owner`, named by the owner with a random tail.
pub fn pod(template: &Value, resource: &Resource, owner: &Object) -> Value {
    // Room for the five random characters, as upstream cuts it.
    let base: String = owner.name().chars().take(57).collect();
    named_pod(template, resource, owner, json!({ "generateName": format!("{base}-") }))
}

/// As `pod`, with the given identity fields (`name`, `generateName`, more labels).
pub fn named_pod(template: &Value, resource: &Resource, owner: &Object, identity: Value) -> Value {
    let mut metadata = Map::new();
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(v) = template["metadata"].get(field).filter(|v| !v.is_null()) {
            metadata.insert(field.into(), v.clone());
        }
    }
    if let Value::Object(identity) = identity {
        metadata.extend(identity);
    }
    metadata.insert("ownerReferences".into(), json!([controller_ref(resource, owner)]));
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_stable_name_safe_and_moves_with_collisions() {
        let v = json!({"spec": {"a": 1}});
        assert_eq!(hash(&v, 0), hash(&v, 0));
        assert_ne!(hash(&v, 0), hash(&v, 1));
        assert!(hash(&v, 0).bytes().all(|b| ALPHABET.contains(&b)));
    }
}
