//! CustomResourceDefinitions: which versions were ever stored, and a deletion that waits for the instances.

use serde_json::{Value, json};

use crate::conditions;
use crate::extensions::FINALIZER;
use crate::registry::Strategy;

pub struct Definitions;

fn storage_version(v: &Value) -> Option<&str> {
    let all = v.pointer("/spec/versions")?.as_array()?;
    all.iter().find(|v| v["storage"] == true)?["name"].as_str()
}

impl Strategy for Definitions {
    fn prepare_create(&self, new: &mut Value) {
        let stored: Vec<String> = storage_version(new).map(str::to_owned).into_iter().collect();
        if let Some(o) = new.as_object_mut() {
            o.insert(
                "status".into(),
                json!({"acceptedNames": {"kind": "", "plural": ""}, "conditions": [], "storedVersions": stored}),
            );
        }
    }

    fn prepare_update(&self, sub: &str, new: &mut Value, _old: &Value) {
        if !sub.is_empty() {
            return;
        }
        let Some(version) = storage_version(new).map(str::to_owned) else { return };
        let Some(stored) = new.pointer_mut("/status/storedVersions").and_then(Value::as_array_mut) else {
            return;
        };
        if !stored.iter().any(|v| *v == version) {
            stored.push(json!(version));
        }
    }

    /// Whoever deletes a definition finds its instances first; `extensions` takes the finalizer away.
    fn begin_deletion(&self, object: &mut Value) {
        let now = client::clock::rfc3339(client::clock::now());
        conditions::set(
            object,
            conditions::Condition {
                kind: "Terminating",
                status: true,
                reason: "InstanceDeletionPending",
                message: "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
            },
            &now,
        );
        let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
        let all = meta.entry("finalizers").or_insert_with(|| json!([]));
        if let Some(all) = all.as_array_mut()
            && !all.iter().any(|f| f == FINALIZER)
        {
            all.push(json!(FINALIZER));
        }
    }

    /// The deletion that begins always has instances to look for; afterwards finalizers alone count.
    fn held_back(&self, object: &Value) -> bool {
        object["metadata"]["deletionTimestamp"].is_null()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_versions_only_grow() {
        let mut v =
            json!({"metadata": {"name": "a"}, "spec": {"versions": [{"name": "v1", "storage": true}]}});
        Definitions.prepare_create(&mut v);
        assert_eq!(v["status"]["storedVersions"], json!(["v1"]));
        let old = v.clone();
        v["spec"]["versions"] = json!([{"name": "v1"}, {"name": "v2", "storage": true}]);
        Definitions.prepare_update("", &mut v, &old);
        assert_eq!(v["status"]["storedVersions"], json!(["v1", "v2"]));
    }

    #[test]
    fn a_deletion_waits_for_the_instances() {
        let mut v = json!({"metadata": {"name": "a"}});
        assert!(Definitions.held_back(&v));
        v["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        Definitions.begin_deletion(&mut v);
        Definitions.begin_deletion(&mut v);
        assert_eq!(v["metadata"]["finalizers"], json!([FINALIZER]));
        assert_eq!(v["status"]["conditions"][0]["type"], "Terminating");
        assert!(!Definitions.held_back(&v));
    }
}
