//! `kelson clean`: every trace of a stopped cluster goes: containers, mounts, namespaces, links, nftables tables, cgroups,
//! files.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use runtime::EmbeddedRuntime;

use crate::args::CleanArgs;
use crate::config::Instance;
use crate::server::runtime_config;

pub fn main(args: CleanArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(args))
}

async fn run(args: CleanArgs) -> anyhow::Result<()> {
    let instance = Instance::of(&args.data_dir);
    if tokio::net::UnixStream::connect(instance.admin_socket()).await.is_ok() {
        bail!(
            "the cluster of {} is running; stop it first (systemctl stop kelson, or end the process)",
            instance.data_dir.display()
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
        cni::destroy(&instance.name, &instance.bridge)
            .await
            .map_err(|e| anyhow!(e))
            .context("failed to remove the pod network")?;
        proxy::destroy(&instance.name)
            .await
            .map_err(|e| anyhow!(e))
            .context("failed to remove the service tables")?;
        remove(&instance.network_dir())?;
        unmount_below(&instance.kubelet_dir());
        remove(&instance.kubelet_dir())?;
        remove(&instance.pod_logs())?;
        remove(&instance.container_logs())?;
        remove(&instance.run_dir)?;
        // Shared by all clusters; goes with the last one.
        let _ = std::fs::remove_dir("/run/kelson");
    }
    if !args.keep_data {
        remove(&instance.data_dir)?;
    }
    println!("removed every trace of the cluster of {}", instance.data_dir.display());
    Ok(())
}

/// Volumes that a crash left mounted.
fn unmount_below(dir: &Path) {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mounts") else { return };
    let mut below: Vec<String> = mounts
        .lines()
        .filter_map(|l| l.split(' ').nth(1))
        .map(|m| m.replace("\\040", " "))
        .filter(|m| Path::new(m).starts_with(dir))
        .collect();
    below.sort_by_key(|m| std::cmp::Reverse(m.len()));
    for m in below {
        let _ = nix::mount::umount2(m.as_str(), nix::mount::MntFlags::MNT_DETACH);
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("failed to remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
