//! The pod garbage collector: pods that have ended beyond a number, pods of nodes that are gone, pods on their way out that
//! were never placed, and such on a node that is out of service. Owns the nodes in quarantine; spawns nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::Status;
use api::resource::{NODES, PODS};
use client::{DeleteOptions, clock};
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::view::{NodeView, OUT_OF_SERVICE};
use super::{disruption_target, patch_pod};
use crate::pods::{self, Pod};
use crate::{Context, skeleton};

const PERIOD: Duration = Duration::from_secs(20);
/// How long a node must be missing before its pods go.
const QUARANTINE: Duration = Duration::from_secs(40);
/// Between two looks when much happens.
const PAUSE: Duration = Duration::from_millis(200);

/// Why a pod is collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    OutOfService,
    Ended,
    Unplaced,
}

/// The pods to collect, but for those of missing nodes.
fn collect<'a>(all: &'a [Pod], nodes: &HashMap<String, NodeView>, keep_ended: usize) -> Vec<(&'a Pod, Why)> {
    let leaving = all.iter().filter(|p| p.object.meta().is_deleting());
    let mut out: Vec<(&Pod, Why)> = Vec::new();
    for p in leaving {
        let out_of_service = nodes.get(&p.view.spec.node_name).is_some_and(|n| {
            n.ready() != Some("True") && n.spec.taints.iter().any(|t| t.key == OUT_OF_SERVICE)
        });
        if p.view.spec.node_name.is_empty() {
            out.push((p, Why::Unplaced));
        } else if out_of_service {
            out.push((p, Why::OutOfService));
        }
    }
    if keep_ended > 0 {
        let mut ended: Vec<&Pod> = all.iter().filter(|p| p.is_finished()).collect();
        // Those that the kubelet evicted first, then the oldest.
        let evicted = |p: &Pod| p.view.status.phase == "Failed" && p.view.status.reason == "Evicted";
        ended.sort_by_key(|p| (!evicted(p), p.created().to_owned(), p.object.name().to_owned()));
        let surplus = ended.len().saturating_sub(keep_ended);
        out.extend(ended.into_iter().take(surplus).map(|p| (p, Why::Ended)));
    }
    out
}

pub async fn run(ctx: Context) {
    let (pods, nodes) = (ctx.informers.get(&PODS), ctx.informers.get(&NODES));
    let wake = Arc::new(Notify::new());
    let w = wake.clone();
    nodes.on_change(move |c| {
        let taints =
            |o: Option<&api::Object>| o.and_then(|o| o.view::<NodeView>().ok()).map(|n| n.spec.taints);
        if taints(c.old) != taints(c.new) {
            w.notify_one();
        }
    });
    let w = wake.clone();
    pods.on_change(move |c| {
        let deleting = |o: Option<&api::Object>| o.is_some_and(|o| o.meta().is_deleting());
        if deleting(c.new) && !deleting(c.old) {
            w.notify_one();
        }
    });
    if !skeleton::synced(&ctx.token, &[&pods, &nodes]).await {
        return;
    }
    let work = async {
        let mut missing: HashMap<String, Timestamp> = HashMap::new();
        loop {
            let all = pods::parse(pods.list(None)).unwrap_or_default();
            let known: HashMap<String, NodeView> =
                nodes.list(None).iter().filter_map(|n| Some((n.name().to_owned(), n.view().ok()?))).collect();
            pass(&ctx, &all, &known, &mut missing).await;
            drop((all, known));
            tokio::time::sleep(PAUSE).await;
            tokio::select! { () = wake.notified() => {}, () = tokio::time::sleep(PERIOD) => {} }
        }
    };
    tokio::select! { () = ctx.token.cancelled() => {}, () = work => {} }
}

async fn pass(
    ctx: &Context,
    all: &[Pod],
    nodes: &HashMap<String, NodeView>,
    missing: &mut HashMap<String, Timestamp>,
) {
    let doomed = collect(all, nodes, ctx.config.terminated_pods);
    let results =
        join_all(doomed.into_iter().map(|(p, why)| async move { (p, why, end(ctx, p, None).await) })).await;
    for (p, why, result) in results {
        if let Err(s) = result {
            tracing::warn!(pod = p.object.name(), namespace = p.object.namespace(), ?why, error = %s, "failed to collect a pod, trying again");
        }
    }
    let now = clock::now();
    let absent: HashSet<&str> = all
        .iter()
        .map(|p| p.view.spec.node_name.as_str())
        .filter(|n| !n.is_empty() && !nodes.contains_key(*n))
        .collect();
    missing.retain(|n, _| absent.contains(n.as_str()));
    for node in absent {
        let since = *missing.entry(node.to_owned()).or_insert(now);
        if clock::between(since, now) < QUARANTINE {
            continue;
        }
        // The informer may lag or be wrong: the API is asked before anything goes.
        match ctx.client.find(&NODES, "", node).await {
            Ok(None) => {
                let condition = disruption_target("DeletionByPodGC", "PodGC: node no longer exists");
                for p in all.iter().filter(|p| p.view.spec.node_name == node) {
                    if let Err(s) = end(ctx, p, Some(&condition)).await {
                        tracing::warn!(pod = p.object.name(), namespace = p.object.namespace(), node, error = %s, "failed to collect a pod of a missing node, trying again");
                    }
                }
            }
            Ok(Some(_)) => {
                missing.remove(node);
            }
            Err(s) => tracing::warn!(node, error = %s, "failed to look for a node"),
        }
    }
}

/// Marks the pod failed, for whoever counts on its end, and deletes it without grace.
async fn end(ctx: &Context, pod: &Pod, condition: Option<&Value>) -> Result<(), Status> {
    if !pod.is_finished() {
        let mut status = json!({ "phase": "Failed" });
        if let Some(c) = condition {
            status["conditions"] = json!([c]);
        }
        if !patch_pod(&ctx.client, &pod.object, status).await? {
            return Ok(());
        }
    }
    let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::uid(pod.object.uid()) };
    ctx.client.delete_if_there(&PODS, pod.object.namespace(), pod.object.name(), &options).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Object;

    fn pod(name: &str, node: &str, phase: &str, reason: &str, deleting: bool) -> Pod {
        let mut v = json!({"metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:00:0{}Z", name.len())},
            "spec": {"nodeName": node}, "status": {"phase": phase, "reason": reason}});
        if deleting {
            v["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Pod::of(Object::from_value(v, 1).expect("object")).expect("pod")
    }

    #[test]
    fn what_nobody_else_will_end_is_collected() {
        let node = |ready: &str| -> NodeView {
            serde_json::from_value(
                json!({"spec": {"taints": [{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}}),
            )
            .expect("node")
        };
        let nodes = HashMap::from([("down".to_owned(), node("Unknown")), ("up".to_owned(), node("True"))]);
        let all = [
            pod("a", "down", "Running", "", true),
            pod("b", "up", "Running", "", true),
            pod("c", "down", "Running", "", false),
            pod("d", "", "Pending", "", true),
            pod("ee", "up", "Succeeded", "", false),
            pod("f", "up", "Failed", "", false),
            pod("ggg", "up", "Failed", "Evicted", false),
        ];
        let names = |keep| {
            collect(&all, &nodes, keep)
                .iter()
                .map(|(p, w)| format!("{} {w:?}", p.object.name()))
                .collect::<Vec<_>>()
        };
        assert_eq!(names(3), ["a OutOfService", "d Unplaced"]);
        assert_eq!(names(1), ["a OutOfService", "d Unplaced", "ggg Ended", "f Ended"]);
        assert_eq!(names(0).len(), 2);
    }
}
