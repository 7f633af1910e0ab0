//! Keeping something in step with one kind for as long as the server runs: changes as they come, everything anew after
//! falling behind. Spawns nothing; who calls `follow` runs it in a task of its own.

use std::time::Duration;

use api::Status;

use crate::Reader;
use crate::reader::Change;

/// Between two tries to list.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) trait Follower: Send {
    /// Reads everything anew; the revision from which changes count.
    fn list(&mut self) -> impl Future<Output = Result<u64, Status>> + Send;
    /// Takes changes in.
    fn apply(&mut self, batch: Vec<Change>) -> impl Future<Output = ()> + Send;
}

/// Never ends. `from` is what the first list answered.
pub(crate) async fn follow(
    f: &mut impl Follower,
    reader: &dyn Reader,
    group: &str,
    plural: &str,
    mut from: u64,
) {
    loop {
        if let Err(e) = changes(f, reader, group, plural, from).await {
            tracing::debug!(kind = plural, error = %e, "listing anew");
        }
        from = loop {
            match f.list().await {
                Ok(revision) => break revision,
                Err(e) => tracing::warn!(kind = plural, error = %e, "failed to list, trying again"),
            }
            tokio::time::sleep(PAUSE).await;
        };
    }
}

async fn changes(
    f: &mut impl Follower,
    reader: &dyn Reader,
    group: &str,
    plural: &str,
    from: u64,
) -> Result<(), Status> {
    let mut changes = reader.changes(group, plural, from).await?;
    loop {
        f.apply(changes.next().await?).await;
    }
}
