//! A pod: which families are asked of it depends on how far it has come.

use super::{containers, mounts, nodes, probes, scheduling};
use crate::cause::{Cause, Weight};
use crate::facts::{Facts, Thing};

/// A pod that was found fine this long after a restart is left alone, in seconds.
pub const RECENT: i64 = 600;

pub fn is_finished(p: &Thing) -> bool {
    matches!(p.text("/status/phase"), "Succeeded" | "Failed")
}

pub fn is_ready(p: &Thing) -> bool {
    p.condition("Ready").is_some_and(|c| c["status"] == "True")
}

pub fn causes(f: &Facts, p: &Thing) -> Vec<Cause> {
    match p.text("/status/phase") {
        "Succeeded" => return Vec::new(),
        "Failed" => return failed(f, p),
        _ => {}
    }
    let node = p.text("/spec/nodeName");
    if node.is_empty() {
        return scheduling::causes(f, p);
    }
    let mut out = Vec::new();
    if let Some(n) = f.find("node", "", node) {
        out.extend(nodes::of_its_pods(f, n));
    } else if f.look("node", "", node).is_missing() {
        out.push(
            Cause::root("node-missing", format!("it is bound to the node {node}, which does not exist"))
                .seen(p, "spec.nodeName", node)
                .run(
                    "delete it, so that its owner makes a new one",
                    p.kubectl(&format!("delete {}", p.id())),
                ),
        );
    }
    // A silent node's pods show what was last heard of them.
    if !out.is_empty() {
        return out;
    }
    out.extend(mounts::causes(f, p));
    out.extend(containers::causes(f, p));
    out.extend(probes::causes(f, p));
    out.extend(gates(p));
    if out.is_empty() && p.text("/status/phase") == "Pending" {
        out.extend(waiting(f, p));
    }
    out
}

/// Ended without success, and nothing will start it again.
fn failed(f: &Facts, p: &Thing) -> Vec<Cause> {
    let (reason, message) = (p.text("/status/reason"), p.text("/status/message"));
    let seen = |c: Cause| c.seen(p, "status.reason", reason).seen(p, "status.message", message);
    let again = p.kubectl(&format!("delete {}", p.id()));
    match reason {
        "Evicted" => vec![
            seen(Cause::root(
                "evicted",
                format!("it was evicted from {}: {message}", p.text("/spec/nodeName")),
            ))
            .help("ask for what it really needs (resources.requests), so that it is evicted last")
            .run("remove it", again),
        ],
        "DeadlineExceeded" => vec![
            seen(Cause::root(
                "deadline-exceeded",
                format!(
                    "it ran longer than its activeDeadlineSeconds ({}) allow",
                    p.int("/spec/activeDeadlineSeconds")
                ),
            ))
            .run("allow it more time, or find what takes so long", f.edit(p)),
        ],
        _ => {
            let mut out = containers::causes(f, p);
            if out.is_empty() {
                let what = if message.is_empty() { reason } else { message };
                out.push(
                    seen(Cause::root("pod-failed", format!("it failed: {what}"))).run("remove it", again),
                );
            }
            out
        }
    }
}

/// `readinessGates` that nobody has opened.
fn gates(p: &Thing) -> Option<Cause> {
    let containers_ready = p.condition("ContainersReady").is_some_and(|c| c["status"] == "True");
    if !containers_ready || is_ready(p) {
        return None;
    }
    let closed: Vec<&str> = p
        .list("/spec/readinessGates")
        .iter()
        .filter_map(|g| g["conditionType"].as_str())
        .filter(|g| p.condition(g).is_none_or(|c| c["status"] != "True"))
        .collect();
    let first = closed.first()?;
    Some(
        Cause::root(
            "readiness-gate",
            format!(
                "its readiness gate {} is not open: whoever sets that condition has not done so",
                closed.join(", ")
            ),
        )
        .seen(p, "spec.readinessGates", closed.join(", "))
        .seen(p, &format!("status.conditions[{first}]"), "not True"),
    )
}

/// On a node, and nothing of it has begun.
fn waiting(f: &Facts, p: &Thing) -> Option<Cause> {
    if let Some(e) = f.event(p, &["FailedCreatePodSandBox", "FailedCreatePodContainer", "NetworkNotReady"]) {
        let node = p.text("/spec/nodeName");
        return Some(
            Cause::root(
                "sandbox",
                format!("its network or sandbox can't be made on {node}: {}", e.text("/message")),
            )
            .event(Some(e))
            .run("look at the node", format!("kelson why node {node}")),
        );
    }
    let age = f.since(p.text("/metadata/creationTimestamp")).unwrap_or(0);
    (age > 60).then(|| {
        let node = p.text("/spec/nodeName");
        Cause::new(
            "node-silent",
            Weight::State,
            format!(
                "it was given to {node} {} ago, and that node has not begun with it",
                api::columns::duration::human(age)
            ),
        )
        .seen(p, "spec.nodeName", node)
        .run("look at the node", format!("kelson why node {node}"))
    })
}
