//! Kinds whose rules fit in a few lines.

use std::time::Duration;

use serde_json::{Value, json};

use crate::registry::{Strategy, status};

/// How long an event is kept.
const EVENT_TTL: Duration = Duration::from_secs(3600);

pub struct Events;
impl Strategy for Events {
    fn ttl(&self, _new: &Value) -> Option<Duration> {
        Some(EVENT_TTL)
    }
}

/// Volumes and claims start pending; a volume tells since when it is in its phase.
pub struct Volumes;

fn since(o: &mut Value) {
    if o["kind"] == "PersistentVolume"
        && let Some(s) = o.get_mut("status").and_then(Value::as_object_mut)
    {
        let now = client::clock::rfc3339(client::clock::now());
        s.insert("lastPhaseTransitionTime".into(), json!(now));
    }
}

impl Strategy for Volumes {
    fn prepare_create(&self, new: &mut Value) {
        status::clear_status(new);
        if let Some(s) = new.get_mut("status").and_then(Value::as_object_mut) {
            s.insert("phase".into(), json!("Pending"));
        }
        since(new);
    }

    fn prepare_update(&self, sub: &str, new: &mut Value, old: &Value) {
        if sub == "status" && new["status"]["phase"] != old["status"]["phase"] {
            since(new);
        }
    }
}
