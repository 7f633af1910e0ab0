//! `kelson clean`: every trace of a stopped cluster goes: containers, mounts, namespaces, links, nftables tables, cgroups,
//! files. Without the cluster's mark in the data directory no file is removed.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use runtime::EmbeddedRuntime;

use crate::args::CleanArgs;
use crate::config::Instance;
use crate::mark::{self, Place};
use crate::node::runtime_config;

pub fn main(args: CleanArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(args))
}

async fn run(args: CleanArgs) -> anyhow::Result<()> {
    let instance = Instance::of(&args.data_dir);
    let dir = &instance.data_dir;
    let owns = match mark::look(dir)? {
        Place::Marked(mark) => mark.owns,
        Place::Unmarked => bail!(
            "{} holds no cluster's mark ({}); start the server on it once, or remove it by hand",
            dir.display(),
            mark::NAME
        ),
        Place::Foreign(name) => {
            bail!("{} holds {name:?} and no cluster's mark ({}): it is left alone", dir.display(), mark::NAME)
        }
        Place::Empty => vec![],
    };
    let hold = if dir.is_dir() {
        mark::hold(dir).with_context(|| format!("failed to lock {}", dir.display()))?
    } else {
        None
    };
    let running = dir.is_dir() && hold.is_none();
    if running || tokio::net::UnixStream::connect(instance.admin_socket()).await.is_ok() {
        bail!(
            "the cluster of {} is running; stop it first (systemctl stop kelson, or end the process)",
            dir.display()
        );
    }
    let root = nix::unistd::geteuid().is_root();
    if root {
        if instance.runtime_root().exists() || instance.run_dir.exists() {
            let config = runtime_config(&instance, Arc::new(runtime::LoopbackOnly));
            let r = EmbeddedRuntime::open(config)
                .await
                .map_err(|e| anyhow!(e))
                .context("failed to open the container runtime")?;
            if args.keep_data {
                r.destroy_pods().await.map_err(|e| anyhow!(e)).context("failed to remove the containers")?;
            } else {
                r.destroy_all().await.map_err(|e| anyhow!(e)).context("failed to remove the containers")?;
            }
        }
        cni::destroy(&instance.name, &instance.bridge, &instance.network_dir())
            .await
            .map_err(|e| anyhow!(e))
            .context("failed to remove the pod network")?;
        proxy::destroy(&instance.name)
            .await
            .map_err(|e| anyhow!(e))
            .context("failed to remove the service tables")?;
        remove(&instance.network_dir())?;
        for path in [instance.kubelet_dir(), instance.pod_logs(), instance.container_logs()] {
            if path.starts_with(dir) || owns.contains(&path) {
                unmount_below(&path);
                remove(&path)?;
            }
        }
        remove(&instance.run_dir)?;
        // Shared by all clusters; goes with the last one.
        let _ = std::fs::remove_dir("/run/kelson");
    }
    if !args.keep_data {
        remove(dir)?;
    }
    println!("removed every trace of the cluster of {}", dir.display());
    Ok(())
}

fn mounts_below(dir: &Path) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|l| l.split(' ').nth(1)).map(|m| m.replace("\\040", " "));
    points.filter(|m| Path::new(m).starts_with(dir) && Path::new(m) != dir).collect()
}

/// Volumes that a crash left mounted.
fn unmount_below(dir: &Path) {
    let mut below = mounts_below(dir);
    below.sort_by_key(|m| std::cmp::Reverse(m.len()));
    for m in below {
        let _ = nix::mount::umount2(m.as_str(), nix::mount::MntFlags::MNT_DETACH);
    }
}

/// Never reaches into what is mounted below: it may be somebody's data.
fn remove(path: &Path) -> anyhow::Result<()> {
    if let Some(m) = mounts_below(path).first() {
        bail!("{m} is still mounted; unmount it, then clean again");
    }
    let vacant = || std::fs::read_dir(path).is_ok_and(|mut d| d.next().is_none());
    match std::fs::remove_dir_all(path) {
        // A file system of its own is mounted there: empty is all it can be.
        Err(e) if e.kind() == std::io::ErrorKind::ResourceBusy && vacant() => Ok(()),
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("failed to remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
