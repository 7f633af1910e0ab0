//! Before a pod that serves is told to stop, its traffic is led away. A program that ends some milliseconds after
//! SIGTERM would otherwise fail the requests that the proxies still send it: upstream leaves that gap to a preStop
//! sleep; here the kubelet waits until no EndpointSlice lists the pod as ready, and a little more for proxies to act on
//! it. Bounded, and only for pods that were ready and listed.

use std::time::Duration;

use api::Object;
use client::Informer;
use serde::Deserialize;
use tokio::sync::watch;

use crate::node_ctx::Node;
use crate::pod::Pod;

const LONGEST: Duration = Duration::from_secs(2);
/// From the slice's change to the rules of every proxy.
const SETTLE: Duration = Duration::from_millis(200);

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
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct Target {
    uid: String,
}

/// Whether a slice lists the pod as ready; no condition means yes, as upstream reads it.
fn lists(slice: &Object, uid: &str) -> bool {
    let Ok(v) = slice.view::<Slice>() else { return false };
    v.endpoints.into_iter().flatten().any(|e| e.target_ref.uid == uid && e.conditions.ready != Some(false))
}

fn listed(slices: &Informer, pod: &Pod) -> bool {
    slices.list(Some(&pod.metadata.namespace)).iter().any(|s| lists(s, &pod.metadata.uid))
}

/// The slices, and a count that moves whenever one of them changes.
pub struct Slices {
    informer: Informer,
    changed: watch::Receiver<u64>,
}

impl Slices {
    pub fn new(informer: Informer) -> Self {
        let (tx, changed) = watch::channel(0);
        informer.on_change(move |_| tx.send_modify(|n| *n += 1));
        Self { informer, changed }
    }
}

/// Returns when it is safe to stop the pod's containers, or when `at_most` has passed.
pub async fn wait(node: &Node, pod: &Pod, was_ready: bool, at_most: Duration) {
    let Some(slices) = &node.slices else { return };
    if !was_ready || !listed(&slices.informer, pod) {
        return;
    }
    let mut changed = slices.changed.clone();
    let gone = async {
        loop {
            changed.borrow_and_update();
            if !listed(&slices.informer, pod) {
                break;
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
        tokio::time::sleep(SETTLE).await;
    };
    if tokio::time::timeout(LONGEST.min(at_most), gone).await.is_err() {
        tracing::info!(pod = %pod.key(), "endpoint slices still list the pod as ready, stopping it all the same");
    }
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
        assert!(!lists(&slice(json!({"ready": true})), "other"));
    }
}
