//! What a pod asks of a kubelet beyond the usual, the node must have declared (KEP-5328).

use super::{Cycle, Refusal};
use crate::core::{NodeInfo, PodInfo};

pub fn filter(_: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    match pod.features.iter().all(|f| node.features.contains(*f)) {
        true => Ok(()),
        false => Err(Refusal::lasting("node(s) didn't match Pod's required features")),
    }
}
