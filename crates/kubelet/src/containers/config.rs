//! The CRI configs of a sandbox and of a container: everything known about them put into one message. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use cri::{
    ContainerConfig, ContainerMetadata, DnsConfig, ImageSpec, KeyValue, LinuxContainerConfig,
    LinuxPodSandboxConfig, Mount, MountPropagation, PodSandboxConfig, PodSandboxMetadata, PortMapping,
    Protocol, StringMap,
};

use crate::config::Config;
use crate::containers::expand::expand;
use crate::containers::{netfiles, resources, security};
use crate::pod::{Container, Kind, Pod};

pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
pub const HASH: &str = "io.kubernetes.container.hash";
pub const RESTARTS: &str = "io.kubernetes.container.restartCount";
pub const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
pub const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
/// Ours: where the termination message lies on the host.
pub const MESSAGE_FILE: &str = "io.kelson.container.messageFile";
/// Ours: the resources it was made with, as JSON.
pub const RESOURCES: &str = "io.kelson.container.resources";
/// Ours: which list of the spec the container came from.
pub const KIND: &str = "io.kelson.container.kind";

pub fn pod_labels(pod: &Pod) -> StringMap {
    let m = &pod.metadata;
    let own = [(POD_NAME, &m.name), (POD_NAMESPACE, &m.namespace), (POD_UID, &m.uid)];
    let mut labels: StringMap = m.labels.clone();
    labels.extend(own.into_iter().map(|(k, v)| (k.to_owned(), v.clone())));
    labels
}

/// `<namespace>_<name>_<uid>`, the pod's directory of logs.
pub fn log_dir_name(pod: &Pod) -> String {
    format!("{}_{}_{}", pod.metadata.namespace, pod.metadata.name, pod.metadata.uid)
}

pub fn sandbox(cfg: &Config, pod: &Pod, attempt: u32, node_dns: &netfiles::Dns) -> PodSandboxConfig {
    let cluster: Vec<String> = cfg.cluster_dns.iter().map(ToString::to_string).collect();
    let dns = netfiles::dns(pod, &cluster, &cfg.cluster_domain, node_dns);
    let ports = pod.all().flat_map(|(_, c)| &c.ports).map(|p| PortMapping {
        protocol: match p.protocol.as_str() {
            "UDP" => Protocol::Udp,
            "SCTP" => Protocol::Sctp,
            _ => Protocol::Tcp,
        },
        container_port: p.container_port,
        host_port: p.host_port,
        host_ip: p.host_ip.clone(),
    });
    let hostname = if pod.spec.host_network && pod.spec.hostname_override.is_none() {
        String::new()
    } else if pod.spec.set_hostname_as_fqdn {
        pod.fqdn(&cfg.cluster_domain).unwrap_or_else(|| pod.hostname())
    } else {
        pod.hostname()
    };
    let m = &pod.metadata;
    PodSandboxConfig {
        metadata: PodSandboxMetadata {
            name: m.name.clone(),
            uid: m.uid.clone(),
            namespace: m.namespace.clone(),
            attempt,
        },
        hostname,
        log_directory: cfg.pods_log_dir.join(log_dir_name(pod)).to_string_lossy().into_owned(),
        dns_config: Some(DnsConfig { servers: dns.servers, searches: dns.searches, options: dns.options }),
        port_mappings: if pod.spec.host_network { Vec::new() } else { ports.collect() },
        labels: pod_labels(pod),
        annotations: m.annotations.clone(),
        linux: LinuxPodSandboxConfig {
            cgroup_parent: resources::pod_cgroup(&cfg.cgroup_root, pod),
            security_context: security::sandbox(pod, &defaults(cfg, &seccomp_dir(cfg))),
            sysctls: pod
                .spec
                .security_context
                .sysctls
                .iter()
                .map(|s| (s.name.clone(), s.value.clone()))
                .collect(),
            overhead: None,
            resources: None,
        },
    }
}

fn seccomp_dir(cfg: &Config) -> String {
    cfg.root_dir.join("seccomp").to_string_lossy().into_owned()
}

fn defaults<'a>(cfg: &Config, dir: &'a str) -> security::Defaults<'a> {
    security::Defaults { seccomp: cfg.seccomp_default, seccomp_dir: dir }
}

/// What the caller found out about a container before it can be made.
pub struct Parts<'a> {
    pub kind: Kind,
    pub attempt: u32,
    pub image_id: &'a str,
    pub env: BTreeMap<String, String>,
    pub mounts: Vec<Mount>,
    /// Container whose pid namespace an ephemeral container joins.
    pub target_id: Option<String>,
    /// Host file of the termination message.
    pub message_file: &'a Path,
    pub memory_capacity: i64,
}

pub fn container(cfg: &Config, pod: &Pod, c: &Container, p: Parts<'_>) -> ContainerConfig {
    let look = |n: &str| p.env.get(n).cloned();
    let expand_all = |l: &[String]| l.iter().map(|s| expand(s, &look)).collect::<Vec<_>>();
    let mut labels = pod_labels(pod);
    labels.retain(|k, _| k.starts_with("io.kubernetes."));
    labels.insert(CONTAINER_NAME.into(), c.name.clone());
    let kind = match p.kind {
        Kind::Init => "init",
        Kind::Sidecar => "sidecar",
        Kind::App => "app",
        Kind::Ephemeral => "ephemeral",
    };
    let annotations: StringMap = [
        (HASH, c.hash()),
        (RESTARTS, p.attempt.to_string()),
        (MESSAGE_PATH, c.message_path().to_owned()),
        (MESSAGE_POLICY, if c.falls_back_to_logs() { "FallbackToLogsOnError".into() } else { "File".into() }),
        (GRACE, pod.spec.termination_grace_period_seconds.unwrap_or(30).to_string()),
        (MESSAGE_FILE, p.message_file.to_string_lossy().into_owned()),
        (KIND, kind.to_owned()),
        (RESOURCES, serde_json::to_string(&c.resources).unwrap_or_default()),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v))
    .collect();
    let mut linux = LinuxContainerConfig {
        resources: resources::container(pod, c, p.memory_capacity),
        security_context: security::container(
            pod,
            c,
            p.target_id.as_deref(),
            &defaults(cfg, &seccomp_dir(cfg)),
        ),
    };
    if cfg.pod_pids_limit > 0 {
        linux.resources.pids_limit = cfg.pod_pids_limit;
    }
    ContainerConfig {
        metadata: ContainerMetadata { name: c.name.clone(), attempt: p.attempt },
        image: ImageSpec {
            image: p.image_id.to_owned(),
            user_specified_image: c.image.clone(),
            ..ImageSpec::default()
        },
        command: expand_all(&c.command),
        args: expand_all(&c.args),
        working_dir: c.working_dir.clone(),
        mounts: p.mounts,
        labels,
        annotations,
        log_path: format!("{}/{}.log", c.name, p.attempt),
        stdin: c.stdin,
        stdin_once: c.stdin_once,
        tty: c.tty,
        linux,
        stop_signal: c.lifecycle.stop_signal.clone().unwrap_or_default(),
        envs: p.env.into_iter().map(|(key, value)| KeyValue { key, value }).collect(),
        ..ContainerConfig::default()
    }
}

pub fn propagation(mode: Option<&str>) -> MountPropagation {
    match mode {
        Some("HostToContainer") => MountPropagation::HostToContainer,
        Some("Bidirectional") => MountPropagation::Bidirectional,
        _ => MountPropagation::Private,
    }
}
