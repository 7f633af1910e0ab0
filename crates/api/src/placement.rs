//! Which pods may run on which nodes: taints and their tolerations, and node selector terms over labels and the field
//! `metadata.name`. Shared by the scheduler, by loops that place pods themselves, and by volumes bound to nodes.

use serde::Deserialize;

use crate::selector::Labels;

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct Taint {
    pub key: String,
    pub value: String,
    pub effect: String,
}

impl Taint {
    /// Keeps new pods away, unless tolerated; a `PreferNoSchedule` only asks.
    pub fn is_hard(&self) -> bool {
        self.effect == "NoSchedule" || self.effect == "NoExecute"
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct Toleration {
    pub key: String,
    pub operator: String,
    pub value: String,
    pub effect: String,
}

impl Toleration {
    pub fn tolerates(&self, taint: &Taint) -> bool {
        if !self.effect.is_empty() && self.effect != taint.effect {
            return false;
        }
        if !self.key.is_empty() && self.key != taint.key {
            return false;
        }
        let number = |s: &str| s.parse::<i64>().ok();
        match self.operator.as_str() {
            "Exists" => true,
            "" | "Equal" => !self.key.is_empty() && self.value == taint.value,
            "Gt" => matches!((number(&taint.value), number(&self.value)), (Some(a), Some(b)) if a > b),
            "Lt" => matches!((number(&taint.value), number(&self.value)), (Some(a), Some(b)) if a < b),
            _ => false,
        }
    }
}

/// Whether one of the tolerations bears with the taint.
pub fn tolerated(taint: &Taint, by: &[Toleration]) -> bool {
    by.iter().any(|t| t.tolerates(taint))
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct Requirement {
    pub key: String,
    pub operator: String,
    pub values: Vec<String>,
}

impl Requirement {
    pub fn matches(&self, value: Option<&str>) -> bool {
        let listed = |v: &str| self.values.iter().any(|w| w == v);
        let number = |s: &str| s.parse::<i64>().ok();
        let bound = || self.values.first().and_then(|v| number(v));
        match self.operator.as_str() {
            "In" => value.is_some_and(listed),
            "NotIn" => !value.is_some_and(listed),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => matches!((value.and_then(number), bound()), (Some(a), Some(b)) if a > b),
            "Lt" => matches!((value.and_then(number), bound()), (Some(a), Some(b)) if a < b),
            _ => false,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeTerm {
    pub match_expressions: Vec<Requirement>,
    pub match_fields: Vec<Requirement>,
}

impl NodeTerm {
    /// A term without any requirement matches nothing, as upstream has it.
    pub fn matches(&self, name: &str, labels: &dyn Labels) -> bool {
        if self.match_expressions.is_empty() && self.match_fields.is_empty() {
            return false;
        }
        self.match_expressions.iter().all(|r| r.matches(labels.label(&r.key)))
            && self.match_fields.iter().all(|r| r.key == "metadata.name" && r.matches(Some(name)))
    }
}
