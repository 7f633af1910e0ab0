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
mod policies;
mod quota;
mod watchers;
mod webhook_configurations;
mod webhooks;

use std::process::ExitCode;

use e2e::operations;
use e2e::world::{self, Shared, Stage, Tests};
use libtest_mimic::{Arguments, Trial};
use testkit::etcd::Etcd;
use testkit::{Cluster, node_possible};

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

const ENGINES: [&str; 2] = ["embedded", "etcd"];

/// A cluster on one engine. The fields end in this order: the cluster before what it stands on.
struct OnEngine {
    cluster: Cluster,
    etcd: Option<Etcd>,
}

impl Stage for OnEngine {
    fn start(engine: &'static str) -> Self {
        let etcd = (engine == "etcd").then(|| Etcd::start().expect("an etcd"));
        let servers = etcd.as_ref().map(|e| format!("--etcd-servers={}", e.url()));
        let flags: Vec<&str> = servers.iter().map(String::as_str).collect();
        let node = node_possible();
        let cluster = Cluster::with_flags(node, &flags);
        if node {
            cluster.import_busybox();
        }
        Self { cluster, etcd }
    }
    fn cluster(&self) -> &Cluster {
        &self.cluster
    }
    fn etcd(&self) -> Option<&Etcd> {
        self.etcd.as_ref()
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // What is skipped is told by the name of the thread.
    let etcd =
        || std::thread::Builder::new().name("conformance_on_etcd".to_owned()).spawn(testkit::etcd::have);
    let etcd = arguments.list || etcd().is_ok_and(|t| t.join().unwrap_or(false));
    let engines = ENGINES.map(Shared::<OnEngine>::new);
    let mut trials = vec![Trial::test("every_name_has_its_test", || world::names_match(NAMES, FILES))];
    for (engine, name) in engines.iter().zip(ENGINES) {
        for &test in FILES.iter().copied().flatten() {
            trials.push(engine.trial(test).with_ignored_flag(name == "etcd" && !etcd));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The clusters end before the process does.
    drop(engines);
    conclusion.exit_code()
}
