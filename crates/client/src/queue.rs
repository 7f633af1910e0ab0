//! The work queue of a loop: a key is queued once however often it is added, never worked on twice at the same time,
//! and comes back after a delay or with exponential back-off. Bounded by the number of distinct keys.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

const BASE: Duration = Duration::from_millis(5);
const MAX: Duration = Duration::from_secs(300);

struct State<K> {
    ready: VecDeque<K>,
    queued: HashSet<K>,
    working: HashSet<K>,
    /// Added while it was being worked on.
    again: HashSet<K>,
    delayed: BTreeMap<(Instant, u64), K>,
    /// The earliest wake-up that each delayed key has.
    due: HashMap<K, (Instant, u64)>,
    failures: HashMap<K, u32>,
    sequence: u64,
    closed: bool,
}

/// See the module text. Keys are cheap to clone (`String`, `(String, String)`).
pub struct WorkQueue<K> {
    state: Mutex<State<K>>,
    notify: Notify,
}

impl<K: Clone + Eq + Hash + Ord> Default for WorkQueue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Eq + Hash + Ord> WorkQueue<K> {
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                queued: HashSet::new(),
                working: HashSet::new(),
                again: HashSet::new(),
                delayed: BTreeMap::new(),
                due: HashMap::new(),
                failures: HashMap::new(),
                sequence: 0,
                closed: false,
            }),
            notify: Notify::new(),
        }
    }

    pub fn add(&self, key: K) {
        if self.state.lock().push(key) {
            self.notify.notify_one();
        }
    }

    /// Adds the key once `delay` has passed; an earlier wake-up that is already set wins.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let mut s = self.state.lock();
        let at = Instant::now() + delay;
        if let Some(old) = s.due.get(&key).copied() {
            if old.0 <= at {
                return;
            }
            s.delayed.remove(&old);
        }
        s.sequence += 1;
        let slot = (at, s.sequence);
        s.delayed.insert(slot, key.clone());
        s.due.insert(key, slot);
        drop(s);
        self.notify.notify_one();
    }

    /// Adds the key after its back-off, which doubles with each call until `forget`.
    pub fn retry(&self, key: K) {
        let delay = {
            let mut s = self.state.lock();
            let n = s.failures.entry(key.clone()).or_insert(0);
            let delay = BASE.saturating_mul(1 << (*n).min(20)).min(MAX);
            *n = n.saturating_add(1);
            delay
        };
        self.add_after(key, delay);
    }

    /// Failures in a row.
    pub fn failures(&self, key: &K) -> u32 {
        self.state.lock().failures.get(key).copied().unwrap_or(0)
    }

    pub fn forget(&self, key: &K) {
        self.state.lock().failures.remove(key);
    }

    /// The next key; `None` once closed. Call `done` with it afterwards.
    pub async fn get(&self) -> Option<K> {
        loop {
            let notified = self.notify.notified();
            let wake = {
                let mut s = self.state.lock();
                if s.closed {
                    return None;
                }
                s.release_due(Instant::now());
                if let Some(k) = s.ready.pop_front() {
                    s.queued.remove(&k);
                    s.working.insert(k.clone());
                    let more = !s.ready.is_empty() || !s.delayed.is_empty();
                    drop(s);
                    if more {
                        self.notify.notify_one();
                    }
                    return Some(k);
                }
                s.delayed.keys().next().map(|(at, _)| *at)
            };
            match wake {
                Some(at) => tokio::select! { () = notified => {}, () = tokio::time::sleep_until(at) => {} },
                None => notified.await,
            }
        }
    }

    /// Ends the work on a key; if it was added meanwhile it is queued again.
    pub fn done(&self, key: &K) {
        let mut s = self.state.lock();
        s.working.remove(key);
        if s.again.remove(key) && s.push(key.clone()) {
            drop(s);
            self.notify.notify_one();
        }
    }

    pub fn close(&self) {
        self.state.lock().closed = true;
        self.notify.notify_waiters();
        self.notify.notify_one();
    }

    /// Ready keys.
    pub fn len(&self) -> usize {
        self.state.lock().ready.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Clone + Eq + Hash + Ord> State<K> {
    fn push(&mut self, key: K) -> bool {
        if self.working.contains(&key) {
            self.again.insert(key);
            return false;
        }
        if !self.queued.insert(key.clone()) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    fn release_due(&mut self, now: Instant) {
        while let Some((slot, _)) = self.delayed.first_key_value() {
            if slot.0 > now {
                break;
            }
            let Some((_, key)) = self.delayed.pop_first() else { break };
            self.due.remove(&key);
            self.push(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_queued_once_and_comes_back_when_added_during_work() {
        let q = WorkQueue::new();
        q.add("a");
        q.add("a");
        assert_eq!(q.get().await, Some("a"));
        q.add("a");
        assert!(q.is_empty());
        q.done(&"a");
        assert_eq!(q.get().await, Some("a"));
    }

    #[tokio::test]
    async fn delays_and_backoff_order_keys() {
        let q = WorkQueue::new();
        q.add_after("late", Duration::from_millis(60));
        q.add_after("early", Duration::from_millis(5));
        q.add_after("late", Duration::from_millis(90));
        assert_eq!(q.get().await, Some("early"));
        assert_eq!(q.get().await, Some("late"));
        q.retry("x");
        q.retry("x");
        assert_eq!(q.failures(&"x"), 2);
        assert_eq!(q.get().await, Some("x"));
        q.close();
        assert_eq!(q.get().await, None);
    }
}
