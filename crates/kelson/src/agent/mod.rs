//! `kelson agent`: joins this machine to a cluster as a node. `join` gets it its first certificate with a token, `identity`
//! keeps and renews its certificates, the node itself is `crate::node`. Losing the server stops no pod: what the node has to
//! know is kept in `<data-dir>/agent`.

mod identity;
mod join;
pub mod tunnel;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use api::resource::CONFIG_MAPS;
use client::remote::Server;
use client::{Client, RemoteTransport};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::args::AgentArgs;
use crate::config::{Instance, own_address};
use crate::machine::{Machine, MachineFile};
use crate::node::listen::{self, Serving};
use crate::node::{Access, Node, Settings, blocks, preflight};
use crate::process::{Signals, hold, notify_systemd, raise_file_limit};
use crate::shared::{NODE_SETTINGS, RUNS_DNS, Shared};
use crate::{VERSION, logging, mark, memory};

/// Of the kubelet; an agent that can't be reached would be half a node.
const KUBELET_PORT: u16 = 10250;
/// Between two tries to reach the server.
const RETRY: Duration = Duration::from_secs(1);
const SHUTDOWN: Duration = Duration::from_secs(2);

/// What lies in `<data-dir>/agent`.
pub struct Dir(PathBuf);

impl Dir {
    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
    /// `None`: there is none yet.
    fn read(&self, name: &str) -> anyhow::Result<Option<String>> {
        let path = self.file(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("failed to read {}", path.display())),
        }
    }
    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        Ok(pki::write_durable(&self.file(name), text.as_bytes())?)
    }
}

pub struct Config {
    instance: Instance,
    machine: Machine,
    /// `None`: that of the last time.
    server: Option<Server>,
    token: Option<String>,
    hashes: Vec<String>,
    /// Empty: found out.
    addresses: Vec<IpAddr>,
}

impl Config {
    fn new(mut a: AgentArgs) -> anyhow::Result<Self> {
        a.node.kubelet_port.get_or_insert(KUBELET_PORT);
        let (instance, machine) = Machine::new(a.node, MachineFile::default())?;
        if machine.kubelet_port == 0 {
            bail!("--kubelet-port 0: the server reaches an agent's kubelet by its port");
        }
        let server = a.server.map(|s| s.parse()).transpose().context("--server")?;
        if let Some(token) = &a.token
            && api::bootstrap_token::split(token).is_none()
        {
            bail!("--token: that is no token; make one with kelson token create on the server");
        }
        let hex = |h: &str| h.len() == 64 && h.bytes().all(|b| b.is_ascii_hexdigit());
        if let Some(h) = a.ca_cert_hash.iter().find(|h| !h.strip_prefix("sha256:").is_some_and(hex)) {
            bail!("--ca-cert-hash {h:?}: sha256: and 64 hexadecimal digits are needed");
        }
        let four = a.node_ip.iter().filter(|i| i.is_ipv4()).count();
        if four > 1 || a.node_ip.len() - four > 1 {
            bail!("--node-ip: at most one IPv4 and one IPv6 address");
        }
        let hashes = a.ca_cert_hash.iter().map(|h| h.to_ascii_lowercase()).collect();
        Ok(Self { instance, machine, server, token: a.token, hashes, addresses: a.node_ip })
    }

    fn dir(&self) -> Dir {
        Dir(self.instance.agent_dir())
    }

    /// This node's addresses, the one it is known by first, one per family that pods have.
    fn addresses(&self, shared: &Shared) -> anyhow::Result<Vec<IpAddr>> {
        if !self.addresses.is_empty() {
            return Ok(self.addresses.clone());
        }
        let mut families: Vec<bool> = shared.cluster_cidrs.iter().map(|c| c.addr.is_ipv4()).collect();
        families.sort_by_key(|v4| !v4);
        let all: Vec<IpAddr> = families.into_iter().filter_map(own_address).collect();
        if all.is_empty() {
            bail!("this machine has no default route to tell its address by; give it with --node-ip");
        }
        Ok(all)
    }
}

pub fn main(args: Box<AgentArgs>) -> anyhow::Result<()> {
    let started = Instant::now();
    let config = Config::new(*args)?;
    logging::start(&config.machine.log, config.machine.log_json)?;
    raise_file_limit();
    if !nix::unistd::geteuid().is_root() {
        bail!("a node needs root to run containers; run with sudo");
    }
    memory::prepare();
    let runtime = crate::server::threads::node()?;
    runtime.spawn(memory::tend());
    let result = runtime.block_on(run(config, started));
    runtime.shutdown_timeout(SHUTDOWN);
    result
}

/// Takes the directory for an agent.
fn claim(config: &Config) -> anyhow::Result<()> {
    let instance = &config.instance;
    let dir = &instance.data_dir;
    if instance.store_dir().exists() {
        bail!(
            "{} holds a server's cluster; give this agent a directory of its own with --data-dir",
            dir.display()
        );
    }
    mark::claim(instance, &instance.outside(), None)?;
    pki::make_dir(&config.dir().0)?;
    Ok(())
}

async fn run(config: Config, started: Instant) -> anyhow::Result<()> {
    let mut stop = Signals::new()?;
    let token = CancellationToken::new();
    claim(&config)?;
    let _hold = hold(&config.instance.data_dir).await?;
    info!(version = VERSION, data_dir = %config.instance.data_dir.display(), "starting");
    // In a task of its own: a start may take a while, and is long.
    let starting = start(config, token.clone());
    let node = tokio::select! {
        node = Box::pin(starting) => node?,
        () = stop.wait() => {
            info!("stopped while starting; containers go on running");
            return Ok(());
        }
    };
    let result = async {
        tokio::select! {
            ready = node.ready() => ready?,
            () = stop.wait() => return Ok(()),
        }
        eprintln!("The Kelson agent is ready after {:.2} s.", started.elapsed().as_secs_f64());
        notify_systemd();
        stop.wait().await;
        Ok(())
    }
    .await;
    info!("stopping; containers go on running");
    node.drain(&token).await;
    info!("stopped");
    result
}

/// What all nodes agree on: as the cluster says it, or as it was said last where the cluster does not answer.
async fn shared(dir: &Dir, client: &Client) -> anyhow::Result<Shared> {
    const FILE: &str = "cluster.json";
    let kept = dir.read(FILE)?;
    let mut said = String::new();
    loop {
        let asked = client.get(&CONFIG_MAPS, "kube-system", NODE_SETTINGS).await;
        match asked {
            Ok(o) => {
                let shared = Shared::read(&o.value()?["data"])
                    .with_context(|| format!("failed to read the ConfigMap kube-system/{NODE_SETTINGS}"))?;
                let text = serde_json::to_string(&shared)?;
                if kept.as_deref() != Some(text.as_str()) {
                    dir.write(FILE, &text)?;
                }
                return Ok(shared);
            }
            Err(e) => {
                if let Some(text) = &kept {
                    warn!(error = %e, "the cluster does not answer; starting with what it said last");
                    return serde_json::from_str(text)
                        .with_context(|| format!("{} is damaged; remove it", dir.file(FILE).display()));
                }
                let why = e.to_string();
                if why != said {
                    warn!(error = why, "failed to ask for the cluster's settings, trying again");
                    said = why;
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn start(config: Config, token: CancellationToken) -> anyhow::Result<Node> {
    let dir = config.dir();
    let name = &config.machine.node_name;
    let joined = join::joined(&config, &dir).await?;
    let transport = RemoteTransport::new(joined.server.clone(), joined.access()?);
    let client = |manager: &str| Client::new(Arc::new(transport.clone()), manager);
    let kubelet = client("kubelet");
    let shared = shared(&dir, &kubelet).await?;
    preflight::check(&config.instance, &shared)?;
    let pod_cidrs = match (shared.runs("cni"), blocks::kept(&config.instance)?) {
        (false, _) => vec![],
        (true, Some(kept)) => kept,
        (true, None) => blocks::ask(&config.instance, &kubelet, name).await?,
    };
    let mut annotations = blocks::wish(&pod_cidrs);
    if shared.runs("dns") && !pod_cidrs.is_empty() {
        annotations.insert(RUNS_DNS.into(), "true".into());
    }
    let addresses = config.addresses(&shared)?;
    let settings = Settings {
        instance: config.instance.clone(),
        machine: config.machine.clone(),
        shared,
        addresses: addresses.clone(),
        pod_cidrs,
        annotations,
    };
    // Who publishes where its DNS answers: the server, which a node can't tell more than that it does.
    let access = Access { kubelet: kubelet.clone(), network: client("kelson-network"), publish_dns: None };
    let ca = joined.ca.clone();
    let node = crate::node::start(settings, access, &token).await?;
    let serving = Arc::new(Serving::default());
    let any: IpAddr =
        if addresses.iter().all(IpAddr::is_ipv4) { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let address = SocketAddr::new(any, config.machine.kubelet_port);
    listen::start(address, &node, serving.clone(), &ca, &token).await?;
    let own: IpAddr = if any.is_ipv4() { [127, 0, 0, 1].into() } else { Ipv6Addr::LOCALHOST.into() };
    let way_back = tunnel::keep(transport.clone(), SocketAddr::new(own, config.machine.kubelet_port));
    let stop = token.clone();
    node.spawn(async move {
        tokio::select! { () = stop.cancelled() => {}, () = way_back => {} }
    });
    let keeper =
        identity::Keeper { dir, node: name.clone(), addresses, joined, transport, serving, client: kubelet };
    let stop = token.clone();
    node.spawn(async move {
        tokio::select! { () = stop.cancelled() => {}, () = keeper.run() => {} }
    });
    Ok(node)
}
