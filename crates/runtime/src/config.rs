//! What tells one runtime on a machine from another, and what it is given from outside.

use async_trait::async_trait;
use cri::PortMapping;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Clone)]
pub struct RuntimeConfig {
    /// Survives reboots: images, layers, records.
    pub root: PathBuf,
    /// Sockets and namespaces; may be a tmpfs.
    pub run: PathBuf,
    /// Where network namespaces are bound; usually `<run>/netns`.
    pub netns_dir: PathBuf,
    /// Parent of sandboxes whose config names no cgroup parent; removed by `destroy_all` with all below it.
    pub cgroup_root: String,
    pub instance: String,
    pub shim: ShimCommand,
    pub network: Arc<dyn PodNetwork>,
    /// Registries (`host:port`) spoken to without TLS, besides loopback.
    pub insecure_registries: Vec<String>,
    /// Registry (`host:port`) to URLs that are asked before it.
    pub registry_mirrors: BTreeMap<String, Vec<String>>,
}

impl RuntimeConfig {
    /// Paths for an instance below a data directory.
    pub fn new(root: impl Into<PathBuf>, instance: &str, network: Arc<dyn PodNetwork>) -> Self {
        let run = PathBuf::from("/run/kelson").join(instance);
        RuntimeConfig {
            root: root.into(),
            netns_dir: run.join("netns"),
            run,
            cgroup_root: format!("/kelson-{instance}"),
            instance: instance.to_string(),
            shim: ShimCommand::default(),
            network,
            insecure_registries: Vec::new(),
            registry_mirrors: BTreeMap::new(),
        }
    }
}

/// How the shim is started: `program args… --dir DIR`.
#[derive(Clone, Debug)]
pub struct ShimCommand {
    pub program: PathBuf,
    pub args: Vec<String>,
}

impl Default for ShimCommand {
    /// This very program, also when its file has been replaced.
    fn default() -> Self {
        ShimCommand { program: "/proc/self/exe".into(), args: vec!["shim".into()] }
    }
}

/// What a network plug-in is told about a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetRequest {
    pub sandbox_id: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// A bound network namespace with `lo` up.
    pub netns: PathBuf,
    pub hostname: String,
    pub port_mappings: Vec<PortMapping>,
    pub labels: cri::StringMap,
    pub annotations: cri::StringMap,
}

/// Connects pods. The `cni` crate implements it; injected, so that the runtime knows nothing of networks.
#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    /// Gives the pod's addresses, the primary one first.
    async fn setup(&self, req: &NetRequest) -> Result<Vec<IpAddr>, String>;
    /// Idempotent; the namespace may be gone already.
    async fn teardown(&self, req: &NetRequest) -> Result<(), String>;
    /// `Err`: why pods can't be connected now (the `NetworkReady` condition).
    async fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Pods with nothing but a loopback.
pub struct LoopbackOnly;

#[async_trait]
impl PodNetwork for LoopbackOnly {
    async fn setup(&self, _: &NetRequest) -> Result<Vec<IpAddr>, String> {
        Ok(Vec::new())
    }
    async fn teardown(&self, _: &NetRequest) -> Result<(), String> {
        Ok(())
    }
}
