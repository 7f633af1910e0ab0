//! A cluster in a test: starts the real program on a data directory of its own, speaks to it with a real kubectl, builds
//! images without a registry, and leaves nothing behind, also when the test fails.
#![forbid(unsafe_code)]

mod agent;
mod background;
mod cluster;
pub mod etcd;
mod hosts;
pub mod http;
mod image;
pub mod proxy;
pub mod rng;
pub mod tools;
pub mod websocket;

pub use agent::Agent;
pub use background::Background;
pub use cluster::{Cluster, Output, kelson, kelson_path, node_possible, run};
pub use hosts::{Cut, Host, Hosts};
pub use image::busybox_archive;

use std::time::{Duration, Instant};

/// Says that the running test is left out on this machine, and why. `scripts/e2e` gathers these and fails when
/// `tests/may-skip` does not allow one.
pub fn skip(why: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    eprintln!("skipped: {test}: {why}");
    if let Some(path) = std::env::var_os("KELSON_SKIPS") {
        let line = format!("{test}\t{why}\n");
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        file.and_then(|mut f| std::io::Write::write_all(&mut f, line.as_bytes()))
            .expect("note the skipped test");
    }
}

/// Waits for a condition; panics with what it waited for when it does not come about.
#[track_caller]
pub fn wait_for(what: &str, condition: impl FnMut() -> bool) {
    wait_within(Duration::from_secs(90), what, condition);
}

/// The same for what takes its time, such as what happens once a minute.
#[track_caller]
pub fn wait_within(patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < patience, "gave up waiting for: {what}");
        std::thread::park_timeout(Duration::from_millis(100));
    }
}
