//! Opening a runtime over whatever a crash or a reboot has left, and taking it all down.

use super::*;
use crate::sandbox::{ContainerRecord, Live, SandboxRecord, VERSION, netns};
use shim::protocol::{Phase, STATE, ShimState};
use std::io;
use std::path::{Path, PathBuf};

fn internal(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> CriError {
    move |e| CriError::Internal(format!("{what}: {e}"))
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).map(|rd| rd.flatten().map(|e| e.path()).collect()).unwrap_or_default()
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Unmounts all below, then removes. Refuses to remove while something is still mounted there.
pub(crate) fn remove_dir(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(_) => {}
    }
    for m in snapshots::mounts_below(dir) {
        snapshots::unmount(&m)?;
    }
    std::fs::remove_dir_all(dir)
}

impl EmbeddedRuntime {
    /// Takes the root for itself (a second runtime on it is refused), sweeps leftovers, finds the shims again.
    pub async fn open(cfg: RuntimeConfig) -> Result<Self> {
        for d in
            [cfg.root.join("sandboxes"), cfg.root.join("containers"), cfg.netns_dir.clone(), cfg.run.clone()]
        {
            std::fs::create_dir_all(&d).map_err(internal(format!("make {}", d.display())))?;
        }
        let lock_path = cfg.root.join("lock");
        let lock =
            std::fs::File::create(&lock_path).map_err(internal(format!("open {}", lock_path.display())))?;
        // One that is just ending may hold it for a moment more.
        let mut locked = lock.try_lock().is_ok();
        for _ in 0..100 {
            if locked {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            locked = lock.try_lock().is_ok();
        }
        if !locked {
            let root = cfg.root.display();
            return Err(CriError::Unavailable(format!("{root} is in use by another running kelson")));
        }
        let store = cfg.root.clone();
        let images = blocking(move || ImageStore::open(&store).map_err(CriError::internal)).await?;
        let groups = Hierarchies::detect().map_err(internal("find the cgroups"))?;
        let inner = Arc::new(Inner {
            images: Arc::new(images),
            groups,
            own_caps: spec::caps::own(),
            filters: crate::filters::Filters::new(&cfg.run),
            sandboxes: Mutex::default(),
            containers: Mutex::default(),
            events: broadcast::channel(4096).0,
            cpu: Mutex::default(),
            sizes: Mutex::default(),
            pulls: Default::default(),
            _lock: lock,
            cfg,
        });
        inner.restore().await;
        let sweep = inner.clone();
        blocking(move || sweep.images.collect(&sweep.layers_in_use()).map_err(CriError::internal)).await?;
        Ok(EmbeddedRuntime { inner })
    }

    /// Everything but images: containers, mounts, namespaces, control groups, records.
    pub async fn destroy_pods(&self) -> Result<()> {
        let ids: Vec<String> = self.inner.sandboxes.lock().keys().cloned().collect();
        let all = ids.iter().map(|id| self.remove_pod_sandbox(id));
        for r in futures::future::join_all(all).await {
            r?;
        }
        Ok(())
    }

    /// Leaves no trace on the machine: pods, mounts, namespaces, control groups, and the root and run directories.
    pub async fn destroy_all(self) -> Result<()> {
        self.destroy_pods().await?;
        let inner = self.inner;
        blocking(move || {
            let cfg = &inner.cfg;
            for p in entries(&cfg.netns_dir) {
                netns::remove(&p).map_err(internal(format!("remove {}", p.display())))?;
            }
            for m in snapshots::mounts_below(&cfg.root) {
                snapshots::unmount(&m).map_err(internal(format!("unmount {}", m.display())))?;
            }
            for pid in inner.groups.pids(&cfg.cgroup_root) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
            }
            inner.remove_cgroup(&cfg.cgroup_root);
            for d in [&cfg.netns_dir, &cfg.run, &cfg.root] {
                remove_dir(d).map_err(internal(format!("remove {}", d.display())))?;
            }
            Ok(())
        })
        .await
    }
}

impl Inner {
    async fn restore(self: &Arc<Self>) {
        let mut keep_netns = HashSet::new();
        for dir in entries(&self.cfg.root.join("sandboxes")) {
            let rec = read_json::<SandboxRecord>(&dir.join("sandbox.json"));
            match rec.filter(|r| r.complete && r.version <= VERSION) {
                Some(rec) => {
                    keep_netns.insert(rec.netns.clone());
                    let id = rec.id.clone();
                    let sb = Arc::new(Sandbox {
                        dir,
                        rec: Mutex::new(rec),
                        shim: Mutex::new(None),
                        op: Default::default(),
                    });
                    self.sandboxes.lock().insert(id, sb);
                }
                None => self.discard_sandbox(&dir).await,
            }
        }
        for dir in entries(&self.cfg.root.join("containers")) {
            let rec = read_json::<ContainerRecord>(&dir.join("container.json"));
            let known = |r: &ContainerRecord| self.sandboxes.lock().contains_key(&r.sandbox_id);
            match rec.filter(|r| r.version <= VERSION && known(r)) {
                Some(rec) => {
                    let live = Live {
                        state: ContainerState::Created,
                        resources: rec.config.linux.resources.clone(),
                        ..Default::default()
                    };
                    let c = Container {
                        dir,
                        live: Mutex::new(live),
                        exited: tokio::sync::watch::Sender::new(false),
                        op: Default::default(),
                        rec,
                    };
                    self.containers.lock().insert(c.rec.id.clone(), Arc::new(c));
                }
                None => {
                    tracing::info!(path = %dir.display(), "removing the leftovers of a container");
                    let _ = snapshots::unmount(&dir.join("rootfs"));
                    if let Err(e) = remove_dir(&dir) {
                        tracing::warn!(path = %dir.display(), error = %e, "could not remove leftovers");
                    }
                }
            }
        }
        let all: Vec<_> = self.sandboxes.lock().values().cloned().collect();
        futures::future::join_all(all.iter().map(|s| self.reconnect(s))).await;
        for p in entries(&self.cfg.netns_dir) {
            if !keep_netns.contains(&p)
                && let Err(e) = netns::remove(&p)
            {
                tracing::warn!(path = %p.display(), error = %e, "could not remove a network namespace");
            }
        }
    }

    /// A sandbox whose set-up was cut off.
    async fn discard_sandbox(self: &Arc<Self>, dir: &Path) {
        tracing::info!(path = %dir.display(), "removing the leftovers of a pod sandbox");
        if let Ok(shim) = Shim::connect(dir, |_| ()).await {
            let _ = shim.call(shim::protocol::Request::Shutdown).await;
        }
        if let Some(rec) = read_json::<SandboxRecord>(&dir.join("sandbox.json")) {
            let req = pods::net_request(&rec);
            if !rec.netns.as_os_str().is_empty()
                && let Err(e) = self.cfg.network.teardown(&req).await
            {
                tracing::warn!(error = %e, "network teardown of a leftover failed");
            }
            let _ = netns::remove(&rec.netns);
        }
        let _ = snapshots::unmount(&dir.join("shm"));
        if let Err(e) = remove_dir(dir) {
            tracing::warn!(path = %dir.display(), error = %e, "could not remove leftovers");
        }
    }

    async fn reconnect(self: &Arc<Self>, sb: &Arc<Sandbox>) {
        let id = sb.rec.lock().id.clone();
        let state: ShimState = read_json(&sb.dir.join(STATE)).unwrap_or_default();
        let alive = state.pid > 0 && shim::sys::start_ticks(state.pid) == Some(state.start_ticks);
        let mut records = state.containers;
        let mut connected = false;
        if alive && !sb.rec.lock().stopped {
            match Shim::connect(&sb.dir, self.watcher(&id)).await {
                Ok(shim) => {
                    if let Ok(shim::protocol::Reply::List { containers }) =
                        shim.call(shim::protocol::Request::List).await
                    {
                        records = containers;
                    }
                    *sb.shim.lock() = Some(Arc::new(shim));
                    connected = true;
                }
                Err(e) => {
                    tracing::error!(sandbox = %id, error = %e, "a pod's shim runs but doesn't answer; ending it");
                    let _ = nix::sys::signal::kill(
                        nix::unistd::Pid::from_raw(state.pid),
                        nix::sys::signal::SIGKILL,
                    );
                }
            }
        }
        for rec in records {
            let Ok(c) = self.container(&rec.id) else {
                if connected && rec.phase == Phase::Running {
                    // Its record was lost: nobody can ask for it any more.
                    let req = shim::protocol::Request::Signal {
                        id: rec.id.clone(),
                        signal: libc::SIGKILL,
                        all: true,
                    };
                    if let Some(s) = sb.live_shim() {
                        let _ = s.call(req).await;
                    }
                }
                continue;
            };
            match rec.phase {
                Phase::Exited => drop(containers::apply_exit(&c, &rec)),
                Phase::Running if connected => {
                    let mut live = c.live.lock();
                    live.state = ContainerState::Running;
                    live.pid = rec.pid;
                    live.started_at = rec.started_at;
                }
                // The machine, or the shim, went down under it.
                Phase::Running | Phase::Starting => {
                    for pid in self.groups.pids(&c.rec.cgroup) {
                        let _ = nix::sys::signal::kill(
                            nix::unistd::Pid::from_raw(pid),
                            nix::sys::signal::SIGKILL,
                        );
                    }
                    let mut live = c.live.lock();
                    live.state = ContainerState::Exited;
                    live.started_at = rec.started_at;
                    live.finished_at = now_ns();
                    live.exit_code = 255;
                    live.reason = "Unknown".into();
                }
            }
            if c.state() == ContainerState::Exited {
                c.exited.send_replace(true);
                let _ = snapshots::unmount(&c.dir.join("rootfs"));
            }
        }
    }

    /// Waits a moment for the last process to go; says when it couldn't.
    #[expect(
        clippy::disallowed_methods,
        reason = "the kernel tells nobody when a control group may go; a blocking thread"
    )]
    pub fn remove_cgroup(&self, cgroup: &str) {
        for _ in 0..100 {
            if self.groups.remove(cgroup).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        if let Err(e) = self.groups.remove(cgroup) {
            tracing::warn!(cgroup, error = %e, "could not remove a control group");
        }
    }
}
