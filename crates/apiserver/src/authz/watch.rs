//! Keeps the RBAC index and the node graph fed. Spawns one task per kind, which ends with its token; a task that falls
//! behind lists anew.

use std::sync::Arc;
use std::time::Duration;

use api::Status;
use tokio_util::sync::CancellationToken;

use super::Authorizer;
use super::index::KINDS;
use crate::Reader;
use crate::reader::Change;

const GROUP: &str = "rbac.authorization.k8s.io";

fn kinds() -> impl Iterator<Item = (&'static str, &'static str)> {
    KINDS.into_iter().map(|k| (GROUP, k)).chain([("", "pods")])
}

/// Fills everything once; returns the revision per kind from which changes count.
pub(super) async fn fill(a: &Authorizer, reader: &dyn Reader) -> Result<Vec<u64>, Status> {
    let mut from = Vec::new();
    for (group, plural) in kinds() {
        from.push(fill_one(a, reader, group, plural).await?);
    }
    Ok(from)
}

async fn fill_one(a: &Authorizer, reader: &dyn Reader, group: &str, plural: &str) -> Result<u64, Status> {
    // Read before the list: an event seen twice does no harm, a missed one would.
    let revision = reader.revision();
    let all = reader.list(group, plural, "").await?;
    if plural == "pods" {
        let mut graph = a.node.graph().write();
        graph.clear();
        all.iter().for_each(|o| graph.put(o));
    } else {
        let mut index = a.index.write();
        index.clear(plural);
        all.iter().for_each(|o| index.put(plural, o));
    }
    Ok(revision)
}

pub(super) fn spawn(
    a: &Arc<Authorizer>,
    reader: &Arc<dyn Reader>,
    from: Vec<u64>,
    cancel: &CancellationToken,
) {
    for ((group, plural), revision) in kinds().zip(from) {
        let (a, reader, cancel) = (a.clone(), reader.clone(), cancel.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = follow(&a, reader.as_ref(), group, plural, revision) => {}
            }
        });
    }
}

async fn follow(a: &Authorizer, reader: &dyn Reader, group: &str, plural: &str, mut from: u64) {
    loop {
        if let Err(e) = follow_once(a, reader, group, plural, from).await {
            tracing::debug!(kind = plural, error = %e, "listing anew for authorization");
        }
        loop {
            match fill_one(a, reader, group, plural).await {
                Ok(r) => {
                    from = r;
                    break;
                }
                Err(e) => {
                    tracing::warn!(kind = plural, error = %e, "failed to list for authorization");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

async fn follow_once(
    a: &Authorizer,
    reader: &dyn Reader,
    group: &str,
    plural: &str,
    from: u64,
) -> Result<(), Status> {
    let mut changes = reader.changes(group, plural, from).await?;
    loop {
        let batch = changes.next().await?;
        if plural == "pods" {
            let mut graph = a.node.graph().write();
            for c in &batch {
                match c {
                    Change::Put(o) => graph.put(o),
                    Change::Deleted(o) => graph.remove(o.namespace(), o.name()),
                }
            }
        } else {
            let mut index = a.index.write();
            for c in &batch {
                match c {
                    Change::Put(o) => index.put(plural, o),
                    Change::Deleted(o) => index.remove(plural, o.namespace(), o.name()),
                }
            }
        }
    }
}
