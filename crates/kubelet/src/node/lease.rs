//! The node's lease: renewed every 10 s of 40 s, the cheap sign of life.

use std::sync::Arc;
use std::time::Duration;

use api::{
    Status,
    resource::{LEASES, NODES},
};
use client::{Patch, clock};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::node_ctx::Node;

const NAMESPACE: &str = "kube-node-lease";
const SECONDS: i64 = 40;

pub async fn run(node: Arc<Node>, token: CancellationToken) {
    let mut pause = Duration::from_millis(100);
    loop {
        let wait = match renew(&node).await {
            Ok(()) => {
                pause = Duration::from_millis(100);
                Duration::from_secs(10)
            }
            Err(e) => {
                tracing::debug!(error = %e, "failed to renew the node's lease, trying again");
                pause = (pause * 2).min(Duration::from_secs(7));
                pause
            }
        };
        tokio::select! { () = token.cancelled() => return, () = tokio::time::sleep(wait) => {} }
    }
}

async fn renew(node: &Node) -> Result<(), Status> {
    let name = &node.cfg.node_name;
    let now = clock::rfc3339_micro(clock::now());
    let spec = json!({"holderIdentity": name, "leaseDurationSeconds": SECONDS, "renewTime": now});
    match node.client.patch(&LEASES, NAMESPACE, name, "", &Patch::Merge(json!({ "spec": spec }))).await {
        Err(e) if e.is_not_found() => {
            let owner = node.client.get(&NODES, "", name).await?;
            let body = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": name, "namespace": NAMESPACE, "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Node", "name": name, "uid": owner.uid()}]},
                "spec": spec});
            node.client.create(&LEASES, NAMESPACE, &body).await.map(|_| ())
        }
        other => other.map(|_| ()),
    }
}
