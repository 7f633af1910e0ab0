//! From "this container should run" to its running: image, environment, mounts, create, start, postStart.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use cri::{CriError, PodSandboxStatusResponse};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::Checkpoint;
use crate::containers::config::{self, Parts};
use crate::containers::env::{self, ServiceVars, Sources};
use crate::containers::security;
use crate::hooks::{PodCx, handler, image, sandbox};
use crate::node_ctx::Node;
use crate::pod::{Container, Kind, Pod};
use crate::volumes::mounts;

/// What waiting shows of a container whose postStart failed.
pub const POST_START_ERROR: &str = "PostStartHookError";
/// How long the first read of services may take before the start is tried again.
const SERVICES_READ: Duration = Duration::from_secs(20);

/// How a failed start is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Ten seconds doubling to five minutes.
    Image,
    /// Soon, and at once when an object it needs changes.
    Config,
    /// The container is there and has ended: its exit decides.
    Exit,
}

/// Why a container does not run: `state.waiting`.
#[derive(Debug, Clone, PartialEq)]
pub struct StartError {
    pub reason: String,
    pub message: String,
    /// What waiting shows once the first reason was seen for a while.
    pub later: Option<(String, String)>,
    pub retry: Retry,
    /// The container runs, but has to go (its postStart failed).
    pub kill: Option<String>,
}

impl StartError {
    pub fn config(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into(), later: None, retry: Retry::Config, kill: None }
    }
    fn exit(reason: &str, message: impl Into<String>) -> Self {
        Self { retry: Retry::Exit, ..Self::config(reason, message) }
    }
    pub fn image(reason: &str, message: impl Into<String>, later: impl Into<String>) -> Self {
        let later = Some(("ImagePullBackOff".to_owned(), later.into()));
        Self { reason: reason.into(), message: message.into(), later, retry: Retry::Image, kill: None }
    }
}

pub struct Start<'a> {
    pub sandbox_id: &'a str,
    pub sandbox_attempt: u32,
    pub pod_ips: &'a [String],
    pub volumes: &'a BTreeMap<String, PathBuf>,
    pub kind: Kind,
    pub container: &'a Container,
    pub attempt: u32,
    /// Id of the container an ephemeral one looks at.
    pub target_id: Option<String>,
    /// Set when the pod has to end: a pull or a hook is then given up. Calls that change the runtime are never cut off in
    /// the middle.
    pub cancel: &'a CancellationToken,
}

pub async fn start(cx: &PodCx, s: &Start<'_>) -> Result<PodSandboxStatusResponse, StartError> {
    let (node, pod, c) = (&cx.node, &cx.pod, s.container);
    let about = node.about_container(pod, &c.name);
    let config_error = |message: String| {
        node.recorder.warning(node.about_container(pod, &c.name), "Failed", format!("Error: {message}"));
        StartError::config("CreateContainerConfigError", message)
    };
    let given_up = || StartError::config("ContainerCreating", "");
    let images = async {
        let volumes = image::volumes(cx, c).await?;
        let (id, image) = image::ensure(cx, c).await?;
        Ok((volumes, id, image))
    };
    let (image_volumes, image_id, image) = tokio::select! {
        biased;
        () = s.cancel.cancelled() => return Err(given_up()),
        i = images => i?,
    };
    security::verify_non_root(pod, c, image.as_ref()).map_err(config_error)?;
    let ips = if pod.spec.host_network { node.host_ips() } else { s.pod_ips.to_vec() };
    let environment = environment(cx, c, &ips).await.map_err(config_error)?;
    let sources = mounts::Sources { paths: s.volumes, images: &image_volumes };
    let mounts = mounts::build(node, pod, c, &sources, &environment, &ips).map_err(config_error)?;
    let parts = Parts {
        kind: s.kind,
        attempt: s.attempt,
        image_id: &image_id,
        env: environment,
        mounts: mounts.list,
        target_id: s.target_id.clone(),
        message_file: &mounts.message_file,
        memory_capacity: node.memory_capacity,
    };
    if s.cancel.is_cancelled() {
        return Err(given_up());
    }
    let config = config::container(&node.cfg, pod, c, parts);
    let sandbox_config = sandbox::config_of(node, pod, s.sandbox_attempt);
    let id = node.runtime.create_container(s.sandbox_id, &config, &sandbox_config).await.map_err(|e| {
        node.recorder.warning(about.clone(), "Failed", format!("Error: {e}"));
        StartError::config("CreateContainerError", e.to_string())
    })?;
    node.recorder.normal(about.clone(), "Created", "Container created");
    if let Err(e) = node.runtime.start_container(&id).await {
        let message = match e {
            CriError::Start { message } => message,
            other => other.to_string(),
        };
        node.recorder.warning(about, "Failed", format!("Error: {message}"));
        return Err(StartError::exit("RunContainerError", message));
    }
    node.recorder.normal(about.clone(), "Started", "Container started");
    link_log(node, pod, c, s.attempt, &id);
    let hook = async {
        match &c.lifecycle.post_start {
            Some(h) => handler::run(node, pod, c, &id, s.pod_ips, h, None).await,
            None => Ok(()),
        }
    };
    let hook = tokio::select! { () = s.cancel.cancelled() => Ok(()), r = hook => r };
    if let Err(e) = hook {
        node.recorder.warning(about, "FailedPostStartHook", format!("PostStartHook failed: {e}"));
        return Err(StartError { kill: Some(id), ..StartError::exit(POST_START_ERROR, e) });
    }
    node.runtime
        .pod_sandbox_status(s.sandbox_id)
        .await
        .map_err(|e| StartError::exit("RunContainerError", e.to_string()))
}

/// `/var/log/containers/<pod>_<namespace>_<container>-<id>.log`, where log shippers look.
fn link_log(node: &Node, pod: &Pod, c: &Container, attempt: u32, id: &str) {
    let dir = &node.cfg.containers_log_dir;
    let m = &pod.metadata;
    let link = dir.join(format!("{}_{}_{}-{id}.log", m.name, m.namespace, c.name));
    let to =
        node.cfg.pods_log_dir.join(config::log_dir_name(pod)).join(&c.name).join(format!("{attempt}.log"));
    let _ = std::fs::create_dir_all(dir);
    if let Err(e) = std::os::unix::fs::symlink(&to, &link) {
        tracing::debug!(link = %link.display(), error = %e, "failed to link a container's log");
    }
}

async fn environment(cx: &PodCx, c: &Container, ips: &[String]) -> Result<BTreeMap<String, String>, String> {
    let ns = &cx.pod.metadata.namespace;
    let (maps, secrets) = env::wanted(c);
    let mut sources = Sources::default();
    for name in maps {
        let data = cx.node.refs.config_map(ns, &name, &cx.user).await?;
        let data =
            data.map(|d| d.into_iter().map(|(k, v)| (k, String::from_utf8_lossy(&v).into_owned())).collect());
        sources.config_maps.insert(name, data);
    }
    for name in secrets {
        let data = cx.node.refs.secret(ns, &name, &cx.user).await?;
        sources.secrets.insert(name, data.map(|s| s.data));
    }
    let services = service_vars(&cx.node, &cx.pod).await?;
    env::build(&cx.pod, c, ips, &cx.node.facts(), &sources, &services)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ServiceView {
    spec: ServiceSpecView,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpecView {
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
    ports: Vec<PortView>,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct PortView {
    name: String,
    protocol: String,
    port: i32,
}

/// The variables of services. Where the API does not answer they are those of the pod's last start, so that a pod comes
/// back after a reboot as it was.
async fn service_vars(node: &Node, pod: &Pod) -> Result<BTreeMap<String, String>, String> {
    let kept = Checkpoint::new(node.cfg.checkpoint_dir());
    if !node.services.is_synced() && !pod.is_static() {
        if let Some(vars) = kept.service_vars(&pod.metadata.uid) {
            return Ok(vars);
        }
        if !matches!(tokio::time::timeout(SERVICES_READ, node.services.synced()).await, Ok(true)) {
            return Err("services have not yet been read at least once, cannot construct envvars".into());
        }
    }
    let vars = env::service_vars(&services_for(node, pod));
    if !pod.is_static() {
        kept.save_service_vars(&pod.metadata.uid, &vars);
    }
    Ok(vars)
}

/// Services whose variables the pod sees: `kubernetes` always, those of its namespace when links are on.
fn services_for(node: &Node, pod: &Pod) -> Vec<ServiceVars> {
    let ns = &pod.metadata.namespace;
    let links = pod.spec.enable_service_links != Some(false);
    let mut found: BTreeMap<String, ServiceVars> = BTreeMap::new();
    let own = if links { node.services.list(Some(ns)) } else { Vec::new() };
    for o in node.services.get("default", "kubernetes").into_iter().chain(own) {
        let Ok(v) = o.view::<ServiceView>() else { continue };
        if v.spec.cluster_ip.is_empty() || v.spec.cluster_ip == "None" {
            continue;
        }
        let ports = v.spec.ports.into_iter().map(|p| (p.name, p.protocol, p.port)).collect();
        let vars = ServiceVars { name: o.name().to_owned(), cluster_ip: v.spec.cluster_ip, ports };
        found.insert(o.name().to_owned(), vars);
    }
    found.into_values().collect()
}
