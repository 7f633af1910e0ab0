//! The pod's cgroup with its limits: `kubepods[/burstable|/besteffort]/pod<uid>`. Paths and values come from a pure
//! function; this writes them.

use std::fs;
use std::io::{Error, ErrorKind};
use std::path::Path;

use async_trait::async_trait;

use crate::containers::resources::{Step, cgroup_dirs, cgroup_steps, pod_cgroup};
use crate::hooks::{PodCx, PodStep, StepError};

pub struct Cgroup;

/// Carries steps out. A value that must be set and can't is an error, the rest is best effort.
pub fn apply(steps: &[Step]) -> Result<(), String> {
    for s in steps {
        match s {
            Step::MakeDir(d) => {
                fs::create_dir_all(d).map_err(|e| format!("failed to create cgroup {d}: {e}"))?;
            }
            Step::Write { path, value, must } => {
                if let Err(e) = fs::write(path, value)
                    && *must
                {
                    return Err(format!("failed to write {value} to {path}: {e}"));
                }
            }
        }
    }
    Ok(())
}

/// Removes a cgroup and those below it; `Busy` while processes are in it.
fn remove(dir: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(dir) {
        Ok(e) => e,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for e in entries.flatten() {
        if e.file_type().is_ok_and(|t| t.is_dir()) {
            remove(&e.path())?;
        }
    }
    match fs::remove_dir(dir) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[async_trait]
impl PodStep for Cgroup {
    fn name(&self) -> &'static str {
        "cgroup"
    }

    async fn set_up(&self, cx: &PodCx) -> Result<(), StepError> {
        if !cx.node.cfg.manage_cgroups {
            return Ok(());
        }
        let path = pod_cgroup(&cx.node.cfg.cgroup_root, &cx.pod);
        apply(&cgroup_steps(&cx.node.layout, &path, cx.limits, 0)).map_err(|e| {
            StepError::new("FailedCreatePodContainer", format!("unable to ensure pod container exists: {e}"))
        })
    }

    async fn tear_down(&self, cx: &PodCx) -> Result<(), StepError> {
        if !cx.node.cfg.manage_cgroups {
            return Ok(());
        }
        let path = pod_cgroup(&cx.node.cfg.cgroup_root, &cx.pod);
        for dir in cgroup_dirs(&cx.node.layout, &path) {
            remove(Path::new(&dir)).map_err(|e| {
                StepError::new("FailedRemoveCgroup", format!("failed to remove cgroup {dir}: {e}"))
            })?;
        }
        Ok(())
    }
}
