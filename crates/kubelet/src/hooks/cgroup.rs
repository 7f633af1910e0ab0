//! The pod's cgroup with its limits: `kubepods[/burstable|/besteffort]/pod<uid>`. Paths and values come from a pure
//! function; this writes them.

use std::fs;
use std::io::{Error, ErrorKind};
use std::path::Path;

use async_trait::async_trait;

use crate::containers::resources::{Layout, Step, cgroup_dirs, cgroup_steps, pod_cgroup, qos_cgroup};
use crate::hooks::{PodCx, PodStep, StepError};
use crate::pod::Qos;

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
    if client::planted::is_on("cgroup-left") {
        return Ok(());
    }
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

/// Removes the cgroups of pods that nobody knows: of one that was deleted by force while nobody looked, nothing else tells.
/// What is still in use stays until the next time.
pub fn remove_orphans(layout: &Layout, root: &str, known: impl Fn(&str) -> bool) {
    let classes = [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort].map(|qos| qos_cgroup(root, qos));
    for dir in classes.iter().flat_map(|class| cgroup_dirs(layout, class)) {
        for e in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let name = e.file_name().to_string_lossy().into_owned();
            if name.strip_prefix("pod").is_none_or(&known) {
                continue;
            }
            if let Err(error) = remove(&e.path()) {
                tracing::debug!(cgroup = %e.path().display(), %error, "failed to remove a cgroup whose pod is gone");
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cgroups_of_unknown_pods_go() {
        let mount = std::env::temp_dir().join(format!("kelson-cgroups-{}", std::process::id()));
        let made = [
            "kubepods/podknown/c",
            "kubepods/burstable/podgone/c/d",
            "kubepods/besteffort/podgone",
            "podgone",
        ];
        for dir in made {
            fs::create_dir_all(mount.join("k").join(dir)).expect("directory");
        }
        let layout = Layout::V2(mount.to_string_lossy().into_owned());
        remove_orphans(&layout, "k", |uid| uid == "known");
        let there = made.map(|dir| mount.join("k").join(dir).exists());
        // The last is not where pods are.
        assert_eq!(there, [true, false, false, true]);
        assert!(mount.join("k/kubepods/burstable").is_dir());
        fs::remove_dir_all(&mount).expect("clean up");
    }
}
