//! A CSI driver takes so many volumes on a node, as its CSINode says.

use super::{Cycle, Refusal};
use crate::core::{NodeInfo, PodInfo};

pub fn filter(cycle: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    match pod.claims.is_empty() || cycle.cache.volumes.within_limits(pod, node) {
        true => Ok(()),
        false => Err(Refusal::for_now("node(s) exceed max volume count")),
    }
}
