//! Pods with scheduling gates wait until all are removed (KEP-3521).

use crate::core::PodInfo;

pub fn check(pod: &PodInfo) -> Result<(), String> {
    if pod.gates.is_empty() {
        return Ok(());
    }
    Err(format!("Scheduling is blocked due to non-empty scheduling gates: [{}]", pod.gates.join(" ")))
}
