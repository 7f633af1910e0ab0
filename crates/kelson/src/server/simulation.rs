//! Simulated nodes in this process: they come to the API by TLS on its port, as others do, and have no other way to it. One
//! task of the simulation, on threads of its own.

use std::sync::Arc;

use anyhow::Context;
use client::{RemoteTransport, Transport, clock};
use pki::Subject;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::control::Control;
use crate::config::Config;
use crate::remote;

/// Connections that all simulated nodes share.
const CONNECTIONS: usize = 8;
/// As whom they are opened; the nodes are named in each request.
const USER: &str = "kelson:simulation";

pub fn start(
    config: &Config,
    control: &Control,
    stop: &CancellationToken,
    on: &Handle,
) -> anyhow::Result<()> {
    let subject = Subject::new(USER).in_group("system:masters");
    let cert = control.pki.client("simulation", &subject, clock::now().as_second());
    let cert = cert.context("failed to make the certificate of simulated nodes")?;
    let way = remote::access(control.pki.ca.cert_pem(), Some(&cert), None)?;
    let server: client::remote::Server = control.url.parse()?;
    let open = |_| Arc::new(RemoteTransport::new(server.clone(), way.clone())) as Arc<dyn Transport>;
    let access =
        simulate::Access::new((0..CONNECTIONS).map(open).collect()).context("no connection is allowed")?;
    let options = simulate::Options { nodes: config.simulated, failures: config.failures, access };
    control.beside_loops(simulate::run(options, stop.clone()), on);
    Ok(())
}
