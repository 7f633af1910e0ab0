//! The built-in pod network: addresses without leaks, one routed veth pair a pod, host ports and masquerade by nftables
//! (on the loopback addresses by `netlink::loopback`), and the ways to the pods of other nodes (`peers`).
//! Owns the files under its state directory (one per address), the bridge that carries the gateway addresses, and one
//! nftables table per family. Spawns nothing that stays.
#![forbid(unsafe_code)]

mod host;
mod ipam;
pub mod peers;
mod render;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use netlink::loopback::{Loopback, Transport, Wanted};
use netlink::nft::{self, Applied, Family};
use netlink::{Cidr, Netlink, PodLink};
use tokio::sync::Mutex;
use tracing::{info, warn};

pub use ipam::IpamError;
pub use render::HostPort;

#[derive(Debug, Clone)]
pub struct Config {
    /// Tells the links and tables of clusters on one machine apart; letters and digits.
    pub instance: String,
    /// Name of the bridge that holds the gateway addresses, at most 15 characters.
    pub bridge: String,
    /// This node's pod networks, one per family.
    pub pod_cidrs: Vec<Cidr>,
    /// All pods' networks: traffic within them keeps its source address.
    pub cluster_cidrs: Vec<Cidr>,
    pub service_cidrs: Vec<Cidr>,
    pub state_dir: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Net(#[from] netlink::Error),
    #[error(transparent)]
    Ipam(#[from] IpamError),
}

struct State {
    ipam: ipam::Ipam,
    host_ports: BTreeMap<String, Vec<HostPort>>,
    tables: BTreeMap<Family, Applied>,
    loopback: Loopback,
}

/// The pod network of one node.
pub struct Cni {
    config: Config,
    netlink: Netlink,
    gateways: Vec<IpAddr>,
    state: Mutex<State>,
}

/// In the state directory: all pods' networks.
const NETWORKS: &str = "networks";

/// FNV-1a: a short, stable tail for names that the kernel limits to 15 characters.
fn short_hash(s: &str) -> u32 {
    s.bytes().fold(0x811c_9dc5, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

/// What the host's ends of this instance's pod links start with.
pub fn link_prefix(instance: &str) -> String {
    format!("kv{:04x}", short_hash(instance) & 0xffff)
}

fn link_name(instance: &str, sandbox: &str) -> String {
    format!("{}{:08x}", link_prefix(instance), short_hash(sandbox))
}

/// Name of the nftables tables for host ports and masquerade.
pub fn table_name(instance: &str) -> String {
    format!("kelson-{instance}-pods")
}

impl Cni {
    /// Prepares the node: bridge, routes, forwarding, tables; and reads back which addresses are taken.
    pub async fn open(config: Config) -> Result<Self, Error> {
        let netlink = Netlink::open()?;
        let gateways: Vec<IpAddr> = config.pod_cidrs.iter().filter_map(|c| c.nth(1)).collect();
        host::prepare(&config)?;
        let addresses: Vec<Cidr> = gateways.iter().copied().map(Cidr::host).collect();
        let index = netlink.ensure_bridge(&config.bridge, &addresses).await?;
        for c in &config.service_cidrs {
            // A service address is translated after routing: it needs a route, wherever it points.
            let source = gateways.iter().copied().find(|g| g.is_ipv4() == c.addr.is_ipv4());
            if source.is_some() {
                netlink.route(*c, index, source).await?;
            }
        }
        let ipam = ipam::Ipam::open(&config.state_dir, &config.pod_cidrs)?;
        remember(&config)?;
        host::open_forwarding(&link_prefix(&config.instance)).await;
        let cni = Self {
            state: Mutex::new(State {
                ipam,
                host_ports: BTreeMap::new(),
                tables: BTreeMap::new(),
                loopback: Loopback::default(),
            }),
            config,
            netlink,
            gateways,
        };
        cni.apply(&mut *cni.state.lock().await).await?;
        info!(bridge = %cni.config.bridge, pods = ?cni.config.pod_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>(), "pod network ready");
        Ok(cni)
    }

    /// The node's own addresses in the pod network, one per family.
    pub fn gateways(&self) -> &[IpAddr] {
        &self.gateways
    }

    /// Gives the sandbox its addresses and link. A second call for the same sandbox answers the same.
    pub async fn setup(
        &self,
        sandbox: &str,
        netns: &Path,
        ports: Vec<HostPort>,
    ) -> Result<Vec<IpAddr>, Error> {
        let addresses = self.state.lock().await.ipam.allocate(sandbox)?;
        let link = PodLink {
            host_name: link_name(&self.config.instance, sandbox),
            pod_name: "eth0".into(),
            addresses: addresses.clone(),
            host_addresses: self.gateways.clone(),
            mtu: None,
        };
        if let Err(e) = self.netlink.connect_pod(netns, link).await {
            self.state.lock().await.ipam.release(sandbox)?;
            return Err(e.into());
        }
        if !ports.is_empty() {
            self.remember_ports(sandbox, &addresses, ports).await?;
        }
        Ok(addresses)
    }

    /// After a restart: the host ports of a sandbox that goes on running.
    pub async fn adopt(&self, sandbox: &str, ports: Vec<HostPort>) -> Result<(), Error> {
        let addresses = self.state.lock().await.ipam.of(sandbox);
        if ports.is_empty() || addresses.is_empty() {
            return Ok(());
        }
        self.remember_ports(sandbox, &addresses, ports).await
    }

    async fn remember_ports(
        &self,
        sandbox: &str,
        addresses: &[IpAddr],
        ports: Vec<HostPort>,
    ) -> Result<(), Error> {
        let mut state = self.state.lock().await;
        let all = addresses
            .iter()
            .flat_map(|a| ports.iter().map(|p| HostPort { pod: Some(*a), ..p.clone() }))
            .collect();
        state.host_ports.insert(sandbox.to_owned(), all);
        self.apply(&mut state).await
    }

    /// Takes everything of the sandbox away; nothing to take away is fine.
    pub async fn teardown(&self, sandbox: &str) -> Result<(), Error> {
        self.netlink.delete(&link_name(&self.config.instance, sandbox)).await?;
        let mut state = self.state.lock().await;
        if state.host_ports.remove(sandbox).is_some() {
            self.apply(&mut state).await?;
        }
        state.ipam.release(sandbox)?;
        Ok(())
    }

    /// Releases the addresses and links of every sandbox that is not in `alive`.
    pub async fn retain(&self, alive: &[String]) -> Result<(), Error> {
        let known = self.state.lock().await.ipam.sandboxes();
        for sandbox in known.into_iter().filter(|s| !alive.contains(s)) {
            warn!(%sandbox, "released the address of a sandbox that is gone");
            self.teardown(&sandbox).await?;
        }
        Ok(())
    }

    async fn apply(&self, state: &mut State) -> Result<(), Error> {
        let ports: Vec<HostPort> = state.host_ports.values().flatten().cloned().collect();
        for table in render::tables(&table_name(&self.config.instance), &self.config, &ports) {
            state.tables.entry(table.family).or_default().set(table).await?;
        }
        state.loopback.set(loopback_ports(&ports)).await;
        Ok(())
    }
}

/// For `destroy`, which knows no configuration.
fn remember(config: &Config) -> Result<(), Error> {
    let text: String = config.cluster_cidrs.iter().map(|c| format!("{c}\n")).collect();
    let path = config.state_dir.join(NETWORKS);
    let what = format!("write {}", path.display());
    std::fs::write(path, text).map_err(|source| netlink::Error::Io { what, source }.into())
}

/// Host ports that answer on the loopback addresses: those of every address.
fn loopback_ports(ports: &[HostPort]) -> Wanted {
    let mut out = Wanted::new();
    for p in ports.iter().filter(|p| p.host_ip.is_none_or(|ip| ip.is_unspecified() || ip.is_loopback())) {
        let transport = match p.protocol.as_str() {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            _ => continue,
        };
        let target = p.pod.map(|pod| SocketAddr::new(pod, p.container_port));
        out.entry((transport, p.host_port)).or_default().extend(target);
    }
    out
}

/// Takes away every link, table and firewall rule of the instance. Works without a running daemon; goes on after errors
/// and reports the last one.
pub async fn destroy(instance: &str, bridge: &str, state: &Path) -> Result<(), Error> {
    let netlink = Netlink::open()?;
    let prefix = link_prefix(instance);
    let networks = std::fs::read_to_string(state.join(NETWORKS)).unwrap_or_default();
    let networks: Vec<Cidr> = networks.split_whitespace().filter_map(|c| c.parse().ok()).collect();
    let mut last = peers::forget(&netlink, &networks).await;
    for name in netlink.names().await? {
        if name == bridge || name.starts_with(&prefix) {
            last = netlink.delete(&name).await.map_err(Error::from).and(last);
        }
    }
    for family in [Family::Ip, Family::Ip6] {
        let table = nft::Table::new(family, table_name(instance));
        last = nft::apply(&table.removal()).await.map_err(Error::from).and(last);
    }
    host::close_forwarding(&prefix).await;
    last
}
