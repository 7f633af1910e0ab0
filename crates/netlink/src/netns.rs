//! Runs something inside another network namespace: on a thread of its own, since a namespace belongs to a thread.

use std::fs::File;
use std::future::Future;
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use tokio::sync::oneshot;

use crate::Error;

/// Runs the future that `f` makes on a fresh thread that has entered the namespace behind `path`; the thread ends with it.
pub async fn inside<T, F, Fut>(path: &Path, f: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<T, Error>>,
{
    let path = path.to_owned();
    let (tx, rx) = oneshot::channel();
    let run = move || -> Result<T, Error> {
        let what = format!("open the network namespace {}", path.display());
        let file = File::open(&path).map_err(Error::io(what))?;
        setns(&file, CloneFlags::CLONE_NEWNET)
            .map_err(|e| Error::io(format!("enter the network namespace {}", path.display()))(e.into()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(Error::io("start a runtime inside a network namespace"))?;
        runtime.block_on(f())
    };
    std::thread::Builder::new()
        .name("netns".into())
        .stack_size(256 << 10)
        .spawn(move || {
            let _ = tx.send(run());
        })
        .map_err(Error::io("start a thread for a network namespace"))?;
    rx.await.map_err(|_| Error::Other("the thread inside the network namespace ended early".into()))?
}
