//! Workloads of users while processes are killed and stopped, networks cut, clocks shifted and members of etcd lost, on three
//! hosts. `plan` says what happens when, from a seed; `judge` tells from the watch of pods what must never be, `doubles` from the
//! nodes' processes; `settled` says how all has to be in the end.
//! `CHAOS_SEED` and `CHAOS_SECONDS` choose the run (`make chaos`), `CHAOS_REPORT` a file for its report; a violation with the
//! words `CHAOS_UNTIL` ends it early.

mod api;
mod doubles;
mod judge;
mod plan;
mod rig;
mod settled;
mod workloads;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use testkit::http::Http;

use crate::api::Api;
use crate::plan::Action;
use crate::rig::{Driver, Rig};

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

const LATE: Duration = Duration::from_secs(2);

/// One run; its report, and whether nothing was violated.
fn run(mut rig: Rig, seed: u64, length: Duration) -> (String, bool) {
    let servers = [&rig.machines.cluster].into_iter().chain(rig.other.as_ref()).map(Http::admin).collect();
    let api = Api::new(servers);
    let plan = plan::make(seed, length, rig.other.is_some());
    let before = settled::links(&rig.machines);
    let ended = AtomicBool::new(false);
    let mut driver = Driver::new(&api);
    // Whoever planted a fault has seen enough when it was found.
    let sought = std::env::var("CHAOS_UNTIL").ok();
    let found =
        || sought.as_ref().is_some_and(|s| api.judge().violations.iter().any(|v| v.contains(s.as_str())));
    std::thread::scope(|scope| {
        scope.spawn(|| api.clone().follow(&ended));
        scope.spawn(|| doubles::look(&api, &ended));
        // Also when this panics: the scope waits for the other.
        let _end = End(&ended);
        let steps = if driver.make(&rig) { plan } else { Vec::new() };
        let start = api.now();
        for step in steps {
            if found() {
                return;
            }
            loop {
                let now = api.now() - start;
                if now >= step.at {
                    break;
                }
                driver.tend();
                std::thread::park_timeout((step.at - now).min(Duration::from_millis(100)));
            }
            let late = api.now() - start - step.at;
            match step.action {
                // What breaks keeps its time: who waited for an answer has missed something.
                Action::Op(op) if late > LATE => driver.miss(op),
                Action::Op(op) => driver.op(op),
                Action::Break(fault) => driver.break_it(fault, &mut rig),
                Action::Mend(fault) => driver.mend(fault, &mut rig),
            }
        }
        if found() {
            return;
        }
        driver.finish();
        if found() {
            return;
        }
        if let Err(why) = settled::delete_all(&api) {
            api.violated("namespace", &why);
        }
    });
    let patience = Duration::from_secs(45);
    if !found()
        && let Err(why) =
            settled::wait(&api, patience, || settled::nothing_left(&api, &rig.machines, &before))
    {
        api.violated("left", &why);
    }
    driver.report(seed, length)
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn chaos(rig: Rig, name: &str) {
    let (seed, seconds) = (variable("CHAOS_SEED", 1), variable("CHAOS_SECONDS", 40));
    eprintln!("chaos on {name}: CHAOS_SEED={seed} CHAOS_SECONDS={seconds}");
    let (report, fine) = run(rig, seed, Duration::from_secs(seconds));
    eprintln!("{report}");
    if let Some(path) = std::env::var_os("CHAOS_REPORT") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        let whole = format!("chaos on {name}\n{report}\n");
        file.and_then(|mut f| std::io::Write::write_all(&mut f, whole.as_bytes())).expect("the report");
    }
    assert!(fine, "something was violated with seed {seed}; see the report above");
}

#[test]
fn chaos_on_one_server() {
    if let Some(rig) = Rig::alone() {
        chaos(rig, "one server");
    }
}

#[test]
fn chaos_on_servers_on_etcd() {
    if let Some(rig) = Rig::on_etcd() {
        chaos(rig, "two servers on three members of etcd");
    }
}
