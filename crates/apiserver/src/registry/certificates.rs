//! CertificateSigningRequests: who asks is written down by the server; approval and status change what they name only.

use api::Status;
use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Context, Extra, Strategy, status};

pub struct Requests;

const DECISIONS: [&str; 3] = ["Approved", "Denied", "Failed"];

fn decisions(v: &Value) -> Vec<Value> {
    v.pointer("/status/conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|c| c["type"].as_str().is_some_and(|t| DECISIONS.contains(&t)))
        .cloned()
        .collect()
}

#[async_trait]
impl Strategy for Requests {
    fn prepare_create(&self, new: &mut Value) {
        status::clear_status(new);
    }

    fn prepare_update(&self, sub: &str, new: &mut Value, old: &Value) {
        let Some(status) = new.get_mut("status").and_then(Value::as_object_mut) else { return };
        match sub {
            // Approval changes conditions and nothing else.
            "approval" => {
                let conditions = status.get("conditions").cloned();
                *status = old["status"].as_object().cloned().unwrap_or_default();
                if let Some(c) = conditions {
                    status.insert("conditions".into(), c);
                }
            }
            // Status takes decisions from nobody.
            "status" => {
                let mut kept = decisions(old);
                let others = status.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
                kept.extend(others.into_iter().filter(|c| {
                    !c["type"].as_str().is_some_and(|t| DECISIONS.contains(&t) && t != "Failed")
                        && !decisions(old).iter().any(|k| k["type"] == c["type"])
                }));
                if kept.is_empty() {
                    status.remove("conditions");
                } else {
                    status.insert("conditions".into(), Value::Array(kept));
                }
            }
            _ => {}
        }
    }

    async fn allocate(
        &self,
        c: &Context<'_>,
        new: &mut Value,
        old: Option<&Value>,
        _extra: &mut Extra,
    ) -> Result<(), Status> {
        if old.is_some() {
            return Ok(());
        }
        if let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) {
            let u = c.user;
            spec.insert("username".into(), json!(u.name));
            for (k, empty, v) in [
                ("uid", u.uid.is_empty(), json!(u.uid)),
                ("groups", u.groups.is_empty(), json!(u.groups)),
                ("extra", u.extra.is_empty(), json!(u.extra)),
            ] {
                if empty {
                    spec.remove(k);
                } else {
                    spec.insert(k.into(), v);
                }
            }
        }
        Ok(())
    }
}
