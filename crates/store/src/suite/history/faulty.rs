//! Stores that are wrong on purpose, each in one way, by a layer over a right one. What the judge lets pass here, it would
//! let pass in an engine too.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::{
    Error, Fresh, Op, OpResult, Range, RangeResult, Record, Revision, Stats, Store, Txn, TxnResult,
    WatchItem, Watcher,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Answers a write that it never does.
    LostWrite,
    /// Gives a revision out that another write has.
    RevisionTwice,
    /// Shows a write that fails afterwards.
    DirtyRead,
    /// Reads a key as it was before its last change.
    StaleGet,
    /// Lists as it was a while ago.
    StaleList,
    /// Leaves a key out of a list.
    Hole,
    /// Lists the present where the past was asked for.
    WrongPast,
    /// Does not look at conditions.
    NoConditions,
    /// Keeps what is deleted.
    KeepsDeleted,
    /// Does a transaction in two parts.
    TornTransaction,
    /// A watch leaves something out.
    WatchGap,
    /// A watch tells something twice.
    WatchTwice,
    /// A watch tells the later thing first.
    WatchOrder,
    /// A watch claims to have told all when it has not.
    EarlyProgress,
}

pub const FLAWS: &[Flaw] = &[
    Flaw::LostWrite,
    Flaw::RevisionTwice,
    Flaw::DirtyRead,
    Flaw::StaleGet,
    Flaw::StaleList,
    Flaw::Hole,
    Flaw::WrongPast,
    Flaw::NoConditions,
    Flaw::KeepsDeleted,
    Flaw::TornTransaction,
    Flaw::WatchGap,
    Flaw::WatchTwice,
    Flaw::WatchOrder,
    Flaw::EarlyProgress,
];

/// How often the flaw shows.
const EVERY: u64 = 7;

pub struct Faulty {
    inner: Arc<dyn Store>,
    flaw: Flaw,
    count: AtomicU64,
    old: Mutex<HashMap<String, Arc<Record>>>,
    lists: Mutex<HashMap<String, RangeResult>>,
    dirty: Mutex<Option<Arc<Record>>>,
}

impl Faulty {
    pub fn new(inner: Arc<dyn Store>, flaw: Flaw) -> Self {
        let (old, lists, dirty) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { inner, flaw, count: AtomicU64::new(0), old, lists, dirty }
    }

    fn now(&self, flaw: Flaw) -> bool {
        self.flaw == flaw && self.count.fetch_add(1, Ordering::Relaxed) % EVERY == EVERY - 1
    }

    /// As if it had been done.
    fn invented(&self, txn: &Txn) -> Option<TxnResult> {
        let [Op::Put { key, value, .. }] = &txn.then[..] else { return None };
        let revision = self.inner.revision() + 1;
        let record = Arc::new(Record {
            key: key.as_str().into(),
            value: value.clone(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            expires_at_ms: None,
            aux: std::sync::OnceLock::new(),
        });
        Some(TxnResult { succeeded: true, revision, results: vec![OpResult::Put(record)] })
    }
}

#[async_trait]
impl Store for Faulty {
    fn revision(&self) -> Revision {
        self.inner.revision()
    }

    async fn get_fresh(&self, key: &str, fresh: Fresh) -> Result<Option<Arc<Record>>, Error> {
        let dirty = self.dirty.lock().clone();
        if let Some(r) = dirty.filter(|r| *r.key == *key) {
            return Ok(Some(r));
        }
        let found = self.inner.get_fresh(key, fresh).await?;
        if self.flaw != Flaw::StaleGet {
            return Ok(found);
        }
        let old = found.as_ref().and_then(|r| self.old.lock().insert(key.to_owned(), r.clone()));
        Ok(if self.now(Flaw::StaleGet) { old.or(found) } else { found })
    }

    async fn check(&self) -> Result<(), Error> {
        self.inner.check().await
    }

    async fn range(&self, mut range: Range) -> Result<RangeResult, Error> {
        if range.at.is_some() && self.now(Flaw::WrongPast) {
            let at = range.at.take().unwrap_or(0);
            return Ok(RangeResult { revision: at, ..self.inner.range(range).await? });
        }
        let (key, present) = (format!("{} {}", range.start, range.limit), range.at.is_none());
        let mut found = self.inner.range(range).await?;
        if present && self.flaw == Flaw::StaleList {
            let old = self.lists.lock().insert(key, found.clone());
            return Ok(if self.now(Flaw::StaleList) { old.unwrap_or(found) } else { found });
        }
        if found.records.len() > 1 && self.now(Flaw::Hole) {
            found.records.remove(1);
        }
        Ok(found)
    }

    async fn txn(&self, mut txn: Txn) -> Result<TxnResult, Error> {
        if self.now(Flaw::LostWrite)
            && let Some(result) = self.invented(&txn)
        {
            return Ok(result);
        }
        if self.now(Flaw::DirtyRead)
            && let Some(result) = self.invented(&txn)
        {
            *self.dirty.lock() = result.results.first().and_then(OpResult::record).cloned();
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            *self.dirty.lock() = None;
            return Err(Error::Unavailable("it was not done".into()));
        }
        if self.now(Flaw::NoConditions) {
            txn.compare.clear();
        }
        if self.flaw == Flaw::KeepsDeleted
            && let Some(Op::Delete { key }) = txn.then.first()
            && txn.then.len() > 1
        {
            let get = Op::Get { key: key.clone() };
            txn.then[0] = get;
            let mut done = self.inner.txn(txn).await?;
            if done.succeeded {
                done.results[0] = OpResult::Deleted(done.results[0].record().cloned());
            }
            return Ok(done);
        }
        if self.flaw == Flaw::TornTransaction && txn.then.len() > 2 {
            let last = txn.then.pop();
            let mut first = self.inner.txn(txn).await?;
            if first.succeeded {
                let rest = Txn { then: last.into_iter().collect(), ..Txn::default() };
                let second = self.inner.txn(rest).await?;
                first.results.extend(second.results);
                first.revision = second.revision;
            }
            return Ok(first);
        }
        let mut done = self.inner.txn(txn).await?;
        if self.now(Flaw::RevisionTwice) {
            done.revision = done.revision.saturating_sub(1);
        }
        Ok(done)
    }

    async fn watch(&self, prefix: &str, from: Option<Revision>) -> Result<Box<dyn Watcher>, Error> {
        let inner = self.inner.watch(prefix, from).await?;
        Ok(Box::new(FaultyWatch { inner, flaw: self.flaw, count: 0, queue: VecDeque::new(), late: None }))
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.inner.compact(revision).await
    }

    fn stats(&self) -> Stats {
        self.inner.stats()
    }

    async fn close(&self) -> Result<(), Error> {
        self.inner.close().await
    }
}

struct FaultyWatch {
    inner: Box<dyn Watcher>,
    flaw: Flaw,
    count: u64,
    queue: VecDeque<WatchItem>,
    /// Handed over after what comes next.
    late: Option<WatchItem>,
}

impl Watcher for FaultyWatch {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<WatchItem, Error>> {
        loop {
            if let Some(item) = self.queue.pop_front() {
                return Poll::Ready(Ok(item));
            }
            let item = ready!(self.inner.poll_next(cx))?;
            if let Some(late) = self.late.take() {
                self.queue.push_back(late);
                return Poll::Ready(Ok(item));
            }
            let WatchItem::Events(events) = &item else { return Poll::Ready(Ok(item)) };
            self.count += 1;
            if !self.count.is_multiple_of(EVERY) {
                return Poll::Ready(Ok(item));
            }
            match self.flaw {
                Flaw::WatchGap if events.len() > 1 => {
                    return Poll::Ready(Ok(WatchItem::Events(events[1..].into())));
                }
                Flaw::WatchGap => {}
                Flaw::WatchTwice => {
                    self.queue.push_back(item.clone());
                    return Poll::Ready(Ok(item));
                }
                Flaw::WatchOrder => self.late = Some(item),
                Flaw::EarlyProgress => {
                    let newest = events.last().map_or(0, |e| e.record.mod_revision);
                    self.queue.push_back(item);
                    return Poll::Ready(Ok(WatchItem::Progress(newest)));
                }
                _ => return Poll::Ready(Ok(item)),
            }
        }
    }

    fn request_progress(&mut self) {
        self.inner.request_progress();
    }
}
