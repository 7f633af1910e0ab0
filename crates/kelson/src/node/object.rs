//! What a Node object says, as far as the wiring looks at one. Pure.

use std::net::IpAddr;

use serde_json::Value;

fn items<'a>(node: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    node.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

pub fn internal_addresses(node: &Value) -> impl Iterator<Item = IpAddr> {
    let internal = items(node, "/status/addresses").filter(|a| a["type"] == "InternalIP");
    internal.filter_map(|a| a["address"].as_str()?.parse().ok())
}

/// As they stand there.
pub fn pod_cidrs(node: &Value) -> impl Iterator<Item = &str> {
    items(node, "/spec/podCIDRs").filter_map(Value::as_str)
}

pub fn is_ready(node: &Value) -> bool {
    items(node, "/status/conditions").any(|c| c["type"] == "Ready" && c["status"] == "True")
}
