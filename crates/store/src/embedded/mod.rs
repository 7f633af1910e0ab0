//! The embedded engine: all records in memory, and an append-only segment log with snapshots below.
//!
//! An engine owns its data directory (locked) and spawns three threads, which sleep while nothing happens:
//! `store-commit` (writes, syncs, publishes), `store-maintain` (next segment, snapshots), `store-expiry` (TTL).
//! `memory` holds the durable state and is the way out, `commit` the way in. `offline` reads and writes a directory that
//! no engine has open.

mod clock;
pub(crate) mod codec;
mod commit;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod disk_tests;
mod expiry;
#[cfg(any(test, feature = "suite"))]
pub mod fake;
mod format;
pub mod fs;
#[cfg(test)]
mod history_tests;
mod log;
mod maintain;
pub mod offline;
mod open;
mod segment;
mod snapshot;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::Semaphore;

pub use self::clock::{Clock, ManualClock, SystemClock};
use self::commit::{Pending, Submitted};
use self::expiry::Expiry;
use self::fs::Fs;
use self::maintain::Maintainer;
use crate::memory::{self, Hub, Limits, View};
use crate::{
    Coming, Error, Fresh, Op, OpResult, Range, RangeResult, Record, Revision, Stats, Store, Txn, TxnResult,
    Watcher,
};

/// Revisions kept unused after a crash: more than can be in flight.
const RESERVE: u64 = 1 << 17;
/// What may be in flight, in KiB.
const IN_FLIGHT: usize = 64 << 10;
const MAX_TXN: usize = 32 << 20;
const MAX_KEY: usize = 4096;

/// How to open an engine. `Options::new` has the defaults.
#[derive(Clone)]
pub struct Options {
    pub dir: PathBuf,
    pub clock: Arc<dyn Clock>,
    pub fs: Arc<dyn Fs>,
    pub segment_bytes: u64,
    /// A snapshot is taken when the log is longer than this and than all records.
    pub snapshot_bytes: u64,
    pub max_value_bytes: usize,
    /// History kept per kind (the first two path segments of a key), in bytes; the second is for events and leases.
    pub history_kind_bytes: usize,
    pub history_small_kind_bytes: usize,
    pub history_bytes: usize,
    pub history_age: Duration,
    /// Events that may wait in a watcher's queue before it is ended as slow.
    pub watcher_events: usize,
    /// Asks for round-robin real-time scheduling of the commit thread. It sleeps in fsync nearly always, and on a busy
    /// machine would wait for a timer tick after each.
    pub realtime: bool,
}

impl Options {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            clock: Arc::new(SystemClock),
            fs: Arc::new(fs::RealFs),
            segment_bytes: 16 << 20,
            snapshot_bytes: 32 << 20,
            max_value_bytes: 6 << 20,
            history_kind_bytes: 4 << 20,
            history_small_kind_bytes: 1 << 20,
            history_bytes: 32 << 20,
            history_age: Duration::from_secs(300),
            watcher_events: 16 << 10,
            realtime: true,
        }
    }
}

/// Why a group did not become durable.
#[derive(Debug, Clone)]
enum Failure {
    Full(String),
    Stopped(String),
}

impl From<Failure> for Error {
    fn from(f: Failure) -> Self {
        match f {
            Failure::Full(path) => Error::Full { path },
            Failure::Stopped(why) => Error::Stopped(why),
        }
    }
}

struct Core {
    dir: PathBuf,
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    view: RwLock<View>,
    pending: Mutex<Pending>,
    work: Condvar,
    hub: Arc<Hub>,
    maintainer: Maintainer,
    expiry: Expiry,
    permits: Arc<Semaphore>,
    /// Writes that callers have announced.
    coming: Arc<AtomicUsize>,
    closed: AtomicBool,
    fsyncs: AtomicU64,
    log_bytes: AtomicU64,
    segment_bytes: u64,
    snapshot_bytes: u64,
    /// A group takes no more transactions once it is this big.
    group_bytes: usize,
    max_value_bytes: usize,
}

/// An open data directory. Dropping it closes it.
pub struct Engine {
    core: Arc<Core>,
    threads: Arc<Mutex<Threads>>,
}

#[derive(Default)]
struct Threads {
    commit: Option<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
    lock: Option<Box<dyn Any + Send + Sync>>,
}

impl Engine {
    /// Reads the directory, making it if need be. Blocks for as long as that takes.
    pub fn open(options: Options) -> Result<Self, Error> {
        let o = options;
        let dir = o.dir.display().to_string();
        let io = |what: String| move |source| Error::Io { what, source };
        o.fs.create_dir(&o.dir).map_err(io(format!("create {dir}")))?;
        let lock = o.fs.lock(&o.dir.join("LOCK")).map_err(io(format!("lock {dir}")))?;
        let Some(lock) = lock else { return Err(Error::Locked { path: dir }) };
        let mut view = View::new(Limits {
            kind: o.history_kind_bytes,
            small_kind: o.history_small_kind_bytes,
            total: o.history_bytes,
            age: o.history_age,
        });
        let segment_bytes = o.segment_bytes.next_multiple_of(segment::SECTOR as u64).max(8 << 10);
        let opened = open::open(&*o.fs, &o.dir, segment_bytes, &mut view)?;
        let revision = view.revision;
        let core = Arc::new(Core {
            hub: Arc::new(Hub::new(revision, o.watcher_events)),
            view: RwLock::new(view),
            pending: Mutex::new(Pending::new(opened.next_revision, revision)),
            work: Condvar::new(),
            maintainer: Maintainer::default(),
            expiry: Expiry::new(),
            permits: Arc::new(Semaphore::new(IN_FLIGHT)),
            coming: Arc::default(),
            closed: AtomicBool::new(false),
            fsyncs: AtomicU64::new(0),
            log_bytes: AtomicU64::new(0),
            segment_bytes,
            snapshot_bytes: o.snapshot_bytes,
            group_bytes: (segment_bytes / 4) as usize,
            max_value_bytes: o.max_value_bytes,
            dir: o.dir,
            fs: o.fs,
            clock: o.clock,
        });
        core.maintainer.set(opened.files, (segment_bytes / segment::SECTOR as u64) as usize);
        let engine = Self { core, threads: Arc::default() };
        engine.threads.lock().lock = Some(lock);
        engine.start(opened.log, opened.torn, o.realtime)?;
        Ok(engine)
    }

    fn start(&self, mut log: log::Log, torn: bool, realtime: bool) -> Result<(), Error> {
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.into())
                .spawn(run)
                .map_err(|source| Error::Io { what: format!("start the thread {name}"), source })
        };
        let core = self.core.clone();
        let maintain = spawn("store-maintain", Box::new(move || core.maintain_loop()))?;
        self.threads.lock().others.push(maintain);
        // The reserve of revisions must be on disk before the first one is handed out. A torn tail gets its seal first.
        log.must_rotate = torn;
        log.append(&self.core, segment::GroupKind::Open, &self.core.head())?;
        let core = self.core.clone();
        let expiry = spawn("store-expiry", Box::new(move || core.expiry_loop()))?;
        self.threads.lock().others.push(expiry);
        let core = Arc::downgrade(&self.core);
        self.core.clock.on_jump(Arc::new(move || {
            if let Some(core) = core.upgrade() {
                core.expiry.wake();
            }
        }));
        let core = self.core.clone();
        let run = move || {
            if realtime {
                ask_for_realtime();
            }
            core.commit_loop(log);
        };
        self.threads.lock().commit = Some(spawn("store-commit", Box::new(run))?);
        Ok(())
    }

    /// Writes a snapshot now and waits for it. Writes go on meanwhile.
    pub async fn snapshot(&self) {
        let _ = self.core.maintainer.snapshot_now().await;
    }

    /// Bytes of groups written to the log since opening.
    pub fn log_bytes_written(&self) -> u64 {
        self.core.log_bytes.load(Ordering::Relaxed)
    }

    fn open_now(&self) -> Result<(), Error> {
        match self.core.closed.load(Ordering::Acquire) {
            true => Err(Error::Stopped("it was closed".into())),
            false => Ok(()),
        }
    }

    /// Memory is as new as it gets; a later revision is none of ours.
    fn new_enough(&self, fresh: Fresh) -> Result<(), Error> {
        if let Fresh::AtLeast(asked) = fresh {
            let newest = self.revision();
            if asked > newest {
                return Err(Error::Future { asked, newest });
            }
        }
        Ok(())
    }

    fn check_sizes(&self, txn: &Txn) -> Result<usize, Error> {
        let mut total = 0;
        for op in txn.then.iter().chain(&txn.otherwise) {
            let (key, size) = match op {
                Op::Put { key, value, .. } => (key, value.len()),
                Op::Delete { key } | Op::Get { key } => (key, 0),
            };
            total += size + key.len() + 64;
            let too_large = |size, limit| Err(Error::TooLarge { key: key.clone(), size, limit });
            if size > self.core.max_value_bytes {
                return too_large(size, self.core.max_value_bytes);
            }
            if key.len() > MAX_KEY {
                return too_large(key.len(), MAX_KEY);
            }
            if total > MAX_TXN {
                return too_large(total, MAX_TXN);
            }
        }
        Ok(total)
    }

    /// After a full disk: whether a write is worth a try. Asked before a revision is used up.
    async fn wait_for_room(&self) -> Result<(), Error> {
        if !self.core.pending.lock().full {
            return Ok(());
        }
        let outcome = self.core.maintainer.probe().await;
        match outcome {
            Ok(Ok(())) => {
                self.core.pending.lock().full = false;
                Ok(())
            }
            Ok(Err(failure)) => {
                // What ends the store where a write meets it ends it where one waits for room.
                if let Failure::Stopped(why) = &failure {
                    self.core.stop(why);
                }
                Err(failure.into())
            }
            Err(_) => Err(Error::Stopped("it was closed".into())),
        }
    }

    async fn answer(&self, submitted: Submitted) -> Result<TxnResult, Error> {
        match submitted {
            Submitted::Now(result) => Ok(result),
            Submitted::Later(answer) => match answer.await {
                Ok(result) => result.map_err(Error::from),
                Err(_) => Err(Error::Stopped("it ended before this write was durable".into())),
            },
        }
    }
}

fn ask_for_realtime() {
    use thread_priority::{
        RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
        thread_native_id,
    };
    let round_robin = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
    let Ok(lowest) = 1u8.try_into() else { return };
    let set = set_thread_priority_and_policy(
        thread_native_id(),
        ThreadPriority::Crossplatform(lowest),
        round_robin,
    );
    if let Err(e) = set {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            tracing::info!(error = ?e, "no real-time scheduling for the store's commit thread (it needs CAP_SYS_NICE); writes take longer while all cores are busy");
        });
    }
}

impl Threads {
    fn stop(&mut self, core: &Core) {
        core.pending.lock().closing = true;
        core.work.notify_all();
        if let Some(commit) = self.commit.take() {
            let _ = commit.join();
        }
        core.maintainer.close();
        core.expiry.close();
        for thread in self.others.drain(..) {
            let _ = thread.join();
        }
        core.closed.store(true, Ordering::Release);
        self.lock = None;
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.threads.lock().stop(&self.core);
    }
}

#[async_trait]
impl Store for Engine {
    fn revision(&self) -> Revision {
        self.core.view.read().revision
    }

    fn coming(&self) -> Coming {
        Coming::new(&self.core.coming)
    }

    async fn get_fresh(&self, key: &str, fresh: Fresh) -> Result<Option<Arc<Record>>, Error> {
        self.open_now()?;
        self.new_enough(fresh)?;
        Ok(self.core.view.read().get(key).cloned())
    }

    async fn check(&self) -> Result<(), Error> {
        self.open_now()
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        self.open_now()?;
        if range.at.is_none() {
            self.new_enough(range.fresh)?;
        }
        memory::read(&self.core.view, &range).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, Error> {
        let bytes = self.check_sizes(&txn)?;
        let writes = txn.then.iter().chain(&txn.otherwise).any(|op| !matches!(op, Op::Get { .. }));
        if writes {
            self.wait_for_room().await?;
        }
        let permits = (bytes / 1024 + 1) as u32;
        let permit = self.core.permits.clone().acquire_many_owned(permits).await;
        let permit = permit.map_err(|_| Error::Stopped("it was closed".into()))?;
        let submitted = self.core.submit(txn, Some(permit))?;
        self.answer(submitted).await
    }

    async fn watch(&self, prefix: &str, from: Option<Revision>) -> Result<Box<dyn Watcher>, Error> {
        self.open_now()?;
        let end = crate::prefix_end(prefix);
        let from = from.filter(|from| *from > 0);
        self.core.hub.watch(prefix, from, |from, to| self.core.view.read().replay(prefix, &end, from, to))
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.wait_for_room().await?;
        let submitted = self.core.submit_compact(revision)?;
        self.answer(submitted).await.map(|_| ())
    }

    async fn tidy(&self) -> Result<(), Error> {
        self.open_now()?;
        self.snapshot().await;
        Ok(())
    }

    fn stats(&self) -> Stats {
        let view = self.core.view.read();
        Stats {
            revision: view.revision,
            compacted: view.compacted,
            keys: view.len() as u64,
            bytes_in_memory: view.live_bytes + view.history_bytes as u64,
            bytes_on_disk: self.core.maintainer.bytes_on_disk(self.core.segment_bytes),
            fsyncs: self.core.fsyncs.load(Ordering::Relaxed),
        }
    }

    async fn close(&self) -> Result<(), Error> {
        let (threads, core) = (self.threads.clone(), self.core.clone());
        let join = tokio::task::spawn_blocking(move || threads.lock().stop(&core));
        join.await.map_err(|e| Error::Stopped(format!("closing failed: {e}")))
    }
}

/// For results of single-key operations.
impl OpResult {
    /// The record that was put, read, or deleted.
    pub fn record(&self) -> Option<&Arc<Record>> {
        match self {
            OpResult::Put(r) => Some(r),
            OpResult::Deleted(r) | OpResult::Got(r) => r.as_ref(),
        }
    }
}
