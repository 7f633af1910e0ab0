//! The engine under the behaviour suite, on real files and on fake ones.

use std::path::Path;

use super::fake::FakeFs;
use super::*;
use crate::suite::{self, Subject, put};

pub(super) const DIR: &str = "/store";

pub(super) fn small(fs: &FakeFs) -> Options {
    Options {
        fs: Arc::new(fs.clone()),
        clock: Arc::new(ManualClock::new(1_000_000)),
        segment_bytes: 64 << 10,
        snapshot_bytes: 128 << 10,
        ..Options::new(Path::new(DIR))
    }
}

fn subject(options: Options) -> Subject {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let engine = Engine::open(Options { clock: clock.clone(), ..options }).unwrap();
    Subject { store: Arc::new(engine), advance: Some(Box::new(move |by| clock.advance(by))) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suite_on_real_files() {
    let dirs = std::sync::Mutex::new(Vec::new());
    suite::run(|| {
        let dir = tempfile::tempdir().unwrap();
        let s = subject(Options::new(dir.path()));
        dirs.lock().unwrap().push(dir);
        std::future::ready(s)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suite_on_small_segments() {
    suite::run(|| std::future::ready(subject(small(&FakeFs::new())))).await;
}

#[tokio::test]
async fn what_was_put_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(Options::new(dir.path())).unwrap();
    for i in 0..100 {
        engine.txn(put(&format!("/registry/pods/default/{i:03}"), format!("value {i}"))).await.unwrap();
    }
    engine.snapshot().await;
    engine.txn(put("/registry/pods/default/000", "changed")).await.unwrap();
    let revision = engine.revision();
    engine.close().await.unwrap();
    drop(engine);
    let engine = Engine::open(Options::new(dir.path())).unwrap();
    assert_eq!(engine.revision(), revision);
    let all = engine.range(Range::prefix("/registry/pods/")).await.unwrap();
    assert_eq!((all.count, all.records.len()), (100, 100));
    assert_eq!(all.records[0].value, "changed");
    assert_eq!(all.records[0].version, 2);
    // Closed in order: the next write goes on where it ended.
    let next = engine.txn(put("/registry/pods/default/000", "again")).await.unwrap();
    assert_eq!(next.revision, revision + 1);
    let second = Engine::open(Options::new(dir.path()));
    let Err(e @ Error::Locked { .. }) = second else { panic!("opened twice") };
    assert!(e.to_string().contains("in use by another process"), "{e}");
}

#[tokio::test]
async fn nothing_is_synced_while_nothing_is_written() {
    let fs = FakeFs::new();
    let engine = Engine::open(small(&fs)).unwrap();
    engine.txn(put("/a/b/c", "x")).await.unwrap();
    engine.snapshot().await;
    let ops = fs.ops();
    let _watch = engine.watch("/a/", Some(1)).await.unwrap();
    engine.range(Range::prefix("/a/")).await.unwrap();
    engine.txn(Txn { then: vec![Op::Get { key: "/a/b/c".into() }], ..Txn::default() }).await.unwrap();
    engine.txn(suite::delete("/none")).await.unwrap();
    assert_eq!(fs.ops(), ops);
}

#[test]
fn kinds_are_two_segments() {
    for (key, kind) in [
        ("/registry/pods/default/web", "/registry/pods"),
        ("/registry/pods/", "/registry/pods"),
        ("/registry/pods", "/registry"),
        ("registry/pods/x", "registry/pods"),
        ("/x", ""),
        ("", ""),
        ("//", "/"),
    ] {
        assert_eq!(crate::memory::kind_of(key), kind, "{key}");
    }
}

#[tokio::test]
async fn ranges_of_kinds_with_and_without_keys() {
    let engine = Engine::open(small(&FakeFs::new())).unwrap();
    let put_and_delete = async |key: &str| {
        engine.txn(put(key, "x")).await.unwrap();
        let then = vec![crate::Op::Delete { key: key.into() }];
        engine.txn(crate::Txn { then, ..crate::Txn::default() }).await.unwrap();
    };
    engine.txn(put("/registry/pods/default/a", "x")).await.unwrap();
    engine.txn(put("/registry/podsets/b", "x")).await.unwrap();
    put_and_delete("/registry/leases/default/c").await;
    for (prefix, want) in [
        ("/registry/pods/", 1),
        ("/registry/pods/default/", 1),
        ("/registry/pods/other/", 0),
        // Two kinds begin so.
        ("/registry/pods", 2),
        ("/registry/", 2),
        ("/registry", 2),
        ("/", 2),
        ("", 2),
        ("/registry/leases/", 0),
        ("/registry/leases/default/", 0),
        ("/registry/lease", 0),
        ("/registry/limitranges/default/", 0),
    ] {
        let found = engine.range(Range::prefix(prefix)).await.unwrap();
        let shape = (found.records.len(), found.count, found.more, found.revision);
        assert_eq!(shape, (want, want as u64, false, engine.revision()), "{prefix}");
    }
    // What was there at an old revision is still found.
    let then = Range { at: Some(engine.revision() - 1), ..Range::prefix("/registry/leases/") };
    assert_eq!(engine.range(then).await.unwrap().records.len(), 1);
}

#[tokio::test]
async fn an_old_list_ends_also_where_its_kind_has_not_changed() {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let engine = Engine::open(Options { clock: clock.clone(), ..small(&FakeFs::new()) }).unwrap();
    let at = engine.txn(put("/registry/pods/default/a", "1")).await.unwrap().revision;
    engine.txn(put("/registry/leases/default/l", "1")).await.unwrap();
    let then = || engine.range(Range { at: Some(at), ..Range::prefix("/registry/pods/") });
    assert_eq!(then().await.unwrap().count, 1);
    clock.advance(Duration::from_secs(301));
    engine.txn(put("/registry/leases/default/l", "2")).await.unwrap();
    assert!(matches!(then().await, Err(Error::Compacted { .. })));
    // A watch misses nothing from there, so it may.
    assert!(engine.watch("/registry/pods/", Some(at + 1)).await.is_ok());
}
