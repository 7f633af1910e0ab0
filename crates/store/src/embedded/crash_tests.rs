//! Power cuts at every moment, on the fake file layer, and a killed process on real files.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::fake::{FakeFs, Loss};
use super::tests::small;
use super::*;
use crate::Compare;
use crate::suite::{must, put, put_op};

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
        let engine: Arc<dyn Store> = Arc::new(
            Engine::open(Options {
                segment_bytes: 256 << 10,
                snapshot_bytes: 512 << 10,
                ..Options::new(dir)
            })
            .unwrap(),
        );
        let mut tasks = Vec::new();
        for w in 0..WRITERS {
            let engine = engine.clone();
            tasks.push(tokio::spawn(async move {
                for i in 0u64.. {
                    let value = format!("{i} {}", "x".repeat((i % 2000) as usize));
                    let txn = Txn {
                        then: vec![
                            put_op(&format!("/r/a/{w}"), value.clone()),
                            put_op(&format!("/r/b/{w}"), value),
                        ],
                        ..Txn::default()
                    };
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
                assert!(
                    found == Some(i) || found == Some(i + 1),
                    "writer {w}: {i} was answered, {found:?} is there"
                );
            }
        });
    }
    assert!(newest.iter().flatten().count() > 0);
}
