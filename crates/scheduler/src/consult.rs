//! A decision in which extenders have a say: the core says which nodes do and what they are worth, extenders leave some
//! of them and prefer others. They are asked one after another, as upstream does. Spawns nothing.

use std::collections::{BTreeMap, HashMap};

use client::Informer;
use serde_json::Value;

use crate::core::{self, Outcome, PodInfo};
use crate::decided;
use crate::extender::{Extender, Nodes};
use crate::plugins::Preemption;
use crate::pods::Shared;

/// Extenders, and where the objects are that they are told of.
pub struct Consulted {
    extenders: Vec<Extender>,
    pods: Informer,
    nodes: Informer,
}

/// Those who are asked about one pod.
pub struct Asked<'a> {
    extenders: Vec<&'a Extender>,
    of: &'a Consulted,
}

impl Consulted {
    pub fn new(extenders: Vec<Extender>, pods: Informer, nodes: Informer) -> Self {
        Self { extenders, pods, nodes }
    }

    /// None when nobody has a say about the pod.
    pub fn about(&self, pod: &PodInfo) -> Option<Asked<'_>> {
        let extenders: Vec<&Extender> = self.extenders.iter().filter(|e| e.interested(pod)).collect();
        (!extenders.is_empty()).then_some(Asked { extenders, of: self })
    }

    /// Who binds the pod in the scheduler's place.
    pub fn binder(&self, pod: &PodInfo) -> Option<&Extender> {
        self.extenders.iter().find(|e| e.binds() && e.interested(pod))
    }
}

impl Asked<'_> {
    /// An error is that of an extender.
    pub async fn decide(&self, shared: &Shared, pod: &PodInfo) -> Result<Outcome, String> {
        let candidates = decided(&mut shared.cache.lock(), pod, core::candidates);
        let object = self.of.pods.get(&pod.namespace, &pod.name).and_then(|o| o.value().ok());
        let object = object.unwrap_or_default();
        let found = match candidates {
            Ok(found) => found,
            Err(outcome) => return self.room(&object, outcome).await,
        };
        let all = shared.cache.lock().len();
        let node = |name: &str| self.of.nodes.get("", name).and_then(|o| o.value().ok());
        let mut nodes = Nodes { names: found.iter().map(|(n, _)| n.clone()).collect(), object: &node };
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        for e in &self.extenders {
            let left = e.filter(&object, &nodes).await?;
            left.refused.into_iter().for_each(|(_, why)| *reasons.entry(why).or_default() += 1);
            nodes.names = left.names;
        }
        let mut scores: HashMap<String, i64> = found.iter().cloned().collect();
        if nodes.names.len() > 1 {
            for e in &self.extenders {
                for (node, more) in e.prioritize(&object, &nodes).await {
                    if let Some(s) = scores.get_mut(&node) {
                        *s = s.saturating_add(more);
                    }
                }
            }
        }
        let score = |n: &String| scores.get(n).copied().unwrap_or(0);
        let best = nodes.names.iter().map(score).max().unwrap_or(0);
        let top: Vec<&String> = nodes.names.iter().filter(|n| score(n) == best).collect();
        if let Some(node) = top.get(pod.pick() % top.len().max(1)) {
            return Ok(Outcome::Node((*node).clone()));
        }
        let refused = core::refusals(&mut shared.cache.lock(), pod);
        for (_, (_, refusal)) in refused {
            refusal.reasons.into_iter().for_each(|r| *reasons.entry(r.into_owned()).or_default() += 1);
        }
        // Whatever happens may change an extender's mind.
        let message = core::explain(all, &reasons);
        Ok(Outcome::Unschedulable { message, failed: Vec::new(), preemption: Preemption::default() })
    }

    /// Lets extenders have their say about who would have to go.
    async fn room(&self, object: &Value, outcome: Outcome) -> Result<Outcome, String> {
        let Outcome::Unschedulable { message, failed, mut preemption } = outcome else { return Ok(outcome) };
        if let Some(node) = preemption.nomination.clone().filter(|_| !preemption.victims.is_empty()) {
            for e in &self.extenders {
                match e.preempt(object, &node, &preemption.victims).await? {
                    Some(victims) => preemption.victims = victims,
                    None => {
                        preemption = Preemption { nomination: Some(String::new()), ..Preemption::default() };
                        break;
                    }
                }
            }
        }
        Ok(Outcome::Unschedulable { message, failed, preemption })
    }
}
