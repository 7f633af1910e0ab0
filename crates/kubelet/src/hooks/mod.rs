//! What is done for a pod beyond deciding, one step per file. `POD_STEPS` are set up in this order and torn down in
//! reverse; the others are called by the worker's actions, in the order of this list: sandbox, image, container,
//! post_start | drain, pre_stop (both in `stop`). Every step may run again at any time and finds out from disk or the
//! runtime what is there already.

pub mod cgroup;
pub mod container;
pub mod dirs;
pub mod drain;
pub mod handler;
pub mod image;
pub mod sandbox;
pub mod stop;
pub mod volumes;

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::containers::resources::PodLimits;
use crate::node_ctx::Node;
use crate::pod::Pod;
use crate::refs::User;
use crate::volumes::setup::Volumes;

/// What a step works on.
pub struct PodCx {
    pub node: Arc<Node>,
    pub pod: Arc<Pod>,
    pub user: User,
    pub volumes: Mutex<Volumes>,
    /// For the pod's cgroup.
    pub limits: PodLimits,
}

/// A failed step: the reason of its event, and a message for people.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct StepError {
    pub reason: &'static str,
    pub message: String,
}

impl StepError {
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

#[async_trait]
pub trait PodStep: Send + Sync {
    fn name(&self) -> &'static str;
    async fn set_up(&self, cx: &PodCx) -> Result<(), StepError>;
    async fn tear_down(&self, cx: &PodCx) -> Result<(), StepError>;
}

/// Cgroups come before anything runs, volumes before containers.
pub const POD_STEPS: [&dyn PodStep; 3] = [&dirs::Dirs, &cgroup::Cgroup, &volumes::PodVolumes];

pub async fn set_up(cx: &PodCx) -> Result<(), StepError> {
    for step in POD_STEPS {
        step.set_up(cx).await?;
    }
    Ok(())
}

pub async fn tear_down(cx: &PodCx) -> Result<(), StepError> {
    for step in POD_STEPS.iter().rev() {
        step.tear_down(cx).await?;
        tracing::trace!(pod = %cx.pod.key(), step = step.name(), "torn down");
    }
    Ok(())
}
