//! Resource usage from the control groups, v1 and v2, and from the pod's network namespace.

use super::*;
use std::path::Path;

/// How old a writable layer's size may be.
const SIZE_AGE: std::time::Duration = std::time::Duration::from_secs(30);

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// `key value` lines.
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn du(dir: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let (mut bytes, mut inodes) = (0, 0);
    let Ok(rd) = std::fs::read_dir(dir) else { return (0, 0) };
    for e in rd.flatten() {
        let Ok(m) = e.metadata() else { continue };
        bytes += m.blocks() * 512;
        inodes += 1;
        if m.is_dir() {
            let (b, i) = du(&e.path());
            bytes += b;
            inodes += i;
        }
    }
    (bytes, inodes)
}

impl Inner {
    fn cpu_of(&self, key: &str, cgroup: &str) -> CpuUsage {
        let timestamp = now_ns();
        let usage = match self.groups.controller("cpuacct") {
            Some(_) => self.groups.dir("cpuacct", cgroup).and_then(|d| number(&d.join("cpuacct.usage"))),
            None => self.groups.dir("cpu", cgroup).and_then(|d| {
                let text = std::fs::read_to_string(d.join("cpu.stat")).ok()?;
                field(&text, "usage_usec").map(|u| u * 1000)
            }),
        };
        let mut rate = None;
        if let Some(now) = usage
            && let Some((t, before)) = self.cpu.lock().insert(key.to_string(), (timestamp, now))
        {
            let dt = u64::try_from(timestamp - t).unwrap_or(0);
            let used = u128::from(now.saturating_sub(before)) * 1_000_000_000;
            rate = used.checked_div(dt.into()).and_then(|r| u64::try_from(r).ok());
        }
        CpuUsage { timestamp, usage_core_nano_seconds: usage, usage_nano_cores: rate }
    }

    fn memory_of(&self, cgroup: &str) -> MemoryUsage {
        let timestamp = now_ns();
        let Some(dir) = self.groups.dir("memory", cgroup) else { return MemoryUsage::default() };
        let v1 = self.groups.controller("memory").is_some();
        let stat = std::fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
        let get = |old: &str, new: &str| field(&stat, if v1 { old } else { new });
        let usage = number(&dir.join(if v1 { "memory.usage_in_bytes" } else { "memory.current" }));
        let limit = number(&dir.join(if v1 { "memory.limit_in_bytes" } else { "memory.max" }));
        let idle = get("total_inactive_file", "inactive_file").unwrap_or(0);
        let working = usage.map(|u| u.saturating_sub(idle));
        MemoryUsage {
            timestamp,
            working_set_bytes: working,
            // Without a limit there is nothing "available".
            available_bytes: limit.filter(|l| *l < 1 << 60).map(|l| l.saturating_sub(working.unwrap_or(0))),
            usage_bytes: usage,
            rss_bytes: get("total_rss", "anon"),
            page_faults: get("total_pgfault", "pgfault"),
            major_page_faults: get("total_pgmajfault", "pgmajfault"),
        }
    }

    fn size_of(&self, id: &str, upper: &Path) -> (u64, u64) {
        let fresh = |t: &std::time::Instant| t.elapsed() < SIZE_AGE;
        if let Some((_, b, i)) = self.sizes.lock().get(id).filter(|(t, _, _)| fresh(t)) {
            return (*b, *i);
        }
        let (b, i) = du(upper);
        self.sizes.lock().insert(id.to_string(), (std::time::Instant::now(), b, i));
        (b, i)
    }

    /// Blocking: it may walk the writable layer.
    pub fn container_stats_of(&self, c: &Container) -> ContainerStats {
        let upper = c.dir.join("upper");
        let (used_bytes, inodes_used) = self.size_of(&c.rec.id, &upper);
        ContainerStats {
            attributes: ContainerAttributes {
                id: c.rec.id.clone(),
                metadata: c.rec.config.metadata.clone(),
                labels: c.rec.config.labels.clone(),
                annotations: c.rec.config.annotations.clone(),
                pod_sandbox_id: c.rec.sandbox_id.clone(),
            },
            cpu: self.cpu_of(&c.rec.id, &c.rec.cgroup),
            memory: self.memory_of(&c.rec.cgroup),
            writable_layer: FilesystemUsage {
                timestamp: now_ns(),
                mountpoint: upper.display().to_string(),
                used_bytes,
                inodes_used,
            },
        }
    }

    pub fn sandbox_stats_of(&self, s: &Sandbox) -> PodSandboxStats {
        let (id, config, parent) = {
            let r = s.rec.lock();
            (r.id.clone(), r.config.clone(), r.cgroup_parent.clone())
        };
        let containers = self.containers_of(&id);
        let running = containers.iter().filter(|c| c.state() == ContainerState::Running);
        let host = config.linux.security_context.namespace_options.network == NamespaceMode::Node;
        let pid = s.live_shim().map(|s| s.pid).filter(|_| !host);
        let interfaces = pid.map(|p| interfaces(&format!("/proc/{p}/net/dev"))).unwrap_or_default();
        PodSandboxStats {
            attributes: PodSandboxAttributes {
                id: id.clone(),
                metadata: config.metadata,
                labels: config.labels,
                annotations: config.annotations,
            },
            cpu: self.cpu_of(&id, &parent),
            memory: self.memory_of(&parent),
            network: NetworkUsage {
                timestamp: now_ns(),
                default_interface: interfaces.iter().find(|i| i.name == "eth0").cloned(),
                interfaces: interfaces.into_iter().filter(|i| i.name != "lo" && i.name != "eth0").collect(),
            },
            process_count: self.groups.pids(&parent).len() as u64,
            containers: running.map(|c| self.container_stats_of(c)).collect(),
        }
    }
}

fn interfaces(path: &str) -> Vec<NetworkInterfaceUsage> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(interface).collect()
}

/// One line of /proc/net/dev.
fn interface(line: &str) -> Option<NetworkInterfaceUsage> {
    let (name, numbers) = line.split_once(':')?;
    let n: Vec<u64> = numbers.split_whitespace().map(|f| f.parse().unwrap_or(0)).collect();
    Some(NetworkInterfaceUsage {
        name: name.trim().to_string(),
        rx_bytes: *n.first()?,
        rx_errors: *n.get(2)?,
        tx_bytes: *n.get(8)?,
        tx_errors: *n.get(10)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn net_dev_lines() {
        let i = interface("  eth0: 100 2 3 0 0 0 0 0 200 5 6 0 0 0 0 0").unwrap();
        assert_eq!(
            (i.name.as_str(), i.rx_bytes, i.rx_errors, i.tx_bytes, i.tx_errors),
            ("eth0", 100, 3, 200, 6)
        );
        assert!(interface("Inter-|   Receive").is_none());
        assert_eq!(field("anon 5\nanon_thp 7\n", "anon"), Some(5));
    }
}
