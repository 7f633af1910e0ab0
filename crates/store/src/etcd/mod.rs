//! The etcd engine: records live in etcd (v3 API), and a copy of all of them in memory answers reads and watches, as with
//! the embedded engine.
//!
//! `feed` keeps the copy up to date from one watch; `txn` writes and answers once the copy shows the write; `fresh` makes
//! reads see what other servers wrote; `base` is where revisions begin after a restore; `direct` reads and writes without
//! a copy, for backups; `compact` forgets history as upstream's API server does; `lease` is TTL; `client`
//! is the way to the members. An engine spawns two tasks, the feed and the compactor, which end when it is closed.

mod base;
mod client;
mod compact;
pub mod direct;
mod feed;
mod fresh;
#[cfg(test)]
mod history_tests;
mod lease;
mod proto;
#[cfg(test)]
mod tests;
mod txn;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

use self::client::Client;
pub use self::client::Tls;
use crate::memory::{self, Hub, Limits, View};
use crate::{
    Aux, Error, Fresh, Range, RangeResult, Record, Revision, Stats, Store, Txn, TxnResult, Watcher,
    prefix_end,
};

/// For an answer whether etcd is there.
const CHECK: Duration = Duration::from_secs(2);

/// Makes out of a stored value what the layers above expect.
pub type Decode = Arc<dyn Fn(&str, Bytes) -> Result<Bytes, String> + Send + Sync>;

/// How to reach etcd and what to keep of it. `Options::new` has the defaults.
#[derive(Clone)]
pub struct Options {
    /// URLs.
    pub endpoints: Vec<String>,
    pub tls: Tls,
    /// What keys begin with in etcd, in place of `root`.
    pub prefix: String,
    /// What keys begin with above the store.
    pub root: String,
    /// How long a call is tried.
    pub timeout: Duration,
    /// `None`: somebody else compacts.
    pub compact_every: Option<Duration>,
    pub decode: Option<Decode>,
    pub history_kind_bytes: usize,
    pub history_small_kind_bytes: usize,
    pub history_bytes: usize,
    pub history_age: Duration,
    pub watcher_events: usize,
}

impl Options {
    pub fn new(endpoints: Vec<String>) -> Self {
        let same = crate::embedded::Options::new("");
        Self {
            endpoints,
            tls: Tls::default(),
            prefix: "/registry/".into(),
            root: "/registry/".into(),
            timeout: Duration::from_secs(10),
            compact_every: Some(Duration::from_secs(300)),
            decode: None,
            history_kind_bytes: same.history_kind_bytes,
            history_small_kind_bytes: same.history_small_kind_bytes,
            history_bytes: same.history_bytes,
            history_age: same.history_age,
            watcher_events: same.watcher_events,
        }
    }
}

/// A value on its way to etcd, for when it comes back: the same bytes and what was parsed out of them.
struct Sent {
    value: Bytes,
    aux: Option<Aux>,
    /// At which revision the watch has shown it; 0: not yet.
    seen: AtomicU64,
}

impl Sent {
    fn new(value: Bytes, aux: Option<Aux>) -> Self {
        Self { value, aux, seen: AtomicU64::new(0) }
    }
}

struct Core {
    client: Client,
    base: base::Base,
    prefix: String,
    root: String,
    decode: Option<Decode>,
    view: RwLock<View>,
    hub: Arc<Hub>,
    /// The revision that the view has reached.
    reached: watch::Sender<Revision>,
    /// By key.
    sent: Mutex<HashMap<String, Vec<Arc<Sent>>>>,
    /// How often the view was read anew, with a gap in the events before.
    restarts: AtomicU64,
    /// Readers that wait for the view.
    waiting: AtomicUsize,
    /// Rung when one more waits.
    wanted: Notify,
    /// Whether progress notifications can be believed.
    progress: AtomicBool,
    /// That they can't was said.
    warned: AtomicBool,
    newest: fresh::Newest,
    lease: lease::Leases,
    closed: watch::Sender<bool>,
    bytes_on_disk: AtomicU64,
}

/// An open connection to an etcd. Dropping it ends its tasks.
pub struct Engine {
    core: Arc<Core>,
}

impl Engine {
    /// Reads everything below the prefix. Fails when no endpoint answers in time.
    pub async fn open(o: Options) -> Result<Self, Error> {
        let client = Client::new(&o.endpoints, &o.tls, o.timeout)?;
        let view = View::new(Limits {
            kind: o.history_kind_bytes,
            small_kind: o.history_small_kind_bytes,
            total: o.history_bytes,
            age: o.history_age,
        });
        let base = base::settled(&client, &o.prefix).await?;
        let core = Arc::new(Core {
            client,
            base,
            prefix: o.prefix,
            root: o.root,
            decode: o.decode,
            view: RwLock::new(view),
            hub: Arc::new(Hub::new(0, o.watcher_events)),
            reached: watch::Sender::new(0),
            sent: Mutex::default(),
            restarts: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            wanted: Notify::new(),
            progress: AtomicBool::new(false),
            warned: AtomicBool::new(false),
            newest: fresh::Newest::default(),
            lease: lease::Leases::default(),
            closed: watch::Sender::new(false),
            bytes_on_disk: AtomicU64::new(0),
        });
        core.load().await?;
        tokio::spawn(feed::run(core.clone()));
        if let Some(every) = o.compact_every {
            tokio::spawn(compact::run(core.clone(), every));
        }
        Ok(Self { core })
    }

    fn open_now(&self) -> Result<(), Error> {
        self.core.open_now()
    }
}

impl Core {
    fn open_now(&self) -> Result<(), Error> {
        match *self.closed.borrow() {
            true => Err(Error::Stopped("it was closed".into())),
            false => Ok(()),
        }
    }

    fn revision_of(&self, header: Option<&proto::Header>) -> Revision {
        self.base.ours(client::revision(header))
    }

    /// A key as etcd has it.
    fn outer(&self, key: &str) -> Result<Bytes, Error> {
        match key.strip_prefix(&*self.root) {
            Some(rest) => Ok(format!("{}{rest}", self.prefix).into()),
            None => Err(Error::Unavailable(format!("the key {key} is not below {}", self.root))),
        }
    }

    /// The end of a range as etcd has it.
    fn outer_bound(&self, key: &str) -> Bytes {
        match key.strip_prefix(&*self.root) {
            Some(rest) => format!("{}{rest}", self.prefix).into(),
            None if key < &*self.root => self.prefix.clone().into(),
            None => prefix_end(&self.prefix).into(),
        }
    }

    fn inner(&self, key: &[u8]) -> Option<String> {
        let rest = std::str::from_utf8(key).ok()?.strip_prefix(&*self.prefix)?;
        Some(format!("{}{rest}", self.root))
    }

    fn stop(&self) {
        if !self.closed.send_replace(true) {
            self.hub.stop("it was closed");
        }
    }

    /// Reads from etcd itself.
    async fn quorum(&self, range: &Range, at: Option<Revision>) -> Result<RangeResult, Error> {
        let range_end = range.end.as_deref().map_or_else(Bytes::new, |end| self.outer_bound(end));
        let key = match &range.end {
            None => self.outer(&range.start)?,
            Some(_) => self.outer_bound(&range.start),
        };
        let request = proto::RangeRequest {
            key,
            range_end,
            limit: i64::try_from(range.limit).unwrap_or(0),
            revision: at.map_or(0, |r| self.base.theirs(r)),
            count_only: range.count_only,
            ..proto::RangeRequest::default()
        };
        if request.revision < 0 {
            return Err(self.explain(Error::Compacted { asked: 0, oldest: 0 }, at.unwrap_or(0)));
        }
        let answer: proto::RangeResponse =
            self.client.call(proto::RANGE, request).await.map_err(|e| self.explain(e, at.unwrap_or(0)))?;
        let read = self.revision_of(answer.header.as_ref());
        Ok(RangeResult {
            records: answer.kvs.into_iter().filter_map(|kv| self.known(kv)).collect(),
            count: u64::try_from(answer.count).unwrap_or(0),
            more: answer.more,
            revision: at.unwrap_or(read),
        })
    }

    /// Fills in what etcd's own words leave out.
    fn explain(&self, e: Error, asked: Revision) -> Error {
        let view = self.view.read();
        match e {
            Error::Compacted { .. } => Error::Compacted { asked, oldest: view.compacted.max(view.base) },
            Error::Future { .. } => Error::Future { asked, newest: view.revision },
            other => other,
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.core.stop();
    }
}

#[async_trait]
impl Store for Engine {
    fn revision(&self) -> Revision {
        self.core.hub.visible()
    }

    async fn get_fresh(&self, key: &str, fresh: Fresh) -> Result<Option<Arc<Record>>, Error> {
        if fresh != Fresh::Known {
            let range = Range { fresh, ..Range::key(key) };
            return Ok(self.range(range).await?.records.pop());
        }
        self.open_now()?;
        Ok(self.core.view.read().get(key).cloned())
    }

    async fn check(&self) -> Result<(), Error> {
        self.open_now()?;
        match tokio::time::timeout(CHECK, self.core.newest.read(&self.core)).await {
            Ok(answer) => answer.map(|_| ()),
            Err(_) => Err(Error::Unavailable("no endpoint answers".into())),
        }
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        self.open_now()?;
        let core = &self.core;
        if let Some(at) = range.at {
            // Another server may have told of it already.
            let there = core.at_least(at).await?;
            return match memory::read(&core.view, &range).await {
                Err(_) if !there => core.quorum(&range, Some(at)).await,
                Err(Error::Compacted { .. }) => core.quorum(&range, Some(at)).await,
                result => result,
            };
        }
        match range.fresh {
            Fresh::Known => {}
            Fresh::AtLeast(asked) => {
                if !core.at_least(asked).await? {
                    return Err(Error::Future { asked, newest: self.revision() });
                }
            }
            Fresh::Newest => {
                if !core.catch_up().await? {
                    return core.quorum(&range, None).await;
                }
            }
        }
        memory::read(&core.view, &range).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, Error> {
        self.open_now()?;
        self.core.txn(txn).await
    }

    async fn watch(&self, prefix: &str, from: Option<Revision>) -> Result<Box<dyn Watcher>, Error> {
        self.open_now()?;
        let end = prefix_end(prefix);
        let from = from.filter(|from| *from > 0);
        self.core.hub.watch(prefix, from, |from, to| self.core.view.read().replay(prefix, &end, from, to))
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.open_now()?;
        let oldest = self.core.view.read().compacted;
        if revision <= oldest {
            return Err(Error::Compacted { asked: revision, oldest });
        }
        self.core.compact(revision).await
    }

    fn stats(&self) -> Stats {
        let view = self.core.view.read();
        Stats {
            revision: view.revision,
            compacted: view.compacted,
            keys: view.len() as u64,
            bytes_in_memory: view.live_bytes + view.history_bytes as u64,
            bytes_on_disk: self.core.bytes_on_disk.load(Ordering::Relaxed),
            fsyncs: 0,
        }
    }

    async fn close(&self) -> Result<(), Error> {
        self.core.stop();
        Ok(())
    }
}
