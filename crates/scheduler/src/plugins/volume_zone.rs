//! A volume that is labelled with a zone or region can be used there only.

use super::{Cycle, Refusal};
use crate::core::{NodeInfo, PodInfo};

const LABELS: [&str; 4] = [
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];

pub fn filter(cycle: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    // A node that knows nothing of zones takes them all.
    if pod.claims.is_empty() || !LABELS.iter().any(|l| node.labels.contains_key(*l)) {
        return Ok(());
    }
    for (_, volume) in cycle.cache.volumes.bound(pod) {
        let Some(volume) = volume else { continue };
        for l in LABELS {
            let Some(zones) = volume.labels.get(l) else { continue };
            if !node.labels.get(l).is_some_and(|have| zones.split("__").any(|z| z == have)) {
                return Err(Refusal::lasting("node(s) had no available volume zone"));
            }
        }
    }
    Ok(())
}
