//! The scheduler's writes: the binding, the PodScheduled condition, the events.

use api::resource::PODS;
use api::{Resource, Status};
use client::{Client, EventRecorder, ObjectRef, Patch, planted};
use serde_json::json;
use tracing::debug;

use crate::core::PodInfo;
use crate::extender::Extender;

pub fn reference(pod: &PodInfo) -> ObjectRef {
    ObjectRef {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        ..ObjectRef::default()
    }
}

/// Binds, or has an extender do it, and tells it.
pub async fn bind(
    client: &Client,
    events: &EventRecorder,
    binder: Option<&Extender>,
    pod: &PodInfo,
    node: &str,
) -> Result<(), Status> {
    let body = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": { "name": pod.name, "namespace": pod.namespace, "uid": pod.uid },
        "target": { "apiVersion": "v1", "kind": "Node", "name": node },
    });
    match binder {
        Some(e) => e.bind(pod, node).await.map_err(Status::internal)?,
        None => {
            client.create_sub(&PODS, &pod.namespace, Some(&pod.name), "binding", &body).await?;
        }
    }
    if planted::is_on("binding-twice") {
        let mut again = body;
        again["target"]["name"] = json!(if node == "node-1" { "node-2" } else { "node-1" });
        client.create_sub(&PODS, &pod.namespace, Some(&pod.name), "binding", &again).await?;
    }
    let message = format!("Successfully assigned {}/{} to {node}", pod.namespace, pod.name);
    events.normal(reference(pod), "Scheduled", message);
    Ok(())
}

/// The longest message of an event.
const LONGEST: usize = 1024;

/// Says why a pod fits nowhere: as an event, and in the condition when it is news. A nomination other than the one that
/// the API knows is written too; an empty one takes it back.
pub async fn report(
    client: &Client,
    events: &EventRecorder,
    pod: &PodInfo,
    message: &str,
    nomination: Option<&str>,
) {
    let reason = if pod.gates.is_empty() { "Unschedulable" } else { "SchedulingGated" };
    if pod.gates.is_empty() {
        events.warning(reference(pod), "FailedScheduling", shortened(message));
    }
    let nomination = nomination.filter(|n| *n != pod.nominated_node);
    let mut status = json!({});
    if pod.reported.as_deref() != Some(message) {
        let mut condition = json!({ "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
            "observedGeneration": pod.generation, "lastProbeTime": null });
        if pod.reported.is_none() {
            condition["lastTransitionTime"] = json!(client::clock::rfc3339(client::clock::now()));
        }
        status["conditions"] = json!([condition]);
    } else if nomination.is_none() {
        return;
    }
    if let Some(node) = nomination {
        status["nominatedNodeName"] = if node.is_empty() { json!(null) } else { json!(node) };
    }
    let patch = Patch::Strategic(json!({ "metadata": { "uid": pod.uid }, "status": status }));
    let pods: &Resource = &PODS;
    if let Err(status) = client.patch(pods, &pod.namespace, &pod.name, "status", &patch).await {
        debug!(pod = %pod.name, error = %status, "failed to report an unschedulable pod");
    }
}

fn shortened(message: &str) -> String {
    if message.len() <= LONGEST {
        return message.to_owned();
    }
    let mut end = LONGEST - 4;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} ...", message.get(..end).unwrap_or_default())
}
