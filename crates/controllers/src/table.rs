//! Every loop, in one table: what it is called, whom it acts as, what it watches and writes.

use futures::FutureExt;

use crate::{Loop, deployment, replicaset};

pub const LOOPS: &[Loop] = &[
    Loop {
        name: "deployment",
        account: "deployment-controller",
        watches: &["deployments", "replicasets", "pods"],
        writes: &["replicasets", "deployments/status"],
        run: |c| deployment::run(c).boxed(),
    },
    Loop {
        name: "replicaset",
        account: "replicaset-controller",
        watches: &["replicasets", "pods"],
        writes: &["pods", "replicasets/status"],
        run: |c| replicaset::replica_sets(c).boxed(),
    },
    Loop {
        name: "replicationcontroller",
        account: "replication-controller",
        watches: &["replicationcontrollers", "pods"],
        writes: &["pods", "replicationcontrollers/status"],
        run: |c| replicaset::replication_controllers(c).boxed(),
    },
];
