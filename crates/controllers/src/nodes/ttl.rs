//! The ttl loop: how long kubelets may rely on what they know of secrets and config maps, by the size of the cluster, in an
//! annotation of each node. Kubelets of other makers read it. Owns the step that the cluster is on; spawns its workers.

use std::sync::Arc;

use api::resource::NODES;
use client::Patch;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::Context;
use crate::skeleton::{self, Key, Next, Queue, key_of};

const TTL: &str = "node.alpha.kubernetes.io/ttl";

/// Fewest and most nodes of a step, and its seconds. They overlap, so that a node more or less does not change all others.
const STEPS: [(usize, usize, u32); 5] =
    [(0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, usize::MAX, 300)];

/// The step of a cluster of `nodes` that was on `step` before.
fn step(mut step: usize, nodes: usize) -> usize {
    while STEPS.get(step).is_some_and(|s| nodes > s.1) {
        step += 1;
    }
    while STEPS.get(step).is_some_and(|s| nodes < s.0) {
        step -= 1;
    }
    step
}

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let nodes = ctx.informers.get(&NODES);
    let at = Arc::new(Mutex::new(0));
    let (all, q, now) = (nodes.clone(), queue.clone(), at.clone());
    nodes.on_change(move |c| {
        if let Some(node) = c.new {
            q.add(key_of(node));
        }
        if c.old.is_some() == c.new.is_some() {
            return;
        }
        let mut now = now.lock();
        let new = step(*now, all.len());
        if std::mem::replace(&mut *now, new) != new {
            all.list(None).iter().for_each(|n| q.add(key_of(n)));
        }
    });
    if !skeleton::synced(&ctx.token, &[&nodes]).await {
        return;
    }
    skeleton::work("ttl", &ctx.token, &queue, 2, |key: Key| {
        let (ctx, nodes) = (&ctx, &nodes);
        let seconds = STEPS.get(*at.lock()).map_or(0, |s| s.2).to_string();
        async move {
            let Some(node) = nodes.get("", &key.1) else { return Ok(Next::Wait) };
            if node.view::<Value>()?["metadata"]["annotations"][TTL] != seconds.as_str() {
                let patch = json!({ "metadata": { "annotations": { TTL: seconds } } });
                match ctx.client.patch(&NODES, "", &key.1, "", &Patch::Merge(patch)).await {
                    Err(s) if !s.is_not_found() => return Err(s.into()),
                    _ => {}
                }
            }
            Ok(Next::Wait)
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_overlap() {
        for (from, nodes, to) in [
            (0, 0, 0),
            (0, 100, 0),
            (0, 101, 1),
            (1, 95, 1),
            (1, 89, 0),
            (0, 5000, 4),
            (4, 1800, 4),
            (4, 1799, 3),
            (4, 1, 0),
        ] {
            assert_eq!(step(from, nodes), to, "{nodes} from {from}");
        }
    }
}
