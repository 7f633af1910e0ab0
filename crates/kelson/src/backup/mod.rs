//! `kelson backup`, `kelson restore` and `kelson store`. `place` finds a cluster's store wherever it is: behind a running
//! server (`socket`), in the files of a stopped one, in etcd. `save` and `restore` are the commands by their names,
//! `inspect` is `kelson store`, `keys` the cluster's keys on their way in and out.

pub mod inspect;
mod keys;
mod place;
pub mod restore;
pub mod save;
pub mod socket;

/// Runs a command's future to its end.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn now_ms() -> u64 {
    u64::try_from(client::clock::now().as_millisecond()).unwrap_or(0)
}

/// A size for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Forgets history before a revision, or finds it forgotten, and gives the disk back what that frees.
async fn forget(store: &dyn store::Store, revision: u64) -> Result<(), store::Error> {
    match store.compact(revision).await {
        Ok(()) | Err(store::Error::Compacted { .. }) => store.tidy().await,
        Err(e) => Err(e),
    }
}
