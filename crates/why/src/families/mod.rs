//! One file per family of causes; here is which of them a kind of thing is asked of.

pub mod budgets;
pub mod claims;
pub mod containers;
pub mod creation;
pub mod deletion;
pub mod images;
pub mod jobs;
pub mod mounts;
pub mod namespaces;
pub mod nodes;
pub mod pods;
pub mod probes;
pub mod scheduling;
pub mod services;
pub mod workloads;

use crate::cause::Cause;
use crate::facts::{Facts, Thing};

/// What holds a thing up; empty when it does what it should.
pub fn of(f: &Facts, t: &Thing) -> Vec<Cause> {
    match t.kind {
        "pod" => pods::causes(f, t),
        "deployment" => workloads::deployment(f, t),
        "replicaset" | "replicationcontroller" => workloads::replicas(f, t),
        "statefulset" => workloads::stateful(f, t),
        "daemonset" => workloads::daemons(f, t),
        "job" => jobs::job(f, t),
        "cronjob" => jobs::cron(f, t),
        "service" => services::causes(f, t),
        "persistentvolumeclaim" => claims::claim(f, t),
        "persistentvolume" => claims::volume(f, t),
        "node" => nodes::causes(f, t),
        "namespace" => namespaces::causes(f, t),
        "poddisruptionbudget" => budgets::causes(f, t),
        "networkpolicy" => services::policy(f, t),
        _ => Vec::new(),
    }
}
