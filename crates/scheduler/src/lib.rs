//! The scheduler: watches pods and nodes, decides placements in a pure core, binds. `core` holds snapshot and decision,
//! `plugins` one file per rule, `queue` what waits and why, `bind` and `preempt` the writes. Spawns one scheduling task and
//! a bounded number of binding and preempting tasks.
#![forbid(unsafe_code)]

mod bind;
mod consult;
pub mod core;
mod extender;
pub mod plugins;
mod pods;
mod preempt;
mod queue;
mod settings;
mod storage;
mod watch;

pub use settings::Settings;

use std::sync::Arc;

use api::resource::{NODES, PODS};
use client::{Client, EventRecorder, Informers};
use parking_lot::MutexGuard;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::consult::Consulted;
use crate::core::{Cache, Choice, Outcome, PodInfo};
use crate::plugins::Preemption;
use crate::pods::Shared;
use crate::queue::{Kind, Queue, Wait};
use crate::storage::Storage;

/// The scheduler name that a pod without one gets.
pub const DEFAULT_NAME: &str = "default-scheduler";
/// Pods whose writes are under way at once: bindings, explanations, preemptions.
const WRITERS: usize = 64;

/// Runs until the token is cancelled.
pub async fn run(client: Client, informers: Informers, settings: Settings, token: CancellationToken) {
    let queue = Queue::new(settings.first_backoff, settings.max_backoff);
    let shared = Arc::new(Shared::new(settings.profiles, queue));
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
    let scheduler = Scheduler {
        recorder: EventRecorder::new(client.clone(), DEFAULT_NAME, ""),
        slots: Arc::new(Semaphore::new(WRITERS)),
        consulted: Consulted::new(settings.extenders, pods, nodes),
        shared,
        client,
        storage,
    };
    while let Some(pod) = next(&scheduler.shared, &token).await {
        let Ok(slot) = scheduler.slots.clone().acquire_owned().await else { return };
        scheduler.place(pod, slot).await;
    }
}

/// What one scheduling task has at hand.
struct Scheduler {
    shared: Arc<Shared>,
    client: Client,
    recorder: EventRecorder,
    storage: Arc<Storage>,
    slots: Arc<Semaphore>,
    consulted: Consulted,
}

/// One decision; a pod with claims may have been counted on a node while it waited for its volumes.
fn decided<T>(cache: &mut Cache, pod: &PodInfo, f: impl FnOnce(&mut Cache, &PodInfo) -> T) -> T {
    if !pod.claims.is_empty() {
        cache.remove_pod(&pod.uid);
    }
    f(cache, pod)
}

impl Scheduler {
    /// Decides about one pod; the writes that follow are spawned, and end with the slot.
    async fn place(&self, pod: Arc<PodInfo>, slot: OwnedSemaphorePermit) {
        if let Some(asked) = self.consulted.about(&pod) {
            match asked.decide(&self.shared, &pod).await {
                Ok(outcome) => self.settle(self.shared.cache.lock(), pod, outcome, slot),
                Err(why) => self.fail(pod, why, slot),
            }
            return;
        }
        let mut cache = self.shared.cache.lock();
        let outcome = decided(&mut cache, &pod, core::schedule);
        self.settle(cache, pod, outcome, slot);
    }

    /// Neither placed nor refused: one who has a say did not answer. Tried again later.
    fn fail(&self, pod: Arc<PodInfo>, why: String, slot: OwnedSemaphorePermit) {
        debug!(pod = %pod.name, error = why, "failed to schedule");
        self.recorder.warning(bind::reference(&pod), "FailedScheduling", why);
        self.shared.queue.lock().back_off(pod, client::clock::now());
        drop(slot);
    }

    fn settle(
        &self,
        mut cache: MutexGuard<'_, Cache>,
        pod: Arc<PodInfo>,
        outcome: Outcome,
        slot: OwnedSemaphorePermit,
    ) {
        let choices = match &outcome {
            Outcome::Node(node) => core::choices(&cache, &pod, node),
            Outcome::Unschedulable { .. } => Vec::new(),
        };
        choices.iter().for_each(|c| cache.volumes.reserve(c));
        if let Outcome::Node(node) = &outcome
            && !client::planted::is_on("assumption-forgotten")
        {
            cache.assume(&pod, node);
        }
        drop(cache);
        match outcome {
            Outcome::Node(node) if !choices.is_empty() => self.reserve(pod, node, choices, slot),
            Outcome::Node(node) => self.bind(pod, node, slot),
            Outcome::Unschedulable { message, failed, preemption } => {
                self.explain(pod, message, failed, preemption, slot);
            }
        }
    }

    fn bind(&self, pod: Arc<PodInfo>, node: String, slot: OwnedSemaphorePermit) {
        self.shared.queue.lock().placed(&pod.uid, client::clock::now());
        let (shared, client, recorder) = (self.shared.clone(), self.client.clone(), self.recorder.clone());
        let binder = self.consulted.binder(&pod).cloned();
        tokio::spawn(async move {
            let done = bind::bind(&client, &recorder, binder.as_ref(), &pod, &node).await;
            let now = client::clock::now();
            if let Err(status) = done {
                debug!(pod = %pod.name, error = %status, "failed to bind");
                {
                    let mut cache = shared.cache.lock();
                    cache.remove_pod(&pod.uid);
                    if !pod.nominated_node.is_empty() {
                        cache.nominate(&pod, &pod.nominated_node);
                    }
                }
                match status.is_not_found() || status.is_conflict() {
                    true => shared.queue.lock().forget(&pod.uid, now),
                    false => shared.queue.lock().back_off(pod, now),
                }
                shared.event(Kind::PodGone.at(&node));
            } else {
                shared.queue.lock().forget(&pod.uid, now);
            }
            drop(slot);
        });
    }

    /// The pod waits until its claims have what was chosen.
    fn reserve(&self, pod: Arc<PodInfo>, node: String, choices: Vec<Choice>, slot: OwnedSemaphorePermit) {
        // Before the writes, so that what they bring about finds it waiting.
        let wait = Wait { failed: vec!["VolumeBinding"], promised: None };
        self.shared.queue.lock().unschedulable(pod, wait, client::clock::now());
        let (shared, client, storage) = (self.shared.clone(), self.client.clone(), self.storage.clone());
        tokio::spawn(async move {
            if let Err(status) = storage.apply(&client, &node, &choices).await {
                debug!(error = %status, "failed to reserve volumes");
                storage.forget(&shared, &choices);
                shared.event(Kind::StorageChanged.into());
            }
            drop(slot);
        });
    }

    /// The pod fits nowhere: says so, and makes room if others can give it.
    fn explain(
        &self,
        pod: Arc<PodInfo>,
        message: String,
        failed: Vec<&'static str>,
        preemption: Preemption,
        slot: OwnedSemaphorePermit,
    ) {
        // The API said so when the pod was made.
        if !pod.gates.is_empty() {
            let wait = Wait { failed, promised: None };
            return self.shared.queue.lock().unschedulable(pod, wait, client::clock::now());
        }
        let message = [message, preemption.message].join(" ");
        let nomination = preemption.nomination;
        let displaced = self.shared.nominate(&pod, nomination.as_deref());
        let promised = self.shared.cache.lock().nomination(&pod.uid).map(str::to_owned);
        let (shared, client, recorder) = (self.shared.clone(), self.client.clone(), self.recorder.clone());
        tokio::spawn(async move {
            bind::report(&client, &recorder, &pod, message.trim_end(), nomination.as_deref()).await;
            match promised {
                Some(node) if !preemption.victims.is_empty() => {
                    let room = preempt::Room { pod, node, victims: preemption.victims, displaced, failed };
                    preempt::make(&shared, &client, &recorder, room).await;
                }
                promised => {
                    let wait = Wait { failed, promised };
                    shared.queue.lock().unschedulable(pod, wait, client::clock::now());
                    shared.wake.notify_one();
                }
            }
            drop(slot);
        });
    }
}

async fn next(shared: &Shared, token: &CancellationToken) -> Option<Arc<PodInfo>> {
    loop {
        let woken = shared.wake.notified();
        if token.is_cancelled() {
            return None;
        }
        shared.settle_events();
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
