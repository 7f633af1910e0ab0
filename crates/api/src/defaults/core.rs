//! Defaults of the core group.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Fields, each, empty, ensure, fill, get, plain, pod, pointer, round_list, text, unset};

pub(super) fn apply(kind: &str, o: &mut Fields) {
    match kind {
        "Pod" => {
            pod::pod(o);
            pod_addresses(o);
        }
        "PodTemplate" => pod::template(o),
        "ReplicationController" => replication_controller(o),
        "Service" => service(o),
        "Secret" => secret(o),
        "Namespace" => namespace(o),
        "Node" => node(o),
        "PersistentVolume" => persistent_volume(o),
        "PersistentVolumeClaim" => claim(o),
        "LimitRange" => limit_range(o),
        "ResourceQuota" => quota(o),
        "Endpoints" => {
            for p in each(o, "subsets").flat_map(|s| each(s, "ports")) {
                plain(p, "protocol", "TCP");
            }
        }
        _ => {}
    }
}

/// The pod template's labels, where they serve as default labels and selectors.
pub(super) fn template_labels(o: &Fields) -> Option<Value> {
    let labels = o.get("spec")?.get("template")?.get("metadata")?.get("labels")?;
    labels.as_object().is_some_and(|l| !l.is_empty()).then(|| labels.clone())
}

fn replication_controller(o: &mut Fields) {
    if let Some(labels) = template_labels(o) {
        if let Some(s) = ensure(o, "spec") {
            plain(s, "selector", labels.clone());
        }
        if let Some(m) = ensure(o, "metadata") {
            plain(m, "labels", labels);
        }
    }
    let Some(s) = ensure(o, "spec") else { return };
    pointer(s, "replicas", 1);
    if !unset(s, "template") {
        pod::template(s);
    }
}

fn service(o: &mut Fields) {
    let Some(s) = ensure(o, "spec") else { return };
    plain(s, "sessionAffinity", "None");
    if text(s, "sessionAffinity") == "None" {
        s.remove("sessionAffinityConfig");
    }
    if text(s, "sessionAffinity") == "ClientIP"
        && let Some(c) = ensure(s, "sessionAffinityConfig").and_then(|c| ensure(c, "clientIP"))
    {
        pointer(c, "timeoutSeconds", 10800);
    }
    plain(s, "type", "ClusterIP");
    for p in each(s, "ports") {
        plain(p, "protocol", "TCP");
        if empty(p, "targetPort")
            && let Some(port) = p.get("port").cloned()
        {
            p.insert("targetPort".into(), port);
        }
    }
    let kind = text(s, "type").to_string();
    let exposed = matches!(kind.as_str(), "NodePort" | "LoadBalancer");
    if exposed || (kind == "ClusterIP" && !empty(s, "externalIPs")) {
        plain(s, "externalTrafficPolicy", "Cluster");
    }
    if exposed || kind == "ClusterIP" {
        pointer(s, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        pointer(s, "allocateLoadBalancerNodePorts", true);
        if let Some(l) = get(o, "status").and_then(|s| get(s, "loadBalancer")) {
            for i in each(l, "ingress").filter(|i| !text(i, "ip").is_empty()) {
                pointer(i, "ipMode", "VIP");
            }
        }
    }
}

fn namespace(o: &mut Fields) {
    if let Some(s) = ensure(o, "status") {
        plain(s, "phase", "Active");
    }
    if let Some(m) = get(o, "metadata") {
        let name = text(m, "name").to_string();
        if !name.is_empty()
            && let Some(l) = ensure(m, "labels")
        {
            l.insert("kubernetes.io/metadata.name".into(), Value::String(name));
        }
    }
}

/// `stringData` exists on the way in only: it ends up in `data`.
fn secret(o: &mut Fields) {
    plain(o, "type", "Opaque");
    let Some(Value::Object(plain_text)) = o.remove("stringData") else { return };
    if plain_text.is_empty() {
        return;
    }
    if let Some(data) = ensure(o, "data") {
        for (k, v) in plain_text {
            data.insert(k, Value::String(STANDARD.encode(v.as_str().unwrap_or_default())));
        }
    }
}

/// A singular field and its list hold the same first entry; the singular one wins where they differ.
fn singular(o: &mut Fields, one: &str, list: &str, entry: fn(&str) -> Value, read: fn(&Value) -> &str) {
    let single = text(o, one).to_string();
    let first = o.get(list).and_then(Value::as_array).and_then(|l| l.first()).map(|v| read(v).to_string());
    match first {
        Some(first) if single.is_empty() => {
            o.insert(one.to_string(), Value::String(first));
        }
        Some(first) if first == single => {}
        _ if single.is_empty() => {}
        _ => {
            o.insert(list.to_string(), Value::Array(vec![entry(&single)]));
        }
    }
}

/// `podIP` and `podIPs`.
fn pod_addresses(o: &mut Fields) {
    let Some(s) = get(o, "status") else { return };
    singular(s, "podIP", "podIPs", |ip| json!({"ip": ip}), |v| v["ip"].as_str().unwrap_or_default());
}

fn node(o: &mut Fields) {
    if let Some(s) = get(o, "spec") {
        singular(s, "podCIDR", "podCIDRs", |c| json!(c), |v| v.as_str().unwrap_or_default());
    }
    let Some(s) = get(o, "status") else { return };
    round_list(s, "capacity");
    if unset(s, "allocatable")
        && let Some(c) = s.get("capacity").filter(|c| !c.is_null()).cloned()
    {
        s.insert("allocatable".into(), c);
    }
    round_list(s, "allocatable");
}

fn persistent_volume(o: &mut Fields) {
    if let Some(s) = ensure(o, "status") {
        plain(s, "phase", "Pending");
    }
    let Some(s) = ensure(o, "spec") else { return };
    plain(s, "persistentVolumeReclaimPolicy", "Retain");
    pointer(s, "volumeMode", "Filesystem");
    round_list(s, "capacity");
    pod::sources(s);
}

/// Also a claim inside a StatefulSet.
pub(super) fn claim(o: &mut Fields) {
    if let Some(s) = ensure(o, "status") {
        plain(s, "phase", "Pending");
        round_list(s, "capacity");
    }
    pod::claim_spec(o);
}

fn limit_range(o: &mut Fields) {
    let Some(s) = get(o, "spec") else { return };
    for l in each(s, "limits") {
        for key in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            round_list(l, key);
        }
        if text(l, "type") == "Container" {
            fill(l, "max", "default");
            fill(l, "default", "defaultRequest");
            fill(l, "min", "defaultRequest");
        }
    }
}

fn quota(o: &mut Fields) {
    for (part, keys) in [("spec", &["hard"][..]), ("status", &["hard", "used"][..])] {
        if let Some(p) = get(o, part) {
            keys.iter().for_each(|k| round_list(p, k));
        }
    }
}

/// `{"kind": ..., "apiVersion": ...}` of a claim template.
pub(super) fn claim_type(o: &mut Fields) {
    for (key, v) in [("apiVersion", json!("v1")), ("kind", json!("PersistentVolumeClaim"))] {
        plain(o, key, v);
    }
}
