//! The runtime half of the fake runtime.

use super::{FakeContainer, FakeRuntime, FakeSandbox};
use crate::*;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{mpsc, oneshot};

fn no_container(id: &str) -> CriError {
    CriError::NotFound(format!("container {id:?}"))
}

fn no_sandbox(id: &str) -> CriError {
    CriError::NotFound(format!("pod sandbox {id:?}"))
}

fn view(c: &FakeContainer) -> Container {
    let s = &c.status;
    Container {
        id: s.id.clone(),
        pod_sandbox_id: s.pod_sandbox_id.clone(),
        metadata: s.metadata.clone(),
        image: s.image.clone(),
        image_ref: s.image_ref.clone(),
        image_id: s.image_id.clone(),
        state: s.state,
        created_at: s.created_at,
        labels: s.labels.clone(),
        annotations: s.annotations.clone(),
    }
}

fn sandbox_view(s: &FakeSandbox) -> PodSandbox {
    let s = &s.status;
    PodSandbox {
        id: s.id.clone(),
        metadata: s.metadata.clone(),
        state: s.state,
        created_at: s.created_at,
        labels: s.labels.clone(),
        annotations: s.annotations.clone(),
        runtime_handler: s.runtime_handler.clone(),
    }
}

impl FakeRuntime {
    fn exec_result(&self, id: &str, cmd: &[String]) -> Result<ExecSyncResponse> {
        let handler = {
            let mut s = self.lock();
            let c = s.containers.get(id).ok_or_else(|| no_container(id))?;
            if c.status.state != ContainerState::Running {
                return Err(CriError::FailedPrecondition(format!("container {id} is not running")));
            }
            let name = c.config.metadata.name.clone();
            s.calls.push(format!("exec {name} {}", cmd.join(" ")));
            s.exec.clone().map(|h| (h, name))
        };
        match handler {
            Some((h, name)) => h(&name, cmd),
            None => Ok(ExecSyncResponse::default()),
        }
    }

    fn container_stats_of(&self, c: &FakeContainer, now: i64) -> ContainerStats {
        ContainerStats {
            attributes: ContainerAttributes {
                id: c.status.id.clone(),
                metadata: c.status.metadata.clone(),
                labels: c.status.labels.clone(),
                annotations: c.status.annotations.clone(),
                pod_sandbox_id: c.status.pod_sandbox_id.clone(),
            },
            cpu: CpuUsage { timestamp: now, usage_core_nano_seconds: Some(0), usage_nano_cores: Some(0) },
            memory: MemoryUsage { timestamp: now, working_set_bytes: Some(1 << 20), ..Default::default() },
            ..Default::default()
        }
    }
}

#[async_trait]
impl RuntimeService for FakeRuntime {
    async fn version(&self) -> Result<VersionResponse> {
        Ok(VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "fake".into(),
            runtime_version: "0.1.0".into(),
            runtime_api_version: "v1".into(),
        })
    }

    async fn status(&self) -> Result<StatusResponse> {
        let ready = |t: &str| RuntimeCondition { r#type: t.into(), status: true, ..Default::default() };
        Ok(StatusResponse {
            conditions: vec![ready("RuntimeReady"), ready("NetworkReady")],
            ..Default::default()
        })
    }

    async fn update_runtime_config(&self, _pod_cidr: &str) -> Result<()> {
        Ok(())
    }

    async fn run_pod_sandbox(&self, config: &PodSandboxConfig, runtime_handler: &str) -> Result<String> {
        let (id, events) = {
            let mut s = self.lock();
            s.calls.push(format!("run_pod_sandbox {}", config.metadata.name));
            let id = s.new_id();
            let n = s.next;
            let status = PodSandboxStatus {
                id: id.clone(),
                metadata: config.metadata.clone(),
                state: PodSandboxState::Ready,
                created_at: s.tick(),
                network: PodSandboxNetworkStatus {
                    ip: format!("10.88.{}.{}", n / 250 % 256, n % 250 + 2),
                    additional_ips: Vec::new(),
                },
                linux: LinuxPodSandboxStatus {
                    namespaces: config.linux.security_context.namespace_options.clone(),
                },
                labels: config.labels.clone(),
                annotations: config.annotations.clone(),
                runtime_handler: runtime_handler.to_string(),
            };
            s.sandboxes.insert(id.clone(), FakeSandbox { config: config.clone(), status });
            let ev = [ContainerEventType::Created, ContainerEventType::Started].map(|t| s.event(&id, t));
            (id, ev)
        };
        events.into_iter().for_each(|e| self.send(e));
        Ok(id)
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        self.lock().calls.push(format!("stop_pod_sandbox {id}"));
        let ready = self.lock().sandboxes.get(id).is_some_and(|s| s.status.state == PodSandboxState::Ready);
        if ready {
            self.kill_sandbox(id);
        }
        Ok(())
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        self.stop_pod_sandbox(id).await?;
        let event = {
            let mut s = self.lock();
            s.calls.push(format!("remove_pod_sandbox {id}"));
            let event = s.event(id, ContainerEventType::Deleted);
            s.containers.retain(|_, c| c.status.pod_sandbox_id != id);
            s.sandboxes.remove(id).and(event)
        };
        self.send(event);
        Ok(())
    }

    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatusResponse> {
        let s = self.lock();
        let sb = s.sandboxes.get(id).ok_or_else(|| no_sandbox(id))?;
        Ok(PodSandboxStatusResponse {
            status: sb.status.clone(),
            containers_statuses: s.statuses_of(id),
            timestamp: s.now,
            info: StringMap::new(),
        })
    }

    async fn list_pod_sandbox(&self, filter: Option<&PodSandboxFilter>) -> Result<Vec<PodSandbox>> {
        let s = self.lock();
        let all = s.sandboxes.values().map(sandbox_view);
        Ok(all.filter(|x| filter.is_none_or(|f| f.matches(x))).collect())
    }

    async fn create_container(
        &self,
        pod_sandbox_id: &str,
        config: &ContainerConfig,
        sandbox_config: &PodSandboxConfig,
    ) -> Result<String> {
        let (id, event) = {
            let mut s = self.lock();
            s.calls.push(format!("create_container {}", config.metadata.name));
            if !s.sandboxes.contains_key(pod_sandbox_id) {
                return Err(no_sandbox(pod_sandbox_id));
            }
            let image = s.find_image(&config.image.image).cloned();
            let image = image.ok_or_else(|| CriError::NotFound(format!("image {:?}", config.image.image)))?;
            let id = s.new_id();
            let log_path = match config.log_path.as_str() {
                "" => String::new(),
                p => format!("{}/{p}", sandbox_config.log_directory),
            };
            let status = ContainerStatus {
                id: id.clone(),
                metadata: config.metadata.clone(),
                state: ContainerState::Created,
                created_at: s.tick(),
                image: config.image.clone(),
                image_ref: image.id.clone(),
                image_id: image.id.clone(),
                labels: config.labels.clone(),
                annotations: config.annotations.clone(),
                mounts: config.mounts.clone(),
                log_path,
                resources: Some(config.linux.resources.clone()),
                stop_signal: config.stop_signal.clone(),
                pod_sandbox_id: pod_sandbox_id.to_string(),
                ..Default::default()
            };
            s.containers.insert(id.clone(), FakeContainer { config: config.clone(), status });
            let event = s.event(&id, ContainerEventType::Created);
            (id, event)
        };
        self.send(event);
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        let event = {
            let mut s = self.lock();
            let name = s.containers.get(id).ok_or_else(|| no_container(id))?.config.metadata.name.clone();
            s.calls.push(format!("start_container {name}"));
            if let Some(e) = s.start_errors.get(&name).cloned() {
                s.finish(id, 128, "StartError");
                if let Some(c) = s.containers.get_mut(id) {
                    c.status.message = e.to_string();
                }
                return Err(e);
            }
            let now = s.tick();
            let pid = 1000 + i32::try_from(s.next % 30_000).unwrap_or(0);
            let c = s.containers.get_mut(id).ok_or_else(|| no_container(id))?;
            if c.status.state != ContainerState::Created {
                return Err(CriError::FailedPrecondition(format!("container {id} was started before")));
            }
            c.status.state = ContainerState::Running;
            c.status.started_at = now;
            c.status.pid = pid;
            s.event(id, ContainerEventType::Started)
        };
        self.send(event);
        Ok(())
    }

    async fn stop_container(&self, id: &str, timeout: i64) -> Result<()> {
        let code = {
            let mut s = self.lock();
            let Some(c) = s.containers.get(id) else { return Ok(()) };
            let name = c.config.metadata.name.clone();
            let running = c.status.state == ContainerState::Running;
            s.calls.push(format!("stop_container {name} {timeout}"));
            let hard = timeout <= 0 || s.stubborn.contains(&name);
            if !running {
                return Ok(());
            }
            if hard { 137 } else { 0 }
        };
        self.exit_container(id, code, "");
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        let event = {
            let mut s = self.lock();
            let Some(name) = s.containers.get(id).map(|c| c.config.metadata.name.clone()) else {
                return Ok(());
            };
            s.calls.push(format!("remove_container {name}"));
            let event = s.event(id, ContainerEventType::Deleted);
            s.containers.remove(id);
            event
        };
        self.send(event);
        Ok(())
    }

    async fn list_containers(&self, filter: Option<&ContainerFilter>) -> Result<Vec<Container>> {
        let s = self.lock();
        Ok(s.containers.values().map(view).filter(|x| filter.is_none_or(|f| f.matches(x))).collect())
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        self.lock().containers.get(id).map(|c| c.status.clone()).ok_or_else(|| no_container(id))
    }

    async fn update_container_resources(&self, id: &str, resources: &LinuxContainerResources) -> Result<()> {
        let mut s = self.lock();
        let c = s.containers.get_mut(id).ok_or_else(|| no_container(id))?;
        c.status.resources = Some(resources.clone());
        let call = format!("update_container_resources {}", c.config.metadata.name);
        s.calls.push(call);
        Ok(())
    }

    async fn reopen_container_log(&self, id: &str) -> Result<()> {
        let mut s = self.lock();
        let call = s.containers.get(id).map(|c| format!("reopen_container_log {}", c.config.metadata.name));
        s.calls.push(call.ok_or_else(|| no_container(id))?);
        Ok(())
    }

    async fn exec_sync(&self, id: &str, cmd: &[String], _timeout: i64) -> Result<ExecSyncResponse> {
        self.exec_result(id, cmd)
    }

    async fn exec(&self, req: &ExecRequest) -> Result<ExecStream> {
        let r = self.exec_result(&req.container_id, &req.cmd)?;
        let (tx, exit) = oneshot::channel();
        let _ = tx.send(Ok(r.exit_code));
        Ok(ExecStream {
            stdin: req.stdin.then(|| Box::new(tokio::io::sink()) as BoxWrite),
            stdout: req.stdout.then(|| Box::new(std::io::Cursor::new(r.stdout)) as BoxRead),
            stderr: req.stderr.then(|| Box::new(std::io::Cursor::new(r.stderr)) as BoxRead),
            resize: mpsc::channel(8).0,
            exit,
        })
    }

    async fn attach(&self, req: &AttachRequest) -> Result<ExecStream> {
        let exec = ExecRequest {
            container_id: req.container_id.clone(),
            cmd: vec!["attach".into()],
            tty: req.tty,
            stdin: req.stdin,
            stdout: req.stdout,
            stderr: req.stderr,
        };
        self.exec(&exec).await
    }

    /// An echo: what is written comes back.
    async fn port_forward(&self, pod_sandbox_id: &str, port: u16) -> Result<BoxDuplex> {
        let mut s = self.lock();
        s.calls.push(format!("port_forward {port}"));
        if !s.sandboxes.contains_key(pod_sandbox_id) {
            return Err(no_sandbox(pod_sandbox_id));
        }
        let (a, b) = tokio::io::simplex(64 * 1024);
        Ok(Box::new(tokio::io::join(a, b)))
    }

    async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        let s = self.lock();
        let c = s.containers.get(id).ok_or_else(|| no_container(id))?;
        Ok(self.container_stats_of(c, s.now))
    }

    async fn list_container_stats(
        &self,
        filter: Option<&ContainerStatsFilter>,
    ) -> Result<Vec<ContainerStats>> {
        let s = self.lock();
        let wanted = |c: &&FakeContainer| {
            c.status.state == ContainerState::Running
                && filter.is_none_or(|f| {
                    c.status.id.starts_with(&f.id)
                        && c.status.pod_sandbox_id.starts_with(&f.pod_sandbox_id)
                        && f.label_selector.iter().all(|(k, v)| c.status.labels.get(k) == Some(v))
                })
        };
        Ok(s.containers.values().filter(wanted).map(|c| self.container_stats_of(c, s.now)).collect())
    }

    async fn pod_sandbox_stats(&self, id: &str) -> Result<PodSandboxStats> {
        let s = self.lock();
        let sb = s.sandboxes.get(id).ok_or_else(|| no_sandbox(id))?;
        let of_pod = s.containers.values().filter(|c| c.status.pod_sandbox_id == id);
        Ok(PodSandboxStats {
            attributes: PodSandboxAttributes {
                id: id.to_string(),
                metadata: sb.status.metadata.clone(),
                labels: sb.status.labels.clone(),
                annotations: sb.status.annotations.clone(),
            },
            containers: of_pod.map(|c| self.container_stats_of(c, s.now)).collect(),
            ..Default::default()
        })
    }

    async fn list_pod_sandbox_stats(
        &self,
        filter: Option<&PodSandboxStatsFilter>,
    ) -> Result<Vec<PodSandboxStats>> {
        let ids: Vec<String> = {
            let s = self.lock();
            let wanted = |x: &&FakeSandbox| {
                filter.is_none_or(|f| {
                    x.status.id.starts_with(&f.id)
                        && f.label_selector.iter().all(|(k, v)| x.status.labels.get(k) == Some(v))
                })
            };
            s.sandboxes.values().filter(wanted).map(|x| x.status.id.clone()).collect()
        };
        let mut out = Vec::with_capacity(ids.len());
        for id in ids {
            out.push(self.pod_sandbox_stats(&id).await?);
        }
        Ok(out)
    }

    async fn container_events(&self) -> Result<BoxStream<'static, ContainerEventResponse>> {
        let rx = self.events.subscribe();
        Ok(futures::stream::unfold(rx, |mut rx| async move { rx.recv().await.ok().map(|e| (e, rx)) }).boxed())
    }
}
