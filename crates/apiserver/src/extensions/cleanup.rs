//! The end of a CustomResourceDefinition: its objects are deleted as a client would, with their finalizers; when none is
//! left the definition's own finalizer goes, and with the last finalizer the definition.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::{Resource, Status};
use client::{Client, DeleteOptions, ListParams, LocalIdentity};
use serde_json::Value;
use store::{Fresh, Op};

use super::{FINALIZER, GROUP, PLURAL};
use crate::conditions::{Condition, set};
use crate::server::ApiServer;
use crate::storage::{Encoded, Written, at_revision};

const LOOK: Duration = Duration::from_secs(1);

pub async fn run(server: &ApiServer, name: &str) {
    loop {
        match step(server, name).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(e) => {
                tracing::debug!(definition = name, error = %e, "the clean-up of a definition tries again")
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// True when there is nothing left to do.
async fn step(server: &ApiServer, name: &str) -> Result<bool, Status> {
    let Some(o) = server.reader().get(GROUP, PLURAL, "", name).await? else { return Ok(true) };
    let crd = o.value().map_err(Status::internal)?;
    let ours =
        |v: &Value| v["metadata"]["finalizers"].as_array().is_some_and(|a| a.iter().any(|f| f == FINALIZER));
    if !o.meta().is_deleting() || !ours(&crd) {
        return Ok(true);
    }
    let left = delete_instances(server, &crd).await?;
    let (status, reason, message) = match left {
        0 => (false, "InstanceDeletionCompleted", "removed all instances".to_owned()),
        n => {
            (true, "InstanceDeletionInProgress", format!("CustomResource deletion is in progress; {n} left"))
        }
    };
    let key = format!("/registry/{GROUP}/{PLURAL}/{name}");
    let mut new = crd.clone();
    let now = client::clock::rfc3339(client::clock::now());
    set(&mut new, Condition { kind: "Terminating", status, reason, message: &message }, &now);
    let mut last = false;
    if left == 0
        && let Some(all) = new.pointer_mut("/metadata/finalizers").and_then(Value::as_array_mut)
    {
        all.retain(|f| f != FINALIZER);
        last = all.is_empty();
    }
    if new == crd {
        return Ok(false);
    }
    let op = if last { Op::Delete { key: key.clone() } } else { Encoded::new(new)?.put(&key, None) };
    let written = server.storage.commit(vec![at_revision(&key, o.revision())], vec![op]).await?;
    Ok(left == 0 && matches!(written, Written::Done { .. }))
}

/// Asks for the deletion of every object; how many are still there afterwards.
async fn delete_instances(server: &ApiServer, crd: &Value) -> Result<usize, Status> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let names = &crd["status"]["acceptedNames"];
    let group = text(&crd["spec"]["group"]);
    let catalog = server.catalog();
    let Some(kind) = catalog.by_plural(&group, &text(&names["plural"])).filter(|k| k.custom).cloned() else {
        // Never established: there is nothing.
        return Ok(0);
    };
    let prefix = kind.key("", "");
    let (all, _) = server.storage.all(&prefix, Fresh::Newest).await?;
    if all.is_empty() {
        return Ok(0);
    }
    let version = match kind.served().next() {
        Some(v) => v.name.clone(),
        None => {
            return Err(Status::internal("no version of the definition is served; serve one to delete it"));
        }
    };
    let resource = Resource {
        group: group.into(),
        version: version.into(),
        plural: kind.plural.clone().into(),
        kind: kind.kind.clone().into(),
        namespaced: kind.namespaced,
    };
    let identity = LocalIdentity::user("system:apiserver", &["system:masters"]);
    let client = Client::local(Arc::new(server.clone()), identity, "crd-finalizer");
    let spaces: BTreeSet<&str> = all.iter().map(|o| o.namespace()).collect();
    for ns in spaces {
        client.delete_collection(&resource, ns, &ListParams::default(), &DeleteOptions::default()).await?;
    }
    Ok(server.storage.all(&prefix, Fresh::Newest).await?.0.len())
}
