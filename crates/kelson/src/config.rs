//! What a cluster on this machine is made of: the configuration file, the flags over it, and what follows from the data
//! directory, so that several clusters live side by side.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use netlink::Cidr;
use serde::Deserialize;

use crate::args::ServerArgs;
use crate::autoscaling::AutoscalingArgs;
use crate::duration::duration;
use crate::etcd::{Etcd, EtcdArgs};
use crate::leader::LeaderArgs;
use crate::machine::{Machine, MachineFile};
use crate::mark::Networks;

pub const DEFAULT_DATA_DIR: &str = "/var/lib/kelson";

/// The file behind `--config`. An unknown key is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct File {
    api_version: String,
    kind: String,
    data_dir: Option<PathBuf>,
    listen: Option<SocketAddr>,
    advertise_address: Option<IpAddr>,
    service_cidr: Option<String>,
    cluster_cidr: Option<String>,
    cluster_domain: Option<String>,
    node_name: Option<String>,
    node_labels: BTreeMap<String, String>,
    kubelet_port: Option<u16>,
    no_node: bool,
    disable: Vec<String>,
    runtime_config: BTreeMap<String, String>,
    feature_gates: BTreeMap<String, bool>,
    log: Option<String>,
    log_json: bool,
    node_monitor_grace_period: Option<String>,
    terminated_pod_gc_threshold: Option<usize>,
    scheduler_config: Option<PathBuf>,
    insecure_registries: Vec<String>,
    registry_mirrors: BTreeMap<String, Vec<String>>,
    static_pods: Option<PathBuf>,
    eviction_hard: BTreeMap<String, String>,
    image_gc_high_threshold: Option<u8>,
    etcd: EtcdArgs,
    leader_election: LeaderArgs,
    autoscaling: AutoscalingArgs,
}

/// Names and places that keep clusters on one machine apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// `default`, or eight hexadecimal digits of the data directory.
    pub name: String,
    pub bridge: String,
    pub data_dir: PathBuf,
    pub run_dir: PathBuf,
}

pub fn fnv(s: &str) -> u32 {
    s.bytes().fold(0x811c_9dc5, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

impl Instance {
    pub fn of(data_dir: &Path) -> Self {
        let data_dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
        // Symbolic links lead to one cluster, not to two; also before the directory is there.
        let real = data_dir.ancestors().find_map(|a| Some((a, std::fs::canonicalize(a).ok()?)));
        let real =
            real.and_then(|(a, r)| Some(r.join(data_dir.strip_prefix(a).ok()?).components().collect()));
        let data_dir: PathBuf = real.unwrap_or(data_dir);
        let default = data_dir == Path::new(DEFAULT_DATA_DIR);
        let name =
            if default { "default".into() } else { format!("{:08x}", fnv(&data_dir.to_string_lossy())) };
        let bridge = if default { "kelson0".into() } else { format!("kel-{name}") };
        Self { run_dir: Path::new("/run/kelson").join(&name), name, bridge, data_dir }
    }

    pub fn is_default(&self) -> bool {
        self.name == "default"
    }
    /// Parent of every cgroup of this cluster.
    pub fn cgroup_root(&self) -> String {
        format!("kelson-{}", self.name)
    }
    /// What the embedded runtime keeps: images, layers, containers.
    pub fn runtime_root(&self) -> PathBuf {
        self.data_dir.join("runtime")
    }
    pub fn store_dir(&self) -> PathBuf {
        self.data_dir.join("store")
    }
    /// What a machine keeps that has joined a cluster.
    pub fn agent_dir(&self) -> PathBuf {
        self.data_dir.join("agent")
    }
    pub fn network_dir(&self) -> PathBuf {
        self.data_dir.join("network")
    }
    pub fn admin_socket(&self) -> PathBuf {
        self.run_dir.join("admin.sock")
    }
    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir.join("admin.kubeconfig")
    }
    /// The paths that plug-ins hard-code belong to the first cluster; others keep theirs below the data directory.
    pub fn kubelet_dir(&self) -> PathBuf {
        if self.is_default() { "/var/lib/kubelet".into() } else { self.data_dir.join("kubelet") }
    }
    pub fn pod_logs(&self) -> PathBuf {
        if self.is_default() { "/var/log/pods".into() } else { self.data_dir.join("logs/pods") }
    }
    pub fn container_logs(&self) -> PathBuf {
        if self.is_default() { "/var/log/containers".into() } else { self.data_dir.join("logs/containers") }
    }
    /// Places outside the data directory that the node of this cluster writes to.
    pub fn outside(&self) -> Vec<PathBuf> {
        let all = [self.kubelet_dir(), self.pod_logs(), self.container_logs()];
        all.into_iter().filter(|p| !p.starts_with(&self.data_dir)).collect()
    }
}

/// Everything `kelson server` needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    pub instance: Instance,
    pub machine: Machine,
    pub listen: SocketAddr,
    pub advertise: IpAddr,
    pub service_cidrs: Vec<Cidr>,
    pub cluster_cidrs: Vec<Cidr>,
    /// Neither network was asked for: they follow from the instance.
    pub own_networks: bool,
    pub domain: String,
    pub node: bool,
    pub disable: Vec<String>,
    pub runtime_config: String,
    pub feature_gates: BTreeMap<String, bool>,
    pub node_grace: Duration,
    pub autoscaling: controllers::Autoscaling,
    pub terminated_pods: usize,
    pub scheduler: scheduler::Settings,
    /// Nodes that are only played, and what goes wrong on them.
    pub simulated: usize,
    pub failures: simulate::Failures,
    /// `None`: the store is in the data directory.
    pub etcd: Option<Etcd>,
    /// `None`: the loops run without asking other servers.
    pub election: Option<client::Timing>,
}

/// A KubeSchedulerConfiguration in a file.
fn scheduler_settings(path: &Path) -> anyhow::Result<scheduler::Settings> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("failed to read the scheduler's configuration {}", path.display()))?;
    let value: serde_json::Value = serde_norway::from_str(&text)
        .with_context(|| format!("the scheduler's configuration {} is not valid YAML", path.display()))?;
    scheduler::Settings::parse(value)
        .map_err(|e| anyhow::anyhow!("the scheduler's configuration {}: {e}", path.display()))
}

/// The tenth service address is DNS.
const MIN_ADDRESSES: u128 = 16;
const PARTS: &[&str] = &["proxy", "dns", "cni", "metrics", "scheduler", "controllers"];

fn cidrs(flag: &str, text: &str) -> anyhow::Result<Vec<Cidr>> {
    let all: Vec<Cidr> = text
        .split(',')
        .map(|s| s.trim().parse())
        .collect::<Result<_, _>>()
        .with_context(|| format!("--{flag}"))?;
    for c in &all {
        if c.nth(0) != Some(c.addr) {
            bail!(
                "--{flag} {c}: the address lies inside the network; write {}/{}",
                c.nth(0).unwrap_or(c.addr),
                c.len
            );
        }
        if c.size() < MIN_ADDRESSES {
            bail!("--{flag} {c}: the network is too small; it needs {MIN_ADDRESSES} addresses or more");
        }
    }
    let four = all.iter().filter(|c| c.addr.is_ipv4()).count();
    if all.len() > 2 || four > 1 || all.len() - four > 1 {
        bail!("--{flag} {text}: at most one IPv4 and one IPv6 network");
    }
    Ok(all)
}

/// Whether the networks of pods have a block for each node.
fn room(networks: &[Cidr], nodes: usize) -> anyhow::Result<()> {
    let last = nodes.saturating_sub(1) as u128;
    if controllers::node_blocks(networks, last).len() < networks.len() {
        bail!(
            "--cluster-cidr has no {nodes} blocks, one for each node: give it a larger network, such as 10.128.0.0/9 for 32,768 nodes"
        );
    }
    Ok(())
}

pub fn name(flag: &str, text: String) -> anyhow::Result<String> {
    match api::validation::names::dns1123_subdomain(&text).first() {
        Some(why) => bail!("--{flag} {text:?}: {why}"),
        None => Ok(text),
    }
}

fn gates(text: &str) -> anyhow::Result<BTreeMap<String, bool>> {
    text.split(',')
        .filter(|s| !s.is_empty())
        .map(|pair| {
            let (name, value) = pair
                .split_once('=')
                .with_context(|| format!("--feature-gates {pair:?}: Name=true or Name=false"))?;
            let value = value
                .parse()
                .with_context(|| format!("--feature-gates {pair:?}: the value must be true or false"))?;
            Ok((name.trim().to_owned(), value))
        })
        .collect()
}

/// The address this machine uses towards the outside. Nothing is sent: connecting a datagram socket only looks up the
/// route.
pub fn own_address(v4: bool) -> Option<IpAddr> {
    let (any, far): (IpAddr, IpAddr) = if v4 {
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(203, 0, 113, 1).into())
    } else {
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((far, 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified() && !ip.is_loopback()).then_some(ip)
}

impl Config {
    pub fn new(a: ServerArgs) -> anyhow::Result<Self> {
        let f = match &a.config {
            None => File::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("failed to read {}", path.display()))?;
                let f: File = serde_norway::from_str(&text)
                    .with_context(|| format!("{} is no valid configuration", path.display()))?;
                if f.api_version != "kelson.dev/v1" || f.kind != "ServerConfiguration" {
                    bail!(
                        "{}: apiVersion must be kelson.dev/v1 and kind ServerConfiguration",
                        path.display()
                    );
                }
                f
            }
        };
        let machine = MachineFile {
            data_dir: f.data_dir,
            node_name: f.node_name,
            node_labels: f.node_labels,
            kubelet_port: f.kubelet_port,
            log: f.log,
            log_json: f.log_json,
            insecure_registries: f.insecure_registries,
            registry_mirrors: f.registry_mirrors,
            static_pods: f.static_pods,
            eviction_hard: f.eviction_hard,
            image_gc_high_threshold: f.image_gc_high_threshold,
        };
        let (instance, machine) = Machine::new(a.node, machine)?;
        let (services, pods) = (a.service_cidr.or(f.service_cidr), a.cluster_cidr.or(f.cluster_cidr));
        let own_networks = services.is_none() && pods.is_none();
        let own = crate::networks::choose(&instance, &[]);
        let service_cidrs = cidrs("service-cidr", &services.unwrap_or(own.services))?;
        let cluster_cidrs = cidrs("cluster-cidr", &pods.unwrap_or(own.pods))?;
        if service_cidrs.iter().any(|s| cluster_cidrs.iter().any(|c| s.overlaps(c))) {
            bail!("--service-cidr and --cluster-cidr overlap; give them networks of their own");
        }
        let listen = a.listen.or(f.listen).unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 6443).into());
        let advertise = a
            .advertise_address
            .or(f.advertise_address)
            .or_else(|| own_address(true))
            .or_else(|| own_address(false))
            .unwrap_or(if listen.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { listen.ip() });
        for (flag, all) in [("service-cidr", &service_cidrs), ("cluster-cidr", &cluster_cidrs)] {
            if let Some(c) = all.iter().find(|c| c.contains(advertise)) {
                bail!(
                    "--{flag} {c} holds this server's own address {advertise}; choose another network, or another --advertise-address"
                );
            }
        }
        let mut disable = a.disable;
        disable.extend(f.disable);
        let known = |d: &&String| {
            PARTS.contains(&d.as_str()) || controllers::table::LOOPS.iter().any(|l| l.name == d.as_str())
        };
        if let Some(d) = disable.iter().find(|d| !known(d)) {
            let loops: Vec<&str> = controllers::table::LOOPS.iter().map(|l| l.name).collect();
            bail!(
                "--disable {d}: no such part; there are {}, and the controllers {}",
                PARTS.join(", "),
                loops.join(", ")
            );
        }
        let mut feature_gates = f.feature_gates;
        feature_gates.extend(gates(a.feature_gates.as_deref().unwrap_or_default())?);
        let mut runtime: Vec<String> =
            f.runtime_config.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        runtime.extend(a.runtime_config);
        let domain = name(
            "cluster-domain",
            a.cluster_domain.or(f.cluster_domain).unwrap_or_else(|| "cluster.local".into()),
        )?;
        let controllers = controllers::Config::default();
        let node_grace = match a.node_monitor_grace_period.or(f.node_monitor_grace_period) {
            Some(text) => duration("node-monitor-grace-period", &text)?,
            None => controllers.node_grace,
        };
        let terminated_pods = a
            .terminated_pod_gc_threshold
            .or(f.terminated_pod_gc_threshold)
            .unwrap_or(controllers.terminated_pods);
        let scheduler = match a.scheduler_config.or(f.scheduler_config) {
            Some(path) => scheduler_settings(&path)?,
            None => scheduler::Settings::default(),
        };
        if a.simulate_nodes > 0 {
            let own = usize::from(!(a.no_node || f.no_node));
            room(&cluster_cidrs, a.simulate_nodes + own)?;
            if disable.iter().any(|d| d == "cni" || d == "controllers" || d == "node-ipam") {
                bail!(
                    "--simulate-nodes needs blocks of pod addresses: leave cni, controllers and node-ipam enabled"
                );
            }
        }
        let etcd = a.etcd.over(f.etcd).options()?;
        Ok(Self {
            listen,
            advertise,
            service_cidrs,
            cluster_cidrs,
            own_networks,
            domain,
            machine,
            node: !(a.no_node || f.no_node),
            disable,
            runtime_config: runtime.join(","),
            feature_gates,
            node_grace,
            terminated_pods,
            scheduler,
            simulated: a.simulate_nodes,
            failures: a.simulate_failures.unwrap_or_default(),
            autoscaling: a.autoscaling.over(f.autoscaling).settings()?,
            election: a.leader.over(f.leader_election).timing(etcd.is_some())?,
            etcd,
            instance,
        })
    }

    /// The networks chosen for this cluster take the place of those that follow from its name.
    pub fn settle(&mut self, networks: &Networks) -> anyhow::Result<()> {
        self.service_cidrs = cidrs("service-cidr", &networks.services)?;
        self.cluster_cidrs = cidrs("cluster-cidr", &networks.pods)?;
        Ok(())
    }

    pub fn enabled(&self, part: &str) -> bool {
        !self.disable.iter().any(|d| d == part)
    }

    /// The first address of each service network: the `kubernetes` Service.
    pub fn kubernetes_ips(&self) -> Vec<IpAddr> {
        self.service_cidrs.iter().filter_map(|c| c.nth(1)).collect()
    }

    /// This node's addresses: the one it is known by, and one of the other family where pods have both.
    pub fn node_ips(&self) -> Vec<IpAddr> {
        let v4 = self.advertise.is_ipv4();
        let both = self.cluster_cidrs.iter().any(|c| c.addr.is_ipv4() != v4);
        let other = if both { own_address(!v4) } else { None };
        std::iter::once(self.advertise).chain(other).collect()
    }

    /// The tenth address of each service network: `kube-dns`.
    pub fn dns_ips(&self) -> Vec<IpAddr> {
        self.service_cidrs.iter().filter_map(|c| c.nth(10)).collect()
    }

    /// Whether this server's node has the first block of each cluster network: so it does where there is no other server, and
    /// starts its pods before it could ask for one.
    pub fn has_first_block(&self) -> bool {
        self.node && self.etcd.is_none()
    }

    pub fn first_block(&self) -> Vec<Cidr> {
        controllers::node_blocks(&self.cluster_cidrs, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::NodeArgs;

    #[test]
    fn defaults_and_a_second_cluster() {
        let c = Config::new(ServerArgs::default()).expect("config");
        assert_eq!(
            (c.listen.port(), c.instance.bridge.as_str(), c.machine.kubelet_port),
            (6443, "kelson0", 10250)
        );
        assert_eq!(c.dns_ips(), ["10.96.0.10".parse::<IpAddr>().expect("ip")]);
        assert_eq!(c.first_block()[0].to_string(), "10.244.0.0/24");
        let other = Config::new(ServerArgs {
            node: NodeArgs { data_dir: Some("/tmp/kelson-two".into()), ..NodeArgs::default() },
            ..ServerArgs::default()
        })
        .expect("config");
        assert_ne!(other.instance.bridge, c.instance.bridge);
        assert_ne!(other.cluster_cidrs, c.cluster_cidrs);
        assert!(other.instance.bridge.len() <= 15 && other.machine.kubelet_port == 0);
    }

    #[test]
    fn wrong_flags_are_told_in_words() {
        let wrong = |a: ServerArgs| format!("{:#}", Config::new(a).expect_err("must be refused"));
        assert!(
            wrong(ServerArgs { disable: vec!["nonsense".into()], ..ServerArgs::default() })
                .contains("no such part")
        );
        assert!(
            wrong(ServerArgs { service_cidr: Some("10.244.1.0/24".into()), ..ServerArgs::default() })
                .contains("overlap")
        );
        let services =
            |cidr: &str| wrong(ServerArgs { service_cidr: Some(cidr.into()), ..ServerArgs::default() });
        assert!(services("10.96.0.1/16").contains("write 10.96.0.0/16"));
        assert!(services("10.96.0.0/29").contains("too small"));
        assert!(services("10.96.0.0/16,10.97.0.0/16").contains("at most one IPv4"));
        let own = ServerArgs {
            advertise_address: Some("10.244.3.4".parse().expect("ip")),
            ..ServerArgs::default()
        };
        assert!(wrong(own).contains("own address 10.244.3.4"));
        assert!(
            wrong(ServerArgs {
                node: NodeArgs { node_name: Some("Not_A_Name".into()), ..NodeArgs::default() },
                ..ServerArgs::default()
            })
            .contains("--node-name")
        );
        assert!(
            wrong(ServerArgs { cluster_cidr: Some("ten".into()), ..ServerArgs::default() })
                .contains("--cluster-cidr")
        );
        let grace =
            |t: &str| ServerArgs { node_monitor_grace_period: Some(t.into()), ..ServerArgs::default() };
        assert!(wrong(grace("50")).contains("such as 50s") && wrong(grace("5d")).contains("such as 50s"));
        assert_eq!(Config::new(grace("1.5m")).expect("config").node_grace, Duration::from_secs(90));
        assert!(
            wrong(ServerArgs {
                node: NodeArgs { eviction_hard: Some("memory<1".into()), ..NodeArgs::default() },
                ..ServerArgs::default()
            })
            .contains("--eviction-hard")
        );
        assert!(
            wrong(ServerArgs { feature_gates: Some("X=maybe".into()), ..ServerArgs::default() })
                .contains("true or false")
        );
    }
}
