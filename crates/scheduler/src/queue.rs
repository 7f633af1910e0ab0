//! What waits to be scheduled: ready pods by priority and age, pods in back-off (1 s doubling to 10 s), and pods that fit
//! nowhere. Those of one shape fit nowhere together: an event that could help wakes the first, and each that finds a place
//! wakes the next. Pure but for the times handed in.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

mod events;

pub use events::{ClusterEvent, Kind};

use crate::core::{PodInfo, ShapeId};
use events::is_held;

/// A pod that fits nowhere is tried again after this even when no event came.
const FLUSH: SignedDuration = SignedDuration::from_secs(300);
/// How often that is looked for.
const SWEEP: SignedDuration = SignedDuration::from_secs(30);

type Rank = (Reverse<i64>, u64);

/// Who waits together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Group {
    Shape(ShapeId),
    /// It waits for something of its own: claims, gates, room that is being made.
    Alone(String),
}

#[derive(Default)]
struct Stuck {
    failed: Vec<&'static str>,
    /// Where room is being made.
    promised: Option<String>,
    /// By age.
    pods: BTreeMap<u64, (Arc<PodInfo>, Timestamp)>,
}

#[derive(Clone)]
enum Place {
    Ready(Rank),
    Backoff((Timestamp, u64)),
    Stuck(Group, u64),
    Held,
    /// Popped and not yet settled.
    Popped,
}

/// A popped pod, with what happened meanwhile: a change of the object must not queue it twice, and an event that could help
/// must not be missed.
#[derive(Default)]
struct Popped {
    /// Each kind once.
    seen: Vec<Kind>,
    newest: Option<Arc<PodInfo>>,
    /// It has a node, and is being bound.
    placed: bool,
}

pub struct Queue {
    first_backoff: SignedDuration,
    max_backoff: SignedDuration,
    ready: BTreeMap<Rank, Arc<PodInfo>>,
    backoff: BTreeMap<(Timestamp, u64), Arc<PodInfo>>,
    stuck: HashMap<Group, Stuck>,
    /// Pods that only a change of their own can help: no event looks at them.
    held: HashMap<String, Arc<PodInfo>>,
    attempts: HashMap<String, u32>,
    popped: HashMap<String, Popped>,
    /// Shapes whose oldest pod is on its way, by its uid, and the other way round.
    woken: HashMap<String, ShapeId>,
    on_their_way: HashSet<ShapeId>,
    /// Where each pod stands.
    place: HashMap<String, Place>,
    sequence: u64,
    sweep: Timestamp,
}

impl Default for Queue {
    fn default() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(10))
    }
}

/// Whether both would be placed alike.
fn same(a: &PodInfo, b: &PodInfo) -> bool {
    a.gates == b.gates && a.shape() == b.shape()
}

/// How a pod that fits nowhere waits.
#[derive(Debug, Default)]
pub struct Wait {
    pub failed: Vec<&'static str>,
    /// The node where room is being made for it.
    pub promised: Option<String>,
}

impl Queue {
    pub fn new(first_backoff: Duration, max_backoff: Duration) -> Self {
        let signed = |d| SignedDuration::try_from(d).unwrap_or(SignedDuration::from_secs(1));
        Self {
            first_backoff: signed(first_backoff),
            max_backoff: signed(max_backoff),
            ready: BTreeMap::new(),
            backoff: BTreeMap::new(),
            stuck: HashMap::new(),
            held: HashMap::new(),
            attempts: HashMap::new(),
            popped: HashMap::new(),
            woken: HashMap::new(),
            on_their_way: HashSet::new(),
            place: HashMap::new(),
            sequence: 0,
            sweep: Timestamp::MIN,
        }
    }

    /// A new or changed pod. An update of a pod that fits nowhere makes it ready when its spec could fit now.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        match self.place.get(&pod.uid).cloned() {
            Some(Place::Popped) => {
                if let Some(popped) = self.popped.get_mut(&pod.uid) {
                    popped.newest = Some(pod);
                }
            }
            Some(Place::Ready(rank)) if rank.0 == Reverse(pod.priority) => {
                self.ready.insert(rank, pod);
            }
            Some(Place::Ready(rank)) => {
                self.ready.remove(&rank);
                self.push_ready(pod);
            }
            Some(Place::Backoff(slot)) => {
                self.backoff.insert(slot, pod);
            }
            Some(Place::Stuck(group, n)) => {
                let there = self.stuck.get_mut(&group).and_then(|s| s.pods.get_mut(&n));
                match there.filter(|(old, _)| same(old, &pod)) {
                    Some(entry) => entry.0 = pod,
                    None => {
                        self.leave(&group, n);
                        self.push_ready(pod);
                    }
                }
            }
            Some(Place::Held) => match self.held.get_mut(&pod.uid).filter(|old| same(old, &pod)) {
                Some(old) => *old = pod,
                None => {
                    self.held.remove(&pod.uid);
                    self.push_ready(pod);
                }
            },
            None => self.push_ready(pod),
        }
    }

    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn push_ready(&mut self, pod: Arc<PodInfo>) {
        let rank = (Reverse(pod.priority), self.next());
        self.place.insert(pod.uid.clone(), Place::Ready(rank));
        self.ready.insert(rank, pod);
    }

    fn leave(&mut self, group: &Group, n: u64) -> Option<Arc<PodInfo>> {
        let stuck = self.stuck.get_mut(group)?;
        let (pod, _) = stuck.pods.remove(&n)?;
        if stuck.pods.is_empty() {
            self.stuck.remove(group);
        }
        Some(pod)
    }

    /// Wakes the oldest of the group, unless one is on its way.
    fn wake(&mut self, group: &Group, now: Timestamp) {
        if let Group::Shape(shape) = group
            && self.on_their_way.contains(shape)
        {
            return;
        }
        let Some((n, since)) =
            self.stuck.get(group).and_then(|s| s.pods.iter().next()).map(|(n, (_, t))| (*n, *t))
        else {
            return;
        };
        let Some(pod) = self.leave(group, n) else { return };
        if let Group::Shape(shape) = group {
            self.woken.insert(pod.uid.clone(), *shape);
            self.on_their_way.insert(*shape);
        }
        if now.duration_since(since) < self.first_backoff {
            self.again(pod, now);
        } else {
            self.push_ready(pod);
        }
    }

    /// The pod is bound, finished or gone.
    pub fn remove(&mut self, uid: &str, now: Timestamp) {
        match self.place.remove(uid) {
            Some(Place::Ready(rank)) => {
                self.ready.remove(&rank);
            }
            Some(Place::Backoff(slot)) => {
                self.backoff.remove(&slot);
            }
            Some(Place::Stuck(group, n)) => {
                self.leave(&group, n);
            }
            Some(Place::Held) => {
                self.held.remove(uid);
            }
            Some(Place::Popped) | None => {}
        }
        self.popped.remove(uid);
        self.attempts.remove(uid);
        // What it was to try, the next one tries.
        self.wake_next(uid, now);
    }

    pub fn pop(&mut self, now: Timestamp) -> Option<Arc<PodInfo>> {
        while let Some(entry) = self.backoff.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let pod = entry.remove();
            self.push_ready(pod);
        }
        if now >= self.sweep {
            self.sweep = now + SWEEP;
            let old = |s: &Stuck| s.pods.values().next().is_some_and(|(_, t)| now.duration_since(*t) > FLUSH);
            let groups: Vec<Group> =
                self.stuck.iter().filter(|(_, s)| old(s)).map(|(g, _)| g.clone()).collect();
            groups.iter().for_each(|g| self.wake(g, now));
        }
        let (_, pod) = self.ready.pop_first()?;
        self.place.insert(pod.uid.clone(), Place::Popped);
        self.popped.insert(pod.uid.clone(), Popped::default());
        *self.attempts.entry(pod.uid.clone()).or_default() += 1;
        Some(pod)
    }

    /// How long until something becomes ready by itself.
    pub fn next_due(&self, now: Timestamp) -> Option<Duration> {
        let first = self.backoff.keys().next().map(|(at, _)| *at);
        let sweep = (!self.stuck.is_empty()).then_some(self.sweep);
        let at = match (first, sweep) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b)?,
        };
        Some(client::clock::between(now, at).max(Duration::from_millis(1)))
    }

    /// It has a node. The next of its group tries its luck.
    pub fn placed(&mut self, uid: &str, now: Timestamp) {
        if let Some(popped) = self.popped.get_mut(uid) {
            popped.placed = true;
        }
        self.wake_next(uid, now);
    }

    /// The pod is no longer the one of its shape that is on its way; gives the shape.
    fn arrived(&mut self, uid: &str) -> Option<ShapeId> {
        let shape = self.woken.remove(uid)?;
        self.on_their_way.remove(&shape);
        Some(shape)
    }

    fn wake_next(&mut self, uid: &str, now: Timestamp) {
        if let Some(shape) = self.arrived(uid) {
            self.wake(&Group::Shape(shape), now);
        }
    }

    /// It fits nowhere now.
    pub fn unschedulable(&mut self, pod: Arc<PodInfo>, wait: Wait, now: Timestamp) {
        // Gone while it was tried.
        let Some(popped) = self.popped.remove(&pod.uid) else { return };
        let changed = popped.newest.as_ref().is_some_and(|n| !same(n, &pod));
        let pod = popped.newest.unwrap_or(pod);
        if changed || popped.seen.iter().any(|kind| kind.helps(&wait.failed)) {
            return self.again(pod, now);
        }
        self.arrived(&pod.uid);
        if wait.failed.iter().any(|p| is_held(p)) {
            self.place.insert(pod.uid.clone(), Place::Held);
            self.held.insert(pod.uid.clone(), pod);
            return;
        }
        let own = !pod.claims.is_empty() || wait.promised.is_some();
        let group = match own || pod.shape_id() == 0 {
            true => Group::Alone(pod.uid.clone()),
            false => Group::Shape(pod.shape_id()),
        };
        let n = self.next();
        self.place.insert(pod.uid.clone(), Place::Stuck(group.clone(), n));
        let stuck = self.stuck.entry(group).or_default();
        (stuck.failed, stuck.promised) = (wait.failed, wait.promised);
        stuck.pods.insert(n, (pod, now));
    }

    /// Something failed on the way; try again later.
    pub fn back_off(&mut self, pod: Arc<PodInfo>, now: Timestamp) {
        let popped = self.popped.remove(&pod.uid);
        let pod = popped.and_then(|p| p.newest).unwrap_or(pod);
        let n = self.attempts.get(&pod.uid).copied().unwrap_or(1).saturating_sub(1).min(8);
        let delay = self.first_backoff.saturating_mul(1 << n).min(self.max_backoff);
        let slot = (now + delay, self.next());
        self.place.insert(pod.uid.clone(), Place::Backoff(slot));
        self.backoff.insert(slot, pod);
    }

    /// Bound: nothing about it is kept.
    pub fn forget(&mut self, uid: &str, now: Timestamp) {
        self.remove(uid, now);
    }

    /// Wakes those that the event could help; `fits` says whether a pod could go to a node now.
    pub fn cluster_event(
        &mut self,
        event: &ClusterEvent,
        now: Timestamp,
        mut fits: impl FnMut(&PodInfo, &str) -> bool,
    ) {
        for popped in self.popped.values_mut().filter(|p| !p.placed && !p.seen.contains(&event.kind)) {
            popped.seen.push(event.kind);
        }
        let mut helped = Vec::new();
        for (group, stuck) in self.stuck.iter().filter(|(_, s)| event.kind.helps(&s.failed)) {
            let there = event.place(&stuck.failed);
            // Those who were promised a node wait for that one.
            if let Some(promised) = &stuck.promised
                && event.kind == Kind::PodGone
            {
                if event.node.as_ref() == Some(promised) {
                    helped.push(group.clone());
                }
                continue;
            }
            let first = stuck.pods.values().next();
            if first.is_some_and(|(pod, _)| there.is_none_or(|node| fits(pod, node))) {
                helped.push(group.clone());
            }
        }
        helped.iter().for_each(|g| self.wake(g, now));
    }

    /// Whether an event can matter at all.
    pub fn anyone_waits(&self) -> bool {
        !self.stuck.is_empty() || self.popped.values().any(|p| !p.placed)
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
        let Some(Place::Stuck(group, n)) = self.place.get(uid).cloned() else { return false };
        let Some(pod) = self.leave(&group, n) else { return false };
        self.back_off(pod, now);
        true
    }
}

#[cfg(test)]
mod tests;
