//! Objects over the store: what a record's bytes mean, the compare-and-write primitives, and the one place where a store
//! error becomes a Status. Knows no kinds; keys come from `kinds`.

pub mod fields;
pub mod filter;
pub mod foreign;
pub mod list;
pub mod paging;
pub mod watch;

use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use api::{Meta, Object, Reason, Status};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use store::{Compare, Fresh, Op, OpResult, Range, Record, Store, Txn};

/// What is parsed out of a record once and kept beside it.
pub struct Parsed {
    pub meta: Arc<Meta>,
    /// Filled when the first field selector looks at the object.
    pub fields: fields::Values,
}

/// Encoded and ready to be written.
#[derive(Clone)]
pub struct Encoded {
    pub bytes: Bytes,
    pub meta: Arc<Meta>,
}

impl store::Parsed for Parsed {
    fn marks(&self) -> u64 {
        self.meta.labels.mark().0
    }
}

impl Encoded {
    /// Takes the resourceVersion out; it exists only after the commit.
    pub fn new(mut value: Value) -> Result<Self, Status> {
        if let Some(m) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            m.remove("resourceVersion");
        }
        let meta = match value.get("metadata") {
            Some(m) => Meta::deserialize(m).map_err(Status::internal)?,
            None => Meta::default(),
        };
        Ok(Self { bytes: exact_json(&value)?, meta: Arc::new(meta) })
    }

    fn aux(&self) -> store::Aux {
        Arc::new(Parsed { meta: self.meta.clone(), fields: fields::Values::default() })
    }

    pub fn put(&self, key: &str, ttl: Option<Duration>) -> Op {
        Op::Put { key: key.to_owned(), value: self.bytes.clone(), ttl, aux: Some(self.aux()) }
    }

    pub fn at(&self, revision: u64) -> Object {
        Object::from_parts(self.bytes.clone(), self.meta.clone(), revision)
    }
}

/// JSON in a buffer of its own size: it stays in memory for as long as the object.
fn exact_json(value: &Value) -> Result<Bytes, Status> {
    /// A buffer that has grown beyond this is not kept for the next one.
    const KEPT: usize = 64 * 1024;
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        serde_json::to_writer(&mut *buffer, value).map_err(Status::internal)?;
        let bytes = Bytes::copy_from_slice(buffer);
        if buffer.capacity() > KEPT {
            *buffer = Vec::new();
        }
        Ok(bytes)
    })
}

/// The parsed part of a record. Lent, not shared: all watchers read the same one at the same time, and a count of theirs
/// would wander from core to core.
pub fn parsed(record: &Record) -> Result<&Parsed, Status> {
    fn kept(record: &Record) -> Option<&Parsed> {
        let any: &dyn Any = &**record.aux.get()?;
        any.downcast_ref()
    }
    if let Some(p) = kept(record) {
        return Ok(p);
    }
    let damaged = |why: &dyn std::fmt::Display| {
        Status::internal(format!("stored object {} is damaged: {why}", record.key))
    };
    let object = Object::from_stored(record.value.clone(), record.mod_revision).map_err(|e| damaged(&e))?;
    // Another reader may have been faster; both parsed the same bytes.
    let _ = record
        .aux
        .set(Arc::new(Parsed { meta: object.meta_shared().clone(), fields: fields::Values::default() }));
    kept(record).ok_or_else(|| damaged(&"it was parsed as something else"))
}

pub fn object(record: &Record) -> Result<Object, Status> {
    Ok(object_of(record, parsed(record)?))
}

fn object_of(record: &Record, p: &Parsed) -> Object {
    Object::from_parts(record.value.clone(), p.meta.clone(), record.mod_revision)
}

/// The store, seen as objects. Cheap to clone.
#[derive(Clone)]
pub struct Storage {
    store: Arc<dyn Store>,
}

/// What became of a conditional write.
pub enum Written {
    Done {
        revision: u64,
        results: Vec<OpResult>,
    },
    /// A condition did not hold: somebody else was faster.
    Lost,
}

impl Storage {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub fn revision(&self) -> u64 {
        self.store.revision()
    }

    /// With every write that was answered before, by whatever server.
    pub async fn get(&self, key: &str) -> Result<Option<Object>, Status> {
        self.get_fresh(key, Fresh::Newest).await
    }

    pub async fn get_fresh(&self, key: &str, fresh: Fresh) -> Result<Option<Object>, Status> {
        match self.store.get_fresh(key, fresh).await.map_err(failed)? {
            Some(r) => object(&r).map(Some),
            None => Ok(None),
        }
    }

    /// As this server knows it; what it does not know is looked for once more.
    pub async fn known(&self, key: &str) -> Result<Option<Object>, Status> {
        match self.store.get(key).await.map_err(failed)? {
            Some(r) => object(&r).map(Some),
            None => self.get(key).await,
        }
    }

    /// Everything under a prefix, at the newest revision.
    pub async fn all(&self, prefix: &str, fresh: Fresh) -> Result<(Vec<Object>, u64), Status> {
        let r = self.store.range(Range { fresh, ..Range::prefix(prefix) }).await.map_err(failed)?;
        let items = r.records.iter().map(|r| object(r)).collect::<Result<Vec<_>, _>>()?;
        Ok((items, r.revision))
    }

    pub async fn count(&self, prefix: &str) -> Result<u64, Status> {
        let range = Range { count_only: true, ..Range::prefix(prefix) };
        Ok(self.store.range(range).await.map_err(failed)?.count)
    }

    pub async fn commit(&self, compare: Vec<Compare>, then: Vec<Op>) -> Result<Written, Status> {
        let r = self.store.txn(Txn { compare, then, otherwise: Vec::new() }).await.map_err(failed)?;
        Ok(if r.succeeded {
            Written::Done { revision: r.revision, results: r.results }
        } else {
            Written::Lost
        })
    }

    /// Writes a key that must not exist yet. `None`: it does.
    pub async fn create(
        &self,
        key: &str,
        new: &Encoded,
        ttl: Option<Duration>,
    ) -> Result<Option<Object>, Status> {
        self.replace(key, 0, new, ttl).await
    }

    /// Writes a key that must be at `revision` (0: absent). `None`: it is not.
    pub async fn replace(
        &self,
        key: &str,
        revision: u64,
        new: &Encoded,
        ttl: Option<Duration>,
    ) -> Result<Option<Object>, Status> {
        Ok(match self.commit(vec![at_revision(key, revision)], vec![new.put(key, ttl)]).await? {
            Written::Done { revision, .. } => Some(new.at(revision)),
            Written::Lost => None,
        })
    }

    /// Removes a key that must be at `revision`. `None`: it is not. Answers the revision of the delete.
    pub async fn remove(&self, key: &str, revision: u64) -> Result<Option<u64>, Status> {
        let ops = vec![Op::Delete { key: key.to_owned() }];
        Ok(match self.commit(vec![at_revision(key, revision)], ops).await? {
            Written::Done { revision, .. } => Some(revision),
            Written::Lost => None,
        })
    }
}

pub fn at_revision(key: &str, revision: u64) -> Compare {
    Compare::ModRevision { key: key.to_owned(), equals: revision }
}

pub const LIST_TOO_OLD: &str = "The resourceVersion for the provided list is too old.";

/// `Too large resource version`: the client has seen a revision that this server has not.
pub fn too_large(asked: u64, newest: u64) -> Status {
    let mut s = Status::new(
        Reason::Timeout,
        format!("Timeout: Too large resource version: {asked}, current: {newest}"),
    );
    s.retry_after_seconds = 1;
    s.causes.push(api::Cause {
        reason: "ResourceVersionTooLarge".into(),
        message: "Too large resource version".into(),
        field: String::new(),
    });
    s
}

pub fn failed(e: store::Error) -> Status {
    use store::Error as E;
    match e {
        E::Compacted { .. } => Status::expired(LIST_TOO_OLD),
        E::Future { asked, newest } => too_large(asked, newest),
        E::Slow => Status::expired("the watcher fell too far behind"),
        E::TooLarge { size, limit, .. } => Status::new(
            Reason::RequestEntityTooLarge,
            format!("object of {size} bytes is over the store's limit of {limit}"),
        ),
        E::Unavailable(_) => {
            tracing::warn!(error = %e, "store out of reach");
            let mut s = Status::new(Reason::ServerTimeout, e.to_string());
            s.retry_after_seconds = 2;
            s
        }
        E::Stopped(_) => {
            let mut s = Status::new(Reason::ServiceUnavailable, e.to_string());
            s.retry_after_seconds = 1;
            s
        }
        E::Full { .. } | E::Damaged { .. } | E::Io { .. } | E::Locked { .. } | E::Newer { .. } => {
            tracing::error!(error = %e, "store failed");
            Status::internal(e)
        }
    }
}
