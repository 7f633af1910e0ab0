//! Pods and nodes from the informers into cache and queue, and what happened meanwhile for those that wait. Spawns nothing.

use std::collections::HashMap;
use std::sync::Arc;

use client::Change;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::warn;

use crate::core::{Cache, NodeChange, NodeInfo, PodInfo, Profiles};
use crate::queue::{ClusterEvent, Kind, Queue};

#[derive(Default)]
pub struct Shared {
    pub cache: Mutex<Cache>,
    pub queue: Mutex<Queue>,
    /// Not yet told to the queue: the scheduling task does that between two pods.
    events: Mutex<Vec<ClusterEvent>>,
    /// Each pod that is not finished, as it was seen last.
    known: Mutex<HashMap<String, Arc<PodInfo>>>,
    pub wake: Notify,
}

impl Shared {
    pub fn new(profiles: Profiles, queue: Queue) -> Self {
        let mut cache = Cache::default();
        cache.profiles = profiles;
        Self { cache: Mutex::new(cache), queue: Mutex::new(queue), ..Self::default() }
    }

    pub fn event(&self, event: ClusterEvent) {
        let mut events = self.events.lock();
        if events.last() != Some(&event) {
            events.push(event);
        }
        drop(events);
        self.wake.notify_one();
    }

    /// Tells the queue what happened.
    pub fn settle_events(&self) {
        let events = std::mem::take(&mut *self.events.lock());
        if events.is_empty() {
            return;
        }
        let cache = self.cache.lock();
        let mut queue = self.queue.lock();
        let now = client::clock::now();
        for event in events {
            if !queue.anyone_waits() {
                return;
            }
            queue.cluster_event(&event, now, |pod, node| crate::core::could_fit(&cache, pod, node));
        }
    }

    pub fn pod_changed(&self, change: Change<'_>) {
        let Some(o) = change.object() else { return };
        let new = change.new.and_then(|o| match PodInfo::from_object(o) {
            Ok(p) => Some(p),
            Err(e) => {
                warn!(pod = %o.name(), namespace = %o.namespace(), error = %e, "skipped a pod that does not decode");
                None
            }
        });
        let mut cache = self.cache.lock();
        let new = new.map(|mut p| {
            cache.intern(&mut p);
            Arc::new(p)
        });
        let old = {
            let mut known = self.known.lock();
            match &new {
                Some(n) if !n.finished => known.insert(o.uid().to_owned(), n.clone()),
                _ => known.remove(o.uid()),
            }
        };
        let held = old.as_ref().filter(|o| o.holds_resources());
        let holds = new.as_ref().filter(|n| n.holds_resources());
        let wants = new.as_ref().filter(|n| n.wants_scheduling() && cache.profiles.of(n).is_some());
        let mut frees = held.filter(|_| holds.is_none()).map(|o| o.node_name.clone());
        match (&old, holds) {
            (_, Some(n)) => cache.set_pod(n.clone()),
            // One that waits for its volumes is counted on its node already.
            (Some(o), None) if held.is_some() || new.is_none() => cache.remove_pod(&o.uid),
            _ => {}
        }
        match (&old, &new, wants) {
            (_, _, Some(n)) if !n.nominated_node.is_empty() => {
                cache.nominate(n, &n.nominated_node);
            }
            (Some(o), Some(n), Some(_)) if !o.nominated_node.is_empty() && cache.denominate(&n.uid) => {
                frees = Some(o.nominated_node.clone());
            }
            // Bound, ended or gone.
            (Some(o), _, None) => {
                let lost = cache.nomination(&o.uid).map(str::to_owned);
                cache.denominate(&o.uid);
                frees = lost.filter(|_| holds.is_none()).or(frees);
            }
            _ => {}
        }
        drop(cache);
        match (&old, wants) {
            (_, Some(n)) => self.queue.lock().add(n.clone()),
            (Some(o), None) => self.queue.lock().remove(&o.uid, client::clock::now()),
            (None, None) => {}
        }
        self.wake.notify_one();
        if let Some(node) = frees {
            self.event(Kind::PodGone.at(&node));
        }
        if holds.is_some_and(|n| held.is_none_or(|o| o.labels != n.labels)) {
            self.event(Kind::PodPlaced.into());
        }
    }

    /// Writes the nomination down; an empty one takes it back. Gives the less important pods that were nominated there.
    pub fn nominate(&self, pod: &Arc<PodInfo>, node: Option<&str>) -> Vec<Arc<PodInfo>> {
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

    pub fn node_changed(&self, change: Change<'_>) {
        let Some(o) = change.object() else { return };
        let mut cache = self.cache.lock();
        let change = match change.new.map(NodeInfo::from_object) {
            Some(Ok(node)) => cache.set_node(node),
            Some(Err(e)) => {
                warn!(node = %o.name(), error = %e, "skipped a node that does not decode");
                NodeChange::Nothing
            }
            None => {
                cache.remove_node(o.name());
                NodeChange::Nothing
            }
        };
        drop(cache);
        if change >= NodeChange::Allocatable {
            self.event(Kind::NodeChanged.at(o.name()));
        }
    }
}
