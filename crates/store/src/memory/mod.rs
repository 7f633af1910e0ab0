//! What both engines keep in memory and answer from: the current records with bounded history (`view`), and the watches
//! on them (`watch`). An engine decides when a change becomes visible here; spawns nothing.

mod view;
mod watch;

use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::RwLock;

#[cfg(test)]
pub(crate) use self::view::kind_of;
pub(crate) use self::view::{Limits, View};
pub(crate) use self::watch::Hub;
use crate::{Error, Range, RangeResult, Record, Revision};

/// Keys looked at under one hold of the read lock, and in one turn on a thread.
const STEP: usize = 2048;

/// The record of a delete.
pub(crate) fn tombstone(key: Arc<str>, revision: Revision) -> Arc<Record> {
    Arc::new(Record {
        key,
        value: Bytes::new(),
        create_revision: 0,
        mod_revision: revision,
        version: 0,
        expires_at_ms: None,
        aux: OnceLock::new(),
    })
}

pub(crate) async fn read(view: &RwLock<View>, range: &Range) -> Result<RangeResult, Error> {
    let Some(end) = &range.end else {
        let view = view.read();
        let at = range.at.unwrap_or(view.revision);
        view.check_read(&range.start, None, at)?;
        let found = view.get_at(&range.start, at);
        let count = u64::from(found.is_some());
        let records = if range.count_only { Vec::new() } else { found.into_iter().collect() };
        return Ok(RangeResult { records, count, more: false, revision: at });
    };
    if range.at.is_none() {
        // Asked for with nearly every write: configurations that most clusters have none of.
        let view = view.read();
        if view.has_none(&range.start, end) {
            return Ok(RangeResult { records: Vec::new(), count: 0, more: false, revision: view.revision });
        }
    }
    match walk(view, range, end, STEP).await {
        // Writers overtook a long read at the newest revision: once more, in one go.
        Err(Error::Compacted { .. }) if range.at.is_none() => walk(view, range, end, usize::MAX).await,
        result => result,
    }
}

/// Reads a range in steps, between which writers come in, and others who share the thread; all steps see the same
/// revision.
async fn walk(lock: &RwLock<View>, range: &Range, end: &str, step: usize) -> Result<RangeResult, Error> {
    let limit = if range.limit == 0 { usize::MAX } else { range.limit };
    let mut result = RangeResult { records: Vec::new(), count: 0, more: false, revision: 0 };
    let mut from: Option<Arc<str>> = None;
    let mut at = range.at;
    loop {
        {
            let view = lock.read();
            let revision = *at.get_or_insert(view.revision);
            result.revision = revision;
            let start = from.as_deref().unwrap_or(&range.start);
            view.check_read(start, Some(end), revision)?;
            let known = if from.is_none() && range.marks == 0 {
                view.known_count(start, end, revision)
            } else {
                None
            };
            if let (Some(count), true) = (known, range.count_only) {
                result.count = count;
                return Ok(result);
            }
            from = view.walk(Bound::Included(start), end, revision, step, range.marks, |record| {
                if range.uncounted && result.records.len() >= limit {
                    result.more = true;
                    return false;
                }
                result.count += 1;
                if range.count_only {
                    return true;
                }
                if result.records.len() < limit {
                    result.records.push(record.clone());
                    // With the count known there is nothing more to walk for.
                    return known.is_none() || result.records.len() < limit;
                }
                true
            });
            if let Some(count) = known
                && from.is_none()
            {
                result.count = count;
            }
        }
        if from.is_none() {
            result.more |= !range.count_only && result.count > result.records.len() as u64;
            return Ok(result);
        }
        tokio::task::yield_now().await;
    }
}
