//! Whether this node takes a pod that was placed on it: pods may be placed by hand, past the scheduler. Pure; upstream's
//! reasons and sentences.

use api::LabelSet;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::containers::resources::request;
use crate::node_ctx::Pressure;
use crate::pod::{Pod, Qos, Qty};
use crate::quantity;

#[derive(Clone, Copy)]
pub struct NodeView<'a> {
    pub allocatable: &'a BTreeMap<String, Qty>,
    /// Of the node's object; absent while it is not known.
    pub labels: Option<&'a LabelSet>,
    pub pressure: Pressure,
    /// The pods that are here and have not ended.
    pub pods: &'a [Arc<Pod>],
}

/// Reason and message of the refusal.
pub fn admit(pod: &Pod, node: &NodeView<'_>) -> Result<(), (String, String)> {
    if pod.is_critical() { Ok(()) } else { fits(pod, node) }
}

/// Whether the pod, as it stands, goes beside the others.
pub fn fits(pod: &Pod, node: &NodeView<'_>) -> Result<(), (String, String)> {
    if node.pressure.disk {
        return Err(("Evicted".into(), "The node had condition: [DiskPressure]. ".into()));
    }
    if node.pressure.memory && pod.qos() == Qos::BestEffort {
        return Err(("Evicted".into(), "The node had condition: [MemoryPressure]. ".into()));
    }
    if node.labels.is_some_and(|l| pod.spec.node_selector.iter().any(|(k, v)| l.get(k) != Some(v))) {
        let message = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        return Err(("NodeAffinity".into(), message.into()));
    }
    let capacity = |name: &str| node.allocatable.get(name).map(|q| q.0.as_str()).unwrap_or_default();
    let short = |name: &str, asked: i64, used: i64, all: i64| {
        let message = format!(
            "Node didn't have enough resource: {name}, requested: {asked}, used: {used}, capacity: {all}"
        );
        Err((format!("OutOf{name}"), message))
    };
    let count = i64::try_from(node.pods.len()).unwrap_or(i64::MAX);
    let most = quantity::whole(capacity("pods"));
    if count + 1 > most {
        return short("pods", 1, count, most);
    }
    for name in ["cpu", "memory"] {
        let asked = request(pod, name);
        let used: i64 = node.pods.iter().map(|p| request(p, name)).sum();
        let all =
            if name == "cpu" { quantity::milli(capacity(name)) } else { quantity::whole(capacity(name)) };
        if asked > 0 && used + asked > all {
            return short(name, asked, used, all);
        }
    }
    let ports = |p: &Pod| -> Vec<(i32, String, String)> {
        let all = p.spec.containers.iter().flat_map(|c| &c.ports).filter(|p| p.host_port > 0);
        all.map(|p| (p.host_port, p.protocol.clone(), p.host_ip.clone())).collect()
    };
    let any = |ip: &str| matches!(ip, "" | "0.0.0.0" | "::");
    let mine = ports(pod);
    let clash = node.pods.iter().flat_map(|p| ports(p)).any(|(port, proto, ip)| {
        mine.iter().any(|(a, b, c)| *a == port && *b == proto && (*c == ip || any(c) || any(&ip)))
    });
    if clash {
        let message =
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        return Err(("NodePorts".into(), message.into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": spec})).expect("pod")
    }

    #[test]
    fn reasons() {
        let allocatable: BTreeMap<String, Qty> = [("cpu", "2"), ("memory", "1Gi"), ("pods", "3")]
            .map(|(k, v)| (k.to_owned(), Qty(v.to_owned())))
            .into();
        let labels = [("disk".to_owned(), "ssd".to_owned())].into();
        let cpu = |n: &str| {
            pod(
                json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": n}}, "ports": [{"hostPort": 80}]}]}),
            )
        };
        let here = [Arc::new(cpu("1500m"))];
        let view =
            |pressure, pods| NodeView { allocatable: &allocatable, labels: Some(&labels), pressure, pods };
        let why = |p: &Pod, n: &NodeView<'_>| admit(p, n).err().map(|e| e.0).unwrap_or_default();
        let calm = view(Pressure::default(), &here);
        assert_eq!(why(&pod(json!({"containers": []})), &calm), "");
        assert_eq!(why(&cpu("1"), &calm), "OutOfcpu");
        assert_eq!(why(&cpu("100m"), &calm), "NodePorts");
        assert_eq!(why(&pod(json!({"nodeSelector": {"disk": "hdd"}})), &calm), "NodeAffinity");
        let full = [here[0].clone(), here[0].clone(), here[0].clone()];
        assert_eq!(why(&pod(json!({})), &view(Pressure::default(), &full)), "OutOfpods");
        let low = view(Pressure { memory: true, disk: false }, &[]);
        assert_eq!(why(&pod(json!({})), &low), "Evicted");
        assert_eq!(why(&cpu("1"), &low), "");
    }
}
