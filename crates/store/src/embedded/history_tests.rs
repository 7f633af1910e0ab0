//! Histories of the embedded engine on the fake file layer: each with three faults, one of them a power cut. And stores that
//! are wrong on purpose, which the judge must reject.

use std::sync::Arc;
use std::time::Duration;

use super::fake::{FakeFs, Loss};
use super::tests::small;
use super::*;
use crate::suite::history::faulty::{FLAWS, Faulty, Flaw};
use crate::suite::history::{Dice, FORGOTTEN, History, Plan, Stage, Work, judge, run};

/// How often a history is tried again whose scribe was late: threads run as they like.
const TRIES: usize = 5;

/// The machine of one history.
struct Machine {
    fs: FakeFs,
    clock: Arc<ManualClock>,
    engine: Option<Arc<Engine>>,
}

impl Machine {
    fn new() -> Self {
        Self { fs: FakeFs::new(), clock: Arc::new(ManualClock::new(1_000_000)), engine: None }
    }

    fn open(&mut self) -> Arc<Engine> {
        let options =
            Options { clock: self.clock.clone(), realtime: false, segment_bytes: 8 << 10, ..small(&self.fs) };
        let engine = Arc::new(Engine::open(options).expect("the store opens after every fault"));
        self.engine = Some(engine.clone());
        engine
    }

    /// Takes the server away and brings one that finds what is on the disk then.
    async fn again(&mut self, stage: &Stage, after: impl FnOnce(&FakeFs) -> FakeFs) {
        stage.remove(0);
        let fs = after(&self.fs);
        if let Some(old) = self.engine.take() {
            old.close().await.expect("closed");
        }
        self.fs = fs;
        let engine = self.open();
        stage.replace(0, engine).await;
    }

    /// Waits until the engine has stopped by itself; clients may still be finding out about an earlier end.
    async fn until_stopped(&self, stage: &Stage) {
        let stopped = || self.engine.as_ref().is_none_or(|e| e.core.pending.lock().stopped.is_some());
        loop {
            let stops = stage.stops();
            if stopped() {
                return;
            }
            stage.stopped(stops).await;
        }
    }

    async fn fault(&mut self, kind: u64, dice: &mut Dice, stage: &Stage) {
        match kind {
            // A power cut, at any file operation.
            0 => {
                self.fs.power_off_after(dice.below(25));
                self.until_stopped(stage).await;
                let loss = match dice.below(3) {
                    0 => Loss::All,
                    1 => Loss::LastTornAt(dice.below(1500) as usize),
                    _ => Loss::Sectors(dice.below(1 << 40)),
                };
                self.again(stage, |fs| fs.after_crash(loss)).await;
            }
            // An fsync that fails, and loses what it was for.
            1 => {
                // All later ones do, so that it ends the engine wherever it strikes first.
                self.fs.fail_sync_after(dice.below(10));
                self.until_stopped(stage).await;
                self.again(stage, |fs| fs.after_crash(Loss::All)).await;
            }
            2 => {
                let before = stage.calls();
                self.fs.set_capacity(Some(self.fs.used()));
                // Fills the segments that are there.
                stage.reach(before + 60).await;
                self.fs.set_capacity(None);
            }
            3 => {
                let before = stage.calls();
                self.fs.slow_syncs(Duration::from_millis(2));
                stage.reach(before + 40).await;
                self.fs.slow_syncs(Duration::ZERO);
            }
            // An orderly end.
            _ => self.again(stage, FakeFs::clone).await,
        }
    }
}

fn work(seed: u64, clock: Arc<ManualClock>) -> Work {
    // TTL and compaction by turns.
    let with_ttl = seed.is_multiple_of(2);
    let advance: Arc<dyn Fn(Duration) + Send + Sync> = Arc::new(move |by| clock.advance(by));
    Work {
        seed,
        clients: 8,
        calls: 240,
        prefix: "/h/".into(),
        blind: true,
        compaction: !with_ttl,
        advance: with_ttl.then_some(advance),
        scribe: 0,
    }
}

async fn history(seed: u64) -> Result<History, String> {
    let mut machine = Machine::new();
    let mut dice = Dice::new(seed);
    let engine = machine.open();
    let stage = Stage::new(vec![engine]);
    let work = work(seed, machine.clock.clone());
    let crash = dice.below(3);
    let at = std::sync::Mutex::new(String::new());
    let faults = async {
        for n in 0..3 {
            stage.reach((n + 1) * 55).await;
            if dice.one_in(3)
                && let Some(engine) = machine.engine.clone()
            {
                *at.lock().unwrap() = format!("a snapshot before fault {n}");
                engine.snapshot().await;
            }
            let kind = if n == crash { 0 } else { 1 + dice.below(4) };
            *at.lock().unwrap() = format!("fault {n} of kind {kind}");
            machine.fault(kind, &mut dice, &stage).await;
            *at.lock().unwrap() = format!("after fault {n} of kind {kind}");
        }
    };
    let running = tokio::time::timeout(Duration::from_secs(60), run(&stage, &work, faults)).await;
    let stopped = machine.engine.as_ref().map(|e| e.core.pending.lock().stopped.clone());
    let hangs = |_| {
        format!("it hangs at {}, after {} calls; the store: {stopped:?}", at.lock().unwrap(), stage.calls())
    };
    let mut history = running.map_err(hangs)??;
    // What a snapshot covers has no history after the next start.
    history.may_forget = true;
    Ok(history)
}

fn on_threads<T>(f: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(f)
}

#[test]
fn histories_on_the_embedded_engine() {
    let plan = Plan::of("embedded", 300);
    let (first, mut sums) = (plan.seeds.start, [0usize; 4]);
    on_threads(async {
        for seed in plan.seeds.clone() {
            let mut tried = history(seed).await;
            for _ in 0..TRIES {
                if tried.as_ref().err().is_none_or(|why| why != FORGOTTEN) {
                    break;
                }
                tried = history(seed).await;
            }
            let history = tried.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
            let v = judge(&history).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
            for (sum, n) in sums.iter_mut().zip([v.calls, v.writes, v.unanswered, v.events]) {
                *sum += n;
            }
            plan.done(seed + 1);
        }
    });
    let n = (plan.seeds.end - first) as usize;
    eprintln!(
        "{n} histories from seed {first}: calls, writes, writes without an answer that happened, events: {sums:?}"
    );
    assert!(n == 0 || (sums[0] >= 200 * n && sums[1] >= 50 * n && sums[3] >= 100 * n));
}

async fn flawed(seed: u64, flaw: Option<Flaw>) -> Result<(), String> {
    let mut machine = Machine::new();
    let engine: Arc<dyn Store> = machine.open();
    let store = match flaw {
        Some(flaw) => Arc::new(Faulty::new(engine, flaw)),
        None => engine,
    };
    let stage = Stage::new(vec![store]);
    let work = Work { advance: None, compaction: false, ..work(seed, machine.clock.clone()) };
    let history = run(&stage, &work, async {}).await?;
    judge(&history).map(|_| ())
}

#[test]
fn faulty_stores_are_rejected() {
    on_threads(async {
        for flaw in FLAWS {
            let mut why = None;
            for seed in 0..5 {
                if let Err(e) = flawed(seed, Some(*flaw)).await {
                    why = Some(e);
                    break;
                }
            }
            let why = why.unwrap_or_else(|| panic!("{flaw:?} was taken for right"));
            eprintln!("{flaw:?}: {}", why.chars().take(160).collect::<String>());
        }
        for seed in 0..5 {
            assert_eq!(flawed(seed, None).await, Ok(()));
        }
    });
}
