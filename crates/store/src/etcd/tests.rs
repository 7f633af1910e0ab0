//! The engine under the behaviour suite on a real etcd, alone and through faults: lost connections, lost answers, lost
//! members, compaction meanwhile, other servers on the same etcd. Left out, and said so, where etcd can't be had.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use testkit::etcd::Etcd;
use testkit::proxy::{Fault, Proxy};

use super::*;
use crate::suite::checker::Checker;
use crate::suite::{self, Subject, delete, events, must, put, put_op, swap};
use crate::{EventKind, Op, WatchItem};

fn options(url: &str) -> Options {
    Options {
        prefix: "/t/".into(),
        root: String::new(),
        timeout: Duration::from_secs(20),
        compact_every: None,
        ..Options::new(vec![url.to_owned()])
    }
}

async fn open(o: Options) -> Arc<dyn Store> {
    Arc::new(Engine::open(o).await.expect("etcd is there"))
}

fn through(proxy: &Proxy) -> Options {
    options(&format!("http://127.0.0.1:{}", proxy.port()))
}

async fn newest(store: &Arc<dyn Store>, prefix: &str) -> RangeResult {
    store.range(Range { fresh: Fresh::Newest, ..Range::prefix(prefix) }).await.expect("a consistent list")
}

async fn runs_the_suite(etcd: &Etcd) {
    let count = AtomicUsize::new(0);
    suite::run(|| {
        let prefix = format!("/suite-{}/", count.fetch_add(1, Ordering::Relaxed));
        let o = Options { prefix, ..options(&etcd.url()) };
        async { Subject { store: open(o).await, advance: None } }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suite_on_etcd() {
    let Some(etcd) = Etcd::start() else { return };
    runs_the_suite(&etcd).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_end_by_lease() {
    let Some(etcd) = Etcd::start() else { return };
    let store = open(options(&etcd.url())).await;
    let mut watcher = store.watch("/r/", None).await.unwrap();
    let with_ttl = |key: &str, seconds| Txn {
        then: vec![Op::Put {
            key: key.into(),
            value: "x".into(),
            ttl: Some(Duration::from_secs(seconds)),
            aux: None,
        }],
        ..Txn::default()
    };
    must(&store, with_ttl("/r/events/short", 2)).await;
    must(&store, with_ttl("/r/events/long", 3600)).await;
    must(&store, with_ttl("/r/events/kept", 2)).await;
    must(&store, put("/r/events/kept", "y")).await;
    let e = events(&mut watcher, 5).await;
    assert_eq!((e[4].kind, &*e[4].record.key), (EventKind::Delete, "/r/events/short"));
    assert_eq!(newest(&store, "/r/events/").await.count, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_on_one_etcd_see_each_other() {
    let Some(etcd) = Etcd::start() else { return };
    let (a, b) = (open(options(&etcd.url())).await, open(options(&etcd.url())).await);
    // Its writes move the revision without an event for the others.
    let outside = open(Options { prefix: "/outside/".into(), ..options(&etcd.url()) }).await;
    let mut watcher = b.watch("/r/", None).await.unwrap();
    for i in 0..50 {
        let at = must(&a, put("/r/p/a", format!("{i}"))).await.revision;
        must(&outside, put("/x", "x")).await;
        let seen = newest(&b, "/r/").await;
        assert!(seen.revision > at);
        assert_eq!(seen.records[0].value, format!("{i}"));
        assert!(b.revision() > at, "the cache itself came that far");
        assert_eq!(events(&mut watcher, 1).await[0].record.mod_revision, at);
        // A revision that another server told of.
        let r = must(&outside, put("/x", "y")).await.revision;
        let list = Range { fresh: Fresh::AtLeast(r), ..Range::prefix("/r/") };
        assert!(b.range(list).await.unwrap().revision >= r);
        let list = Range { fresh: Fresh::AtLeast(r + 1000), ..Range::prefix("/r/") };
        assert!(matches!(b.range(list).await, Err(Error::Future { .. })));
    }
    // Who lost a race knows afterwards what it lost to.
    must(&a, put("/r/p/a", "theirs")).await;
    let lost = must(&b, swap("/r/p/a", 1, put_op("/r/p/a", "ours"))).await;
    assert!(!lost.succeeded);
    assert_eq!(b.get("/r/p/a").await.unwrap().unwrap().value, "theirs");
    // What memory has forgotten is read from etcd.
    let old = must(&a, put("/r/p/b", "old")).await.revision;
    must(&a, put("/r/p/b", "new")).await;
    let late = open(options(&etcd.url())).await;
    let then = late.range(Range { at: Some(old), ..Range::prefix("/r/p/") }).await.unwrap();
    assert_eq!((then.count, &*then.records[1].value), (2, &b"old"[..]));
    a.compact(old + 1).await.unwrap();
    assert!(suite::is_compacted(&late.range(Range { at: Some(old), ..Range::prefix("/r/p/") }).await));
    assert!(suite::is_compacted(&late.watch("/r/", Some(old)).await.map(|_| ())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_watch_goes_on_where_it_was() {
    let Some(etcd) = Etcd::start() else { return };
    let proxy = Proxy::to(etcd.port());
    let (direct, store) = (open(options(&etcd.url())).await, open(through(&proxy)).await);
    let checker = Checker::start(&store, "/r/").await;
    for fault in [Fault::Cut, Fault::Stall, Fault::Swallow] {
        must(&store, put("/r/p/a", "before")).await;
        proxy.set(fault);
        for i in 0..20 {
            must(&direct, put(&format!("/r/p/{}", i % 7), format!("{fault:?} {i}"))).await;
            must(&direct, delete(&format!("/r/p/{}", (i + 3) % 7))).await;
        }
        // What is known is served meanwhile.
        assert!(store.range(Range::prefix("/r/")).await.unwrap().count > 0);
        let writer = store.clone();
        let write = tokio::spawn(async move { writer.txn(put("/r/p/late", "x")).await });
        tokio::task::yield_now().await;
        proxy.set(Fault::None);
        write.await.unwrap().expect("the write got through");
        assert_eq!(newest(&store, "/r/").await.count, newest(&direct, "/r/").await.count);
    }
    checker.finish(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_lose_no_increment() {
    let Some(etcd) = Etcd::start() else { return };
    let proxy = Arc::new(Proxy::to(etcd.port()));
    proxy.delay(Duration::from_millis(1));
    let direct = open(options(&etcd.url())).await;
    let checker = Checker::start(&direct, "/r/").await;
    let done = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for t in 0..4 {
        let (store, done) = (open(through(&proxy)).await, done.clone());
        tasks.push(tokio::spawn(async move {
            for i in 0..25 {
                loop {
                    let now = newest(&store, "/r/count/").await.records.pop();
                    let n: u64 =
                        now.as_ref().map_or(0, |r| String::from_utf8_lossy(&r.value).parse().unwrap());
                    let at = now.map_or(0, |r| r.mod_revision);
                    let mut txn = swap("/r/count/n", at, put_op("/r/count/n", (n + 1).to_string()));
                    // Tells the writers apart, as an object's own bytes do.
                    txn.then.push(put_op("/r/count-by", format!("{t} {i} {n}")));
                    if must(&store, txn).await.succeeded {
                        break;
                    }
                }
                done.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    let mut faults = [Fault::Swallow, Fault::Cut].into_iter().cycle();
    while done.load(Ordering::SeqCst) < 90 {
        let before = done.load(Ordering::SeqCst);
        proxy.set(faults.next().unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
        proxy.set(Fault::None);
        while done.load(Ordering::SeqCst) == before {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    for t in tasks {
        t.await.unwrap();
    }
    assert_eq!(newest(&direct, "/r/count/").await.records[0].value, "100");
    checker.finish(&direct).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_while_away_ends_the_watches() {
    let Some(etcd) = Etcd::start() else { return };
    let proxy = Proxy::to(etcd.port());
    let (direct, store) = (open(options(&etcd.url())).await, open(through(&proxy)).await);
    must(&store, put("/r/p/a", "0")).await;
    must(&store, put("/r/p/gone", "0")).await;
    let kept = must(&store, put("/r/p/kept", "0")).await;
    let same = store.get("/r/p/kept").await.unwrap().unwrap();
    let mut watcher = store.watch("/r/", Some(kept.revision + 1)).await.unwrap();
    proxy.set(Fault::Cut);
    for i in 0..10 {
        must(&direct, put("/r/p/a", format!("{i}"))).await;
    }
    let newest_there = must(&direct, delete("/r/p/gone")).await.revision;
    direct.compact(newest_there).await.unwrap();
    proxy.set(Fault::None);
    let end = loop {
        match watcher.next().await {
            Ok(WatchItem::Progress(_)) => {}
            Ok(WatchItem::Events(e)) => panic!("events with a gap before them: {e:?}"),
            Err(e) => break e,
        }
    };
    assert!(matches!(end, Error::Compacted { .. }), "{end}");
    assert!(suite::is_compacted(&store.watch("/r/", Some(kept.revision + 1)).await.map(|_| ())));
    let list = newest(&store, "/r/").await;
    assert_eq!(list.records.iter().map(|r| &*r.key).collect::<Vec<_>>(), ["/r/p/a", "/r/p/kept"]);
    assert!(Arc::ptr_eq(&same, &list.records[1]), "what did not change is not held twice");
    // It goes on from here.
    let mut watcher = store.watch("/r/", Some(list.revision + 1)).await.unwrap();
    must(&direct, put("/r/p/a", "on")).await;
    assert_eq!(events(&mut watcher, 1).await[0].record.value, "on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_may_go() {
    let Some(mut members) = Etcd::cluster(3, &[]) else { return };
    let all: Vec<String> = members.iter().map(Etcd::url).collect();
    let store = open(Options { endpoints: all.clone(), ..options("") }).await;
    let checker = Checker::start(&store, "/r/").await;
    for (i, member) in members.iter_mut().enumerate() {
        let writer = store.clone();
        let task = tokio::spawn(async move {
            for n in 0..40 {
                must(&writer, put(&format!("/r/p/{n}"), format!("{i} {n}"))).await;
            }
        });
        member.crash();
        task.await.expect("no write failed");
        newest(&store, "/r/").await;
        member.run();
    }
    checker.finish(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_etcd_what_is_known_is_served() {
    let Some(mut etcd) = Etcd::start() else { return };
    let short = Options { timeout: Duration::from_millis(500), ..options(&etcd.url()) };
    let store = open(short).await;
    let at = must(&store, put("/r/p/a", "1")).await.revision;
    let mut watcher = store.watch("/r/", Some(at)).await.unwrap();
    etcd.crash();
    assert_eq!(store.get("/r/p/a").await.unwrap().unwrap().value, "1");
    assert_eq!(store.range(Range::prefix("/r/")).await.unwrap().count, 1);
    assert_eq!(events(&mut watcher, 1).await[0].record.mod_revision, at);
    let list = Range { fresh: Fresh::Newest, ..Range::prefix("/r/") };
    assert!(matches!(store.range(list).await, Err(Error::Unavailable(_))));
    assert!(matches!(store.txn(put("/r/p/a", "2")).await, Err(Error::Unavailable(_))));
    assert!(store.check().await.is_err());
    etcd.run();
    // The write that failed may have happened when etcd came back; a later one has to.
    let patient = open(options(&etcd.url())).await;
    must(&patient, put("/r/p/a", "3")).await;
    while store.get("/r/p/a").await.unwrap().is_none_or(|r| r.value != "3") {
        if let Ok(WatchItem::Events(_)) = watcher.next().await {}
    }
    store.check().await.unwrap();
    let wrong =
        Engine::open(Options { timeout: Duration::from_millis(100), ..options("http://127.0.0.1:1") });
    let Err(Error::Unavailable(why)) = wrong.await else { panic!("opened without etcd") };
    assert!(why.contains("127.0.0.1:1"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_servers_compact_once() {
    let Some(etcd) = Etcd::start() else { return };
    let engine = async || Engine::open(options(&etcd.url())).await.unwrap();
    let (a, b) = (engine().await, engine().await);
    let write = async |n: usize| a.txn(put("/r/a", format!("{n}"))).await.unwrap().revision;
    let first = write(1).await;
    let mut ra = a.core.compact_round(Default::default()).await.unwrap();
    let mut rb = b.core.compact_round(Default::default()).await.unwrap();
    assert_eq!((ra.version, rb.version), (1, 1));
    assert!(ra.revision as u64 > first && rb.revision >= ra.revision);
    write(2).await;
    // The first one of a round compacts, the other learns that it did.
    let compacts = ra.revision as u64;
    ra = a.core.compact_round(ra).await.unwrap();
    rb = b.core.compact_round(rb).await.unwrap();
    assert_eq!((ra.version, rb.version), (2, 2));
    assert_eq!(a.stats().compacted, compacts);
    assert_eq!(b.stats().compacted, 0);
    // The next round belongs to whoever is first, also when the last one is gone.
    write(3).await;
    let compacts = rb.revision as u64;
    rb = b.core.compact_round(rb).await.unwrap();
    assert_eq!((rb.version, b.stats().compacted), (3, compacts));
}

#[test]
fn progress_is_believed_from_these_versions_on() {
    for (version, safe) in [
        ("3.4.23", false),
        ("3.4.30", false),
        ("3.4.31", true),
        ("3.5.0", false),
        ("3.5.12", false),
        ("3.5.13", true),
        ("3.6.0-rc.1", true),
        ("3.6.5", true),
        ("4.0.0", true),
        ("3.3.27", false),
        ("", false),
    ] {
        assert_eq!(feed::safe_progress(version), safe, "{version}");
    }
}
