//! The store trait and its types: revisions, records, ranges, transactions, watches, errors. Owns no state, spawns
//! nothing; every engine implements `Store`.

use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// A point in the one global order of writes. Starts at 1; never used twice.
pub type Revision = u64;

/// What a layer above has parsed out of a value, kept beside it so that it is parsed once.
pub trait Parsed: Any + Send + Sync {
    /// What is true of the value, as bits that a range can ask for.
    fn marks(&self) -> u64;
}

pub type Aux = Arc<dyn Parsed>;

/// One key at one revision.
pub struct Record {
    pub key: Arc<str>,
    pub value: Bytes,
    /// Revision at which the key came to be (again, after a delete).
    pub create_revision: Revision,
    /// Revision of this state; for a delete, that of the delete.
    pub mod_revision: Revision,
    /// Count of changes since creation, from 1; 0 on a delete.
    pub version: u64,
    /// When the record ends by TTL, in Unix milliseconds.
    pub expires_at_ms: Option<u64>,
    pub aux: OnceLock<Aux>,
}

/// Keys `start <= key < end`; a single key when `end` is `None`.
#[derive(Debug, Clone, Default)]
pub struct Range {
    pub start: String,
    pub end: Option<String>,
    /// The revision to read at; `None` is the newest durable one.
    pub at: Option<Revision>,
    /// How new it must be, without `at`.
    pub fresh: Fresh,
    /// 0: no limit.
    pub limit: usize,
    /// Fill only `count`.
    pub count_only: bool,
    /// `count` is not wanted, and may be too small; `more` is right all the same. Spares a walk over all that follows.
    pub uncounted: bool,
    /// Records that lack one of these marks are left out where that is known; others may come all the same. They are not
    /// counted either.
    pub marks: u64,
}

/// How new a read must be where several servers share a store. With one server there is no difference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fresh {
    /// What this server knows; never fails for a store that is out of reach.
    #[default]
    Known,
    /// Not older than this revision.
    AtLeast(Revision),
    /// With every write that was answered before the read began, by whatever server.
    Newest,
}

impl Range {
    pub fn key(key: impl Into<String>) -> Self {
        Self { start: key.into(), ..Self::default() }
    }
    /// Every key that starts with `prefix`.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        let start = prefix.into();
        let end = prefix_end(&start);
        Self { start, end: Some(end), ..Self::default() }
    }
}

/// The first key after all keys with this prefix.
pub fn prefix_end(prefix: &str) -> String {
    // Nearly always `/`.
    if let Some(last) = prefix.bytes().last().filter(|b| *b < 0x7f) {
        let mut end = prefix.to_owned();
        end.pop();
        end.push(char::from(last + 1));
        return end;
    }
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        if let Some(next) = (last as u32 + 1..=char::MAX as u32).find_map(char::from_u32) {
            chars.push(next);
            return chars.into_iter().collect();
        }
    }
    char::MAX.to_string()
}

#[derive(Debug, Clone)]
pub struct RangeResult {
    pub records: Vec<Arc<Record>>,
    /// Keys in the range at that revision, beyond `limit` too.
    pub count: u64,
    pub more: bool,
    /// The revision that was read.
    pub revision: Revision,
}

/// A condition of a transaction. A missing key has mod and create revision 0.
#[derive(Debug, Clone)]
pub enum Compare {
    ModRevision { key: String, equals: Revision },
    CreateRevision { key: String, equals: Revision },
}

#[derive(Clone)]
pub enum Op {
    Put { key: String, value: Bytes, ttl: Option<Duration>, aux: Option<Aux> },
    Delete { key: String },
    Get { key: String },
}

#[derive(Default, Clone)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub then: Vec<Op>,
    pub otherwise: Vec<Op>,
}

/// Per operation, in order.
#[derive(Debug, Clone)]
pub enum OpResult {
    /// The new record.
    Put(Arc<Record>),
    /// The record that was deleted, if there was one.
    Deleted(Option<Arc<Record>>),
    Got(Option<Arc<Record>>),
}

#[derive(Debug, Clone)]
pub struct TxnResult {
    pub succeeded: bool,
    /// The revision of the transaction (of the newest write, if this one wrote nothing).
    pub revision: Revision,
    pub results: Vec<OpResult>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    Put,
    Delete,
}

/// One change. `record` of a delete has an empty value; its last state is `previous`.
#[derive(Debug, Clone)]
pub struct Event {
    pub kind: EventKind,
    pub record: Arc<Record>,
    pub previous: Option<Arc<Record>>,
}

/// What a watcher gets next: all events of one revision or more, in order and never split inside a revision, or news
/// that nothing up to `revision` is missing.
#[derive(Debug, Clone)]
pub enum WatchItem {
    /// Shared by all who watch the same prefix.
    Events(Arc<[Event]>),
    Progress(Revision),
}

/// A running watch. Dropping it ends it.
pub trait Watcher: Send {
    /// The next batch. `Err(Compacted)` when history is gone, `Err(Slow)` when the watcher fell too far behind; after
    /// an error the watch has ended.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<WatchItem, Error>>;
    /// Asks for a `Progress` item as soon as all events up to the store's present revision were handed over.
    fn request_progress(&mut self);
}

impl dyn Watcher + '_ {
    /// As `poll_next`.
    pub async fn next(&mut self) -> Result<WatchItem, Error> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }
}

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("revision {asked} was compacted; the oldest one left is {oldest}")]
    Compacted { asked: Revision, oldest: Revision },
    #[error("revision {asked} lies in the future; the newest one is {newest}")]
    Future { asked: Revision, newest: Revision },
    #[error("the watcher fell too far behind and was ended")]
    Slow,
    #[error("no space left on the device that holds {path}; reads go on, writes fail until there is room")]
    Full { path: String },
    #[error("damaged file {path} at byte {offset}: {why}")]
    Damaged { path: String, offset: u64, why: String },
    #[error("value of {size} bytes for {key} is over the limit of {limit}")]
    TooLarge { key: String, size: usize, limit: usize },
    #[error("the store can't be reached: {0}")]
    Unavailable(String),
    #[error("the store is stopped: {0}")]
    Stopped(String),
    #[error("{path} is in use by another process; only one may open a data directory")]
    Locked { path: String },
    #[error(
        "{path} was written by a newer version (format {found}, this one knows up to {known}); use that version"
    )]
    Newer { path: String, found: u32, known: u32 },
    #[error("failed to {what}: {source}")]
    Io { what: String, source: std::io::Error },
}

/// Counters of an engine, for metrics and benches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    pub revision: Revision,
    pub compacted: Revision,
    pub keys: u64,
    pub bytes_in_memory: u64,
    pub bytes_on_disk: u64,
    pub fsyncs: u64,
}

/// Says that a write is being prepared, for as long as it lives; see [`Store::coming`].
#[derive(Debug, Default)]
pub struct Coming(Option<Arc<AtomicUsize>>);

impl Coming {
    pub fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Some(count.clone()))
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The interface to a store. Nothing but the API server opens one.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The newest durable revision.
    fn revision(&self) -> Revision;
    /// What this server knows of a key.
    async fn get(&self, key: &str) -> Result<Option<Arc<Record>>, Error> {
        self.get_fresh(key, Fresh::Known).await
    }
    async fn get_fresh(&self, key: &str, fresh: Fresh) -> Result<Option<Arc<Record>>, Error>;
    /// Whether the store answers at all.
    async fn check(&self) -> Result<(), Error>;
    async fn range(&self, range: Range) -> Result<RangeResult, Error>;
    /// Answered after the write is durable; several run side by side and share an fsync.
    async fn txn(&self, txn: Txn) -> Result<TxnResult, Error>;
    /// Announces a write, from its first sight to its answer. Only a hint: while several are on their way, an engine may
    /// hold back those that wait for a moment, so that more of them share an fsync.
    fn coming(&self) -> Coming {
        Coming::default()
    }
    /// Changes of keys with `prefix` from `from` on (that revision included); `None`: from now on.
    async fn watch(&self, prefix: &str, from: Option<Revision>) -> Result<Box<dyn Watcher>, Error>;
    /// Forgets history before `revision`; current values stay.
    async fn compact(&self, revision: Revision) -> Result<(), Error>;
    /// Gives back what the disk need not hold any more.
    async fn tidy(&self) -> Result<(), Error> {
        Ok(())
    }
    fn stats(&self) -> Stats;
    /// Flushes and closes; later calls answer `Stopped`.
    async fn close(&self) -> Result<(), Error>;
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Record({}@{})", self.key, self.mod_revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_prefixes() {
        for (prefix, end) in [
            ("/registry/pods/", "/registry/pods0"),
            ("a", "b"),
            ("~", "\u{7f}"),
            ("\u{7f}", "\u{80}"),
            ("a\u{d7ff}", "a\u{e000}"),
            ("a\u{10ffff}", "b"),
            ("", "\u{10ffff}"),
        ] {
            assert_eq!(prefix_end(prefix), end, "{prefix:?}");
            assert!(prefix < end || prefix.is_empty());
        }
    }
}
