//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "kelson", about = "All of Kubernetes in one program", disable_version_flag = true)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a cluster: API server, store, controllers, scheduler and, unless --no-node, a node.
    Server(Box<ServerArgs>),
    /// Join this machine to a cluster as a node.
    Agent(Box<AgentArgs>),
    /// Make, list and remove the tokens with which machines join a cluster.
    Token(crate::token::TokenArgs),
    /// Say why a thing does not do what it should, and what would help: `why pod web`, `why deployment/web`, or all there is.
    Why(crate::why::WhyArgs),
    /// Bring images onto this node, list and remove them.
    Image(ImageArgs),
    /// Write the whole cluster as it is at one moment into a file, while it runs or not.
    Backup(BackupArgs),
    /// Fill a stopped, empty cluster from a backup.
    Restore(RestoreArgs),
    /// Look into a cluster's store: what is in it, how big it is, whether it is whole.
    Store(StoreArgs),
    /// Remove every trace of a stopped cluster from this machine.
    Clean(CleanArgs),
    /// Print the version.
    Version,
}

/// What a machine is told, whether its server is in the same process or elsewhere.
#[derive(Debug, Default, ClapArgs)]
pub struct NodeArgs {
    /// Where everything is kept [default: /var/lib/kelson].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Name of this node [default: the host name].
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Labels of this node, such as `topology.kubernetes.io/zone=a,disk=fast`.
    #[arg(long, value_name = "KEY=VALUE,…", value_delimiter = ',')]
    pub node_labels: Vec<String>,
    /// Port of the kubelet's own HTTPS server; 0: none [default: 10250, none for a second cluster].
    #[arg(long, value_name = "PORT")]
    pub kubelet_port: Option<u16>,
    /// What to log: error, warn, info, debug, trace, or a filter such as `info,kubelet=debug` [default: info].
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// Log lines as JSON.
    #[arg(long)]
    pub log_json: bool,
    /// Registries (host:port) to speak to without TLS, with commas; loopback always may.
    #[arg(long, value_name = "HOSTS", value_delimiter = ',')]
    pub insecure_registries: Vec<String>,
    /// Places asked before a registry: `registry.k8s.io=https://mirror.example,…`.
    #[arg(long, value_name = "HOST=URL,…", value_delimiter = ',')]
    pub registry_mirrors: Vec<String>,
    /// What must stay available on the node, else pods are evicted: `memory.available<100Mi,nodefs.available<10%,…`.
    #[arg(long, value_name = "SIGNAL<VALUE,…")]
    pub eviction_hard: Option<String>,
    /// Images that no pod uses go above this use of their disk, in percent; 100: never [default: 85].
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub image_gc_high_threshold: Option<u8>,
    /// Directory of static pod manifests [default: <data-dir>/manifests].
    #[arg(long, value_name = "DIR")]
    pub static_pods: Option<PathBuf>,
}

#[derive(Debug, Default, ClapArgs)]
pub struct ServerArgs {
    #[command(flatten)]
    pub node: NodeArgs,
    /// Address and port of the API server [default: 0.0.0.0:6443].
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Address under which others reach this server [default: that of the default route].
    #[arg(long, value_name = "IP")]
    pub advertise_address: Option<IpAddr>,
    /// Network of service addresses; two with a comma for dual stack [default: 10.96.0.0/16].
    #[arg(long, value_name = "CIDR[,CIDR]")]
    pub service_cidr: Option<String>,
    /// Network of pod addresses; two with a comma for dual stack [default: 10.244.0.0/16].
    #[arg(long, value_name = "CIDR[,CIDR]")]
    pub cluster_cidr: Option<String>,
    /// Domain of the cluster's DNS [default: cluster.local].
    #[arg(long, value_name = "NAME")]
    pub cluster_domain: Option<String>,
    /// A control plane alone: nothing runs, nothing needs root.
    #[arg(long)]
    pub no_node: bool,
    /// Nodes that this process only plays, for tests and planning (docs/simulation.md).
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub simulate_nodes: usize,
    /// What goes wrong on them: `crash=2%,image=1%,node=0.5%` [default: nothing].
    #[arg(long, value_name = "WHAT=SHARE,…", requires = "simulate_nodes")]
    pub simulate_failures: Option<simulate::Failures>,
    /// Parts to leave out, with commas: proxy, dns, cni, metrics, scheduler, controllers, or the name of one controller.
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    pub disable: Vec<String>,
    /// Configuration file (YAML); flags win over it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// API versions to switch on or off: `api/beta=true,group/version=false`.
    #[arg(long, value_name = "KEY=VALUE,…")]
    pub runtime_config: Option<String>,
    /// Features to switch on or off: `Name=true,…`.
    #[arg(long, value_name = "NAME=BOOL,…")]
    pub feature_gates: Option<String>,
    /// How long a node may be silent before it counts as unreachable [default: 50s].
    #[arg(long, value_name = "DURATION")]
    pub node_monitor_grace_period: Option<String>,
    /// Ended pods beyond this number are removed, the oldest first; 0: none [default: 12500].
    #[arg(long, value_name = "NUMBER")]
    pub terminated_pod_gc_threshold: Option<usize>,
    /// A KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1): profiles, plug-ins and their weights.
    #[arg(long, value_name = "FILE")]
    pub scheduler_config: Option<PathBuf>,
    #[command(flatten)]
    pub etcd: crate::etcd::EtcdArgs,
    #[command(flatten)]
    pub leader: crate::leader::LeaderArgs,
    #[command(flatten)]
    pub autoscaling: crate::autoscaling::AutoscalingArgs,
}

#[derive(Debug, ClapArgs)]
pub struct AgentArgs {
    /// The API server, such as https://10.0.0.1:6443 [default: the one joined before].
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// The token to join with, from `kelson token create`; not needed once joined.
    #[arg(long, value_name = "ID.SECRET", env = "KELSON_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The public key of the cluster's certificate authority; more than once, any of them will do.
    #[arg(long, value_name = "sha256:HASH")]
    pub ca_cert_hash: Vec<String>,
    /// This node's addresses, one per family [default: those of the default route].
    #[arg(long, value_name = "IP[,IP]", value_delimiter = ',')]
    pub node_ip: Vec<std::net::IpAddr>,
    #[command(flatten)]
    pub node: NodeArgs,
}

#[derive(Debug, ClapArgs)]
pub struct ImageArgs {
    #[command(subcommand)]
    pub command: ImageCommand,
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/kelson")]
    pub data_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Import an OCI or Docker archive.
    Import {
        archive: PathBuf,
        /// Name for the image, when the archive holds none or another one is wanted.
        #[arg(long)]
        name: Option<String>,
    },
    /// Pull an image from a registry.
    Pull { image: String },
    /// List images.
    Ls,
    /// Remove images.
    Rm {
        #[arg(required = true)]
        images: Vec<String>,
    },
}

/// Where a cluster's store is.
#[derive(Debug, ClapArgs)]
pub struct PlaceArgs {
    /// The cluster's data directory.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kelson")]
    pub data_dir: PathBuf,
    #[command(flatten)]
    pub etcd: crate::etcd::EtcdArgs,
}

#[derive(Debug, ClapArgs)]
pub struct BackupArgs {
    /// The file to write; readable by its owner only.
    pub file: PathBuf,
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Replace the file if it is there.
    #[arg(long)]
    pub force: bool,
    /// Leave out the cluster's keys: what is restored is a new cluster with the same objects.
    #[arg(long)]
    pub without_keys: bool,
}

#[derive(Debug, ClapArgs)]
pub struct RestoreArgs {
    /// The backup.
    pub file: PathBuf,
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Replace what is there.
    #[arg(long)]
    pub force: bool,
    /// Leave the keys that are in the backup alone.
    #[arg(long)]
    pub without_keys: bool,
    /// Begin above this revision, where the clock of this machine can't be trusted.
    #[arg(long, value_name = "NUMBER")]
    pub above_revision: Option<u64>,
    /// Verify the backup and tell what is in it; nothing is written.
    #[arg(long)]
    pub check: bool,
}

#[derive(Debug, ClapArgs)]
pub struct StoreArgs {
    #[command(subcommand)]
    pub command: StoreCommand,
}

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Revisions, sizes, and keys by kind.
    Status {
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// List keys.
    Ls {
        /// Only keys that begin so, such as /registry/pods/default/.
        #[arg(value_name = "PREFIX", default_value = "")]
        below: String,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Print the object under a key.
    Get {
        key: String,
        #[command(flatten)]
        place: PlaceArgs,
        /// yaml, json, or raw: the bytes as they are stored.
        #[arg(short, long, value_name = "FORM", default_value = "yaml", value_parser = ["yaml", "json", "raw"])]
        output: String,
    },
    /// Forget history: watches and lists from before are told to begin anew.
    Compact {
        /// Up to this revision [default: the newest].
        #[arg(long, value_name = "NUMBER")]
        revision: Option<u64>,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Verify every file and every object, and tell each fault with its place.
    Check {
        #[command(flatten)]
        place: PlaceArgs,
    },
}

#[derive(Debug, ClapArgs)]
pub struct CleanArgs {
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kelson")]
    pub data_dir: PathBuf,
    /// Keep the data directory's store, keys and images; remove only what runs and what the kernel holds.
    #[arg(long)]
    pub keep_data: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Args::command().debug_assert();
    }
}
