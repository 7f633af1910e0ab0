//! Environment variables: names, and where their values come from.

use super::super::amount;
use super::super::at::At;
use super::super::common::{format, optional_format, required};
use super::super::errors::ErrorList;
use super::super::names;

/// Fields that an environment variable may take, sorted.
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// `env`.
pub fn vars(list: &At, e: &mut ErrorList) {
    for v in list.iter() {
        let name = v.get("name");
        if required(&name, e) {
            format(&name, names::env_var_name, e);
        }
        let from = v.get("valueFrom");
        if from.is_null() {
            continue;
        }
        let mut sources = 0;
        if from.has("fieldRef") {
            sources += 1;
            field_ref(&from.get("fieldRef"), &ENV_FIELDS, e);
        }
        if from.has("resourceFieldRef") {
            sources += 1;
            resource_field_ref(&from.get("resourceFieldRef"), false, e);
        }
        for f in ["configMapKeyRef", "secretKeyRef"] {
            let r = from.get(f);
            if r.is_null() {
                continue;
            }
            sources += 1;
            format(&r.get("name"), names::dns1123_subdomain, e);
            let key = r.get("key");
            if required(&key, e) {
                format(&key, names::config_key, e);
            }
        }
        let file = from.get("fileKeyRef");
        if !file.is_null() {
            sources += 1;
            for f in ["key", "volumeName", "path"] {
                required(&file.get(f), e);
            }
        }
        if sources == 0 {
            e.invalid(
                &from,
                "",
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            );
        } else if !v.s("value").is_empty() {
            e.invalid(&from, "", "may not be specified when `value` is not empty");
        } else if sources > 1 {
            e.invalid(&from, "", "may not have more than one field specified at a time");
        }
    }
}

/// `envFrom`.
pub fn sources(list: &At, e: &mut ErrorList) {
    for v in list.iter() {
        optional_format(&v.get("prefix"), names::env_var_name, e);
        let mut count = 0;
        for f in ["configMapRef", "secretRef"] {
            let r = v.get(f);
            if r.is_null() {
                continue;
            }
            count += 1;
            let name = r.get("name");
            if required(&name, e) {
                e.each(&name, name.str(), names::with_prefix(name.str(), true, names::dns1123_subdomain));
            }
        }
        match count {
            0 => e.invalid(list, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => e.invalid(list, "", "may not have more than one field specified at a time"),
        }
    }
}

/// A field of the pod (downward API).
pub fn field_ref(r: &At, allowed: &[&str], e: &mut ErrorList) {
    if !required(&r.get("apiVersion"), e) || !required(&r.get("fieldPath"), e) {
        return;
    }
    let path = r.s("fieldPath");
    let at = r.at("fieldPath");
    if r.s("apiVersion") != "v1" {
        let why = format!("error converting fieldPath: unsupported pod version: {}", r.s("apiVersion"));
        e.invalid(&at, path, &why);
        return;
    }
    if let Some((base, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        match base {
            "metadata.annotations" => e.each(r, key, names::qualified_name(&key.to_lowercase())),
            "metadata.labels" => e.each(r, key, names::qualified_name(key)),
            _ => {
                let why =
                    format!("error converting fieldPath: field label does not support subscript: {path}");
                e.invalid(&at, path, &why);
            }
        }
        return;
    }
    let known = matches!(
        path,
        "metadata.annotations"
            | "metadata.labels"
            | "spec.restartPolicy"
            | "spec.schedulerName"
            | "status.phase"
            | "spec.host"
    ) || ENV_FIELDS.contains(&path);
    if !known {
        e.invalid(&at, path, &format!("error converting fieldPath: field label not supported: {path}"));
    } else if !allowed.contains(&path) && (path != "spec.host" || !allowed.contains(&"spec.nodeName")) {
        e.not_supported(&at, path, allowed);
    }
}

/// A container's request or limit (downward API).
pub fn resource_field_ref(r: &At, in_volume: bool, e: &mut ErrorList) {
    let resource = r.s("resource");
    let huge = resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-");
    if in_volume && r.s("containerName").is_empty() {
        e.required(&r.at("containerName"), "");
    } else if resource.is_empty() {
        e.required(&r.at("resource"), "");
    } else if !huge && !RESOURCES.contains(&resource) {
        e.not_supported(&r.at("resource"), resource, &RESOURCES);
    }
    let Some(divisor) = amount::quantity(r.raw("divisor")) else {
        return;
    };
    let divisor = divisor.to_string();
    const BYTES: [&str; 13] =
        ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    const BYTE_LIST: &str = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";
    if divisor == "0" {
        return;
    }
    let bad = match resource {
        "limits.cpu" | "requests.cpu" if divisor != "1m" && divisor != "1" => {
            "only divisor's values 1m and 1 are supported with the cpu resource".to_owned()
        }
        "limits.cpu" | "requests.cpu" => return,
        _ if BYTES.contains(&divisor.as_str()) => return,
        "limits.memory" | "requests.memory" => {
            format!("only divisor's values {BYTE_LIST} are supported with the memory resource")
        }
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            format!(
                "only divisor's values {BYTE_LIST} are supported with the local ephemeral storage resource"
            )
        }
        _ if huge => format!("only divisor's values {BYTE_LIST} are supported with the hugepages resource"),
        _ => return,
    };
    e.invalid(&r.at("divisor"), resource, &bad);
}
