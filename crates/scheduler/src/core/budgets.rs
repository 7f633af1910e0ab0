//! PodDisruptionBudgets: how many pods that match one may still be lost.

use std::collections::{BTreeMap, HashSet};

use api::Object;
use api::object::DecodeError;
use api::selector::LabelSelector;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Clone)]
pub struct Budget {
    pub namespace: String,
    pub name: String,
    selector: LabelSelector,
    pub allowed: i64,
    /// Pods whose eviction was granted, by name.
    granted: HashSet<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct View {
    spec: Spec,
    status: BudgetStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Spec {
    selector: Value,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct BudgetStatus {
    disruptions_allowed: i64,
    disrupted_pods: BTreeMap<String, Value>,
}

impl Budget {
    pub fn of(o: &Object) -> Result<Self, DecodeError> {
        let v: View = o.view()?;
        Ok(Self {
            namespace: o.namespace().to_owned(),
            name: o.name().to_owned(),
            // One that is invalid matches nothing.
            selector: LabelSelector::from_value(&v.spec.selector)
                .unwrap_or_else(|_| LabelSelector::nothing()),
            allowed: v.status.disruptions_allowed,
            granted: v.status.disrupted_pods.into_keys().collect(),
        })
    }

    /// Whether losing the pod counts against this budget.
    pub fn guards(&self, namespace: &str, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.namespace == namespace
            && !labels.is_empty()
            && !self.selector.is_everything()
            && self.selector.matches(labels)
            && !self.granted.contains(name)
    }
}
