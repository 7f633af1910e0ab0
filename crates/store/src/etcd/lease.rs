//! Leases for records with a TTL. One lease serves many records that end at about the same time, since leases cost etcd
//! much; so a record may live a little longer than asked.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Core;
use super::proto::{self, LeaseGrantRequest, LeaseGrantResponse};
use crate::Error;

/// As upstream: a twentieth of the TTL, a minute at most, and a thousand records.
const REUSE: u64 = 60;
const REUSE_PART: u64 = 20;
const RECORDS: usize = 1000;

#[derive(Default)]
pub(super) struct Leases(Mutex<Option<Lease>>);

struct Lease {
    id: i64,
    ends: Instant,
    records: usize,
}

impl Core {
    pub(super) async fn lease(&self, ttl: Duration) -> Result<i64, Error> {
        let ttl = ttl.as_secs().max(1);
        let reuse = (ttl / REUSE_PART).min(REUSE);
        let mut last = self.lease.0.lock().await;
        let now = Instant::now();
        let (first, latest) = (now + Duration::from_secs(ttl), now + Duration::from_secs(ttl + reuse));
        if let Some(lease) = &mut *last
            && lease.ends > first
            && lease.ends < latest
            && lease.records < RECORDS
        {
            lease.records += 1;
            return Ok(lease.id);
        }
        let seconds = ttl + reuse;
        let request = LeaseGrantRequest { ttl: i64::try_from(seconds).unwrap_or(i64::MAX) };
        let granted: LeaseGrantResponse = self.client.call(proto::LEASE_GRANT, request).await?;
        // One that nobody can share would only take the place of one that many do.
        if reuse > 0 {
            *last = Some(Lease { id: granted.id, ends: now + Duration::from_secs(seconds), records: 1 });
        }
        Ok(granted.id)
    }
}
