//! A pod that names its node goes nowhere else.

use super::Cycle;
use crate::core::{NodeInfo, PodInfo};

pub fn filter(_: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Vec<String>> {
    if pod.node_name.is_empty() || pod.node_name == node.name {
        return Ok(());
    }
    Err(vec!["node(s) didn't match the requested node name".into()])
}
