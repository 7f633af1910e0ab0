//! What an object counts against a ResourceQuota: names, usage, scopes. Shared by admission, which charges, and by the
//! controller, which counts anew. Pure; the time is handed in.

mod list;
mod pods;
mod storage;

use serde_json::Value;

pub use list::{
    List, add, exceeding, list, mask, negative, pretty, pretty_names, remove_zeros, subtract_to_zero,
    to_value,
};
pub use pods::{limits as pod_limits, quality_is_best_effort, requests as pod_requests};

pub use storage::class as claim_class;

use crate::quantity::{Format, Quantity};

/// Core kinds that are counted under their own name besides `count/…`.
const SHORT: [&str; 4] = ["configmaps", "secrets", "replicationcontrollers", "resourcequotas"];

fn one() -> Quantity {
    Quantity::from_i64(1, Format::DecimalSI)
}

fn number(n: usize) -> Quantity {
    Quantity::from_i64(i64::try_from(n).unwrap_or(i64::MAX), Format::DecimalSI)
}

/// `count/deployments.apps`, `count/pods`.
pub fn count_name(group: &str, plural: &str) -> String {
    if group.is_empty() { format!("count/{plural}") } else { format!("count/{plural}.{group}") }
}

/// What one object uses. `now` in Unix seconds.
pub fn usage(group: &str, plural: &str, object: &Value, now: i64) -> List {
    let mut out = List::from([(count_name(group, plural), one())]);
    match (group, plural) {
        ("", "pods") => pods::usage(object, now, &mut out),
        ("", "services") => services(object, &mut out),
        ("", "persistentvolumeclaims") => storage::usage(object, &mut out),
        ("", p) if SHORT.contains(&p) => {
            out.insert(p.to_owned(), one());
        }
        _ => {}
    }
    out
}

fn services(object: &Value, out: &mut List) {
    let spec = &object["spec"];
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let explicit = ports.iter().filter(|p| p["nodePort"].as_i64().unwrap_or(0) != 0).count();
    let (node_ports, balancers) = match spec["type"].as_str() {
        Some("NodePort") => (ports.len(), 0),
        Some("LoadBalancer") if spec["allocateLoadBalancerNodePorts"] == false => (explicit, 1),
        Some("LoadBalancer") => (ports.len(), 1),
        _ => (0, 0),
    };
    out.insert("services".into(), one());
    out.insert("services.nodeports".into(), number(node_ports));
    out.insert("services.loadbalancers".into(), number(balancers));
}

/// Whether a name in a quota is one that this kind counts against.
pub fn counts_against(group: &str, plural: &str, name: &str) -> bool {
    if name == count_name(group, plural) {
        return true;
    }
    match (group, plural) {
        ("", "pods") => pods::counts_against(name),
        ("", "services") => matches!(name, "services" | "services.nodeports" | "services.loadbalancers"),
        ("", "persistentvolumeclaims") => storage::counts_against(name),
        ("", p) => SHORT.contains(&p) && name == p,
        _ => false,
    }
}

/// A scope that a quota is limited to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub name: String,
    /// `Exists`, `DoesNotExist`, `In`, `NotIn`.
    pub operator: String,
    pub values: Vec<String>,
}

/// The scopes of a ResourceQuota object.
pub fn scopes(quota: &Value) -> Vec<Scope> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let plain = quota["spec"]["scopes"].as_array().into_iter().flatten().map(|s| Scope {
        name: text(s),
        operator: "Exists".into(),
        values: Vec::new(),
    });
    let selected =
        quota["spec"]["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten().map(|s| Scope {
            name: text(&s["scopeName"]),
            operator: text(&s["operator"]),
            values: s["values"].as_array().into_iter().flatten().map(text).collect(),
        });
    plain.chain(selected).collect()
}

impl Scope {
    fn chooses(&self, value: Option<&str>) -> bool {
        match self.operator.as_str() {
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "In" => value.is_some_and(|v| self.values.iter().any(|x| x == v)),
            "NotIn" => value.is_none_or(|v| self.values.iter().all(|x| x != v)),
            _ => false,
        }
    }

    /// Whether an object falls under it.
    pub fn covers(&self, group: &str, plural: &str, object: &Value) -> bool {
        match (group, plural) {
            ("", "pods") => pods::in_scope(self, object),
            ("", "persistentvolumeclaims") => storage::in_scope(self, object),
            _ => false,
        }
    }
}

/// Whether a quota (by its `status.hard`) applies to an object: one name it counts against, and all scopes.
pub fn applies(group: &str, plural: &str, quota: &Value, object: &Value) -> bool {
    let hard = quota["status"]["hard"].as_object();
    hard.into_iter().flatten().any(|(name, _)| counts_against(group, plural, name))
        && scopes(quota).iter().all(|s| s.covers(group, plural, object))
}

/// What a quota demands an object to state: `Err` words what is missing.
pub fn constraints(group: &str, plural: &str, required: &[String], object: &Value) -> Result<(), String> {
    match (group, plural) {
        ("", "pods") => pods::constraints(required, object),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
