//! A claim with the access mode ReadWriteOncePod serves one pod of the whole cluster.

use super::{Cycle, Refusal};
use crate::core::{Cache, NodeInfo, PodInfo};

#[derive(Clone)]
pub struct State {
    /// The pod's claims that it would need for itself.
    exclusive: Vec<String>,
    /// How many running pods have one of them.
    users: i64,
}

impl State {
    pub fn new(cache: &Cache, pod: &PodInfo) -> Self {
        let exclusive: Vec<String> = cache.volumes.exclusive(pod).map(str::to_owned).collect();
        let mut state = Self { exclusive, users: 0 };
        if !state.exclusive.is_empty() {
            for other in cache.nodes().iter().flat_map(|n| &n.pods).filter(|o| o.uid != pod.uid) {
                state.count(pod, other, 1);
            }
        }
        state
    }

    pub fn count(&mut self, pod: &PodInfo, other: &PodInfo, by: i64) {
        let uses = other.claims.iter().any(|u| self.exclusive.contains(&u.name));
        if other.namespace == pod.namespace && uses {
            self.users += by;
        }
    }
}

pub fn filter(cycle: &Cycle<'_>, _: &PodInfo, _: &NodeInfo) -> Result<(), Refusal> {
    if cycle.claims.users == 0 {
        return Ok(());
    }
    Err(Refusal::for_now(
        "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",
    ))
}
