//! Pure decisions of the ReplicaSet loop: which pods go first, what the status says.

use std::cmp::Reverse;
use std::collections::HashMap;

use api::Object;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::pods::Pod;

/// The pods to delete, in upstream's order: not placed, not running, not ready, cheap to delete, with the most related
/// pods on their node, ready for the shortest time, restarted most, youngest.
///
/// `per_node`: active pods of all sets with the same owner, by node. Ages count by powers of two of a nanosecond, so that
/// small differences do not decide; among equals the uid does.
pub fn victims<'a>(
    active: &'a [Pod],
    count: usize,
    per_node: &HashMap<String, usize>,
    now: Timestamp,
) -> Vec<&'a Pod> {
    if count >= active.len() {
        return active.iter().collect();
    }
    let age = |t: Option<Timestamp>| {
        t.map(|t| now.as_nanosecond().saturating_sub(t.as_nanosecond()).checked_ilog2())
    };
    let rank = |p: &Pod| {
        let phase = match p.view.status.phase.as_str() {
            "Pending" => 0,
            "Running" => 2,
            _ => 1,
        };
        let cost: i64 = p
            .annotation("controller.kubernetes.io/pod-deletion-cost")
            .and_then(|c| c.parse().ok())
            .unwrap_or(0);
        let neighbours = per_node.get(p.view.spec.node_name.as_str()).copied().unwrap_or(0);
        (
            !p.view.spec.node_name.is_empty(),
            phase,
            p.is_ready(),
            cost,
            Reverse(neighbours),
            age(p.ready_since()),
            Reverse(p.restarts()),
            age(client::clock::parse(p.created())),
            p.object.uid().to_owned(),
        )
    };
    let mut sorted: Vec<_> = active.iter().map(|p| (rank(p), p)).collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    sorted.into_iter().take(count).map(|(_, p)| p).collect()
}

/// Active pods by node.
pub fn per_node<'a>(pods: impl Iterator<Item = &'a Pod>) -> HashMap<String, usize> {
    let mut out = HashMap::new();
    for p in pods {
        *out.entry(p.view.spec.node_name.clone()).or_default() += 1;
    }
    out
}

/// The status as it should be; fields this loop does not know are kept. `terminating`: for kinds that report it.
pub fn status(
    old: &Value,
    set: &Object,
    active: &[Pod],
    terminating: Option<usize>,
    template: &Value,
    min_ready: i64,
    now: Timestamp,
) -> Value {
    let labels = template["metadata"]["labels"].as_object();
    let labeled = active.iter().filter(|p| {
        labels.is_none_or(|want| want.iter().all(|(k, v)| p.object.meta().labels.get(k) == v.as_str()))
    });
    let mut new = if old.is_object() { old.clone() } else { json!({}) };
    let counts = [
        ("fullyLabeledReplicas", labeled.count()),
        ("readyReplicas", active.iter().filter(|p| p.is_ready()).count()),
        ("availableReplicas", active.iter().filter(|p| p.is_available(min_ready, now)).count()),
    ];
    new["replicas"] = json!(active.len());
    for (name, n) in counts {
        // Zero is omitted in canonical form; null says so in a merge patch.
        match (n, old.get(name)) {
            (0, None) => {}
            (0, Some(_)) => new[name] = Value::Null,
            (n, _) => new[name] = json!(n),
        }
    }
    if let Some(n) = terminating {
        new["terminatingReplicas"] = json!(n);
    }
    new["observedGeneration"] = json!(set.meta().generation);
    new
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pods::next_available;
    use crate::skeleton::Next;

    fn pod(name: &str, change: impl FnOnce(&mut Value)) -> Pod {
        let mut v = json!({"metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": "n"}, "status": {"phase": "Running",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
        change(&mut v);
        Pod::of(Object::from_value(v, 1).expect("object")).expect("pod")
    }

    #[test]
    fn the_least_missed_pod_goes_first() {
        let pods = [
            pod("z-best", |_| {}),
            pod("g-young", |v| v["metadata"]["creationTimestamp"] = json!("2026-01-01T11:00:00Z")),
            pod("f-restarted", |v| {
                v["status"]["containerStatuses"] = json!([{"restartCount": 2}, {"restartCount": 1}])
            }),
            pod("e-just-ready", |v| {
                v["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-01-01T11:59:00Z")
            }),
            pod("d-crowded", |v| v["spec"]["nodeName"] = json!("full")),
            pod("d2-cheap", |v| {
                v["metadata"]["annotations"] = json!({"controller.kubernetes.io/pod-deletion-cost": "-1"})
            }),
            pod("c-unready", |v| v["status"]["conditions"][0]["status"] = json!("False")),
            pod("b-pending", |v| v["status"]["phase"] = json!("Pending")),
            pod("a-unplaced", |v| v["spec"]["nodeName"] = json!("")),
        ];
        let mut nodes = per_node(pods.iter());
        nodes.insert("full".into(), 50);
        let now = "2026-01-01T12:00:00Z".parse().expect("time");
        let order: Vec<&str> = victims(&pods, 8, &nodes, now).iter().map(|p| p.object.name()).collect();
        let want = [
            "a-unplaced",
            "b-pending",
            "c-unready",
            "d2-cheap",
            "d-crowded",
            "e-just-ready",
            "f-restarted",
            "g-young",
        ];
        assert_eq!(order, want);
        assert_eq!(victims(&pods, 99, &nodes, now).len(), pods.len());
    }

    #[test]
    fn counts_and_the_next_look() {
        let now: Timestamp = "2026-01-01T00:00:04Z".parse().expect("time");
        let set = Object::from_value(json!({"metadata": {"name": "s", "generation": 3}}), 1).expect("object");
        let pods = [pod("a", |_| {}), pod("b", |v| v["status"]["conditions"][0]["status"] = json!("False"))];
        let s = status(&json!({"availableReplicas": 1}), &set, &pods, Some(1), &json!({}), 10, now);
        assert_eq!(
            s,
            json!({"replicas": 2, "readyReplicas": 1, "availableReplicas": null, "fullyLabeledReplicas": 2,
            "terminatingReplicas": 1, "observedGeneration": 3})
        );
        assert_eq!(next_available(&pods, 10, now), Next::After(Duration::from_secs(6)));
        assert_eq!(next_available(&pods, 0, now), Next::Wait);
    }
}
