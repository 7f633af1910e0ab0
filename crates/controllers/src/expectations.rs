//! Expectations against stale informers: a loop that created or deleted children waits until its informer has seen that,
//! so that it never creates the same child twice. Bounded by the children under way; given up after a while.

use std::collections::{HashMap, HashSet};

use client::{Change, Informer, Object, planted};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::skeleton::Key;

const GIVE_UP: SignedDuration = SignedDuration::from_secs(60);

/// When a loop that waits for what it expects looks again, should its informer never show it.
pub const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(61);

#[derive(Default)]
struct Pending {
    creates: HashSet<String>,
    deletes: HashSet<String>,
    since: Option<Timestamp>,
}

#[derive(Default)]
pub struct Expectations {
    pending: Mutex<HashMap<Key, Pending>>,
}

impl Expectations {
    /// True when nothing is under way any more for the key.
    pub fn satisfied(&self, key: &Key, now: Timestamp) -> bool {
        let mut all = self.pending.lock();
        let Some(p) = all.get(key) else { return true };
        let done = p.creates.is_empty() && p.deletes.is_empty();
        if done || p.since.is_some_and(|s| now.duration_since(s) > GIVE_UP) {
            all.remove(key);
            return true;
        }
        false
    }

    /// After a create was answered. The informer may have been quicker.
    pub fn created(&self, key: &Key, child: &Object, children: &Informer, now: Timestamp) {
        if planted::is_on("expectation-forgotten") {
            return;
        }
        let mut all = self.pending.lock();
        if children.get(child.namespace(), child.name()).is_some_and(|o| o.uid() == child.uid()) {
            return;
        }
        let p = all.entry(key.clone()).or_default();
        p.since = Some(now);
        p.creates.insert(child.uid().to_owned());
    }

    /// Before a delete is sent.
    pub fn deleting(&self, key: &Key, child: &Object, now: Timestamp) {
        let mut all = self.pending.lock();
        let p = all.entry(key.clone()).or_default();
        p.since = Some(now);
        p.deletes.insert(child.uid().to_owned());
    }

    /// A delete that failed.
    pub fn not_deleted(&self, key: &Key, child: &Object) {
        if let Some(p) = self.pending.lock().get_mut(key) {
            p.deletes.remove(child.uid());
        }
    }

    /// From the children's informer.
    pub fn observe(&self, key: &Key, change: Change<'_>) {
        let Some(o) = change.object() else { return };
        let mut all = self.pending.lock();
        let Some(p) = all.get_mut(key) else { return };
        p.creates.remove(o.uid());
        if change.new.is_none_or(|n| n.meta().is_deleting()) {
            p.deletes.remove(o.uid());
        }
        if p.creates.is_empty() && p.deletes.is_empty() {
            all.remove(key);
        }
    }

    pub fn forget(&self, key: &Key) {
        self.pending.lock().remove(key);
    }
}
