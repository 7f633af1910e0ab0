//! What a kubelet is told at its start.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::thresholds::Eviction;

#[derive(Debug, Clone)]
pub struct Config {
    pub node_name: String,
    /// Tells several clusters on one machine apart; part of nothing the API sees.
    pub instance: String,
    pub root_dir: PathBuf,
    pub pods_log_dir: PathBuf,
    pub containers_log_dir: PathBuf,
    pub static_pod_dir: Option<PathBuf>,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    pub node_ips: Vec<IpAddr>,
    pub node_labels: BTreeMap<String, String>,
    pub node_annotations: BTreeMap<String, String>,
    /// `Taint` objects the node registers with.
    pub taints: Vec<serde_json::Value>,
    pub max_pods: u32,
    /// First component of every cgroup path; empty: `/kubepods` itself.
    pub cgroup_root: String,
    /// False where the machine lets us make no cgroups (tests).
    pub manage_cgroups: bool,
    /// Pods without a seccomp profile get RuntimeDefault.
    pub seccomp_default: bool,
    /// 0: no limit of processes per container.
    pub pod_pids_limit: i64,
    pub resolv_conf: PathBuf,
    /// Port of the HTTPS server, for `status.daemonEndpoints`.
    pub port: u16,
    pub version: String,
    pub eviction: Eviction,
    pub image_gc: ImageGc,
    pub log_max_bytes: u64,
    pub log_max_files: usize,
    pub system_reserved_cpu_milli: i64,
    pub system_reserved_memory: i64,
    /// tmpfs for secrets and projected volumes; off where mounting is not allowed (tests).
    pub mount_tmpfs: bool,
}

#[derive(Debug, Clone)]
pub struct ImageGc {
    /// Collection starts above this use of the image file system, in percent.
    pub high_percent: f64,
    pub low_percent: f64,
    pub min_age_seconds: i64,
}

impl ImageGc {
    /// Starts above `percent` and goes on until five less are in use.
    pub fn above(percent: u8) -> Self {
        let high_percent = f64::from(percent);
        Self { high_percent, low_percent: (high_percent - 5.0).max(0.0), min_age_seconds: 120 }
    }
}

impl Default for ImageGc {
    fn default() -> Self {
        Self::above(85)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_name: "node".into(),
            instance: String::new(),
            root_dir: "/var/lib/kubelet".into(),
            pods_log_dir: "/var/log/pods".into(),
            containers_log_dir: "/var/log/containers".into(),
            static_pod_dir: None,
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            node_ips: Vec::new(),
            node_labels: BTreeMap::new(),
            node_annotations: BTreeMap::new(),
            taints: Vec::new(),
            max_pods: 110,
            cgroup_root: String::new(),
            manage_cgroups: true,
            seccomp_default: true,
            pod_pids_limit: 0,
            resolv_conf: "/etc/resolv.conf".into(),
            port: 10250,
            version: "v1.37.0".into(),
            eviction: Eviction::default(),
            image_gc: ImageGc::default(),
            log_max_bytes: 10 << 20,
            log_max_files: 5,
            system_reserved_cpu_milli: 0,
            system_reserved_memory: 0,
            mount_tmpfs: true,
        }
    }
}

impl Config {
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root_dir.join("pods").join(uid)
    }
    pub fn checkpoint_dir(&self) -> PathBuf {
        self.root_dir.join("checkpoint")
    }
}
