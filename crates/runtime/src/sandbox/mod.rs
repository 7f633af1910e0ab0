//! Sandboxes and containers as records on disk and in memory, and the pieces they are made of.
//!
//! ```text
//! <root>/sandboxes/<id>/sandbox.json      its record, written before anything else of it exists
//!                       shim.json, shim.sock, shim-state.json, lc/    the shim's
//!                       resolv.conf, hosts, hostname, shm/            mounted into its containers
//! <root>/containers/<id>/container.json   likewise
//!                        bundle/config.json, rootfs/, upper/, work/
//! ```

pub mod files;
pub mod netns;
pub mod shim_client;

use crate::spec::users::User;
use cri::{ContainerConfig, ContainerState, PodSandboxConfig};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use shim_client::Shim;
use std::path::PathBuf;
use std::sync::Arc;

/// Of the records on disk.
pub const VERSION: u32 = 1;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxRecord {
    pub version: u32,
    pub id: String,
    pub config: PodSandboxConfig,
    pub handler: String,
    pub created_at: i64,
    pub hostname: String,
    /// Empty: the host's network.
    pub netns: PathBuf,
    pub ips: Vec<String>,
    pub cgroup_parent: String,
    /// It was set up wholly; a record without is a leftover.
    pub complete: bool,
    pub stopped: bool,
}

pub struct Sandbox {
    pub dir: PathBuf,
    pub rec: Mutex<SandboxRecord>,
    pub shim: Mutex<Option<Arc<Shim>>>,
    /// Set-up, stop and removal one after the other.
    pub op: tokio::sync::Mutex<()>,
}

impl Sandbox {
    pub fn live_shim(&self) -> Option<Arc<Shim>> {
        self.shim.lock().clone().filter(|s| s.alive())
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerRecord {
    pub version: u32,
    pub id: String,
    pub sandbox_id: String,
    pub config: ContainerConfig,
    pub created_at: i64,
    pub image_id: String,
    pub image_ref: String,
    pub diff_ids: Vec<String>,
    pub log_path: String,
    pub cgroup: String,
    pub user: User,
    pub stop_signal: String,
    pub private_pid: bool,
    pub oom_score_adj: Option<i32>,
}

/// What changes in a container's life. The shim's state file holds it across restarts.
#[derive(Clone, Debug, Default)]
pub struct Live {
    pub state: ContainerState,
    pub pid: i32,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub resources: cri::LinuxContainerResources,
}

pub struct Container {
    pub dir: PathBuf,
    pub rec: ContainerRecord,
    pub live: Mutex<Live>,
    pub exited: tokio::sync::watch::Sender<bool>,
    pub op: tokio::sync::Mutex<()>,
}

impl Container {
    pub fn state(&self) -> ContainerState {
        self.live.lock().state
    }

    pub async fn wait_exit(&self) {
        let mut rx = self.exited.subscribe();
        let _ = rx.wait_for(|e| *e).await;
    }
}
