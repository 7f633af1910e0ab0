//! Histories of the etcd engine: two servers that reach etcd through proxies, a third one directly. Many run side by side on
//! one etcd, below prefixes of their own; each has two faults of its own, and all share one kill -9 of etcd.

use std::sync::Arc;
use std::time::Duration;

use testkit::etcd::Etcd;
use testkit::proxy::{Fault, Proxy};
use tokio::sync::Barrier;

use super::*;
use crate::suite::history::{Dice, Plan, Stage, Work, judge, run};

/// Histories that run side by side.
const TOGETHER: u64 = 20;

fn options(port: u16, prefix: &str) -> Options {
    Options {
        prefix: prefix.into(),
        root: String::new(),
        timeout: Duration::from_secs(15),
        compact_every: None,
        ..Options::new(vec![format!("http://127.0.0.1:{port}")])
    }
}

async fn fault(proxy: &Proxy, kind: u64, stage: &Stage) {
    let before = stage.calls();
    match kind {
        0 => proxy.set(Fault::Cut),
        1 => proxy.set(Fault::Swallow),
        2 => proxy.set(Fault::Stall),
        _ => {
            proxy.delay(Duration::from_millis(3));
            stage.reach(before + 30).await;
            return proxy.delay(Duration::ZERO);
        }
    }
    // The server that is reached directly goes on meanwhile.
    stage.reach(before + 10).await;
    proxy.set(Fault::None);
}

/// All meet before and after the crash.
struct Crash {
    before: Barrier,
    after: Barrier,
}

async fn history(seed: u64, port: u16, crash: Arc<Crash>) -> Result<[usize; 4], String> {
    let prefix = format!("/histories/{seed}/");
    let proxies = [Proxy::to(port), Proxy::to(port)];
    let mut servers: Vec<Arc<dyn Store>> = Vec::new();
    for port in [proxies[0].port(), proxies[1].port(), port] {
        servers.push(Arc::new(Engine::open(options(port, &prefix)).await.map_err(|e| e.to_string())?));
    }
    let stage = Stage::new(servers.clone());
    let work = Work {
        seed,
        clients: 9,
        calls: 230,
        prefix: "h/".into(),
        blind: false,
        compaction: false,
        advance: None,
        scribe: 2,
    };
    let mut dice = Dice::new(seed);
    let faults = async {
        for n in 0..3 {
            stage.reach((n + 1) * 50).await;
            if n == 1 {
                crash.before.wait().await;
                crash.after.wait().await;
                continue;
            }
            fault(&proxies[dice.below(2) as usize], dice.below(4), &stage).await;
        }
    };
    let history = run(&stage, &work, faults).await?;
    for s in servers {
        s.close().await.map_err(|e| e.to_string())?;
    }
    let v = judge(&history)?;
    Ok([v.calls, v.writes, v.unanswered, v.events])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn histories_on_etcd() {
    let Some(mut etcd) = Etcd::start() else { return };
    let plan = Plan::of("etcd", 300);
    let mut sums = [0; 4];
    let mut next = plan.seeds.start;
    while next < plan.seeds.end {
        let seeds = next..plan.seeds.end.min(next + TOGETHER);
        let parties = (seeds.end - seeds.start) as usize + 1;
        let crash = Arc::new(Crash { before: Barrier::new(parties), after: Barrier::new(parties) });
        let all = seeds.clone().map(|seed| {
            let history =
                tokio::time::timeout(Duration::from_secs(120), history(seed, etcd.port(), crash.clone()));
            (seed, tokio::spawn(history))
        });
        let all: Vec<_> = all.collect();
        let down = async {
            crash.before.wait().await;
            tokio::task::block_in_place(|| etcd.run());
            crash.after.wait().await;
        };
        tokio::time::timeout(Duration::from_secs(120), down).await.expect("all histories come to the crash");
        for (seed, history) in all {
            let done = history.await.expect("a history");
            let done = done.unwrap_or_else(|_| panic!("the history of seed {seed} hangs"));
            let counts = done.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
            for (sum, n) in sums.iter_mut().zip(counts) {
                *sum += n;
            }
        }
        next = seeds.end;
        plan.done(next);
    }
    let n = (plan.seeds.end - plan.seeds.start) as usize;
    eprintln!(
        "{n} histories from seed {}: calls, writes, writes without an answer that happened, events: {sums:?}",
        plan.seeds.start
    );
    assert!(n == 0 || (sums[0] >= 200 * n && sums[1] >= 40 * n && sums[3] >= 80 * n));
}
