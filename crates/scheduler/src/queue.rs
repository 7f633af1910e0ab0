//! What waits to be scheduled: ready pods by priority and age, pods in back-off (1 s doubling to 10 s), and pods that fit
//! nowhere, which an event that could help brings back. Pure but for the times handed in.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::core::PodInfo;

const FIRST_BACKOFF: SignedDuration = SignedDuration::from_secs(1);
const MAX_BACKOFF: SignedDuration = SignedDuration::from_secs(10);
/// A pod that fits nowhere is tried again after this even when no event came.
const FLUSH: SignedDuration = SignedDuration::from_secs(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterEvent {
    NodeChanged,
    /// A pod ended or left its node.
    PodGone,
    /// A pod came to a node, or its labels there changed.
    PodPlaced,
    NamespaceChanged,
    /// A claim, a volume or a storage class.
    StorageChanged,
}

impl ClusterEvent {
    /// Whether it could help a pod that these plugins refused.
    fn helps(self, failed: &[&str]) -> bool {
        failed.iter().any(|p| match (self, *p) {
            (_, "SchedulingGates") => false,
            (ClusterEvent::NodeChanged, _) => true,
            (ClusterEvent::PodGone, p) => {
                matches!(
                    p,
                    "NodeResourcesFit"
                        | "NodePorts"
                        | "PodTopologySpread"
                        | "InterPodAffinity"
                        | "VolumeRestrictions"
                )
            }
            (ClusterEvent::PodPlaced, p) => matches!(p, "PodTopologySpread" | "InterPodAffinity"),
            (ClusterEvent::NamespaceChanged, p) => p == "InterPodAffinity",
            (ClusterEvent::StorageChanged, p) => {
                matches!(p, "VolumeBinding" | "VolumeZone" | "VolumeRestrictions")
            }
        }) || failed.is_empty()
    }
}

type Rank = (Reverse<i64>, u64);

#[derive(Default)]
pub struct Queue {
    ready: BTreeMap<Rank, Arc<PodInfo>>,
    backoff: BTreeMap<(Timestamp, u64), Arc<PodInfo>>,
    stuck: HashMap<String, (Arc<PodInfo>, Vec<&'static str>, Timestamp)>,
    attempts: HashMap<String, u32>,
    /// Pods popped and not yet settled, with what happened meanwhile: a change of the object must not queue it twice, and
    /// an event that could help must not be missed.
    popped: BTreeMap<String, Popped>,
    /// Where each waiting pod stands.
    place: HashMap<String, Place>,
    sequence: u64,
}

#[derive(Default)]
struct Popped {
    seen: Vec<ClusterEvent>,
    newest: Option<Arc<PodInfo>>,
}

/// Whether both would be placed alike.
fn same(a: &PodInfo, b: &PodInfo) -> bool {
    a.gates == b.gates
        && a.requests == b.requests
        && a.labels == b.labels
        && a.tolerations == b.tolerations
        && a.node_selector == b.node_selector
}

#[derive(Clone, Copy)]
enum Place {
    Ready(Rank),
    Backoff((Timestamp, u64)),
    Stuck,
}

impl Queue {
    /// A new or changed pod. An update of a pod that fits nowhere makes it ready when its spec could fit now.
    pub fn add(&mut self, pod: Arc<PodInfo>, now: Timestamp) {
        if let Some(popped) = self.popped.get_mut(&pod.uid) {
            popped.newest = Some(pod);
            return;
        }
        match self.place.get(&pod.uid).copied() {
            Some(Place::Ready(rank)) => {
                self.ready.insert(rank, pod);
            }
            Some(Place::Backoff(slot)) => {
                self.backoff.insert(slot, pod);
            }
            Some(Place::Stuck) => match self.stuck.get_mut(&pod.uid).filter(|(old, _, _)| same(old, &pod)) {
                Some(entry) => entry.0 = pod,
                None => {
                    self.stuck.remove(&pod.uid);
                    self.push_ready(pod);
                }
            },
            None => self.push_ready(pod),
        }
        let _ = now;
    }

    fn push_ready(&mut self, pod: Arc<PodInfo>) {
        self.sequence += 1;
        let rank = (Reverse(pod.priority), self.sequence);
        self.place.insert(pod.uid.clone(), Place::Ready(rank));
        self.ready.insert(rank, pod);
    }

    /// The pod is bound, finished or gone.
    pub fn remove(&mut self, uid: &str) {
        match self.place.remove(uid) {
            Some(Place::Ready(rank)) => {
                self.ready.remove(&rank);
            }
            Some(Place::Backoff(slot)) => {
                self.backoff.remove(&slot);
            }
            Some(Place::Stuck) => {
                self.stuck.remove(uid);
            }
            None => {}
        }
        self.popped.remove(uid);
        self.attempts.remove(uid);
    }

    pub fn pop(&mut self, now: Timestamp) -> Option<Arc<PodInfo>> {
        while let Some(entry) = self.backoff.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let pod = entry.remove();
            self.push_ready(pod);
        }
        let old: Vec<String> = self
            .stuck
            .iter()
            .filter(|(_, (_, _, since))| now.duration_since(*since) > FLUSH)
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in old {
            if let Some((pod, _, _)) = self.stuck.remove(&uid) {
                self.push_ready(pod);
            }
        }
        let (_, pod) = self.ready.pop_first()?;
        self.place.remove(&pod.uid);
        self.popped.insert(pod.uid.clone(), Popped::default());
        *self.attempts.entry(pod.uid.clone()).or_default() += 1;
        Some(pod)
    }

    /// How long until something becomes ready by itself.
    pub fn next_due(&self, now: Timestamp) -> Option<Duration> {
        let first = self.backoff.keys().next().map(|(at, _)| *at);
        let flush = self.stuck.values().map(|(_, _, since)| *since + FLUSH).min();
        let at = match (first, flush) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b)?,
        };
        Some(client::clock::between(now, at).max(Duration::from_millis(1)))
    }

    /// It fits nowhere now.
    pub fn unschedulable(&mut self, pod: Arc<PodInfo>, failed: Vec<&'static str>, now: Timestamp) {
        // Gone while it was tried.
        let Some(popped) = self.popped.remove(&pod.uid) else { return };
        let changed = popped.newest.as_ref().is_some_and(|n| !same(n, &pod));
        let pod = popped.newest.unwrap_or(pod);
        if changed || popped.seen.iter().any(|e| e.helps(&failed)) {
            return self.again(pod, now);
        }
        self.place.insert(pod.uid.clone(), Place::Stuck);
        self.stuck.insert(pod.uid.clone(), (pod, failed, now));
    }

    /// Binding failed; try again later.
    pub fn back_off(&mut self, pod: Arc<PodInfo>, now: Timestamp) {
        let pod = self.popped.remove(&pod.uid).and_then(|p| p.newest).unwrap_or(pod);
        let n = self.attempts.get(&pod.uid).copied().unwrap_or(1).saturating_sub(1).min(8);
        let delay = (FIRST_BACKOFF * (1 << n)).min(MAX_BACKOFF);
        self.sequence += 1;
        let slot = (now + delay, self.sequence);
        self.place.insert(pod.uid.clone(), Place::Backoff(slot));
        self.backoff.insert(slot, pod);
    }

    /// Bound: nothing about it is kept.
    pub fn forget(&mut self, uid: &str) {
        self.remove(uid);
    }

    pub fn cluster_event(&mut self, event: ClusterEvent, now: Timestamp) {
        for popped in self.popped.values_mut().filter(|p| !p.seen.contains(&event)) {
            popped.seen.push(event);
        }
        let helped: Vec<String> = self
            .stuck
            .iter()
            .filter(|(_, (_, failed, _))| event.helps(failed))
            .map(|(u, _)| u.clone())
            .collect();
        for uid in helped {
            match self.stuck.remove(&uid) {
                Some((pod, _, since)) if now.duration_since(since) < FIRST_BACKOFF => self.again(pod, now),
                Some((pod, _, _)) => self.push_ready(pod),
                None => {}
            }
        }
    }

    /// One that was tried just now waits its back-off after a few times, so that a storm of events costs little.
    fn again(&mut self, pod: Arc<PodInfo>, now: Timestamp) {
        if self.attempts.get(&pod.uid).is_some_and(|n| *n > 3) {
            self.back_off(pod, now);
        } else {
            self.push_ready(pod);
        }
    }

    /// Sends one that waits for what it was promised back to the start; false when it does not wait.
    pub fn take_back(&mut self, uid: &str, now: Timestamp) -> bool {
        let Some((pod, _, _)) = self.stuck.remove(uid) else { return false };
        self.back_off(pod, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, priority: i64) -> Arc<PodInfo> {
        Arc::new(PodInfo { uid: uid.into(), name: uid.into(), priority, ..PodInfo::default() })
    }
    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(s).expect("timestamp")
    }

    #[test]
    fn priority_then_age() {
        let mut q = Queue::default();
        for (u, p) in [("a", 0), ("b", 10), ("c", 0)] {
            q.add(pod(u, p), at(0));
        }
        let order: Vec<String> = std::iter::from_fn(|| q.pop(at(0))).map(|p| p.uid.clone()).collect();
        assert_eq!(order, ["b", "a", "c"]);
    }

    #[test]
    fn a_stuck_pod_comes_back_on_an_event_that_helps() {
        let mut q = Queue::default();
        q.add(pod("a", 0), at(0));
        let p = q.pop(at(0)).expect("pod");
        q.unschedulable(p, vec!["NodeAffinity"], at(0));
        q.cluster_event(ClusterEvent::PodGone, at(1));
        assert!(q.pop(at(1)).is_none());
        q.cluster_event(ClusterEvent::NodeChanged, at(2));
        assert!(q.pop(at(2)).is_some());
    }

    #[test]
    fn an_event_while_a_pod_is_tried_is_not_missed() {
        let mut q = Queue::default();
        q.add(pod("a", 0), at(0));
        let p = q.pop(at(0)).expect("pod");
        q.cluster_event(ClusterEvent::StorageChanged, at(0));
        q.unschedulable(p, vec!["VolumeBinding"], at(0));
        let p = q.pop(at(1)).expect("pod");
        q.cluster_event(ClusterEvent::PodGone, at(1));
        q.unschedulable(p, vec!["VolumeBinding"], at(1));
        assert!(q.pop(at(20)).is_none());
    }

    #[test]
    fn an_update_while_binding_does_not_queue_it_again() {
        let mut q = Queue::default();
        q.add(pod("a", 0), at(0));
        assert!(q.pop(at(0)).is_some());
        q.add(pod("a", 0), at(0));
        assert!(q.pop(at(0)).is_none());
        q.forget("a");
    }

    #[test]
    fn what_changes_while_a_pod_is_tried_counts_afterwards() {
        let mut q = Queue::default();
        q.add(pod("a", 0), at(0));
        let p = q.pop(at(0)).expect("pod");
        let told = PodInfo { reported: Some("no".into()), ..(*p).clone() };
        q.add(Arc::new(told), at(0));
        q.unschedulable(p, vec!["NodeResourcesFit"], at(0));
        assert!(q.pop(at(0)).is_none(), "a condition does not make it fit");
        q.cluster_event(ClusterEvent::PodGone, at(2));
        let p = q.pop(at(2)).expect("pod");
        assert_eq!(p.reported.as_deref(), Some("no"));
        q.add(Arc::new(PodInfo { labels: [("k".into(), "v".into())].into(), ..(*p).clone() }), at(2));
        q.unschedulable(p, vec!["NodeResourcesFit"], at(2));
        assert!(q.pop(at(2)).is_some_and(|p| p.labels.len() == 1));
        // Gone meanwhile: nothing is kept.
        q.remove("a");
        q.unschedulable(pod("a", 0), vec!["NodeResourcesFit"], at(3));
        assert!(q.next_due(at(3)).is_none());
    }

    #[test]
    fn a_pod_that_waits_is_taken_back_to_make_room() {
        let mut q = Queue::default();
        q.add(pod("a", 0), at(0));
        assert!(!q.take_back("a", at(0)), "it waits for nothing yet");
        let p = q.pop(at(0)).expect("pod");
        q.unschedulable(p, vec!["VolumeBinding"], at(0));
        assert!(q.take_back("a", at(0)));
        assert!(q.pop(at(0)).is_none());
        assert!(q.pop(at(20)).is_some());
    }

    #[test]
    fn a_pod_that_came_helps_those_that_look_for_company() {
        for (plugin, helped) in
            [("InterPodAffinity", true), ("PodTopologySpread", true), ("NodeResourcesFit", false)]
        {
            assert_eq!(ClusterEvent::PodPlaced.helps(&[plugin]), helped, "{plugin}");
        }
    }

    #[test]
    fn back_off_grows_and_is_due() {
        let mut q = Queue::default();
        q.add(pod("a", 0), at(0));
        let p = q.pop(at(0)).expect("pod");
        q.back_off(p, at(0));
        assert!(q.pop(at(0)).is_none());
        assert_eq!(q.next_due(at(0)), Some(Duration::from_secs(1)));
        assert!(q.pop(at(1)).is_some());
    }
}
