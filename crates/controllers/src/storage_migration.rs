//! The storage-version-migrator loop: a StorageVersionMigration has every object of a resource written anew, so that all are
//! stored in the version of today. One runs at a time for a resource; a definition forgets older stored versions
//! afterwards. A write that changes nothing but the stored form is an empty patch. Owns nothing, spawns its worker.
//! https://kubernetes.io/docs/tasks/manage-kubernetes-objects/storage-version-migration/

use std::time::Duration;

use api::resource::CUSTOM_RESOURCE_DEFINITIONS;
use api::{Object, Reason, Resource, Status};
use client::{Informer, ListParams, Patch, clock};
use serde_json::{Value, json};

use crate::skeleton::{self, Error, Key, Next, Queue, key_of};
use crate::{Context, discovery};

const MIGRATIONS: Resource = Resource::new(
    "storagemigration.k8s.io",
    "v1",
    "storageversionmigrations",
    "StorageVersionMigration",
    false,
);
const VERBS: [&str; 4] = ["list", "patch", "get", "update"];
const RUNNING: &str = "Running";
const SUCCEEDED: &str = "Succeeded";
const FAILED: &str = "Failed";
const PAGE: u64 = 500;
/// A resource may be about to come.
const PATIENCE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(2);

fn is(v: &Value, kind: &str) -> bool {
    let all = v["status"]["conditions"].as_array();
    all.is_some_and(|c| c.iter().any(|c| c["type"] == kind && c["status"] == "True"))
}

fn is_over(v: &Value) -> bool {
    is(v, SUCCEEDED) || is(v, FAILED)
}

/// Sets a condition; its time changes with its status.
fn set(v: &mut Value, kind: &str, status: bool, reason: &str, message: &str) {
    if !v["status"]["conditions"].is_array() {
        v["status"]["conditions"] = json!([]);
    }
    let Some(all) = v["status"]["conditions"].as_array_mut() else { return };
    let status = if status { "True" } else { "False" };
    let old = all.iter().position(|c| c["type"] == kind).map(|i| all.remove(i));
    let time = match old {
        Some(c) if c["status"] == status => c["lastTransitionTime"].clone(),
        _ => json!(clock::rfc3339(clock::now())),
    };
    all.push(json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": time}));
}

/// Whose turn it is among the migrations of one resource: the oldest, while none runs. Pure.
fn next(all: &[Value]) -> Option<String> {
    if all.iter().any(|v| is(v, RUNNING) && !is_over(v)) {
        return None;
    }
    let text = |v: &Value, f: &str| v["metadata"][f].as_str().unwrap_or_default().to_owned();
    let waiting = all.iter().filter(|v| !is(v, RUNNING) && !is_over(v));
    waiting.map(|v| (text(v, "creationTimestamp"), text(v, "name"))).min().map(|(_, name)| name)
}

fn running(left: usize, all: usize, trouble: Option<&Status>) -> String {
    let mut text = "The migration is running".to_owned();
    if left > 0 {
        text.push_str(&format!(", {left}/{all} objects not yet migrated"));
    } else if all > 0 {
        text.push_str(&format!(", {all} objects verified migrated"));
    }
    if let Some(e) = trouble {
        text.push_str(&format!("; transient error: {e}"));
    }
    text
}

/// Whether the same write may do later.
fn passes(e: &Status) -> bool {
    matches!(
        e.reason,
        Reason::Timeout | Reason::TooManyRequests | Reason::ServiceUnavailable | Reason::InternalError
    )
}

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let all = ctx.informers.get(&MIGRATIONS);
    let (informer, q) = (all.clone(), queue.clone());
    all.on_change(move |c| {
        let Some(o) = c.object() else { return };
        if c.new.is_some() {
            q.add(key_of(o));
        }
        // The end of one is the turn of another.
        if c.old.is_some() {
            informer.list(None).iter().for_each(|o| q.add(key_of(o)));
        }
    });
    if !skeleton::synced(&ctx.token, &[&all]).await {
        return;
    }
    skeleton::work("storage-version-migrator", &ctx.token, &queue, 1, |key| step(&ctx, &all, key)).await;
}

/// Brings one migration a step further.
async fn step(ctx: &Context, informer: &Informer, key: Key) -> Result<Next, Error> {
    let Some(o) = informer.get("", &key.1) else { return Ok(Next::Wait) };
    let mut v = o.value()?;
    let name = |v: &Value, f: &str| v["spec"]["resource"][f].as_str().unwrap_or_default().to_owned();
    let (group, plural) = (name(&v, "group"), name(&v, "resource"));
    if is_over(&v) {
        if is(&v, RUNNING) {
            finish(ctx, &group, &plural, is(&v, SUCCEEDED)).await?;
            set(&mut v, RUNNING, false, "MigrationCompleted", "Migration completed");
            write(ctx, &v).await?;
        }
        return Ok(Next::Wait);
    }
    if !is(&v, RUNNING) {
        let same = |v: &Value| name(v, "group") == group && name(v, "resource") == plural;
        let all: Vec<Value> =
            informer.list(None).iter().filter_map(|o| o.value().ok()).filter(same).collect();
        if next(&all).as_deref() == Some(o.name()) {
            begin(ctx, &group, &plural, o.name()).await?;
            set(&mut v, RUNNING, true, "MigrationRunning", &running(0, 0, None));
            write(ctx, &v).await?;
        }
        return Ok(Next::Wait);
    }
    let known = discovery::resources(&ctx.client, &[]).await?;
    let Some(resource) = known.into_iter().find(|r| r.group == group.as_str() && r.plural == plural.as_str())
    else {
        let age =
            o.meta().creation_timestamp().and_then(clock::parse).map(|t| clock::between(t, clock::now()));
        if age.is_some_and(|a| a < PATIENCE) {
            return Ok(Next::After(AGAIN));
        }
        return fail(ctx, &mut v, "resource does not exist in discovery").await;
    };
    let capable = discovery::resources(&ctx.client, &VERBS).await?;
    if !capable.iter().any(|r| r.group == resource.group && r.plural == resource.plural) {
        let gvr = format!("{}/{}, Resource={}", resource.group, resource.version, resource.plural);
        let text = format!("resource \"{gvr}\" does not support discovery operations: [{}]", VERBS.join(" "));
        return fail(ctx, &mut v, &text).await;
    }
    let until: u64 = match v["status"]["resourceVersion"].as_str().and_then(|r| r.parse().ok()) {
        Some(until) => until,
        None => {
            let page = ListParams { limit: 1, ..ListParams::default() };
            let list = ctx.client.list(&resource, "", &page).await?;
            v["status"]["resourceVersion"] = json!(list.revision.to_string());
            write(ctx, &v).await?;
            return Ok(Next::Wait);
        }
    };
    migrate(ctx, &resource, &mut v, until).await
}

async fn objects(ctx: &Context, resource: &Resource) -> Result<Vec<Object>, Status> {
    let mut out = Vec::new();
    let mut params = ListParams { limit: PAGE, ..ListParams::default() };
    loop {
        let list = ctx.client.list(resource, "", &params).await?;
        out.extend(list.items);
        if list.continue_token.is_empty() {
            return Ok(out);
        }
        params.continue_token = list.continue_token;
    }
}

/// Writes all anew that were last written before the migration began.
async fn migrate(ctx: &Context, resource: &Resource, v: &mut Value, until: u64) -> Result<Next, Error> {
    let all = objects(ctx, resource).await?;
    let old: Vec<&Object> = all.iter().filter(|o| o.revision() <= until).collect();
    let mut left = old.len();
    for o in old {
        let patch = Patch::Merge(json!({"apiVersion": resource.api_version(), "kind": resource.kind,
            "metadata": {"resourceVersion": o.revision().to_string()}}));
        match ctx.client.patch(resource, o.namespace(), o.name(), "", &patch).await {
            // Whoever changed it meanwhile wrote it anew.
            Err(e) if !e.is_conflict() && !e.is_not_found() => {
                set(
                    v,
                    RUNNING,
                    true,
                    "MigrationRunning",
                    &running(left, all.len(), passes(&e).then_some(&e)),
                );
                if passes(&e) {
                    write(ctx, v).await?;
                    return Err(e.into());
                }
                let text = format!(
                    "{left}/{} not yet migrated. migration encountered unhandled error: {e}",
                    all.len()
                );
                set(v, FAILED, true, "StorageVersionMigrationFailed", &text);
                write(ctx, v).await?;
                return Ok(Next::Wait);
            }
            _ => left -= 1,
        }
    }
    set(v, RUNNING, true, "MigrationRunning", &running(0, all.len(), None));
    set(v, SUCCEEDED, true, "StorageVersionMigrationSucceeded", "Migration completed");
    write(ctx, v).await?;
    Ok(Next::Wait)
}

async fn fail(ctx: &Context, v: &mut Value, why: &str) -> Result<Next, Error> {
    set(v, FAILED, true, "StorageVersionMigrationFailed", why);
    write(ctx, v).await?;
    Ok(Next::Wait)
}

async fn write(ctx: &Context, v: &Value) -> Result<(), Status> {
    let name = v["metadata"]["name"].as_str().unwrap_or_default();
    match ctx.client.update(&MIGRATIONS, "", name, "status", v).await {
        Err(e) if !e.is_not_found() => Err(e),
        _ => Ok(()),
    }
}

async fn definition(ctx: &Context, group: &str, plural: &str) -> Result<Option<Value>, Error> {
    let found = ctx.client.find(&CUSTOM_RESOURCE_DEFINITIONS, "", &format!("{plural}.{group}")).await?;
    Ok(found.map(|o| o.value()).transpose()?)
}

fn migrating(definition: &Value, status: bool, reason: &str, message: &str) -> Value {
    json!({"type": "StorageMigrating", "status": if status { "True" } else { "False" }, "reason": reason, "message": message,
        "lastTransitionTime": clock::rfc3339(clock::now()), "observedGeneration": definition["metadata"]["generation"]})
}

/// A definition's status with this condition, and these stored versions.
async fn patch_definition(
    ctx: &Context,
    d: &Value,
    condition: Value,
    stored: Option<Vec<Value>>,
) -> Result<(), Status> {
    let mut all = d["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.retain(|c| c["type"] != "StorageMigrating");
    all.push(condition);
    let mut status = json!({"conditions": all});
    if let Some(stored) = stored {
        status["storedVersions"] = Value::Array(stored);
    }
    let name = d["metadata"]["name"].as_str().unwrap_or_default();
    let patch = json!({"metadata": {"resourceVersion": d["metadata"]["resourceVersion"]}, "status": status});
    ctx.client.patch(&CUSTOM_RESOURCE_DEFINITIONS, "", name, "status", &Patch::Merge(patch)).await.map(|_| ())
}

async fn begin(ctx: &Context, group: &str, plural: &str, name: &str) -> Result<(), Error> {
    let Some(d) = definition(ctx, group, plural).await? else { return Ok(()) };
    let condition = migrating(&d, true, "MigrationRunning", &format!("Migration {name} is running"));
    Ok(patch_definition(ctx, &d, condition, None).await?)
}

/// The condition and the stored versions of a definition whose objects were migrated. Pure but for the time.
fn finished(d: &Value, success: bool) -> (Value, Option<Vec<Value>>) {
    let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
    let begun = list(&d["status"]["conditions"]).into_iter().find(|c| c["type"] == "StorageMigrating");
    // A definition that changed meanwhile may store in another version by now.
    let same = begun.is_some_and(|c| c["observedGeneration"] == d["metadata"]["generation"]);
    let (reason, message) = match (success, same) {
        (true, true) => {
            ("MigrationSucceeded", "The migration has succeeded and the stored versions have been updated")
        }
        (true, false) => (
            "MigrationSucceeded",
            "The migration has succeeded but the stored versions have not been updated due to a generation mismatch",
        ),
        (false, _) => ("MigrationFailed", "The migration has failed"),
    };
    let stored: Vec<Value> = list(&d["spec"]["versions"])
        .into_iter()
        .filter(|v| v["storage"] == true)
        .map(|v| v["name"].clone())
        .collect();
    let stored = (success && same && !stored.is_empty()).then_some(stored);
    (migrating(d, false, reason, message), stored)
}

async fn finish(ctx: &Context, group: &str, plural: &str, success: bool) -> Result<(), Error> {
    let Some(d) = definition(ctx, group, plural).await? else { return Ok(()) };
    let (condition, stored) = finished(&d, success);
    Ok(patch_definition(ctx, &d, condition, stored).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn migration(name: &str, created: &str, conditions: &[&str]) -> Value {
        let conditions: Vec<Value> =
            conditions.iter().map(|c| json!({"type": c, "status": "True"})).collect();
        json!({"metadata": {"name": name, "creationTimestamp": created}, "status": {"conditions": conditions}})
    }

    #[test]
    fn one_at_a_time_and_the_oldest_first() {
        let m = migration;
        for (all, want) in [
            (vec![], None),
            (vec![m("a", "2", &[]), m("b", "1", &[])], Some("b")),
            (vec![m("b", "1", &[]), m("a", "1", &[])], Some("a")),
            (vec![m("a", "1", &[RUNNING]), m("b", "2", &[])], None),
            (vec![m("a", "1", &[RUNNING, SUCCEEDED]), m("b", "2", &[])], Some("b")),
            (vec![m("a", "1", &[FAILED])], None),
        ] {
            assert_eq!(next(&all).as_deref(), want, "{all:?}");
        }
    }

    #[test]
    fn a_definition_forgets_what_it_stored_before() {
        let d = |observed: i64| {
            json!({"metadata": {"generation": 2}, "spec": {"versions": [{"name": "v1", "storage": false}, {"name": "v2", "storage": true}]},
                "status": {"storedVersions": ["v1", "v2"], "conditions": [{"type": "StorageMigrating", "observedGeneration": observed}]}})
        };
        assert_eq!(finished(&d(2), true).1, Some(vec![json!("v2")]));
        assert_eq!(finished(&d(1), true).1, None);
        let (condition, stored) = finished(&d(2), false);
        assert_eq!((condition["reason"].as_str(), stored), (Some("MigrationFailed"), None));
    }

    #[test]
    fn words_of_progress() {
        assert_eq!(running(0, 0, None), "The migration is running");
        assert_eq!(running(2, 5, None), "The migration is running, 2/5 objects not yet migrated");
        assert_eq!(running(0, 5, None), "The migration is running, 5 objects verified migrated");
    }
}
