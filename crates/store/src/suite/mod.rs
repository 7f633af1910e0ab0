//! One behaviour suite for every engine: etcd's semantics against the `Store` trait. An engine's tests hand in how to
//! make a fresh store; a failure panics with what was seen. The invariants checker goes beside any other load.

mod basic;
pub mod checker;
pub mod history;
mod watching;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::{Compare, Error, Op, OpResult, Record, Store, Txn, TxnResult, WatchItem, Watcher};

/// A fresh, empty store, and how to move its clock where that is possible.
pub struct Subject {
    pub store: Arc<dyn Store>,
    pub advance: Option<Box<dyn Fn(Duration) + Send + Sync>>,
}

type Test = (&'static str, fn(Subject) -> Pin<Box<dyn Future<Output = ()> + Send>>);

macro_rules! tests {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$((stringify!($name), |s| Box::pin($module::$name(s)))),*]
    };
}

const TESTS: &[Test] = tests![
    basic::revisions_grow_by_one_per_transaction,
    basic::records_count_their_versions,
    basic::compares_guard_writes,
    basic::ops_of_a_transaction_see_each_other,
    basic::range_limits_and_counts,
    basic::records_without_the_marks_are_passed_over,
    basic::ranges_at_old_revisions,
    basic::long_ranges_at_old_revisions,
    basic::future_and_compacted_revisions_are_refused,
    basic::too_large_values_are_refused,
    basic::racing_writers_lose_no_increment,
    basic::ended_records_are_deleted,
    basic::keys_and_prefixes_do_not_mix,
    watching::watch_from_now,
    watching::watch_from_the_past,
    watching::watch_from_compacted_history,
    watching::watch_from_the_future,
    watching::revisions_are_not_split,
    watching::previous_states_are_told,
    watching::progress_follows_events,
    watching::watchers_of_many_prefixes,
    watching::watch_began_during_writes_misses_nothing,
    watching::laggards_are_ended,
    watching::closed_stores_refuse,
];

/// Runs every test on a store of its own.
pub async fn run<F: Future<Output = Subject>>(fresh: impl Fn() -> F) {
    for (name, test) in TESTS {
        eprintln!("suite: {name}");
        let subject = fresh().await;
        let done = tokio::time::timeout(Duration::from_secs(60), test(subject)).await;
        assert!(done.is_ok(), "{name} hangs");
    }
}

pub fn put(key: &str, value: impl Into<Bytes>) -> Txn {
    Txn { then: vec![put_op(key, value)], ..Txn::default() }
}

pub fn put_op(key: &str, value: impl Into<Bytes>) -> Op {
    Op::Put { key: key.into(), value: value.into(), ttl: None, aux: None }
}

pub fn delete(key: &str) -> Txn {
    Txn { then: vec![Op::Delete { key: key.into() }], ..Txn::default() }
}

/// Writes if the key is still at this revision (0: missing); reads it otherwise.
pub fn swap(key: &str, at: u64, op: Op) -> Txn {
    Txn {
        compare: vec![Compare::ModRevision { key: key.into(), equals: at }],
        then: vec![op],
        otherwise: vec![Op::Get { key: key.into() }],
    }
}

pub async fn must(store: &Arc<dyn Store>, txn: Txn) -> TxnResult {
    store.txn(txn).await.expect("the transaction is answered")
}

pub fn record(result: &TxnResult, index: usize) -> Option<Arc<Record>> {
    match result.results.get(index)? {
        OpResult::Put(r) => Some(r.clone()),
        OpResult::Deleted(r) | OpResult::Got(r) => r.clone(),
    }
}

pub fn text(r: &Record) -> String {
    format!("{}={}@{}", r.key, String::from_utf8_lossy(&r.value), r.mod_revision)
}

pub fn texts(records: &[Arc<Record>]) -> Vec<String> {
    records.iter().map(|r| text(r)).collect()
}

/// Reads items until this many events are there.
pub async fn events(watcher: &mut Box<dyn Watcher>, n: usize) -> Vec<crate::Event> {
    let mut out = Vec::new();
    while out.len() < n {
        if let WatchItem::Events(e) = watcher.next().await.expect("the watch goes on") {
            assert!(!e.is_empty());
            out.extend(e.iter().cloned());
        }
    }
    out
}

pub fn is_compacted<T>(r: &Result<T, Error>) -> bool {
    matches!(r, Err(Error::Compacted { .. }))
}
