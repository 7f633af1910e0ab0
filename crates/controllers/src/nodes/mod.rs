//! Loops about nodes: `lifecycle` (health, taints, pods marked not ready), `taint_eviction` (pods leave nodes whose taints
//! they do not bear) and `pod_gc` (pods that nobody will end). `health` and `view` are pure.

mod health;
mod ipam;
mod lifecycle;
mod pod_gc;
mod taint_eviction;
mod ttl;
mod view;

use api::resource::PODS;
use api::{Object, Status};
use client::{Client, Informer, Patch, clock};
use serde_json::{Value, json};

pub use ipam::{WISH, blocks, run as ipam};
pub use lifecycle::run as lifecycle;
pub use pod_gc::run as pod_gc;
pub use taint_eviction::run as taint_eviction;
pub use ttl::run as ttl;

const BY_NODE: &str = "spec.nodeName";

fn node_of(pod: &Object) -> String {
    pod.view::<crate::pods::PodView>().map(|v| v.spec.node_name).unwrap_or_default()
}

/// Adds the index `BY_NODE`.
fn index_by_node(pods: &Informer) {
    pods.add_index(BY_NODE, |o| Some(node_of(o)).filter(|n| !n.is_empty()).into_iter().collect());
}

/// The condition that says why a pod is about to be deleted.
pub(crate) fn disruption_target(reason: &str, message: &str) -> Value {
    json!({ "type": "DisruptionTarget", "status": "True", "reason": reason, "message": message, "lastProbeTime": null,
        "lastTransitionTime": clock::rfc3339(clock::now()) })
}

/// Patches the status of exactly this pod; one that is gone, or replaced, is fine.
pub(crate) async fn patch_pod(client: &Client, pod: &Object, status: Value) -> Result<bool, Status> {
    let patch = Patch::Strategic(json!({ "metadata": { "uid": pod.uid() }, "status": status }));
    match client.patch(&PODS, pod.namespace(), pod.name(), "status", &patch).await {
        Ok(_) => Ok(true),
        Err(s) if s.is_not_found() || s.is_conflict() => Ok(false),
        Err(s) => Err(s),
    }
}
