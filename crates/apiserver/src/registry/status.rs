//! What status hooks share.

use serde_json::{Value, json};

/// The status of a new object is the server's to write.
pub fn clear_status(new: &mut Value) {
    if let Some(o) = new.as_object_mut() {
        o.insert("status".into(), json!({}));
    }
}
