//! One actor per pod. It owns what it knows of the pod, asks `plan` after every event what to do, runs that as tasks of
//! its own (`ops`), and writes the pod's status when it changed (`report`). It spawns: its operations, one task per
//! probe. It ends when the pod is gone and everything of it is cleaned up.

pub mod backoff;
mod ops;
pub mod plan;
mod report;
pub mod resize;
pub mod status;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cri::{
    ContainerEventResponse, ContainerState, ContainerStatus, PodSandboxFilter, PodSandboxState,
    PodSandboxStatus, PodSandboxStatusResponse,
};
use parking_lot::RwLock;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::containers::config::POD_UID;
use crate::containers::resources::pod_limits;
use crate::hooks::PodCx;
use crate::node_ctx::Node;
use crate::pod::{Kind, Pod};
use crate::podstatus::{PodStatus, Waiting};
use crate::probes::task::{ProbeKind, Task, Verdict};
use crate::refs::User;
use crate::volumes::setup::Volumes;
use backoff::Backoffs;
use ops::Done;
use plan::{Action, Busy, Failed, Health, Step, Stop, View};

/// What a worker is told.
#[derive(Debug)]
pub enum Msg {
    /// The newest state of the pod's object.
    Pod(Arc<Pod>),
    /// The object is gone from its source: end, and leave nothing behind.
    Gone,
    Runtime(Box<ContainerEventResponse>),
    /// Events may have been missed.
    Relist,
    Probe(Verdict),
    /// The API lost what it was told (a mirror was made anew).
    Resend,
    /// The kubelet fails the pod.
    Fail {
        reason: String,
        message: String,
        grace_seconds: i64,
    },
}

/// What others may read of a pod without asking its worker.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub pod: Arc<Pod>,
    pub status: PodStatus,
    pub sandbox_id: String,
    pub containers: Vec<ContainerStatus>,
}

#[derive(Clone)]
pub struct Handle {
    pub tx: mpsc::Sender<Msg>,
    pub snapshot: Arc<RwLock<Snapshot>>,
}

const QUEUE: usize = 256;

/// Starts the worker of a pod; `ended` is sent the uid when it has nothing more to do.
/// `refused`: why the node does not take the pod, which then fails without anything having run.
pub fn spawn(
    node: Arc<Node>,
    pod: Arc<Pod>,
    refused: Option<(String, String)>,
    ended: mpsc::Sender<String>,
) -> Handle {
    let (tx, rx) = mpsc::channel(QUEUE);
    let snapshot = Arc::new(RwLock::new(Snapshot {
        pod: pod.clone(),
        status: pod.status.clone(),
        ..Snapshot::default()
    }));
    let mut worker = Worker::new(node, pod.clone(), tx.clone(), snapshot.clone());
    if refused.is_some() {
        worker.begin_stop(0, refused, false);
    }
    let uid = pod.metadata.uid.clone();
    tokio::spawn(async move {
        // A panic ends this worker only; the manager starts a new one, which looks at what is there.
        if let Err(e) = tokio::spawn(worker.run(rx)).await {
            tracing::error!(uid, error = %e, "a pod worker panicked, starting it again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let _ = ended.send(uid).await;
    });
    Handle { tx, snapshot }
}

struct Hold {
    until: i64,
    delay: i64,
}

pub(crate) struct Worker {
    node: Arc<Node>,
    pod: Arc<Pod>,
    me: mpsc::Sender<Msg>,
    refs: Arc<Notify>,
    snapshot: Arc<RwLock<Snapshot>>,
    sandboxes: Vec<PodSandboxStatus>,
    containers: Vec<ContainerStatus>,
    /// Time of the newest view of a sandbox, so that an older event does not undo it.
    seen: HashMap<String, i64>,
    health: HashMap<String, Health>,
    probes: HashMap<(String, ProbeKind), AbortHandle>,
    waiting: HashMap<String, Waiting>,
    waiting_later: HashMap<String, (i64, Waiting)>,
    messages: HashMap<String, String>,
    backoffs: Backoffs,
    holds: HashMap<Step, Hold>,
    sizes: resize::Sizes,
    busy: Busy,
    volumes: Volumes,
    prepared: bool,
    /// The objects or the pod changed: volumes are written again.
    stale: bool,
    torn_down: bool,
    stop: Option<Stop>,
    gone: bool,
    finished: bool,
    ops: JoinSet<Done>,
    /// Cancelled when the pod has to end.
    start_cancel: CancellationToken,
    status: PodStatus,
    report: report::Report,
}

impl Worker {
    fn new(node: Arc<Node>, pod: Arc<Pod>, me: mpsc::Sender<Msg>, snapshot: Arc<RwLock<Snapshot>>) -> Self {
        let status = pod.status.clone();
        Self {
            report: report::Report::new(&pod),
            node,
            pod,
            me,
            refs: Arc::default(),
            snapshot,
            sandboxes: Vec::new(),
            containers: Vec::new(),
            seen: HashMap::new(),
            health: HashMap::new(),
            probes: HashMap::new(),
            waiting: HashMap::new(),
            waiting_later: HashMap::new(),
            messages: HashMap::new(),
            backoffs: Backoffs::default(),
            holds: HashMap::new(),
            sizes: resize::Sizes::default(),
            busy: Busy::default(),
            volumes: Volumes::default(),
            prepared: false,
            stale: false,
            torn_down: false,
            stop: None,
            gone: false,
            finished: false,
            ops: JoinSet::new(),
            start_cancel: CancellationToken::new(),
            status,
        }
    }

    async fn run(mut self, mut rx: mpsc::Receiver<Msg>) {
        self.relist().await;
        self.adopt();
        let mut wake = self.turn();
        while !self.finished {
            let at = wake.map_or(3_600_000, |w| w - self.node.now_ms());
            let pause = Duration::from_millis(u64::try_from(at.clamp(0, 3_600_000)).unwrap_or(0));
            let refs = self.refs.clone();
            tokio::select! {
                biased;
                Some(done) = self.ops.join_next(), if !self.ops.is_empty() => self.done(done),
                m = rx.recv() => match m {
                    Some(m) => {
                        self.take(m).await;
                        // Whatever else has come in meanwhile is looked at together.
                        while let Ok(m) = rx.try_recv() {
                            self.take(m).await;
                        }
                    }
                    None => return,
                },
                () = refs.notified() => self.refs_changed(),
                () = tokio::time::sleep(pause) => {}
            }
            wake = self.turn();
        }
        self.probes.values().for_each(AbortHandle::abort);
    }

    fn cx(&self) -> Arc<PodCx> {
        Arc::new(PodCx {
            node: self.node.clone(),
            pod: self.pod.clone(),
            user: User { uid: self.pod.metadata.uid.clone(), notify: self.refs.clone() },
            volumes: parking_lot::Mutex::default(),
            limits: self.sizes.applied.unwrap_or_else(|| pod_limits(&self.pod)),
        })
    }

    fn refs_changed(&mut self) {
        self.stale = true;
        self.holds.retain(|s, _| !matches!(s, Step::Start(_) | Step::Prepare));
    }

    async fn take(&mut self, m: Msg) {
        match m {
            Msg::Pod(p) => {
                let old = std::mem::replace(&mut self.pod, p);
                if old.metadata.labels != self.pod.metadata.labels
                    || old.metadata.annotations != self.pod.metadata.annotations
                {
                    self.stale = true;
                }
                if old.spec != self.pod.spec {
                    self.holds.retain(|s, _| !matches!(s, Step::Start(_) | Step::Resize));
                    self.sizes.generation = self.pod.metadata.generation;
                    // Resources are shown in volumes, too.
                    self.stale = true;
                }
                self.snapshot.write().pod = self.pod.clone();
                self.report.heed(&self.pod.status);
                self.note_deletion();
            }
            Msg::Gone => {
                self.gone = true;
                let grace = self.pod.grace_seconds();
                self.begin_stop(grace, None, false);
            }
            Msg::Runtime(e) => self.event(*e),
            Msg::Relist => self.relist().await,
            Msg::Probe(v) => self.verdict(&v),
            Msg::Resend => self.report.forget(),
            Msg::Fail { reason, message, grace_seconds } => {
                self.begin_stop(grace_seconds, Some((reason, message)), false)
            }
        }
    }

    /// What a restart of the daemon finds: started and ready containers stay so without waiting for a probe.
    fn adopt(&mut self) {
        for (_, c) in self.pod.all() {
            let (Some(st), Some(old)) =
                (plan::newest(&self.containers, &c.name), self.pod.status.of(&c.name))
            else {
                continue;
            };
            if st.state == ContainerState::Running && old.container_id.ends_with(&st.id) {
                let h = Health { started: old.started == Some(true), ready: old.ready, failed: None };
                self.health.insert(st.id.clone(), h);
            }
        }
        if self.pod.finished() && self.stop.is_none() {
            self.stop = Some(Stop { deadline: 0, grace_seconds: 0, failed: None, completed: true });
        }
        self.note_deletion();
    }

    fn note_deletion(&mut self) {
        if self.pod.deleting() {
            let grace = self.pod.grace_seconds();
            self.begin_stop(grace, None, false);
        }
    }

    /// Starts the end, or brings it nearer.
    fn begin_stop(&mut self, grace: i64, failed: Option<(String, String)>, completed: bool) {
        let deadline = self.node.now_ms() + grace * 1000;
        match &mut self.stop {
            Some(s) => {
                if deadline < s.deadline {
                    s.deadline = deadline;
                    s.grace_seconds = s.grace_seconds.min(grace);
                }
                if s.failed.is_none() {
                    s.failed = failed;
                }
            }
            None => {
                self.stop = Some(Stop { deadline, grace_seconds: grace, failed, completed });
                // Liveness and startup make no sense any more; readiness goes on until the end.
                self.probes.retain(|(_, kind), t| {
                    let keep = *kind == ProbeKind::Readiness;
                    if !keep {
                        t.abort();
                    }
                    keep
                });
                self.start_cancel.cancel();
            }
        }
    }

    fn apply_view(&mut self, v: PodSandboxStatusResponse) {
        let id = v.status.id.clone();
        if self.seen.get(&id).is_some_and(|t| *t > v.timestamp) {
            return;
        }
        self.seen.insert(id.clone(), v.timestamp);
        self.sandboxes.retain(|s| s.id != id);
        self.sandboxes.push(v.status);
        self.containers.retain(|c| c.pod_sandbox_id != id);
        self.containers.extend(v.containers_statuses.into_iter().map(|mut c| {
            c.pod_sandbox_id.clone_from(&id);
            c
        }));
    }

    fn event(&mut self, e: ContainerEventResponse) {
        match e.pod_sandbox_status {
            Some(status) => self.apply_view(PodSandboxStatusResponse {
                status,
                containers_statuses: e.containers_statuses,
                timestamp: e.created_at,
                ..PodSandboxStatusResponse::default()
            }),
            None => {
                self.sandboxes.retain(|s| s.id != e.container_id);
                self.containers.retain(|c| c.pod_sandbox_id != e.container_id && c.id != e.container_id);
            }
        }
    }

    async fn relist(&mut self) {
        let label_selector = [(POD_UID.to_owned(), self.pod.metadata.uid.clone())].into();
        let filter = PodSandboxFilter { label_selector, ..PodSandboxFilter::default() };
        let list = match self.node.runtime.list_pod_sandbox(Some(&filter)).await {
            Ok(l) => l,
            Err(e) => {
                tracing::warn!(pod = %self.pod.key(), error = %e, "failed to list the pod's sandboxes");
                return;
            }
        };
        self.sandboxes.retain(|s| list.iter().any(|l| l.id == s.id));
        self.containers.retain(|c| list.iter().any(|l| l.id == c.pod_sandbox_id));
        for s in list {
            if let Ok(v) = self.node.runtime.pod_sandbox_status(&s.id).await {
                self.apply_view(v);
            }
        }
    }

    fn verdict(&mut self, v: &Verdict) {
        let Some(st) = self.containers.iter().find(|c| c.id == v.id) else { return };
        let Some((_, c)) = self.pod.container(&st.metadata.name) else { return };
        let default =
            Health { started: c.startup_probe.is_none(), ready: c.readiness_probe.is_none(), failed: None };
        let h = self.health.entry(v.id.clone()).or_insert(default);
        let failed = |word: &str, p: Option<&crate::pod::Probe>| Failed {
            message: format!("Container {} failed {word} probe, will be restarted", c.name),
            grace: p.and_then(|p| p.termination_grace_period_seconds),
        };
        match (v.kind, v.healthy) {
            (ProbeKind::Startup, true) => h.started = true,
            (ProbeKind::Startup, false) => h.failed = Some(failed("startup", c.startup_probe.as_ref())),
            (ProbeKind::Readiness, ready) => h.ready = ready,
            (ProbeKind::Liveness, false) => h.failed = Some(failed("liveness", c.liveness_probe.as_ref())),
            (ProbeKind::Liveness, true) => {}
        }
    }

    /// Probe tasks for what runs, none for what does not.
    fn tend_probes(&mut self) {
        let running: Vec<&ContainerStatus> =
            self.containers.iter().filter(|c| c.state == ContainerState::Running).collect();
        self.probes.retain(|(id, _), t| {
            let keep = running.iter().any(|c| c.id == *id);
            if !keep {
                t.abort();
            }
            keep
        });
        self.health.retain(|id, _| running.iter().any(|c| c.id == *id));
        let ips = self.pod_ips();
        for st in running {
            let Some((kind, c)) = self.pod.container(&st.metadata.name) else { continue };
            let in_hook = c.lifecycle.post_start.is_some() && self.busy.start.as_ref() == Some(&c.name);
            if !matches!(kind, Kind::App | Kind::Sidecar) || in_hook {
                continue;
            }
            let health = self.health.entry(st.id.clone()).or_insert_with(|| Health {
                started: c.startup_probe.is_none(),
                ready: c.readiness_probe.is_none(),
                failed: None,
            });
            let ending = self.stop.is_some();
            let wanted = [
                (ProbeKind::Startup, &c.startup_probe, !health.started && !ending),
                (ProbeKind::Readiness, &c.readiness_probe, health.started),
                (ProbeKind::Liveness, &c.liveness_probe, health.started && !ending),
            ];
            for (kind, probe, now) in wanted {
                let (Some(p), true) = (probe, now && health.failed.is_none()) else { continue };
                self.probes.entry((st.id.clone(), kind)).or_insert_with(|| {
                    let task = Task {
                        node: self.node.clone(),
                        pod: self.pod.clone(),
                        container: c.clone(),
                        id: st.id.clone(),
                        ips: ips.clone(),
                        probe: p.clone(),
                        kind,
                        started_ms: st.started_at / 1_000_000,
                        to: self.me.clone(),
                    };
                    tokio::spawn(task.run()).abort_handle()
                });
            }
        }
    }

    fn ready_sandbox(&self) -> Option<&PodSandboxStatus> {
        let ready = self.sandboxes.iter().filter(|s| s.state == PodSandboxState::Ready);
        ready.max_by_key(|s| s.metadata.attempt)
    }

    fn pod_ips(&self) -> Vec<String> {
        let newest = self.sandboxes.iter().max_by_key(|s| (s.metadata.attempt, s.created_at));
        let Some(n) = newest.map(|s| &s.network) else { return Vec::new() };
        let more = n.additional_ips.iter().map(|i| i.ip.clone());
        std::iter::once(n.ip.clone()).chain(more).filter(|ip| !ip.is_empty()).collect()
    }

    /// Decides and acts until there is nothing to decide, then reports. Gives the time of the next look.
    fn turn(&mut self) -> Option<i64> {
        self.read_messages();
        self.tend_probes();
        self.tend_resize();
        let mut wake: Option<i64> = None;
        let earliest = |wake: &mut Option<i64>, at: i64| *wake = Some(wake.map_or(at, |w| w.min(at)));
        for round in 0..4 {
            let holds: HashMap<Step, i64> = self.holds.iter().map(|(k, h)| (k.clone(), h.until)).collect();
            let now = self.node.now_ms();
            let actions = plan::plan(&View {
                pod: &self.pod,
                sandboxes: &self.sandboxes,
                containers: &self.containers,
                health: &self.health,
                sizes: &self.sizes,
                busy: &self.busy,
                backoffs: &self.backoffs,
                holds: &holds,
                prepared: self.prepared,
                torn_down: self.torn_down,
                stop: self.stop.as_ref(),
                now,
            });
            let mut again = false;
            for a in actions {
                match a {
                    Action::Wake { at } => earliest(&mut wake, at),
                    Action::Complete => {
                        let grace = self.pod.spec.termination_grace_period_seconds.unwrap_or(30);
                        self.begin_stop(grace, None, true);
                        again = true;
                    }
                    Action::Fail { reason, message } => {
                        let grace = self.pod.spec.termination_grace_period_seconds.unwrap_or(30);
                        self.begin_stop(grace, Some((reason.into(), message.into())), false);
                        again = true;
                    }
                    other => self.act(other),
                }
            }
            if !again || round == 3 {
                break;
            }
        }
        let now = self.node.now_ms();
        if self.stop.is_none() && self.prepared && !self.busy.prepare {
            if self.stale || self.volumes.refresh_at.is_some_and(|at| at <= now) {
                self.stale = false;
                self.act(Action::Prepare);
            } else if let Some(at) = self.volumes.refresh_at {
                earliest(&mut wake, at);
            }
        }
        let due: Vec<String> =
            self.waiting_later.iter().filter(|(_, (at, _))| *at <= now).map(|(n, _)| n.clone()).collect();
        for name in due {
            if let Some((_, w)) = self.waiting_later.remove(&name) {
                let about = self.node.about_container(&self.pod, &name);
                self.node.recorder.normal(
                    about.clone(),
                    "BackOff",
                    w.message.split(": ").next().unwrap_or_default(),
                );
                self.node.recorder.warning(about, "Failed", format!("Error: {}", w.reason));
                self.waiting.insert(name, w);
            }
        }
        self.waiting_later.values().for_each(|(at, _)| earliest(&mut wake, *at));
        // The object is gone, so nobody will ask for logs or states again.
        if self.gone && self.torn_down && !self.busy.finish && self.ops.is_empty() {
            self.purge();
        }
        if let Some(at) = self.report_status() {
            earliest(&mut wake, at);
        }
        wake
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
