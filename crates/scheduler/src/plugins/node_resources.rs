//! Requests must fit into what the node has left; scores prefer empty and evenly used nodes.

use super::{Cycle, Refusal};
use crate::core::{NodeInfo, PodInfo};

/// Every resource that is short is named, so that a person sees all of them at once.
pub fn filter(_: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    let (want, used, have) = (&pod.requests, &node.used, &node.allocatable);
    let mut short = Vec::new();
    // More than the whole node: nobody who leaves helps.
    let mut lasting = false;
    if used.pods.saturating_add(want.pods) > have.pods {
        short.push("Too many pods".to_owned());
    }
    let mut check = |name: &str, want: i64, used: i64, have: i64| {
        if want > 0 && want > have.saturating_sub(used) {
            short.push(format!("Insufficient {name}"));
            lasting |= want > have;
        }
    };
    check("cpu", want.cpu_milli, used.cpu_milli, have.cpu_milli);
    check("memory", want.memory, used.memory, have.memory);
    check("ephemeral-storage", want.ephemeral_storage, used.ephemeral_storage, have.ephemeral_storage);
    for (name, amount) in &want.other {
        let of = |m: &std::collections::BTreeMap<String, i64>| m.get(name).copied().unwrap_or(0);
        check(name, *amount, of(&used.other), of(&have.other));
    }
    if short.is_empty() { Ok(()) } else { Err(Refusal { reasons: short, lasting }) }
}

/// Pods without requests count a little, so that they spread as well (upstream's 100m and 200 MiB).
fn wanted(pod: &PodInfo) -> (i64, i64) {
    let or = |v: i64, default: i64| if v > 0 { v } else { default };
    (or(pod.requests.cpu_milli, 100), or(pod.requests.memory, 200 << 20))
}

fn fractions(pod: &PodInfo, node: &NodeInfo) -> Option<(i64, i64)> {
    let (cpu, memory) = wanted(pod);
    let (mut used_cpu, mut used_memory) = (cpu, memory);
    for p in &node.pods {
        let (c, m) = wanted(p);
        used_cpu = used_cpu.saturating_add(c);
        used_memory = used_memory.saturating_add(m);
    }
    let share = |used: i64, have: i64| (have > 0).then(|| (used.saturating_mul(100) / have).min(100));
    Some((share(used_cpu, node.allocatable.cpu_milli)?, share(used_memory, node.allocatable.memory)?))
}

/// 100 for an empty node, 0 for a full one.
pub fn least_allocated(_: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> i64 {
    fractions(pod, node).map_or(0, |(c, m)| (200 - c - m) / 2)
}

/// 100 when CPU and memory would be used to the same share.
pub fn balanced(_: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> i64 {
    fractions(pod, node).map_or(0, |(c, m)| 100 - (c - m).abs() / 2)
}
