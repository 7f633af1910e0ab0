//! What a long-running process of ours does towards its system, whatever its role: signals, limits, systemd, the hold of its
//! directory. Spawns nothing.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tracing::warn;

use crate::mark;

/// One process at a time; one that is just ending gets a moment to do so.
pub async fn hold(dir: &Path) -> anyhow::Result<mark::Hold> {
    for _ in 0..100 {
        if let Some(hold) = mark::hold(dir).with_context(|| format!("failed to lock {}", dir.display()))? {
            return Ok(hold);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!(
        "{} is in use by another running kelson; choose another directory with --data-dir",
        dir.display()
    )
}

/// Told to stop, from outside.
pub struct Signals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl Signals {
    pub fn new() -> anyhow::Result<Self> {
        let on = |k| signal(k).context("failed to listen for signals");
        Ok(Self { term: on(SignalKind::terminate())?, int: on(SignalKind::interrupt())? })
    }
    pub async fn wait(&mut self) {
        tokio::select! { _ = self.term.recv() => {}, _ = self.int.recv() => {} }
    }
}

/// Many watches are many sockets: takes what the hard limit allows.
pub fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(e) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        warn!(error = %e, soft, "failed to raise the limit of open files");
    }
}

/// Tells systemd (`Type=notify`) that the cluster is up.
pub fn notify_systemd() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let sent = std::os::unix::net::UnixDatagram::unbound().and_then(|s| s.send_to(b"READY=1", path));
    if let Err(e) = sent {
        warn!(error = %e, "failed to tell systemd that the cluster is ready");
    }
}
