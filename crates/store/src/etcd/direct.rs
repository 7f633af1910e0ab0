//! An etcd without a copy in memory: read page by page at one revision, or filled by a restore. For commands, not for a
//! server. Spawns nothing.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::base::{self, Base};
use super::client::{self, Client};
use super::feed::{after, number};
use super::proto::{self, KeyValue};
use super::{Decode, Options};
use crate::embedded::{Clock, SystemClock};
use crate::{Error, Record, Revision, prefix_end};

/// Bytes that a page is meant to have, and keys in the first one.
const PAGE_BYTES: u64 = 4 << 20;
const FIRST_PAGE: u64 = 100;
const LONGEST_PAGE: u64 = 5000;
/// Writes under way at once during a restore.
const WRITES: usize = 64;
/// Records whose ends lie in the same so many seconds share a lease.
const LEASE_STEP: u64 = 60;

pub struct Direct {
    client: Client,
    decode: Option<Decode>,
    base: Base,
    prefix: String,
    root: String,
}

/// What an etcd says of itself.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub version: String,
    /// Of the cluster of members.
    pub id: u64,
    pub revision: Revision,
    /// What is added to etcd's own revision.
    pub offset: Revision,
    pub db_bytes: u64,
    pub db_bytes_in_use: u64,
    /// A restore into it was not finished.
    pub restoring: bool,
}

fn now_ms() -> u64 {
    SystemClock.now_ms()
}

impl Direct {
    pub async fn open(o: &Options) -> Result<Self, Error> {
        let client = Client::new(&o.endpoints, &o.tls, o.timeout)?;
        let base = base::read(&client, &o.prefix).await?;
        Ok(Self { client, decode: o.decode.clone(), base, prefix: o.prefix.clone(), root: o.root.clone() })
    }

    fn outer(&self, key: &str) -> String {
        match key.strip_prefix(&*self.root) {
            Some(rest) => format!("{}{rest}", self.prefix),
            // A prefix that is shorter than the root means all that is below it.
            None if self.root.starts_with(key) => self.prefix.clone(),
            None => key.to_owned(),
        }
    }

    fn bounds(&self, prefix: &str) -> (Bytes, Bytes) {
        let start = self.outer(prefix);
        let end = prefix_end(&start);
        (start.into(), end.into())
    }

    pub async fn facts(&self) -> Result<Facts, Error> {
        let s: proto::StatusResponse = self.client.call(proto::STATUS, proto::Empty {}).await?;
        Ok(Facts {
            version: s.version,
            id: s.header.map_or(0, |h| h.cluster_id),
            revision: self.base.ours(client::revision(s.header.as_ref())),
            offset: self.base.offset,
            db_bytes: number(s.db_size),
            db_bytes_in_use: number(s.db_size_in_use),
            restoring: self.base.restoring,
        })
    }

    async fn range(&self, request: proto::RangeRequest) -> Result<proto::RangeResponse, Error> {
        let asked = self.base.ours(request.revision);
        self.client.call(proto::RANGE, request).await.map_err(|e| match e {
            Error::Compacted { .. } => Error::Compacted { asked, oldest: asked + 1 },
            other => other,
        })
    }

    /// How many keys there are below a prefix, and at which revision.
    pub async fn count(&self, prefix: &str) -> Result<(u64, Revision), Error> {
        let (key, range_end) = self.bounds(prefix);
        let r = proto::RangeRequest { key, range_end, count_only: true, ..proto::RangeRequest::default() };
        let answer = self.range(r).await?;
        Ok((number(answer.count), self.base.ours(client::revision(answer.header.as_ref()))))
    }

    pub async fn get(&self, key: &str) -> Result<Option<Record>, Error> {
        let r = proto::RangeRequest { key: self.outer(key).into(), ..proto::RangeRequest::default() };
        match self.range(r).await?.kvs.pop() {
            Some(kv) => Ok(self.record(kv, &mut HashMap::new()).await?),
            None => Ok(None),
        }
    }

    /// Hands out the records below a prefix in key order, as they were at one revision.
    pub async fn walk<E: From<Error>>(
        &self,
        prefix: &str,
        at: Revision,
        mut visit: impl FnMut(Record) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut key, range_end) = self.bounds(prefix);
        let mut leases = HashMap::new();
        let mut limit = FIRST_PAGE;
        loop {
            let page = proto::RangeRequest {
                key,
                range_end: range_end.clone(),
                limit: i64::try_from(limit).unwrap_or(1),
                revision: self.base.theirs(at),
                ..proto::RangeRequest::default()
            };
            let page = self.range(page).await?;
            let last = page.kvs.last().map(|kv| after(&kv.key));
            let bytes: u64 = page.kvs.iter().map(|kv| kv.value.len() as u64).sum();
            if let Some(each) = bytes.checked_div(page.kvs.len() as u64) {
                limit = (PAGE_BYTES / each.max(1)).clamp(1, LONGEST_PAGE);
            }
            for kv in page.kvs {
                if let Some(record) = self.record(kv, &mut leases).await? {
                    visit(record)?;
                }
            }
            match last {
                Some(last) if page.more => key = last,
                _ => return Ok(()),
            }
        }
    }

    async fn record(&self, kv: KeyValue, leases: &mut HashMap<i64, u64>) -> Result<Option<Record>, Error> {
        let key = std::str::from_utf8(&kv.key).ok().and_then(|k| k.strip_prefix(&*self.prefix));
        let Some(rest) = key else { return Ok(None) };
        let expires_at_ms = match (kv.lease, leases.get(&kv.lease)) {
            (0, _) => None,
            (_, Some(at)) => Some(*at),
            (id, None) => {
                let left: Result<proto::LeaseTimeResponse, Error> =
                    self.client.call(proto::LEASE_TIME, proto::LeaseTimeRequest { id }).await;
                // A lease that is gone has ended.
                let at = match left {
                    Ok(l) => now_ms() + number(l.ttl) * 1000,
                    Err(Error::Unavailable(why)) if why.contains("not found") => now_ms(),
                    Err(e) => return Err(e),
                };
                leases.insert(id, at);
                Some(at)
            }
        };
        let key: Arc<str> = Arc::from(format!("{}{rest}", self.root));
        let raw = Bytes::copy_from_slice(&kv.value);
        // What can't be read is handed out as it is: a check tells of it.
        let decoded = self.decode.as_ref().and_then(|decode| decode(&key, raw.clone()).ok());
        Ok(Some(Record {
            key,
            value: decoded.unwrap_or(raw),
            create_revision: self.base.ours(kv.create_revision),
            mod_revision: self.base.ours(kv.mod_revision),
            version: number(kv.version),
            expires_at_ms,
            aux: OnceLock::new(),
        }))
    }

    pub async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let request = proto::CompactRequest { revision: self.base.theirs(revision) };
        let answer: Result<proto::Empty, Error> = self.client.call(proto::COMPACT, request).await;
        match answer {
            // It is so already.
            Err(Error::Compacted { .. }) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Replaces all that is below the prefix. Every record gets a revision of its own above `above`, history before the
    /// last one is compacted. An etcd in which this was cut short serves nobody until it has been run again. Answers the
    /// newest revision, and how many records were still valid.
    pub async fn restore(
        &mut self,
        above: Revision,
        mut records: impl FnMut() -> Result<Option<Vec<Record>>, Error>,
        mut progress: impl FnMut(u64),
    ) -> Result<(Revision, u64), Error> {
        let (_, now) = self.count("").await?;
        let offset = self.base.offset + above.saturating_sub(now);
        self.set_base(Base::new(offset, true)).await?;
        self.clear().await?;
        let (mut leases, mut written) = (HashMap::new(), 0);
        while let Some(batch) = records()? {
            let mut puts = Vec::with_capacity(batch.len());
            for r in batch {
                let Some(lease) = self.lease_until(r.expires_at_ms, &mut leases).await? else { continue };
                let key = self.outer(&r.key).into();
                puts.push(proto::PutRequest { key, value: r.value, lease, prev_kv: false });
            }
            written += puts.len() as u64;
            let done = stream::iter(puts.into_iter().map(|p| self.client.call(proto::PUT, p)));
            done.buffer_unordered(WRITES).try_for_each(async |_: proto::PutResponse| Ok(())).await?;
            progress(written);
        }
        let (count, _) = self.count("").await?;
        if count != written && leases.is_empty() {
            return Err(Error::Unavailable(format!(
                "{written} records were written and {count} are there: somebody else writes to this etcd below {}; stop every API server and restore again",
                self.prefix
            )));
        }
        self.set_base(Base::new(offset, false)).await?;
        let (_, newest) = self.count("").await?;
        self.compact(newest).await?;
        Ok((newest, written))
    }

    async fn set_base(&mut self, base: Base) -> Result<(), Error> {
        base::write(&self.client, &self.prefix, base).await?;
        self.base = base;
        Ok(())
    }

    async fn clear(&self) -> Result<(), Error> {
        let (start, end) = self.bounds("");
        loop {
            let page = proto::RangeRequest {
                key: start.clone(),
                range_end: end.clone(),
                limit: LONGEST_PAGE as i64,
                keys_only: true,
                ..proto::RangeRequest::default()
            };
            let page = self.range(page).await?;
            let Some(last) = page.kvs.last() else { return Ok(()) };
            let (key, range_end) = (start.clone(), after(&last.key));
            let delete = proto::DeleteRequest { key, range_end, prev_kv: false };
            let _: proto::DeleteResponse = self.client.call(proto::DELETE, delete).await?;
        }
    }

    /// The lease for a record that ends then, 0 for one that does not; `None` when it has ended already.
    async fn lease_until(
        &self,
        ends: Option<u64>,
        leases: &mut HashMap<u64, i64>,
    ) -> Result<Option<i64>, Error> {
        let Some(ends) = ends else { return Ok(Some(0)) };
        let left = Duration::from_millis(ends.saturating_sub(now_ms())).as_secs();
        if left == 0 {
            return Ok(None);
        }
        let slot = (ends / 1000).div_ceil(LEASE_STEP);
        if let Some(id) = leases.get(&slot) {
            return Ok(Some(*id));
        }
        let ttl = (slot * LEASE_STEP).saturating_sub(now_ms() / 1000).max(1);
        let request = proto::LeaseGrantRequest { ttl: i64::try_from(ttl).unwrap_or(i64::MAX) };
        let granted: proto::LeaseGrantResponse = self.client.call(proto::LEASE_GRANT, request).await?;
        leases.insert(slot, granted.id);
        Ok(Some(granted.id))
    }
}
