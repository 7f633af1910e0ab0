//! Workloads: a status starts empty.

use serde_json::{Value, json};

use super::Strategy;

pub struct Workload;

/// The status of a new object is the server's to write.
pub fn clear_status(new: &mut Value) {
    if let Some(o) = new.as_object_mut() {
        o.insert("status".into(), json!({}));
    }
}

impl Strategy for Workload {
    fn prepare_create(&self, new: &mut Value) {
        // ControllerRevisions have no status.
        if new.get("kind").and_then(Value::as_str) != Some("ControllerRevision") {
            clear_status(new);
        }
    }
}
