//! An in-memory runtime for tests: sandboxes and containers are records, time is a counter the test may move.
//! A test scripts it: [`FakeRuntime::exit_container`], [`FakeRuntime::fail_pull`], [`FakeRuntime::on_exec`], and reads
//! [`FakeRuntime::calls`]. Spawns nothing.

mod images;
mod runtime;

use crate::*;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::broadcast;

pub type ExecHandler = Arc<dyn Fn(&str, &[String]) -> Result<ExecSyncResponse> + Send + Sync>;

#[derive(Clone, Debug)]
pub struct FakeSandbox {
    pub config: PodSandboxConfig,
    pub status: PodSandboxStatus,
}

#[derive(Clone, Debug)]
pub struct FakeContainer {
    pub config: ContainerConfig,
    pub status: ContainerStatus,
}

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<String, FakeSandbox>,
    containers: BTreeMap<String, FakeContainer>,
    images: BTreeMap<String, Image>,
    pull_errors: HashMap<String, CriError>,
    start_errors: HashMap<String, CriError>,
    calls: Vec<String>,
    exec: Option<ExecHandler>,
    /// Containers with these names ignore the stop signal until the timeout.
    stubborn: Vec<String>,
    next: u64,
    now: i64,
}

/// Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct FakeRuntime {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<ContainerEventResponse>,
}

impl Default for FakeRuntime {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeRuntime {
    pub fn new() -> Self {
        let state = State { now: 1_700_000_000_000_000_000, ..Default::default() };
        FakeRuntime { state: Arc::new(Mutex::new(state)), events: broadcast::channel(1024).0 }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Every call so far: `start_container <name>`, `pull_image <image>`, …
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    pub fn clear_calls(&self) {
        self.lock().calls.clear();
    }

    /// Makes an image present.
    pub fn add_image(&self, name: &str) {
        self.lock().add_image(name);
    }

    pub fn fail_pull(&self, image: &str, error: CriError) {
        self.lock().pull_errors.insert(image.to_string(), error);
    }

    pub fn allow_pull(&self, image: &str) {
        self.lock().pull_errors.remove(image);
    }

    /// Starting a container of this name fails from now on.
    pub fn fail_start(&self, container_name: &str, error: CriError) {
        self.lock().start_errors.insert(container_name.to_string(), error);
    }

    pub fn on_exec(&self, f: impl Fn(&str, &[String]) -> Result<ExecSyncResponse> + Send + Sync + 'static) {
        self.lock().exec = Some(Arc::new(f));
    }

    /// Containers of this name ignore the stop signal and end with 137.
    pub fn stubborn(&self, container_name: &str) {
        self.lock().stubborn.push(container_name.to_string());
    }

    pub fn sandboxes(&self) -> Vec<FakeSandbox> {
        self.lock().sandboxes.values().cloned().collect()
    }

    pub fn containers(&self) -> Vec<FakeContainer> {
        self.lock().containers.values().cloned().collect()
    }

    /// The newest container with that name.
    pub fn container_named(&self, name: &str) -> Option<FakeContainer> {
        let s = self.lock();
        s.containers
            .values()
            .filter(|c| c.config.metadata.name == name)
            .max_by_key(|c| c.status.created_at)
            .cloned()
    }

    /// Moves the runtime's clock.
    pub fn advance(&self, d: std::time::Duration) {
        self.lock().now += i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
    }

    /// Lets a running container end, as if its process had. `reason` empty: Completed or Error by the code.
    pub fn exit_container(&self, id: &str, exit_code: i32, reason: &str) {
        let event = {
            let mut s = self.lock();
            s.finish(id, exit_code, reason).then(|| s.event(id, ContainerEventType::Stopped))
        };
        self.send(event.flatten());
    }

    /// Lets the sandbox itself die (its network is gone), with all its containers.
    pub fn kill_sandbox(&self, id: &str) {
        let events: Vec<_> = {
            let mut s = self.lock();
            let ids = s.running_in(id);
            if let Some(sb) = s.sandboxes.get_mut(id) {
                sb.status.state = PodSandboxState::NotReady;
            }
            for c in &ids {
                s.finish(c, 137, "");
            }
            ids.iter()
                .map(String::as_str)
                .chain([id])
                .filter_map(|i| s.event(i, ContainerEventType::Stopped))
                .collect()
        };
        events.into_iter().for_each(|e| self.send(Some(e)));
    }

    fn send(&self, event: Option<ContainerEventResponse>) {
        if let Some(e) = event {
            let _ = self.events.send(e);
        }
    }
}

impl State {
    fn tick(&mut self) -> i64 {
        self.now += 1_000;
        self.now
    }

    fn new_id(&mut self) -> String {
        self.next += 1;
        format!("{:064x}", self.next)
    }

    fn add_image(&mut self, name: &str) -> String {
        if let Some(i) = self.find_image(name) {
            return i.id.clone();
        }
        let id = format!("sha256:{}", self.new_id());
        let img = Image {
            id: id.clone(),
            repo_tags: vec![name.to_string()],
            size: 1 << 20,
            spec: ImageSpec::new(name),
            ..Default::default()
        };
        self.images.insert(id.clone(), img);
        id
    }

    fn find_image(&self, name: &str) -> Option<&Image> {
        self.images
            .values()
            .find(|i| i.id == name || i.repo_tags.iter().chain(&i.repo_digests).any(|t| t == name))
    }

    fn running_in(&self, sandbox: &str) -> Vec<String> {
        let it = self.containers.values();
        it.filter(|c| c.status.pod_sandbox_id == sandbox && c.status.state == ContainerState::Running)
            .map(|c| c.status.id.clone())
            .collect()
    }

    fn finish(&mut self, id: &str, exit_code: i32, reason: &str) -> bool {
        let now = self.tick();
        let Some(c) = self.containers.get_mut(id) else { return false };
        if c.status.state == ContainerState::Exited {
            return false;
        }
        let default = if exit_code == 0 { "Completed" } else { "Error" };
        c.status.state = ContainerState::Exited;
        c.status.exit_code = exit_code;
        c.status.finished_at = now;
        c.status.reason = if reason.is_empty() { default.into() } else { reason.into() };
        c.status.pid = 0;
        true
    }

    /// The event about a container or sandbox, with the state of its whole pod.
    fn event(&self, id: &str, t: ContainerEventType) -> Option<ContainerEventResponse> {
        let sandbox = match self.containers.get(id) {
            Some(c) => c.status.pod_sandbox_id.as_str(),
            None => id,
        };
        Some(ContainerEventResponse {
            container_id: id.to_string(),
            container_event_type: t,
            created_at: self.now,
            pod_sandbox_status: self.sandboxes.get(sandbox).map(|s| s.status.clone()),
            containers_statuses: self.statuses_of(sandbox),
        })
    }

    fn statuses_of(&self, sandbox: &str) -> Vec<ContainerStatus> {
        let it = self.containers.values();
        it.filter(|c| c.status.pod_sandbox_id == sandbox).map(|c| c.status.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;

    #[tokio::test]
    async fn a_pod_lives_and_dies() {
        let rt = FakeRuntime::new();
        let mut events = rt.container_events().await.unwrap();
        let sc = PodSandboxConfig::default();
        let sb = rt.run_pod_sandbox(&sc, "").await.unwrap();
        rt.pull_image(&ImageSpec::new("busybox:1"), None, None).await.unwrap();
        let cfg = ContainerConfig {
            metadata: ContainerMetadata { name: "a".into(), attempt: 0 },
            image: ImageSpec::new("busybox:1"),
            ..Default::default()
        };
        let c = rt.create_container(&sb, &cfg, &sc).await.unwrap();
        rt.start_container(&c).await.unwrap();
        assert_eq!(rt.container_status(&c).await.unwrap().state, ContainerState::Running);
        rt.exit_container(&c, 3, "");
        let st = rt.container_status(&c).await.unwrap();
        assert_eq!((st.exit_code, st.reason.as_str()), (3, "Error"));
        rt.stop_pod_sandbox(&sb).await.unwrap();
        rt.remove_pod_sandbox(&sb).await.unwrap();
        assert!(rt.containers().is_empty() && rt.sandboxes().is_empty());
        let mut kinds = Vec::new();
        while kinds.len() < 5 {
            kinds.push(events.next().await.unwrap().container_event_type);
        }
        use ContainerEventType::*;
        assert_eq!(kinds, [Created, Started, Created, Started, Stopped]);
    }

    #[tokio::test]
    async fn scripted_failures() {
        let rt = FakeRuntime::new();
        let e = CriError::pull(PullReason::ErrImagePull, "no such image");
        rt.fail_pull("x", e.clone());
        assert_eq!(rt.pull_image(&ImageSpec::new("x"), None, None).await, Err(e));
        let sb = rt.run_pod_sandbox(&PodSandboxConfig::default(), "").await.unwrap();
        let missing =
            rt.create_container(&sb, &ContainerConfig::default(), &PodSandboxConfig::default()).await;
        assert!(missing.unwrap_err().is_not_found());
    }
}
