//! Transactions: evaluation in revision order against the pending state, and the one thread that makes groups of them
//! durable, visible and answered, in this order.
//!
//! Callers evaluate under the `pending` lock and append to the last group; the commit thread takes a group, writes and
//! syncs it, applies it to the view, answers, and hands the events to the watchers. While it does, the next group fills.
//! With several writes on their way it is held back a little longer (`hold`): an fsync costs more than the wait.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::log::Log;
use super::segment::GroupKind;
use super::{Core, Failure, RESERVE, codec};
use crate::memory::tombstone;
use crate::{Compare, Error, Event, EventKind, Op, OpResult, Record, Revision, Txn, TxnResult};

/// How long a group waits for announced writes at most, and how many there must be.
const HOLD: Duration = Duration::from_millis(1);
const SIBLINGS: usize = 4;
/// How long a group that is much smaller than the last one waits for those just answered, who are about to write again.
const HOLD_ANSWERED: Duration = Duration::from_micros(50);

#[derive(Default)]
pub(super) struct Pending {
    /// Keys changed by groups that are not durable yet.
    overlay: HashMap<Arc<str>, (Revision, Option<Arc<Record>>)>,
    pub next_revision: Revision,
    /// Of the newest write, durable or not.
    pub last_revision: Revision,
    pub groups: VecDeque<Group>,
    /// The commit thread is working on a group.
    busy: bool,
    /// The commit thread sleeps until that many callers wait.
    wanted: usize,
    pub full: bool,
    pub stopped: Option<String>,
    pub closing: bool,
}

#[derive(Default)]
pub(super) struct Group {
    /// Empty when nothing is written and callers only wait for what they saw.
    payload: Vec<u8>,
    events: Vec<Event>,
    compact: Option<Revision>,
    waiters: Vec<Waiter>,
}

struct Waiter {
    answer: oneshot::Sender<Result<TxnResult, Failure>>,
    result: TxnResult,
    /// Bounds what is in flight; free again once answered, also when the caller is gone.
    _permit: Option<OwnedSemaphorePermit>,
}

pub(super) enum Submitted {
    Now(TxnResult),
    Later(oneshot::Receiver<Result<TxnResult, Failure>>),
}

/// A key touched by the transaction at hand: its state before and now.
struct Touched {
    key: Arc<str>,
    before: Option<Arc<Record>>,
    now: Option<Arc<Record>>,
}

impl Pending {
    pub fn new(next_revision: Revision, last_revision: Revision) -> Self {
        Self { next_revision, last_revision, ..Self::default() }
    }

    fn group(&mut self, max: usize) -> &mut Group {
        if self.groups.back().is_none_or(|g| g.payload.len() >= max) {
            self.groups.push_back(Group::default());
        }
        // Just made sure of.
        let last = self.groups.len() - 1;
        &mut self.groups[last]
    }

    fn waiting(&self) -> usize {
        self.groups.iter().map(|g| g.waiters.len()).sum()
    }

    fn stop(&mut self, why: &str) {
        if self.stopped.is_none() {
            tracing::error!(why, "the store stopped");
            self.stopped = Some(why.to_owned());
        }
    }

    fn check(&self) -> Result<(), Error> {
        match &self.stopped {
            Some(why) => Err(Error::Stopped(why.clone())),
            None if self.closing => Err(Error::Stopped("it was closed".into())),
            None => Ok(()),
        }
    }
}

impl Core {
    /// What a payload begins with: the reserve of revisions, and the time.
    pub fn head(&self) -> [u8; 16] {
        // Every revision that can have been handed out before the next group is on disk.
        let reserve = self.pending.lock().next_revision + RESERVE;
        let mut out = [0; 16];
        out[..8].copy_from_slice(&reserve.to_le_bytes());
        out[8..].copy_from_slice(&self.clock.now_ms().to_le_bytes());
        out
    }

    fn pending_get(&self, p: &Pending, key: &str) -> Option<Arc<Record>> {
        match p.overlay.get(key) {
            Some((_, state)) => state.clone(),
            None => self.view.read().get(key).cloned(),
        }
    }

    /// Evaluates a transaction and puts it into a group.
    pub fn submit(&self, txn: Txn, permit: Option<OwnedSemaphorePermit>) -> Result<Submitted, Error> {
        let mut p = self.pending.lock();
        p.check()?;
        let succeeded = txn.compare.iter().all(|c| match c {
            Compare::ModRevision { key, equals } => {
                self.pending_get(&p, key).map_or(0, |r| r.mod_revision) == *equals
            }
            Compare::CreateRevision { key, equals } => {
                self.pending_get(&p, key).map_or(0, |r| r.create_revision) == *equals
            }
        });
        let ops = if succeeded { txn.then } else { txn.otherwise };
        let revision = p.next_revision;
        let mut touched: Vec<Touched> = Vec::new();
        let mut results = Vec::with_capacity(ops.len());
        for op in ops {
            let (Op::Put { key, .. } | Op::Delete { key } | Op::Get { key }) = &op;
            let at = touched.iter().position(|t| *t.key == **key);
            let state = match at.and_then(|i| touched.get(i)) {
                Some(t) => t.now.clone(),
                None => self.pending_get(&p, key),
            };
            let now = match op {
                Op::Get { .. } => {
                    results.push(OpResult::Got(state));
                    continue;
                }
                Op::Delete { .. } => {
                    results.push(OpResult::Deleted(state.clone()));
                    None
                }
                Op::Put { ref key, value, ttl, aux } => {
                    let record = Arc::new(Record {
                        key: state.as_ref().map_or_else(|| Arc::from(key.as_str()), |r| r.key.clone()),
                        value,
                        create_revision: state.as_ref().map_or(revision, |r| r.create_revision),
                        mod_revision: revision,
                        version: state.as_ref().map_or(0, |r| r.version) + 1,
                        expires_at_ms: ttl.map(|t| {
                            self.clock
                                .now_ms()
                                .saturating_add(u64::try_from(t.as_millis()).unwrap_or(u64::MAX))
                                .max(1)
                        }),
                        aux: aux.map_or_else(OnceLock::new, OnceLock::from),
                    });
                    results.push(OpResult::Put(record.clone()));
                    touched_record(&mut touched, at, state, Some(record));
                    continue;
                }
            };
            if state.is_some() {
                touched_record(&mut touched, at, state, now);
            }
        }
        let events: Vec<Event> = touched.into_iter().filter_map(|t| event(t, revision)).collect();
        let wrote = !events.is_empty();
        if wrote {
            p.next_revision += 1;
            p.last_revision = revision;
        }
        let result = TxnResult { succeeded, revision: p.last_revision, results };
        if !wrote && !p.busy && p.groups.is_empty() {
            return Ok(Submitted::Now(result));
        }
        for e in &events {
            let state = (e.kind == EventKind::Put).then(|| e.record.clone());
            p.overlay.insert(e.record.key.clone(), (revision, state));
        }
        let group = p.group(self.group_bytes);
        for e in &events {
            begin(&mut group.payload);
            match e.kind {
                EventKind::Put => codec::put(&mut group.payload, &e.record),
                EventKind::Delete => codec::delete(&mut group.payload, &e.record.key, revision),
            }
        }
        group.events.extend(events);
        Ok(Submitted::Later(self.wait_in(p, result, permit)))
    }

    fn wait_in(
        &self,
        mut p: parking_lot::MutexGuard<'_, Pending>,
        result: TxnResult,
        permit: Option<OwnedSemaphorePermit>,
    ) -> oneshot::Receiver<Result<TxnResult, Failure>> {
        let (answer, receiver) = oneshot::channel();
        p.group(usize::MAX).waiters.push(Waiter { answer, result, _permit: permit });
        let enough = p.waiting() >= p.wanted;
        drop(p);
        if enough {
            self.work.notify_one();
        }
        receiver
    }

    /// Deletes those keys that are past their end, each at a revision of its own.
    pub fn submit_expired(&self, keys: Vec<Arc<str>>, now_ms: u64) -> Result<Option<Submitted>, Error> {
        let mut p = self.pending.lock();
        p.check()?;
        if p.full {
            return Err(Error::Full { path: self.dir.display().to_string() });
        }
        let mut any = false;
        for key in keys {
            let Some(r) = self.pending_get(&p, &key) else { continue };
            if r.expires_at_ms.is_none_or(|at| at > now_ms) {
                continue;
            }
            any = true;
            let revision = p.next_revision;
            p.next_revision += 1;
            p.last_revision = revision;
            p.overlay.insert(r.key.clone(), (revision, None));
            let group = p.group(self.group_bytes);
            begin(&mut group.payload);
            codec::delete(&mut group.payload, &key, revision);
            group.events.extend(event(Touched { key: r.key.clone(), before: Some(r), now: None }, revision));
        }
        if !any {
            return Ok(None);
        }
        let result = TxnResult { succeeded: true, revision: p.last_revision, results: Vec::new() };
        Ok(Some(Submitted::Later(self.wait_in(p, result, None))))
    }

    pub fn submit_compact(&self, revision: Revision) -> Result<Submitted, Error> {
        let mut p = self.pending.lock();
        p.check()?;
        let view = self.view.read();
        if revision > view.revision {
            return Err(Error::Future { asked: revision, newest: view.revision });
        }
        if revision <= view.compacted {
            return Err(Error::Compacted { asked: revision, oldest: view.compacted });
        }
        drop(view);
        let result = TxnResult { succeeded: true, revision: p.last_revision, results: Vec::new() };
        let group = p.group(self.group_bytes);
        begin(&mut group.payload);
        codec::compact(&mut group.payload, revision);
        group.compact = Some(group.compact.map_or(revision, |r| r.max(revision)));
        Ok(Submitted::Later(self.wait_in(p, result, None)))
    }

    /// The commit thread.
    pub fn commit_loop(self: &Arc<Self>, mut log: Log) {
        let guard = StopOnPanic(self.clone());
        let mut before = 0;
        loop {
            let mut p = self.pending.lock();
            p.busy = false;
            let mut group = loop {
                self.hold(&mut p, before);
                if let Some(group) = p.groups.pop_front() {
                    break group;
                }
                if p.closing || p.stopped.is_some() {
                    drop(p);
                    self.finish(&mut log);
                    std::mem::forget(guard);
                    return;
                }
                self.work.wait(&mut p);
            };
            p.busy = true;
            before = group.waiters.len();
            drop(p);
            match self.commit(&mut log, &mut group) {
                Ok(()) => self.publish(group),
                Err(failure) => self.fail(group, &failure),
            }
        }
    }

    /// Waits while it is worth it: for announced writes, or for the `before` callers just answered. A single writer
    /// never waits.
    fn hold(&self, p: &mut parking_lot::MutexGuard<'_, Pending>, before: usize) {
        let begun = Instant::now();
        while !p.closing && p.stopped.is_none() && p.groups.len() == 1 {
            let (wanted, longest) = hold_for(p.waiting(), self.coming.load(Ordering::Relaxed), before);
            let left = longest.saturating_sub(begun.elapsed());
            if left.is_zero() {
                break;
            }
            p.wanted = wanted;
            self.work.wait_for(p, left);
        }
        p.wanted = 0;
    }

    fn commit(&self, log: &mut Log, group: &mut Group) -> Result<(), Failure> {
        match group.payload.get_mut(..16) {
            None => Ok(()),
            Some(head) => {
                head.copy_from_slice(&self.head());
                log.append(self, GroupKind::Data, &group.payload)
            }
        }
    }

    fn publish(&self, group: Group) {
        let Group { events, compact, waiters, .. } = group;
        let mut expiry = None;
        if !events.is_empty() || compact.is_some() {
            let mut view = self.view.write();
            view.apply(&events, self.clock.now_ms());
            if let Some(revision) = compact {
                view.compact(revision);
            }
            expiry = view.expiry.first().map(|(at, _)| *at);
            self.hub.set_visible(view.revision);
            drop(view);
            let mut p = self.pending.lock();
            for e in &events {
                if p.overlay.get(&*e.record.key).is_some_and(|(r, _)| *r == e.record.mod_revision) {
                    p.overlay.remove(&*e.record.key);
                }
            }
            if p.overlay.is_empty() && p.overlay.capacity() > 4096 {
                p.overlay = HashMap::new();
            }
        }
        for w in waiters {
            let _ = w.answer.send(Ok(w.result));
        }
        if let Some(newest) = events.last() {
            self.hub.dispatch(&events, newest.record.mod_revision);
        }
        if let Some(at) = expiry {
            self.expiry.earliest_is(at);
        }
    }

    /// Nothing of this group or of those evaluated upon it has happened. Their revisions are not used again.
    fn fail(&self, group: Group, failure: &Failure) {
        let mut p = self.pending.lock();
        let mut failed = vec![group];
        failed.extend(p.groups.drain(..));
        p.overlay.clear();
        p.last_revision = self.view.read().revision;
        match failure {
            Failure::Full(path) => {
                if !p.full {
                    tracing::warn!(path, "no space left: writes fail until there is room");
                }
                p.full = true;
            }
            Failure::Stopped(why) => p.stop(why),
        }
        drop(p);
        for w in failed.into_iter().flat_map(|g| g.waiters) {
            let _ = w.answer.send(Err(failure.clone()));
        }
    }

    /// Ends the store; the commit thread brings it to its end.
    pub(super) fn stop(&self, why: &str) {
        self.pending.lock().stop(why);
        self.work.notify_all();
    }

    fn finish(&self, log: &mut Log) {
        let stopped = self.pending.lock().stopped.clone();
        let why = match stopped {
            Some(why) => why,
            None => {
                let mut mark = self.head();
                let last = self.pending.lock().next_revision - 1;
                mark[..8].copy_from_slice(&last.to_le_bytes());
                // Without the mark the next start only skips some revisions.
                if let Err(e) = log.append(self, GroupKind::Close, &mark) {
                    tracing::warn!(error = ?e, "closed without a mark");
                }
                "it was closed".into()
            }
        };
        self.hub.stop(&why);
    }
}

/// For how many callers a group is held back, and how long at most; zero when it goes at once.
fn hold_for(waiting: usize, announced: usize, before: usize) -> (usize, Duration) {
    if announced.saturating_sub(waiting) >= SIBLINGS {
        (announced, HOLD)
    } else if waiting * 2 <= before {
        (before, HOLD_ANSWERED)
    } else {
        (0, Duration::ZERO)
    }
}

/// Room for reserve and time, filled in when the group is written.
fn begin(payload: &mut Vec<u8>) {
    if payload.is_empty() {
        payload.resize(16, 0);
    }
}

fn touched_record(
    touched: &mut Vec<Touched>,
    at: Option<usize>,
    before: Option<Arc<Record>>,
    now: Option<Arc<Record>>,
) {
    if let Some(t) = at.and_then(|i| touched.get_mut(i)) {
        t.now = now;
    } else if let Some(key) = now.as_ref().or(before.as_ref()).map(|r| r.key.clone()) {
        touched.push(Touched { key, before, now });
    }
}

fn event(t: Touched, revision: Revision) -> Option<Event> {
    match (t.now, t.before) {
        (Some(record), previous) => Some(Event { kind: EventKind::Put, record, previous }),
        (None, Some(previous)) => Some(Event {
            kind: EventKind::Delete,
            record: tombstone(t.key, revision),
            previous: Some(previous),
        }),
        (None, None) => None,
    }
}

/// Callers must not wait for a thread that is gone.
struct StopOnPanic(Arc<Core>);

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        let why = "the commit thread panicked".to_owned();
        let mut p = self.0.pending.lock();
        p.stopped.get_or_insert_with(|| why.clone());
        p.groups.clear();
        drop(p);
        self.0.hub.stop(&why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_company_is_waited_for() {
        for (waiting, announced, before, want) in [
            (1, 0, 0, 0),
            (1, 1, 1, 0),
            (1, 4, 1, 0),
            (1, 5, 1, 5),
            (8, 8, 8, 0),
            (1, 0, 2, 2),
            (2, 0, 2, 0),
            (10, 64, 12, 64),
        ] {
            let (wanted, longest) = hold_for(waiting, announced, before);
            assert_eq!((wanted, longest.is_zero()), (want, want == 0), "{waiting} {announced} {before}");
        }
    }
}
