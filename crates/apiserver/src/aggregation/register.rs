//! The APIServices of what this server answers itself: made at the start for built-in groups, and kept in step with the
//! definitions of custom resources. Objects without our label are somebody's own and left alone.

use std::collections::BTreeSet;

use api::{Object, Status};
use serde_json::{Value, json};

use super::{GROUP, PLURAL, priorities};
use crate::conditions::{Condition, is_true, set};
use crate::resource_metrics;
use crate::server::ApiServer;

const LABEL: &str = "kube-aggregator.kubernetes.io/automanaged";
/// Looked at once, when the server starts.
const ON_START: &str = "onstart";
/// Kept in step all the time.
const ALWAYS: &str = "true";

/// Group and version.
pub type GroupVersion = (String, String);

fn name((group, version): &GroupVersion) -> String {
    format!("{version}.{group}")
}

fn now() -> String {
    client::clock::rfc3339(client::clock::now())
}

const LOCAL: Condition<'_> = Condition {
    kind: "Available",
    status: true,
    reason: "Local",
    message: "Local APIServices are always available",
};

fn object(gv: &GroupVersion, label: &str, now: &str) -> Value {
    let (group, version) = gv;
    let (of_group, of_version) = priorities::of(group, version).unwrap_or(priorities::CUSTOM);
    let mut v = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": name(gv), "labels": {LABEL: label}},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": of_group, "versionPriority": of_version}});
    set(&mut v, LOCAL, now);
    v
}

/// Registers the built-in groups that are served, and takes back what an earlier start registered and is not any more.
pub async fn built_in(server: &ApiServer) -> Result<(), Status> {
    let catalog = server.catalog();
    let mut wanted: BTreeSet<GroupVersion> = BTreeSet::new();
    // The name of the APIService for metrics stays free for who installs a server of its own.
    let own = |g: &&str| *g != GROUP && *g != resource_metrics::GROUP;
    for group in catalog.groups().into_iter().filter(own) {
        for version in catalog.group_versions(group) {
            if priorities::of(group, version).is_some() {
                wanted.insert((group.to_owned(), version.to_owned()));
            }
        }
    }
    sync(server, &wanted, ON_START).await
}

/// Registers the group versions of custom resources, and takes back those that are gone.
pub async fn custom(server: &ApiServer, wanted: &BTreeSet<GroupVersion>) {
    if let Err(e) = sync(server, wanted, ALWAYS).await {
        tracing::warn!(error = %e, "failed to register the group versions of custom resources");
    }
}

async fn sync(server: &ApiServer, wanted: &BTreeSet<GroupVersion>, label: &str) -> Result<(), Status> {
    let reader = server.reader();
    let have = reader.list(GROUP, PLURAL, "").await?;
    let now = now();
    let labelled = |o: &Object| o.meta().labels.get(LABEL).is_some_and(|l| l == label);
    let make = wanted.iter().map(|gv| async {
        let name = name(gv);
        let new = object(gv, label, &now);
        let Some(old) = have.iter().find(|o| o.name() == name) else {
            return match reader.create(GROUP, PLURAL, new).await {
                Err(e) if !e.is_already_exists() => Err(e),
                _ => Ok(()),
            };
        };
        if !labelled(old) || old.value().map_err(Status::internal)?["spec"] == new["spec"] {
            return Ok(());
        }
        let spec = new["spec"].clone();
        let decide = &mut |mut v: Value| {
            v["spec"] = spec.clone();
            Ok(Some(v))
        };
        match reader.update(GROUP, PLURAL, "", &name, decide).await {
            Err(e) if !e.is_not_found() => Err(e),
            _ => Ok(()),
        }
    });
    futures::future::try_join_all(make).await?;
    for o in have.iter().filter(|o| labelled(o)) {
        if !wanted.iter().any(|gv| name(gv) == o.name()) {
            // Whoever changed it meanwhile wins.
            server.storage.remove(&format!("/registry/{GROUP}/{PLURAL}/{}", o.name()), o.revision()).await?;
        }
    }
    Ok(())
}

/// Says that a local APIService is available.
pub fn set_local(v: &mut Value) {
    set(v, LOCAL, &now());
}

/// A local APIService that somebody made by hand is available from the start.
pub async fn mark_local(server: &ApiServer, name: &str, v: &Value) {
    let is_local = |v: &Value| {
        is_true(v, "Available")
            && v["status"]["conditions"].as_array().is_some_and(|c| c.iter().any(|c| c["reason"] == "Local"))
    };
    if is_local(v) {
        return;
    }
    let decide = &mut |mut v: Value| {
        if !v["spec"]["service"].is_null() || is_local(&v) {
            return Ok(None);
        }
        set_local(&mut v);
        Ok(Some(v))
    };
    if let Err(e) = server.reader().update(GROUP, PLURAL, "", name, decide).await
        && !e.is_not_found()
    {
        tracing::warn!(apiservice = name, error = %e, "failed to write the status of an APIService");
    }
}
