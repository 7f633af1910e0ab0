//! The pod's sandbox: made once its cgroup is there, in parallel with the volumes, since it needs none of them.

use cri::{PodSandboxConfig, PodSandboxStatusResponse};

use crate::containers::{config, netfiles};
use crate::hooks::{PodCx, PodStep, StepError, cgroup, dirs};
use crate::node_ctx::Node;
use crate::pod::Pod;

pub fn config_of(node: &Node, pod: &Pod, attempt: u32) -> PodSandboxConfig {
    let text = std::fs::read_to_string(&node.cfg.resolv_conf).unwrap_or_default();
    config::sandbox(&node.cfg, pod, attempt, &netfiles::parse_resolv_conf(&text))
}

pub async fn create(cx: &PodCx, attempt: u32) -> Result<PodSandboxStatusResponse, StepError> {
    dirs::Dirs.set_up(cx).await?;
    cgroup::Cgroup.set_up(cx).await?;
    let config = config_of(&cx.node, &cx.pod, attempt);
    let handler = cx.pod.spec.runtime_class_name.as_deref().filter(|h| *h != "kelson").unwrap_or_default();
    let fail = |e: cri::CriError| {
        StepError::new("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {e}"))
    };
    let id = cx.node.runtime.run_pod_sandbox(&config, handler).await.map_err(fail)?;
    cx.node.runtime.pod_sandbox_status(&id).await.map_err(fail)
}
