//! Cordoned nodes take only pods that tolerate `node.kubernetes.io/unschedulable`.

use super::{Cycle, Refusal};
use crate::core::{NodeInfo, PodInfo, Taint};

pub fn filter(_: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    if !node.unschedulable {
        return Ok(());
    }
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        value: String::new(),
        effect: "NoSchedule".into(),
    };
    if pod.tolerations.iter().any(|t| t.tolerates(&taint)) {
        return Ok(());
    }
    Err(Refusal::lasting("node(s) were unschedulable"))
}
