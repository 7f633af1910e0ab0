//! The behaviours that upstream's conformance tests ask of the API, each under its name there, with kubectl and HTTP against
//! a cluster on each engine. `conformance/names.txt` holds the names; one without a test here, or a test without a name
//! there, fails. `make conformance` runs upstream's own tests.

#[path = "conformance/hooks.rs"]
mod hooks;
#[path = "conformance/world.rs"]
mod world;

#[path = "conformance/operations.rs"]
mod operations;

#[path = "conformance/accounts.rs"]
mod accounts;
#[path = "conformance/aggregated_discovery.rs"]
mod aggregated_discovery;
#[path = "conformance/aggregator.rs"]
mod aggregator;
#[path = "conformance/certificates.rs"]
mod certificates;
#[path = "conformance/cli.rs"]
mod cli;
#[path = "conformance/conversion.rs"]
mod conversion;
#[path = "conformance/definitions.rs"]
mod definitions;
#[path = "conformance/demo.rs"]
mod demo;
#[path = "conformance/discovery.rs"]
mod discovery;
#[path = "conformance/events.rs"]
mod events;
#[path = "conformance/field_validation.rs"]
mod field_validation;
#[path = "conformance/flow_control.rs"]
mod flow_control;
#[path = "conformance/garbage.rs"]
mod garbage;
#[path = "conformance/lists.rs"]
mod lists;
#[path = "conformance/namespaces.rs"]
mod namespaces;
#[path = "conformance/openapi.rs"]
mod openapi;
#[path = "conformance/policies.rs"]
mod policies;
#[path = "conformance/quota.rs"]
mod quota;
#[path = "conformance/watchers.rs"]
mod watchers;
#[path = "conformance/webhook_configurations.rs"]
mod webhook_configurations;
#[path = "conformance/webhooks.rs"]
mod webhooks;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use world::{ENGINES, Engine, Tests};

const NAMES: &str = include_str!("conformance/names.txt");

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
