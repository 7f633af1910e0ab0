//! The pod's directories: its own and that of its logs. The log directory outlives the pod's end, until the pod is
//! deleted (see the manager's clean-up).

use std::fs;
use std::os::unix::fs::PermissionsExt;

use async_trait::async_trait;

use crate::containers::config::log_dir_name;
use crate::hooks::{PodCx, PodStep, StepError};

pub struct Dirs;

#[async_trait]
impl PodStep for Dirs {
    fn name(&self) -> &'static str {
        "dirs"
    }

    async fn set_up(&self, cx: &PodCx) -> Result<(), StepError> {
        let cfg = &cx.node.cfg;
        let pod = cfg.pod_dir(&cx.pod.metadata.uid);
        for (dir, mode) in [
            (pod.join("volumes"), 0o750),
            (pod.join("containers"), 0o750),
            (cfg.pods_log_dir.join(log_dir_name(&cx.pod)), 0o755),
        ] {
            let fail = |e: std::io::Error| {
                StepError::new(
                    "FailedCreatePodDirectories",
                    format!("failed to create {}: {e}", dir.display()),
                )
            };
            if !dir.is_dir() {
                fs::create_dir_all(&dir).map_err(fail)?;
                fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).map_err(fail)?;
            }
        }
        Ok(())
    }

    async fn tear_down(&self, _cx: &PodCx) -> Result<(), StepError> {
        // The containers' message files are still read until the pod object is gone.
        Ok(())
    }
}
