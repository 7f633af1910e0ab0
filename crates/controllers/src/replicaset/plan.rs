//! Pure decisions of the ReplicaSet loop: which pods go first, what the status says.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use api::Object;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::pods::Pod;
use crate::skeleton::Next;

/// The pods to delete, in upstream's order: not placed, not running, not ready, cheap to delete, doubled on their node,
/// ready for the shortest time, restarted most, youngest.
pub fn victims(active: &[Pod], count: usize, now: Timestamp) -> Vec<&Pod> {
    let mut per_node: HashMap<&str, usize> = HashMap::new();
    for p in active {
        *per_node.entry(p.view.spec.node_name.as_str()).or_default() += 1;
    }
    let rank = |p: &Pod| {
        let phase = match p.view.status.phase.as_str() {
            "Pending" => 0,
            "Running" => 2,
            _ => 1,
        };
        let cost: i64 = p
            .annotation("controller.kubernetes.io/pod-deletion-cost")
            .and_then(|c| c.parse().ok())
            .unwrap_or(0);
        let neighbours = per_node.get(p.view.spec.node_name.as_str()).copied().unwrap_or(0);
        // By powers of two, so that small differences in age do not decide.
        let ready_for = p.ready_since().map_or(0, |t| now.duration_since(t).as_secs().max(0).ilog2_or_zero());
        (
            !p.view.spec.node_name.is_empty(),
            phase,
            p.is_ready(),
            cost,
            Reverse(neighbours),
            ready_for,
            Reverse(p.restarts()),
        )
    };
    let mut sorted: Vec<&Pod> = active.iter().collect();
    sorted.sort_by(|a, b| {
        rank(a)
            .cmp(&rank(b))
            .then_with(|| b.created().cmp(a.created()))
            .then_with(|| a.object.uid().cmp(b.object.uid()))
    });
    sorted.truncate(count);
    sorted
}

trait Log {
    fn ilog2_or_zero(self) -> u32;
}

impl Log for i64 {
    fn ilog2_or_zero(self) -> u32 {
        if self > 0 { self.ilog2() } else { 0 }
    }
}

/// The status as it should be; fields this loop does not know are kept.
pub fn status(
    old: &Value,
    set: &Object,
    active: &[Pod],
    template: &Value,
    min_ready: i64,
    now: Timestamp,
) -> Value {
    let labels = template["metadata"]["labels"].as_object();
    let labeled = active.iter().filter(|p| {
        labels.is_none_or(|want| {
            want.iter().all(|(k, v)| p.object.meta().labels.get(k).map(String::as_str) == v.as_str())
        })
    });
    let mut new = if old.is_object() { old.clone() } else { json!({}) };
    let counts = [
        ("fullyLabeledReplicas", labeled.count()),
        ("readyReplicas", active.iter().filter(|p| p.is_ready()).count()),
        ("availableReplicas", active.iter().filter(|p| p.is_available(min_ready, now)).count()),
    ];
    new["replicas"] = json!(active.len());
    for (name, n) in counts {
        // Zero is omitted in canonical form; null says so in a merge patch.
        match (n, old.get(name)) {
            (0, None) => {}
            (0, Some(_)) => new[name] = Value::Null,
            (n, _) => new[name] = json!(n),
        }
    }
    new["observedGeneration"] = json!(set.meta().generation);
    new
}

/// When the next ready pod becomes available by time alone.
pub fn next_available(active: &[Pod], min_ready: i64, now: Timestamp) -> Next {
    if min_ready <= 0 {
        return Next::Wait;
    }
    let soonest = active
        .iter()
        .filter(|p| p.is_ready() && !p.is_available(min_ready, now))
        .filter_map(|p| p.ready_since())
        .map(|t| min_ready - now.duration_since(t).as_secs())
        .min();
    match soonest {
        Some(s) => Next::After(Duration::from_secs(u64::try_from(s.max(1)).unwrap_or(1))),
        None => Next::Wait,
    }
}
