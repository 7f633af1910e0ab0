//! The runtime's state and its life: opening from disk, events, taking everything down. The calls are in the files
//! beside this one. Spawns one reading task per live shim.

mod api;
mod containers;
mod image;
mod open;
mod pods;
mod stats;
mod streams;

use crate::config::RuntimeConfig;
use crate::images::{ImageError, ImageStore};
use crate::sandbox::shim_client::{Shim, ShimError, ShimEvent};
use crate::sandbox::{Container, Sandbox};
use crate::{snapshots, spec};
use cri::*;
use parking_lot::Mutex;
use shim::cgroup::Hierarchies;
use shim::log::now_ns;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use tokio::sync::broadcast;

/// Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct EmbeddedRuntime {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub cfg: RuntimeConfig,
    pub images: Arc<ImageStore>,
    pub groups: Hierarchies,
    pub own_caps: Vec<String>,
    pub filters: crate::filters::Filters,
    pub sandboxes: Mutex<HashMap<String, Arc<Sandbox>>>,
    pub containers: Mutex<HashMap<String, Arc<Container>>>,
    pub events: broadcast::Sender<ContainerEventResponse>,
    /// Last CPU reading per container or sandbox: (time, usage), for rates.
    pub cpu: Mutex<HashMap<String, (i64, u64)>>,
    /// Sizes of writable layers: (when, bytes, inodes). Walking them often would cost more than they tell.
    pub sizes: Mutex<HashMap<String, (std::time::Instant, u64, u64)>>,
    /// One pull per image at a time.
    pub pulls: tokio::sync::Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    _lock: std::fs::File,
}

pub(crate) fn no_container(id: &str) -> CriError {
    CriError::NotFound(format!("container {id:?}"))
}

pub(crate) fn no_sandbox(id: &str) -> CriError {
    CriError::NotFound(format!("pod sandbox {id:?}"))
}

pub(crate) fn from_shim(e: ShimError) -> CriError {
    use shim::protocol::ErrorCode as E;
    match e {
        ShimError::Refused { code, message } => match code {
            E::NotFound => CriError::NotFound(message),
            E::Exists => CriError::AlreadyExists(message),
            E::NotRunning => CriError::FailedPrecondition(message),
            E::Start => CriError::Start { message },
            E::Invalid => CriError::InvalidArgument(message),
            E::Internal => CriError::Internal(message),
        },
        e => CriError::Unavailable(e.to_string()),
    }
}

pub(crate) fn from_image(e: ImageError) -> CriError {
    let reason = match &e {
        ImageError::Name(_) => PullReason::InvalidImageName,
        _ => PullReason::ErrImagePull,
    };
    CriError::pull(reason, e.to_string())
}

/// Runs blocking work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(f: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(f).await.unwrap_or_else(|e| Err(CriError::internal(e)))
}

pub(crate) fn new_id() -> String {
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}

impl EmbeddedRuntime {
    /// Images can be used without pods, by `kelson image`.
    pub fn images(&self) -> &ImageStore {
        &self.inner.images
    }

    pub fn config(&self) -> &RuntimeConfig {
        &self.inner.cfg
    }

    /// Imports an archive; see [`crate::images::import`].
    pub async fn import_image(&self, path: &std::path::Path, name: Option<&str>) -> Result<Vec<Image>> {
        let (inner, path, name) = (self.inner.clone(), path.to_path_buf(), name.map(str::to_string));
        blocking(move || {
            let recs = crate::images::import(&inner.images, &path, name.as_deref()).map_err(from_image)?;
            Ok(recs.iter().map(|r| r.to_cri()).collect())
        })
        .await
    }
}

impl Inner {
    pub fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>> {
        self.sandboxes.lock().get(id).cloned().ok_or_else(|| no_sandbox(id))
    }

    pub fn container(&self, id: &str) -> Result<Arc<Container>> {
        self.containers.lock().get(id).cloned().ok_or_else(|| no_container(id))
    }

    pub fn containers_of(&self, sandbox: &str) -> Vec<Arc<Container>> {
        let all = self.containers.lock();
        let mut out: Vec<_> = all.values().filter(|c| c.rec.sandbox_id == sandbox).cloned().collect();
        out.sort_by_key(|c| c.rec.created_at);
        out
    }

    pub fn shim_of(&self, sandbox: &str) -> Result<Arc<Shim>> {
        let s = self.sandbox(sandbox)?;
        s.live_shim()
            .ok_or_else(|| CriError::FailedPrecondition(format!("pod sandbox {sandbox} is not running")))
    }

    pub fn layers_in_use(&self) -> HashSet<String> {
        self.containers.lock().values().flat_map(|c| c.rec.diff_ids.iter().cloned()).collect()
    }

    pub fn announce(&self, id: &str, sandbox: &str, kind: ContainerEventType) {
        if self.events.receiver_count() == 0 {
            return;
        }
        let pod = self.sandbox(sandbox).ok();
        let _ = self.events.send(ContainerEventResponse {
            container_id: id.to_string(),
            container_event_type: kind,
            created_at: now_ns(),
            pod_sandbox_status: pod.map(|s| pods::status(&s)),
            containers_statuses: self.containers_of(sandbox).iter().map(|c| containers::status(c)).collect(),
        });
    }

    /// The callback of a sandbox's shim.
    pub fn watcher(self: &Arc<Self>, sandbox: &str) -> impl Fn(ShimEvent) + Send + 'static {
        let (weak, id) = (Arc::downgrade(self), sandbox.to_string());
        move |event| {
            let Some(inner) = weak.upgrade() else { return };
            match event {
                ShimEvent::Exited(rec) => inner.container_exited(&rec),
                ShimEvent::Gone => inner.shim_gone(&id),
            }
        }
    }

    pub fn container_exited(&self, rec: &shim::protocol::ContainerRecord) {
        let Ok(c) = self.container(&rec.id) else { return };
        if !containers::apply_exit(&c, rec) {
            return;
        }
        tracing::debug!(container = %rec.id, code = rec.exit_code, oom = rec.oom_killed, "container exited");
        c.exited.send_replace(true);
        self.announce(&rec.id, &c.rec.sandbox_id, ContainerEventType::Stopped);
        let root = c.dir.join("rootfs");
        tokio::task::spawn_blocking(move || {
            if let Err(e) = snapshots::unmount(&root) {
                tracing::warn!(path = %root.display(), error = %e, "unmount failed");
            }
        });
    }

    /// A shim ended. After a stop that's as wanted; otherwise its containers have lost their keeper, and are ended
    /// rather than left running unseen.
    pub fn shim_gone(&self, sandbox: &str) {
        let running: Vec<_> = self
            .containers_of(sandbox)
            .into_iter()
            .filter(|c| c.state() == ContainerState::Running)
            .collect();
        if running.is_empty() {
            return;
        }
        tracing::error!(sandbox, containers = running.len(), "a pod's shim died; its containers are ended");
        for c in running {
            for pid in self.groups.pids(&c.rec.cgroup) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
            }
            // Read first: a guard in the argument would be held through the call.
            let started_at = c.live.lock().started_at;
            self.container_exited(&shim::protocol::ContainerRecord {
                id: c.rec.id.clone(),
                phase: shim::protocol::Phase::Exited,
                exit_code: 137,
                finished_at: now_ns(),
                started_at,
                ..Default::default()
            });
        }
    }

    pub fn devices_for(&self, config: &ContainerConfig) -> Result<Vec<spec::DeviceNode>> {
        containers::devices(config)
    }
}
