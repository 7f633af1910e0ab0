//! The load: clients that read and write by dice, watchers, and the scribe. Spawns a task for each; `run` returns when all
//! have ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Answer, Call, Condition, Deed, Dice, History, Item, Listed, Seen, Step, Told, Watched};
use crate::{Compare, Error, Event, EventKind, Fresh, Op, Range, Revision, Store, Txn, TxnResult, WatchItem};

type Slot = watch::Sender<Option<Arc<dyn Store>>>;

/// Where a history takes place: the servers that are there now, and the clock of what happens.
pub struct Stage {
    servers: Vec<Slot>,
    moment: AtomicU64,
    /// Calls that have ended.
    calls: watch::Sender<u64>,
    /// A server was found to have stopped; how often.
    stops: watch::Sender<u64>,
    /// No more faults will come.
    calm: watch::Sender<bool>,
    /// Watches of the scribe's that have begun.
    sessions: watch::Sender<u64>,
    /// What the scribe has heard of.
    heard: AtomicU64,
    compacted: AtomicU64,
    done: Mutex<Vec<Call>>,
}

impl Stage {
    pub fn new(servers: Vec<Arc<dyn Store>>) -> Arc<Self> {
        Arc::new(Self {
            servers: servers.into_iter().map(|s| watch::Sender::new(Some(s))).collect(),
            moment: AtomicU64::new(1),
            calls: watch::Sender::new(0),
            stops: watch::Sender::new(0),
            calm: watch::Sender::new(false),
            sessions: watch::Sender::new(0),
            heard: AtomicU64::new(0),
            compacted: AtomicU64::new(0),
            done: Mutex::default(),
        })
    }

    fn now(&self) -> u64 {
        self.moment.fetch_add(1, Ordering::SeqCst)
    }

    /// The server, once it is there.
    async fn server(&self, i: usize) -> Arc<dyn Store> {
        let mut slot = self.servers[i % self.servers.len()].subscribe();
        let there = slot.wait_for(Option::is_some).await.expect("the stage is there");
        there.clone().expect("a server")
    }

    /// Waits until another server is in the place of this one, which has stopped.
    async fn after(&self, i: usize, stopped: &Arc<dyn Store>) {
        self.stops.send_modify(|n| *n += 1);
        let mut slot = self.servers[i % self.servers.len()].subscribe();
        let other = |now: &Option<Arc<dyn Store>>| now.as_ref().is_some_and(|now| !Arc::ptr_eq(now, stopped));
        let _ = slot.wait_for(other).await;
    }

    /// For those who bring faults: takes a server away.
    pub fn remove(&self, i: usize) {
        self.servers[i].send_replace(None);
    }

    /// Brings a server, and waits until the scribe listens to it, so that it misses none.
    pub async fn replace(&self, i: usize, server: Arc<dyn Store>) {
        let known = *self.sessions.borrow();
        self.servers[i].send_replace(Some(server));
        let _ = self.sessions.subscribe().wait_for(|n| *n > known || *n == u64::MAX).await;
    }

    /// Waits until so many calls have ended.
    pub async fn reach(&self, calls: u64) {
        let _ = self.calls.subscribe().wait_for(|n| *n >= calls).await;
    }

    pub fn calls(&self) -> u64 {
        *self.calls.borrow()
    }

    pub fn stops(&self) -> u64 {
        *self.stops.borrow()
    }

    /// Waits until one more client has found its server stopped.
    pub async fn stopped(&self, known: u64) {
        let _ = self.stops.subscribe().wait_for(|n| *n > known).await;
    }

    fn note(&self, call: Call) {
        self.done.lock().push(call);
        self.calls.send_modify(|n| *n += 1);
    }
}

/// Why there is nothing to judge: a server that came back had forgotten, in a snapshot, what the scribe had not heard yet.
pub const FORGOTTEN: &str = "the scribe was told that history is gone";

/// What is to be done.
#[derive(Clone)]
pub struct Work {
    pub seed: u64,
    pub clients: usize,
    /// At least so many calls in all.
    pub calls: u64,
    /// All keys begin so.
    pub prefix: String,
    /// Puts without conditions, and deletes without a put beside; where a lost answer makes a server write again, those
    /// would happen twice.
    pub blind: bool,
    pub compaction: bool,
    /// Records with a TTL; moves the clock.
    pub advance: Option<Arc<dyn Fn(Duration) + Send + Sync>>,
    /// Which server only the scribe uses, if any.
    pub scribe: usize,
}

/// Runs clients and watchers beside `faults`, and waits until everything was told to everybody.
pub async fn run(
    stage: &Arc<Stage>,
    work: &Work,
    faults: impl Future<Output = ()>,
) -> Result<History, String> {
    let end = watch::Sender::new(None);
    let first = stage.server(work.scribe).await.revision() + 1;
    let listen = |prefix: &str, seed: u64, server: usize| {
        let listener = Listener {
            stage: stage.clone(),
            prefix: prefix.to_owned(),
            dice: Dice::new(seed),
            server,
            scribe: seed == 0,
            end: end.subscribe(),
        };
        tokio::spawn(listener.listen(first))
    };
    let scribe = listen(&work.prefix, 0, work.scribe);
    let watchers: Vec<_> = [("", 1), ("a/", 2), ("b/", 3)]
        .iter()
        .map(|(p, n)| listen(&format!("{}{p}", work.prefix), work.seed * 7 + n, *n as usize))
        .collect();
    let clients: Vec<_> = (0..work.clients)
        .map(|n| {
            let dice = Dice::new(work.seed.wrapping_mul(1000) + n as u64);
            let client = Client {
                n,
                stage: stage.clone(),
                work: work.clone(),
                dice,
                known: HashMap::new(),
                written: 0,
            };
            tokio::spawn(client.work())
        })
        .collect();
    faults.await;
    stage.calm.send_replace(true);
    for c in clients {
        c.await.map_err(|e| format!("a client ended: {e}"))?;
    }
    // All is well again: what is there now, and everything that led to it.
    let newest = loop {
        let store = stage.server(work.scribe).await;
        let start = stage.now();
        let range = Range { fresh: Fresh::Newest, ..Range::prefix(&work.prefix) };
        if let Ok(r) = store.range(range).await {
            let (revision, listed) = (r.revision, listed(&r));
            let deed = Deed::List { prefix: work.prefix.clone(), limit: 0, at: None, known: false, listed };
            stage.note(Call { client: usize::MAX, start, end: stage.now(), deed });
            break revision;
        }
        tokio::task::yield_now().await;
    };
    end.send_replace(Some(newest));
    let scribe = scribe.await.map_err(|e| format!("the scribe ended: {e}"))?;
    if scribe.iter().any(|w| w.forgotten) {
        return Err(FORGOTTEN.into());
    }
    let mut watches = Vec::new();
    for w in watchers {
        watches.extend(w.await.map_err(|e| format!("a watcher ended: {e}"))?);
    }
    Ok(History {
        calls: std::mem::take(&mut *stage.done.lock()),
        scribe,
        watches,
        end: newest,
        compacted: stage.compacted.load(Ordering::SeqCst),
        may_forget: false,
    })
}

fn listed(r: &crate::RangeResult) -> Listed {
    let records = r.records.iter().map(|r| (r.key.to_string(), Seen::of(r))).collect();
    Listed { revision: r.revision, records, count: r.count, more: r.more }
}

struct Client {
    n: usize,
    stage: Arc<Stage>,
    work: Work,
    dice: Dice,
    /// What it last heard of keys: the revision of their last change, 0 for none.
    known: HashMap<String, Revision>,
    written: u64,
}

impl Client {
    fn key(&mut self) -> String {
        let kind = if self.dice.one_in(2) { "a" } else { "b" };
        format!("{}{kind}/{}", self.work.prefix, self.dice.below(3))
    }

    fn value(&mut self) -> String {
        self.written += 1;
        format!("{}.{}{}", self.n, self.written, ".".repeat(self.dice.below(200) as usize))
    }

    async fn work(mut self) {
        while self.stage.calls() < self.work.calls || !*self.stage.calm.borrow() {
            let store = self.stage.server(self.n).await;
            let start = self.stage.now();
            let deed = self.deed(&store).await;
            let end = self.stage.now();
            match deed {
                Ok(deed) => self.stage.note(Call { client: self.n, start, end, deed }),
                Err((unanswered, e)) => {
                    if let Some(deed) = unanswered {
                        // Its end is open.
                        self.stage.note(Call { client: self.n, start, end, deed });
                    }
                    self.known.clear();
                    match e {
                        Error::Stopped(_) => self.stage.after(self.n, &store).await,
                        _ => tokio::time::sleep(Duration::from_millis(1)).await,
                    }
                }
            }
        }
    }

    async fn deed(&mut self, store: &Arc<dyn Store>) -> Result<Deed, (Option<Deed>, Error)> {
        let none = |e| (None, e);
        match self.dice.below(100) {
            0..16 => {
                let key = self.key();
                let found = store.get_fresh(&key, Fresh::Newest).await.map_err(none)?;
                self.known.insert(key.clone(), found.as_ref().map_or(0, |r| r.mod_revision));
                Ok(Deed::Get { key, found: Seen::maybe(found.as_ref()) })
            }
            16..36 => {
                let prefix = match self.dice.below(3) {
                    0 => self.work.prefix.clone(),
                    n => format!("{}{}/", self.work.prefix, ["a", "b"][n as usize - 1]),
                };
                let limit = if self.dice.one_in(3) { 1 + self.dice.below(4) as usize } else { 0 };
                let known = self.dice.one_in(4);
                let at = self.dice.one_in(4).then(|| self.past());
                let fresh = if known { Fresh::Known } else { Fresh::Newest };
                match store.range(Range { limit, at, fresh, ..Range::prefix(&prefix) }).await {
                    Ok(r) => {
                        for r in &r.records {
                            self.known.insert(r.key.to_string(), r.mod_revision);
                        }
                        Ok(Deed::List { prefix, limit, at, known, listed: listed(&r) })
                    }
                    Err(Error::Compacted { .. }) if at.is_some() => {
                        Ok(Deed::Forgotten { at: at.unwrap_or(0) })
                    }
                    Err(e) => Err(none(e)),
                }
            }
            36..39 if self.work.compaction => {
                // The scribe needs no more than what follows.
                let revision = self.stage.heard.load(Ordering::SeqCst);
                self.stage.compacted.fetch_max(revision, Ordering::SeqCst);
                match store.compact(revision).await {
                    Ok(()) | Err(Error::Compacted { .. } | Error::Future { .. }) => {
                        Ok(Deed::Compact { revision })
                    }
                    Err(e) => Err(none(e)),
                }
            }
            39..42 if self.work.advance.is_some() => {
                if let Some(advance) = &self.work.advance {
                    advance(Duration::from_secs(1 + self.dice.below(5)));
                }
                Ok(Deed::Compact { revision: 0 })
            }
            _ => self.write(store).await,
        }
    }

    /// A revision that was, or may have been.
    fn past(&mut self) -> Revision {
        self.stage.heard.load(Ordering::SeqCst).saturating_sub(self.dice.below(12)).max(1)
    }

    async fn write(&mut self, store: &Arc<dyn Store>) -> Result<Deed, (Option<Deed>, Error)> {
        let key = self.key();
        let condition = |c: &Self, key: &str| -> Vec<Condition> {
            vec![(key.to_owned(), c.known.get(key).copied().unwrap_or(0))]
        };
        let put = |c: &mut Self, key: &str| {
            let ttl = (c.work.advance.is_some() && c.dice.one_in(6)).then(|| 2 + c.dice.below(10));
            Step::Put { key: key.to_owned(), value: c.value(), ttl }
        };
        let otherwise = vec![Step::Get { key: key.clone() }];
        let (conditions, then, otherwise) = match self.dice.below(10) {
            0 if self.work.blind => (vec![], vec![put(self, &key)], vec![]),
            1 if self.work.blind => (vec![], vec![Step::Delete { key: key.clone() }], vec![]),
            // Where the key is missing, nothing would keep it from being done twice.
            0..3 if self.work.blind || self.known.get(&key).is_some_and(|at| *at > 0) => {
                // With a sign that tells whose delete it was.
                let sign = format!("{}b/sign-{}", self.work.prefix, self.n);
                (condition(self, &key), vec![Step::Delete { key: key.clone() }, put(self, &sign)], otherwise)
            }
            3 | 4 => {
                let mut other = self.key();
                if other == key {
                    other.push('+');
                }
                let steps = vec![put(self, &key), Step::Get { key: other.clone() }, put(self, &other)];
                (condition(self, &key), steps, otherwise)
            }
            _ => (condition(self, &key), vec![put(self, &key)], otherwise),
        };
        let _coming = store.coming();
        let txn = Txn {
            compare: conditions
                .iter()
                .map(|(key, equals)| Compare::ModRevision { key: key.clone(), equals: *equals })
                .collect(),
            then: then.iter().map(op).collect(),
            otherwise: otherwise.iter().map(op).collect(),
        };
        match store.txn(txn).await {
            Ok(r) => {
                let answer = answer(&r);
                let steps = if r.succeeded { &then } else { &otherwise };
                for (step, found) in steps.iter().zip(&answer.results) {
                    let at = match step {
                        Step::Delete { .. } => 0,
                        _ => found.as_ref().map_or(0, |s| s.modified),
                    };
                    self.known.insert(step.key().to_owned(), at);
                }
                Ok(Deed::Write { conditions, then, otherwise, answer: Some(answer) })
            }
            Err(e) => Err((Some(Deed::Write { conditions, then, otherwise, answer: None }), e)),
        }
    }
}

fn op(step: &Step) -> Op {
    match step.clone() {
        Step::Put { key, value, ttl } => {
            Op::Put { key, value: value.into(), ttl: ttl.map(Duration::from_secs), aux: None }
        }
        Step::Delete { key } => Op::Delete { key },
        Step::Get { key } => Op::Get { key },
    }
}

fn answer(r: &TxnResult) -> Answer {
    let results = r.results.iter().map(|o| Seen::maybe(o.record())).collect();
    Answer { succeeded: r.succeeded, revision: r.revision, results }
}

fn told(e: &Event) -> Told {
    Told {
        key: e.record.key.to_string(),
        revision: e.record.mod_revision,
        now: (e.kind == EventKind::Put).then(|| Seen::of(&e.record)),
        before: Seen::maybe(e.previous.as_ref()),
    }
}

struct Listener {
    stage: Arc<Stage>,
    prefix: String,
    dice: Dice,
    server: usize,
    /// Begins again just where it was; others also a little before.
    scribe: bool,
    /// The revision to come to before it ends.
    end: watch::Receiver<Option<Revision>>,
}

impl Listener {
    async fn listen(mut self, first: Revision) -> Vec<Watched> {
        let mut all = Vec::new();
        let mut next = first;
        loop {
            let store = self.stage.server(self.server).await;
            let again = if self.scribe { 0 } else { self.dice.below(6) };
            let from = next.saturating_sub(again).max(first);
            let mut w = Watched { prefix: self.prefix.clone(), from, items: Vec::new(), forgotten: false };
            let (over, why) = self.follow(&store, &mut w, &mut next).await;
            w.forgotten = matches!(why, Some(Error::Compacted { .. }));
            if w.forgotten && !self.scribe {
                next = next.max(self.stage.heard.load(Ordering::SeqCst) + 1);
            }
            let forgotten = w.forgotten;
            all.push(w);
            if over || (forgotten && self.scribe) {
                // Nobody waits for a scribe who has gone.
                self.stage.sessions.send_replace(u64::MAX);
                return all;
            }
            match why {
                Some(Error::Stopped(_)) => self.stage.after(self.server, &store).await,
                _ => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }

    /// Whether it came to the end, and else why the watch did.
    async fn follow(
        &mut self,
        store: &Arc<dyn Store>,
        w: &mut Watched,
        next: &mut Revision,
    ) -> (bool, Option<Error>) {
        let mut watcher = match store.watch(&w.prefix, Some(w.from)).await {
            Ok(watcher) => watcher,
            Err(e) => return (false, Some(e)),
        };
        if self.scribe {
            self.stage.sessions.send_modify(|n| *n = n.saturating_add(1));
        }
        let mut last = w.from - 1;
        let mut asked = false;
        loop {
            let end = *self.end.borrow();
            if let Some(end) = end {
                if last >= end {
                    return (true, None);
                }
                if !asked {
                    // Brings a quiet server's memory there, too.
                    let fresh = Fresh::AtLeast(end);
                    let _ = store.range(Range { fresh, count_only: true, ..Range::prefix(&w.prefix) }).await;
                    watcher.request_progress();
                    asked = true;
                }
            }
            let item = tokio::select! {
                biased;
                item = watcher.next() => item,
                _ = self.end.changed(), if end.is_none() => continue,
            };
            let heard = self.stage.now();
            let item = match item {
                Ok(WatchItem::Events(e)) => {
                    last = e.last().map_or(last, |e| e.record.mod_revision);
                    Item::Changes(e.iter().map(told).collect())
                }
                Ok(WatchItem::Progress(at)) => {
                    last = at;
                    asked = false;
                    Item::Progress(at)
                }
                Err(e) => return (false, Some(e)),
            };
            w.items.push((heard, item));
            *next = (*next).max(last + 1);
            if self.scribe {
                self.stage.heard.fetch_max(last, Ordering::SeqCst);
            } else if end.is_none() && self.dice.one_in(40) {
                // Now and then it begins anew.
                return (false, None);
            }
        }
    }
}
