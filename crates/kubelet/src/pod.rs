//! Small typed views of the Pod fields the kubelet reads. Fields that a hand-written manifest may leave out get
//! upstream's defaults from the accessors, since static pods never pass the API server's defaulting.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::podstatus::PodStatus;

/// A quantity as written; a bare number in a manifest is accepted as well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Qty(pub String);

impl<'de> Deserialize<'de> for Qty {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(match Value::deserialize(d)? {
            Value::String(s) => Qty(s),
            Value::Number(n) => Qty(n.to_string()),
            _ => Qty(String::new()),
        })
    }
}
impl Serialize for Qty {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

pub type Quantities = BTreeMap<String, Qty>;

macro_rules! view {
    ($(#[$m:meta])* $name:ident { $($(#[$fm:meta])* $field:ident : $ty:ty),* $(,)? }) => {
        $(#[$m])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name { $($(#[$fm])* pub $field: $ty),* }
    };
}

view!(Pod {
    metadata: PodMeta,
    spec: PodSpec,
    status: PodStatus,
    /// A resize that the node can't grant yet.
    #[serde(skip)]
    pending: Option<Pending>,
});

#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    pub reason: String,
    pub message: String,
    pub generation: i64,
    /// RFC 3339.
    pub since: String,
}

view!(PodMeta {
    name: String,
    namespace: String,
    uid: String,
    generation: i64,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<String>,
    deletion_grace_period_seconds: Option<i64>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    finalizers: Vec<String>,
    owner_references: Vec<api::OwnerReference>,
});
view!(PodSpec {
    volumes: Vec<Volume>,
    init_containers: Vec<Container>,
    containers: Vec<Container>,
    ephemeral_containers: Vec<Container>,
    restart_policy: String,
    termination_grace_period_seconds: Option<i64>,
    active_deadline_seconds: Option<i64>,
    dns_policy: String,
    dns_config: DnsConfig,
    service_account_name: String,
    automount_service_account_token: Option<bool>,
    node_name: String,
    host_network: bool,
    #[serde(rename = "hostPID")]
    host_pid: bool,
    #[serde(rename = "hostIPC")]
    host_ipc: bool,
    host_users: Option<bool>,
    share_process_namespace: bool,
    security_context: PodSecurityContext,
    image_pull_secrets: Vec<LocalRef>,
    hostname: String,
    hostname_override: Option<String>,
    subdomain: String,
    #[serde(rename = "setHostnameAsFQDN")]
    set_hostname_as_fqdn: bool,
    host_aliases: Vec<HostAlias>,
    enable_service_links: Option<bool>,
    readiness_gates: Vec<ReadinessGate>,
    runtime_class_name: Option<String>,
    priority: Option<i32>,
    priority_class_name: String,
    overhead: Quantities,
    resources: Resources,
    tolerations: Vec<Value>,
    node_selector: BTreeMap<String, String>,
});
view!(LocalRef { name: String, optional: Option<bool> });
view!(HostAlias { ip: String, hostnames: Vec<String> });
view!(ReadinessGate { condition_type: String });
view!(DnsConfig { nameservers: Vec<String>, searches: Vec<String>, options: Vec<DnsOption> });
view!(DnsOption { name: String, value: Option<String> });
view!(PodSecurityContext {
    run_as_user: Option<i64>,
    run_as_group: Option<i64>,
    run_as_non_root: Option<bool>,
    supplemental_groups: Vec<i64>,
    supplemental_groups_policy: Option<String>,
    fs_group: Option<i64>,
    fs_group_change_policy: Option<String>,
    seccomp_profile: Option<Profile>,
    app_armor_profile: Option<Profile>,
    se_linux_options: Option<SeLinux>,
    sysctls: Vec<Sysctl>,
});
view!(Sysctl { name: String, value: String });
view!(Profile {
    #[serde(rename = "type")]
    kind: String,
    localhost_profile: Option<String>,
});
view!(SeLinux {
    user: String,
    role: String,
    #[serde(rename = "type")]
    kind: String,
    level: String,
});
view!(Container {
    name: String,
    image: String,
    command: Vec<String>,
    args: Vec<String>,
    working_dir: String,
    ports: Vec<ContainerPort>,
    env_from: Vec<EnvFrom>,
    env: Vec<EnvVar>,
    resources: Resources,
    resize_policy: Vec<ResizePolicy>,
    volume_mounts: Vec<VolumeMount>,
    volume_devices: Vec<VolumeDevice>,
    restart_policy: Option<String>,
    liveness_probe: Option<Probe>,
    readiness_probe: Option<Probe>,
    startup_probe: Option<Probe>,
    lifecycle: Lifecycle,
    termination_message_path: String,
    termination_message_policy: String,
    image_pull_policy: String,
    security_context: SecurityContext,
    stdin: bool,
    stdin_once: bool,
    tty: bool,
    target_container_name: String,
});
view!(ContainerPort {
    name: String,
    container_port: i32,
    host_port: i32,
    #[serde(rename = "hostIP")]
    host_ip: String,
    protocol: String,
});
view!(EnvFrom { prefix: String, config_map_ref: Option<LocalRef>, secret_ref: Option<LocalRef> });
view!(EnvVar { name: String, value: String, value_from: Option<EnvSource> });
view!(EnvSource {
    field_ref: Option<FieldRef>,
    resource_field_ref: Option<ResourceFieldRef>,
    config_map_key_ref: Option<KeyRef>,
    secret_key_ref: Option<KeyRef>,
});
view!(FieldRef { api_version: String, field_path: String });
view!(ResourceFieldRef { container_name: String, resource: String, divisor: Qty });
view!(KeyRef { name: String, key: String, optional: Option<bool> });
view!(ResizePolicy { resource_name: String, restart_policy: String });
view!(Resources { limits: Quantities, requests: Quantities });
view!(VolumeMount {
    name: String,
    read_only: bool,
    recursive_read_only: Option<String>,
    mount_path: String,
    sub_path: String,
    sub_path_expr: String,
    mount_propagation: Option<String>,
});
view!(VolumeDevice { name: String, device_path: String });
view!(Lifecycle { post_start: Option<Handler>, pre_stop: Option<Handler>, stop_signal: Option<String> });
view!(Handler {
    exec: Option<ExecAction>,
    http_get: Option<HttpGet>,
    tcp_socket: Option<TcpSocket>,
    sleep: Option<SleepAction>,
    grpc: Option<GrpcAction>,
});
view!(ExecAction { command: Vec<String> });
view!(SleepAction { seconds: i64 });
view!(TcpSocket { port: Value, host: String });
view!(GrpcAction { port: i32, service: Option<String> });
view!(HttpGet { path: String, port: Value, host: String, scheme: String, http_headers: Vec<HttpHeader> });
view!(HttpHeader { name: String, value: String });
view!(Probe {
    exec: Option<ExecAction>,
    http_get: Option<HttpGet>,
    tcp_socket: Option<TcpSocket>,
    grpc: Option<GrpcAction>,
    initial_delay_seconds: i32,
    timeout_seconds: i32,
    period_seconds: i32,
    success_threshold: i32,
    failure_threshold: i32,
    termination_grace_period_seconds: Option<i64>,
});
view!(SecurityContext {
    capabilities: Capabilities,
    privileged: Option<bool>,
    se_linux_options: Option<SeLinux>,
    run_as_user: Option<i64>,
    run_as_group: Option<i64>,
    run_as_non_root: Option<bool>,
    read_only_root_filesystem: Option<bool>,
    allow_privilege_escalation: Option<bool>,
    proc_mount: Option<String>,
    seccomp_profile: Option<Profile>,
    app_armor_profile: Option<Profile>,
});
view!(Capabilities { add: Vec<String>, drop: Vec<String> });
view!(Volume {
    name: String,
    config_map: Option<ConfigMapVolume>,
    secret: Option<SecretVolume>,
    empty_dir: Option<EmptyDir>,
    host_path: Option<HostPath>,
    projected: Option<Projected>,
    #[serde(rename = "downwardAPI")]
    downward_api: Option<DownwardVolume>,
    persistent_volume_claim: Option<ClaimVolume>,
    image: Option<ImageVolume>,
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
});
view!(ImageVolume { reference: String, pull_policy: String });
view!(ClaimVolume { claim_name: String, read_only: bool });
view!(KeyToPath { key: String, path: String, mode: Option<i32> });
view!(ConfigMapVolume { name: String, items: Vec<KeyToPath>, default_mode: Option<i32>, optional: Option<bool> });
view!(SecretVolume { secret_name: String, items: Vec<KeyToPath>, default_mode: Option<i32>, optional: Option<bool> });
view!(EmptyDir { medium: String, size_limit: Option<Qty> });
view!(HostPath {
    path: String,
    #[serde(rename = "type")]
    kind: Option<String>,
});
view!(Projected { sources: Vec<ProjectedSource>, default_mode: Option<i32> });
view!(ProjectedSource {
    config_map: Option<ProjectedRef>,
    secret: Option<ProjectedRef>,
    #[serde(rename = "downwardAPI")]
    downward_api: Option<DownwardVolume>,
    service_account_token: Option<TokenSource>,
    cluster_trust_bundle: Option<TrustSource>,
    pod_certificate: Option<CertificateSource>,
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
});
view!(CertificateSource {
    signer_name: String,
    key_type: String,
    max_expiration_seconds: Option<i64>,
    credential_bundle_path: String,
    key_path: String,
    certificate_chain_path: String,
    user_annotations: BTreeMap<String, String>,
});
view!(TrustSource {
    name: Option<String>,
    signer_name: Option<String>,
    label_selector: Option<Value>,
    optional: Option<bool>,
    path: String,
});
view!(ProjectedRef { name: String, items: Vec<KeyToPath>, optional: Option<bool> });
view!(TokenSource { audience: String, expiration_seconds: Option<i64>, path: String });
view!(DownwardVolume { items: Vec<DownwardFile>, default_mode: Option<i32> });
view!(DownwardFile {
    path: String,
    field_ref: Option<FieldRef>,
    resource_field_ref: Option<ResourceFieldRef>,
    mode: Option<i32>,
});

/// Which list of the spec a container stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Init,
    Sidecar,
    App,
    Ephemeral,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub fn as_str(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }
}

pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
pub const HASH_ANNOTATION: &str = "kubernetes.io/config.hash";
pub const SOURCE_ANNOTATION: &str = "kubernetes.io/config.source";

impl Pod {
    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.metadata.namespace, self.metadata.name)
    }
    pub fn is_mirror(&self) -> bool {
        self.metadata.annotations.contains_key(MIRROR_ANNOTATION)
    }
    pub fn is_static(&self) -> bool {
        self.metadata.annotations.get(SOURCE_ANNOTATION).is_some_and(|s| s != "api")
    }
    pub fn is_critical(&self) -> bool {
        self.is_static() || self.spec.priority.unwrap_or(0) >= 2_000_000_000
    }
    pub fn deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }
    pub fn finished(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }
    pub fn grace_seconds(&self) -> i64 {
        self.metadata
            .deletion_grace_period_seconds
            .or(self.spec.termination_grace_period_seconds)
            .unwrap_or(30)
            .max(0)
    }
    /// The QoS class by upstream's rule; what the API server stored wins.
    pub fn qos(&self) -> Qos {
        match self.status.qos_class.as_str() {
            "Guaranteed" => return Qos::Guaranteed,
            "Burstable" => return Qos::Burstable,
            "BestEffort" => return Qos::BestEffort,
            _ => {}
        }
        let nonzero = |q: &Qty| crate::quantity::parse(&q.0).is_some_and(|v| v > 0.0);
        let mut any = false;
        let mut guaranteed = true;
        for c in self.spec.containers.iter().chain(&self.spec.init_containers) {
            for res in ["cpu", "memory"] {
                let limit = c.resources.limits.get(res).filter(|q| nonzero(q));
                let request = c.resources.requests.get(res).filter(|q| nonzero(q)).or(limit);
                any |= limit.is_some() || request.is_some();
                guaranteed &= match (limit, request) {
                    (Some(l), Some(r)) => crate::quantity::parse(&l.0) == crate::quantity::parse(&r.0),
                    _ => false,
                };
            }
        }
        match (any, guaranteed) {
            (false, _) => Qos::BestEffort,
            (true, true) => Qos::Guaranteed,
            (true, false) => Qos::Burstable,
        }
    }
    /// Every container with its kind, in spec order: init and sidecars, apps, ephemeral.
    pub fn all(&self) -> impl Iterator<Item = (Kind, &Container)> {
        let init = self.spec.init_containers.iter().map(|c| (c.init_kind(), c));
        let app = self.spec.containers.iter().map(|c| (Kind::App, c));
        init.chain(app).chain(self.spec.ephemeral_containers.iter().map(|c| (Kind::Ephemeral, c)))
    }
    pub fn container(&self, name: &str) -> Option<(Kind, &Container)> {
        self.all().find(|(_, c)| c.name == name)
    }
    pub fn hostname(&self) -> String {
        let base = match (&self.spec.hostname_override, self.spec.hostname.is_empty()) {
            (Some(h), _) => h.clone(),
            (None, false) => self.spec.hostname.clone(),
            (None, true) => self.metadata.name.clone(),
        };
        let mut cut: String = base.chars().take(63).collect();
        while cut.ends_with(['-', '.']) {
            cut.pop();
        }
        cut
    }
    /// `hostname.subdomain.namespace.svc.domain` when a subdomain is set.
    pub fn fqdn(&self, domain: &str) -> Option<String> {
        (!self.spec.subdomain.is_empty()).then(|| {
            format!("{}.{}.{}.svc.{domain}", self.hostname(), self.spec.subdomain, self.metadata.namespace)
        })
    }
}

/// The policy that was asked for, or what the image's name makes of it.
pub fn pull_policy<'a>(asked: &'a str, image: &str) -> &'a str {
    if !asked.is_empty() {
        return asked;
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    let moves = !image.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
    if moves { "Always" } else { "IfNotPresent" }
}

impl PodSpec {
    pub fn policy(&self) -> RestartPolicy {
        match self.restart_policy.as_str() {
            "Never" => RestartPolicy::Never,
            "OnFailure" => RestartPolicy::OnFailure,
            _ => RestartPolicy::Always,
        }
    }
    pub fn dns_policy(&self) -> &str {
        if self.dns_policy.is_empty() { "ClusterFirst" } else { &self.dns_policy }
    }
    pub fn service_account(&self) -> &str {
        if self.service_account_name.is_empty() { "default" } else { &self.service_account_name }
    }
}

impl Container {
    pub fn init_kind(&self) -> Kind {
        if self.restart_policy.as_deref() == Some("Always") { Kind::Sidecar } else { Kind::Init }
    }
    pub fn message_path(&self) -> &str {
        if self.termination_message_path.is_empty() {
            "/dev/termination-log"
        } else {
            &self.termination_message_path
        }
    }
    pub fn falls_back_to_logs(&self) -> bool {
        self.termination_message_policy == "FallbackToLogsOnError"
    }
    /// Always for `:latest` or no tag, IfNotPresent otherwise, unless said.
    pub fn pull_policy(&self) -> &str {
        pull_policy(&self.image_pull_policy, &self.image)
    }
    /// A named or numeric port of this container.
    pub fn resolve_port(&self, port: &Value) -> Option<u16> {
        match port {
            Value::Number(n) => n.as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0),
            Value::String(s) => s.parse::<u16>().ok().filter(|n| *n > 0).or_else(|| {
                self.ports.iter().find(|p| p.name == *s).and_then(|p| u16::try_from(p.container_port).ok())
            }),
            _ => None,
        }
    }
    /// A hash of what a change of the spec must restart a container for (upstream: the image alone is mutable).
    pub fn hash(&self) -> String {
        use sha2::{Digest, Sha256};
        let d = Sha256::digest(format!("{}\0{}", self.name, self.image).as_bytes());
        d.iter().take(4).map(|b| format!("{b:02x}")).collect()
    }
}

impl Probe {
    pub fn timeout(&self) -> std::time::Duration {
        std::time::Duration::from_secs(u64::try_from(self.timeout_seconds.max(1)).unwrap_or(1))
    }
    pub fn period(&self) -> std::time::Duration {
        let s = if self.period_seconds <= 0 { 10 } else { self.period_seconds };
        std::time::Duration::from_secs(u64::try_from(s).unwrap_or(10))
    }
    pub fn failures(&self) -> i32 {
        if self.failure_threshold <= 0 { 3 } else { self.failure_threshold }
    }
    pub fn successes(&self) -> i32 {
        self.success_threshold.max(1)
    }
}

/// Nulls of a hand-written manifest mean "absent"; the views know no null.
pub fn strip_nulls(v: &mut Value) {
    match v {
        Value::Object(m) => {
            m.retain(|_, v| !v.is_null());
            m.values_mut().for_each(strip_nulls);
        }
        Value::Array(a) => a.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(image: &str) -> Container {
        Container { image: image.into(), ..Container::default() }
    }

    #[test]
    fn pull_policy_follows_the_tag() {
        for (image, want) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1", "IfNotPresent"),
            ("reg:5000/nginx", "Always"),
            ("reg:5000/nginx:2", "IfNotPresent"),
            ("nginx@sha256:00", "IfNotPresent"),
        ] {
            assert_eq!(container(image).pull_policy(), want, "{image}");
        }
    }

    #[test]
    fn qos_classes() {
        let pod = |res: Value| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [{"name": "a", "resources": res}]}}))
                .expect("pod")
        };
        assert_eq!(pod(json!({})).qos(), Qos::BestEffort);
        assert_eq!(pod(json!({"requests": {"cpu": "1"}})).qos(), Qos::Burstable);
        assert_eq!(pod(json!({"limits": {"cpu": 1, "memory": "1Gi"}})).qos(), Qos::Guaranteed);
        assert_eq!(
            pod(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}})).qos(),
            Qos::Burstable
        );
    }
}
