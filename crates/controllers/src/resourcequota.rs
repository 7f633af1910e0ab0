//! The resource quota loop: counts what a namespace holds afresh when a quota changes or something counted goes away.
//! Admission charges new objects; this loop gives back and puts right.

use api::quota;
use api::resource::{
    CONFIG_MAPS, CRON_JOBS, DAEMON_SETS, DEPLOYMENTS, JOBS, PERSISTENT_VOLUME_CLAIMS, PODS, REPLICA_SETS,
    REPLICATION_CONTROLLERS, RESOURCE_QUOTAS, SECRETS, SERVICES, STATEFUL_SETS,
};
use api::{Object, Resource};
use client::{Informer, ListParams, Patch, clock};
use serde_json::{Value, json};

use crate::Context;
use crate::skeleton::{self, Error, Key, Next, Queue, key_of};

/// What is counted; other kinds only by their own `count/…`, which admission keeps.
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

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let quotas = ctx.informers.get(&RESOURCE_QUOTAS);
    skeleton::enqueue_self(&quotas, &queue);
    for resource in COUNTED {
        let (q, all, pods) = (queue.clone(), quotas.clone(), *resource == PODS);
        ctx.informers.get(resource).on_change(move |c| {
            let Some(o) = c.object() else { return };
            // Growth is charged by admission; only what is given back needs a count.
            let given_back = c.new.is_none()
                || (pods && c.old.is_some_and(|o| !finished(o)) && c.new.is_some_and(finished));
            if given_back {
                for quota in all.list(Some(o.namespace())) {
                    q.add(key_of(&quota));
                }
            }
        });
    }
    if !skeleton::synced(&ctx.token, &[&quotas]).await {
        return;
    }
    skeleton::work("resourcequota", &ctx.token, &queue, 2, |key| reconcile(&ctx, &quotas, key)).await;
}

async fn reconcile(ctx: &Context, quotas: &Informer, key: Key) -> Result<Next, Error> {
    if quotas.get(&key.0, &key.1).is_none() {
        return Ok(Next::Wait);
    }
    // Read fresh, the quota first: a charge in between makes the write below lose, and the count is done again.
    let one = ListParams { field_selector: format!("metadata.name={}", key.1), ..ListParams::default() };
    let Some(object) = ctx.client.list(&RESOURCE_QUOTAS, &key.0, &one).await?.items.into_iter().next() else {
        return Ok(Next::Wait);
    };
    let value = object.value()?;
    let hard = quota::list(&value["spec"]["hard"]);
    let scopes = quota::scopes(&value);
    let now = clock::now().as_second();
    // A counted resource that nothing uses stands there as zero.
    let mut used: quota::List = hard.iter().map(|(k, q)| (k.clone(), *q - *q)).collect();
    for resource in COUNTED {
        if !hard.keys().any(|name| quota::counts_against(&resource.group, &resource.plural, name)) {
            continue;
        }
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
