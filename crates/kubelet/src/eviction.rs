//! Node pressure: when memory or disk runs short, one pod at a time has to go, the one that asked for least and uses
//! most. The ranking is pure; one task looks.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::manager::Workers;
use crate::node::facts::{self, FsUse};
use crate::node_ctx::{Node, Pressure};
use crate::pod::Pod;
use crate::pod_worker::Msg;
use crate::thresholds::{Eviction, Threshold};

const LOOK: Duration = Duration::from_secs(10);

pub fn pressure(e: &Eviction, memory: FsUse, node: FsUse) -> Pressure {
    Pressure {
        memory: e.memory.met(memory.free, memory.size),
        disk: e.nodefs.met(node.free, node.size)
            || node.inodes > 0 && e.nodefs_inodes.met(node.inodes_free, node.inodes),
    }
}

/// A candidate: its pod, what it uses of the scarce thing, what it asked for.
pub struct Candidate {
    pub pod: Arc<Pod>,
    pub used: i64,
    pub requested: i64,
}

/// Who goes first: over its request before within it, then lower priority, then further over.
pub fn rank(mut list: Vec<Candidate>) -> Vec<Candidate> {
    list.retain(|c| !c.pod.is_critical() && !c.pod.deleting() && !c.pod.finished());
    list.sort_by_key(|c| (c.used <= c.requested, c.pod.spec.priority.unwrap_or(0), -(c.used - c.requested)));
    list
}

pub async fn run(node: Arc<Node>, workers: Arc<Workers>, token: CancellationToken) {
    loop {
        tokio::select! { () = token.cancelled() => return, () = tokio::time::sleep(LOOK) => {} }
        let memory = memory();
        let disk = facts::fs_use(&node.cfg.root_dir);
        let thresholds = &node.cfg.eviction;
        let p = pressure(thresholds, memory, disk);
        *node.pressure.write() = p;
        if p.memory {
            evict(&node, &workers, "memory", memory.free, thresholds.memory).await;
        } else if p.disk {
            evict(&node, &workers, "ephemeral-storage", disk.free, thresholds.nodefs).await;
        }
    }
}

/// The machine's memory in the terms of a file system.
fn memory() -> FsUse {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let of = |key| u64::try_from(facts::parse_meminfo(&meminfo, key)).unwrap_or(0);
    FsUse { size: of("MemTotal"), free: of("MemAvailable"), ..FsUse::default() }
}

async fn evict(node: &Node, workers: &Workers, what: &str, available: u64, threshold: Threshold) {
    let Ok(stats) = node.runtime.list_pod_sandbox_stats(None).await else { return };
    let mut list = Vec::new();
    for shot in workers.all() {
        if shot.sandbox_id.is_empty() {
            continue;
        }
        let of_pod = stats.iter().find(|s| s.attributes.id == shot.sandbox_id);
        let used: u64 = of_pod.map_or(0, |s| {
            let each = s.containers.iter();
            if what == "memory" {
                each.map(|c| c.memory.working_set_bytes.unwrap_or(0)).sum()
            } else {
                each.map(|c| c.writable_layer.used_bytes).sum()
            }
        });
        let requested = shot.pod.spec.containers.iter();
        let requested = requested
            .filter_map(|c| c.resources.requests.get(what))
            .map(|q| crate::quantity::whole(&q.0))
            .sum();
        list.push(Candidate { pod: shot.pod, used: i64::try_from(used).unwrap_or(i64::MAX), requested });
    }
    let Some(c) = rank(list).into_iter().next() else { return };
    let Some(h) = workers.get(&c.pod.metadata.uid) else { return };
    let message = format!(
        "The node was low on resource: {what}. Threshold quantity: {threshold}, available: {available}. "
    );
    node.recorder.warning(node.about_pod(&c.pod), "Evicted", message.clone());
    tracing::warn!(pod = %c.pod.key(), what, "evicting a pod because the node runs short");
    let _ = h.tx.send(Msg::Fail { reason: "Evicted".into(), message, grace_seconds: 0 }).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranking() {
        let c = |name: &str, used, requested, priority| {
            let mut pod = Pod::default();
            pod.metadata.name = name.into();
            pod.spec.priority = Some(priority);
            Candidate { pod: Arc::new(pod), used, requested }
        };
        let order: Vec<String> = rank(vec![
            c("within", 5, 10, 0),
            c("over", 20, 10, 0),
            c("over-more", 50, 10, 0),
            c("important", 90, 10, 100),
            c("critical", 99, 0, 2_000_000_000),
        ])
        .into_iter()
        .map(|c| c.pod.metadata.name.clone())
        .collect();
        assert_eq!(order, ["over-more", "over", "important", "within"]);
    }

    #[test]
    fn thresholds() {
        let e = Eviction::default();
        let fs = |size, free| FsUse { size, free, inodes: 0, inodes_free: 0 };
        let fine = fs(8 << 30, 1 << 30);
        assert_eq!(pressure(&e, fine, fs(100, 50)), Pressure::default());
        assert!(pressure(&e, fs(8 << 30, 1 << 20), fs(100, 50)).memory);
        assert!(pressure(&e, fine, fs(100, 5)).disk);
    }
}
