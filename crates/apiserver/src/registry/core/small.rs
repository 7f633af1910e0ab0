//! Kinds whose rules fit in a few lines.

use std::time::Duration;

use serde_json::{Map, Value, json};

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

/// The older field knows only claims and snapshots, and is otherwise ignored; each field is filled in from the other.
fn data_sources(spec: &mut Map<String, Value>) {
    const SNAPSHOTS: &str = "snapshot.storage.k8s.io";
    let there = |v: Option<&Value>| v.filter(|v| !v.is_null()).cloned();
    let (old, new) = (there(spec.get("dataSource")), there(spec.get("dataSourceRef")));
    match (old, new) {
        (Some(old), None) => {
            let group = old["apiGroup"].as_str().unwrap_or_default();
            let kind = old["kind"].as_str().unwrap_or_default();
            if matches!((group, kind), ("", "PersistentVolumeClaim") | (SNAPSHOTS, "VolumeSnapshot")) {
                spec.insert("dataSourceRef".into(), old);
            } else {
                spec.remove("dataSource");
            }
        }
        (None, Some(mut new)) if new["namespace"].as_str().unwrap_or_default().is_empty() => {
            if let Some(o) = new.as_object_mut() {
                o.remove("namespace");
            }
            spec.insert("dataSource".into(), new);
        }
        _ => {}
    }
}

impl Strategy for Volumes {
    fn prepare_create(&self, new: &mut Value) {
        status::clear_status(new);
        if let Some(s) = new.get_mut("status").and_then(Value::as_object_mut) {
            s.insert("phase".into(), json!("Pending"));
        }
        since(new);
        if new["kind"] == "PersistentVolumeClaim"
            && let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut)
        {
            data_sources(spec);
        }
    }

    fn prepare_update(&self, sub: &str, new: &mut Value, old: &Value) {
        if sub == "status" && new["status"]["phase"] != old["status"]["phase"] {
            since(new);
        }
        if sub.is_empty()
            && new["kind"] == "PersistentVolumeClaim"
            && let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut)
        {
            data_sources(spec);
        }
    }
}

/// A range without a name gets one of its own.
pub struct LimitRanges;

impl Strategy for LimitRanges {
    fn prepare_create(&self, new: &mut Value) {
        let Some(meta) = new.get_mut("metadata").and_then(Value::as_object_mut) else { return };
        if meta.get("name").and_then(Value::as_str).unwrap_or_default().is_empty() {
            meta.insert("name".into(), json!(uuid::Uuid::new_v4().to_string()));
        }
    }
}
