//! Watches: who wants which prefix, and a bounded queue for each. The commit thread hands events in after they are
//! visible; all watchers of one prefix are given the same slice of them, and each is woken once a group. Costs nothing
//! when nothing happens; spawns nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use parking_lot::Mutex;

use crate::{Error, Event, Revision, WatchItem, Watcher};

/// Events of history in one item; a revision is never split for it.
const BATCH: usize = 1024;
/// Room for events that a prefix keeps between groups.
const KEPT: usize = 256;

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
    prefixes: HashMap<Arc<str>, Watched>,
    /// Lengths of prefixes in use and how many prefixes have them.
    lengths: BTreeMap<usize, usize>,
    /// Who waits for news of progress.
    progress: Vec<Arc<Shared>>,
    touched: Vec<Arc<str>>,
    stopped: Option<String>,
}

/// A prefix that somebody watches.
#[derive(Default)]
struct Watched {
    slots: Vec<Slot>,
    /// Events of the group at hand, moved over at once so that no revision is seen in halves.
    staged: Vec<Event>,
}

struct Slot {
    shared: Arc<Shared>,
    from: Revision,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct Queue {
    groups: VecDeque<Arc<[Event]>>,
    /// Events in the groups.
    count: usize,
    end: Option<End>,
}

impl Queue {
    /// A watcher that has too much before it already is ended.
    fn push(&mut self, group: Arc<[Event]>, max_events: usize) {
        if self.end.is_some() {
            return;
        }
        if self.count + group.len() > max_events && self.count > 0 {
            *self = Self { end: Some(End::Slow), ..Self::default() };
            return;
        }
        self.count += group.len();
        self.groups.push_back(group);
    }

    fn pop(&mut self) -> Option<Arc<[Event]>> {
        let group = self.groups.pop_front()?;
        self.count -= group.len();
        Some(group)
    }
}

#[derive(Clone)]
enum End {
    Slow,
    Compacted(Revision),
    Stopped(String),
}

impl Watched {
    /// Puts the events at hand into the queues.
    fn hand_over(&mut self, max_events: usize) {
        let all: Arc<[Event]> = self.staged.drain(..).collect();
        self.staged.shrink_to(KEPT);
        let (Some(first), Some(last)) = (all.first(), all.last()) else { return };
        let (first, last) = (first.record.mod_revision, last.record.mod_revision);
        for slot in &self.slots {
            if slot.from > last {
                continue;
            }
            let group = if slot.from <= first {
                all.clone()
            } else {
                all.iter().filter(|e| e.record.mod_revision >= slot.from).cloned().collect()
            };
            slot.shared.queue.lock().push(group, max_events);
        }
    }
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
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        if let Some(why) = &inner.stopped {
            return Err(Error::Stopped(why.clone()));
        }
        let dispatched = self.dispatched.load(Ordering::Acquire);
        let (from, backlog) = match from {
            Some(from) => (from, history(from, dispatched)?),
            // What is readable already is not news, though it may not be dispatched yet.
            None => (self.visible() + 1, Vec::new()),
        };
        let shared = Arc::new(Shared::default());
        let prefix = match inner.prefixes.get_key_value(prefix) {
            Some((known, _)) => known.clone(),
            None => {
                *inner.lengths.entry(prefix.len()).or_default() += 1;
                prefix.into()
            }
        };
        let watched = inner.prefixes.entry(prefix.clone()).or_default();
        watched.slots.push(Slot { shared: shared.clone(), from });
        drop(guard);
        Ok(Box::new(Watch { prefix, hub: self.clone(), shared, backlog: backlog.into(), progress: None }))
    }

    /// Hands out events that have just become visible, `revision` being the newest.
    pub fn dispatch(&self, events: &[Event], revision: Revision) {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        for e in events {
            let key = &*e.record.key;
            for (&length, _) in inner.lengths.range(..=key.len()) {
                let Some(prefix) = key.get(..length) else { continue };
                let Some(watched) = inner.prefixes.get_mut(prefix) else { continue };
                watched.staged.push(e.clone());
                if watched.staged.len() == 1
                    && let Some((prefix, _)) = inner.prefixes.get_key_value(prefix)
                {
                    inner.touched.push(prefix.clone());
                }
            }
        }
        for prefix in &inner.touched {
            if let Some(watched) = inner.prefixes.get_mut(prefix) {
                watched.hand_over(self.max_events);
            }
        }
        self.dispatched.store(revision, Ordering::Release);
        for prefix in inner.touched.drain(..) {
            for slot in inner.prefixes.get(&prefix).into_iter().flat_map(|w| &w.slots) {
                slot.shared.waker.wake();
            }
        }
        for shared in inner.progress.drain(..) {
            shared.waker.wake();
        }
    }

    /// Ends every watch: between what they have and `revision`, the newest one now, history is missing.
    pub fn restart(&self, revision: Revision) {
        let inner = self.inner.lock();
        self.visible.store(revision, Ordering::Release);
        self.dispatched.store(revision, Ordering::Release);
        inner.end_all(|queue| {
            if queue.end.is_none() {
                *queue = Queue { end: Some(End::Compacted(revision)), ..Queue::default() };
            }
        });
    }

    /// Ends every watch, after what it has in its queue.
    pub fn stop(&self, why: &str) {
        let mut inner = self.inner.lock();
        inner.stopped.get_or_insert_with(|| why.to_owned());
        inner.end_all(|queue| {
            queue.end.get_or_insert_with(|| End::Stopped(why.to_owned()));
        });
    }

    fn remove(&self, shared: &Arc<Shared>, prefix: &str) {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        inner.progress.retain(|s| !Arc::ptr_eq(s, shared));
        let Some(watched) = inner.prefixes.get_mut(prefix) else { return };
        if let Some(at) = watched.slots.iter().position(|s| Arc::ptr_eq(&s.shared, shared)) {
            watched.slots.swap_remove(at);
        }
        if !watched.slots.is_empty() {
            return;
        }
        inner.prefixes.remove(prefix);
        if let Some(n) = inner.lengths.get_mut(&prefix.len()) {
            *n -= 1;
            if *n == 0 {
                inner.lengths.remove(&prefix.len());
            }
        }
    }
}

impl Inner {
    fn end_all(&self, end: impl Fn(&mut Queue)) {
        for slot in self.prefixes.values().flat_map(|w| &w.slots) {
            end(&mut slot.shared.queue.lock());
            slot.shared.waker.wake();
        }
    }
}

struct Watch {
    prefix: Arc<str>,
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
    let mut n = BATCH.min(events.len());
    while let (Some(a), Some(b)) = (events.get(n - 1), events.get(n))
        && a.record.mod_revision == b.record.mod_revision
    {
        n += 1;
    }
    let item = WatchItem::Events(events.drain(..n).collect());
    if events.is_empty() {
        *events = VecDeque::new();
    }
    Some(item)
}

impl Watch {
    fn at_hand(&mut self) -> Option<Result<WatchItem, Error>> {
        if let Some(item) = batch(&mut self.backlog) {
            return Some(Ok(item));
        }
        // Read before the queue: what was dispatched by then is in it.
        let dispatched = self.hub.dispatched.load(Ordering::Acquire);
        let mut queue = self.shared.queue.lock();
        if let Some(group) = queue.pop() {
            return Some(Ok(WatchItem::Events(group)));
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

impl Watcher for Watch {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<WatchItem, Error>> {
        // Before the look: what comes after it wakes.
        self.shared.waker.register(cx.waker());
        self.at_hand().map_or(Poll::Pending, Poll::Ready)
    }

    fn request_progress(&mut self) {
        let wanted = self.hub.visible();
        self.progress = Some(wanted);
        let mut inner = self.hub.inner.lock();
        if self.hub.dispatched.load(Ordering::Acquire) < wanted {
            // The dispatch that follows wakes us.
            inner.progress.push(self.shared.clone());
        }
        drop(inner);
        self.shared.waker.wake();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.hub.remove(&self.shared, &self.prefix);
    }
}
