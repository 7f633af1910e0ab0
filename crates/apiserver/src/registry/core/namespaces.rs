//! Namespaces: the `kubernetes` finalizer holds one back until its contents are gone.

use serde_json::{Value, json};

use crate::registry::Strategy;

pub struct Namespaces;

fn spec_finalizers(v: &Value) -> &[Value] {
    v.pointer("/spec/finalizers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

impl Strategy for Namespaces {
    fn prepare_create(&self, new: &mut Value) {
        if !spec_finalizers(new).iter().any(|f| f == "kubernetes")
            && let Some(o) = new.as_object_mut()
        {
            let spec = o.entry("spec").or_insert_with(|| json!({}));
            if !spec.is_object() {
                *spec = json!({});
            }
            let mut all = spec["finalizers"].as_array().cloned().unwrap_or_default();
            all.push(json!("kubernetes"));
            spec["finalizers"] = Value::Array(all);
        }
        if let Some(o) = new.as_object_mut() {
            o.insert("status".into(), json!({"phase": "Active"}));
        }
    }

    fn prepare_update(&self, sub: &str, new: &mut Value, old: &Value) {
        let Some(o) = new.as_object_mut() else { return };
        match sub {
            // Only /finalize changes spec.finalizers.
            "" | "status" => {
                o.insert("spec".into(), old["spec"].clone());
            }
            "finalize" => {
                o.insert("status".into(), old["status"].clone());
            }
            _ => {}
        }
    }

    fn begin_deletion(&self, object: &mut Value) {
        if let Some(o) = object.as_object_mut() {
            let status = o.entry("status").or_insert_with(|| json!({}));
            if let Some(s) = status.as_object_mut() {
                s.insert("phase".into(), json!("Terminating"));
            }
        }
    }

    fn held_back(&self, object: &Value) -> bool {
        !spec_finalizers(object).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finalizer_is_added_once_and_guarded() {
        let mut v = json!({"metadata": {"name": "a"}});
        Namespaces.prepare_create(&mut v);
        Namespaces.prepare_create(&mut v);
        assert_eq!(v["spec"]["finalizers"], json!(["kubernetes"]));
        let mut new = v.clone();
        new["spec"]["finalizers"] = json!([]);
        let sent = new.clone();
        Namespaces.prepare_update("", &mut new, &v);
        assert!(Namespaces.held_back(&new));
        let mut new = sent;
        Namespaces.prepare_update("finalize", &mut new, &v);
        assert!(!Namespaces.held_back(&new));
    }
}
