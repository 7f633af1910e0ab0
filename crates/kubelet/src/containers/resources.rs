//! Resources to numbers for cgroups: shares, quota, memory, OOM score; and the pod's cgroup as paths and values for
//! v1 and v2. Pure.

use cri::LinuxContainerResources;

use crate::pod::{Container, Kind, Pod, Qos, Quantities, Resources};
use crate::quantity;

const PERIOD: i64 = 100_000;

fn get(q: &Quantities, name: &str) -> i64 {
    q.get(name).map_or(0, |v| if name == "cpu" { quantity::milli(&v.0) } else { quantity::whole(&v.0) })
}

pub fn shares(milli: i64) -> i64 {
    if milli <= 0 { 2 } else { (milli * 1024 / 1000).clamp(2, 262_144) }
}

pub fn quota(milli: i64) -> i64 {
    if milli <= 0 { 0 } else { (milli * PERIOD / 1000).max(1000) }
}

/// `cpu.weight` from v1 shares.
pub fn weight(shares: i64) -> i64 {
    (1 + ((shares - 2) * 9999) / 262_142).clamp(1, 10_000)
}

/// A container's resources. `capacity` is the node's memory in bytes.
pub fn container(pod: &Pod, c: &Container, capacity: i64) -> LinuxContainerResources {
    let cpu_limit = get(&c.resources.limits, "cpu");
    let cpu = match get(&c.resources.requests, "cpu") {
        0 => cpu_limit,
        r => r,
    };
    let q = quota(cpu_limit);
    LinuxContainerResources {
        cpu_shares: shares(cpu),
        cpu_quota: q,
        cpu_period: if q > 0 { PERIOD } else { 0 },
        memory_limit_in_bytes: get(&c.resources.limits, "memory"),
        oom_score_adj: oom_score(pod, c, capacity),
        ..LinuxContainerResources::default()
    }
}

/// Upstream's OOM score: guaranteed and node-critical pods go last, best-effort first.
pub fn oom_score(pod: &Pod, c: &Container, capacity: i64) -> i64 {
    if pod.spec.priority.unwrap_or(0) >= 2_000_001_000 {
        return -997;
    }
    match pod.qos() {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let request = get(&c.resources.requests, "memory");
            let adj = 1000 - if capacity > 0 { 1000_i64.saturating_mul(request) / capacity } else { 0 };
            adj.clamp(3, 999)
        }
    }
}

/// What the whole pod may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PodLimits {
    pub shares: i64,
    /// 0: none.
    pub quota: i64,
    /// 0: none.
    pub memory: i64,
}

/// The larger of both; no limit is the largest.
pub fn ceiling(a: PodLimits, b: PodLimits) -> PodLimits {
    let limit = |a: i64, b: i64| if a == 0 || b == 0 { 0 } else { a.max(b) };
    PodLimits {
        shares: a.shares.max(b.shares),
        quota: limit(a.quota, b.quota),
        memory: limit(a.memory, b.memory),
    }
}

/// Summed over containers; init containers by their largest, sidecars stay.
fn sum(pod: &Pod, pick: &dyn Fn(&Resources) -> i64) -> i64 {
    let apps: i64 = pod.spec.containers.iter().map(|c| pick(&c.resources)).sum();
    let mut sidecars = 0;
    let mut peak = 0;
    for c in &pod.spec.init_containers {
        if c.init_kind() == Kind::Sidecar {
            sidecars += pick(&c.resources);
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + pick(&c.resources));
        }
    }
    peak.max(apps + sidecars)
}

/// What the whole pod asks for: thousandths of a CPU, or bytes.
pub fn request(pod: &Pod, name: &str) -> i64 {
    match get(&pod.spec.resources.requests, name) {
        0 => {
            sum(pod, &|r| match get(&r.requests, name) {
                0 => get(&r.limits, name),
                v => v,
            }) + get(&pod.spec.overhead, name)
        }
        own => own,
    }
}

/// A limit holds for the pod only when every container has one.
pub fn pod_limits(pod: &Pod) -> PodLimits {
    let all = |name: &str| {
        let mut it = pod.spec.containers.iter().chain(&pod.spec.init_containers);
        it.all(|c| get(&c.resources.limits, name) > 0)
    };
    let over = |name: &str| get(&pod.spec.overhead, name);
    let own = |q: &Quantities, n: &str| Some(get(q, n)).filter(|v| *v > 0);
    let cpu_limit = own(&pod.spec.resources.limits, "cpu")
        .unwrap_or_else(|| if all("cpu") { sum(pod, &|r| get(&r.limits, "cpu")) + over("cpu") } else { 0 });
    let memory = own(&pod.spec.resources.limits, "memory").unwrap_or_else(|| {
        if all("memory") { sum(pod, &|r| get(&r.limits, "memory")) + over("memory") } else { 0 }
    });
    let cpu = request(pod, "cpu");
    PodLimits { shares: shares(cpu), quota: quota(cpu_limit), memory }
}

/// The cgroup of a pod, relative to the root of each hierarchy: `/ROOT/kubepods/burstable/podUID`.
pub fn pod_cgroup(root: &str, pod: &Pod) -> String {
    format!("{}/pod{}", qos_cgroup(root, pod.qos()), pod.metadata.uid)
}

pub fn qos_cgroup(root: &str, qos: Qos) -> String {
    let root = root.trim_matches('/');
    let base = if root.is_empty() { "/kubepods".to_owned() } else { format!("/{root}/kubepods") };
    match qos {
        Qos::Guaranteed => base,
        Qos::Burstable => format!("{base}/burstable"),
        Qos::BestEffort => format!("{base}/besteffort"),
    }
}

/// Which hierarchies the machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// v1: controller name and its mount point.
    V1(Vec<(String, String)>),
    /// The unified mount point.
    V2(String),
}

/// Reads `/proc/self/mountinfo`. With any of cpu, memory or pids on v1, the machine is v1.
pub fn layout(mountinfo: &str) -> Layout {
    let mut v1 = Vec::new();
    let mut v2 = None;
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(point) = left.split(' ').nth(4) else { continue };
        let mut r = right.split(' ');
        match r.next() {
            Some("cgroup2") => v2 = v2.or_else(|| Some(point.to_owned())),
            Some("cgroup") => {
                let options = r.nth(1).unwrap_or_default();
                for ctl in
                    ["cpu", "cpuacct", "memory", "pids", "cpuset", "devices", "freezer", "blkio", "hugetlb"]
                {
                    if options.split(',').any(|o| o == ctl) {
                        v1.push((ctl.to_owned(), point.to_owned()));
                    }
                }
            }
            _ => {}
        }
    }
    match v2 {
        Some(m) if !v1.iter().any(|(c, _)| matches!(c.as_str(), "cpu" | "memory" | "pids")) => Layout::V2(m),
        _ => Layout::V1(v1),
    }
}

/// One thing to do for a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    MakeDir(String),
    /// Best effort where `must` is false.
    Write {
        path: String,
        value: String,
        must: bool,
    },
}

/// Makes `cgroup` with its parents and sets what is given.
pub fn cgroup_steps(layout: &Layout, cgroup: &str, limits: PodLimits, pids: i64) -> Vec<Step> {
    let mut steps = Vec::new();
    let write = |path: String, value: String, must| Step::Write { path, value, must };
    match layout {
        Layout::V2(mount) => {
            let mut dir = mount.clone();
            let parts: Vec<&str> = cgroup.split('/').filter(|p| !p.is_empty()).collect();
            for part in &parts {
                steps.push(write(
                    format!("{dir}/cgroup.subtree_control"),
                    "+cpu +memory +pids +cpuset".into(),
                    false,
                ));
                dir = format!("{dir}/{part}");
                steps.push(Step::MakeDir(dir.clone()));
            }
            steps.push(write(
                format!("{dir}/cgroup.subtree_control"),
                "+cpu +memory +pids +cpuset".into(),
                false,
            ));
            steps.push(write(format!("{dir}/cpu.weight"), weight(limits.shares).to_string(), false));
            let max = if limits.quota > 0 { limits.quota.to_string() } else { "max".into() };
            steps.push(write(format!("{dir}/cpu.max"), format!("{max} {PERIOD}"), limits.quota > 0));
            let mem = if limits.memory > 0 { limits.memory.to_string() } else { "max".into() };
            steps.push(write(format!("{dir}/memory.max"), mem, limits.memory > 0));
            if pids > 0 {
                steps.push(write(format!("{dir}/pids.max"), pids.to_string(), false));
            }
        }
        Layout::V1(mounts) => {
            for (ctl, mount) in mounts {
                let dir = format!("{mount}{cgroup}");
                match ctl.as_str() {
                    "cpu" => {
                        steps.push(Step::MakeDir(dir.clone()));
                        steps.push(write(format!("{dir}/cpu.shares"), limits.shares.to_string(), false));
                        if limits.quota > 0 {
                            steps.push(write(format!("{dir}/cpu.cfs_period_us"), PERIOD.to_string(), false));
                            steps.push(write(
                                format!("{dir}/cpu.cfs_quota_us"),
                                limits.quota.to_string(),
                                true,
                            ));
                        }
                    }
                    "memory" => {
                        steps.push(Step::MakeDir(dir.clone()));
                        if limits.memory > 0 {
                            steps.push(write(
                                format!("{dir}/memory.limit_in_bytes"),
                                limits.memory.to_string(),
                                true,
                            ));
                        }
                    }
                    "pids" => {
                        steps.push(Step::MakeDir(dir.clone()));
                        if pids > 0 {
                            steps.push(write(format!("{dir}/pids.max"), pids.to_string(), false));
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    steps
}

/// Directories of `cgroup` in every hierarchy (the runtime may have made some that the kubelet did not).
pub fn cgroup_dirs(layout: &Layout, cgroup: &str) -> Vec<String> {
    let mut dirs: Vec<String> = match layout {
        Layout::V2(m) => vec![format!("{m}{cgroup}")],
        Layout::V1(mounts) => mounts.iter().map(|(_, m)| format!("{m}{cgroup}")).collect(),
    };
    dirs.sort();
    dirs.dedup();
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(v: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"uid": "u1"}, "spec": v})).expect("pod")
    }

    #[test]
    fn pod_sums() {
        let p = pod(json!({
            "initContainers": [
                {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "10"}}},
                {"name": "big", "resources": {"requests": {"cpu": "2"}, "limits": {"memory": "100"}}}],
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "20"}}}]}));
        let l = pod_limits(&p);
        assert_eq!(l.shares, 2100 * 1024 / 1000);
        assert_eq!(l.quota, 0);
        assert_eq!(l.memory, 110);
        assert_eq!(pod_cgroup("k", &p), "/k/kubepods/burstable/podu1");
    }

    #[test]
    fn container_numbers() {
        let p = pod(json!({"containers": [{"name": "a", "resources":
            {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}}]}));
        let r = container(&p, &p.spec.containers[0], 1 << 30);
        assert_eq!((r.cpu_shares, r.cpu_quota, r.cpu_period), (256, 100_000, 100_000));
        assert_eq!(r.memory_limit_in_bytes, 512 << 20);
        assert_eq!(r.oom_score_adj, 750);
        assert_eq!(weight(1024), 39);
    }

    #[test]
    fn layouts() {
        let hybrid = "30 23 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                      31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      32 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let Layout::V1(m) = layout(hybrid) else { panic!("v1 expected") };
        assert_eq!(m.len(), 3);
        let steps = cgroup_steps(&Layout::V1(m), "/k/pod1", PodLimits { shares: 2, quota: 0, memory: 7 }, 0);
        assert!(steps.contains(&Step::Write {
            path: "/sys/fs/cgroup/memory/k/pod1/memory.limit_in_bytes".into(),
            value: "7".into(),
            must: true
        }));
        let v2 = layout("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        assert_eq!(v2, Layout::V2("/sys/fs/cgroup".into()));
        let steps = cgroup_steps(&v2, "/k/pod1", PodLimits { shares: 1024, quota: 5000, memory: 0 }, 9);
        assert!(steps.contains(&Step::MakeDir("/sys/fs/cgroup/k/pod1".into())));
        assert!(steps.contains(&Step::Write {
            path: "/sys/fs/cgroup/k/pod1/cpu.max".into(),
            value: "5000 100000".into(),
            must: true
        }));
    }
}
