//! The durable state in memory: current records, the expiry index, and bounded history per kind. The commit thread
//! changes it, everybody reads it. Pure data behind the engine's lock; spawns nothing.
//!
//! A read at an old revision takes the current records and undoes the history that came later, so no version chains
//! are kept. History forgets its oldest events by bytes per kind, by bytes in all and by time; a kind remembers the
//! newest revision it has forgotten.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{Error, Event, EventKind, Record, Revision};

/// Bytes that a current record costs beside its key and value: `Record`, its counts, the key's counts, map slots.
const RECORD_OVERHEAD: u64 = 200;
const EVENT_OVERHEAD: usize = 64 + RECORD_OVERHEAD as usize;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub kind: usize,
    pub small_kind: usize,
    pub total: usize,
    pub age: Duration,
}

pub(crate) struct View {
    map: BTreeMap<Arc<str>, Slot>,
    pub revision: Revision,
    /// By `compact`: reads and watches below are refused.
    pub compacted: Revision,
    /// Older than the age that history may have: such a list does not go on, as with upstream's compaction every five
    /// minutes, also where its kind has not changed since. Watches may still resume from there.
    aged: Revision,
    /// What a snapshot restored; nothing is known of changes up to it.
    pub base: Revision,
    pub expiry: BTreeSet<(u64, Arc<str>)>,
    pub live_bytes: u64,
    pub history_bytes: usize,
    kinds: HashMap<Box<str>, Kind>,
    /// (milliseconds, newest revision then), about one a second while there are writes.
    marks: VecDeque<(u64, Revision)>,
    limits: Limits,
}

/// A current record, and what can be told of it without looking at it: a walk that passes it over touches nothing else.
struct Slot {
    record: Arc<Record>,
    marks: AtomicU64,
}

/// It may be anything.
const UNKNOWN: u64 = u64::MAX;

impl Slot {
    fn new(record: Arc<Record>) -> Self {
        let marks = record.aux.get().map_or(UNKNOWN, |a| a.marks());
        Self { record, marks: marks.into() }
    }

    fn may_have(&self, asked: u64) -> bool {
        if asked == 0 {
            return true;
        }
        let mut marks = self.marks.load(Ordering::Relaxed);
        // Read from disk, and perhaps parsed since.
        if marks == UNKNOWN
            && let Some(parsed) = self.record.aux.get()
        {
            marks = parsed.marks();
            self.marks.store(marks, Ordering::Relaxed);
        }
        marks & asked == asked
    }
}

#[derive(Default)]
struct Kind {
    events: VecDeque<Event>,
    bytes: usize,
    budget: usize,
    dropped: Revision,
    live: u64,
}

/// The first two path segments: `/registry/pods` of `/registry/pods/default/web`.
pub(crate) fn kind_of(key: &str) -> &str {
    let body = key.strip_prefix('/').unwrap_or(key);
    let lead = key.len() - body.len();
    let mut slashes = body.match_indices('/').map(|(i, _)| i + lead);
    match (slashes.next(), slashes.next()) {
        (_, Some(second)) => &key[..second],
        (Some(first), None) => &key[..first],
        (None, None) => "",
    }
}

fn cost(e: &Event) -> usize {
    EVENT_OVERHEAD + e.record.key.len() + e.record.value.len()
}

fn live_cost(r: &Record) -> u64 {
    RECORD_OVERHEAD + r.key.len() as u64 + r.value.len() as u64
}

impl View {
    pub fn new(limits: Limits) -> Self {
        Self {
            map: BTreeMap::new(),
            revision: 0,
            compacted: 0,
            base: 0,
            expiry: BTreeSet::new(),
            live_bytes: 0,
            history_bytes: 0,
            kinds: HashMap::new(),
            marks: VecDeque::new(),
            aged: 0,
            limits,
        }
    }

    /// Takes over sorted records without history.
    pub fn load(&mut self, records: Vec<Arc<Record>>) {
        for r in &records {
            self.live_bytes += live_cost(r);
            self.revision = self.revision.max(r.mod_revision);
            self.kind(&r.key).live += 1;
            if let Some(at) = r.expires_at_ms {
                self.expiry.insert((at, r.key.clone()));
            }
        }
        self.map = records.into_iter().map(|r| (r.key.clone(), Slot::new(r))).collect();
    }

    pub fn get(&self, key: &str) -> Option<&Arc<Record>> {
        self.map.get(key).map(|s| &s.record)
    }

    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// The current records of keys within these bounds, in order.
    pub fn range(&self, bounds: (Bound<&str>, Bound<&str>)) -> impl Iterator<Item = &Arc<Record>> {
        self.map.range::<str, _>(bounds).map(|(_, s)| &s.record)
    }

    fn kind(&mut self, key: &str) -> &mut Kind {
        let name = kind_of(key);
        // Two look-ups for a new kind only.
        if !self.kinds.contains_key(name) {
            let small = name.ends_with("/events") || name.ends_with("/leases");
            let budget = if small { self.limits.small_kind } else { self.limits.kind };
            self.kinds.insert(name.into(), Kind { budget, ..Kind::default() });
        }
        self.kinds.entry(name.into()).or_default()
    }

    /// Makes one change without history. Answers the state before.
    pub fn set(&mut self, kind: EventKind, record: &Arc<Record>) -> Option<Arc<Record>> {
        let before = match kind {
            EventKind::Put => self.map.insert(record.key.clone(), Slot::new(record.clone())),
            EventKind::Delete => self.map.remove(&*record.key),
        }
        .map(|s| s.record);
        if let Some(b) = &before {
            self.live_bytes = self.live_bytes.saturating_sub(live_cost(b));
            if let Some(at) = b.expires_at_ms {
                self.expiry.remove(&(at, b.key.clone()));
            }
        }
        if kind == EventKind::Put {
            self.live_bytes += live_cost(record);
            if let Some(at) = record.expires_at_ms {
                self.expiry.insert((at, record.key.clone()));
            }
        }
        match (kind, &before) {
            (EventKind::Put, None) => self.kind(&record.key).live += 1,
            (EventKind::Delete, Some(_)) => {
                let kind = self.kind(&record.key);
                kind.live = kind.live.saturating_sub(1);
            }
            _ => {}
        }
        before
    }

    /// Makes durable changes visible. Events come in revision order.
    pub fn apply(&mut self, events: &[Event], now_ms: u64) {
        for e in events {
            self.set(e.kind, &e.record);
            self.remember(e.clone());
        }
        self.trim(now_ms);
    }

    /// Makes changes visible whose previous states are those in here, and answers them as events.
    pub fn absorb(&mut self, changes: Vec<(EventKind, Arc<Record>)>, now_ms: u64) -> Vec<Event> {
        let mut out = Vec::with_capacity(changes.len());
        for (kind, record) in changes {
            self.revision = self.revision.max(record.mod_revision);
            let previous = self.set(kind, &record);
            if kind == EventKind::Delete && previous.is_none() {
                continue;
            }
            let e = Event { kind, record, previous };
            self.remember(e.clone());
            out.push(e);
        }
        self.trim(now_ms);
        out
    }

    /// Takes over the state at a revision from which nothing leads to what was here before.
    pub fn restart(&mut self, records: Vec<Arc<Record>>, revision: Revision) {
        *self = Self { compacted: self.compacted.min(revision), ..Self::new(self.limits) };
        self.load(records);
        (self.revision, self.base) = (revision, revision);
    }

    pub fn remember(&mut self, e: Event) {
        self.revision = self.revision.max(e.record.mod_revision);
        let size = cost(&e);
        self.history_bytes += size;
        let kind = self.kind(&e.record.key.clone());
        kind.bytes += size;
        kind.events.push_back(e);
        let mut freed = 0;
        while kind.bytes > kind.budget {
            match kind.drop_oldest() {
                0 => break,
                n => freed += n,
            }
        }
        self.history_bytes -= freed;
    }

    pub fn trim(&mut self, now_ms: u64) {
        while self.history_bytes > self.limits.total {
            let Some(biggest) = self.kinds.values_mut().max_by_key(|k| k.bytes) else { break };
            match biggest.drop_oldest() {
                0 => break,
                n => self.history_bytes -= n,
            }
        }
        match self.marks.back_mut() {
            // Also after the clock was set back.
            Some((at, revision)) if now_ms < at.saturating_add(1000) => *revision = self.revision,
            _ => self.marks.push_back((now_ms, self.revision)),
        }
        let age = self.limits.age.as_millis() as u64;
        let mut old = None;
        while let Some(&(at, revision)) = self.marks.front()
            && at.saturating_add(age) < now_ms
        {
            old = Some(revision);
            self.marks.pop_front();
        }
        if let Some(old) = old {
            self.aged = old;
            self.forget(old);
        }
    }

    /// Drops history up to and with this revision.
    fn forget(&mut self, up_to: Revision) {
        for kind in self.kinds.values_mut() {
            while kind.events.front().is_some_and(|e| e.record.mod_revision <= up_to) {
                self.history_bytes -= kind.drop_oldest();
            }
        }
    }

    pub fn compact(&mut self, revision: Revision) {
        if revision > self.compacted {
            self.compacted = revision;
            self.forget(revision - 1);
        }
    }

    fn overlapping<'a>(&'a self, start: &'a str, end: Option<&'a str>) -> impl Iterator<Item = &'a Kind> {
        self.kinds
            .iter()
            .filter(move |(name, _)| {
                let Some(end) = end else { return kind_of(start) == &***name };
                // Keys of a kind start with its name.
                end > &***name && (start <= &***name || start.starts_with(&***name) || name.is_empty())
            })
            .map(|(_, kind)| kind)
    }

    /// Whether the range can be read at a revision.
    pub fn check_read(&self, start: &str, end: Option<&str>, at: Revision) -> Result<(), Error> {
        if at > self.revision {
            return Err(Error::Future { asked: at, newest: self.revision });
        }
        let mut oldest = self.compacted.max(self.base);
        if at < self.revision {
            let known = oldest.max(self.aged);
            oldest = self.overlapping(start, end).map(|k| k.dropped).fold(known, Revision::max);
        } else {
            oldest = oldest.min(self.revision);
        }
        if at < oldest { Err(Error::Compacted { asked: at, oldest }) } else { Ok(()) }
    }

    /// All events of keys with the prefix in `from..=to`, in order.
    pub fn replay(&self, prefix: &str, end: &str, from: Revision, to: Revision) -> Result<Vec<Event>, Error> {
        let floor = self.overlapping(prefix, Some(end)).map(|k| k.dropped).fold(self.base, Revision::max);
        let oldest = self.compacted.max(floor + 1);
        if from < oldest && from <= self.revision {
            return Err(Error::Compacted { asked: from, oldest });
        }
        let mut out = Vec::new();
        for kind in self.overlapping(prefix, Some(end)) {
            let first = kind.events.partition_point(|e| e.record.mod_revision < from);
            let hits = kind.events.range(first..).take_while(|e| e.record.mod_revision <= to);
            out.extend(hits.filter(|e| e.record.key.starts_with(prefix)).cloned());
        }
        // Stable: events of one revision keep their order within a kind.
        out.sort_by_key(|e| e.record.mod_revision);
        Ok(out)
    }

    /// The number of keys in the range, when it is known without counting.
    pub fn known_count(&self, start: &str, end: &str, at: Revision) -> Option<u64> {
        if at != self.revision {
            return None;
        }
        let name = start.strip_suffix('/')?;
        // '0' follows '/': this is the whole kind.
        let segments = start.strip_prefix('/').unwrap_or(start).matches('/').count();
        let whole = end.strip_suffix('0') == Some(name) && segments == 2;
        whole.then(|| self.kinds.get(name).map_or(0, |k| k.live))
    }

    /// Whether the range lies in a kind that has no key now. False when that is not known at once.
    pub fn has_none(&self, start: &str, end: &str) -> bool {
        let name = kind_of(start);
        let inside = name.strip_prefix('/').unwrap_or(name).contains('/')
            && start.as_bytes().get(name.len()) == Some(&b'/')
            // '0' follows '/'.
            && (end.get(..name.len()) == Some(name) && end.as_bytes().get(name.len()).is_some_and(|b| *b <= b'/')
                || end.strip_suffix('0') == Some(name));
        inside && self.kinds.get(name).is_none_or(|k| k.live == 0)
    }

    /// A key as it was.
    pub fn get_at(&self, key: &str, at: Revision) -> Option<Arc<Record>> {
        if at < self.revision
            && let Some(kind) = self.kinds.get(kind_of(key))
        {
            let first = kind.events.partition_point(|e| e.record.mod_revision <= at);
            if let Some(e) = kind.events.range(first..).find(|e| &*e.record.key == key) {
                return e.previous.clone();
            }
        }
        self.get(key).cloned()
    }

    /// Walks up to `step` keys of the range as it was at a revision and hands out those that may have the marks; answers
    /// the last key when there may be more.
    pub fn walk(
        &self,
        from: Bound<&str>,
        end: &str,
        at: Revision,
        step: usize,
        marks: u64,
        mut visit: impl FnMut(&Arc<Record>) -> bool,
    ) -> Option<Arc<str>> {
        let start = match from {
            Bound::Included(k) | Bound::Excluded(k) => k,
            Bound::Unbounded => "",
        };
        if start >= end {
            return None;
        }
        let bounds = (from, Bound::Excluded(end));
        let mut undo: BTreeMap<&str, &Option<Arc<Record>>> = BTreeMap::new();
        if at < self.revision {
            for kind in self.overlapping(start, Some(end)) {
                for e in kind.events.iter().rev().take_while(|e| e.record.mod_revision > at) {
                    // The oldest change after `at` comes last and knows the state then.
                    undo.insert(&e.record.key, &e.previous);
                }
            }
        }
        let mut now = self.map.range::<str, _>(bounds).peekable();
        let mut then = undo.range::<str, _>(bounds).peekable();
        for _ in 0..step {
            let record = match (now.peek(), then.peek()) {
                (None, None) => return None,
                (Some((key, _)), Some((old, _))) if **old <= &***key => {
                    if **old == &***key {
                        now.next();
                    }
                    then.next().and_then(|(_, r)| r.as_ref())
                }
                (None, Some(_)) => then.next().and_then(|(_, r)| r.as_ref()),
                (Some(_), _) => now.next().filter(|(_, s)| s.may_have(marks)).map(|(_, s)| &s.record),
            };
            if let Some(r) = record
                && !visit(r)
            {
                return None;
            }
        }
        match (now.peek(), then.peek()) {
            (None, None) => None,

            (Some((key, _)), Some((old, _))) => {
                Some(if **old < &***key { Arc::from(**old) } else { (*key).clone() })
            }
            (Some((key, _)), None) => Some((*key).clone()),
            (None, Some((old, _))) => Some(Arc::from(**old)),
        }
    }
}

impl Kind {
    /// Forgets the oldest revision whole; answers the bytes freed.
    fn drop_oldest(&mut self) -> usize {
        let Some(revision) = self.events.front().map(|e| e.record.mod_revision) else { return 0 };
        let mut freed = 0;
        while let Some(e) = self.events.front()
            && e.record.mod_revision == revision
        {
            freed += cost(e);
            self.events.pop_front();
        }
        self.bytes -= freed;
        self.dropped = revision;
        freed
    }
}
