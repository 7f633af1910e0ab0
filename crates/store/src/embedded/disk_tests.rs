//! Damaged and missing files, full disks, failing syncs, bounds, restarts, versions; on the fake file layer.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;

use super::fake::{FakeFs, Loss};
use super::tests::{DIR, small};
use super::*;
use crate::WatchItem;
use crate::suite::{delete, put, put_op};

async fn filled() -> (FakeFs, Vec<(String, Bytes)>) {
    let fs = FakeFs::new();
    let engine = Engine::open(small(&fs)).unwrap();
    let mut want = BTreeMap::new();
    for i in 0..120usize {
        let (key, value) = (format!("/r/p/{:02}", i % 40), format!("{i}{}", "x".repeat(i * 7)));
        engine.txn(put(&key, value.clone())).await.unwrap();
        want.insert(key, Bytes::from(value));
        if i == 60 {
            engine.snapshot().await;
        }
    }
    // No close mark: as after kill -9, so that the last answered write is the last thing in the log.
    let disk = fs.copy();
    drop(engine);
    (disk, want.into_iter().collect())
}

async fn contents(engine: &Engine) -> Vec<(String, Bytes)> {
    let all = engine.range(Range::prefix("/r/")).await.unwrap();
    all.records.iter().map(|r| (r.key.to_string(), r.value.clone())).collect()
}

#[tokio::test]
async fn flipped_bits_are_named_or_harmless() {
    let (disk, want) = filled().await;
    assert_eq!(contents(&Engine::open(small(&disk.copy())).unwrap()).await, want);
    let (mut named, mut harmless) = (0, 0);
    for path in disk.paths() {
        let len = disk.bytes(&path).unwrap().len();
        for bit in (0..len * 8).step_by(if len > 40_000 { 1531 } else { 211 }) {
            let bad = disk.copy();
            bad.edit(&path, |b| b[bit / 8] ^= 1 << (bit % 8)).unwrap();
            match Engine::open(small(&bad)) {
                Err(Error::Damaged { path: named_path, offset, .. }) => {
                    assert_eq!(Path::new(&named_path), path);
                    assert!(offset <= (bit / 8) as u64, "{offset} is told for {}", bit / 8);
                    named += 1;
                }
                Err(Error::Newer { .. }) if path.ends_with(format::NAME) => named += 1,
                Err(e) => panic!("{}: bit {bit}: {e}", path.display()),
                Ok(engine) => {
                    assert_eq!(
                        contents(&engine).await,
                        want,
                        "{}: bit {bit} is silently wrong",
                        path.display()
                    );
                    harmless += 1;
                }
            }
        }
    }
    assert!(named > 100 && harmless > 0, "{named} named, {harmless} harmless");
}

#[tokio::test]
async fn missing_and_cut_files_are_named() {
    let (disk, want) = filled().await;
    for path in disk.paths() {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bad = disk.copy();
        bad.remove(&path).unwrap();
        let result = Engine::open(small(&bad));
        let spare = name.ends_with(".log") && {
            let data = disk.bytes(&path).unwrap();
            segment::scan(&data, log::file_number(&name, ".log").unwrap(), "", |_, _, _| Ok(()))
                .unwrap()
                .groups
                == 0
        };
        match result {
            Err(Error::Damaged { .. }) => {}
            // While the log is whole from its beginning the snapshot is not needed; a segment in the making never is.
            Ok(engine) if spare || name.ends_with(".snap") || name.ends_with(".tmp") => {
                assert_eq!(contents(&engine).await, want, "{name}")
            }
            other => panic!("{name} was removed: {:?}", other.err()),
        }
        let bad = disk.copy();
        bad.edit(&path, |b| b.truncate(b.len() / 3)).unwrap();
        if name.ends_with(".snap") {
            assert!(matches!(Engine::open(small(&bad)), Err(Error::Damaged { .. })), "{name} was cut");
        }
    }
}

/// Writes until there is no room; the keys that were answered, and their revisions.
async fn fill_up(fs: &FakeFs, engine: &Engine) -> Vec<(String, u64)> {
    fs.set_capacity(Some(fs.used() + (100 << 10)));
    let mut answered = Vec::new();
    let error = loop {
        let key = format!("/r/p/{:04}", answered.len());
        match engine.txn(put(&key, vec![b'x'; 1000])).await {
            Ok(r) => answered.push((key, r.revision)),
            Err(e) => break e,
        }
        assert!(answered.len() < 2000, "the disk never filled");
    };
    assert!(matches!(error, Error::Full { .. }), "{error}");
    answered
}

#[tokio::test]
async fn who_waits_for_room_is_answered_when_there_will_be_none() {
    let fs = FakeFs::new();
    let engine = Engine::open(small(&fs)).unwrap();
    fill_up(&fs, &engine).await;
    engine.close().await.unwrap();
    let late = async {
        assert!(matches!(engine.txn(put("/r/p/late", "x")).await, Err(Error::Stopped(_))));
        assert!(matches!(engine.compact(1).await, Err(Error::Stopped(_))));
        engine.snapshot().await;
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), late).await.expect("an answer");
}

#[tokio::test]
async fn a_disk_that_fails_when_asked_for_room_stops_the_store() {
    let fs = FakeFs::new();
    let engine = Engine::open(small(&fs)).unwrap();
    fill_up(&fs, &engine).await;
    let mut watcher = engine.watch("/r/", None).await.unwrap();
    fs.power_off_after(0);
    assert!(matches!(engine.txn(put("/r/p/more", "x")).await, Err(Error::Stopped(_))));
    assert!(matches!(watcher.next().await, Err(Error::Stopped(_))), "watches end with it");
    assert!(matches!(engine.txn(put("/r/p/more", "x")).await, Err(Error::Stopped(_))));
}

#[tokio::test]
async fn a_full_disk_stops_writes_only_and_they_recover() {
    let fs = FakeFs::new();
    let engine = Engine::open(small(&fs)).unwrap();
    engine.txn(put("/r/p/first", "x")).await.unwrap();
    let answered = fill_up(&fs, &engine).await;
    let newest = engine.revision();
    for _ in 0..5 {
        assert!(matches!(engine.txn(put("/r/p/more", "x")).await, Err(Error::Full { .. })));
        assert!(matches!(engine.compact(newest).await, Err(Error::Full { .. })));
    }
    assert_eq!(engine.revision(), newest);
    assert!(engine.get("/r/p/more").await.unwrap().is_none());
    assert_eq!(engine.range(Range::prefix("/r/p/")).await.unwrap().count as usize, answered.len() + 1);
    let mut watcher = engine.watch("/r/p/", None).await.unwrap();
    fs.set_capacity(None);
    let again = engine.txn(put("/r/p/more", "x")).await.unwrap().revision;
    assert!(again > newest);
    let WatchItem::Events(e) = watcher.next().await.unwrap() else { panic!("no event") };
    assert_eq!(e[0].record.mod_revision, again);
    let fs = fs.after_crash(Loss::All);
    drop(engine);
    let engine = Engine::open(small(&fs)).unwrap();
    for (key, revision) in answered {
        assert_eq!(engine.get(&key).await.unwrap().unwrap().mod_revision, revision);
    }
    assert_eq!(engine.get("/r/p/more").await.unwrap().unwrap().mod_revision, again);
}

#[tokio::test]
async fn a_failed_sync_stops_the_store_for_good() {
    let fs = FakeFs::new();
    let engine = Engine::open(small(&fs)).unwrap();
    engine.txn(put("/r/p/a", "good")).await.unwrap();
    let mut watcher = engine.watch("/r/", None).await.unwrap();
    fs.fail_sync_after(0);
    assert!(matches!(engine.txn(put("/r/p/a", "lost")).await, Err(Error::Stopped(_))));
    let Err(Error::Stopped(why)) = engine.txn(put("/r/p/b", "later")).await else { panic!("it went on") };
    assert!(why.contains("fsync"), "{why}");
    // What is durable can be read; the watch ends, so that nobody takes silence for calm.
    assert_eq!(engine.get("/r/p/a").await.unwrap().unwrap().value, "good");
    assert!(matches!(watcher.next().await, Err(Error::Stopped(_))));
    drop(engine);
    let engine = Engine::open(small(&fs.after_crash(Loss::All))).unwrap();
    assert_eq!(engine.get("/r/p/a").await.unwrap().unwrap().value, "good");
    assert!(engine.get("/r/p/b").await.unwrap().is_none());
}

#[tokio::test]
async fn endless_overwriting_stays_bounded() {
    let fs = FakeFs::new();
    let options =
        Options { history_kind_bytes: 64 << 10, history_bytes: 100 << 10, watcher_events: 100, ..small(&fs) };
    let engine = Arc::new(Engine::open(options).unwrap());
    let mut most = (0, 0);
    for i in 0..4000 {
        let mut ops = Vec::new();
        for k in 0..4 {
            ops.push(put_op(&format!("/r/k{k}/{}", i % 10), vec![b'x'; 300]));
        }
        engine.txn(Txn { then: ops, ..Txn::default() }).await.unwrap();
        let stats = engine.stats();
        most = (most.0.max(stats.bytes_in_memory), most.1.max(fs.used()));
    }
    engine.snapshot().await;
    assert!(most.0 < 150 << 10, "{} bytes in memory", most.0);
    // Two snapshots' worth of log and some segments at hand; 4 MB went in.
    assert!(most.1 < 1 << 20, "{} bytes on disk", most.1);
    assert!(engine.core.hub.visible() == engine.revision());
    let old = engine.range(Range { at: Some(10), ..Range::prefix("/r/k1/") }).await;
    assert!(matches!(old, Err(Error::Compacted { .. })));
    assert!(matches!(engine.watch("/r/k1/", Some(10)).await, Err(Error::Compacted { .. })));
}

#[tokio::test]
async fn old_history_goes_by_time() {
    let fs = FakeFs::new();
    let clock = Arc::new(ManualClock::new(1_000_000));
    let engine = Engine::open(Options { clock: clock.clone(), ..small(&fs) }).unwrap();
    let first = engine.txn(put("/r/p/a", "1")).await.unwrap().revision;
    engine.txn(put("/r/p/a", "2")).await.unwrap();
    clock.advance(Duration::from_secs(299));
    engine.txn(put("/r/q/a", "3")).await.unwrap();
    assert!(engine.range(Range { at: Some(first), ..Range::key("/r/p/a") }).await.is_ok());
    clock.advance(Duration::from_secs(10));
    engine.txn(put("/r/q/a", "4")).await.unwrap();
    let then = engine.range(Range { at: Some(first), ..Range::key("/r/p/a") }).await;
    assert!(matches!(then, Err(Error::Compacted { .. })));
}

#[tokio::test]
async fn history_and_compaction_outlive_a_restart() {
    let fs = FakeFs::new();
    let options = || Options { segment_bytes: 256 << 10, ..small(&fs) };
    let engine = Engine::open(options()).unwrap();
    let mut revisions = Vec::new();
    for i in 0..20 {
        revisions.push(engine.txn(put("/r/p/a", format!("{i}"))).await.unwrap().revision);
    }
    engine.txn(delete("/r/p/a")).await.unwrap();
    engine.compact(revisions[10]).await.unwrap();
    drop(engine);
    let engine = Engine::open(options()).unwrap();
    let then = engine.range(Range { at: Some(revisions[12]), ..Range::key("/r/p/a") }).await.unwrap();
    assert_eq!(then.records[0].value, "12");
    assert!(matches!(engine.watch("/r/", Some(revisions[9])).await, Err(Error::Compacted { .. })));
    let mut watcher = engine.watch("/r/", Some(revisions[10])).await.unwrap();
    let WatchItem::Events(e) = watcher.next().await.unwrap() else { panic!("no events") };
    assert_eq!(e.len(), 11);
    assert_eq!(e[10].previous.as_ref().unwrap().value, "19");
    // After a snapshot history begins anew; current state is whole.
    engine.txn(put("/r/p/b", "x")).await.unwrap();
    engine.snapshot().await;
    let at = engine.revision();
    drop(watcher);
    drop(engine);
    let engine = Engine::open(options()).unwrap();
    assert_eq!(engine.range(Range { at: Some(at), ..Range::prefix("/r/") }).await.unwrap().count, 1);
    let early = engine.range(Range { at: Some(at - 1), ..Range::prefix("/r/") }).await;
    assert!(matches!(early, Err(Error::Compacted { .. })));
    assert!(engine.watch("/r/", Some(at + 1)).await.is_ok());
}

#[tokio::test]
async fn expired_keys_stay_gone_and_pending_ones_end_after_a_restart() {
    let fs = FakeFs::new();
    let clock = Arc::new(ManualClock::new(1_000_000));
    let options = || Options { clock: clock.clone(), ..small(&fs) };
    let engine = Engine::open(options()).unwrap();
    let ttl = Some(Duration::from_secs(60));
    let op = Op::Put { key: "/r/events/a".into(), value: "x".into(), ttl, aux: None };
    engine.txn(Txn { then: vec![op], ..Txn::default() }).await.unwrap();
    engine.snapshot().await;
    drop(engine);
    let engine = Engine::open(options()).unwrap();
    let mut watcher = engine.watch("/r/", None).await.unwrap();
    let record = engine.get("/r/events/a").await.unwrap().unwrap();
    assert_eq!(record.expires_at_ms, Some(1_060_000));
    clock.advance(Duration::from_secs(61));
    let WatchItem::Events(e) = watcher.next().await.unwrap() else { panic!("no event") };
    assert_eq!(e[0].kind, crate::EventKind::Delete);
    drop(engine);
    assert!(Engine::open(options()).unwrap().get("/r/events/a").await.unwrap().is_none());
}

#[tokio::test]
async fn versions_are_refused_or_migrated() {
    let fs = FakeFs::new();
    drop(Engine::open(small(&fs)).unwrap());
    let dir = Path::new(DIR);
    fs.edit(&dir.join("FORMAT"), |b| *b = b"kelson-store 9\n".to_vec()).unwrap();
    let Err(e @ Error::Newer { found: 9, known: 1, .. }) = Engine::open(small(&fs)) else { panic!("opened") };
    assert_eq!(
        e.to_string(),
        "/store was written by a newer version (format 9, this one knows up to 1); use that version"
    );
    format::write(&fs, dir, 1).unwrap();
    let step: format::Migration = |fs, dir| fs.create(&dir.join("migrated.tmp")).map(|_| ());
    format::settle(&fs, dir, 1, &[step, step]).unwrap();
    assert_eq!(format::read(&fs, dir).unwrap(), Some(3));
    assert!(fs.paths().contains(&dir.join("migrated.tmp")));
}
