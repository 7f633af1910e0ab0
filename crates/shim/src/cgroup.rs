//! Where control groups are and the few things done to them besides creating: members, OOM counts, removal.
//! Owns nothing; every path given is relative to each hierarchy's root.

use std::path::{Path, PathBuf};
use std::{fs, io};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// (controllers, mount point) of version 1.
    pub v1: Vec<(Vec<String>, PathBuf)>,
    pub v2: Option<PathBuf>,
}

impl Hierarchies {
    pub fn detect() -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/self/mountinfo")?))
    }

    fn parse(mountinfo: &str) -> Self {
        let mut h = Hierarchies::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(point) = left.split(' ').nth(4) else { continue };
            let mut right = right.split(' ');
            let (fs_type, options) = (right.next().unwrap_or(""), right.nth(1).unwrap_or(""));
            // The first mount of each hierarchy counts: later ones are copies inside containers.
            match fs_type {
                "cgroup2" if h.v2.is_none() => h.v2 = Some(point.into()),
                "cgroup" => {
                    let flags = ["rw", "ro", "clone_children", "xattr", "noprefix"];
                    let names: Vec<String> = options
                        .split(',')
                        .filter(|o| !flags.contains(o) && !o.starts_with("release_agent="))
                        .map(str::to_string)
                        .collect();
                    if !h.v1.iter().any(|(n, _)| *n == names) {
                        h.v1.push((names, point.into()));
                    }
                }
                _ => {}
            }
        }
        h
    }

    /// All controllers are version 2.
    pub fn unified(&self) -> bool {
        self.v2.is_some() && self.controller("memory").is_none() && self.controller("cpu").is_none()
    }

    pub fn controller(&self, name: &str) -> Option<&Path> {
        self.v1.iter().find(|(n, _)| n.iter().any(|x| x == name)).map(|(_, p)| p.as_path())
    }

    /// The directory in which `controller`'s files for the group are.
    pub fn dir(&self, controller: &str, cgroup: &str) -> Option<PathBuf> {
        let root = match self.controller(controller) {
            Some(p) => p,
            None => self.v2.as_deref()?,
        };
        Some(join(root, cgroup))
    }

    /// The group's directories that exist, in all hierarchies.
    pub fn dirs(&self, cgroup: &str) -> Vec<PathBuf> {
        if cgroup.trim_matches('/').is_empty() {
            return Vec::new();
        }
        let roots = self.v1.iter().map(|(_, p)| p.as_path()).chain(self.v2.as_deref());
        roots.map(|r| join(r, cgroup)).filter(|p| p.is_dir()).collect()
    }

    /// How many processes the kernel has killed here for want of memory.
    pub fn oom_kills(&self, cgroup: &str) -> u64 {
        let Some(dir) = self.dir("memory", cgroup) else { return 0 };
        let file = if self.controller("memory").is_some() { "memory.oom_control" } else { "memory.events" };
        let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
        text.lines()
            .find_map(|l| l.strip_prefix("oom_kill "))
            .and_then(|n| n.trim().parse().ok())
            .unwrap_or(0)
    }

    /// All processes in it and below.
    pub fn pids(&self, cgroup: &str) -> Vec<i32> {
        let mut out = Vec::new();
        for d in self.dirs(cgroup) {
            collect_pids(&d, &mut out);
        }
        out.sort_unstable();
        out.dedup();
        out
    }

    /// Puts a process into the group wherever it exists.
    pub fn join(&self, cgroup: &str, pid: u32) -> io::Result<()> {
        for d in self.dirs(cgroup) {
            fs::write(d.join("cgroup.procs"), pid.to_string())
                .map_err(|e| io::Error::new(e.kind(), format!("join {}: {e}", d.display())))?;
        }
        Ok(())
    }

    /// Removes the group and all below it. Fails with `ResourceBusy` while processes are in it.
    pub fn remove(&self, cgroup: &str) -> io::Result<()> {
        let mut result = Ok(());
        for d in self.dirs(cgroup) {
            if let Err(e) = remove_tree(&d) {
                result = Err(e);
            }
        }
        result
    }
}

fn join(root: &Path, cgroup: &str) -> PathBuf {
    root.join(cgroup.trim_start_matches('/'))
}

fn collect_pids(dir: &Path, out: &mut Vec<i32>) {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    out.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()));
    for d in subdirs(dir) {
        collect_pids(&d, out);
    }
}

fn subdirs(dir: &Path) -> Vec<PathBuf> {
    let Ok(rd) = fs::read_dir(dir) else { return Vec::new() };
    rd.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    for d in subdirs(dir) {
        remove_tree(&d)?;
    }
    match fs::remove_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        r => r,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_and_unified_layouts() {
        let hybrid = "\
30 20 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let h = Hierarchies::parse(hybrid);
        assert!(!h.unified());
        assert_eq!(h.dir("cpu", "/a/b"), Some("/sys/fs/cgroup/cpu,cpuacct/a/b".into()));
        assert_eq!(h.v2, Some("/sys/fs/cgroup/unified".into()));
        let v2 =
            Hierarchies::parse("29 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
        assert!(v2.unified());
        assert_eq!(v2.dir("memory", "x"), Some("/sys/fs/cgroup/x".into()));
    }
}
