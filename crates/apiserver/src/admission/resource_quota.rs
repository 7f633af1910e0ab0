//! ResourceQuota: what a request adds is charged against `status.used` in the same transaction that stores the object, so
//! that no two requests take the same last place, no charge stays for an object that was not stored, and whoever counts
//! anew sees the object and its charge together or neither. Requests of one namespace take turns, since each of them
//! writes the quota.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use api::quota::{
    List, add, applies, constraints, counts_against, exceeding, list, mask, negative, pretty, pretty_names,
    remove_zeros, subtract_to_zero, to_value, usage,
};
use api::{Object, Status};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;

use super::json::{put, text};
use super::{Context, Operation, Plugin, Request};

/// Owns the turn of each namespace with a quota, while somebody wants it.
#[derive(Default)]
pub struct ResourceQuota {
    turns: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl ResourceQuota {
    async fn turn(&self, namespace: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut all = self.turns.lock();
            all.retain(|_, t| t.strong_count() > 0);
            let present = all.get(namespace).and_then(Weak::upgrade);
            let turn = present.unwrap_or_else(|| Arc::new(tokio::sync::Mutex::new(())));
            all.insert(namespace.to_owned(), Arc::downgrade(&turn));
            turn
        };
        turn.lock_owned().await
    }
}

/// What a write owes to quotas: stored together with the object, before the turn passes on.
#[derive(Default)]
pub struct Charges(Mutex<Owed>);

#[derive(Default)]
struct Owed {
    turn: Option<OwnedMutexGuard<()>>,
    /// Each quota as it was seen, and as it becomes.
    quotas: Vec<(Object, Value)>,
}

impl Charges {
    /// The quotas to write, with their objects as they must still be.
    pub fn take(&self) -> Vec<(Object, Value)> {
        std::mem::take(&mut self.0.lock().quotas)
    }
}

#[async_trait]
impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, r: &Request<'_>) -> bool {
        if r.namespace.is_empty() || r.is("", "namespaces") || r.resource == "events" {
            return false;
        }
        match (r.group, r.resource, r.subresource) {
            ("", "pods", "resize") => r.operation == Operation::Update,
            ("", "services" | "persistentvolumeclaims", "") => {
                matches!(r.operation, Operation::Create | Operation::Update)
            }
            (_, _, "") => r.operation == Operation::Create && r.object.is_object(),
            _ => false,
        }
    }

    async fn validate(&self, cx: &Context, r: &Request<'_>) -> Result<(), Status> {
        let now = client::clock::now().as_second();
        let owed = owed(cx, r, now).await?;
        if owed.is_empty() || r.dry_run {
            return Ok(());
        }
        if let Some(charges) = r.charges {
            let waits = charges.0.lock().turn.is_none();
            if waits {
                let turn = self.turn(r.namespace).await;
                charges.0.lock().turn = Some(turn);
            }
            // Those before us may have taken what was there a moment ago.
            let quotas = self::owed(cx, r, now).await?;
            charges.0.lock().quotas = quotas;
            return Ok(());
        }
        let charge: Vec<&str> = owed.iter().map(|(q, _)| q.name()).collect();
        // All had room a moment ago; each is asked once more while it is written.
        for name in charge {
            let charged = cx
                .reader
                .update("", "resourcequotas", r.namespace, name, &mut |mut v: Value| {
                    Ok(judge(&v, r, now)?.map(|used| {
                        put(&mut v, &["status", "used"], to_value(&used));
                        v
                    }))
                })
                .await;
            match charged {
                // Deleted meanwhile: nothing to keep within.
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e),
                Ok(_) => {}
            }
        }
        Ok(())
    }
}

/// The quotas that the request is charged to, as they are and as they become.
async fn owed(cx: &Context, r: &Request<'_>, now: i64) -> Result<Vec<(Object, Value)>, Status> {
    let mut out = Vec::new();
    for q in cx.reader.list("", "resourcequotas", r.namespace).await? {
        let mut v = q.value().map_err(Status::internal)?;
        if let Some(used) = judge(&v, r, now)? {
            put(&mut v, &["status", "used"], to_value(&used));
            out.push((q, v));
        }
    }
    Ok(out)
}

/// What `status.used` of a quota becomes; `None`: the request does not change it.
fn judge(quota: &Value, r: &Request<'_>, now: i64) -> Result<Option<List>, Status> {
    if !applies(r.group, r.resource, quota, &r.object) {
        return Ok(None);
    }
    let name = text(&quota["metadata"], "name");
    let hard = list(&quota["status"]["hard"]);
    let used = list(&quota["status"]["used"]);
    let restricted: Vec<String> =
        hard.keys().filter(|k| counts_against(r.group, r.resource, k)).cloned().collect();
    if let Err(why) = constraints(r.group, r.resource, &restricted, &r.object) {
        return Err(r.forbidden(format!("failed quota: {name}: {why}")));
    }
    if restricted.iter().any(|k| !used.contains_key(k)) {
        return Err(r.forbidden(format!(
            "status unknown for quota: {name}, resources: {}",
            pretty_names(&restricted)
        )));
    }
    let wanted = usage(r.group, r.resource, &r.object, now);
    let below = negative(&wanted);
    if !below.is_empty() {
        return Err(r.forbidden(format!("quota usage is negative for resource(s): {}", pretty_names(&below))));
    }
    let before = r.old.filter(|o| r.operation == Operation::Update && applies(r.group, r.resource, quota, o));
    let delta = match before {
        Some(old) => subtract_to_zero(&wanted, &usage(r.group, r.resource, old, now)),
        None => wanted,
    };
    let requested = mask(&remove_zeros(&delta), &hard);
    if requested.is_empty() {
        return Ok(None);
    }
    let after = add(&used, &requested);
    let over = exceeding(&mask(&after, &requested), &hard);
    if !over.is_empty() {
        let only = |l: &List| -> List {
            l.iter().filter(|(k, _)| over.contains(k)).map(|(k, q)| (k.clone(), *q)).collect()
        };
        return Err(r.forbidden(format!(
            "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
            pretty(&only(&requested)),
            pretty(&only(&used)),
            pretty(&only(&hard))
        )));
    }
    Ok(Some(after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::User;
    use serde_json::json;

    fn request<'a>(
        user: &'a User,
        operation: Operation,
        resource: &'a str,
        object: Value,
        old: Option<&'a Value>,
    ) -> Request<'a> {
        Request {
            operation,
            user,
            group: "",
            version: "v1",
            resource,
            subresource: "",
            kind: "",
            namespace: "ns",
            name: "",
            object,
            old,
            dry_run: false,
            charges: None,
            warnings: None,
            reinvocation: Default::default(),
        }
    }

    fn quota(hard: Value, used: Value) -> Value {
        json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}})
    }

    #[test]
    fn charges_and_refusals() {
        let u = User::default();
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "500m"}}}]}});
        let t = [
            (
                quota(json!({"pods": "2"}), json!({"pods": "2"})),
                Err(
                    "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2",
                ),
            ),
            (quota(json!({"pods": "2"}), json!({"pods": "1"})), Ok(Some("pods=2"))),
            (
                quota(json!({"requests.cpu": "1"}), json!({"requests.cpu": "600m"})),
                Err(
                    "pods \"p\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1",
                ),
            ),
            (
                quota(json!({"limits.memory": "1Gi"}), json!({"limits.memory": "0"})),
                Err("pods \"p\" is forbidden: failed quota: q: must specify limits.memory for: c"),
            ),
            (
                quota(json!({"pods": "2"}), json!({})),
                Err("pods \"p\" is forbidden: status unknown for quota: q, resources: pods"),
            ),
            (quota(json!({"secrets": "0"}), json!({"secrets": "0"})), Ok(None)),
        ];
        for (q, want) in t {
            let r = request(&u, Operation::Create, "pods", pod.clone(), None);
            let got = judge(&q, &r, 0);
            match want {
                Err(m) => assert_eq!(got.expect_err("refused").message, m),
                Ok(w) => assert_eq!(got.expect("fits").map(|l| pretty(&l)).as_deref(), w),
            }
        }
    }

    #[test]
    fn an_update_is_charged_by_what_it_adds() {
        let u = User::default();
        let old = json!({"metadata": {"name": "s"}, "spec": {"type": "ClusterIP", "ports": [{}]}});
        let new = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{}]}});
        let q = quota(
            json!({"services": "1", "services.nodeports": "1"}),
            json!({"services": "1", "services.nodeports": "0"}),
        );
        let r = request(&u, Operation::Update, "services", new, Some(&old));
        assert_eq!(
            judge(&q, &r, 0).expect("fits").map(|l| pretty(&l)).as_deref(),
            Some("services=1,services.nodeports=1")
        );
    }
}
