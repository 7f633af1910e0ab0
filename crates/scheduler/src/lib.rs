//! The scheduler: watches pods and nodes, decides placements in a pure core, binds. `core` holds snapshot and decision,
//! `plugins` one file per rule, `queue` what waits and why, `bind` and `preempt` the writes. Spawns one scheduling task and
//! a bounded number of binding and preempting tasks.
#![forbid(unsafe_code)]

mod bind;
pub mod core;
pub mod plugins;
mod preempt;
mod queue;
mod storage;
mod watch;

use std::sync::Arc;

use api::Object;
use api::resource::{NODES, PODS};
use client::{Change, Client, EventRecorder, Informers};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::core::{Cache, NodeInfo, Outcome, PodInfo};
use crate::queue::{ClusterEvent, Queue};
use crate::storage::Storage;

/// The scheduler name that a pod without one gets.
pub const DEFAULT_NAME: &str = "default-scheduler";
/// Bindings under way at once.
const BINDERS: usize = 32;

struct Shared {
    cache: Mutex<Cache>,
    queue: Mutex<Queue>,
    wake: Notify,
}

impl Shared {
    fn event(&self, event: ClusterEvent) {
        self.queue.lock().cluster_event(event, client::clock::now());
        self.wake.notify_one();
    }

    fn pod_changed(&self, change: Change<'_>) {
        let parse = |o: Option<&Object>| {
            o.and_then(|o| match PodInfo::from_object(o) {
                Ok(p) => Some(p),
                Err(e) => {
                    warn!(pod = %o.name(), namespace = %o.namespace(), error = %e, "skipped a pod that does not decode");
                    None
                }
            })
        };
        let (old, new) = (parse(change.old), parse(change.new));
        let placed = new.as_ref().is_some_and(|n| {
            n.holds_resources() && !old.as_ref().is_some_and(|o| o.holds_resources() && o.labels == n.labels)
        });
        let mut frees = old.as_ref().is_some_and(PodInfo::holds_resources)
            && !new.as_ref().is_some_and(PodInfo::holds_resources);
        {
            let mut cache = self.cache.lock();
            match (&old, &new) {
                (_, Some(n)) if n.holds_resources() => cache.set_pod(Arc::new(n.clone())),
                // One that waits for its volumes is counted on its node already.
                (Some(o), None) => cache.remove_pod(&o.uid),
                (Some(o), _) if frees => cache.remove_pod(&o.uid),
                _ => {}
            }
            match (&old, &new) {
                (_, Some(n)) if n.wants_scheduling(DEFAULT_NAME) && !n.nominated_node.is_empty() => {
                    cache.nominate(&Arc::new(n.clone()), &n.nominated_node);
                }
                (Some(o), Some(n)) if n.wants_scheduling(DEFAULT_NAME) => {
                    if !o.nominated_node.is_empty() {
                        frees |= cache.denominate(&n.uid);
                    }
                }
                // Bound, ended or gone.
                (Some(o), n) => {
                    let lost = cache.denominate(&o.uid);
                    frees |= lost && !n.as_ref().is_some_and(PodInfo::holds_resources);
                }
                (None, _) => {}
            }
        }
        {
            let mut queue = self.queue.lock();
            match (&old, new) {
                (_, Some(n)) if n.wants_scheduling(DEFAULT_NAME) => {
                    queue.add(Arc::new(n), client::clock::now())
                }
                (Some(o), _) => queue.remove(&o.uid),
                (None, _) => {}
            }
        }
        self.wake.notify_one();
        if frees {
            self.event(ClusterEvent::PodGone);
        }
        if placed {
            self.event(ClusterEvent::PodPlaced);
        }
    }

    /// Writes the nomination down; an empty one takes it back. Gives the less important pods that were nominated there.
    fn nominate(&self, pod: &Arc<PodInfo>, node: Option<&str>) -> Vec<Arc<PodInfo>> {
        let mut cache = self.cache.lock();
        match node {
            None => Vec::new(),
            Some("") => {
                cache.denominate(&pod.uid);
                Vec::new()
            }
            Some(node) => {
                cache.nominate(pod, node);
                let below = cache.nominated(node).iter().filter(|p| p.priority < pod.priority);
                below.cloned().collect()
            }
        }
    }

    fn node_changed(&self, change: Change<'_>) {
        let Some(o) = change.object() else { return };
        let mut cache = self.cache.lock();
        let matters = match change.new.map(NodeInfo::from_object) {
            Some(Ok(node)) => cache.set_node(node),
            Some(Err(e)) => {
                warn!(node = %o.name(), error = %e, "skipped a node that does not decode");
                false
            }
            None => {
                cache.remove_node(o.name());
                false
            }
        };
        drop(cache);
        if matters {
            self.event(ClusterEvent::NodeChanged);
        }
    }
}

/// Runs until the token is cancelled.
pub async fn run(client: Client, informers: Informers, token: CancellationToken) {
    let shared = Arc::new(Shared { cache: Mutex::default(), queue: Mutex::default(), wake: Notify::new() });
    let (pods, nodes) = (informers.get(&PODS), informers.get(&NODES));
    let s = shared.clone();
    nodes.on_change(move |c| s.node_changed(c));
    let s = shared.clone();
    pods.on_change(move |c| s.pod_changed(c));
    let storage = Arc::new(Storage::new(&shared, &informers));
    let others = watch::Watched::new(&shared, &informers);
    tokio::select! {
        () = token.cancelled() => return,
        _ = async { nodes.synced().await && pods.synced().await && storage.synced().await && others.synced().await } => {}
    }
    info!("scheduler started");
    let recorder = EventRecorder::new(client.clone(), DEFAULT_NAME, "");
    let slots = Arc::new(Semaphore::new(BINDERS));
    while let Some(pod) = next(&shared, &token).await {
        let (outcome, choices) = {
            let mut cache = shared.cache.lock();
            if !pod.claims.is_empty() {
                // It may have been counted on a node while it waited for its volumes.
                cache.remove_pod(&pod.uid);
            }
            let outcome = core::schedule(&cache, &pod);
            let choices = match &outcome {
                Outcome::Node(node) => core::choices(&cache, &pod, node),
                Outcome::Unschedulable { .. } => Vec::new(),
            };
            choices.iter().for_each(|c| cache.volumes.reserve(c));
            (outcome, choices)
        };
        match outcome {
            Outcome::Node(node) if !choices.is_empty() => {
                let Ok(slot) = slots.clone().acquire_owned().await else { return };
                shared.cache.lock().assume(&pod, &node);
                // Before the writes, so that what they bring about finds it waiting.
                shared.queue.lock().unschedulable(pod, vec!["VolumeBinding"], client::clock::now());
                let (shared, client, storage) = (shared.clone(), client.clone(), storage.clone());
                tokio::spawn(async move {
                    if let Err(status) = storage.apply(&client, &node, &choices).await {
                        debug!(error = %status, "failed to reserve volumes");
                        storage.forget(&shared, &choices);
                        shared.event(ClusterEvent::StorageChanged);
                    }
                    drop(slot);
                });
            }
            Outcome::Node(node) => {
                let Ok(slot) = slots.clone().acquire_owned().await else { return };
                shared.cache.lock().assume(&pod, &node);
                let (shared, client, recorder) = (shared.clone(), client.clone(), recorder.clone());
                tokio::spawn(async move {
                    match bind::bind(&client, &recorder, &pod, &node).await {
                        Ok(()) => shared.queue.lock().forget(&pod.uid),
                        Err(status) => {
                            debug!(pod = %pod.name, error = %status, "failed to bind");
                            {
                                let mut cache = shared.cache.lock();
                                cache.remove_pod(&pod.uid);
                                if !pod.nominated_node.is_empty() {
                                    cache.nominate(&pod, &pod.nominated_node);
                                }
                            }
                            if !status.is_not_found() && !status.is_conflict() {
                                shared.queue.lock().back_off(pod, client::clock::now());
                            }
                            shared.event(ClusterEvent::PodGone);
                        }
                    }
                    drop(slot);
                });
            }
            Outcome::Unschedulable { message, failed, preemption } => {
                let message = [message, preemption.message].join(" ");
                let (message, nomination) = (message.trim_end(), preemption.nomination);
                let displaced = shared.nominate(&pod, nomination.as_deref());
                if preemption.victims.is_empty() {
                    shared.queue.lock().unschedulable(pod.clone(), failed, client::clock::now());
                    bind::report(&client, &recorder, &pod, message, nomination.as_deref()).await;
                    continue;
                }
                bind::report(&client, &recorder, &pod, message, nomination.as_deref()).await;
                let Ok(slot) = slots.clone().acquire_owned().await else { return };
                let node = nomination.unwrap_or_default();
                let room = preempt::Room { pod, node, victims: preemption.victims, displaced, failed };
                let (shared, client, recorder) = (shared.clone(), client.clone(), recorder.clone());
                tokio::spawn(async move {
                    preempt::make(&shared, &client, &recorder, room).await;
                    drop(slot);
                });
            }
        }
    }
}

async fn next(shared: &Shared, token: &CancellationToken) -> Option<Arc<PodInfo>> {
    loop {
        let woken = shared.wake.notified();
        let wait = {
            let mut queue = shared.queue.lock();
            let now = client::clock::now();
            if let Some(pod) = queue.pop(now) {
                return Some(pod);
            }
            queue.next_due(now)
        };
        let due = async {
            match wait {
                Some(d) => tokio::time::sleep(d).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = token.cancelled() => return None,
            () = woken => {}
            () = due => {}
        }
    }
}
