//! The node IPAM loop: each node gets a block of every cluster network for its pods, once and for as long as it exists. What
//! is in use stands in the nodes themselves, so that nothing is lost with this process. Owns who has what, as the nodes say it
//! or as it was given last; spawns one worker: blocks are given one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::resource::NODES;
use client::{Informer, ObjectRef, Patch};
use netlink::Cidr;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;

use crate::Context;
use crate::skeleton::{self, Error, Key, Next, Queue};

/// What a node that was there before says it uses already: it gets the same again where nobody else has it.
pub const WISH: &str = "kelson.dev/pod-cidrs";
/// Looked at among the blocks of one network: as many as upstream has bits for.
const BLOCKS: u128 = 1 << 16;
/// Nodes that are given theirs at once, as many as upstream's: each waits for a write to be durable.
const WORKERS: usize = 30;

#[derive(Deserialize, Default)]
#[serde(default)]
struct View {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Spec {
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
}

impl View {
    fn cidrs(&self) -> Vec<Cidr> {
        self.spec.pod_cidrs.iter().filter_map(|c| c.parse().ok()).collect()
    }
    fn wish(&self) -> Vec<Cidr> {
        let text = self.metadata.annotations.get(WISH).map(String::as_str).unwrap_or_default();
        text.split(',').filter_map(|c| c.trim().parse().ok()).collect()
    }
}

/// A block of this network for each node: /24 or /64, or all of a smaller network.
fn length(network: &Cidr) -> u8 {
    network.len.max(if network.addr.is_ipv4() { 24 } else { 64 })
}

/// The n-th node's blocks, one of each network.
pub fn blocks(networks: &[Cidr], n: u128) -> Vec<Cidr> {
    networks.iter().filter_map(|c| c.subnet(length(c), n)).collect()
}

/// A block of each network: the wished one if it is free, else the first that is. `None`: one network has none left.
fn choose(networks: &[Cidr], wish: &[Cidr], taken: &[Cidr]) -> Option<Vec<Cidr>> {
    let one = |network: &Cidr| {
        let len = length(network);
        let inside: Vec<&Cidr> = taken.iter().filter(|t| t.overlaps(network)).collect();
        let free = |c: &Cidr| !inside.iter().any(|t| t.overlaps(c));
        let wished = wish
            .iter()
            .copied()
            .find(|w| w.len == len && network.contains(w.addr) && w.nth(0) == Some(w.addr) && free(w));
        // Most blocks that are taken are blocks of ours: these need no comparison with all others.
        let ours: BTreeSet<Cidr> = inside.iter().filter(|t| t.len == len).map(|t| **t).collect();
        let count = 1u128.checked_shl(u32::from(len - network.len)).unwrap_or(BLOCKS).min(BLOCKS);
        let mut all = (0..count).filter_map(|n| network.subnet(len, n)).filter(|c| !ours.contains(c));
        wished.or_else(|| all.find(free))
    };
    networks.iter().map(one).collect()
}

type Used = Arc<Mutex<BTreeMap<String, Vec<Cidr>>>>;

struct Loop {
    ctx: Context,
    nodes: Informer,
    used: Used,
}

pub async fn run(ctx: Context) {
    let (queue, used) = (Queue::default(), Used::default());
    let nodes = ctx.informers.get(&NODES);
    if ctx.config.cluster_cidrs.is_empty() {
        return ctx.token.cancelled().await;
    }
    // All nodes first: what they have is not to be given again.
    if !skeleton::synced(&ctx.token, &[&nodes]).await {
        return;
    }
    let (q, u, waiting) = (queue.clone(), used.clone(), Mutex::new(BTreeSet::new()));
    nodes.on_change(move |c| {
        let Some(o) = c.object() else { return };
        let mut waiting = waiting.lock();
        if c.new.is_none() {
            waiting.remove(o.name());
            if u.lock().remove(o.name()).is_some() {
                // Somebody may have found none left.
                waiting.iter().for_each(|name: &String| q.add((String::new(), name.clone())));
            }
            return;
        }
        let cidrs = o.view::<View>().map(|v| v.cidrs()).unwrap_or_default();
        if cidrs.is_empty() {
            if waiting.insert(o.name().to_owned()) {
                q.add(skeleton::key_of(o));
            }
        } else {
            waiting.remove(o.name());
            u.lock().insert(o.name().to_owned(), cidrs);
        }
    });
    let l = Loop { ctx: ctx.clone(), nodes, used };
    skeleton::work("node-ipam", &ctx.token, &queue, WORKERS, |key| l.reconcile(key)).await;
}

impl Loop {
    /// What others than this node have.
    fn taken(&self, used: &BTreeMap<String, Vec<Cidr>>, name: &str) -> Vec<Cidr> {
        let config = &self.ctx.config;
        let mut all: Vec<Cidr> =
            used.iter().filter(|(n, _)| *n != name).flat_map(|(_, c)| c.iter().copied()).collect();
        if config.first_block.as_deref().is_some_and(|first| first != name) {
            all.extend(blocks(&config.cluster_cidrs, 0));
        }
        all
    }

    /// Chooses for the node, and notes it, in one: others look for theirs at the same time.
    fn take(&self, name: &str, wished: Vec<Cidr>) -> Option<Vec<Cidr>> {
        let config = &self.ctx.config;
        let mut used = self.used.lock();
        // The second try of a write that failed gives the same.
        let mut wish = used.get(name).cloned().unwrap_or_default();
        if config.first_block.as_deref() == Some(name) {
            wish.extend(blocks(&config.cluster_cidrs, 0));
        }
        wish.extend(wished);
        let cidrs = choose(&config.cluster_cidrs, &wish, &self.taken(&used, name))?;
        used.insert(name.to_owned(), cidrs.clone());
        Some(cidrs)
    }

    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let name = key.1;
        let Some(node) = self.nodes.get("", &name) else {
            // Gone while it was given something. Under the lock, lest one of the same name has come meanwhile.
            let mut used = self.used.lock();
            if self.nodes.get("", &name).is_none() {
                used.remove(&name);
            }
            return Ok(Next::Wait);
        };
        let view: View = node.view()?;
        if !view.spec.pod_cidrs.is_empty() {
            return Ok(Next::Wait);
        }
        let Some(cidrs) = self.take(&name, view.wish()) else {
            self.ctx.events.normal(
                ObjectRef::of(&NODES, &node),
                "CIDRNotAvailable",
                format!("Node {name} status is now: CIDRNotAvailable"),
            );
            return Ok(Next::Wait);
        };
        let texts: Vec<String> = cidrs.iter().map(ToString::to_string).collect();
        let patch = json!({ "metadata": { "uid": node.uid() },
            "spec": { "podCIDR": texts.first(), "podCIDRs": texts } });
        match self.ctx.client.patch(&NODES, "", &name, "", &Patch::Merge(patch)).await {
            Ok(_) => {
                tracing::info!(node = name, cidrs = texts.join(","), "gave the node its pod networks");
                Ok(Next::Wait)
            }
            Err(e) => {
                self.ctx.events.normal(
                    ObjectRef::of(&NODES, &node),
                    "CIDRAssignmentFailed",
                    format!("Node {name} status is now: CIDRAssignmentFailed"),
                );
                Err(e.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidrs(text: &str) -> Vec<Cidr> {
        text.split_whitespace().map(|c| c.parse().expect("cidr")).collect()
    }

    fn chosen(networks: &str, wish: &str, taken: &str) -> Option<String> {
        let c = choose(&cidrs(networks), &cidrs(wish), &cidrs(taken))?;
        Some(c.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_first_free_block_of_each_network() {
        for (networks, wish, taken, want) in [
            ("10.1.0.0/16", "", "", Some("10.1.0.0/24")),
            ("10.1.0.0/16", "", "10.1.0.0/24 10.1.2.0/24", Some("10.1.1.0/24")),
            ("10.1.0.0/16 fd00::/56", "", "10.1.0.0/24 fd00::/64", Some("10.1.1.0/24 fd00:0:0:1::/64")),
            // Each family by itself.
            ("10.1.0.0/16 fd00::/56", "", "10.1.0.0/24", Some("10.1.1.0/24 fd00::/64")),
            // What somebody gave by hand counts, whatever its size.
            ("10.1.0.0/16", "", "10.1.0.0/20", Some("10.1.16.0/24")),
            ("10.1.0.0/16", "", "10.1.0.128/25 10.0.0.0/24", Some("10.1.1.0/24")),
            ("10.1.0.0/23", "", "10.1.0.0/24 10.1.1.0/24", None),
            ("10.1.0.0/16 fd00::/64", "", "fd00::/64", None),
            // A network smaller than a block is one block.
            ("10.1.0.0/26", "", "", Some("10.1.0.0/26")),
            ("10.1.0.0/16", "10.1.7.0/24", "10.1.0.0/24", Some("10.1.7.0/24")),
            ("10.1.0.0/16", "10.1.7.0/24", "10.1.7.0/24", Some("10.1.0.0/24")),
            ("10.1.0.0/16", "10.1.7.0/25 10.2.0.0/24 10.1.7.9/24", "", Some("10.1.0.0/24")),
            ("10.0.0.0/8", "", "", Some("10.0.0.0/24")),
        ] {
            assert_eq!(chosen(networks, wish, taken).as_deref(), want, "{networks} {wish} {taken}");
        }
    }

    #[test]
    fn no_block_is_given_twice() {
        let networks = cidrs("10.1.0.0/18 fd00::/58");
        let mut taken: Vec<Cidr> = Vec::new();
        for _ in 0..64 {
            let new = choose(&networks, &[], &taken).expect("a block");
            assert!(new.len() == 2 && new.iter().all(|n| !taken.iter().any(|t| n.overlaps(t))));
            taken.extend(new);
        }
        assert_eq!(choose(&networks, &[], &taken), None);
        let back = taken.remove(20);
        assert_eq!(choose(&networks[..1], &[], &taken), Some(vec![back]));
    }
}
