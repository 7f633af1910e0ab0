//! Nodes that hold the pod's large images already are preferred; an image that few nodes hold counts less, so that pods
//! do not pile up on one.

use std::collections::HashMap;

use super::Cycle;
use crate::core::{Cache, NodeInfo, PodInfo};

const MIN: i64 = 23 << 20;
const MAX_PER_CONTAINER: i64 = 1000 << 20;

/// How many nodes hold each image of the pod.
#[derive(Clone)]
pub struct State {
    holders: HashMap<String, i64>,
}

impl State {
    pub fn new(cache: &Cache, pod: &PodInfo) -> Self {
        if cache.len() < 2 {
            return Self { holders: HashMap::new() };
        }
        let holders = pod
            .images
            .iter()
            .map(|i| (i.clone(), cache.nodes().iter().filter(|n| n.images.contains_key(i)).count()))
            .map(|(i, n)| (i, i64::try_from(n).unwrap_or(i64::MAX)))
            .collect();
        Self { holders }
    }
}

pub fn score(cycle: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> i64 {
    let nodes = i64::try_from(cycle.nodes()).unwrap_or(i64::MAX).max(1);
    let containers = i64::try_from(pod.images.len()).unwrap_or(1).max(1);
    let sum: i64 = pod
        .images
        .iter()
        .filter_map(|i| {
            node.images.get(i).map(|size| (*size / nodes) * cycle.images.holders.get(i).unwrap_or(&0))
        })
        .sum();
    let max = MAX_PER_CONTAINER * containers;
    let clamped = sum.clamp(MIN, max);
    100 * (clamped - MIN) / (max - MIN).max(1)
}
