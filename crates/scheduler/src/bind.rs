//! The scheduler's writes: the binding, the PodScheduled condition, the events.

use api::resource::PODS;
use api::{Resource, Status};
use client::{Client, EventRecorder, ObjectRef, Patch};
use serde_json::json;
use tracing::debug;

use crate::core::PodInfo;

fn reference(pod: &PodInfo) -> ObjectRef {
    ObjectRef {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        ..ObjectRef::default()
    }
}

/// Binds and tells it.
pub async fn bind(client: &Client, events: &EventRecorder, pod: &PodInfo, node: &str) -> Result<(), Status> {
    let body = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": { "name": pod.name, "namespace": pod.namespace, "uid": pod.uid },
        "target": { "apiVersion": "v1", "kind": "Node", "name": node },
    });
    client.create_sub(&PODS, &pod.namespace, Some(&pod.name), "binding", &body).await?;
    let message = format!("Successfully assigned {}/{} to {node}", pod.namespace, pod.name);
    events.normal(reference(pod), "Scheduled", message);
    Ok(())
}

/// Says why a pod fits nowhere: once per message, in the condition and as an event.
pub async fn report(client: &Client, events: &EventRecorder, pod: &PodInfo, message: &str) {
    let reason = if pod.gates.is_empty() { "Unschedulable" } else { "SchedulingGated" };
    if pod.gates.is_empty() {
        events.warning(reference(pod), "FailedScheduling", message);
    }
    if pod.reported.as_deref() == Some(message) {
        return;
    }
    let patch = Patch::Strategic(json!({ "metadata": { "uid": pod.uid }, "status": { "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
        "lastProbeTime": null, "lastTransitionTime": client::clock::rfc3339(client::clock::now()),
    }] } }));
    let pods: &Resource = &PODS;
    if let Err(status) = client.patch(pods, &pod.namespace, &pod.name, "status", &patch).await {
        debug!(pod = %pod.name, error = %status, "failed to report an unschedulable pod");
    }
}
