//! The copy in memory: read once, then kept up to date from one watch over the whole prefix. A lost watch goes on where it
//! ended, at the next endpoint; when history is gone meanwhile, everything is read anew and the watches above end.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::client::Failed;
use super::proto::{self, KeyValue, WatchCreate, WatchRequest, WatchResponse, WatchUnion};
use super::{Core, Sent};
use crate::embedded::{Clock, SystemClock};
use crate::memory::tombstone;
use crate::{Error, EventKind, Record, Revision, prefix_end};

/// Records read at a time.
const PAGE: i64 = 2000;
/// How often a member is asked how far the watch is, while readers wait for it.
const ASK: Duration = Duration::from_millis(100);
/// A member that was asked and says nothing for so long has lost us.
const SILENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

enum End {
    Lost(String),
    /// What comes next can't be had any more.
    Behind(&'static str),
}

/// The first key behind `key`.
pub(super) fn after(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}

/// Of what etcd counts, which is never below zero.
pub(super) fn number(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// Whether a version answers a request for progress only after all events before it were sent.
pub(super) fn safe_progress(version: &str) -> bool {
    let mut parts = version.split(['.', '-', '+']).map(|p| p.parse::<u32>().unwrap_or(0));
    let version = [(); 3].map(|()| parts.next().unwrap_or(0));
    match version {
        [3, 4, patch] => patch >= 31,
        [3, 5, patch] => patch >= 13,
        [major, minor, _] => (major, minor) >= (3, 6),
    }
}

impl Core {
    /// What etcd has, as a record: the one that is known already, where it is the same.
    pub(super) fn known(&self, kv: KeyValue) -> Option<Arc<Record>> {
        let key = self.inner(&kv.key)?;
        let known = self.view.read().get(&key).cloned();
        match known {
            Some(r) if r.mod_revision == self.base.ours(kv.mod_revision) => Some(r),
            other => Some(self.record(other.map_or_else(|| Arc::from(&*key), |r| r.key.clone()), kv)),
        }
    }

    fn record(&self, key: Arc<str>, kv: KeyValue) -> Arc<Record> {
        let own = self.own(&key, &kv);
        let (value, aux) = match own.as_deref() {
            Some(Sent { value, aux, .. }) => (value.clone(), aux.clone()),
            None => (self.decoded(&key, &kv.value), None),
        };
        Arc::new(Record {
            key,
            value,
            create_revision: self.base.ours(kv.create_revision),
            mod_revision: self.base.ours(kv.mod_revision),
            version: number(kv.version),
            expires_at_ms: None,
            aux: aux.map_or_else(OnceLock::new, OnceLock::from),
        })
    }

    /// What this server sent, when it comes back.
    fn own(&self, key: &str, kv: &KeyValue) -> Option<Arc<Sent>> {
        let sent = self.sent.lock();
        let mut same = sent.get(key)?.iter().filter(|s| s.value == kv.value);
        let first = same.next()?;
        for s in std::iter::once(first).chain(same) {
            let _ = s.seen.compare_exchange(
                0,
                self.base.ours(kv.mod_revision),
                Ordering::SeqCst,
                Ordering::SeqCst,
            );
        }
        Some(first.clone())
    }

    /// A copy: a slice would keep the whole message it came in.
    fn decoded(&self, key: &str, value: &Bytes) -> Bytes {
        let value = Bytes::copy_from_slice(value);
        let Some(decode) = &self.decode else { return value };
        decode(key, value.clone()).unwrap_or_else(|why| {
            tracing::error!(key, why, "a value in etcd can't be read");
            value
        })
    }

    /// Reads everything at one revision.
    pub(super) async fn load(&self) -> Result<(), Error> {
        let range_end = Bytes::from(prefix_end(&self.prefix));
        let mut key = Bytes::from(self.prefix.clone());
        let mut at = 0;
        let mut records = Vec::new();
        loop {
            let request = proto::RangeRequest {
                key,
                range_end: range_end.clone(),
                limit: PAGE,
                revision: at,
                ..proto::RangeRequest::default()
            };
            let page: proto::RangeResponse = self.client.call(proto::RANGE, request).await?;
            if at == 0 {
                at = page.header.map_or(0, |h| h.revision);
            }
            let last = page.kvs.last().map(|kv| kv.key.clone());
            records.extend(page.kvs.into_iter().filter_map(|kv| self.known(kv)));
            match last {
                Some(last) if page.more => key = after(&last),
                _ => break,
            }
        }
        let revision = self.base.ours(at);
        let mut view = self.view.write();
        view.restart(records, revision);
        self.restarts.fetch_add(1, Ordering::SeqCst);
        self.hub.restart(revision);
        drop(view);
        self.reached.send_replace(revision);
        Ok(())
    }

    /// Asks the member that is to be watched what it is.
    async fn look_at(&self, at: usize) -> Result<(), Failed> {
        let status: proto::StatusResponse = self.client.attempt(at, proto::STATUS, proto::Empty {}).await?;
        self.bytes_on_disk.store(number(status.db_size), Ordering::Relaxed);
        let safe = safe_progress(&status.version);
        if !safe && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                version = status.version,
                "this etcd has no safe progress notifications (3.4.31, 3.5.13 and later have): consistent reads that find the cache behind go to etcd"
            );
        }
        self.progress.store(safe, Ordering::Relaxed);
        Ok(())
    }

    /// One watch, to its end.
    async fn follow(&self, at: usize, failures: &mut u32) -> End {
        let started = self.hub.visible();
        match self.newest.read(self).await {
            Ok(newest) if newest < started => return End::Behind("etcd's revision went back"),
            Ok(_) => {}
            Err(e) => return End::Lost(e.to_string()),
        }
        match self.look_at(at).await {
            Ok(()) => {}
            Err(Failed::Retry(why)) => return End::Lost(why),
            Err(Failed::Final(e)) => return End::Lost(e.to_string()),
        }
        let progress = self.progress.load(Ordering::Relaxed);
        let (requests, receiver) = mpsc::channel(8);
        let create = WatchCreate {
            key: self.prefix.clone().into(),
            range_end: prefix_end(&self.prefix).into(),
            start_revision: self.base.theirs(started + 1),
            progress_notify: progress,
        };
        let request = |union| WatchRequest { union: Some(union) };
        let _ = requests.try_send(request(WatchUnion::Create(create)));
        let receiver = futures::stream::unfold(receiver, |mut r| async { r.recv().await.map(|m| (m, r)) });
        let mut stream = match self.client.watch(at, receiver).await {
            Ok(stream) => stream,
            Err(Failed::Retry(why)) => return End::Lost(why),
            Err(Failed::Final(e)) => return End::Lost(e.to_string()),
        };
        let mut heard = Instant::now();
        let mut created = false;
        loop {
            let waiting = self.waiting.load(Ordering::Relaxed) > 0;
            if !waiting {
                // Silence is no news while nobody asks.
                heard = Instant::now();
            } else if heard.elapsed() > SILENCE {
                return End::Lost(format!("{} does not answer", self.client.url(at)));
            }
            let message = tokio::select! {
                biased;
                message = stream.message() => Some(message),
                () = self.wanted.notified() => None,
                () = tokio::time::sleep(ASK), if waiting => None,
            };
            match message {
                Some(Ok(Some(m))) => {
                    heard = Instant::now();
                    if m.created && !created {
                        created = true;
                        *failures = 0;
                        tracing::debug!(endpoint = self.client.url(at), revision = started, "watching etcd");
                    }
                    if let Some(end) = self.take(m) {
                        return end;
                    }
                }
                Some(Ok(None)) => return End::Lost(format!("{}: the watch ended", self.client.url(at))),
                Some(Err(status)) => {
                    return End::Lost(format!("{}: {}", self.client.url(at), status.message()));
                }
                None if created && progress => {
                    let _ = requests.try_send(request(WatchUnion::Progress(proto::Empty {})));
                }
                None => {}
            }
        }
    }

    fn take(&self, message: WatchResponse) -> Option<End> {
        if message.canceled || message.compact_revision > 0 {
            return Some(if message.compact_revision > 0 {
                End::Behind("etcd was compacted past what is known")
            } else {
                End::Lost(message.cancel_reason)
            });
        }
        if message.events.is_empty() {
            if !message.created && self.progress.load(Ordering::Relaxed) {
                self.pass(self.revision_of(message.header.as_ref()), Vec::new());
            }
            return None;
        }
        let mut changes = Vec::with_capacity(message.events.len());
        for e in message.events {
            let Some(kv) = e.kv else { continue };
            let Some(key) = self.inner(&kv.key) else { continue };
            let key = self.view.read().get(&key).map_or_else(|| Arc::from(&*key), |r| r.key.clone());
            changes.push(match e.kind {
                1 => (EventKind::Delete, tombstone(key, self.base.ours(kv.mod_revision))),
                _ => (EventKind::Put, self.record(key, kv)),
            });
        }
        let last = changes.last().map_or(0, |(_, r)| r.mod_revision);
        self.pass(last, changes);
        None
    }

    /// Makes changes visible.
    fn pass(&self, to: Revision, changes: Vec<(EventKind, Arc<Record>)>) {
        let now = SystemClock.now_ms();
        let mut view = self.view.write();
        let events = view.absorb(changes, now);
        view.revision = view.revision.max(to);
        let newest = view.revision;
        self.hub.set_visible(newest);
        drop(view);
        self.hub.dispatch(&events, newest);
        self.reached.send_replace(newest);
    }
}

/// The feed's task.
pub(super) async fn run(core: Arc<Core>) {
    let mut closed = core.closed.subscribe();
    tokio::select! {
        _ = closed.wait_for(|c| *c) => {}
        () = follow_on(&core) => {}
    }
}

async fn follow_on(core: &Core) {
    let mut failures = 0;
    loop {
        let at = core.client.current();
        match core.follow(at, &mut failures).await {
            End::Behind(why) => {
                tracing::warn!(why, "everything is read from etcd anew");
                if let Err(e) = core.load().await {
                    tracing::warn!(error = %e, "etcd was not read");
                }
            }
            End::Lost(why) => {
                if failures == 0 {
                    tracing::warn!(why, "the watch on etcd was lost");
                }
                core.client.failed_at(at);
            }
        }
        if failures > 0 || core.client.len() == 1 {
            tokio::time::sleep((PAUSE * failures).min(LONGEST_PAUSE)).await;
        }
        failures += 1;
    }
}
