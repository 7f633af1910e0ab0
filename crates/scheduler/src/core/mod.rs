//! The pure core: a cache of nodes with what runs on them, and the decision for one pod. No IO, no clock.

mod amounts;
mod budgets;
mod cache;
mod evaluation;
mod groups;
mod journal;
mod node;
mod pod;
mod profile;
mod shape;
mod terms;
mod topology;
mod volumes;

pub use amounts::Amounts;
pub use budgets::Budget;
pub use cache::Cache;
pub use groups::{Group, Groups, Owner};
pub use node::{NodeChange, NodeInfo};
pub use pod::{ClaimUse, HostPort, PodInfo};
pub use profile::{FitStrategy, Profile, Profiles, SpreadDefaults, Weights};
pub use shape::{Shape, ShapeId};
pub(crate) use terms::SpreadView;
pub use terms::{Namespaces, PodTerm, Selector, Spread, selects};
pub use topology::{Column, NOWHERE, Topology};
pub use volumes::{Choice, Volumes};

pub use api::placement::{NodeTerm, Requirement, Taint, Toleration};

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::plugins::{self, Counts, Cycle, Preemption, Refused, Why};
use evaluation::Evaluation;

/// What became of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Node(String),
    Unschedulable {
        /// For the condition and the event: how many nodes failed for what.
        message: String,
        /// Names of the plugins that refused, for the retry on events.
        failed: Vec<&'static str>,
        /// Whether others can make room.
        preemption: Preemption,
    },
}

fn stuck(message: String, failed: Vec<&'static str>, preemption: Preemption) -> Outcome {
    Outcome::Unschedulable { message, failed, preemption }
}

/// Places one pod: the feasible node with the best score; among equals the one that the pod's uid picks, so that equal
/// nodes fill evenly and the same input gives the same answer.
pub fn schedule(cache: &mut Cache, pod: &PodInfo) -> Outcome {
    let (pod, profile) = match prepared(cache, pod) {
        Ok(ready) => ready,
        Err(outcome) => return outcome,
    };
    if let Some(outcome) = pinned(cache, &profile, &pod) {
        return outcome;
    }
    let evaluation = Evaluation::of(cache, &profile, &pod);
    let outcome = decide(cache, &profile, &pod, &evaluation);
    cache.evaluations.keep(evaluation);
    outcome
}

/// The nodes that do, with their scores, for one who has a say in it as well; or what became of the pod without.
pub fn candidates(cache: &mut Cache, pod: &PodInfo) -> Result<Vec<(String, i64)>, Outcome> {
    let (pod, profile) = prepared(cache, pod)?;
    let evaluation = Evaluation::of(cache, &profile, &pod);
    let cycle = Cycle::new(cache, &profile, &pod, Cow::Borrowed(&evaluation.counts));
    let nodes = match plugins::claims(cache, &pod) {
        Ok(()) => feasible(&cycle, &pod, &evaluation),
        Err(_) => Vec::new(),
    };
    let found = if nodes.is_empty() {
        Err(decide(cache, &profile, &pod, &evaluation))
    } else {
        let scores = evaluation.scores(cache, &nodes);
        let named = |(i, s): (u32, i64)| Some((cache.nodes().get(i as usize)?.name.clone(), s));
        Ok(nodes.into_iter().zip(scores).filter_map(named).collect())
    };
    cache.evaluations.keep(evaluation);
    found
}

/// The pod with its shape known, and its profile; or why no node is looked at.
fn prepared<'p>(cache: &mut Cache, pod: &'p PodInfo) -> Result<(Cow<'p, PodInfo>, Arc<Profile>), Outcome> {
    if let Err((plugin, r)) = plugins::gates(pod) {
        return Err(stuck(r.reasons.join(", "), vec![plugin], Preemption::default()));
    }
    if cache.is_empty() {
        let preemption = Preemption { nomination: Some(String::new()), ..Preemption::default() };
        return Err(stuck("no nodes available to schedule pods".into(), Vec::new(), preemption));
    }
    let Some(profile) = cache.profiles.of(pod).cloned() else {
        let message = format!("no profile has the name {:?}", pod.scheduler_name);
        return Err(stuck(message, Vec::new(), Preemption::default()));
    };
    let mut pod = Cow::Borrowed(pod);
    if pod.shape_id() == 0 {
        cache.intern(pod.to_mut());
    }
    Ok((pod, profile))
}

/// The decision about a pod that may go to one node only, as those of daemon sets: only that one is looked at. None when
/// there are more, or when the node does not take it and others would have to make room.
fn pinned(cache: &mut Cache, profile: &Profile, pod: &PodInfo) -> Option<Outcome> {
    let name = pod.pinned_to()?.to_owned();
    cache.know_keys(pod);
    plugins::claims(cache, pod).ok()?;
    let counts = Counts::hard(cache, profile, pod);
    let cycle = Cycle::new(cache, profile, pod, Cow::Owned(counts));
    let node = cache.node(&name)?;
    plugins::fits(&cycle, pod, node).ok().map(|()| Outcome::Node(name))
}

fn decide(cache: &Cache, profile: &Profile, pod: &PodInfo, e: &Evaluation) -> Outcome {
    let cycle = Cycle::new(cache, profile, pod, Cow::Borrowed(&e.counts));
    if let Err((plugin, r)) = plugins::claims(cache, pod) {
        let message = format!("0/{} nodes are available: {}.", cache.len(), r.reasons.join(", "));
        return stuck(message, vec![plugin], plugins::preempt(&cycle, pod, &vec![true; cache.len()]));
    }
    // Where others have made room for it.
    let nominated = cache.nomination(&pod.uid).and_then(|n| cache.node(n));
    if let Some(node) = nominated.filter(|n| plugins::fits(&cycle, pod, n).is_ok()) {
        return Outcome::Node(node.name.clone());
    }
    if pod.claims.is_empty()
        && let Some(best) = e.best_alone(cache, pod.pick())
    {
        return match best.and_then(|i| cache.nodes().get(i)) {
            Some(node) => Outcome::Node(node.name.clone()),
            None => explained(&cycle, pod, e),
        };
    }
    let feasible = feasible(&cycle, pod, e);
    let scores = e.scores(cache, &feasible);
    let best = scores.iter().copied().max().unwrap_or(0);
    let top: Vec<u32> = feasible.iter().zip(&scores).filter(|(_, s)| **s == best).map(|(n, _)| *n).collect();
    match top.get(pod.pick() % top.len().max(1)).and_then(|i| cache.nodes().get(*i as usize)) {
        Some(node) => Outcome::Node(node.name.clone()),
        None => explained(&cycle, pod, e),
    }
}

/// The nodes that do, by their place in the cache.
fn feasible(cycle: &Cycle<'_>, pod: &PodInfo, e: &Evaluation) -> Vec<u32> {
    let cache = cycle.cache;
    let mut nodes: Vec<u32> = (0u32..).zip(&e.verdicts).filter(|(_, v)| **v == 0).map(|(i, _)| i).collect();
    if !pod.claims.is_empty() {
        let node = |i: u32| cache.nodes().get(i as usize);
        nodes.retain(|i| node(*i).is_some_and(|n| plugins::of_claims(cycle, pod, n).is_ok()));
    }
    let hard = !e.counts.is_soft();
    if hard {
        let check = e.counts.checks(cache, cycle.profile);
        nodes.retain(|i| check(*i as usize).is_none());
    }
    // Pods that are nominated for a node count there by domain as well.
    let by_domain = |n: &str| hard || cache.nominated(n).iter().any(|p| p.has_terms());
    for name in cache.nominations().filter(|n| by_domain(n)) {
        if let Some(node) = cache.node(name).filter(|n| plugins::fits(cycle, pod, n).is_err())
            && let Ok(at) = nodes.binary_search(&u32::try_from(node.index).unwrap_or(NOWHERE))
        {
            nodes.remove(at);
        }
    }
    nodes
}

/// Says of a pod that fits nowhere why, and looks for room that others could make.
fn explained(cycle: &Cycle<'_>, pod: &PodInfo, e: &Evaluation) -> Outcome {
    let cache = cycle.cache;
    let mut by_verdict = vec![0usize; e.refusals.len() + 1];
    let mut by_why = [0usize; Why::ALL.len()];
    let mut others: Vec<(Refused, usize)> = Vec::new();
    let mut lasting = Vec::with_capacity(cache.len());
    // The usual case without words; where the pod's claims or nominated pods have a say, each node is asked.
    let quick = pod.claims.is_empty() && cache.nominations().next().is_none();
    let check = e.counts.checks(cache, cycle.profile);
    for (node, verdict) in cache.nodes().iter().zip(&e.verdicts) {
        let place = usize::from(*verdict);
        if let Some(n) = by_verdict.get_mut(place).filter(|_| place > 0) {
            *n += 1;
            lasting.push(e.refusals.get(place - 1).is_some_and(|(_, r)| r.lasting));
        } else if let Some(why) = check(node.index).filter(|_| quick) {
            by_why[why as usize] += 1;
            lasting.push(why.lasting());
        } else if let Err(refused) = plugins::fits(cycle, pod, node) {
            lasting.push(refused.1.lasting);
            match others.iter_mut().find(|(r, _)| *r == refused) {
                Some((_, n)) => *n += 1,
                None => others.push((refused, 1)),
            }
        } else {
            lasting.push(true);
        }
    }
    let of_nodes = e.refusals.iter().cloned().zip(by_verdict.into_iter().skip(1));
    let of_pods = Why::ALL.into_iter().map(Why::refused).zip(by_why);
    let all = of_nodes.chain(of_pods).chain(others).filter(|(_, n)| *n > 0);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut failed: Vec<&'static str> = Vec::new();
    for ((plugin, refusal), n) in all {
        refusal.reasons.into_iter().for_each(|r| *reasons.entry(r.into_owned()).or_default() += n);
        if !failed.contains(&plugin) {
            failed.push(plugin);
        }
    }
    stuck(explain(cache.len(), &reasons), failed, plugins::preempt(cycle, pod, &lasting))
}

/// Whether the node alone has nothing against the pod: no plugin that looks at it only.
pub fn could_fit(cache: &Cache, pod: &PodInfo, node: &str) -> bool {
    let (Some(node), Some(profile)) = (cache.node(node), cache.profiles.of(pod)) else { return false };
    let cycle = Cycle::new(cache, profile, pod, Cow::Owned(Counts::default()));
    plugins::of_node(&cycle, pod, node).is_ok()
}

/// Why each node that does not do refuses the pod, by the node's name.
pub fn refusals(cache: &mut Cache, pod: &PodInfo) -> Vec<(String, Refused)> {
    let mut pod = pod.clone();
    cache.intern(&mut pod);
    cache.know_keys(&pod);
    let profile = cache.profiles.of(&pod).cloned().unwrap_or_default();
    let counts = Counts::new(cache, &profile, &pod);
    let cycle = Cycle::new(cache, &profile, &pod, Cow::Owned(counts));
    let of = |n: &NodeInfo| plugins::fits(&cycle, &pod, n).err().map(|r| (n.name.clone(), r));
    cache.nodes().iter().filter_map(of).collect()
}

/// What the pod's claims that waited for it get on the node that was chosen.
pub fn choices(cache: &Cache, pod: &PodInfo, node: &str) -> Vec<Choice> {
    cache.node(node).and_then(|n| cache.volumes.choose(pod, n).ok()).unwrap_or_default()
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
pub fn explain(nodes: usize, reasons: &BTreeMap<String, usize>) -> String {
    let mut parts: Vec<String> = reasons.iter().map(|(r, n)| format!("{n} {r}")).collect();
    parts.sort();
    format!("0/{nodes} nodes are available: {}.", parts.join(", "))
}

#[cfg(test)]
mod tests;
