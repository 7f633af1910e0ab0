//! Revisions, records, transactions, ranges, compaction, TTL.

use super::*;
use crate::Range;

pub(super) async fn revisions_grow_by_one_per_transaction(s: Subject) {
    let start = s.store.revision();
    let a = must(&s.store, put("/a/b/1", "x")).await.revision;
    let txn = Txn { then: vec![put_op("/a/b/2", "x"), put_op("/a/b/3", "x")], ..Txn::default() };
    let both = must(&s.store, txn).await;
    assert!(a > start);
    assert_eq!(both.revision, a + 1);
    assert_eq!(record(&both, 0).unwrap().mod_revision, a + 1);
    assert_eq!(record(&both, 1).unwrap().mod_revision, a + 1);
    assert_eq!(must(&s.store, delete("/a/b/2")).await.revision, a + 2);
    // Nothing written: no revision.
    let none = must(&s.store, delete("/a/b/2")).await;
    assert!(record(&none, 0).is_none());
    assert_eq!((none.revision, s.store.revision()), (a + 2, a + 2));
    let read = must(&s.store, Txn { then: vec![Op::Get { key: "/a/b/1".into() }], ..Txn::default() }).await;
    assert_eq!(read.revision, a + 2);
    assert_eq!(record(&read, 0).unwrap().mod_revision, a);
}

pub(super) async fn records_count_their_versions(s: Subject) {
    let key = "/a/b/c";
    let first = record(&must(&s.store, put(key, "1")).await, 0).unwrap();
    assert_eq!((first.version, first.create_revision), (1, first.mod_revision));
    let second = record(&must(&s.store, put(key, "2")).await, 0).unwrap();
    assert_eq!((second.version, second.create_revision), (2, first.mod_revision));
    let gone = record(&must(&s.store, delete(key)).await, 0).unwrap();
    assert_eq!(text(&gone), text(&second));
    assert!(s.store.get(key).await.unwrap().is_none());
    let again = record(&must(&s.store, put(key, "3")).await, 0).unwrap();
    assert_eq!((again.version, again.create_revision), (1, again.mod_revision));
    assert_eq!(s.store.get(key).await.unwrap().unwrap().value, "3");
}

pub(super) async fn compares_guard_writes(s: Subject) {
    let key = "/a/b/c";
    let made = must(&s.store, swap(key, 0, put_op(key, "1"))).await;
    assert!(made.succeeded);
    let refused = must(&s.store, swap(key, 0, put_op(key, "2"))).await;
    assert!(!refused.succeeded);
    assert_eq!(record(&refused, 0).unwrap().value, "1");
    assert_eq!(refused.revision, made.revision);
    assert!(must(&s.store, swap(key, made.revision, put_op(key, "3"))).await.succeeded);
    let txn = Txn {
        compare: vec![
            Compare::CreateRevision { key: key.into(), equals: made.revision },
            Compare::CreateRevision { key: "/a/b/none".into(), equals: 0 },
        ],
        then: vec![Op::Delete { key: key.into() }],
        ..Txn::default()
    };
    assert!(must(&s.store, txn.clone()).await.succeeded);
    assert!(!must(&s.store, txn).await.succeeded);
}

pub(super) async fn ops_of_a_transaction_see_each_other(s: Subject) {
    let get = |key: &str| Op::Get { key: key.into() };
    let then =
        vec![get("/a/b/1"), put_op("/a/b/1", "x"), get("/a/b/1"), put_op("/a/b/2", "y"), get("/a/b/2")];
    let r = must(&s.store, Txn { then, ..Txn::default() }).await;
    assert!(record(&r, 0).is_none());
    assert_eq!(record(&r, 2).unwrap().value, "x");
    assert_eq!(record(&r, 4).unwrap().mod_revision, r.revision);
}

pub(super) async fn range_limits_and_counts(s: Subject) {
    for i in 0..25 {
        must(&s.store, put(&format!("/r/pods/ns/{i:02}"), "x")).await;
    }
    must(&s.store, put("/r/podsets/ns/a", "x")).await;
    must(&s.store, put("/r/pod/ns/a", "x")).await;
    let range = |limit, count_only| Range { limit, count_only, ..Range::prefix("/r/pods/") };
    let all = s.store.range(range(0, false)).await.unwrap();
    assert_eq!((all.records.len(), all.count, all.more), (25, 25, false));
    let some = s.store.range(range(10, false)).await.unwrap();
    assert_eq!((some.records.len(), some.count, some.more), (10, 25, true));
    let exact = s.store.range(range(25, false)).await.unwrap();
    assert_eq!((exact.records.len(), exact.count, exact.more), (25, 25, false));
    let count = s.store.range(range(0, true)).await.unwrap();
    assert_eq!((count.records.len(), count.count), (0, 25));
    // Without a count, more is more all the same.
    for (prefix, limit, want) in [
        ("/r/pods/ns/", 10, (10, true)),
        ("/r/pods/ns/", 25, (25, false)),
        ("/r/pods/ns/2", 4, (4, true)),
        ("/r/pods/ns/2", 0, (5, false)),
    ] {
        let range = Range { limit, uncounted: true, ..Range::prefix(prefix) };
        let r = s.store.range(range).await.unwrap();
        assert_eq!((r.records.len(), r.more), want, "{prefix} {limit}");
    }
    // The next page.
    let next = Range { start: "/r/pods/ns/09\0".into(), limit: 10, ..Range::prefix("/r/pods/") };
    let next = s.store.range(next).await.unwrap();
    assert_eq!((next.records.len(), next.count, next.more), (10, 15, true));
    assert_eq!(&*next.records[0].key, "/r/pods/ns/10");
    let none = s.store.range(Range::prefix("/r/none/")).await.unwrap();
    assert_eq!((none.records.len(), none.count, none.more), (0, 0, false));
    assert_eq!(s.store.range(Range::prefix("")).await.unwrap().count, 27);
    let one = s.store.range(Range::key("/r/pods/ns/03")).await.unwrap();
    assert_eq!((one.count, one.more), (1, false));
    assert_eq!(s.store.range(Range::key("/r/pods/ns/")).await.unwrap().count, 0);
}

pub(super) async fn ranges_at_old_revisions(s: Subject) {
    let mut states: Vec<(u64, Vec<String>)> = Vec::new();
    let key = |i: usize| format!("/r/k{}/ns/{}", i % 3, i % 7);
    for i in 0..60 {
        let txn = match i % 4 {
            3 => delete(&key(i / 2)),
            _ => put(&key(i), format!("{i}")),
        };
        must(&s.store, txn).await;
        let now = s.store.range(Range::prefix("/r/")).await.unwrap();
        states.push((now.revision, texts(&now.records)));
    }
    for (revision, state) in states {
        let then = Range { at: Some(revision), ..Range::prefix("/r/") };
        let then = s.store.range(then).await.unwrap();
        assert_eq!(texts(&then.records), state, "at {revision}");
        assert_eq!((then.revision, then.count), (revision, state.len() as u64));
        for key in ["/r/k0/ns/0", "/r/k1/ns/4", "/r/k2/ns/2"] {
            let one = s.store.range(Range { at: Some(revision), ..Range::key(key) }).await.unwrap();
            let want: Vec<String> =
                state.iter().filter(|t| t.starts_with(&format!("{key}="))).cloned().collect();
            assert_eq!(texts(&one.records), want, "{key} at {revision}");
        }
        let page = Range { at: Some(revision), limit: 2, ..Range::prefix("/r/") };
        let page = s.store.range(page).await.unwrap();
        assert_eq!(texts(&page.records), state[..state.len().min(2)]);
        assert_eq!((page.count, page.more), (state.len() as u64, state.len() > 2));
    }
}

pub(super) async fn long_ranges_at_old_revisions(s: Subject) {
    // More than an engine may hand out under one hold of a lock.
    let write = |i: usize, value: &'static str| {
        let ops = (0..50).map(|j| put_op(&format!("/r/p/{:05}", i * 50 + j), value)).collect();
        Txn { then: ops, ..Txn::default() }
    };
    for i in 0..120 {
        must(&s.store, write(i, "old")).await;
    }
    let at = s.store.revision();
    for i in (0..120).step_by(2) {
        must(&s.store, write(i, "new")).await;
        must(&s.store, delete(&format!("/r/p/{:05}", i * 50 + 7))).await;
        must(&s.store, put(&format!("/r/p/{:05}x", i * 50 + 9), "extra")).await;
    }
    let then = s.store.range(Range { at: Some(at), ..Range::prefix("/r/p/") }).await.unwrap();
    assert_eq!((then.count, then.records.len()), (6000, 6000));
    assert!(then.records.iter().all(|r| r.value == "old"));
    assert!(then.records.is_sorted_by(|a, b| a.key < b.key));
    let now = s.store.range(Range::prefix("/r/p/")).await.unwrap();
    assert_eq!((now.count, now.records.len()), (6000, 6000));
    assert!(now.records.is_sorted_by(|a, b| a.key < b.key));
    let page = Range { at: Some(at), limit: 3000, ..Range::prefix("/r/p/") };
    let page = s.store.range(page).await.unwrap();
    assert_eq!((page.count, page.records.len(), page.more), (6000, 3000, true));
}

pub(super) async fn future_and_compacted_revisions_are_refused(s: Subject) {
    let mut revisions = Vec::new();
    for i in 0..10 {
        revisions.push(must(&s.store, put("/r/p/a", format!("{i}"))).await.revision);
    }
    let newest = s.store.revision();
    let read = |at| s.store.range(Range { at: Some(at), ..Range::prefix("/r/p/") });
    assert!(matches!(read(newest + 1).await, Err(Error::Future { .. })));
    assert!(matches!(s.store.compact(newest + 1).await, Err(Error::Future { .. })));
    s.store.compact(revisions[5]).await.unwrap();
    assert!(is_compacted(&s.store.compact(revisions[5]).await));
    assert!(is_compacted(&read(revisions[4]).await));
    assert_eq!(read(revisions[5]).await.unwrap().records[0].value, "5");
    s.store.compact(newest).await.unwrap();
    assert!(is_compacted(&read(newest - 1).await));
    assert_eq!(read(newest).await.unwrap().records[0].value, "9");
    assert_eq!(s.store.get("/r/p/a").await.unwrap().unwrap().value, "9");
}

pub(super) async fn too_large_values_are_refused(s: Subject) {
    let before = s.store.revision();
    let huge = s.store.txn(put("/r/p/a", vec![b'x'; 64 << 20])).await;
    assert!(matches!(huge, Err(Error::TooLarge { .. })));
    assert_eq!(s.store.revision(), before);
    must(&s.store, put("/r/p/a", vec![b'x'; 1 << 20])).await;
    assert_eq!(s.store.get("/r/p/a").await.unwrap().unwrap().value.len(), 1 << 20);
}

pub(super) async fn racing_writers_lose_no_increment(s: Subject) {
    let checker = checker::Checker::start(&s.store, "/r/").await;
    let mut tasks = Vec::new();
    for t in 0..16 {
        let store = s.store.clone();
        tasks.push(tokio::spawn(async move {
            let mut last = 0;
            for i in 0..20 {
                loop {
                    let now = store.get("/r/count/n").await.unwrap();
                    let n: u64 =
                        now.as_ref().map_or(0, |r| String::from_utf8_lossy(&r.value).parse().unwrap());
                    let at = now.map_or(0, |r| r.mod_revision);
                    let mut txn = swap("/r/count/n", at, put_op("/r/count/n", (n + 1).to_string()));
                    txn.then.push(put_op(&format!("/r/own/{t}"), i.to_string()));
                    let r = store.txn(txn).await.unwrap();
                    // What was answered is visible, and revisions only grow.
                    assert!(store.revision() >= r.revision && r.revision >= last);
                    last = r.revision;
                    if r.succeeded {
                        break;
                    }
                }
            }
        }));
    }
    for t in tasks {
        t.await.unwrap();
    }
    assert_eq!(s.store.get("/r/count/n").await.unwrap().unwrap().value, "320");
    checker.finish(&s.store).await;
}

pub(super) async fn ended_records_are_deleted(s: Subject) {
    let Some(advance) = &s.advance else { return };
    let mut watcher = s.store.watch("/r/", None).await.unwrap();
    let with_ttl = |key: &str, seconds| Txn {
        then: vec![Op::Put {
            key: key.into(),
            value: "x".into(),
            ttl: Some(Duration::from_secs(seconds)),
            aux: None,
        }],
        ..Txn::default()
    };
    must(&s.store, with_ttl("/r/events/short", 10)).await;
    must(&s.store, with_ttl("/r/events/long", 100)).await;
    must(&s.store, with_ttl("/r/events/renewed", 10)).await;
    must(&s.store, with_ttl("/r/events/renewed", 100)).await;
    must(&s.store, with_ttl("/r/events/kept", 10)).await;
    let before = must(&s.store, put("/r/events/kept", "y")).await.revision;
    events(&mut watcher, 6).await;
    advance(Duration::from_secs(11));
    let gone = events(&mut watcher, 1).await;
    assert_eq!((gone[0].kind, &*gone[0].record.key), (crate::EventKind::Delete, "/r/events/short"));
    assert_eq!(gone[0].record.mod_revision, before + 1);
    assert!(s.store.get("/r/events/short").await.unwrap().is_none());
    assert_eq!(s.store.range(Range::prefix("/r/events/")).await.unwrap().count, 3);
    advance(Duration::from_secs(100));
    let mut gone: Vec<String> =
        events(&mut watcher, 2).await.iter().map(|e| e.record.key.to_string()).collect();
    gone.sort();
    assert_eq!(gone, ["/r/events/long", "/r/events/renewed"]);
    assert_eq!(s.store.get("/r/events/kept").await.unwrap().unwrap().value, "y");
    assert_eq!(s.store.revision(), before + 3);
}

pub(super) async fn keys_and_prefixes_do_not_mix(s: Subject) {
    for key in ["/r/pods", "/r/pods/a", "/r/pods0", "/r/pod", "a", "/", "ключ/ключ/1", "ключ/ключ2"]
    {
        must(&s.store, put(key, "x")).await;
    }
    let count = async |prefix: &str| s.store.range(Range::prefix(prefix)).await.unwrap().count;
    assert_eq!(count("/r/pods").await, 3);
    assert_eq!(count("/r/pods/").await, 1);
    assert_eq!(count("ключ/ключ").await, 2);
    assert_eq!(count("/").await, 5);
    assert_eq!(count("").await, 8);
    assert!(s.store.get("/r/pods/").await.unwrap().is_none());
}

/// Marks as a layer above finds them.
struct Marked(u64);

impl crate::Parsed for Marked {
    fn marks(&self) -> u64 {
        self.0
    }
}

pub(super) async fn records_without_the_marks_are_passed_over(s: Subject) {
    let marked = |key: &str, marks| {
        let aux: crate::Aux = Arc::new(Marked(marks));
        let op = Op::Put { key: key.into(), value: "x".into(), ttl: None, aux: Some(aux) };
        Txn { then: vec![op], ..Txn::default() }
    };
    let asked = |marks, limit, at| {
        let range = Range { marks, limit, at, uncounted: true, ..Range::prefix("/r/m/") };
        let store = s.store.clone();
        async move {
            let r = store.range(range).await.expect("a range");
            let keys: Vec<String> =
                r.records.iter().map(|r| r.key.rsplit('/').next().unwrap_or_default().into()).collect();
            (keys.concat(), r.more)
        }
    };
    for (key, marks) in [("a", 0b01), ("b", 0b10), ("c", 0b11), ("d", 0), ("e", 0b10)] {
        must(&s.store, marked(&format!("/r/m/{key}"), marks)).await;
    }
    let then = s.store.revision();
    assert_eq!(asked(0b01, 0, None).await, ("ac".into(), false));
    assert_eq!(asked(0b11, 0, None).await, ("c".into(), false));
    assert_eq!(asked(0, 0, None).await, ("abcde".into(), false));
    assert_eq!(asked(0b100, 0, None).await, (String::new(), false));
    // What follows the last one that has them is no reason to come again.
    assert_eq!(asked(0b01, 2, None).await, ("ac".into(), false));
    assert_eq!(asked(0b10, 2, None).await, ("bc".into(), true));
    // What is not known yet comes, until somebody has looked.
    must(&s.store, put("/r/m/f", "x")).await;
    assert_eq!(asked(0b01, 0, None).await, ("acf".into(), false));
    let f = s.store.get("/r/m/f").await.expect("read").expect("a record");
    assert!(f.aux.set(Arc::new(Marked(0))).is_ok());
    assert_eq!(asked(0b01, 0, None).await, ("ac".into(), false));
    // A change is judged by its new marks; the past still has the old state.
    must(&s.store, marked("/r/m/a", 0)).await;
    must(&s.store, marked("/r/m/d", 0b01)).await;
    must(&s.store, delete("/r/m/c")).await;
    assert_eq!(asked(0b01, 0, None).await, ("d".into(), false));
    let (past, _) = asked(0b01, 0, Some(then)).await;
    assert!(past.contains('a') && past.contains('c'), "{past}");
}
