//! The threads of a server: the API, the loops (controllers and scheduler) and the node each have a tokio runtime of
//! their own with bounded threads, so that a loop that spins can't keep the API from answering, nor a burst of pods the
//! loops. In-process requests run on their caller's threads. The store's threads belong to the store.

use std::time::Duration;

use anyhow::Context;
use tokio::runtime::{Builder, Handle, Runtime};

/// What is still running then is dropped.
const SHUTDOWN: Duration = Duration::from_secs(2);

pub struct Threads {
    pub api: Runtime,
    loops: Runtime,
    node: Option<Runtime>,
    /// Simulated nodes.
    played: Option<Runtime>,
}

/// Where to spawn; the API's own is the current one.
pub struct Handles {
    pub loops: Handle,
    /// `None` for a control plane alone.
    pub node: Option<Handle>,
    /// `None` where no nodes are simulated.
    pub played: Option<Handle>,
}

impl Threads {
    pub fn new(node: bool, simulated: bool) -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Ok(Self {
            api: runtime("kelson-api", cores.clamp(2, 16), 32)?,
            loops: runtime("kelson-loops", cores.clamp(2, 4), 4)?,
            node: node.then(self::node).transpose()?,
            played: simulated.then(|| runtime("kelson-simulation", cores.clamp(2, 4), 4)).transpose()?,
        })
    }

    pub fn handles(&self) -> Handles {
        let of = |r: &Option<Runtime>| r.as_ref().map(|r| r.handle().clone());
        Handles { loops: self.loops.handle().clone(), node: of(&self.node), played: of(&self.played) }
    }

    /// From the node down to the API, as the roles were stopped.
    pub fn shut_down(self) {
        for runtime in self.played.into_iter().chain(self.node).chain([self.loops, self.api]) {
            runtime.shutdown_timeout(SHUTDOWN);
        }
    }
}

/// The threads of a node, which are all that an agent has.
pub fn node() -> anyhow::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    runtime("kelson-node", cores.clamp(2, 8), 64)
}

fn runtime(name: &str, workers: usize, blocking: usize) -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(blocking)
        .thread_name(name)
        .enable_all()
        .build()
        .with_context(|| format!("failed to start the threads of {name}"))
}
