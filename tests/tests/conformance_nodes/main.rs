//! What upstream's conformance tests ask of workloads, of the scheduler and of nodes, each under its name there, on three
//! hosts that are one cluster. `names.txt` holds the names; one without a test here, or a test without a name there, fails.
//! Where upstream waits to see that nothing happens, something else is made to happen here, and nothing may have happened
//! before it.

mod budgets;
mod common;
mod controller_revisions;
mod cron_jobs;
mod daemon_sets;
mod deployments;
mod events;
mod job_policies;
mod jobs;
mod leases;
mod limit_ranges;
mod nodes;
mod predicates;
mod preemption;
mod replica_sets;
mod replication_controllers;
mod stateful_order;
mod stateful_sets;
mod taints;

use std::process::ExitCode;

use e2e::machines::Machines;
use e2e::operations;
use e2e::world::{self, Shared, Stage, Tests};
use libtest_mimic::{Arguments, Trial};
use testkit::{Cluster, node_possible, skip};

const NAMES: &str = include_str!("names.txt");

/// One line a file; what waits for the minute begins first.
#[rustfmt::skip]
const FILES: &[Tests] = &[
    cron_jobs::TESTS,
    stateful_order::TESTS,
    stateful_sets::TESTS,
    deployments::TESTS,
    jobs::TESTS,
    job_policies::TESTS,
    replica_sets::TESTS,
    replication_controllers::TESTS,
    budgets::TESTS,
    limit_ranges::TESTS,
    leases::TESTS,
    nodes::TESTS,
    events::TESTS,
    controller_revisions::TESTS,
    daemon_sets::TESTS,
    predicates::TESTS,
    preemption::TESTS,
    taints::TESTS,
];

impl Stage for common::Three {
    fn start(_: &'static str) -> Self {
        let machines = Machines::start(&[]).expect("root, as was asked before");
        machines.wait_ready();
        machines.cluster.import_busybox_as(common::NEXT);
        for agent in &machines.agents {
            agent.import_busybox_as(common::NEXT);
        }
        Self(machines)
    }
    fn cluster(&self) -> &Cluster {
        &self.0.cluster
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let possible = node_possible();
    if !possible && !arguments.list {
        // What is skipped is told by the name of the thread.
        let thread = std::thread::Builder::new().name("conformance_nodes".to_owned());
        let said = thread.spawn(|| skip("running containers needs root"));
        said.expect("a thread").join().expect("said");
    }
    let shared = Shared::<common::Three>::new("three hosts");
    let mut trials = vec![Trial::test("every_name_has_its_test", || world::names_match(NAMES, FILES))];
    // Those that want the cluster for themselves come when the others are done.
    for alone in [false, true] {
        let tests = FILES.iter().copied().flatten().filter(|t| world::serial(t.0) == alone);
        trials.extend(tests.map(|t| shared.trial(*t).with_ignored_flag(!possible)));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The cluster ends before the process does.
    drop(shared);
    conclusion.exit_code()
}
