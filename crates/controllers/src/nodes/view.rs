//! A Node as the node loops read it, and its taints. Pure.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NodeView {
    pub spec: NodeSpec,
    pub status: NodeStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    pub unschedulable: bool,
    pub taints: Vec<Taint>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    pub conditions: Vec<NodeCondition>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeCondition {
    pub r#type: String,
    pub status: String,
    pub last_heartbeat_time: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Taint {
    pub key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    pub effect: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_added: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Toleration {
    pub key: String,
    pub operator: String,
    pub value: String,
    pub effect: String,
    pub toleration_seconds: Option<i64>,
}

impl Taint {
    pub fn is(&self, key: &str, effect: &str) -> bool {
        self.key == key && self.effect == effect
    }
}

impl Toleration {
    pub fn tolerates(&self, taint: &Taint) -> bool {
        if !self.effect.is_empty() && self.effect != taint.effect {
            return false;
        }
        if !self.key.is_empty() && self.key != taint.key {
            return false;
        }
        match self.operator.as_str() {
            "" | "Equal" => self.value == taint.value,
            "Exists" => true,
            _ => false,
        }
    }
}

impl NodeView {
    pub fn condition(&self, kind: &str) -> Option<&NodeCondition> {
        self.status.conditions.iter().find(|c| c.r#type == kind)
    }

    /// `True`, `False` or `Unknown`; `None` when nobody has said yet.
    pub fn ready(&self) -> Option<&str> {
        self.condition("Ready").map(|c| c.status.as_str())
    }

    pub fn has_taint(&self, key: &str, effect: &str) -> bool {
        self.spec.taints.iter().any(|t| t.is(key, effect))
    }

    pub fn no_execute(&self) -> Vec<Taint> {
        self.spec.taints.iter().filter(|t| t.effect == "NoExecute").cloned().collect()
    }
}

/// The taint key that a condition of that status calls for.
fn taint_of(kind: &str, status: &str) -> Option<&'static str> {
    Some(match (kind, status) {
        ("Ready", "False") => NOT_READY,
        ("Ready", "Unknown") => UNREACHABLE,
        ("MemoryPressure", "True") => "node.kubernetes.io/memory-pressure",
        ("DiskPressure", "True") => "node.kubernetes.io/disk-pressure",
        ("PIDPressure", "True") => "node.kubernetes.io/pid-pressure",
        ("NetworkUnavailable", "True") => "node.kubernetes.io/network-unavailable",
        _ => return None,
    })
}

const OURS: [&str; 7] = [
    NOT_READY,
    UNREACHABLE,
    UNSCHEDULABLE,
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/network-unavailable",
];

/// The taints after those that keep new pods away were brought in line with conditions and `spec.unschedulable`; `None`
/// when they are already.
pub fn no_schedule(node: &NodeView, now: &str) -> Option<Vec<Taint>> {
    let mut want: Vec<&str> =
        node.status.conditions.iter().filter_map(|c| taint_of(&c.r#type, &c.status)).collect();
    if node.spec.unschedulable {
        want.push(UNSCHEDULABLE);
    }
    swap(
        &node.spec.taints,
        &want,
        |t| t.effect == "NoSchedule" && OURS.contains(&t.key.as_str()),
        "NoSchedule",
        now,
    )
}

/// The taints with exactly this one (or none) of the two that evict pods; `None` when they are so already.
pub fn no_execute(node: &NodeView, want: Option<&str>, now: &str) -> Option<Vec<Taint>> {
    let want: Vec<&str> = want.into_iter().collect();
    swap(
        &node.spec.taints,
        &want,
        |t| t.is(NOT_READY, "NoExecute") || t.is(UNREACHABLE, "NoExecute"),
        "NoExecute",
        now,
    )
}

fn swap(
    have: &[Taint],
    want: &[&str],
    ours: impl Fn(&Taint) -> bool,
    effect: &str,
    now: &str,
) -> Option<Vec<Taint>> {
    let mut out: Vec<Taint> =
        have.iter().filter(|t| !ours(t) || want.contains(&t.key.as_str())).cloned().collect();
    for key in want {
        if !out.iter().any(|t| t.is(key, effect)) {
            out.push(Taint {
                key: (*key).into(),
                effect: effect.into(),
                time_added: Some(now.into()),
                ..Taint::default()
            });
        }
    }
    (out != have).then_some(out)
}

/// Beta labels that follow their stable ones, as a patch; `None` when they do already.
pub fn labels(labels: &api::LabelSet) -> Option<Value> {
    let mut change = json!({});
    for name in ["os", "arch"] {
        let beta = format!("beta.kubernetes.io/{name}");
        if let Some(stable) = labels.get(&format!("kubernetes.io/{name}"))
            && labels.get(&beta) != Some(stable)
        {
            change[beta] = json!(stable);
        }
    }
    change.as_object().is_some_and(|c| !c.is_empty()).then_some(change)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(v: Value) -> NodeView {
        serde_json::from_value(v).expect("node")
    }

    fn keys(t: Option<Vec<Taint>>) -> Option<Vec<String>> {
        t.map(|all| all.into_iter().map(|t| format!("{}:{}", t.key, t.effect)).collect())
    }

    #[test]
    fn conditions_become_taints_and_others_stay() {
        let n = node(json!({"spec": {"unschedulable": true, "taints": [
                {"key": "mine", "effect": "NoSchedule"}, {"key": NOT_READY, "effect": "NoSchedule"},
                {"key": NOT_READY, "effect": "NoExecute"}]},
            "status": {"conditions": [{"type": "Ready", "status": "Unknown"}, {"type": "MemoryPressure", "status": "True"},
                {"type": "DiskPressure", "status": "False"}]}}));
        let want = [
            "mine:NoSchedule",
            "node.kubernetes.io/not-ready:NoExecute",
            "node.kubernetes.io/unreachable:NoSchedule",
            "node.kubernetes.io/memory-pressure:NoSchedule",
            "node.kubernetes.io/unschedulable:NoSchedule",
        ];
        assert_eq!(keys(no_schedule(&n, "t")), Some(want.map(str::to_owned).to_vec()));
        let ok = node(json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}));
        assert_eq!(no_schedule(&ok, "t"), None);
    }

    #[test]
    fn evicting_taints_are_swapped() {
        let n = node(json!({"spec": {"taints": [{"key": NOT_READY, "effect": "NoExecute"}]}}));
        assert_eq!(
            keys(no_execute(&n, Some(UNREACHABLE), "t")),
            Some(vec!["node.kubernetes.io/unreachable:NoExecute".into()])
        );
        assert_eq!(no_execute(&n, Some(NOT_READY), "t"), None);
        assert_eq!(keys(no_execute(&n, None, "t")), Some(vec![]));
    }

    #[test]
    fn tolerations() {
        let t: Taint =
            serde_json::from_value(json!({"key": "k", "value": "v", "effect": "NoExecute"})).expect("taint");
        let yes = |v: Value| serde_json::from_value::<Toleration>(v).expect("toleration").tolerates(&t);
        assert!(yes(json!({"operator": "Exists"})));
        assert!(yes(json!({"key": "k", "value": "v", "effect": "NoExecute"})));
        assert!(!yes(json!({"key": "k", "operator": "Equal", "value": "w"})));
        assert!(!yes(json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"})));
    }

    #[test]
    fn beta_labels_follow() {
        let l =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(
            labels(&l(&[("kubernetes.io/os", "linux")])),
            Some(json!({"beta.kubernetes.io/os": "linux"}))
        );
        assert_eq!(labels(&l(&[("kubernetes.io/os", "linux"), ("beta.kubernetes.io/os", "linux")])), None);
        assert_eq!(labels(&l(&[])), None);
    }
}
