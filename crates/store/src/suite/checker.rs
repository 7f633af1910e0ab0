//! The invariants checker: watches everything beside some load and, at the end, compares what the events add up to
//! with what the store says. Spawns one task, which ends with `finish`.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{EventKind, Range, Record, Store, WatchItem};

type State = BTreeMap<Arc<str>, Arc<Record>>;

pub struct Checker {
    prefix: String,
    done: watch::Sender<u64>,
    task: JoinHandle<State>,
}

impl Checker {
    pub async fn start(store: &Arc<dyn Store>, prefix: &str) -> Self {
        let list = store.range(Range::prefix(prefix)).await.expect("a first list");
        let mut state: State = list.records.into_iter().map(|r| (r.key.clone(), r)).collect();
        let mut watcher = store.watch(prefix, Some(list.revision + 1)).await.expect("a watch");
        let (done, mut until) = watch::channel(u64::MAX);
        let store = store.clone();
        let mut last = list.revision;
        let task = tokio::spawn(async move {
            loop {
                let item = tokio::select! {
                    item = watcher.next() => item.expect("the checker's watch goes on"),
                    _ = until.changed() => {
                        watcher.request_progress();
                        continue;
                    }
                };
                let newest = match item {
                    WatchItem::Progress(at) => {
                        assert!(at >= last);
                        at
                    }
                    WatchItem::Events(batch) => {
                        let first = batch.first().map_or(0, |e| e.record.mod_revision);
                        assert!(first > last, "revision {first} after {last}");
                        for e in batch.iter() {
                            let r = &e.record;
                            assert!(r.mod_revision >= last, "{r:?} after {last}");
                            last = r.mod_revision;
                            assert!(store.revision() >= last, "{r:?} was told before it was readable");
                            let before = state.get(&r.key);
                            let same = |a: Option<&Arc<Record>>| a.map(|r| (r.mod_revision, r.version));
                            assert_eq!(same(before), same(e.previous.as_ref()), "previous state of {r:?}");
                            match e.kind {
                                EventKind::Put => {
                                    assert_eq!(r.version, before.map_or(0, |b| b.version) + 1, "{r:?}");
                                    let created = before.map_or(r.mod_revision, |b| b.create_revision);
                                    assert_eq!(r.create_revision, created, "{r:?}");
                                    state.insert(r.key.clone(), r.clone());
                                }
                                EventKind::Delete => {
                                    assert!(state.remove(&r.key).is_some(), "{r:?} was not there");
                                }
                            }
                        }
                        last
                    }
                };
                if newest >= *until.borrow() {
                    return state;
                }
            }
        });
        Self { prefix: prefix.into(), done, task }
    }

    /// To be called when the load is over.
    pub async fn finish(self, store: &Arc<dyn Store>) {
        let list = store.range(Range::prefix(&self.prefix)).await.expect("a last list");
        let _ = self.done.send(list.revision);
        let state = self.task.await.expect("the checker found nothing wrong");
        let listed: Vec<_> = list.records.iter().map(|r| (&r.key, r.mod_revision, &r.value)).collect();
        let watched: Vec<_> = state.values().map(|r| (&r.key, r.mod_revision, &r.value)).collect();
        assert_eq!(listed, watched, "the events do not add up to the list");
    }
}
