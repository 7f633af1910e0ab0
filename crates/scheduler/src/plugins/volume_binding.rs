//! Claims that are bound must be reachable from the node; those that waited for a pod must find a volume for it.

use super::{Cycle, Refusal};
use crate::core::{NodeInfo, PodInfo};

pub fn filter(cycle: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    let chosen = cycle.cache.volumes.choose(pod, node).map(|_| ());
    chosen
        .map_err(|reasons| Refusal { reasons: reasons.into_iter().map(Into::into).collect(), lasting: true })
}
