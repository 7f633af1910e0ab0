//! Makes room on a node: takes back nominations of less important pods and deletes the victims. The pod that wanted the
//! room is settled in the queue when that is done, so that it is not tried again in between. Spawns nothing.

use std::sync::Arc;

use api::Status;
use api::resource::PODS;
use client::{Client, DeleteOptions, EventRecorder, Patch};
use serde_json::{Value, json};
use tracing::{debug, info};

use crate::DEFAULT_NAME;
use crate::bind::reference;
use crate::core::PodInfo;
use crate::pods::Shared;
use crate::queue::{Kind, Wait};

pub struct Room {
    pub pod: Arc<PodInfo>,
    pub node: String,
    pub victims: Vec<Arc<PodInfo>>,
    /// Less important pods that are nominated for the node.
    pub displaced: Vec<Arc<PodInfo>>,
    pub failed: Vec<&'static str>,
}

pub async fn make(shared: &Shared, client: &Client, events: &EventRecorder, room: Room) {
    let Room { pod, node, victims, displaced, failed } = room;
    for d in &displaced {
        let patch = json!({ "metadata": { "uid": d.uid }, "status": { "nominatedNodeName": null } });
        if let Err(e) = patch_status(client, d, patch).await {
            debug!(pod = %d.name, error = %e, "failed to take a nomination back");
        }
    }
    let mut whole = true;
    for victim in victims.iter().filter(|v| !v.deleting) {
        let now = client::clock::now();
        let in_memory = victim.assumed && shared.queue.lock().take_back(&victim.uid, now);
        let done = if in_memory {
            shared.cache.lock().remove_pod(&victim.uid);
            shared.event(Kind::PodGone.at(&node));
            Ok(true)
        } else {
            evict(client, victim).await
        };
        match done {
            Ok(true) => {
                info!(pod = %pod.name, victim = %victim.name, node, "preempted a pod");
                let place = if in_memory { " (in kube-scheduler memory)." } else { "" };
                let message = format!("Preempted by pod {} on node {node}{place}", pod.uid);
                events.normal(reference(victim), "Preempted", message);
            }
            Ok(false) => {}
            Err(e) => {
                debug!(pod = %pod.name, victim = %victim.name, error = %e, "failed to preempt a pod");
                whole = false;
                break;
            }
        }
    }
    let mut queue = shared.queue.lock();
    let now = client::clock::now();
    if whole {
        queue.unschedulable(pod, Wait { failed, promised: Some(node) }, now);
    } else {
        queue.back_off(pod, now);
    }
    drop(queue);
    shared.wake.notify_one();
}

/// False when the pod is gone already.
async fn evict(client: &Client, victim: &PodInfo) -> Result<bool, Status> {
    let message = format!("{DEFAULT_NAME}: preempting to accommodate a higher priority pod");
    let condition = json!({ "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "message": message, "observedGeneration": victim.generation, "lastProbeTime": null,
        "lastTransitionTime": client::clock::rfc3339(client::clock::now()) });
    let patch = json!({ "metadata": { "uid": victim.uid }, "status": { "conditions": [condition] } });
    let gone = |r: Result<(), Status>| match r {
        Ok(()) => Ok(true),
        Err(s) if s.is_not_found() || s.is_conflict() => Ok(false),
        Err(s) => Err(s),
    };
    if !gone(patch_status(client, victim, patch).await)? {
        return Ok(false);
    }
    gone(client.delete(&PODS, &victim.namespace, &victim.name, &DeleteOptions::uid(&victim.uid)).await)
}

async fn patch_status(client: &Client, pod: &PodInfo, patch: Value) -> Result<(), Status> {
    client.patch(&PODS, &pod.namespace, &pod.name, "status", &Patch::Strategic(patch)).await.map(|_| ())
}
