//! The two traits a kubelet calls. Every call is idempotent where CRI says so: stopping or removing what is gone is a
//! success.

use crate::*;
use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VersionResponse {
    pub version: String,
    pub runtime_name: String,
    pub runtime_version: String,
    pub runtime_api_version: String,
}

/// `RuntimeReady`, `NetworkReady`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeCondition {
    pub r#type: String,
    pub status: bool,
    pub reason: String,
    pub message: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeHandlerFeatures {
    pub recursive_read_only_mounts: bool,
    pub user_namespaces: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeHandler {
    pub name: String,
    pub features: RuntimeHandlerFeatures,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusResponse {
    pub conditions: Vec<RuntimeCondition>,
    pub runtime_handlers: Vec<RuntimeHandler>,
    pub supplemental_groups_policy: bool,
    pub info: StringMap,
}

#[async_trait]
pub trait RuntimeService: Send + Sync + 'static {
    async fn version(&self) -> Result<VersionResponse>;
    async fn status(&self) -> Result<StatusResponse>;
    async fn update_runtime_config(&self, pod_cidr: &str) -> Result<()>;

    /// Gives the sandbox's id. On an error nothing of it is left.
    async fn run_pod_sandbox(&self, config: &PodSandboxConfig, runtime_handler: &str) -> Result<String>;
    /// Kills its containers and gives the network back.
    async fn stop_pod_sandbox(&self, id: &str) -> Result<()>;
    async fn remove_pod_sandbox(&self, id: &str) -> Result<()>;
    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatusResponse>;
    async fn list_pod_sandbox(&self, filter: Option<&PodSandboxFilter>) -> Result<Vec<PodSandbox>>;

    async fn create_container(
        &self,
        pod_sandbox_id: &str,
        config: &ContainerConfig,
        sandbox_config: &PodSandboxConfig,
    ) -> Result<String>;
    async fn start_container(&self, id: &str) -> Result<()>;
    /// The stop signal, then after `timeout` seconds SIGKILL (0: at once). Returns when the container has exited.
    async fn stop_container(&self, id: &str, timeout: i64) -> Result<()>;
    /// Kills it when it runs.
    async fn remove_container(&self, id: &str) -> Result<()>;
    async fn list_containers(&self, filter: Option<&ContainerFilter>) -> Result<Vec<Container>>;
    async fn container_status(&self, id: &str) -> Result<ContainerStatus>;
    async fn update_container_resources(&self, id: &str, resources: &LinuxContainerResources) -> Result<()>;
    async fn reopen_container_log(&self, id: &str) -> Result<()>;

    /// `timeout` in seconds, 0: none. When it passes the process is killed and `DeadlineExceeded` returned.
    async fn exec_sync(&self, id: &str, cmd: &[String], timeout: i64) -> Result<ExecSyncResponse>;
    async fn exec(&self, req: &ExecRequest) -> Result<ExecStream>;
    async fn attach(&self, req: &AttachRequest) -> Result<ExecStream>;
    /// A connection to a port on the pod's loopback.
    async fn port_forward(&self, pod_sandbox_id: &str, port: u16) -> Result<BoxDuplex>;

    async fn container_stats(&self, id: &str) -> Result<ContainerStats>;
    async fn list_container_stats(
        &self,
        filter: Option<&ContainerStatsFilter>,
    ) -> Result<Vec<ContainerStats>>;
    async fn pod_sandbox_stats(&self, id: &str) -> Result<PodSandboxStats>;
    async fn list_pod_sandbox_stats(
        &self,
        filter: Option<&PodSandboxStatsFilter>,
    ) -> Result<Vec<PodSandboxStats>>;

    /// Events from now on. A reader that falls too far behind sees the stream end and must list again.
    async fn container_events(&self) -> Result<BoxStream<'static, ContainerEventResponse>>;
}

#[async_trait]
pub trait ImageService: Send + Sync + 'static {
    async fn list_images(&self, filter: Option<&ImageFilter>) -> Result<Vec<Image>>;
    async fn image_status(&self, image: &ImageSpec) -> Result<Option<Image>>;
    /// Gives the image's id, for use as `ContainerConfig.image`.
    async fn pull_image(
        &self,
        image: &ImageSpec,
        auth: Option<&AuthConfig>,
        sandbox_config: Option<&PodSandboxConfig>,
    ) -> Result<String>;
    async fn remove_image(&self, image: &ImageSpec) -> Result<()>;
    async fn image_fs_info(&self) -> Result<ImageFsInfoResponse>;
}

/// Both services in one object, as most users hold them.
pub trait Cri: RuntimeService + ImageService {}
impl<T: RuntimeService + ImageService> Cri for T {}
