//! Defaults of pods and of pod templates in any kind.

use serde_json::{Value, json};

use super::{Fields, each, empty, ensure, fill, get, plain, pointer, round_list, text, unset};
use crate::quantity::Quantity;

const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// What a Pod gets beside its spec's defaults.
pub(super) fn pod(o: &mut Fields) {
    let Some(s) = ensure(o, "spec") else { return };
    let host_network = s.get("hostNetwork") == Some(&Value::Bool(true));
    for list in ["initContainers", "containers"] {
        for c in each(s, list) {
            if let Some(r) = get(c, "resources") {
                fill(r, "limits", "requests");
            }
            for p in each(c, "ports").filter(|_| host_network) {
                if empty(p, "hostPort")
                    && let Some(port) = p.get("containerPort").cloned()
                {
                    p.insert("hostPort".into(), port);
                }
            }
        }
    }
    pod_level_resources(s);
    pointer(s, "enableServiceLinks", true);
    spec(s);
}

/// Pod-level requests and huge page limits follow from the containers'.
fn pod_level_resources(s: &mut Fields) {
    let level = |s: &Fields, part: &str| {
        s.get("resources").and_then(|r| r.get(part)).and_then(Value::as_object).cloned().unwrap_or_default()
    };
    let (limits, requests) = (level(s, "limits"), level(s, "requests"));
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    let supported = |k: &str| matches!(k, "cpu" | "memory") || k.starts_with("hugepages-");
    let sum = |part: &str, key: &str| {
        let containers = s.get("containers").and_then(Value::as_array).into_iter().flatten();
        let mut total: Option<Quantity> = None;
        for q in containers.filter_map(|c| c["resources"][part][key].as_str()?.parse().ok()) {
            total = Some(total.map_or(q, |t| t + q));
        }
        total.map(|t| Value::String(t.to_string()))
    };
    let mut new_requests = requests.clone();
    let mut new_limits = limits.clone();
    if !limits.is_empty() {
        for key in ["cpu", "memory"] {
            if let (false, Some(v)) = (requests.contains_key(key), sum("requests", key)) {
                new_requests.insert(key.into(), v);
            }
        }
        for (key, v) in limits.iter().filter(|(k, _)| supported(k)) {
            new_requests.entry(key.clone()).or_insert_with(|| v.clone());
        }
    }
    let containers = s.get("containers").and_then(Value::as_array).into_iter().flatten();
    let pages: Vec<String> = containers
        .filter_map(|c| c["resources"]["limits"].as_object())
        .flat_map(|m| m.keys().filter(|k| k.starts_with("hugepages-")).cloned())
        .collect();
    for key in pages {
        if !limits.contains_key(&key)
            && !requests.contains_key(&key)
            && let Some(v) = sum("limits", &key)
        {
            new_limits.insert(key, v);
        }
    }
    if let Some(r) = get(s, "resources") {
        for (key, map) in [("requests", new_requests), ("limits", new_limits)] {
            if !map.is_empty() {
                r.insert(key.into(), Value::Object(map));
            }
        }
    }
}

/// A `template` field with its pod spec.
pub(super) fn template(o: &mut Fields) {
    if let Some(s) = ensure(o, "template").and_then(|t| ensure(t, "spec")) {
        spec(s);
    }
}

/// Defaults of any pod spec.
pub fn spec(s: &mut Fields) {
    plain(s, "dnsPolicy", "ClusterFirst");
    plain(s, "restartPolicy", "Always");
    pointer(s, "securityContext", json!({}));
    pointer(s, "terminationGracePeriodSeconds", 30);
    plain(s, "schedulerName", "default-scheduler");
    // Upstream keeps the old name of the field in step.
    mirror_service_account(s);
    round_list(s, "overhead");
    if let Some(r) = get(s, "resources") {
        round_list(r, "limits");
        round_list(r, "requests");
    }
    for v in each(s, "volumes") {
        volume(v);
    }
    for list in CONTAINER_LISTS {
        for c in each(s, list) {
            container(c);
        }
    }
}

fn mirror_service_account(s: &mut Fields) {
    let name = [text(s, "serviceAccountName"), text(s, "serviceAccount")].into_iter().find(|n| !n.is_empty());
    if let Some(name) = name.map(str::to_string) {
        s.insert("serviceAccount".into(), Value::String(name.clone()));
        s.insert("serviceAccountName".into(), Value::String(name));
    }
}

/// Always for `latest` or an untagged image without digest, IfNotPresent otherwise.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, None), |(n, d)| (n, Some(d)));
    let last = name.rsplit('/').next().unwrap_or(name);
    match (last.split_once(':'), digest) {
        _ if name.is_empty() => "IfNotPresent",
        (Some((_, "latest")), _) | (None, None) => "Always",
        _ => "IfNotPresent",
    }
}

fn container(c: &mut Fields) {
    let policy = pull_policy(text(c, "image"));
    plain(c, "imagePullPolicy", policy);
    plain(c, "terminationMessagePath", "/dev/termination-log");
    plain(c, "terminationMessagePolicy", "File");
    for p in each(c, "ports") {
        plain(p, "protocol", "TCP");
    }
    for e in each(c, "env") {
        let Some(from) = get(e, "valueFrom") else { continue };
        if let Some(f) = get(from, "fieldRef") {
            plain(f, "apiVersion", "v1");
        }
        if let Some(f) = get(from, "fileKeyRef") {
            pointer(f, "optional", false);
        }
    }
    if let Some(r) = get(c, "resources") {
        round_list(r, "limits");
        round_list(r, "requests");
    }
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(p) = get(c, key) {
            plain(p, "timeoutSeconds", 1);
            plain(p, "periodSeconds", 10);
            plain(p, "successThreshold", 1);
            plain(p, "failureThreshold", 3);
            if let Some(g) = get(p, "grpc") {
                pointer(g, "service", "");
            }
            http_get(p);
        }
    }
    if let Some(l) = get(c, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(h) = get(l, hook) {
                http_get(h);
            }
        }
    }
}

fn http_get(handler: &mut Fields) {
    if let Some(h) = get(handler, "httpGet") {
        plain(h, "path", "/");
        plain(h, "scheme", "HTTP");
    }
}

fn downward_items(o: &mut Fields) {
    for f in each(o, "items").filter_map(|i| get(i, "fieldRef")) {
        plain(f, "apiVersion", "v1");
    }
}

fn volume(v: &mut Fields) {
    if v.iter().all(|(k, x)| k == "name" || x.is_null()) {
        v.insert("emptyDir".into(), json!({}));
    }
    for key in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(s) = get(v, key) {
            pointer(s, "defaultMode", 420);
        }
    }
    if let Some(d) = get(v, "downwardAPI") {
        downward_items(d);
    }
    if let Some(p) = get(v, "projected") {
        for s in each(p, "sources") {
            if let Some(t) = get(s, "serviceAccountToken") {
                pointer(t, "expirationSeconds", 3600);
            }
            if let Some(d) = get(s, "downwardAPI") {
                downward_items(d);
            }
        }
    }
    if let Some(i) = get(v, "image") {
        let policy = pull_policy(text(i, "reference"));
        plain(i, "pullPolicy", policy);
    }
    if let Some(t) = get(v, "ephemeral").and_then(|e| get(e, "volumeClaimTemplate")) {
        claim_spec(t);
    }
    sources(v);
}

/// Volume sources that pods and persistent volumes share.
pub(super) fn sources(v: &mut Fields) {
    if let Some(h) = get(v, "hostPath") {
        pointer(h, "type", "");
    }
    if let Some(i) = get(v, "iscsi") {
        plain(i, "iscsiInterface", "default");
    }
    if let Some(r) = get(v, "rbd") {
        plain(r, "pool", "rbd");
        plain(r, "user", "admin");
        plain(r, "keyring", "/etc/ceph/keyring");
    }
    if let Some(a) = get(v, "azureDisk") {
        pointer(a, "cachingMode", "ReadWrite");
        pointer(a, "kind", "Shared");
        pointer(a, "fsType", "ext4");
        pointer(a, "readOnly", false);
    }
    if let Some(s) = get(v, "scaleIO") {
        plain(s, "storageMode", "ThinProvisioned");
        plain(s, "fsType", "xfs");
    }
}

/// The `spec` of a claim or of a claim template.
pub(super) fn claim_spec(o: &mut Fields) {
    let Some(s) = ensure(o, "spec") else { return };
    if unset(s, "volumeMode") {
        s.insert("volumeMode".into(), "Filesystem".into());
    }
    if let Some(r) = get(s, "resources") {
        round_list(r, "limits");
        round_list(r, "requests");
    }
}
