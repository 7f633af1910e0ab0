//! Pod sandboxes: set-up, stop, removal, status.

use super::open::remove_dir;
use super::*;
use crate::config::NetRequest;
use crate::images::store::write_atomic;
use crate::sandbox::{SandboxRecord, VERSION, files, netns, shim_client};
use nix::mount::{MsFlags, mount};
use shim::protocol::{CONFIG, Request, ShimConfig};
use std::path::Path;

pub(super) fn net_request(rec: &SandboxRecord) -> NetRequest {
    NetRequest {
        sandbox_id: rec.id.clone(),
        namespace: rec.config.metadata.namespace.clone(),
        name: rec.config.metadata.name.clone(),
        uid: rec.config.metadata.uid.clone(),
        netns: rec.netns.clone(),
        hostname: rec.hostname.clone(),
        port_mappings: rec.config.port_mappings.clone(),
        labels: rec.config.labels.clone(),
        annotations: rec.config.annotations.clone(),
    }
}

pub(super) fn state(s: &Sandbox) -> PodSandboxState {
    let stopped = s.rec.lock().stopped;
    match !stopped && s.live_shim().is_some() {
        true => PodSandboxState::Ready,
        false => PodSandboxState::NotReady,
    }
}

pub(super) fn status(s: &Sandbox) -> PodSandboxStatus {
    let state = state(s);
    let r = s.rec.lock();
    let mut ips = r.ips.iter().cloned();
    PodSandboxStatus {
        id: r.id.clone(),
        metadata: r.config.metadata.clone(),
        state,
        created_at: r.created_at,
        network: PodSandboxNetworkStatus {
            ip: ips.next().unwrap_or_default(),
            additional_ips: ips.map(|ip| PodIp { ip }).collect(),
        },
        linux: LinuxPodSandboxStatus {
            namespaces: r.config.linux.security_context.namespace_options.clone(),
        },
        labels: r.config.labels.clone(),
        annotations: r.config.annotations.clone(),
        runtime_handler: r.handler.clone(),
    }
}

pub(super) fn view(s: &Sandbox) -> PodSandbox {
    let st = status(s);
    PodSandbox {
        id: st.id,
        metadata: st.metadata,
        state: st.state,
        created_at: st.created_at,
        labels: st.labels,
        annotations: st.annotations,
        runtime_handler: st.runtime_handler,
    }
}

pub(super) fn save(dir: &Path, rec: &SandboxRecord) -> Result<()> {
    let bytes = serde_json::to_vec(rec).map_err(CriError::internal)?;
    write_atomic(&dir.join("sandbox.json"), &bytes, false)
        .map_err(|e| CriError::Internal(format!("write the sandbox's record: {e}")))
}

fn own_hostname() -> String {
    nix::unistd::gethostname().map(|h| h.to_string_lossy().into_owned()).unwrap_or_default()
}

impl Inner {
    pub async fn run_sandbox(self: &Arc<Self>, config: &PodSandboxConfig, handler: &str) -> Result<String> {
        if !matches!(handler, "" | "kelson") {
            return Err(CriError::InvalidArgument(format!(
                "no runtime for handler {handler:?} is configured"
            )));
        }
        let id = new_id();
        let ns = &config.linux.security_context.namespace_options;
        if ns.userns_options.as_ref().is_some_and(|u| u.mode == NamespaceMode::Pod) {
            return Err(CriError::InvalidArgument("user namespaces for pods are not supported yet".into()));
        }
        let host_net = ns.network == NamespaceMode::Node;
        let rec = SandboxRecord {
            version: VERSION,
            id: id.clone(),
            config: config.clone(),
            handler: handler.to_string(),
            created_at: now_ns(),
            hostname: match (config.hostname.as_str(), host_net) {
                ("", true) => own_hostname(),
                ("", false) => config.metadata.name.clone(),
                (h, _) => h.to_string(),
            },
            netns: if host_net { Default::default() } else { self.cfg.netns_dir.join(&id) },
            cgroup_parent: match config.linux.cgroup_parent.as_str() {
                "" => format!("{}/{id}", self.cfg.cgroup_root),
                p => p.to_string(),
            },
            ..Default::default()
        };
        let dir = self.cfg.root.join("sandboxes").join(&id);
        match self.set_up(&dir, rec.clone()).await {
            Ok(sb) => {
                self.sandboxes.lock().insert(id.clone(), sb);
                self.announce(&id, &id, ContainerEventType::Created);
                self.announce(&id, &id, ContainerEventType::Started);
                Ok(id)
            }
            Err(e) => {
                self.undo(&dir, &rec).await;
                Err(e)
            }
        }
    }

    async fn set_up(self: &Arc<Self>, dir: &Path, mut rec: SandboxRecord) -> Result<Arc<Sandbox>> {
        let ns = rec.config.linux.security_context.namespace_options.clone();
        let host_net = rec.netns.as_os_str().is_empty();
        let shim_config = ShimConfig {
            version: shim::protocol::VERSION,
            sandbox_id: rec.id.clone(),
            netns: rec.netns.display().to_string(),
            host_ipc: ns.ipc == NamespaceMode::Node,
            hostname: if host_net { String::new() } else { rec.hostname.clone() },
            shared_pid: ns.pid == NamespaceMode::Pod,
            sysctls: rec.config.linux.sysctls.clone(),
        };
        let (d, r, host_ipc) = (dir.to_path_buf(), rec.clone(), shim_config.host_ipc);
        blocking(move || {
            let io = |what: &'static str| move |e: std::io::Error| CriError::Internal(format!("{what}: {e}"));
            std::fs::create_dir(&d).map_err(io("make the sandbox's directory"))?;
            save(&d, &r)?;
            let cfg = serde_json::to_vec(&shim_config).map_err(CriError::internal)?;
            std::fs::write(d.join(CONFIG), cfg).map_err(io("write the shim's config"))?;
            if !r.netns.as_os_str().is_empty() {
                netns::create(&r.netns).map_err(io("make the pod's network namespace"))?;
            }
            if !host_ipc {
                let shm = d.join("shm");
                std::fs::create_dir(&shm).map_err(io("make the pod's shm directory"))?;
                let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
                mount(Some("shm"), &shm, Some("tmpfs"), flags, Some("mode=1777,size=65536k"))
                    .map_err(|e| CriError::Internal(format!("mount the pod's shm: {e}")))?;
            }
            Ok(())
        })
        .await?;
        let shim = async {
            shim_client::spawn(&self.cfg.shim, dir).await?;
            Shim::connect(dir, self.watcher(&rec.id)).await
        };
        let network = async {
            match host_net {
                true => Ok(Vec::new()),
                false => self.cfg.network.setup(&net_request(&rec)).await,
            }
        };
        let (shim, ips) = tokio::join!(shim, network);
        let shim = shim.map_err(from_shim)?;
        let ips = ips.map_err(|e| {
            CriError::Internal(format!(
                "failed to set up the network of pod {}: {e}",
                rec.config.metadata.name
            ))
        })?;
        rec.ips = ips.iter().map(|ip| ip.to_string()).collect();
        rec.complete = true;
        files::write(dir, &rec.config, &rec.hostname, &rec.ips, host_net)
            .map_err(|e| CriError::Internal(format!("write the pod's files: {e}")))?;
        save(dir, &rec)?;
        Ok(Arc::new(Sandbox {
            dir: dir.to_path_buf(),
            rec: Mutex::new(rec),
            shim: Mutex::new(Some(Arc::new(shim))),
            op: Default::default(),
        }))
    }

    /// After a set-up that failed half-way.
    async fn undo(&self, dir: &Path, rec: &SandboxRecord) {
        if let Ok(shim) = Shim::connect(dir, |_| ()).await {
            let _ = shim.call(Request::Shutdown).await;
        }
        if !rec.netns.as_os_str().is_empty() {
            if let Err(e) = self.cfg.network.teardown(&net_request(rec)).await {
                tracing::warn!(sandbox = %rec.id, error = %e, "network teardown after a failed set-up failed");
            }
            let _ = netns::remove(&rec.netns);
        }
        let _ = snapshots::unmount(&dir.join("shm"));
        if let Err(e) = remove_dir(dir) {
            tracing::warn!(path = %dir.display(), error = %e, "could not remove a failed sandbox");
        }
    }

    pub async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let Ok(sb) = self.sandbox(id) else { return Ok(()) };
        let _one = sb.op.lock().await;
        if sb.rec.lock().stopped {
            return Ok(());
        }
        let shim = sb.shim.lock().clone();
        if let Some(shim) = shim.filter(|s| s.alive()) {
            let limit = std::time::Duration::from_secs(30);
            match tokio::time::timeout(limit, shim.call(Request::Shutdown)).await {
                Ok(Ok(_)) => {}
                Ok(Err(e)) => {
                    tracing::warn!(sandbox = id, error = %e, "the pod's shim ended before its answer")
                }
                Err(_) => {
                    return Err(CriError::DeadlineExceeded(format!(
                        "containers of pod sandbox {id} don't end"
                    )));
                }
            }
            for c in self.containers_of(id).iter().filter(|c| c.state() == ContainerState::Running) {
                c.wait_exit().await;
            }
        }
        let rec = sb.rec.lock().clone();
        if !rec.netns.as_os_str().is_empty() {
            let torn = self.cfg.network.teardown(&net_request(&rec)).await;
            torn.map_err(|e| {
                CriError::Internal(format!("failed to take down the network of pod sandbox {id}: {e}"))
            })?;
        }
        let dir = sb.dir.clone();
        blocking(move || {
            netns::remove(&rec.netns)
                .map_err(|e| CriError::Internal(format!("remove the network namespace: {e}")))?;
            snapshots::unmount(&dir.join("shm")).map_err(|e| CriError::Internal(format!("unmount shm: {e}")))
        })
        .await?;
        *sb.shim.lock() = None;
        sb.rec.lock().stopped = true;
        save(&sb.dir, &sb.rec.lock().clone())?;
        self.announce(id, id, ContainerEventType::Stopped);
        Ok(())
    }

    pub async fn remove_sandbox(self: &Arc<Self>, id: &str) -> Result<()> {
        let Ok(sb) = self.sandbox(id) else { return Ok(()) };
        self.stop_sandbox(id).await?;
        for c in self.containers_of(id) {
            self.remove_container(&c.rec.id).await?;
        }
        let _one = sb.op.lock().await;
        let (inner, dir) = (self.clone(), sb.dir.clone());
        let parent = sb.rec.lock().cgroup_parent.clone();
        let own_parent = sb.rec.lock().config.linux.cgroup_parent.is_empty();
        blocking(move || {
            // Only what we made: a kubelet's pod groups are the kubelet's.
            if own_parent {
                inner.remove_cgroup(&parent);
            }
            remove_dir(&dir).map_err(|e| CriError::Internal(format!("remove {}: {e}", dir.display())))
        })
        .await?;
        self.announce(id, id, ContainerEventType::Deleted);
        self.sandboxes.lock().remove(id);
        self.cpu.lock().remove(id);
        Ok(())
    }
}
