//! Cordoned nodes take only pods that tolerate `node.kubernetes.io/unschedulable`.

use super::Cycle;
use crate::core::{NodeInfo, PodInfo, Taint};

pub fn filter(_: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Vec<String>> {
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        value: String::new(),
        effect: "NoSchedule".into(),
    };
    if !node.unschedulable || pod.tolerations.iter().any(|t| t.tolerates(&taint)) {
        return Ok(());
    }
    Err(vec!["node(s) were unschedulable".into()])
}
