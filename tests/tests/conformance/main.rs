//! The behaviours that upstream's conformance tests ask of the API, each under its name there, with kubectl and HTTP against
//! a cluster on each engine. `names.txt` holds the names; one without a test here, or a test without a name
//! there, fails. `make conformance` runs upstream's own tests.

mod accounts;
mod aggregated_discovery;
mod aggregator;
mod certificates;
mod cli;
mod conversion;
mod definitions;
mod demo;
mod discovery;
mod events;
mod field_validation;
mod flow_control;
mod garbage;
mod hooks;
mod lists;
mod namespaces;
mod openapi;
mod operations;
mod policies;
mod quota;
mod watchers;
mod webhook_configurations;
mod webhooks;
mod world;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use world::{ENGINES, Engine, Tests};

const NAMES: &str = include_str!("names.txt");

/// One line a file.
#[rustfmt::skip]
const FILES: &[Tests] = &[
    accounts::TESTS,
    aggregated_discovery::TESTS,
    aggregator::TESTS,
    certificates::TESTS,
    cli::TESTS,
    demo::TESTS,
    conversion::TESTS,
    definitions::TESTS,
    discovery::TESTS,
    events::TESTS,
    field_validation::TESTS,
    flow_control::TESTS,
    garbage::TESTS,
    lists::TESTS,
    namespaces::TESTS,
    openapi::TESTS,
    policies::TESTS,
    quota::TESTS,
    watchers::TESTS,
    webhook_configurations::TESTS,
    webhooks::TESTS,
];

/// What `NAMES` asks for and is not there, and the other way.
fn names_match() -> Result<(), Failed> {
    let asked: BTreeSet<&str> = NAMES.lines().collect();
    let mut there = BTreeSet::new();
    let twice: Vec<&str> =
        FILES.iter().copied().flatten().map(|t| t.0).filter(|name| !there.insert(*name)).collect();
    let lacking: Vec<_> = asked.difference(&there).collect();
    let unknown: Vec<_> = there.difference(&asked).collect();
    if lacking.is_empty() && unknown.is_empty() && twice.is_empty() {
        return Ok(());
    }
    Err(format!("without a test: {lacking:#?}\nunknown names: {unknown:#?}\ntwice: {twice:#?}").into())
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // What is skipped is told by the name of the thread.
    let etcd =
        || std::thread::Builder::new().name("conformance_on_etcd".to_owned()).spawn(testkit::etcd::have);
    let etcd = arguments.list || etcd().is_ok_and(|t| t.join().unwrap_or(false));
    let engines: Vec<Arc<Engine>> = ENGINES.iter().map(|name| Arc::new(Engine::new(name))).collect();
    let mut trials = vec![Trial::test("every_name_has_its_test", names_match)];
    for engine in &engines {
        for &(name, run) in FILES.iter().copied().flatten() {
            let (on, engine) = (engine.name, engine.clone());
            let trial = Trial::test(format!("{on}: {name}"), move || {
                engine.run(name, run);
                Ok(())
            });
            trials.push(trial.with_ignored_flag(on == "etcd" && !etcd));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The clusters end before the process does.
    drop(engines);
    conclusion.exit_code()
}
