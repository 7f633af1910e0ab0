//! The worker's actions as tasks: what each does, and what its result changes. At most one of each sort is under way.

use api::resource::PODS;
use client::DeleteOptions;
use cri::PodSandboxStatusResponse;
use tokio::task::JoinError;

use crate::containers::config::{MESSAGE_FILE, MESSAGE_POLICY, log_dir_name};
use crate::containers::resources::pod_limits;
use crate::hooks::container::{Retry, Start, StartError};
use crate::hooks::{self, StepError, container, sandbox, stop};
use crate::pod::{Kind, Pod};
use crate::pod_worker::plan::{Action, Failed, Step, over};
use crate::pod_worker::resize::Resized;
use crate::pod_worker::{Hold, Worker};
use crate::podstatus::{PodStatus, Waiting};
use crate::volumes::setup::Volumes;

pub enum Done {
    Prepared(Result<Volumes, StepError>),
    Sandbox(Result<PodSandboxStatusResponse, StepError>),
    SandboxStopped { id: String, result: Result<PodSandboxStatusResponse, String> },
    Removed { id: String },
    Started { name: String, result: Result<PodSandboxStatusResponse, StartError> },
    Killed { id: String, deadline: i64, result: Result<Option<PodSandboxStatusResponse>, String> },
    TornDown(Result<(), StepError>),
    Finished(Result<(), api::Status>),
    Reported { status: Box<PodStatus>, result: Result<(), api::Status> },
    Resized(Resized),
    Purged,
}

const CONFIG_RETRY: (i64, i64) = (2_000, 10_000);
const IMAGE_RETRY: (i64, i64) = (10_000, 300_000);
pub(super) const STEP_RETRY: (i64, i64) = (500, 60_000);
/// How long the first reason of a failed pull stays before it becomes a back-off.
const FIRST_REASON: i64 = 2_000;

impl Worker {
    pub(super) fn hold(&mut self, step: Step, (first, most): (i64, i64)) {
        let now = self.node.now_ms();
        let delay = match self.holds.get(&step) {
            // Long quiet: from the beginning.
            Some(h) if now - h.until < 2 * most => (h.delay * 2).min(most),
            _ => first,
        };
        self.holds.insert(step, Hold { until: now + delay, delay });
    }

    pub(crate) fn act(&mut self, a: Action) {
        match a {
            Action::Prepare => {
                self.busy.prepare = true;
                let cx = self.cx();
                self.ops.spawn(async move {
                    let r = hooks::set_up(&cx).await;
                    Done::Prepared(r.map(|()| cx.volumes.lock().clone()))
                });
            }
            Action::CreateSandbox { attempt } => {
                self.busy.sandbox = true;
                let cx = self.cx();
                self.ops.spawn(async move { Done::Sandbox(sandbox::create(&cx, attempt).await) });
            }
            Action::StopSandbox { id } => {
                self.busy.stop_sandbox = true;
                let runtime = self.node.runtime.clone();
                self.ops.spawn(async move {
                    let result = async {
                        runtime.stop_pod_sandbox(&id).await.map_err(|e| e.to_string())?;
                        runtime.pod_sandbox_status(&id).await.map_err(|e| e.to_string())
                    }
                    .await;
                    Done::SandboxStopped { id, result }
                });
            }
            Action::RemoveSandbox { id } => {
                self.sandboxes.retain(|s| s.id != id);
                self.containers.retain(|c| c.pod_sandbox_id != id);
                let runtime = self.node.runtime.clone();
                self.ops.spawn(async move {
                    if let Err(e) = runtime.remove_pod_sandbox(&id).await {
                        tracing::warn!(sandbox = %id, error = %e, "failed to remove an old sandbox");
                    }
                    Done::Removed { id }
                });
            }
            Action::RemoveContainer { id } => {
                self.remove_container(id);
            }
            Action::Start { kind, name, attempt, backoff_key } => {
                self.start(kind, name, attempt, &backoff_key)
            }
            Action::Kill { id, name, grace, message, renew } => {
                if renew {
                    self.sizes.renew.insert(name.clone());
                }
                self.kill(id, name, grace, message)
            }
            Action::Resize(next) => self.resize(next),
            Action::Waiting { name, reason, message } => {
                let w = Waiting { reason: reason.into(), message };
                if self.waiting.get(&name).is_none_or(|old| old.reason != w.reason) {
                    let about = self.node.about_container(&self.pod, &name);
                    let text = format!(
                        "Back-off restarting failed container {name} in pod {}_{}({})",
                        self.pod.metadata.name, self.pod.metadata.namespace, self.pod.metadata.uid
                    );
                    self.node.recorder.warning(about, "BackOff", text);
                }
                self.waiting_later.remove(&name);
                self.waiting.insert(name, w);
            }
            Action::TearDown => {
                self.busy.tear_down = true;
                let cx = self.cx();
                self.ops.spawn(async move { Done::TornDown(hooks::tear_down(&cx).await) });
            }
            Action::Finish => self.finish(),
            Action::Complete | Action::Fail { .. } | Action::Wake { .. } => {}
        }
    }

    fn remove_container(&mut self, id: String) {
        let Some(at) = self.containers.iter().position(|c| c.id == id) else { return };
        let c = self.containers.swap_remove(at);
        self.messages.remove(&id);
        let node = self.node.clone();
        let link = format!(
            "{}_{}_{}-{id}.log",
            self.pod.metadata.name, self.pod.metadata.namespace, c.metadata.name
        );
        self.ops.spawn(async move {
            if let Err(e) = node.runtime.remove_container(&id).await {
                tracing::warn!(container = %id, error = %e, "failed to remove an old container");
            }
            let _ = std::fs::remove_file(node.cfg.containers_log_dir.join(link));
            if !c.log_path.is_empty() {
                crate::logs::remove(std::path::Path::new(&c.log_path));
            }
            if let Some(f) = c.annotations.get(MESSAGE_FILE) {
                let _ = std::fs::remove_file(f);
            }
            Done::Removed { id }
        });
    }

    fn start(&mut self, kind: Kind, name: String, attempt: u32, backoff_key: &str) {
        let Some((_, c)) = self.pod.container(&name) else { return };
        let c = c.clone();
        let Some(sb) = self.ready_sandbox() else { return };
        let (sandbox_id, sandbox_attempt) = (sb.id.clone(), sb.metadata.attempt);
        let now = self.node.now_ms();
        if let Some(p) = crate::pod_worker::plan::newest(&self.containers, &name).filter(|p| over(p)) {
            self.backoffs.next(backoff_key, p.finished_at / 1_000_000, now);
        }
        self.busy.start = Some(name.clone());
        let target_id = (kind == Kind::Ephemeral && !c.target_container_name.is_empty()).then(|| {
            crate::pod_worker::plan::newest(&self.containers, &c.target_container_name)
                .map(|t| t.id.clone())
                .unwrap_or_default()
        });
        let (cx, pod_ips, volumes) = (self.cx(), self.pod_ips(), self.volumes.paths.clone());
        let cancel = self.start_cancel.clone();
        self.ops.spawn(async move {
            let s = Start {
                sandbox_id: &sandbox_id,
                sandbox_attempt,
                pod_ips: &pod_ips,
                volumes: &volumes,
                kind,
                container: &c,
                attempt,
                target_id,
                cancel: &cancel,
            };
            let result = Box::pin(container::start(&cx, &s)).await;
            Done::Started { name, result }
        });
    }

    fn kill(&mut self, id: String, name: String, grace: i64, message: String) {
        let now = self.node.now_ms();
        // Not later than the pod's own, which whole seconds of grace would round up past: the plan would take that for a
        // kill to be cut short, and preStop would be.
        let latest = self.stop.as_ref().map_or(i64::MAX, |s| s.deadline.max(now));
        let deadline = (now + grace * 1000).min(latest);
        let again = self.busy.kills.insert(id.clone(), deadline).is_some();
        let pod_ends = self.stop.is_some();
        let was_ready = self.status.is_true("Ready") || self.status.of(&name).is_some_and(|c| c.ready);
        let (cx, pod_ips) = (self.cx(), self.pod_ips());
        let sandbox = self.containers.iter().find(|c| c.id == id).map(|c| c.pod_sandbox_id.clone());
        self.ops.spawn(async move {
            let k = stop::Kill {
                id: &id,
                name: &name,
                grace_seconds: grace,
                message: &message,
                pod_ends,
                was_ready,
                pod_ips: &pod_ips,
                again,
            };
            let result = match (Box::pin(stop::stop(&cx, &k)).await, sandbox) {
                (Ok(()), Some(s)) => Ok(cx.node.runtime.pod_sandbox_status(&s).await.ok()),
                (Ok(()), None) => Ok(None),
                (Err(e), _) => Err(e),
            };
            Done::Killed { id, deadline, result }
        });
    }

    /// Nothing of the pod runs and its last status is written: the object may go.
    fn finish(&mut self) {
        if self.busy.finish || self.gone || !self.report.settled() {
            return;
        }
        self.busy.finish = true;
        let (client, pod) = (self.node.client.clone(), self.pod.clone());
        self.ops.spawn(async move {
            let m = &pod.metadata;
            let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::uid(&m.uid) };
            Done::Finished(client.delete_if_there(&PODS, &m.namespace, &m.name, &options).await)
        });
    }

    /// Removes what stayed for readers of a finished pod: containers, logs, directories.
    pub(crate) fn purge(&mut self) {
        self.busy.finish = true;
        let node = self.node.clone();
        let sandboxes: Vec<String> = self.sandboxes.iter().map(|s| s.id.clone()).collect();
        let links: Vec<String> = self
            .containers
            .iter()
            .map(|c| {
                format!(
                    "{}_{}_{}-{}.log",
                    self.pod.metadata.name, self.pod.metadata.namespace, c.metadata.name, c.id
                )
            })
            .collect();
        let pod = self.pod.clone();
        self.ops.spawn(async move {
            for id in sandboxes {
                if let Err(e) = node.runtime.remove_pod_sandbox(&id).await {
                    tracing::warn!(sandbox = %id, error = %e, "failed to remove a sandbox");
                }
            }
            for l in links {
                let _ = std::fs::remove_file(node.cfg.containers_log_dir.join(l));
            }
            remove_dirs(&node, &pod);
            Done::Purged
        });
    }

    pub(crate) fn done(&mut self, joined: Result<Done, JoinError>) {
        let done = match joined {
            Ok(d) => d,
            Err(e) => {
                tracing::error!(pod = %self.pod.key(), error = %e, "a step of a pod panicked, looking again");
                self.busy = crate::pod_worker::plan::Busy::default();
                let _ = self.me.try_send(crate::pod_worker::Msg::Relist);
                return;
            }
        };
        match done {
            Done::Prepared(Ok(v)) => {
                self.busy.prepare = false;
                self.holds.remove(&Step::Prepare);
                self.volumes = v;
                self.prepared = true;
                self.sizes.applied.get_or_insert_with(|| pod_limits(&self.pod));
            }
            Done::Prepared(Err(e)) => {
                self.busy.prepare = false;
                if self.prepared {
                    // Running containers keep what they have; a change that can't be shown is tried again.
                    self.volumes.refresh_at = Some(self.node.now_ms() + 10_000);
                } else {
                    self.hold(Step::Prepare, STEP_RETRY);
                }
                self.complain(&e);
            }
            Done::Sandbox(Ok(v)) => {
                self.busy.sandbox = false;
                self.holds.remove(&Step::Sandbox);
                self.apply_view(v);
            }
            Done::Sandbox(Err(e)) => {
                self.busy.sandbox = false;
                self.hold(Step::Sandbox, STEP_RETRY);
                self.complain(&e);
            }
            Done::SandboxStopped { id, result } => {
                self.busy.stop_sandbox = false;
                match result {
                    Ok(v) => {
                        self.holds.remove(&Step::StopSandbox);
                        self.apply_view(v);
                    }
                    Err(e) => {
                        tracing::warn!(sandbox = %id, error = %e, "failed to stop a sandbox");
                        self.hold(Step::StopSandbox, STEP_RETRY);
                        let _ = self.me.try_send(crate::pod_worker::Msg::Relist);
                    }
                }
            }
            Done::Started { name, result } => self.started(name, result),
            Done::Killed { id, deadline, result } => {
                if self.busy.kills.get(&id).is_some_and(|d| *d >= deadline) || result.is_ok() {
                    self.busy.kills.remove(&id);
                }
                match result {
                    Ok(Some(v)) => self.apply_view(v),
                    Ok(None) => {}
                    Err(e) => {
                        tracing::warn!(pod = %self.pod.key(), error = %e, "failed to stop a container");
                        let _ = self.me.try_send(crate::pod_worker::Msg::Relist);
                    }
                }
            }
            Done::TornDown(r) => {
                self.busy.tear_down = false;
                match r {
                    Ok(()) => self.torn_down = true,
                    Err(e) => {
                        tracing::warn!(pod = %self.pod.key(), error = %e, "failed to tear a pod down");
                        self.hold(Step::TearDown, STEP_RETRY);
                    }
                }
            }
            Done::Finished(r) => {
                self.busy.finish = false;
                if let Err(e) = r {
                    // A conflict means another pod has the name by now.
                    if e.is_conflict() {
                        self.gone = true;
                    } else {
                        tracing::warn!(pod = %self.pod.key(), error = %e, "failed to delete a finished pod");
                    }
                }
                // The watch tells when it is gone; until then it is asked for again.
                self.hold(Step::Finish, (1_000, 30_000));
            }
            Done::Reported { status, result } => self.reported(*status, result),
            Done::Removed { id } => tracing::debug!(id, "removed"),
            Done::Purged => self.finished = true,
            Done::Resized(r) => self.resized(r),
        }
    }

    fn started(&mut self, name: String, result: Result<PodSandboxStatusResponse, StartError>) {
        self.busy.start = None;
        self.sizes.renew.remove(&name);
        match result {
            Ok(v) => {
                self.holds.remove(&Step::Start(name.clone()));
                self.waiting.remove(&name);
                self.waiting_later.remove(&name);
                self.apply_view(v);
            }
            Err(e) => {
                self.waiting.insert(name.clone(), Waiting { reason: e.reason, message: e.message });
                if let Some(id) = e.kill {
                    let unhealthy = Failed { message: "FailedPostStartHook".into(), grace: None };
                    self.health.entry(id).or_default().failed = Some(unhealthy);
                }
                match e.retry {
                    Retry::Config => self.hold(Step::Start(name), CONFIG_RETRY),
                    Retry::Image => {
                        self.hold(Step::Start(name.clone()), IMAGE_RETRY);
                        if let Some((reason, message)) = e.later {
                            let at = self.node.now_ms() + FIRST_REASON;
                            self.waiting_later.insert(name, (at, Waiting { reason, message }));
                        }
                    }
                    Retry::Exit => {
                        // The view decides; the hold keeps a broken runtime from being asked without end, and the reason
                        // on show for as long as upstream's next look takes.
                        self.hold(Step::Start(name), (1_000, 1_000));
                        let _ = self.me.try_send(crate::pod_worker::Msg::Relist);
                    }
                }
            }
        }
    }

    fn complain(&self, e: &StepError) {
        tracing::warn!(pod = %self.pod.key(), reason = e.reason, error = %e, "a step of a pod failed");
        self.node.recorder.warning(self.node.about_pod(&self.pod), e.reason, e.message.clone());
    }

    /// Termination messages of what has ended, once per container.
    pub(crate) fn read_messages(&mut self) {
        for c in self.containers.iter().filter(|c| over(c)) {
            if self.messages.contains_key(&c.id) {
                continue;
            }
            let file = c.annotations.get(MESSAGE_FILE).map(std::path::Path::new);
            let mut text = file.map(|f| crate::logs::head(f, 4096)).unwrap_or_default();
            let fall_back = c.annotations.get(MESSAGE_POLICY).is_some_and(|p| p == "FallbackToLogsOnError");
            if text.is_empty() && fall_back && c.exit_code != 0 && !c.log_path.is_empty() {
                text = crate::logs::last_lines(std::path::Path::new(&c.log_path), 80, 2048);
            }
            self.messages.insert(c.id.clone(), text);
        }
        self.messages.retain(|id, _| self.containers.iter().any(|c| c.id == *id));
    }
}

/// The pod's directories on disk.
pub fn remove_dirs(node: &crate::node_ctx::Node, pod: &Pod) {
    if let Err(e) = crate::volumes::setup::tear_down(node, &pod.metadata.uid) {
        tracing::warn!(pod = %pod.key(), error = %e, "failed to clean a pod's volumes");
        return;
    }
    for dir in [node.cfg.pod_dir(&pod.metadata.uid), node.cfg.pods_log_dir.join(log_dir_name(pod))] {
        if let Err(e) = std::fs::remove_dir_all(&dir)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %dir.display(), error = %e, "failed to remove a pod's directory");
        }
    }
}
