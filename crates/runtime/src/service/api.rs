//! The runtime service: each call of the trait, handed to where it is done.

use super::*;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use shim::protocol::Request;

#[async_trait]
impl RuntimeService for EmbeddedRuntime {
    async fn version(&self) -> Result<VersionResponse> {
        Ok(VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "kelson".into(),
            runtime_version: env!("CARGO_PKG_VERSION").into(),
            runtime_api_version: "v1".into(),
        })
    }

    async fn status(&self) -> Result<StatusResponse> {
        let network = match self.inner.cfg.network.ready().await {
            Ok(()) => RuntimeCondition { r#type: "NetworkReady".into(), status: true, ..Default::default() },
            Err(message) => RuntimeCondition {
                r#type: "NetworkReady".into(),
                status: false,
                reason: "NetworkPluginNotReady".into(),
                message,
            },
        };
        Ok(StatusResponse {
            conditions: vec![
                RuntimeCondition { r#type: "RuntimeReady".into(), status: true, ..Default::default() },
                network,
            ],
            runtime_handlers: vec![RuntimeHandler {
                name: String::new(),
                features: RuntimeHandlerFeatures { recursive_read_only_mounts: true, user_namespaces: false },
            }],
            supplemental_groups_policy: true,
            info: StringMap::new(),
        })
    }

    async fn update_runtime_config(&self, _pod_cidr: &str) -> Result<()> {
        Ok(())
    }

    async fn run_pod_sandbox(&self, config: &PodSandboxConfig, runtime_handler: &str) -> Result<String> {
        self.inner.run_sandbox(config, runtime_handler).await
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        self.inner.stop_sandbox(id).await
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        self.inner.remove_sandbox(id).await
    }

    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatusResponse> {
        let sb = self.inner.sandbox(id)?;
        // Taken first: what changes while the rest is read must count as newer than this answer.
        let timestamp = now_ns();
        Ok(PodSandboxStatusResponse {
            status: pods::status(&sb),
            containers_statuses: self.inner.containers_of(id).iter().map(|c| containers::status(c)).collect(),
            timestamp,
            info: StringMap::new(),
        })
    }

    async fn list_pod_sandbox(&self, filter: Option<&PodSandboxFilter>) -> Result<Vec<PodSandbox>> {
        let all: Vec<_> = self.inner.sandboxes.lock().values().cloned().collect();
        Ok(all.iter().map(|s| pods::view(s)).filter(|v| filter.is_none_or(|f| f.matches(v))).collect())
    }

    async fn create_container(
        &self,
        pod_sandbox_id: &str,
        config: &ContainerConfig,
        _sandbox_config: &PodSandboxConfig,
    ) -> Result<String> {
        self.inner.create_container(pod_sandbox_id, config).await
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        self.inner.start_container(id).await
    }

    async fn stop_container(&self, id: &str, timeout: i64) -> Result<()> {
        self.inner.stop_container(id, timeout).await
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        self.inner.remove_container(id).await
    }

    async fn list_containers(&self, filter: Option<&ContainerFilter>) -> Result<Vec<cri::Container>> {
        let all: Vec<_> = self.inner.containers.lock().values().cloned().collect();
        Ok(all.iter().map(|c| containers::view(c)).filter(|v| filter.is_none_or(|f| f.matches(v))).collect())
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        Ok(containers::status(&*self.inner.container(id)?))
    }

    async fn update_container_resources(&self, id: &str, resources: &LinuxContainerResources) -> Result<()> {
        let (inner, id, resources) = (self.inner.clone(), id.to_string(), resources.clone());
        blocking(move || inner.update_resources(&id, &resources)).await
    }

    async fn reopen_container_log(&self, id: &str) -> Result<()> {
        let c = self.inner.container(id)?;
        let shim = self.inner.shim_of(&c.rec.sandbox_id)?;
        shim.call(Request::ReopenLog { id: id.to_string() }).await.map(drop).map_err(from_shim)
    }

    async fn exec_sync(&self, id: &str, cmd: &[String], timeout: i64) -> Result<ExecSyncResponse> {
        self.inner.exec_and_wait(id, cmd, timeout).await
    }

    async fn exec(&self, req: &ExecRequest) -> Result<ExecStream> {
        self.inner.exec_stream(req).await
    }

    async fn attach(&self, req: &AttachRequest) -> Result<ExecStream> {
        self.inner.attach_stream(req).await
    }

    async fn port_forward(&self, pod_sandbox_id: &str, port: u16) -> Result<BoxDuplex> {
        self.inner.forward(pod_sandbox_id, port).await
    }

    async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        let (inner, c) = (self.inner.clone(), self.inner.container(id)?);
        blocking(move || Ok(inner.container_stats_of(&c))).await
    }

    async fn list_container_stats(
        &self,
        filter: Option<&ContainerStatsFilter>,
    ) -> Result<Vec<ContainerStats>> {
        let (inner, f) = (self.inner.clone(), filter.cloned().unwrap_or_default());
        blocking(move || {
            let all: Vec<_> = inner.containers.lock().values().cloned().collect();
            let wanted = |c: &&Arc<Container>| {
                c.state() == ContainerState::Running
                    && c.rec.id.starts_with(&f.id)
                    && c.rec.sandbox_id.starts_with(&f.pod_sandbox_id)
                    && f.label_selector.iter().all(|(k, v)| c.rec.config.labels.get(k) == Some(v))
            };
            Ok(all.iter().filter(wanted).map(|c| inner.container_stats_of(c)).collect())
        })
        .await
    }

    async fn pod_sandbox_stats(&self, id: &str) -> Result<PodSandboxStats> {
        let (inner, s) = (self.inner.clone(), self.inner.sandbox(id)?);
        blocking(move || Ok(inner.sandbox_stats_of(&s))).await
    }

    async fn list_pod_sandbox_stats(
        &self,
        filter: Option<&PodSandboxStatsFilter>,
    ) -> Result<Vec<PodSandboxStats>> {
        let (inner, f) = (self.inner.clone(), filter.cloned().unwrap_or_default());
        blocking(move || {
            let all: Vec<_> = inner.sandboxes.lock().values().cloned().collect();
            let wanted = |s: &&Arc<Sandbox>| {
                let r = s.rec.lock();
                r.id.starts_with(&f.id)
                    && f.label_selector.iter().all(|(k, v)| r.config.labels.get(k) == Some(v))
            };
            Ok(all.iter().filter(wanted).map(|s| inner.sandbox_stats_of(s)).collect())
        })
        .await
    }

    async fn container_events(&self) -> Result<BoxStream<'static, ContainerEventResponse>> {
        let rx = self.inner.events.subscribe();
        Ok(futures::stream::unfold(rx, |mut rx| async move { rx.recv().await.ok().map(|e| (e, rx)) }).boxed())
    }
}

impl Inner {
    /// Writes the limits that are given; zero leaves a value as it is.
    fn update_resources(&self, id: &str, r: &LinuxContainerResources) -> Result<()> {
        let c = self.container(id)?;
        if c.state() != ContainerState::Running {
            return Err(CriError::FailedPrecondition(format!("container {id} is not running")));
        }
        for (path, value) in limit_files(&self.groups, &c.rec.cgroup, r) {
            std::fs::write(&path, &value)
                .map_err(|e| CriError::Internal(format!("write {value:?} to {}: {e}", path.display())))?;
        }
        let mut live = c.live.lock();
        let l = &mut live.resources;
        for (to, from) in [
            (&mut l.cpu_period, r.cpu_period),
            (&mut l.cpu_quota, r.cpu_quota),
            (&mut l.cpu_shares, r.cpu_shares),
            (&mut l.memory_limit_in_bytes, r.memory_limit_in_bytes),
        ] {
            if from != 0 {
                *to = from;
            }
        }
        Ok(())
    }
}

/// The weight of version 2 for the shares of version 1.
fn weight(shares: i64) -> i64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn limit_files(
    g: &Hierarchies,
    cgroup: &str,
    r: &LinuxContainerResources,
) -> Vec<(std::path::PathBuf, String)> {
    let mut out = Vec::new();
    let mut put = |controller: &str, file: &str, value: String| {
        if let Some(d) = g.dir(controller, cgroup) {
            out.push((d.join(file), value));
        }
    };
    let v2 = g.unified();
    let period = if r.cpu_period > 0 { r.cpu_period } else { 100_000 };
    match v2 {
        true => {
            if r.cpu_shares > 0 {
                put("cpu", "cpu.weight", weight(r.cpu_shares).to_string());
            }
            if r.cpu_quota != 0 {
                let q = if r.cpu_quota < 0 { "max".to_string() } else { r.cpu_quota.to_string() };
                put("cpu", "cpu.max", format!("{q} {period}"));
            }
            if r.memory_limit_in_bytes > 0 {
                put("memory", "memory.max", r.memory_limit_in_bytes.to_string());
            }
            r.unified.iter().for_each(|(k, v)| put("memory", k, v.clone()));
        }
        false => {
            if r.cpu_shares > 0 {
                put("cpu", "cpu.shares", r.cpu_shares.to_string());
            }
            if r.cpu_quota != 0 {
                put("cpu", "cpu.cfs_period_us", period.to_string());
                put("cpu", "cpu.cfs_quota_us", r.cpu_quota.to_string());
            }
            if r.memory_limit_in_bytes > 0 {
                put("memory", "memory.limit_in_bytes", r.memory_limit_in_bytes.to_string());
            }
        }
    }
    if r.pids_limit > 0 {
        put("pids", "pids.max", r.pids_limit.to_string());
    }
    if !r.cpuset_cpus.is_empty() {
        put("cpuset", "cpuset.cpus", r.cpuset_cpus.clone());
    }
    if !r.cpuset_mems.is_empty() {
        put("cpuset", "cpuset.mems", r.cpuset_mems.clone());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_by_version() {
        let r = LinuxContainerResources { cpu_shares: 1024, memory_limit_in_bytes: 5, ..Default::default() };
        let v2 = Hierarchies { v1: Vec::new(), v2: Some("/c".into()) };
        let want =
            [("/c/x/cpu.weight".into(), "39".to_string()), ("/c/x/memory.max".into(), "5".to_string())];
        assert_eq!(limit_files(&v2, "/x", &r), want);
        let v1 = Hierarchies {
            v1: vec![(vec!["memory".into()], "/m".into()), (vec!["cpu".into()], "/u".into())],
            v2: None,
        };
        let want = [
            ("/u/x/cpu.shares".into(), "1024".to_string()),
            ("/m/x/memory.limit_in_bytes".into(), "5".into()),
        ];
        assert_eq!(limit_files(&v1, "/x", &r), want);
    }
}
