//! Looks, before anything is written, at what a node needs of its machine: what is missing for good ends the start in one
//! sentence, what only limits it is a warning. Facts are gathered in one place and judged in a pure function.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use netlink::Cidr;
use shim::cgroup::Hierarchies;
use tracing::warn;

use crate::config::Instance;
use crate::networks::routes;
use crate::shared::Shared;

const NAMESPACES: &[&str] = &["ipc", "mnt", "net", "pid", "uts"];
const CONTROLLERS: &[(&str, &str)] =
    &[("cpu", "CPU limits and shares"), ("memory", "memory limits"), ("pids", "limits of process numbers")];
/// Fewer open files than this are too few for the watches of a small cluster.
const MIN_FILES: u64 = 4096;

#[derive(Debug, Clone, Default)]
struct Facts {
    filesystems: String,
    namespaces: Vec<String>,
    /// Controllers that are mounted (version 1) or offered (version 2).
    controllers: Vec<String>,
    cgroups_writable: bool,
    nft: bool,
    needs_nft: bool,
    seccomp: bool,
    files: u64,
    routes: Vec<Cidr>,
    networks: Vec<Cidr>,
}

impl Facts {
    fn gather(instance: &Instance, shared: &Shared) -> anyhow::Result<Self> {
        let groups = Hierarchies::detect()
            .context("failed to find the control groups in /proc/self/mountinfo; is /proc mounted?")?;
        let mut controllers: Vec<String> = groups.v1.iter().flat_map(|(names, _)| names.clone()).collect();
        let offered =
            groups.v2.iter().map(|p| fs::read_to_string(p.join("cgroup.controllers")).unwrap_or_default());
        controllers.extend(offered.flat_map(|t| t.split_whitespace().map(str::to_owned).collect::<Vec<_>>()));
        let places = groups.v1.iter().map(|(_, p)| p).chain(&groups.v2);
        let writable =
            |p: &std::path::PathBuf| nix::unistd::access(p, nix::unistd::AccessFlags::W_OK).is_ok();
        let has = |n: &&&str| Path::new("/proc/self/ns").join(n).symlink_metadata().is_ok();
        let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
        let route = fs::read_to_string("/proc/net/route").unwrap_or_default();
        Ok(Self {
            filesystems: filesystems(),
            namespaces: NAMESPACES.iter().filter(has).map(|n| (*n).to_owned()).collect(),
            controllers,
            cgroups_writable: places.into_iter().any(writable),
            nft: on_path("nft"),
            needs_nft: shared.runs("proxy") || shared.runs("cni"),
            seccomp: Path::new("/proc/sys/kernel/seccomp").exists(),
            files: limit.map_or(u64::MAX, |(_, hard)| hard),
            routes: routes(&route, &instance.bridge, &shared.cluster_cidrs),
            networks: shared.cluster_cidrs.iter().chain(&shared.service_cidrs).copied().collect(),
        })
    }
}

/// With the module loaded, where it is one.
fn filesystems() -> String {
    let read = || fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let text = read();
    if has_overlay(&text) {
        return text;
    }
    let _ = Command::new("modprobe")
        .arg("overlay")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    read()
}

fn has_overlay(text: &str) -> bool {
    text.lines().any(|l| l.split_whitespace().last() == Some("overlay"))
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|d| d.join(program).is_file())
}

/// Why a node can't run here, or what it will do without.
fn judge(f: &Facts) -> Result<Vec<String>, String> {
    if let Some(n) = NAMESPACES.iter().find(|n| !f.namespaces.iter().any(|h| h == *n)) {
        return Err(format!(
            "this kernel has no {n} namespaces, which containers need; use another kernel, or --no-node"
        ));
    }
    if !has_overlay(&f.filesystems) {
        return Err("this kernel has no overlay file system, which container images need; load the module overlay, or use --no-node".into());
    }
    if !f.cgroups_writable {
        return Err("no control groups can be written, which containers need; mount them (mount -t cgroup2 none /sys/fs/cgroup), or use --no-node".into());
    }
    if f.needs_nft && !f.nft {
        return Err(
            "the program nft is not on the PATH; install the package nftables, or use --disable proxy,cni"
                .into(),
        );
    }
    let mut warnings = Vec::new();
    for (name, what) in CONTROLLERS {
        if !f.controllers.iter().any(|c| c == name) {
            warnings
                .push(format!("the control group controller {name} is missing: {what} will not be enforced"));
        }
    }
    if !f.seccomp {
        warnings.push("this kernel has no seccomp: containers run without system call filters".into());
    }
    if f.files < MIN_FILES {
        warnings.push(format!(
            "only {} files may be open; raise the limit (LimitNOFILE, ulimit -n) to {MIN_FILES} or more",
            f.files
        ));
    }
    for n in &f.networks {
        if let Some(r) = f.routes.iter().find(|r| r.overlaps(n)) {
            warnings.push(format!("the network {n} overlaps the route {r} of this machine; choose others with --service-cidr and --cluster-cidr"));
        }
    }
    Ok(warnings)
}

pub fn check(instance: &Instance, shared: &Shared) -> anyhow::Result<()> {
    match judge(&Facts::gather(instance, shared)?) {
        Err(why) => bail!("{why}"),
        Ok(warnings) => {
            for w in warnings {
                warn!("{w}");
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        let all = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        Facts {
            filesystems: "nodev\tsysfs\n\text4\nnodev\toverlay\n".into(),
            namespaces: all(NAMESPACES),
            controllers: all(&["cpu", "memory", "pids"]),
            cgroups_writable: true,
            nft: true,
            needs_nft: true,
            seccomp: true,
            files: 1 << 20,
            routes: vec!["172.17.0.0/16".parse().expect("cidr")],
            networks: vec!["10.244.0.0/16".parse().expect("cidr")],
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        assert_eq!(judge(&good()), Ok(vec![]));
        let fails = |change: fn(&mut Facts), word: &str| {
            let mut f = good();
            change(&mut f);
            let why = judge(&f).expect_err("must be refused");
            assert!(why.contains(word) && !why.contains('\n'), "{why}");
        };
        fails(|f| f.filesystems = "nodev\tsysfs\n".into(), "overlay");
        fails(|f| f.namespaces.retain(|n| n != "pid"), "pid namespaces");
        fails(|f| f.cgroups_writable = false, "control groups");
        fails(|f| f.nft = false, "nftables");
    }

    #[test]
    fn what_is_limited_is_a_warning() {
        let warns = |change: fn(&mut Facts), word: &str| {
            let mut f = good();
            change(&mut f);
            let all = judge(&f).expect("it can go on");
            assert!(all.len() == 1 && all.iter().all(|w| w.contains(word)), "{all:?}");
        };
        warns(|f| f.controllers.retain(|c| c != "memory"), "memory limits");
        warns(|f| f.seccomp = false, "seccomp");
        warns(|f| f.files = 1024, "1024 files");
        warns(|f| f.routes = vec!["10.0.0.0/8".parse().expect("cidr")], "10.0.0.0/8");
    }
}
