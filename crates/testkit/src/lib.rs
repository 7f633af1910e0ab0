//! A cluster in a test: starts the real program on a data directory of its own, speaks to it with a real kubectl, builds
//! images without a registry, and leaves nothing behind, also when the test fails.
#![forbid(unsafe_code)]

mod cluster;
mod image;

pub use cluster::{Cluster, Output, node_possible};
pub use image::busybox_archive;

use std::time::{Duration, Instant};

/// Waits for a condition; panics with what it waited for when it does not come about.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let patience = Duration::from_secs(90);
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < patience, "gave up waiting for: {what}");
        std::thread::park_timeout(Duration::from_millis(100));
    }
}
