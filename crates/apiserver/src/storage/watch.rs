//! Watches: the state at the start, then every change once and in order, as the client's selectors see it. An object that
//! enters a selector is ADDED, one that leaves it is DELETED with its last selected state. Owns no task: the stream is
//! driven by whoever reads it, and the store ends readers that fall too far behind.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use api::{Object, Status};
use client::{WatchEvent, WatchStream};
use futures::{Stream, StreamExt};
use store::{EventKind, Fresh, Range, Record, WatchItem, Watcher};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::filter::Filter;
use super::paging::{
    CONTINUE_AND_MATCH, MATCH, NOT_OLDER, forbidden_option, parse_revision, refuse, unsupported_match,
};
use super::{Storage, failed, object};
use crate::request_info::Query;

/// How often a quiet watch is told the newest revision.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Shortest life of a watch that names no timeout; the longest is twice that.
const MIN_LIFE: u64 = 1800;

/// After that many items of the store a watch lets others have their turn, and looks whether it has to end.
const TURNS: u32 = 64;

/// Where a watch starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// Changes after this revision.
    After(u64),
    /// The present state as ADDED events, then changes.
    State,
    /// Changes from now on.
    Now,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub from: From,
    pub bookmarks: bool,
    /// Ends the initial events with an annotated bookmark.
    pub mark_initial_end: bool,
    /// How new the state must be.
    pub fresh: Fresh,
    pub timeout: Option<Duration>,
}

impl Options {
    pub fn parse(q: &Query) -> Result<Self, Status> {
        let rv = q.get("resourceVersion").unwrap_or_default();
        let how = q.get("resourceVersionMatch").unwrap_or_default();
        let bookmarks = q.flag("allowWatchBookmarks");
        let send = q.get("sendInitialEvents").map(crate::request_info::truthy);
        let mut wrong = Vec::new();
        if send.is_some() && how != NOT_OLDER {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            wrong.push(forbidden_option(MATCH, why));
        }
        if !how.is_empty() {
            if send.is_none() {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                wrong.push(forbidden_option(MATCH, why));
            }
            if how != NOT_OLDER {
                wrong.push(unsupported_match(how, &[NOT_OLDER]));
            }
            if !q.get("continue").unwrap_or_default().is_empty() {
                wrong.push(forbidden_option(MATCH, CONTINUE_AND_MATCH));
            }
        }
        refuse(wrong)?;
        let revision = match rv {
            "" | "0" => 0,
            s => parse_revision(s)?,
        };
        let from = match (send, revision) {
            (Some(true), _) => From::State,
            (Some(false), 0) => From::Now,
            (None, 0) => From::State,
            (_, r) => From::After(r),
        };
        let timeout = match q.get("timeoutSeconds").unwrap_or_default() {
            "" | "0" => None,
            s => u64::try_from(crate::request_info::int(s)?).ok().map(Duration::from_secs),
        };
        Ok(Self {
            from,
            bookmarks,
            // Upstream takes the old way to the same state for a WatchList.
            mark_initial_end: from == From::State && bookmarks,
            fresh: match (rv, send) {
                ("", _) => Fresh::Newest,
                (_, Some(true)) if revision > 0 => Fresh::AtLeast(revision),
                _ => Fresh::Known,
            },
            timeout,
        })
    }
}

/// What one change means to a selector. Pure.
pub fn translate(
    filter: &Filter,
    kind: EventKind,
    record: &Record,
    previous: Option<&Record>,
) -> Result<Option<WatchEvent>, Status> {
    if filter.is_everything() {
        return plain(kind, record, previous);
    }
    let before = match previous {
        Some(p) => filter.select(p)?,
        None => None,
    };
    let now = match kind {
        EventKind::Put => filter.select(record)?,
        EventKind::Delete => None,
    };
    Ok(match (before, now) {
        (None, Some(o)) => Some(WatchEvent::Added(o)),
        (Some(_), Some(o)) => Some(WatchEvent::Modified(o)),
        (Some(old), None) => Some(gone(&old, record)),
        (None, None) => None,
    })
}

/// A deletion shows the last state, with the revision at which it ended.
fn gone(last: &Object, record: &Record) -> WatchEvent {
    let (bytes, meta) = (last.stored_bytes().clone(), last.meta_shared().clone());
    WatchEvent::Deleted(Object::from_parts(bytes, meta, record.mod_revision))
}

/// Until when a watch has nothing to do unless something happens.
fn pause(now: Instant, deadline: Instant, bookmarks: bool) -> Instant {
    if bookmarks { deadline.min(now + BOOKMARK_EVERY) } else { deadline }
}

struct Pump {
    watcher: Option<Box<dyn Watcher>>,
    initial: std::vec::IntoIter<Arc<Record>>,
    /// Sent after the initial events.
    initial_end: Option<WatchEvent>,
    queue: VecDeque<WatchEvent>,
    filter: Filter,
    /// Events up to here are known to the client.
    after: u64,
    bookmarks: bool,
    sent_bookmark: u64,
    deadline: Instant,
    /// The next bookmark or the deadline, whichever comes first. These two are kept from event to event: to register
    /// them anew costs more than an event.
    timer: Pin<Box<Sleep>>,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    stop: CancellationToken,
    /// Whom `stopped` wakes.
    registered: Option<Waker>,
    turns: u32,
}

impl Storage {
    /// Errors of the start come as a first event, as upstream sends them: the watch itself was accepted.
    pub async fn watch(
        &self,
        prefix: &str,
        o: &Options,
        filter: Filter,
        stop: CancellationToken,
    ) -> WatchStream {
        match self.start(prefix, o, filter, stop).await {
            Ok(pump) => pump.boxed(),
            Err(s) => futures::stream::iter([WatchEvent::Error(s)]).boxed(),
        }
    }

    async fn start(
        &self,
        prefix: &str,
        o: &Options,
        filter: Filter,
        stop: CancellationToken,
    ) -> Result<Pump, Status> {
        let newest = self.revision();
        let mut initial = Vec::new();
        let mut initial_end = None;
        let after = match o.from {
            From::After(r) => r,
            From::Now => newest,
            From::State => {
                let range = Range { fresh: o.fresh, marks: filter.marks(), ..Range::prefix(prefix) };
                let r = self.store.range(range).await.map_err(failed)?;
                initial = r.records;
                if o.mark_initial_end {
                    initial_end =
                        Some(WatchEvent::Bookmark { revision: r.revision, initial_events_end: true });
                }
                r.revision
            }
        };
        // A client ahead of us (it met a newer server) hears nothing until we are past it.
        let from = if after > self.revision() { None } else { Some(after + 1) };
        let watcher = self.store.watch(prefix, from).await.map_err(|e| too_old(e, after))?;
        let life =
            o.timeout.unwrap_or_else(|| Duration::from_secs(MIN_LIFE + rand::random_range(0..MIN_LIFE)));
        let now = Instant::now();
        Ok(Pump {
            watcher: Some(watcher),
            initial: initial.into_iter(),
            initial_end,
            queue: VecDeque::new(),
            filter,
            after,
            bookmarks: o.bookmarks,
            sent_bookmark: after,
            deadline: now + life,
            timer: Box::pin(tokio::time::sleep_until(pause(now, now + life, o.bookmarks))),
            stopped: Box::pin(stop.clone().cancelled_owned()),
            stop,
            registered: None,
            turns: 0,
        })
    }
}

fn too_old(e: store::Error, asked: u64) -> Status {
    match e {
        store::Error::Compacted { oldest, .. } => {
            Status::expired(format!("too old resource version: {asked} ({oldest})"))
        }
        other => failed(other),
    }
}

impl Pump {
    /// What needs no waiting.
    fn at_hand(&mut self) -> Option<WatchEvent> {
        for rec in self.initial.by_ref() {
            match self.filter.select(&rec) {
                Ok(Some(o)) => return Some(WatchEvent::Added(o)),
                Ok(None) => {}
                Err(s) => return Some(self.fail(s)),
            }
        }
        self.initial_end.take().or_else(|| self.queue.pop_front())
    }

    /// Takes in what the store tells; what has to be sent at once, if it is not put into the queue.
    fn take(&mut self, item: Result<WatchItem, store::Error>) -> Option<WatchEvent> {
        match item {
            Ok(WatchItem::Progress(r)) => {
                if self.bookmarks && r > self.sent_bookmark {
                    self.sent_bookmark = r;
                    return Some(WatchEvent::Bookmark { revision: r, initial_events_end: false });
                }
            }
            Ok(WatchItem::Events(events)) => {
                for e in events.iter().filter(|e| e.record.mod_revision > self.after) {
                    match translate(&self.filter, e.kind, &e.record, e.previous.as_deref()) {
                        Ok(Some(event)) => self.queue.push_back(event),
                        Ok(None) => {}
                        Err(s) => return Some(self.fail(s)),
                    }
                }
            }
            // A slow client's watch ends without a word; it goes on from where it was.
            Err(store::Error::Slow | store::Error::Stopped(_)) => self.watcher = None,
            Err(e) => return Some(self.fail(too_old(e, self.after))),
        }
        None
    }

    /// Whether the watch is over; wakes its task when it will be.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // To ask is a lock less than to register, and the task stays registered as long as it is the same.
        let same = self.registered.as_ref().is_some_and(|w| w.will_wake(cx.waker()));
        if same && !self.stop.is_cancelled() {
            return Poll::Pending;
        }
        let over = self.stopped.as_mut().poll(cx);
        if over.is_pending() {
            self.registered = Some(cx.waker().clone());
        }
        over
    }

    fn fail(&mut self, s: Status) -> WatchEvent {
        self.watcher = None;
        self.initial = Vec::new().into_iter();
        self.initial_end = None;
        self.queue.clear();
        WatchEvent::Error(s)
    }
}

impl Stream for Pump {
    type Item = WatchEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        let me = self.get_mut();
        loop {
            if let Some(e) = me.at_hand() {
                return Poll::Ready(Some(e));
            }
            let Some(watcher) = &mut me.watcher else { return Poll::Ready(None) };
            if let Poll::Ready(item) = watcher.poll_next(cx) {
                if let Some(e) = me.take(item) {
                    return Poll::Ready(Some(e));
                }
                me.turns = me.turns.wrapping_add(1);
                if !me.turns.is_multiple_of(TURNS) {
                    continue;
                }
                // It has been busy for long, perhaps with what its selector leaves out.
                if !me.stop.is_cancelled() {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            if me.poll_end(cx).is_ready() {
                me.watcher = None;
                return Poll::Ready(None);
            }
            ready!(me.timer.as_mut().poll(cx));
            let now = Instant::now();
            if now >= me.deadline {
                me.watcher = None;
                return Poll::Ready(None);
            }
            if let Some(w) = &mut me.watcher {
                w.request_progress();
            }
            me.timer.as_mut().reset(pause(now, me.deadline, me.bookmarks));
        }
    }
}

/// Whether a record is worth an event at all, for readers without selectors.
pub fn plain(
    kind: EventKind,
    record: &Record,
    previous: Option<&Record>,
) -> Result<Option<WatchEvent>, Status> {
    Ok(match (kind, previous) {
        (EventKind::Put, None) => Some(WatchEvent::Added(object(record)?)),
        (EventKind::Put, Some(_)) => Some(WatchEvent::Modified(object(record)?)),
        (EventKind::Delete, Some(p)) => Some(gone(&object(p)?, record)),
        (EventKind::Delete, None) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opts(q: &str) -> Result<Options, Status> {
        Options::parse(&Query::parse(q))
    }

    #[test]
    fn where_a_watch_starts() {
        assert_eq!(opts("").expect("o").from, From::State);
        assert_eq!(opts("").expect("o").fresh, Fresh::Newest);
        assert_eq!(opts("resourceVersion=0").expect("o").fresh, Fresh::Known);
        assert_eq!(opts("resourceVersion=0").expect("o").from, From::State);
        assert_eq!(opts("resourceVersion=9").expect("o").from, From::After(9));
        let o = opts("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1&resourceVersion=4")
            .expect("o");
        assert_eq!((o.from, o.mark_initial_end, o.fresh), (From::State, true, Fresh::AtLeast(4)));
        let o = opts("sendInitialEvents=false&resourceVersionMatch=NotOlderThan").expect("o");
        assert_eq!(o.from, From::Now);
        assert_eq!(opts("sendInitialEvents=true").expect_err("match").code, 422);
        assert_eq!(opts("resourceVersion=1&resourceVersionMatch=Exact").expect_err("match").code, 422);
        assert_eq!(opts("timeoutSeconds=x").expect_err("number").code, 400);
    }
}
