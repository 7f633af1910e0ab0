//! Watches: who wants which prefix, and a bounded queue for each. The commit thread hands events in after they are
//! visible; a watcher is woken once a group. Costs nothing when nothing happens; spawns nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{Error, Event, Revision, WatchItem, Watcher};

/// Events in one item; a revision is never split for it.
const BATCH: usize = 1024;

pub(crate) struct Hub {
    inner: Mutex<Inner>,
    /// Everything up to here is in the watchers' queues.
    dispatched: AtomicU64,
    /// The newest durable revision; readers see it, the queues get it a moment later.
    visible: AtomicU64,
    max_events: usize,
}

#[derive(Default)]
struct Inner {
    next_id: u64,
    slots: HashMap<u64, Slot>,
    by_prefix: HashMap<Box<str>, Vec<u64>>,
    /// Lengths of prefixes in use and how many prefixes have them.
    lengths: BTreeMap<usize, usize>,
    progress: Vec<u64>,
    touched: Vec<u64>,
    stopped: Option<String>,
}

struct Slot {
    shared: Arc<Shared>,
    from: Revision,
    /// Events of the group at hand, moved over at once so that no revision is seen in halves.
    staged: Vec<Event>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    notify: Notify,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<Event>,
    end: Option<End>,
}

#[derive(Clone)]
enum End {
    Slow,
    Compacted(Revision),
    Stopped(String),
}

impl Hub {
    pub fn new(dispatched: Revision, max_events: usize) -> Self {
        let (visible, dispatched) = (AtomicU64::new(dispatched), AtomicU64::new(dispatched));
        Self { inner: Mutex::default(), dispatched, visible, max_events }
    }

    pub fn set_visible(&self, revision: Revision) {
        self.visible.store(revision, Ordering::Release);
    }

    pub fn visible(&self) -> Revision {
        self.visible.load(Ordering::Acquire)
    }

    /// Registers a watch. `history` reads the events from the given revision up to what was dispatched; no event can
    /// fall between them and the queue.
    pub fn watch(
        self: &Arc<Self>,
        prefix: &str,
        from: Option<Revision>,
        history: impl FnOnce(Revision, Revision) -> Result<Vec<Event>, Error>,
    ) -> Result<Box<dyn Watcher>, Error> {
        let mut inner = self.inner.lock();
        if let Some(why) = &inner.stopped {
            return Err(Error::Stopped(why.clone()));
        }
        let dispatched = self.dispatched.load(Ordering::Acquire);
        let (from, backlog) = match from {
            Some(from) => (from, history(from, dispatched)?),
            // What is readable already is not news, though it may not be dispatched yet.
            None => (self.visible() + 1, Vec::new()),
        };
        let id = inner.next_id;
        inner.next_id += 1;
        let shared = Arc::new(Shared::default());
        inner.slots.insert(id, Slot { shared: shared.clone(), from, staged: Vec::new() });
        let ids = inner.by_prefix.entry(prefix.into()).or_default();
        ids.push(id);
        if ids.len() == 1 {
            *inner.lengths.entry(prefix.len()).or_default() += 1;
        }
        drop(inner);
        Ok(Box::new(Watch {
            id,
            prefix: prefix.into(),
            hub: self.clone(),
            shared,
            backlog: backlog.into(),
            progress: None,
        }))
    }

    /// Hands out events that have just become visible, `revision` being the newest.
    pub fn dispatch(&self, events: &[Event], revision: Revision) {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let mut touched = std::mem::take(&mut inner.touched);
        if !inner.slots.is_empty() {
            for e in events {
                let key = &*e.record.key;
                for (&length, _) in inner.lengths.range(..=key.len()) {
                    let Some(ids) = key.get(..length).and_then(|p| inner.by_prefix.get(p)) else { continue };
                    for id in ids {
                        let Some(slot) = inner.slots.get_mut(id) else { continue };
                        if slot.from > e.record.mod_revision {
                            continue;
                        }
                        if slot.staged.is_empty() {
                            touched.push(*id);
                        }
                        slot.staged.push(e.clone());
                    }
                }
            }
            for id in touched.iter() {
                let Some(slot) = inner.slots.get_mut(id) else { continue };
                let mut queue = slot.shared.queue.lock();
                if queue.end.is_some() {
                    slot.staged.clear();
                } else if queue.events.len() + slot.staged.len() > self.max_events && !queue.events.is_empty()
                {
                    *queue = Queue { events: VecDeque::new(), end: Some(End::Slow) };
                    slot.staged = Vec::new();
                } else {
                    queue.events.extend(slot.staged.drain(..));
                    if slot.staged.capacity() > 256 {
                        slot.staged = Vec::new();
                    }
                }
            }
        }
        self.dispatched.store(revision, Ordering::Release);
        for id in touched.iter().chain(&inner.progress) {
            if let Some(slot) = inner.slots.get(id) {
                slot.shared.notify.notify_one();
            }
        }
        inner.progress.clear();
        touched.clear();
        inner.touched = touched;
    }

    /// Ends every watch: between what they have and `revision`, the newest one now, history is missing.
    pub fn restart(&self, revision: Revision) {
        let inner = self.inner.lock();
        self.visible.store(revision, Ordering::Release);
        self.dispatched.store(revision, Ordering::Release);
        for slot in inner.slots.values() {
            let mut queue = slot.shared.queue.lock();
            if queue.end.is_none() {
                *queue = Queue { events: VecDeque::new(), end: Some(End::Compacted(revision)) };
            }
            drop(queue);
            slot.shared.notify.notify_one();
        }
    }

    /// Ends every watch, after what it has in its queue.
    pub fn stop(&self, why: &str) {
        let mut inner = self.inner.lock();
        inner.stopped.get_or_insert_with(|| why.to_owned());
        for slot in inner.slots.values() {
            slot.shared.queue.lock().end.get_or_insert_with(|| End::Stopped(why.to_owned()));
            slot.shared.notify.notify_one();
        }
    }

    fn remove(&self, id: u64, prefix: &str) {
        let mut inner = self.inner.lock();
        inner.slots.remove(&id);
        let Some(ids) = inner.by_prefix.get_mut(prefix) else { return };
        ids.retain(|i| *i != id);
        if !ids.is_empty() {
            return;
        }
        inner.by_prefix.remove(prefix);
        if let Some(n) = inner.lengths.get_mut(&prefix.len()) {
            *n -= 1;
            if *n == 0 {
                inner.lengths.remove(&prefix.len());
            }
        }
    }
}

struct Watch {
    id: u64,
    prefix: Box<str>,
    hub: Arc<Hub>,
    shared: Arc<Shared>,
    /// History from before the watch began; not counted against the queue's bound.
    backlog: VecDeque<Event>,
    /// The revision that the wanted progress item must reach.
    progress: Option<Revision>,
}

fn batch(events: &mut VecDeque<Event>) -> Option<WatchItem> {
    if events.is_empty() {
        return None;
    }
    if events.len() <= BATCH {
        return Some(WatchItem::Events(std::mem::take(events).into()));
    }
    let mut n = BATCH;
    while let (Some(a), Some(b)) = (events.get(n - 1), events.get(n))
        && a.record.mod_revision == b.record.mod_revision
    {
        n += 1;
    }
    Some(WatchItem::Events(events.drain(..n).collect()))
}

impl Watch {
    fn poll_item(&mut self) -> Option<Result<WatchItem, Error>> {
        if let Some(item) = batch(&mut self.backlog) {
            return Some(Ok(item));
        }
        // Read before the queue: what was dispatched by then is in it.
        let dispatched = self.hub.dispatched.load(Ordering::Acquire);
        let mut queue = self.shared.queue.lock();
        if let Some(item) = batch(&mut queue.events) {
            return Some(Ok(item));
        }
        match queue.end.clone() {
            Some(End::Slow) => return Some(Err(Error::Slow)),
            Some(End::Compacted(oldest)) => {
                return Some(Err(Error::Compacted { asked: oldest.saturating_sub(1), oldest }));
            }
            Some(End::Stopped(why)) => return Some(Err(Error::Stopped(why))),
            None => {}
        }
        if self.progress.is_some_and(|wanted| dispatched >= wanted) {
            self.progress = None;
            return Some(Ok(WatchItem::Progress(dispatched)));
        }
        None
    }
}

#[async_trait]
impl Watcher for Watch {
    async fn next(&mut self) -> Result<WatchItem, Error> {
        loop {
            if let Some(item) = self.poll_item() {
                return item;
            }
            self.shared.notify.notified().await;
        }
    }

    fn request_progress(&mut self) {
        // Read before the lock: if it is not dispatched yet, a dispatch that wakes us follows.
        self.progress = Some(self.hub.visible());
        let mut inner = self.hub.inner.lock();
        inner.progress.push(self.id);
        drop(inner);
        self.shared.notify.notify_one();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.hub.remove(self.id, &self.prefix);
    }
}
