//! CertificateSigningRequests: who asks is written down by the server; approval and status change what they name only.

use api::Status;
use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Context, Extra, Strategy, status};
use crate::conditions::list as conditions;

pub struct Requests;

/// Decisions stay as they were, unless some are added or taken away: that is validation's to refuse.
fn preserve(new: &mut Value, old: &Value, kind: &str) {
    let before: Vec<&Value> = conditions(old).iter().filter(|c| c["type"] == kind).collect();
    let Some(all) = new.pointer_mut("/status/conditions").and_then(Value::as_array_mut) else { return };
    if all.iter().filter(|c| c["type"] == kind).count() == before.len() {
        for (c, was) in all.iter_mut().filter(|c| c["type"] == kind).zip(before) {
            *c = was.clone();
        }
    }
}

/// Times that a client left out: when the condition was written, and since when it says what it says.
fn times(new: &mut Value, old: &Value, now: &str) {
    let Some(all) = new.pointer_mut("/status/conditions").and_then(Value::as_array_mut) else { return };
    for c in all {
        let same = |o: &&Value| o["type"] == c["type"] && o["status"] == c["status"];
        let since =
            conditions(old).iter().find(same).and_then(|o| o["lastTransitionTime"].as_str()).unwrap_or(now);
        for (k, v) in [("lastUpdateTime", now), ("lastTransitionTime", since)] {
            if c[k].is_null() {
                c[k] = json!(v);
            }
        }
    }
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
                for kind in ["Approved", "Denied"] {
                    preserve(new, old, kind);
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
        if let Some(old) = old {
            times(new, old, &client::clock::rfc3339(client::clock::now()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_changes_no_decision_and_gets_its_times() {
        let old = json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "a", "lastTransitionTime": "t1"}]}});
        let mut new = json!({"status": {"certificate": "x", "conditions": [{"type": "Failed", "status": "True"},
            {"type": "Approved", "status": "True", "reason": "b"}]}});
        Requests.prepare_update("status", &mut new, &old);
        assert_eq!(new["status"]["conditions"][1], old["status"]["conditions"][0]);
        times(&mut new, &old, "t2");
        assert_eq!(new["status"]["conditions"][0]["lastTransitionTime"], "t2");
        assert_eq!(new["status"]["conditions"][1]["lastTransitionTime"], "t1");
        // What is added stays, for validation to refuse.
        let mut new = json!({"status": {"conditions": [{"type": "Denied", "status": "True"}]}});
        Requests.prepare_update("status", &mut new, &json!({}));
        assert_eq!(new["status"]["conditions"][0]["type"], "Denied");
    }
}
