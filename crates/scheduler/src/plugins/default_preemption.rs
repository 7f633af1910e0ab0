//! For a pod that fits nowhere: the node where the fewest and least important pods of lower priority would have to go.
//! Budgets are kept when any node allows it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Cycle, Refusal, fits};
use crate::core::{Budget, Cache, NodeInfo, PodInfo, explain};

/// What making room could do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preemption {
    /// For the condition and the event; empty when it was not tried.
    pub message: String,
    /// The node to wait for; empty takes a former one back, `None` leaves it.
    pub nomination: Option<String>,
    /// Those who must go, the most important first.
    pub victims: Vec<Arc<PodInfo>>,
}

/// A node where room can be made.
struct Candidate<'a> {
    node: &'a str,
    victims: Vec<Arc<PodInfo>>,
    violations: usize,
}

/// `lasting`: for each node whether its refusal would outlast any pod there, in the cache's order.
pub fn preempt(cycle: &Cycle<'_>, pod: &PodInfo, lasting: &[bool]) -> Preemption {
    let cache = cycle.cache;
    if !cycle.profile.preempts {
        return Preemption::default();
    }
    if let Err(reason) = eligible(cache, pod, lasting) {
        return Preemption { message: format!("preemption: {reason}"), ..Preemption::default() };
    }
    let open: Vec<&NodeInfo> =
        cache.nodes().iter().zip(lasting).filter(|(_, lasting)| !**lasting).map(|(n, _)| n).collect();
    let profile = cycle.profile;
    let share = open.len() * profile.candidates_percent / 100;
    let enough = profile.candidates_least.max(share).min(open.len()).max(1);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut candidates: Vec<Candidate<'_>> = Vec::new();
    let mut looked_at = 0;
    for node in around(&open, pod.pick()) {
        match victims(cycle, pod, node, &cache.budgets) {
            Ok((victims, violations)) => candidates.push(Candidate { node: &node.name, victims, violations }),
            Err(r) => r.reasons.into_iter().for_each(|r| *reasons.entry(r.into_owned()).or_default() += 1),
        }
        looked_at += 1;
        if candidates.len() >= enough && candidates.iter().any(|c| c.violations == 0) {
            break;
        }
    }
    let Some(best) = candidates.into_iter().min_by_key(Candidate::cost) else {
        if cache.len() > looked_at {
            *reasons.entry("Preemption is not helpful for scheduling".into()).or_default() +=
                cache.len() - looked_at;
        }
        let message = format!("preemption: {}", explain(cache.len(), &reasons));
        return Preemption { message, nomination: Some(String::new()), victims: Vec::new() };
    };
    Preemption {
        message: format!(
            "preemption: found a potential placement for pod on node {}, preempting {} victims",
            best.node,
            best.victims.len()
        ),
        nomination: Some(best.node.to_owned()),
        victims: best.victims,
    }
}

/// The list as a ring, from somewhere in it.
fn around<'a, 'b>(nodes: &'b [&'a NodeInfo], from: usize) -> impl Iterator<Item = &'a NodeInfo> + 'b {
    let start = from % nodes.len().max(1);
    nodes.iter().cycle().skip(start).take(nodes.len()).copied()
}

fn eligible(cache: &Cache, pod: &PodInfo, lasting: &[bool]) -> Result<(), &'static str> {
    if pod.never_preempts {
        return Err("not eligible due to preemptionPolicy=Never.");
    }
    let Some(name) = cache.nomination(&pod.uid) else { return Ok(()) };
    let mut nodes = cache.nodes().iter().zip(lasting);
    match nodes.find(|(n, _)| n.name == name) {
        Some((node, false))
            if node.pods.iter().any(|p| p.priority < pod.priority && p.deleting && p.preempted) =>
        {
            Err("not eligible due to a terminating pod on the nominated node.")
        }
        _ => Ok(()),
    }
}

/// One without a start counts as started last.
fn started(p: &PodInfo) -> Timestamp {
    p.started.unwrap_or(Timestamp::MAX)
}

fn importance(p: &PodInfo) -> (Reverse<i64>, Timestamp) {
    (Reverse(p.priority), started(p))
}

impl Candidate<'_> {
    /// Budgets first, then the highest priority, the sum of priorities, their number, and how long the most important ran.
    fn cost(&self) -> (usize, i64, i64, usize, Reverse<Timestamp>) {
        let highest = self.victims.iter().map(|v| v.priority).max().unwrap_or(i64::MIN);
        // Shifted, so that a few of negative priority do not weigh less than none.
        let sum = self.victims.iter().map(|v| v.priority + i64::from(i32::MAX) + 1).sum();
        let most = self.victims.iter().filter(|v| v.priority == highest);
        let earliest = most.map(|v| started(v)).min().unwrap_or(Timestamp::MAX);
        (self.violations, highest, sum, self.victims.len(), Reverse(earliest))
    }
}

/// The smallest set of pods that makes room on the node, and how many of them break a budget.
fn victims(
    cycle: &Cycle<'_>,
    pod: &PodInfo,
    node: &NodeInfo,
    budgets: &BTreeMap<(String, String), Budget>,
) -> Result<(Vec<Arc<PodInfo>>, usize), Refusal> {
    let mut lower: Vec<Arc<PodInfo>> =
        node.pods.iter().filter(|p| p.priority < pod.priority).cloned().collect();
    if lower.is_empty() {
        return Err(Refusal::lasting("No preemption victims found for incoming pod"));
    }
    lower.sort_by_key(|p| importance(p));
    let (mut node, mut cycle) = (node.clone(), cycle.clone());
    for p in &lower {
        node.remove_pod(&p.uid);
        cycle.count(pod, p, &node, -1);
    }
    fits(&cycle, pod, &node).map_err(|(_, r)| r)?;
    // Whoever may stay, stays: first those whose loss breaks a budget, the more important first.
    let (breaking, others) = split(lower, budgets);
    let mut gone = Vec::new();
    let mut violations = 0;
    for (breaks, p) in breaking.into_iter().map(|p| (1, p)).chain(others.into_iter().map(|p| (0, p))) {
        node.add_pod(p.clone());
        cycle.count(pod, &p, &node, 1);
        if fits(&cycle, pod, &node).is_err() {
            node.remove_pod(&p.uid);
            cycle.count(pod, &p, &node, -1);
            violations += breaks;
            gone.push(p);
        }
    }
    if gone.is_empty() {
        // It fits as it is: the refusal came from pods elsewhere.
        return Err(Refusal::lasting("No preemption victims found for incoming pod"));
    }
    gone.sort_by_key(|p| importance(p));
    Ok((gone, violations))
}

type Pods = Vec<Arc<PodInfo>>;

/// Those whose loss would break a budget, and the others. Each budget is used up in order of importance.
fn split(pods: Pods, budgets: &BTreeMap<(String, String), Budget>) -> (Pods, Pods) {
    let mut left: Vec<(&Budget, i64)> = budgets.values().map(|b| (b, b.allowed)).collect();
    pods.into_iter().partition(|p| {
        for (_, left) in left.iter_mut().filter(|(b, _)| b.guards(&p.namespace, &p.name, &p.labels)) {
            *left -= 1;
            if *left < 0 {
                return true;
            }
        }
        false
    })
}
