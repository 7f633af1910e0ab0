//! Keeps the RBAC index and the node graph fed. Spawns one task per kind, which ends with its token; a task that falls
//! behind lists anew.

use std::sync::Arc;

use api::Status;
use tokio_util::sync::CancellationToken;

use super::Authorizer;
use super::index::KINDS;
use crate::Reader;
use crate::follow::{Follower, follow};
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
        let (reader, cancel) = (reader.clone(), cancel.clone());
        let mut one = One { authorizer: a.clone(), reader: reader.clone(), group, plural };
        tokio::spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = follow(&mut one, reader.as_ref(), group, plural, revision) => {}
            }
        });
    }
}

/// One kind of those that authorization reads.
struct One {
    authorizer: Arc<Authorizer>,
    reader: Arc<dyn Reader>,
    group: &'static str,
    plural: &'static str,
}

impl Follower for One {
    async fn list(&mut self) -> Result<u64, Status> {
        fill_one(&self.authorizer, self.reader.as_ref(), self.group, self.plural).await
    }

    async fn apply(&mut self, batch: Vec<Change>) {
        if self.plural == "pods" {
            let mut graph = self.authorizer.node.graph().write();
            for c in &batch {
                match c {
                    Change::Put(o) => graph.put(o),
                    Change::Deleted(o) => graph.remove(o.namespace(), o.name()),
                }
            }
        } else {
            let mut index = self.authorizer.index.write();
            for c in &batch {
                match c {
                    Change::Put(o) => index.put(self.plural, o),
                    Change::Deleted(o) => index.remove(self.plural, o.namespace(), o.name()),
                }
            }
        }
    }
}
