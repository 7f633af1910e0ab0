//! A pod that names its node goes nowhere else.

use super::{Cycle, Refusal};
use crate::core::{NodeInfo, PodInfo};

pub fn filter(_: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    if pod.node_name.is_empty() || pod.node_name == node.name {
        return Ok(());
    }
    Err(Refusal::lasting("node(s) didn't match the requested node name"))
}
