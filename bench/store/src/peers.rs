//! Kelson's engine, and redb and fjall behind the same group commit: one thread takes what is waiting, writes it as
//! one durable transaction, changes a map in memory, and answers. The peers store key and value only, which favours
//! them: an engine on them would also keep the revision events.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use store::embedded::{Engine, Options};
use store::{Op, Range, Store, Txn};
use tokio::sync::{mpsc, oneshot};

use crate::measure::{Answer, Candidate};

pub struct Kelson(Engine);

impl Kelson {
    pub fn open(dir: &Path, realtime: bool) -> Result<Self> {
        Ok(Self(Engine::open(Options { realtime, ..Options::new(dir) })?))
    }
}

impl Candidate for Kelson {
    fn put(&self, key: String, value: Bytes) -> Answer<'_> {
        Box::pin(async move {
            let then = vec![Op::Put { key, value, ttl: None, aux: None }];
            self.0.txn(Txn { then, ..Txn::default() }).await?;
            Ok(())
        })
    }
    fn close(&self) -> Answer<'_> {
        Box::pin(async { Ok(self.0.close().await?) })
    }
    fn syncs(&self) -> Option<u64> {
        Some(self.0.stats().fsyncs)
    }
    fn read_all(&self) -> Result<usize> {
        // Open has read all; this only counts.
        let range = Range { count_only: true, ..Range::prefix("/registry/") };
        Ok(tokio::runtime::Handle::current().block_on(self.0.range(range))?.count as usize)
    }
}

type Batch = Vec<(String, Bytes)>;
type Waiting = (String, Bytes, oneshot::Sender<()>);
type Commit = Box<dyn FnMut(&Batch) -> Result<()> + Send>;
type ReadAll = Box<dyn Fn(&mut BTreeMap<String, Bytes>) -> Result<()> + Send + Sync>;

/// Group commit around an engine.
pub struct Grouped {
    queue: Mutex<Option<mpsc::Sender<Waiting>>>,
    thread: Mutex<Option<JoinHandle<Result<()>>>>,
    map: Arc<Mutex<BTreeMap<String, Bytes>>>,
    syncs: Arc<AtomicU64>,
    read: ReadAll,
}

impl Grouped {
    fn start(mut commit: Commit, read: ReadAll) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Waiting>(4096);
        let map = Arc::new(Mutex::new(BTreeMap::new()));
        let syncs = Arc::new(AtomicU64::new(0));
        let (state, count) = (map.clone(), syncs.clone());
        let thread = std::thread::spawn(move || {
            while let Some(first) = waiting.blocking_recv() {
                let mut group = vec![first];
                while group.len() < 4096
                    && let Ok(next) = waiting.try_recv()
                {
                    group.push(next);
                }
                let mut answers = Vec::with_capacity(group.len());
                let mut batch = Vec::with_capacity(group.len());
                for (key, value, answer) in group {
                    batch.push((key, value));
                    answers.push(answer);
                }
                commit(&batch)?;
                count.fetch_add(1, Ordering::Relaxed);
                state.lock().map_err(|_| anyhow!("the map is poisoned"))?.extend(batch);
                for answer in answers {
                    let _ = answer.send(());
                }
            }
            Ok(())
        });
        let (queue, thread) = (Mutex::new(Some(queue)), Mutex::new(Some(thread)));
        Self { queue, thread, map, syncs, read }
    }
}

impl Candidate for Grouped {
    fn put(&self, key: String, value: Bytes) -> Answer<'_> {
        Box::pin(async move {
            let (answer, done) = oneshot::channel();
            let queue = self.queue.lock().ok().and_then(|q| q.clone()).context("closed")?;
            queue.send((key, value, answer)).await?;
            Ok(done.await?)
        })
    }
    fn close(&self) -> Answer<'_> {
        Box::pin(async {
            if let Ok(mut queue) = self.queue.lock() {
                queue.take();
            }
            let thread = self.thread.lock().ok().and_then(|mut t| t.take());
            match thread.map(JoinHandle::join) {
                Some(Err(_)) => Err(anyhow!("the commit thread panicked")),
                Some(Ok(result)) => result,
                None => Ok(()),
            }
        })
    }
    fn syncs(&self) -> Option<u64> {
        Some(self.syncs.load(Ordering::Relaxed))
    }
    fn read_all(&self) -> Result<usize> {
        let mut map = self.map.lock().map_err(|_| anyhow!("the map is poisoned"))?;
        (self.read)(&mut map)?;
        Ok(map.len())
    }
}

pub fn redb(dir: &Path) -> Result<Grouped> {
    const TABLE: TableDefinition<&str, &[u8]> = TableDefinition::new("records");
    let db = Arc::new(redb::Database::create(dir.join("redb"))?);
    let write = db.begin_write()?;
    write.open_table(TABLE)?;
    write.commit()?;
    let reader = db.clone();
    let commit: Commit = Box::new(move |batch| {
        let write = db.begin_write()?;
        {
            let mut table = write.open_table(TABLE)?;
            for (key, value) in batch {
                table.insert(key.as_str(), &value[..])?;
            }
        }
        Ok(write.commit()?)
    });
    let read: ReadAll = Box::new(move |map| {
        let read = reader.begin_read()?;
        for row in read.open_table(TABLE)?.iter()? {
            let (key, value) = row?;
            map.insert(key.value().to_owned(), Bytes::copy_from_slice(value.value()));
        }
        Ok(())
    });
    Ok(Grouped::start(commit, read))
}

pub fn fjall(dir: &Path) -> Result<Grouped> {
    let db = Database::builder(dir.join("fjall")).open()?;
    let records = db.keyspace("records", KeyspaceCreateOptions::default)?;
    let reader = records.clone();
    let commit: Commit = Box::new(move |b| {
        let mut batch = db.batch().durability(Some(PersistMode::SyncData));
        for (key, value) in b {
            batch.insert(&records, key.as_str(), &value[..]);
        }
        Ok(batch.commit()?)
    });
    let read: ReadAll = Box::new(move |map| {
        for row in reader.iter() {
            let (key, value) = row.into_inner()?;
            map.insert(String::from_utf8(key.to_vec())?, Bytes::copy_from_slice(&value));
        }
        Ok(())
    });
    Ok(Grouped::start(commit, read))
}
