//! Before a pod that serves is told to stop, its traffic is led away. A program that ends some milliseconds after
//! SIGTERM would otherwise fail the requests that the proxy still sends it: upstream leaves that gap to a preStop sleep.
//! Here the kubelet waits until no EndpointSlice lists the pod, then until the proxy of this node says that its rules
//! hold that revision, and a little more for requests on connections opened just before (ADR 4). Bounded, and only for
//! pods that were ready and listed.

use std::time::Duration;

use api::Object;
use client::Informer;
use serde::Deserialize;
use tokio::sync::watch;

use crate::node_ctx::Node;
use crate::pod::Pod;

/// A pod that is deleted leaves its slices soon; only a control plane that is down or overwhelmed takes this long.
const LONGEST: Duration = Duration::from_secs(10);
/// What the kubelet ends by itself (eviction, deadline) stays listed until its status says so.
const LONGEST_ALIVE: Duration = Duration::from_secs(2);
/// After the rules are in force: requests under way end, and the proxies of other nodes follow.
const LINGER: Duration = Duration::from_millis(500);

#[derive(Deserialize, Default)]
#[serde(default)]
struct Slice {
    endpoints: Option<Vec<Endpoint>>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Endpoint {
    conditions: Conditions,
    target_ref: Target,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    terminating: Option<bool>,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct Target {
    uid: String,
}

fn holds(slice: &Object, uid: &str) -> bool {
    slice.view::<Slice>().is_ok_and(|v| v.endpoints.into_iter().flatten().any(|e| e.target_ref.uid == uid))
}

/// Whether a slice lists the pod as one that takes new connections; no condition means ready, as upstream reads it. A
/// service that publishes what is not ready wants its pods called until the end: there is nothing to wait for.
fn lists(slice: &Object, uid: &str) -> bool {
    let Ok(v) = slice.view::<Slice>() else { return false };
    let serves = |c: &Conditions| c.ready != Some(false) && c.terminating != Some(true);
    v.endpoints.into_iter().flatten().any(|e| e.target_ref.uid == uid && serves(&e.conditions))
}

fn listed(slices: &Informer, pod: &Pod) -> bool {
    slices.list(Some(&pod.metadata.namespace)).iter().any(|s| lists(s, &pod.metadata.uid))
}

/// Whether a slice has the pod at all. One that the slices already call terminating may still be in the proxy's rules.
fn known(slices: &Informer, pod: &Pod) -> bool {
    slices.list(Some(&pod.metadata.namespace)).iter().any(|s| holds(s, &pod.metadata.uid))
}

/// The revision up to which every EndpointSlice is in force on this node; `None` before the first time. The proxy
/// writes it, the kubelet reads it, neither knows the other.
pub type InForce = watch::Receiver<Option<u64>>;

/// The slices, a count that moves whenever one of them changes, and what the proxy has made of them.
pub struct Slices {
    informer: Informer,
    changed: watch::Receiver<u64>,
    /// Absent where another proxy serves the node.
    in_force: Option<InForce>,
}

impl Slices {
    pub fn new(informer: Informer, in_force: Option<InForce>) -> Self {
        let (tx, changed) = watch::channel(0);
        informer.on_change(move |_| tx.send_modify(|n| *n += 1));
        Self { informer, changed, in_force }
    }

    /// Returns when no slice lists the pod and the proxy's rules say the same.
    async fn led_away(&self, pod: &Pod) {
        let mut changed = self.changed.clone();
        loop {
            changed.borrow_and_update();
            if !listed(&self.informer, pod) {
                break;
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
        let slices = self.informer.list(Some(&pod.metadata.namespace));
        let revision = slices.iter().map(Object::revision).max().unwrap_or(0);
        if let Some(mut in_force) = self.in_force.clone() {
            let _ = in_force.wait_for(|r| r.is_some_and(|r| r >= revision)).await;
        }
    }
}

/// Returns when it is safe to stop the pod's containers, or when `at_most` has passed.
pub async fn wait(node: &Node, pod: &Pod, was_ready: bool, at_most: Duration) {
    let Some(slices) = &node.slices else { return };
    if !was_ready || !known(&slices.informer, pod) {
        return;
    }
    let longest = if pod.deleting() { LONGEST } else { LONGEST_ALIVE };
    if tokio::time::timeout(longest.min(at_most), slices.led_away(pod)).await.is_err() {
        tracing::info!(pod = %pod.key(), "the pod is still listed or its traffic not yet led away, stopping it all the same");
        return;
    }
    tokio::time::sleep(LINGER.min(at_most)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_slice_lists_its_ready_endpoints() {
        let slice = |c: serde_json::Value| {
            let v = json!({"metadata": {"name": "s"}, "endpoints": [{"conditions": c, "targetRef": {"uid": "u"}}]});
            Object::from_value(v, 1).expect("object")
        };
        assert!(lists(&slice(json!({"ready": true})), "u"));
        assert!(lists(&slice(json!({})), "u"));
        assert!(!lists(&slice(json!({"ready": false})), "u"));
        assert!(!lists(&slice(json!({"ready": true, "terminating": true})), "u"));
        assert!(!lists(&slice(json!({"ready": true})), "other"));
        assert!(holds(&slice(json!({"ready": false})), "u") && !holds(&slice(json!({})), "other"));
    }
}
