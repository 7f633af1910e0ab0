//! A host port can be taken once per node, address and protocol.

use super::{Cycle, Refusal};
use crate::core::{NodeInfo, PodInfo};

pub fn filter(_: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    if pod.host_ports.is_empty() {
        return Ok(());
    }
    let taken = pod
        .host_ports
        .iter()
        .any(|want| node.pods.iter().flat_map(|p| &p.host_ports).any(|have| have.collides(want)));
    if taken {
        Err(Refusal::for_now("node(s) didn't have free ports for the requested pod ports"))
    } else {
        Ok(())
    }
}
