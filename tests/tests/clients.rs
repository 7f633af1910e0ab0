//! Clients as people use them, against a control plane alone and against a cluster with a node: PyPI's `kubernetes`,
//! Go's client-go with its informers, an operator on controller-runtime, and kube-rs. Their programs stand in `tests/clients`;
//! what a machine lacks to build them is said.

use std::path::Path;
use std::process::Command;

use e2e::programs;
use testkit::{Cluster, run};

fn clusters() -> Vec<(Cluster, &'static str)> {
    let mut all = vec![(Cluster::control_plane(), "no-node")];
    all.extend(Cluster::with_node().map(|c| (c, "node")));
    all
}

/// Runs a program, which says that all was well.
fn says_ok(program: &Path, args: &[&str]) {
    let out = run(Command::new(program).args(args), None);
    assert!(out.ok && out.stdout.trim() == "ok", "{args:?}: {}\n{}", out.stderr, out.stdout);
}

#[test]
fn python_client() {
    let Some(python) = programs::python() else { return };
    let script = programs::sources().join("python/client.py");
    for (c, shape) in clusters() {
        says_ok(&python, &[&script.to_string_lossy(), &c.kubeconfig(), shape]);
    }
}

#[test]
fn go_client_with_informers() {
    let Some(program) = programs::informer() else { return };
    for (c, _) in clusters() {
        for form in ["json", "protobuf"] {
            says_ok(&program, &["-kubeconfig", &c.kubeconfig(), "-form", form]);
        }
    }
}

#[test]
fn operator_with_webhooks() {
    let Some(program) = programs::operator() else { return };
    for (c, _) in clusters() {
        says_ok(&program, &["-kubeconfig", &c.kubeconfig()]);
    }
}

#[test]
fn rust_client() {
    let Some(program) = programs::rust() else { return };
    for (c, shape) in clusters() {
        says_ok(&program, &[&c.kubeconfig(), shape]);
    }
}
