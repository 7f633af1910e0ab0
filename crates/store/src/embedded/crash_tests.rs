//! Power cuts at every moment, damaged files, full disks, failing syncs, versions. On the fake file layer but for the
//! killed process.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;

use super::fake::{FakeFs, Loss};
use super::tests::{DIR, small};
use super::*;
use crate::suite::{delete, must, put, put_op};
use crate::{Compare, WatchItem};

const WRITERS: usize = 16;

/// What one writer did to its own keys: its answered writes in order, and the one that was not answered.
#[derive(Default)]
struct Diary {
    answered: BTreeMap<String, Option<String>>,
    open: Option<Txn>,
    newest: Revision,
}

impl Diary {
    fn after(&self, txn: &Txn) -> BTreeMap<String, Option<String>> {
        let mut state = self.answered.clone();
        for op in &txn.then {
            match op {
                Op::Put { key, value, .. } => {
                    state.insert(key.clone(), Some(String::from_utf8_lossy(value).into_owned()));
                }
                Op::Delete { key } => {
                    state.insert(key.clone(), None);
                }
                Op::Get { .. } => {}
            }
        }
        state
    }
}

/// Transaction `i` of writer `w`: several keys, values of any length, deletes.
fn script(w: usize, i: usize, size: usize) -> Txn {
    let key = |n: usize| format!("/r/k{}/w{w:02}/{}", n % 3, n % 5);
    let value = |n: usize| format!("{w}.{i}.{n}.{}", "v".repeat((w * 131 + i * 37 + n * 11) % size));
    let then = match i % 5 {
        4 => vec![Op::Delete { key: key(i) }, put_op(&key(i + 1), value(1))],
        3 => (0..3).map(|n| put_op(&key(i + n), value(n))).collect(),
        _ => vec![put_op(&key(i), value(0))],
    };
    Txn { then, ..Txn::default() }
}

async fn load(engine: &Arc<Engine>, rounds: usize, size: usize, diaries: Vec<Diary>) -> Vec<Diary> {
    let mut tasks = Vec::new();
    for (w, mut diary) in diaries.into_iter().enumerate() {
        let engine = engine.clone();
        tasks.push(tokio::spawn(async move {
            for i in 0..rounds {
                let txn = script(w, i, size);
                match engine.txn(txn.clone()).await {
                    Ok(result) => {
                        assert!(result.revision > diary.newest);
                        diary.newest = result.revision;
                        diary.answered = diary.after(&txn);
                    }
                    Err(_) => {
                        diary.open = Some(txn);
                        break;
                    }
                }
            }
            diary
        }));
    }
    let mut out = Vec::new();
    for t in tasks {
        out.push(t.await.unwrap());
    }
    out
}

/// Answered writes are there, the unanswered one wholly or not at all. Takes what is there for answered.
async fn check(engine: &Engine, diaries: &mut [Diary]) -> Result<(), String> {
    let all = engine.range(Range::prefix("/r/")).await.map_err(|e| e.to_string())?;
    let mut found: Vec<BTreeMap<String, String>> = vec![BTreeMap::new(); diaries.len()];
    for r in &all.records {
        let w: usize = r.key.split("/w").nth(1).and_then(|t| t[..2].parse().ok()).unwrap();
        found[w].insert(r.key.to_string(), String::from_utf8_lossy(&r.value).into_owned());
    }
    for (w, (diary, found)) in diaries.iter_mut().zip(found).enumerate() {
        let flat = |s: &BTreeMap<String, Option<String>>| -> BTreeMap<String, String> {
            s.iter().filter_map(|(k, v)| Some((k.clone(), v.clone()?))).collect()
        };
        let with_open = diary.open.take().map(|txn| diary.after(&txn));
        if found == flat(&diary.answered) {
            continue;
        }
        match with_open {
            Some(state) if flat(&state) == found => diary.answered = state,
            _ => {
                let want = flat(&diary.answered);
                let other: Vec<_> = found.iter().filter(|(k, v)| want.get(*k) != Some(v)).collect();
                let lost: Vec<_> = want.iter().filter(|(k, v)| found.get(*k) != Some(v)).collect();
                return Err(format!("writer {w}: lost {lost:?}, found {other:?}"));
            }
        }
    }
    let newest = diaries.iter().map(|d| d.newest).max().unwrap_or(0);
    if engine.revision() < newest {
        return Err(format!("revision {} after {newest} was answered", engine.revision()));
    }
    Ok(())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn fresh_diaries() -> Vec<Diary> {
    (0..WRITERS).map(|_| Diary::default()).collect()
}

/// Lives several lives on one disk, each ended by a power cut after so many file operations.
async fn lives(cuts: &[(u64, Loss)], size: usize) -> Result<(), String> {
    let mut fs = FakeFs::new();
    let mut diaries = fresh_diaries();
    let mut seen_revision = 0;
    for (ops, loss) in cuts {
        fs.power_off_after(*ops);
        if let Ok(engine) = Engine::open(small(&fs)) {
            let engine = Arc::new(engine);
            check(&engine, &mut diaries).await?;
            let first = engine.core.pending.lock().next_revision;
            if first <= seen_revision {
                return Err(format!("revision {first} is handed out twice"));
            }
            diaries = load(&engine, 60, size, diaries).await;
            seen_revision = seen_revision.max(engine.core.pending.lock().next_revision - 1);
            drop(engine);
        }
        fs = fs.after_crash(*loss);
    }
    let engine = Engine::open(small(&fs)).map_err(|e| e.to_string())?;
    check(&engine, &mut diaries).await?;
    must_write(&engine).await
}

async fn must_write(engine: &Engine) -> Result<(), String> {
    let r = engine.txn(put("/after/all/x", "x")).await.map_err(|e| e.to_string())?;
    if engine.revision() == r.revision { Ok(()) } else { Err("an answered write is not visible".into()) }
}

fn loss() -> impl Strategy<Value = Loss> {
    prop_oneof![
        Just(Loss::All),
        (0usize..6000).prop_map(Loss::LastTornAt),
        any::<u64>().prop_map(Loss::Sectors),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn power_cuts_lose_nothing_that_was_answered(
        cuts in prop::collection::vec((0u64..700, loss()), 1..5),
        size in prop_oneof![Just(20usize), Just(900), Just(6000)],
    ) {
        let outcome = runtime().block_on(lives(&cuts, size));
        prop_assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    }
}

#[test]
fn every_early_power_cut_is_survived() {
    runtime().block_on(async {
        for ops in 0..40 {
            for loss in [Loss::All, Loss::LastTornAt(300), Loss::Sectors(ops * 77)] {
                let outcome = lives(&[(ops, loss), (ops / 2 + 3, loss)], 900).await;
                assert!(outcome.is_ok(), "{ops} {loss:?}: {}", outcome.unwrap_err());
            }
        }
    });
}

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
                    assert_eq!(contents(&engine).await, want, "{}: bit {bit} is silently wrong", path.display());
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
            segment::scan(&data, log::file_number(&name, ".log").unwrap(), "").unwrap().groups.is_empty()
        };
        match result {
            Err(Error::Damaged { .. }) => {}
            // While the log is whole from its beginning the snapshot is not needed.
            Ok(engine) if spare || name.ends_with(".snap") => assert_eq!(contents(&engine).await, want, "{name}"),
            other => panic!("{name} was removed: {:?}", other.err()),
        }
        let bad = disk.copy();
        bad.edit(&path, |b| b.truncate(b.len() / 3)).unwrap();
        if name.ends_with(".snap") {
            assert!(matches!(Engine::open(small(&bad)), Err(Error::Damaged { .. })), "{name} was cut");
        }
    }
}

#[tokio::test]
async fn a_full_disk_stops_writes_only_and_they_recover() {
    let fs = FakeFs::new();
    let engine = Engine::open(small(&fs)).unwrap();
    engine.txn(put("/r/p/first", "x")).await.unwrap();
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
    assert_eq!(e.to_string(), "/store was written by a newer version (format 9, this one knows up to 1); use that version");
    format::write(&fs, dir, 1).unwrap();
    let step: format::Migration = |fs, dir| fs.create(&dir.join("migrated.tmp")).map(|_| ());
    format::settle(&fs, dir, 1, &[step, step]).unwrap();
    assert_eq!(format::read(&fs, dir).unwrap(), Some(3));
    assert!(fs.paths().contains(&dir.join("migrated.tmp")));
}

#[tokio::test]
async fn failed_compares_wait_for_what_they_saw() {
    let fs = FakeFs::new();
    let engine = Arc::new(Engine::open(small(&fs)).unwrap());
    // The write is evaluated but cannot become durable; a compare that saw it must fail with it.
    fs.fail_sync_after(0);
    let see = Txn {
        compare: vec![Compare::ModRevision { key: "/r/p/a".into(), equals: 0 }],
        then: vec![],
        otherwise: vec![Op::Get { key: "/r/p/a".into() }],
    };
    let (write, seen) = {
        let mut pending = engine.core.pending.lock();
        pending.stopped = None;
        drop(pending);
        let write = engine.core.submit(put("/r/p/a", "lost"), None).unwrap();
        (write, engine.core.submit(see, None))
    };
    assert!(engine.answer(write).await.is_err());
    if let Ok(seen) = seen {
        match engine.answer(seen).await {
            Err(_) => {}
            // The commit thread was quicker: then nothing was seen.
            Ok(result) => assert!(result.succeeded),
        }
    }
}

/// The other half of the test below, run as its own process.
#[test]
fn writer_process() {
    let Some(dir) = std::env::var_os("STORE_WRITER_DIR") else { return };
    runtime().block_on(async {
        let engine: Arc<dyn Store> =
            Arc::new(Engine::open(Options { segment_bytes: 256 << 10, snapshot_bytes: 512 << 10, ..Options::new(dir) }).unwrap());
        let mut tasks = Vec::new();
        for w in 0..WRITERS {
            let engine = engine.clone();
            tasks.push(tokio::spawn(async move {
                for i in 0u64.. {
                    let value = format!("{i} {}", "x".repeat((i % 2000) as usize));
                    let txn = Txn { then: vec![put_op(&format!("/r/a/{w}"), value.clone()), put_op(&format!("/r/b/{w}"), value)], ..Txn::default() };
                    must(&engine, txn).await;
                    // One write call, so that lines of several writers do not mix.
                    use std::io::Write;
                    std::io::stdout().write_all(format!("answered {w} {i}\n").as_bytes()).unwrap();
                }
            }));
        }
        for t in tasks {
            t.await.unwrap();
        }
    });
}

#[test]
fn kill_9_loses_nothing_that_was_answered() {
    use std::io::{BufRead, BufReader};
    let dir = tempfile::tempdir().unwrap();
    let mut newest = [None::<u64>; WRITERS];
    for round in 0..3u64 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "embedded::crash_tests::writer_process", "--nocapture"])
            .env("STORE_WRITER_DIR", dir.path())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = 0;
        newest = [None; WRITERS];
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let mut words = line.split(' ').skip_while(|w| !w.ends_with("answered")).skip(1);
            let (Some(w), Some(i)) = (words.next(), words.next()) else { continue };
            newest[w.parse::<usize>().unwrap()] = i.parse().ok();
            lines += 1;
            if lines == 400 * (round + 1) {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let engine = Engine::open(Options::new(dir.path())).unwrap();
        runtime().block_on(async {
            for (w, i) in newest.iter().enumerate() {
                let read = async |k: &str| {
                    let r = engine.get(&format!("/r/{k}/{w}")).await.unwrap();
                    r.map(|r| String::from_utf8_lossy(&r.value).into_owned())
                };
                let (a, b) = (read("a").await, read("b").await);
                assert_eq!(a, b, "half a transaction of writer {w}");
                let found: Option<u64> = a.and_then(|t| t.split(' ').next()?.parse().ok());
                let Some(i) = *i else { continue };
                assert!(found == Some(i) || found == Some(i + 1), "writer {w}: {i} was answered, {found:?} is there");
            }
        });
    }
    assert!(newest.iter().flatten().count() > 0);
}
