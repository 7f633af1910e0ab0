//! A claim with the access mode ReadWriteOncePod serves one pod of the whole cluster.

use super::Cycle;
use crate::core::{Cache, NodeInfo, PodInfo};

/// Whether a running pod has a claim that the pod would need for itself.
pub fn in_use(cache: &Cache, pod: &PodInfo) -> bool {
    let mut exclusive = cache.volumes.exclusive(pod).peekable();
    exclusive.peek().is_some() && {
        let names: Vec<&str> = exclusive.collect();
        let others = cache.nodes().iter().flat_map(|n| &n.pods);
        others
            .filter(|o| o.namespace == pod.namespace && o.uid != pod.uid)
            .any(|o| o.claims.iter().any(|u| names.contains(&u.name.as_str())))
    }
}

pub fn filter(cycle: &Cycle<'_>, _: &PodInfo, _: &NodeInfo) -> Result<(), Vec<String>> {
    if !cycle.claim_in_use {
        return Ok(());
    }
    Err(vec![
        "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode".into(),
    ])
}
