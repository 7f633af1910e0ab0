//! Which nodes a DaemonSet's pods belong on, and how a pod is pinned to one. Pure.

use api::LabelSet;
use std::collections::BTreeMap;

use api::Object;
use api::placement::{NodeTerm, Taint, Toleration, tolerated};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::pods::Pod;

#[derive(Debug, Clone)]
pub struct Node {
    pub name: String,
    pub labels: LabelSet,
    pub taints: Vec<Taint>,
}

impl Node {
    pub fn of(o: &Object) -> Option<Self> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct View {
            spec: Spec,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Spec {
            taints: Vec<Taint>,
        }
        let v: View = o.view().ok()?;
        Some(Self { name: o.name().to_owned(), labels: o.meta().labels.clone(), taints: v.spec.taints })
    }

    /// Whether the difference could change where daemon pods run.
    pub fn differs(&self, o: &Self) -> bool {
        self.labels != o.labels || self.taints != o.taints
    }
}

/// What the template says about nodes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Wishes {
    node_name: String,
    node_selector: BTreeMap<String, String>,
    affinity: Affinity,
    tolerations: Vec<Toleration>,
    host_network: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Affinity {
    node_affinity: NodeAffinity,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct NodeAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    required: Option<Terms>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Terms {
    node_selector_terms: Vec<NodeTerm>,
}

/// What every daemon pod bears with: it belongs to its node, whatever the node's state.
fn always(host_network: bool) -> Vec<Toleration> {
    let exists = |name: &str, effect: &str| Toleration {
        key: format!("node.kubernetes.io/{name}"),
        operator: "Exists".into(),
        value: String::new(),
        effect: effect.into(),
    };
    let mut all = vec![
        exists("not-ready", "NoExecute"),
        exists("unreachable", "NoExecute"),
        exists("disk-pressure", "NoSchedule"),
        exists("memory-pressure", "NoSchedule"),
        exists("pid-pressure", "NoSchedule"),
        exists("unschedulable", "NoSchedule"),
    ];
    if host_network {
        all.push(exists("network-unavailable", "NoSchedule"));
    }
    all
}

/// Whether a pod should be made on a node, and whether one that is there may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub run: bool,
    pub stay: bool,
}

impl Wishes {
    pub fn of(template: &Value) -> Self {
        Self::deserialize(&template["spec"]).unwrap_or_default()
    }

    pub fn verdict(&self, node: &Node) -> Verdict {
        let fits =
            (self.node_name.is_empty() || self.node_name == node.name)
                && self.node_selector.iter().all(|(k, v)| node.labels.get(k) == Some(v))
                && self.affinity.node_affinity.required.as_ref().is_none_or(|r| {
                    r.node_selector_terms.iter().any(|t| t.matches(&node.name, &node.labels))
                });
        if !fits {
            return Verdict { run: false, stay: false };
        }
        let mut bears = always(self.host_network);
        bears.extend(self.tolerations.iter().cloned());
        let refused: Vec<&Taint> =
            node.taints.iter().filter(|t| t.is_hard() && !tolerated(t, &bears)).collect();
        Verdict { run: refused.is_empty(), stay: refused.iter().all(|t| t.effect != "NoExecute") }
    }
}

/// The template's pod spec for one node: bound to it by affinity, so that the scheduler still sees resources and ports.
pub fn pin(template: &mut Value, node: &str) {
    let spec = &mut template["spec"];
    let term = json!({ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [node] }] });
    let required = json!({ "nodeSelectorTerms": [term] });
    if !spec["affinity"].is_object() {
        spec["affinity"] = json!({});
    }
    if !spec["affinity"]["nodeAffinity"].is_object() {
        spec["affinity"]["nodeAffinity"] = json!({});
    }
    spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = required;
    let host_network = spec["hostNetwork"] == true;
    let mut all = spec["tolerations"].as_array().cloned().unwrap_or_default();
    for t in always(host_network) {
        let t = json!({ "key": t.key, "operator": t.operator, "effect": t.effect });
        if !all.contains(&t) {
            all.push(t);
        }
    }
    spec["tolerations"] = json!(all);
}

/// The node a daemon pod is meant for: where it runs, or where it is pinned to.
pub fn target(pod: &Pod) -> Option<String> {
    if !pod.view.spec.node_name.is_empty() {
        return Some(pod.view.spec.node_name.clone());
    }
    #[derive(Deserialize)]
    struct View {
        spec: Wishes,
    }
    let v: View = pod.object.view().ok()?;
    let required = v.spec.affinity.node_affinity.required?;
    let fields = required.node_selector_terms.iter().flat_map(|t| &t.match_fields);
    let mut names = fields.filter(|f| f.key == "metadata.name" && f.operator == "In" && f.values.len() == 1);
    names.next()?.values.first().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(taints: Value) -> Node {
        let v = json!({"metadata": {"name": "n", "labels": {"a": "b"}}, "spec": {"taints": taints}});
        Node::of(&Object::from_value(v, 1).expect("object")).expect("node")
    }

    #[test]
    fn where_daemon_pods_run() {
        let taint = |k: &str, e: &str| json!([{"key": k, "effect": e}]);
        for (spec, taints, run, stay) in [
            (json!({}), json!([]), true, true),
            (json!({"nodeName": "other"}), json!([]), false, false),
            (json!({"nodeSelector": {"a": "c"}}), json!([]), false, false),
            (
                json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]}}}}),
                json!([]),
                true,
                true,
            ),
            (json!({}), taint("node.kubernetes.io/unschedulable", "NoSchedule"), true, true),
            (json!({}), taint("node.kubernetes.io/not-ready", "NoExecute"), true, true),
            (json!({}), taint("node.kubernetes.io/not-ready", "NoSchedule"), false, true),
            (json!({}), taint("node.kubernetes.io/network-unavailable", "NoSchedule"), false, true),
            (
                json!({"hostNetwork": true}),
                taint("node.kubernetes.io/network-unavailable", "NoSchedule"),
                true,
                true,
            ),
            (json!({}), taint("mine", "NoSchedule"), false, true),
            (json!({}), taint("mine", "NoExecute"), false, false),
            (json!({}), taint("mine", "PreferNoSchedule"), true, true),
            (json!({"tolerations": [{"operator": "Exists"}]}), taint("mine", "NoExecute"), true, true),
        ] {
            let got = Wishes::of(&json!({"spec": spec})).verdict(&node(taints.clone()));
            assert_eq!(got, Verdict { run, stay }, "{spec} on {taints}");
        }
    }

    #[test]
    fn a_pinned_pod_is_found_again() {
        let mut t = json!({"spec": {"tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}, "podAffinity": {}}}});
        pin(&mut t, "n7");
        assert_eq!(t["spec"]["tolerations"].as_array().map(Vec::len), Some(6));
        assert!(t["spec"]["affinity"]["podAffinity"].is_object());
        let o = Object::from_value(json!({"metadata": {"name": "p"}, "spec": t["spec"]}), 1).expect("object");
        assert_eq!(target(&Pod::of(o).expect("pod")).as_deref(), Some("n7"));
    }
}
