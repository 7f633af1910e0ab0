//! The node's own object: registration, status, lease. `run` keeps them; it spawns nothing.

pub mod facts;
pub mod lease;
pub mod status;

use std::sync::Arc;
use std::time::Duration;

use api::{Status, resource::NODES};
use client::{Patch, clock};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::node_ctx::Node;

const LOOK: Duration = Duration::from_secs(10);
/// An unchanged status is written this rarely.
const REPORT_SECONDS: i64 = 300;

/// Registers the node and keeps its status, until cancelled.
pub async fn run(node: Arc<Node>, token: CancellationToken) {
    let work = async {
        let mut sent: Option<Value> = None;
        let mut sent_at = 0;
        let mut pause = Duration::from_millis(20);
        loop {
            match register(&node).await {
                Ok(()) => break,
                Err(e) => {
                    tracing::debug!(error = %e, "failed to register the node, trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
            }
        }
        let mut ready = false;
        let mut quick = 0;
        loop {
            let now = clock::now();
            let runtime = node.runtime.status().await;
            let new = status::compute(&node, &runtime, sent.as_ref()).await;
            let was_ready = std::mem::replace(&mut ready, status::is_ready(&new));
            let due = now.as_second() - sent_at >= REPORT_SECONDS;
            let changed =
                sent.as_ref().is_none_or(|s| status::without_times(s) != status::without_times(&new));
            if due || changed || overruled(&node, &new).await {
                match write(&node, &new).await {
                    Ok(()) => {
                        if ready && !was_ready {
                            node.recorder.normal(
                                node.about_node(),
                                "NodeReady",
                                format!("Node {} status is now: NodeReady", node.cfg.node_name),
                            );
                        }
                        sent = Some(new);
                        sent_at = now.as_second();
                    }
                    Err(e) if e.is_not_found() => {
                        let _ = register(&node).await;
                        sent = None;
                    }
                    Err(e) => tracing::warn!(error = %e, "failed to write the node's status"),
                }
            }
            // The runtime comes up beside us: look often until it is there.
            if ready && sent.is_some() {
                tokio::time::sleep(LOOK).await;
            } else {
                quick += 1;
                tokio::time::sleep(if quick < 200 {
                    Duration::from_millis(50)
                } else {
                    Duration::from_secs(1)
                })
                .await;
            }
        }
    };
    tokio::select! { () = token.cancelled() => {}, () = work => {} }
}

/// Whether the API shows conditions other than ours: the node lifecycle loop took us for dead.
async fn overruled(node: &Node, status: &Value) -> bool {
    match node.client.find(&NODES, "", &node.cfg.node_name).await {
        Ok(Some(o)) => o.value().is_ok_and(|v| !status::same_conditions(&v["status"], status)),
        // Gone: the write below finds that out and registers anew.
        Ok(None) => true,
        Err(_) => false,
    }
}

async fn write(node: &Node, status: &Value) -> Result<(), Status> {
    let body = Patch::Strategic(json!({ "status": status }));
    node.client.patch(&NODES, "", &node.cfg.node_name, "status", &body).await.map(|_| ())
}

/// Makes the node's object, or brings its labels and annotations up to date.
async fn register(node: &Node) -> Result<(), Status> {
    let labels = status::labels(node);
    let runtime = node.runtime.status().await;
    if let Some(old) = node.client.find(&NODES, "", &node.cfg.node_name).await? {
        let annotations = &node.cfg.node_annotations;
        let value = old.value().map_err(Status::internal)?;
        let annotated = annotations.iter().all(|(k, v)| value["metadata"]["annotations"][k] == v.as_str());
        if !old.meta().labels.has_all(&labels) || !annotated {
            let body = Patch::Strategic(json!({"metadata": {"labels": labels, "annotations": annotations}}));
            node.client.patch(&NODES, "", &node.cfg.node_name, "", &body).await?;
        }
        return Ok(());
    }
    let status = status::compute(node, &runtime, None).await;
    let mut annotations = node.cfg.node_annotations.clone();
    annotations.insert("volumes.kubernetes.io/controller-managed-attach-detach".into(), "true".into());
    let mut body = json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": node.cfg.node_name, "labels": labels, "annotations": annotations},
        "spec": {}, "status": status});
    if !node.cfg.taints.is_empty() {
        body["spec"]["taints"] = json!(node.cfg.taints);
    }
    match node.client.create(&NODES, "", &body).await {
        Err(e) if e.is_already_exists() => Ok(()),
        other => {
            other?;
            node.recorder.normal(node.about_node(), "Starting", "Starting kubelet.");
            Ok(())
        }
    }
}
