//! Defaults of networking.k8s.io.

use serde_json::{Value, json};

use super::{Fields, each, empty, ensure, get, plain, pointer};

pub(super) fn apply(kind: &str, o: &mut Fields) {
    match kind {
        "NetworkPolicy" => network_policy(o),
        "IngressClass" => {
            if let Some(p) = get(o, "spec").and_then(|s| get(s, "parameters")) {
                pointer(p, "scope", "Cluster");
            }
        }
        _ => {}
    }
}

fn network_policy(o: &mut Fields) {
    let Some(s) = ensure(o, "spec") else { return };
    for direction in ["ingress", "egress"] {
        for p in each(s, direction).flat_map(|r| each(r, "ports")) {
            pointer(p, "protocol", "TCP");
        }
    }
    let types: Value = if empty(s, "egress") { json!(["Ingress"]) } else { json!(["Ingress", "Egress"]) };
    plain(s, "policyTypes", types);
}
