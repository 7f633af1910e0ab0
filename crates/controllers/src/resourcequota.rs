//! The resource quota loop: counts what a namespace holds afresh when a quota changes or something counted goes away.
//! Admission charges new objects in the transaction that stores them; this loop gives back and puts right. Owns the set of
//! kinds it watches.

use std::collections::HashSet;

use api::quantity::Quantity;
use api::quota;
use api::resource::{
    CONFIG_MAPS, CRON_JOBS, DAEMON_SETS, DEPLOYMENTS, JOBS, PERSISTENT_VOLUME_CLAIMS, PODS, REPLICA_SETS,
    REPLICATION_CONTROLLERS, RESOURCE_QUOTAS, SECRETS, SERVICES, STATEFUL_SETS,
};
use api::{Object, Resource};
use client::{Change, Informer, ListParams, Patch, clock};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::skeleton::{self, Error, Key, Next, Queue, key_of};
use crate::{Context, discovery};

/// What is counted; other kinds only when a quota names them by `count/…`.
const COUNTED: &[Resource] = &[
    PODS,
    SERVICES,
    PERSISTENT_VOLUME_CLAIMS,
    CONFIG_MAPS,
    SECRETS,
    REPLICATION_CONTROLLERS,
    RESOURCE_QUOTAS,
    DEPLOYMENTS,
    REPLICA_SETS,
    STATEFUL_SETS,
    DAEMON_SETS,
    JOBS,
    CRON_JOBS,
];

fn finished(o: &Object) -> bool {
    o.view::<Value>().is_ok_and(|v| matches!(v["status"]["phase"].as_str(), Some("Succeeded" | "Failed")))
}

/// A quota that asks for a count: a new one, one whose limits changed, one that was not counted yet. What admission
/// charges needs none.
fn asks(old: Option<&Object>, new: &Object) -> bool {
    let Ok(v) = new.view::<Value>() else { return false };
    let spec = |o: &Object| o.view::<Value>().map(|v| v["spec"].clone()).ok();
    let hard = quota::list(&v["spec"]["hard"]);
    let used = quota::list(&v["status"]["used"]);
    old.is_none_or(|o| spec(o) != spec(new))
        || v["status"]["hard"] != v["spec"]["hard"]
        || hard.keys().any(|k| !used.contains_key(k))
}

/// Whether a change gives something back. Growth is charged by admission.
fn gives_back(resource: &Resource, c: Change<'_>) -> bool {
    let (Some(old), Some(new)) = (c.old, c.new) else { return c.old.is_some() };
    if *resource == PODS {
        return !finished(old) && finished(new);
    }
    if *resource != SERVICES && *resource != PERSISTENT_VOLUME_CLAIMS {
        return false;
    }
    let usage = |o: &Object| o.value().map(|v| quota::usage(&resource.group, &resource.plural, &v, 0)).ok();
    usage(old) != usage(new)
}

struct Loop {
    ctx: Context,
    queue: Queue,
    quotas: Informer,
    /// Kinds whose deletions are seen.
    watched: Mutex<HashSet<Resource>>,
}

pub async fn run(ctx: Context) {
    let quotas = ctx.informers.get(&RESOURCE_QUOTAS);
    let l = Loop { ctx: ctx.clone(), queue: Queue::default(), quotas, watched: Mutex::default() };
    let q = l.queue.clone();
    l.quotas.on_change(move |c| {
        if let Some(new) = c.new.filter(|n| asks(c.old, n)) {
            q.add(key_of(new));
        }
    });
    for resource in COUNTED {
        l.watch(resource);
    }
    if !skeleton::synced(&ctx.token, &[&l.quotas]).await {
        return;
    }
    // What was given back while nobody looked.
    l.quotas.list(None).iter().for_each(|o| l.queue.add(key_of(o)));
    skeleton::work("resourcequota", &ctx.token, &l.queue, 2, |key| l.reconcile(key)).await;
}

impl Loop {
    fn watch(&self, resource: &Resource) {
        if !self.watched.lock().insert(resource.clone()) {
            return;
        }
        let (q, all, r) = (self.queue.clone(), self.quotas.clone(), resource.clone());
        self.ctx.informers.get(resource).on_change(move |c| {
            let Some(o) = c.object().filter(|_| gives_back(&r, c)) else { return };
            for quota in all.list(Some(o.namespace())) {
                q.add(key_of(&quota));
            }
        });
    }

    /// The kinds that count against any of these limits; those beyond the usual ones are found by discovery.
    async fn counted(&self, hard: &quota::List) -> Result<Vec<Resource>, Error> {
        let counts = |r: &Resource| hard.keys().any(|name| quota::counts_against(&r.group, &r.plural, name));
        let mut out: Vec<Resource> = COUNTED.iter().filter(|r| counts(r)).cloned().collect();
        let by_count = |name: &String| name.starts_with("count/");
        if hard
            .keys()
            .any(|k| by_count(k) && !COUNTED.iter().any(|r| quota::counts_against(&r.group, &r.plural, k)))
        {
            let all = discovery::resources(&self.ctx.client, &["list", "watch", "delete"]).await?;
            for r in all.into_iter().filter(|r| r.namespaced && counts(r)) {
                if !out.iter().any(|o| o.group == r.group && o.plural == r.plural) {
                    self.watch(&r);
                    out.push(r);
                }
            }
        }
        Ok(out)
    }

    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let (ctx, quotas) = (&self.ctx, &self.quotas);
        if quotas.get(&key.0, &key.1).is_none() {
            return Ok(Next::Wait);
        }
        // Read fresh, the quota first: a charge in between makes the write below lose, and the count is done again.
        let one = ListParams { field_selector: format!("metadata.name={}", key.1), ..ListParams::default() };
        let Some(object) = ctx.client.list(&RESOURCE_QUOTAS, &key.0, &one).await?.items.into_iter().next()
        else {
            return Ok(Next::Wait);
        };
        let value = object.value()?;
        let hard = quota::list(&value["spec"]["hard"]);
        let scopes = quota::scopes(&value);
        let now = clock::now().as_second();
        // A counted resource that nothing uses stands there as zero.
        let mut used: quota::List =
            hard.iter().map(|(k, q)| (k.clone(), Quantity::from_i64(0, q.format))).collect();
        for resource in &self.counted(&hard).await? {
            for o in ctx.client.list(resource, &key.0, &ListParams::default()).await?.items {
                let v = o.value()?;
                if scopes.iter().all(|s| s.covers(&resource.group, &resource.plural, &v)) {
                    let usage = quota::usage(&resource.group, &resource.plural, &v, now);
                    used = quota::add(&used, &quota::mask(&usage, &hard));
                }
            }
        }
        let status = json!({ "hard": quota::to_value(&hard), "used": quota::to_value(&used) });
        if value["status"] != status {
            let patch =
                json!({ "metadata": { "resourceVersion": object.revision().to_string() }, "status": status });
            ctx.client.patch(&RESOURCE_QUOTAS, &key.0, &key.1, "status", &Patch::Merge(patch)).await?;
        }
        Ok(Next::Wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(v: Value) -> Object {
        Object::from_value(v, 1).expect("object")
    }

    #[test]
    fn charges_ask_for_no_count_and_changes_do() {
        let q = |hard: &str, seen: &str, used: Value| {
            object(json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": hard}},
            "status": {"hard": {"pods": seen}, "used": used}}))
        };
        let (before, charged) = (q("3", "3", json!({"pods": "1"})), q("3", "3", json!({"pods": "2"})));
        assert!(!asks(Some(&before), &charged));
        assert!(asks(None, &charged));
        assert!(asks(Some(&before), &q("4", "3", json!({"pods": "1"}))));
        assert!(asks(Some(&before), &q("3", "3", json!({}))));
    }

    #[test]
    fn what_gives_back() {
        let pod = |phase: &str| object(json!({"metadata": {"name": "p"}, "status": {"phase": phase}}));
        let service =
            |kind: &str| object(json!({"metadata": {"name": "s"}, "spec": {"type": kind, "ports": [{}]}}));
        let (running, done) = (pod("Running"), pod("Succeeded"));
        assert!(gives_back(&PODS, Change { old: Some(&running), new: Some(&done) }));
        assert!(!gives_back(&PODS, Change { old: Some(&done), new: Some(&done) }));
        assert!(gives_back(&PODS, Change { old: Some(&running), new: None }));
        assert!(!gives_back(&PODS, Change { old: None, new: Some(&running) }));
        let (open, closed) = (service("NodePort"), service("ClusterIP"));
        assert!(gives_back(&SERVICES, Change { old: Some(&open), new: Some(&closed) }));
        assert!(!gives_back(&SECRETS, Change { old: Some(&open), new: Some(&closed) }));
    }
}
