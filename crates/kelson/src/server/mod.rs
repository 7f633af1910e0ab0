//! `kelson server`: wires the roles, says when the cluster is ready, drains and stops. `control` is the control plane,
//! `node` how the node reaches the API in the same process, `objects` what this wiring itself keeps in the
//! API, `simulation` nodes that are only played, `threads` the runtimes that they run on.

mod control;
mod node;
mod objects;
mod simulation;
pub mod threads;
mod transport;
mod tunnels;

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use client::LateServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::transport::Nodes;
use crate::args::ServerArgs;
use crate::backup::restore;
use crate::config::Config;
use crate::node::preflight;
use crate::process::{Signals, hold, notify_systemd, raise_file_limit};
use crate::shared::{Shared, joined};
use crate::{VERSION, logging, mark, memory, networks};

pub fn main(args: Box<ServerArgs>) -> anyhow::Result<()> {
    let started = Instant::now();
    let config = Config::new(*args)?;
    logging::start(&config.machine.log, config.machine.log_json)?;
    raise_file_limit();
    memory::prepare();
    let threads = threads::Threads::new(config.node, config.simulated > 0)?;
    threads.api.spawn(memory::tend());
    let result = threads.api.block_on(run(config, started, threads.handles()));
    threads.shut_down();
    result
}

/// Makes sure that a cluster can run here, and takes the place for it.
fn prepare(config: &mut Config) -> anyhow::Result<()> {
    if config.node && !nix::unistd::geteuid().is_root() {
        anyhow::bail!(
            "a node needs root to run containers; run with sudo, or with --no-node for a control plane alone"
        );
    }
    let instance = config.instance.clone();
    if instance.agent_dir().exists() {
        anyhow::bail!(
            "{} belongs to an agent; give this server a directory of its own with --data-dir",
            instance.data_dir.display()
        );
    }
    if config.own_networks {
        let kept = match mark::look(&instance.data_dir)? {
            mark::Place::Marked(m) => m.networks,
            _ => None,
        };
        let networks = match (config.node, kept) {
            (true, kept) => Some(
                networks::take(&instance, kept)
                    .with_context(|| format!("failed to prepare {}", instance.run_dir.display()))?,
            ),
            (false, kept) => kept,
        };
        if let Some(n) = &networks {
            config.settle(n)?;
        }
    }
    if config.node {
        preflight::check(&config.instance, &Shared::of(config))?;
    }
    api::catalog::RuntimeConfig::parse(&config.runtime_config).context("--runtime-config")?;
    let networks =
        mark::Networks { pods: joined(&config.cluster_cidrs), services: joined(&config.service_cidrs) };
    let outside = if config.node { instance.outside() } else { vec![] };
    mark::claim(&instance, &outside, config.own_networks.then_some(networks))?;
    Ok(())
}

async fn run(mut config: Config, started: Instant, on: threads::Handles) -> anyhow::Result<()> {
    prepare(&mut config)?;
    info!(version = VERSION, data_dir = %config.instance.data_dir.display(), "starting");
    // Each layer stops after the one above it: the node, then the loops, then the API, then the store.
    let (node_stop, loops_stop) = (CancellationToken::new(), CancellationToken::new());
    let mut stop = Signals::new()?;

    let config = Arc::new(config);
    let _hold = hold(&config.instance.data_dir).await?;
    restore::finished(&config.instance.data_dir)?;
    let listener = TcpListener::bind(config.listen).await.with_context(|| {
        format!(
            "failed to listen on {}; is another server running there? Choose another port with --listen",
            config.listen
        )
    })?;

    // Side by side: a node starts the pods it knows also while its API is not there yet.
    let (api, pipe) = (Arc::new(LateServer::default()), Arc::new(Nodes::new(&config.machine.node_name)));
    let control = async {
        let address = listener.local_addr().unwrap_or(config.listen);
        let control = control::start(&config, listener, pipe.clone(), &loops_stop, &on.loops).await;
        match &control {
            Ok(c) => {
                api.attach(c.server.clone());
                info!(listen = %address, seconds = started.elapsed().as_secs_f64(), "the API is serving");
            }
            Err(_) => {
                api.give_up();
                // A node that waits for the API to give it its addresses waits for nothing.
                node_stop.cancel();
            }
        }
        control
    };
    // The node has threads of its own.
    let node = async {
        let Some(threads) = &on.node else { return Ok(None) };
        let (config, api, pipe, stop) = (config.clone(), api.clone(), pipe.clone(), node_stop.clone());
        let starting = threads.spawn(async move { node::start(&config, api, &pipe, &stop).await });
        starting.await.context("the start of the node panicked")?.map(Some)
    };
    let (control, node) = tokio::select! {
        both = async { tokio::join!(control, node) } => both,
        () = stop.wait() => {
            info!("stopped while starting; containers go on running");
            node_stop.cancel();
            return Ok(());
        }
    };
    let control = match control {
        Ok(control) => control,
        Err(e) => {
            if let Ok(Some(n)) = node {
                n.drain(&node_stop).await;
            }
            return Err(e);
        }
    };
    let (node, failed) = match node {
        Ok(node) => (node, None),
        Err(e) => (None, Some(e)),
    };

    let result = async {
        if let Some(e) = failed {
            return Err(e);
        }
        if let Some(n) = &node {
            node::listen(&config, &control, n, &node_stop).await?;
        }
        if let Some(on) = &on.played {
            simulation::start(&config, &control, &loops_stop, on)?;
        }
        if let Some(n) = &node {
            tokio::select! {
                ready = n.ready() => ready?,
                () = stop.wait() => return Ok(()),
            }
        }
        let kubeconfig = config.instance.kubeconfig();
        eprintln!(
            "Kelson is ready after {:.2} s. Talk to it with:\n  export KUBECONFIG={}",
            started.elapsed().as_secs_f64(),
            kubeconfig.display()
        );
        notify_systemd();
        tokio::select! {
            () = stop.wait() => Ok(()),
            failed = control.failed() => Err(failed),
        }
    }
    .await;

    info!("stopping; containers go on running");
    if let Some(n) = node {
        n.drain(&node_stop).await;
    }
    loops_stop.cancel();
    control.stop().await;
    info!("stopped");
    result
}
