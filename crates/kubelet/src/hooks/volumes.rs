//! The pod's volumes as one step; see `crate::volumes`.

use async_trait::async_trait;

use crate::hooks::{PodCx, PodStep, StepError};
use crate::volumes::setup;

pub struct PodVolumes;

#[async_trait]
impl PodStep for PodVolumes {
    fn name(&self) -> &'static str {
        "volumes"
    }

    async fn set_up(&self, cx: &PodCx) -> Result<(), StepError> {
        let v = setup::set_up(&cx.node, &cx.pod, &cx.user, &[])
            .await
            .map_err(|e| StepError::new("FailedMount", e))?;
        *cx.volumes.lock() = v;
        Ok(())
    }

    async fn tear_down(&self, cx: &PodCx) -> Result<(), StepError> {
        setup::tear_down(&cx.node, &cx.pod.metadata.uid).map_err(|e| StepError::new("FailedUnmount", e))?;
        cx.node.refs.release(&cx.user.uid);
        cx.node.tokens.release(&cx.user.uid);
        cx.node.certificates.release(&cx.user.uid);
        Ok(())
    }
}
