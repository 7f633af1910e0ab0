//! Nodes that hold the pod's large images already are preferred; an image that few nodes hold counts less, so that pods
//! do not pile up on one.

use crate::core::{NodeInfo, Shape};

const MIN: i64 = 23 << 20;
const MAX_PER_CONTAINER: i64 = 1000 << 20;

/// The size of one image on each node that holds it; empty as long as none does.
#[derive(Debug, Clone, Default)]
struct Held {
    sizes: Vec<i64>,
    holders: i64,
}

/// For each image of the pod.
#[derive(Debug, Clone, Default)]
pub struct State(Vec<Held>);

impl State {
    /// What the node at its index holds now.
    pub fn set(&mut self, shape: &Shape, node: &NodeInfo, nodes: usize) {
        self.0.resize_with(shape.images.len(), Held::default);
        for (image, held) in shape.images.iter().zip(&mut self.0) {
            let size = if node.images.is_empty() { None } else { node.images.get(image) };
            let size = size.copied().unwrap_or(0);
            if held.sizes.len() < nodes && (size > 0 || !held.sizes.is_empty()) {
                held.sizes.resize(nodes, 0);
            }
            let Some(known) = held.sizes.get_mut(node.index) else { continue };
            held.holders += i64::from(size > 0) - i64::from(*known > 0);
            *known = size;
        }
    }

    /// Whether no node holds any.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|h| h.holders == 0)
    }

    /// From 0 to 100 for each node; none when no node holds any.
    pub fn scores(&self, all: usize, nodes: &[u32]) -> Option<Vec<i64>> {
        if self.is_empty() {
            return None;
        }
        let all = i64::try_from(all).unwrap_or(i64::MAX).max(1);
        let max = MAX_PER_CONTAINER * i64::try_from(self.0.len()).unwrap_or(1).max(1);
        let of = |node: &u32| {
            let part = |h: &Held| h.sizes.get(*node as usize).map_or(0, |s| (s / all) * h.holders);
            let sum: i64 = self.0.iter().map(part).sum();
            100 * (sum.clamp(MIN, max) - MIN) / (max - MIN).max(1)
        };
        Some(nodes.iter().map(of).collect())
    }
}
