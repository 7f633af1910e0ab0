//! Watches: order, history, progress, laggards.

use super::*;
use crate::{EventKind, Range};

async fn progress(watcher: &mut Box<dyn Watcher>) -> u64 {
    watcher.request_progress();
    match watcher.next().await.unwrap() {
        WatchItem::Progress(revision) => revision,
        WatchItem::Events(e) => panic!("events before progress: {e:?}"),
    }
}

pub(super) async fn watch_from_now(s: Subject) {
    must(&s.store, put("/r/p/old", "x")).await;
    let mut watcher = s.store.watch("/r/p/", None).await.unwrap();
    must(&s.store, put("/r/q/other", "x")).await;
    let put = must(&s.store, put("/r/p/a", "1")).await.revision;
    let gone = must(&s.store, delete("/r/p/a")).await.revision;
    let e = events(&mut watcher, 2).await;
    assert_eq!((e[0].kind, text(&e[0].record)), (EventKind::Put, format!("/r/p/a=1@{put}")));
    assert_eq!((e[1].kind, text(&e[1].record)), (EventKind::Delete, format!("/r/p/a=@{gone}")));
}

pub(super) async fn watch_from_the_past(s: Subject) {
    let mut revisions = Vec::new();
    for i in 0..20 {
        revisions.push(must(&s.store, put(&format!("/r/p/{}", i % 3), format!("{i}"))).await.revision);
    }
    for from in [0, 7, 19] {
        let mut watcher = s.store.watch("/r/p/", Some(revisions[from])).await.unwrap();
        let got = events(&mut watcher, 20 - from).await;
        let got: Vec<u64> = got.iter().map(|e| e.record.mod_revision).collect();
        assert_eq!(got, revisions[from..]);
        assert_eq!(progress(&mut watcher).await, *revisions.last().unwrap());
    }
}

pub(super) async fn watch_from_compacted_history(s: Subject) {
    let mut revisions = Vec::new();
    for i in 0..10 {
        revisions.push(must(&s.store, put("/r/p/a", format!("{i}"))).await.revision);
    }
    s.store.compact(revisions[6]).await.unwrap();
    let early = match s.store.watch("/r/p/", Some(revisions[5])).await {
        Ok(mut watcher) => watcher.next().await.map(|_| ()),
        Err(e) => Err(e),
    };
    match early {
        Err(Error::Compacted { asked, oldest }) => assert_eq!((asked, oldest), (revisions[5], revisions[6])),
        other => panic!("{other:?}"),
    }
    let mut watcher = s.store.watch("/r/p/", Some(revisions[6])).await.unwrap();
    assert_eq!(events(&mut watcher, 4).await[0].record.mod_revision, revisions[6]);
}

pub(super) async fn watch_from_the_future(s: Subject) {
    let now = must(&s.store, put("/r/p/a", "0")).await.revision;
    let mut watcher = s.store.watch("/r/p/", Some(now + 3)).await.unwrap();
    for i in 1..=4 {
        must(&s.store, put("/r/p/a", format!("{i}"))).await;
    }
    let e = events(&mut watcher, 2).await;
    assert_eq!(e.iter().map(|e| e.record.mod_revision).collect::<Vec<_>>(), [now + 3, now + 4]);
}

pub(super) async fn revisions_are_not_split(s: Subject) {
    let from = s.store.revision() + 1;
    let mut live = s.store.watch("/r/", None).await.unwrap();
    let writer = s.store.clone();
    let task = tokio::spawn(async move {
        for i in 0..300 {
            let ops = (0..1 + i % 9).map(|j| put_op(&format!("/r/k{j}/x/{i}"), "x")).collect();
            writer.txn(Txn { then: ops, ..Txn::default() }).await.unwrap();
        }
    });
    let total: usize = (0..300).map(|i| 1 + i % 9).sum();
    let check = async |watcher: &mut Box<dyn Watcher>| {
        let (mut seen, mut last) = (0, 0);
        while seen < total {
            let WatchItem::Events(batch) = watcher.next().await.unwrap() else { continue };
            assert!(batch[0].record.mod_revision > last, "a revision came in two items");
            assert!(batch.is_sorted_by_key(|e| e.record.mod_revision));
            last = batch.last().unwrap().record.mod_revision;
            let size = batch.iter().filter(|e| e.record.mod_revision == last).count() as u64;
            assert_eq!(size, 1 + (last - from) % 9);
            seen += batch.len();
        }
    };
    check(&mut live).await;
    task.await.unwrap();
    let mut late = s.store.watch("/r/", Some(from)).await.unwrap();
    check(&mut late).await;
}

pub(super) async fn previous_states_are_told(s: Subject) {
    let from = must(&s.store, put("/r/p/a", "1")).await.revision;
    must(&s.store, put("/r/p/a", "2")).await;
    must(&s.store, delete("/r/p/a")).await;
    must(&s.store, put("/r/p/a", "3")).await;
    let mut watcher = s.store.watch("/r/p/", Some(from)).await.unwrap();
    let previous: Vec<String> = events(&mut watcher, 4)
        .await
        .iter()
        .map(|e| {
            e.previous.as_ref().map_or(String::new(), |r| String::from_utf8_lossy(&r.value).into_owned())
        })
        .collect();
    assert_eq!(previous, ["", "1", "2", ""]);
}

pub(super) async fn progress_follows_events(s: Subject) {
    let mut quiet = s.store.watch("/r/quiet/", None).await.unwrap();
    let mut busy = s.store.watch("/r/busy/", None).await.unwrap();
    for i in 0..20 {
        let revision = must(&s.store, put("/r/busy/a", format!("{i}"))).await.revision;
        assert!(progress(&mut quiet).await >= revision);
        busy.request_progress();
        assert_eq!(events(&mut busy, 1).await[0].record.mod_revision, revision);
        match busy.next().await.unwrap() {
            WatchItem::Progress(at) => assert!(at >= revision),
            WatchItem::Events(e) => panic!("{e:?}"),
        }
    }
}

pub(super) async fn watchers_of_many_prefixes(s: Subject) {
    let prefixes = ["", "/", "/r", "/r/", "/r/p", "/r/p/", "/r/p/a", "/r/p/a/1", "/r/q/", "/r/p/a/12"];
    let mut watchers = Vec::new();
    for p in prefixes {
        watchers.push((p, s.store.watch(p, None).await.unwrap()));
    }
    // Ended ones must not be in the way.
    drop(s.store.watch("/r/p/", None).await.unwrap());
    let keys = ["/r/p/a/1", "/r/p/b/1", "/r/q/a/1", "/r/pp/a/1", "/x", "/r/p/a/12"];
    for key in keys {
        must(&s.store, put(key, "x")).await;
    }
    let newest = s.store.revision();
    for (prefix, watcher) in &mut watchers {
        let want: Vec<&str> = keys.into_iter().filter(|k| k.starts_with(*prefix)).collect();
        let got = events(watcher, want.len()).await;
        assert_eq!(got.iter().map(|e| &*e.record.key).collect::<Vec<_>>(), want, "{prefix}");
        assert!(progress(watcher).await >= newest);
    }
}

pub(super) async fn watch_began_during_writes_misses_nothing(s: Subject) {
    let writer = s.store.clone();
    let task = tokio::spawn(async move {
        for i in 0..500 {
            writer.txn(put(&format!("/r/p/{}", i % 10), format!("{i}"))).await.unwrap();
        }
        writer.revision()
    });
    let mut readers = Vec::new();
    for _ in 0..8 {
        let store = s.store.clone();
        readers.push(tokio::spawn(async move {
            let list = store.range(Range::prefix("/r/p/")).await.unwrap();
            let mut state: std::collections::BTreeMap<String, u64> =
                list.records.iter().map(|r| (r.key.to_string(), r.mod_revision)).collect();
            let mut watcher = store.watch("/r/p/", Some(list.revision + 1)).await.unwrap();
            let mut last = list.revision;
            while state.values().max().is_none_or(|v| *v < 500) && last < 500 {
                if let WatchItem::Events(batch) = watcher.next().await.unwrap() {
                    for e in batch.iter() {
                        last = e.record.mod_revision;
                        state.insert(e.record.key.to_string(), last);
                    }
                }
                if store.range(Range::key("/r/end")).await.unwrap().count > 0 {
                    break;
                }
            }
            let end = store.revision();
            watcher.request_progress();
            while last < end {
                match watcher.next().await.unwrap() {
                    WatchItem::Events(batch) => {
                        for e in batch.iter() {
                            assert!(e.record.mod_revision >= last);
                            last = e.record.mod_revision;
                            state.insert(e.record.key.to_string(), last);
                        }
                    }
                    WatchItem::Progress(at) => last = last.max(at),
                }
            }
            let then = Range { at: Some(last), ..Range::prefix("/r/p/") };
            let then = store.range(then).await.unwrap();
            let want: std::collections::BTreeMap<String, u64> =
                then.records.iter().map(|r| (r.key.to_string(), r.mod_revision)).collect();
            assert_eq!(state, want);
        }));
        tokio::task::yield_now().await;
    }
    task.await.unwrap();
    for r in readers {
        r.await.unwrap();
    }
}

pub(super) async fn laggards_are_ended(s: Subject) {
    let mut lazy = s.store.watch("/r/", None).await.unwrap();
    let mut other = s.store.watch("/r/last", None).await.unwrap();
    // More than any engine keeps for one watcher.
    for i in 0..400 {
        let ops = (0..100).map(|j| put_op(&format!("/r/p/{i}/{j}"), "x")).collect();
        must(&s.store, Txn { then: ops, ..Txn::default() }).await;
    }
    must(&s.store, put("/r/last", "x")).await;
    events(&mut other, 1).await;
    let mut seen = 0;
    let end = loop {
        match lazy.next().await {
            Ok(WatchItem::Events(e)) => seen += e.len(),
            Ok(WatchItem::Progress(_)) => {}
            Err(e) => break e,
        }
        if seen == 40_001 {
            // An engine that holds them all may.
            return;
        }
    };
    assert!(matches!(end, Error::Slow), "{end}");
    assert!(matches!(lazy.next().await, Err(Error::Slow)));
}

pub(super) async fn closed_stores_refuse(s: Subject) {
    let mut watcher = s.store.watch("/r/", None).await.unwrap();
    must(&s.store, put("/r/p/a", "x")).await;
    s.store.close().await.unwrap();
    events(&mut watcher, 1).await;
    assert!(matches!(watcher.next().await, Err(Error::Stopped(_))));
    assert!(matches!(s.store.txn(put("/r/p/a", "y")).await, Err(Error::Stopped(_))));
    assert!(matches!(s.store.get("/r/p/a").await, Err(Error::Stopped(_))));
    assert!(matches!(s.store.range(Range::prefix("/")).await, Err(Error::Stopped(_))));
    assert!(s.store.watch("/r/", None).await.is_err());
    s.store.close().await.unwrap();
}
