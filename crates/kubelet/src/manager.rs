//! Where pods come from and who works on them: the API (one informer for this node), manifests on disk, and after a
//! start the checkpoint, as long as the API does not answer. Owns the workers; spawns one task per pod worker, the
//! reader of runtime events and the housekeeping.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::{Object, resource::PODS};
use client::Scope;
use cri::PodSandboxFilter;
use futures::StreamExt;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::admission::{NodeView, admit};
use crate::allocation::{Allocations, News};
use crate::checkpoint::Checkpoint;
use crate::containers::config::POD_UID;
use crate::hooks::cgroup;
use crate::node_ctx::Node;
use crate::pod::Pod;
use crate::pod_worker::resize::message;
use crate::pod_worker::{self, Handle, Msg, Snapshot};
use crate::static_pods::StaticPods;

/// How long the API is waited for before the checkpoint starts pods.
const API_FIRST: Duration = Duration::from_millis(1500);
const HOUSEKEEPING: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Worker {
    handle: Option<Handle>,
    pod: Arc<Pod>,
    told_gone: bool,
}

/// All workers, readable by the server.
#[derive(Default)]
pub struct Workers {
    map: RwLock<HashMap<String, Handle>>,
}

impl Workers {
    pub fn all(&self) -> Vec<Snapshot> {
        self.map.read().values().map(|h| h.snapshot.read().clone()).collect()
    }
    pub fn handles(&self) -> Vec<Handle> {
        self.map.read().values().cloned().collect()
    }
    /// By namespace and name; of several the one that is not on its way out.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Snapshot> {
        let map = self.map.read();
        let mut found: Vec<Snapshot> = map
            .values()
            .map(|h| h.snapshot.read())
            .filter(|s| s.pod.metadata.namespace == namespace && s.pod.metadata.name == name)
            .map(|s| s.clone())
            .collect();
        found.sort_by_key(|s| s.pod.deleting());
        found.into_iter().next()
    }
    pub fn insert(&self, uid: &str, handle: Handle) {
        self.map.write().insert(uid.to_owned(), handle);
    }
    pub fn get(&self, uid: &str) -> Option<Handle> {
        self.map.read().get(uid).cloned()
    }
}

/// What the informer's handler leaves for the manager: newest state by uid, `None` for gone.
#[derive(Default)]
struct Inbox {
    changes: Mutex<BTreeMap<String, Option<Object>>>,
    notify: Notify,
}

pub struct Manager {
    node: Arc<Node>,
    workers: Arc<Workers>,
    mine: HashMap<String, Worker>,
    desired: BTreeMap<String, Arc<Pod>>,
    statics: StaticPods,
    checkpoint: Checkpoint,
    allocations: Allocations,
    synced: bool,
}

impl Manager {
    pub fn new(node: Arc<Node>, workers: Arc<Workers>) -> Self {
        let statics = StaticPods::new(node.clone());
        let checkpoint = Checkpoint::new(node.cfg.checkpoint_dir());
        Self {
            node,
            workers,
            mine: HashMap::new(),
            desired: BTreeMap::new(),
            statics,
            checkpoint,
            allocations: Allocations::default(),
            synced: false,
        }
    }

    pub async fn run(mut self, token: CancellationToken) {
        let scope = Scope {
            field_selector: format!("spec.nodeName={}", self.node.cfg.node_name),
            ..Scope::default()
        };
        let pods = self.node.informers.scoped(&PODS, scope);
        let inbox = Arc::new(Inbox::default());
        let to = inbox.clone();
        pods.on_change(move |c| {
            let mut changes = to.changes.lock();
            if let (Some(old), true) =
                (c.old, c.new.is_none_or(|n| c.old.is_some_and(|o| o.uid() != n.uid())))
            {
                changes.insert(old.uid().to_owned(), None);
            }
            if let Some(new) = c.new {
                changes.insert(new.uid().to_owned(), Some(new.clone()));
            }
            drop(changes);
            to.notify.notify_one();
        });
        let kept = self.checkpoint.load();
        kept.iter().for_each(|p| self.allocations.keep(p.clone()));
        let (ended_tx, mut ended) = mpsc::channel(256);
        tokio::spawn(events(self.node.clone(), self.workers.clone(), token.clone()));
        if tokio::time::timeout(API_FIRST, pods.synced()).await.is_err() {
            tracing::warn!(
                pods = kept.len(),
                "the API does not answer yet, starting pods as they were last known"
            );
            self.desired.extend(kept.into_iter().map(|p| (p.metadata.uid.clone(), Arc::new(p))));
        }
        self.statics.scan();
        self.reconcile(&ended_tx).await;
        let mut scan = tokio::time::interval(Duration::from_secs(2));
        let mut clean = tokio::time::interval(HOUSEKEEPING);
        loop {
            if !self.synced && pods.is_synced() {
                self.synced = true;
                self.take(&inbox);
                // What only the checkpoint knew was deleted while we were away.
                let alive: HashSet<String> = pods.list(None).iter().map(|o| o.uid().to_owned()).collect();
                self.desired.retain(|uid, _| alive.contains(uid));
                self.checkpoint.keep_only(&alive);
                self.reconcile(&ended_tx).await;
                self.remove_orphans().await;
            }
            tokio::select! {
                () = token.cancelled() => return,
                () = inbox.notify.notified() => {
                    self.take(&inbox);
                    self.reconcile(&ended_tx).await;
                }
                Some(uid) = ended.recv() => {
                    self.mine.remove(&uid);
                    self.workers.map.write().remove(&uid);
                    self.checkpoint.remove(&uid);
                    self.allocations.forget(&uid);
                    self.reconcile(&ended_tx).await;
                }
                _ = scan.tick() => {
                    if self.statics.scan() {
                        self.reconcile(&ended_tx).await;
                    }
                    for uid in self.statics.mirrors(&pods).await {
                        if let Some(w) = self.mine.get(&uid) {
                            tell(w, Msg::Resend).await;
                        }
                    }
                }
                _ = clean.tick() => {
                    if self.synced {
                        // A resize may fit by now for reasons that no pod tells.
                        self.reconcile(&ended_tx).await;
                        self.remove_orphans().await;
                    }
                }
            }
        }
    }

    fn take(&mut self, inbox: &Inbox) {
        let changes = std::mem::take(&mut *inbox.changes.lock());
        for (uid, o) in changes {
            match o.map(|o| o.view::<Pod>()) {
                Some(Ok(p)) if p.is_mirror() => {}
                Some(Ok(p)) => {
                    if p.deleting() || p.finished() {
                        self.checkpoint.remove(&uid);
                    }
                    self.desired.insert(uid, Arc::new(p));
                }
                Some(Err(e)) => {
                    tracing::error!(uid, error = %e, "a pod of this node can't be read, it is left alone")
                }
                None => {
                    self.desired.remove(&uid);
                }
            }
        }
    }

    async fn reconcile(&mut self, ended: &mpsc::Sender<String>) {
        let statics = self.statics.pods();
        let wanted: BTreeMap<String, Arc<Pod>> =
            self.desired.iter().map(|(k, v)| (k.clone(), v.clone())).chain(statics).collect();
        let wanted = self.allocate(&wanted);
        for (uid, w) in &mut self.mine {
            if !wanted.contains_key(uid) && !w.told_gone {
                w.told_gone = true;
                tell(w, Msg::Gone).await;
            }
        }
        for (uid, pod) in &wanted {
            if let Some(w) = self.mine.get_mut(uid) {
                if !Arc::ptr_eq(&w.pod, pod) {
                    if w.pod.spec != pod.spec {
                        keep(&self.checkpoint, pod);
                    }
                    w.pod = pod.clone();
                    tell(w, Msg::Pod(pod.clone())).await;
                }
                continue;
            }
            // A pod of the same name that is still on its way out comes first.
            if pod.is_static() && self.mine.values().any(|w| w.pod.key() == pod.key()) {
                continue;
            }
            let refused = self.refuse(pod);
            keep(&self.checkpoint, pod);
            let handle = pod_worker::spawn(self.node.clone(), pod.clone(), refused, ended.clone());
            self.workers.insert(uid, handle.clone());
            self.mine
                .insert(uid.clone(), Worker { handle: Some(handle), pod: pod.clone(), told_gone: false });
        }
    }

    /// The pods with the resources they are granted.
    fn allocate(&mut self, wanted: &BTreeMap<String, Arc<Pod>>) -> BTreeMap<String, Arc<Pod>> {
        let workers = &self.workers;
        let ended = |p: &Pod| {
            let known = workers.get(&p.metadata.uid);
            let over = known.map(|h| h.snapshot.read().status.phase.clone());
            p.finished() || over.is_some_and(|phase| matches!(phase.as_str(), "Succeeded" | "Failed"))
        };
        let now = client::clock::rfc3339(client::clock::now());
        let allocations = &mut self.allocations;
        let (given, news) = look(&self.node, &[], |view| allocations.decide(wanted, view, &ended, &now));
        for n in news {
            match n {
                News::Granted(p) => {
                    let text = message("Pod resize started", &p, p.metadata.generation, "");
                    self.node.recorder.normal(self.node.about_pod(&p), "ResizeStarted", text);
                }
                News::Waits(p, why) => {
                    let text =
                        message(&format!("Pod resize {}", why.reason), &p, why.generation, &why.message);
                    let reason = format!("Resize{}", why.reason);
                    self.node.recorder.warning(self.node.about_pod(&p), &reason, text);
                }
            }
        }
        given
    }

    /// Only a pod that was never taken before can be refused.
    fn refuse(&self, pod: &Pod) -> Option<(String, String)> {
        if pod.is_static() || pod.status.start_time.is_some() || pod.deleting() || !self.synced {
            return None;
        }
        let pods: Vec<Arc<Pod>> = self
            .workers
            .all()
            .into_iter()
            .filter(|s| !matches!(s.status.phase.as_str(), "Succeeded" | "Failed"))
            .map(|s| s.pod)
            .collect();
        let refused = look(&self.node, &pods, |view| admit(pod, view)).err();
        if let Some((reason, message)) = &refused {
            self.node.recorder.warning(self.node.about_pod(pod), reason, message.clone());
        }
        refused
    }

    /// Sandboxes, cgroups and directories of pods nobody knows.
    async fn remove_orphans(&self) {
        let runtime = &self.node.runtime;
        let Ok(list) = runtime.list_pod_sandbox(Some(&PodSandboxFilter::default())).await else { return };
        for s in list {
            let known = s.labels.get(POD_UID).is_none_or(|uid| self.mine.contains_key(uid));
            if known || client::planted::is_on("orphan-kept") {
                continue;
            }
            tracing::info!(sandbox = %s.id, pod = %s.metadata.name, "removing a sandbox whose pod is gone");
            if let Err(e) = runtime.remove_pod_sandbox(&s.id).await {
                tracing::warn!(sandbox = %s.id, error = %e, "failed to remove a sandbox whose pod is gone");
            }
        }
        if self.node.cfg.manage_cgroups {
            let known = |uid: &str| self.mine.contains_key(uid);
            cgroup::remove_orphans(&self.node.layout, &self.node.cfg.cgroup_root, known);
        }
        let dirs = std::fs::read_dir(self.node.cfg.root_dir.join("pods"));
        for d in dirs.into_iter().flatten().flatten() {
            let uid = d.file_name().to_string_lossy().into_owned();
            if self.mine.contains_key(&uid) {
                continue;
            }
            if crate::volumes::setup::tear_down(&self.node, &uid).is_ok() {
                let _ = std::fs::remove_dir_all(d.path());
            }
        }
        let logs = std::fs::read_dir(&self.node.cfg.pods_log_dir);
        for d in logs.into_iter().flatten().flatten() {
            let name = d.file_name().to_string_lossy().into_owned();
            let known = name.rsplit('_').next().is_none_or(|uid| self.mine.contains_key(uid));
            if !known && name.split('_').count() == 3 {
                let _ = std::fs::remove_dir_all(d.path());
            }
        }
    }
}

/// The node as admission sees it now, beside these pods.
fn look<R>(node: &Node, pods: &[Arc<Pod>], see: impl FnOnce(&NodeView<'_>) -> R) -> R {
    let own = node.itself.get("", &node.cfg.node_name);
    let allocatable = node.allocatable();
    see(&NodeView {
        allocatable: &allocatable,
        labels: own.as_ref().map(|o| &o.meta().labels),
        pressure: *node.pressure.read(),
        pods,
    })
}

/// What the pod was granted comes back after a restart.
fn keep(checkpoint: &Checkpoint, pod: &Pod) {
    if !pod.is_static() && !pod.deleting() && !pod.finished() {
        checkpoint.save(pod);
    }
}

async fn tell(w: &Worker, m: Msg) {
    if let Some(h) = &w.handle {
        let _ = h.tx.send(m).await;
    }
}

/// Carries runtime events to the workers. When the stream ends, every worker looks for itself.
async fn events(node: Arc<Node>, workers: Arc<Workers>, token: CancellationToken) {
    let mut first = true;
    loop {
        let stream = tokio::select! {
            () = token.cancelled() => return,
            s = node.runtime.container_events() => s,
        };
        let mut stream = match stream {
            Ok(s) => s,
            Err(e) => {
                tracing::warn!(error = %e, "failed to read container events, trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        if !std::mem::take(&mut first) {
            for h in workers.handles() {
                let _ = h.tx.send(Msg::Relist).await;
            }
        }
        loop {
            let e = tokio::select! {
                () = token.cancelled() => return,
                e = stream.next() => e,
            };
            let Some(e) = e else { break };
            let by_label = |l: &cri::StringMap| l.get(POD_UID).cloned();
            let uid = e
                .pod_sandbox_status
                .as_ref()
                .map(|s| s.metadata.uid.clone())
                .or_else(|| e.containers_statuses.iter().find_map(|c| by_label(&c.labels)));
            let to = match uid {
                Some(uid) => workers.get(&uid),
                None => {
                    workers.handles().into_iter().find(|h| h.snapshot.read().sandbox_id == e.container_id)
                }
            };
            if let Some(h) = to {
                let _ = h.tx.send(Msg::Runtime(Box::new(e))).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
