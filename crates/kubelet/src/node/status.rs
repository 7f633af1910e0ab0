//! The node's status: capacity, conditions, addresses, system information, images.

use std::collections::BTreeMap;

use api::validation::is_extended;
use client::clock;
use cri::{CriError, StatusResponse};
use serde_json::{Value, json};

use crate::node::facts;
use crate::node_ctx::Node;

const MAX_IMAGES: usize = 50;

pub fn labels(node: &Node) -> BTreeMap<String, String> {
    let mut l: BTreeMap<String, String> = [
        ("kubernetes.io/hostname", node.cfg.node_name.clone()),
        ("kubernetes.io/os", "linux".into()),
        ("kubernetes.io/arch", facts::arch().into()),
        ("beta.kubernetes.io/os", "linux".into()),
        ("beta.kubernetes.io/arch", facts::arch().into()),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v))
    .collect();
    l.extend(node.cfg.node_labels.clone());
    l
}

/// Why the node is not ready; empty when it is.
fn not_ready(runtime: &Result<StatusResponse, CriError>) -> String {
    let r = match runtime {
        Ok(r) => r,
        Err(e) => return format!("container runtime status check may not have completed yet: {e}"),
    };
    let mut problems = Vec::new();
    for (kind, words) in [
        ("RuntimeReady", "container runtime is down"),
        ("NetworkReady", "container runtime network not ready"),
    ] {
        match r.conditions.iter().find(|c| c.r#type == kind) {
            Some(c) if c.status => {}
            Some(c) => {
                problems.push(format!("{words}: {kind}=false reason:{} message:{}", c.reason, c.message))
            }
            None => problems.push(format!("{words}: {kind} is not reported")),
        }
    }
    problems.join(", ")
}

pub async fn compute(node: &Node, runtime: &Result<StatusResponse, CriError>, old: Option<&Value>) -> Value {
    let now = clock::rfc3339(clock::now());
    let pressure = *node.pressure.read();
    let problem = not_ready(runtime);
    let condition = |kind: &str, yes: bool, reason: &str, message: &str| {
        let status = if yes { "True" } else { "False" };
        let since = old
            .and_then(|o| {
                o["conditions"].as_array()?.iter().find(|c| c["type"] == kind && c["status"] == status)
            })
            .map_or_else(|| json!(now), |c| c["lastTransitionTime"].clone());
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": since})
    };
    let (memory, disk) = (pressure.memory, pressure.disk);
    let conditions = json!([
        condition(
            "MemoryPressure",
            memory,
            if memory { "KubeletHasInsufficientMemory" } else { "KubeletHasSufficientMemory" },
            if memory {
                "kubelet has insufficient memory available"
            } else {
                "kubelet has sufficient memory available"
            },
        ),
        condition(
            "DiskPressure",
            disk,
            if disk { "KubeletHasDiskPressure" } else { "KubeletHasNoDiskPressure" },
            if disk { "kubelet has disk pressure" } else { "kubelet has no disk pressure" },
        ),
        condition("PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        condition(
            "Ready",
            problem.is_empty(),
            if problem.is_empty() { "KubeletReady" } else { "KubeletNotReady" },
            if problem.is_empty() { "kubelet is posting ready status" } else { &problem },
        ),
    ]);
    let fs = facts::fs_use(&node.cfg.root_dir);
    let cpu = node.cpu_capacity;
    let cpu_text = if cpu % 1000 == 0 { (cpu / 1000).to_string() } else { format!("{cpu}m") };
    let capacity = json!({"cpu": cpu_text, "memory": format!("{}Ki", node.memory_capacity / 1024),
        "pods": node.cfg.max_pods.to_string(), "ephemeral-storage": format!("{}Ki", fs.size / 1024),
        "hugepages-1Gi": "0", "hugepages-2Mi": "0"});
    let mut allocatable = json!(node.allocatable());
    allocatable["ephemeral-storage"] = json!(((fs.size as f64) * 0.9).floor().to_string());
    allocatable["hugepages-1Gi"] = json!("0");
    allocatable["hugepages-2Mi"] = json!("0");
    let known = node.itself.get("", &node.cfg.node_name).and_then(|o| o.value().ok());
    foreign_resources(&known.unwrap_or_default()["status"], &mut allocatable);
    let mut addresses: Vec<Value> =
        node.cfg.node_ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip.to_string()})).collect();
    addresses.push(json!({"type": "Hostname", "address": node.cfg.node_name}));
    let version = node.runtime.version().await.unwrap_or_default();
    if !version.runtime_name.is_empty() {
        let mut name = node.runtime_name.write();
        if *name != version.runtime_name {
            name.clone_from(&version.runtime_name);
        }
    }
    json!({
        "addresses": addresses,
        "allocatable": allocatable,
        "capacity": capacity,
        "conditions": conditions,
        "daemonEndpoints": {"kubeletEndpoint": {"Port": node.cfg.port}},
        "images": images(node).await,
        "nodeInfo": {
            "architecture": facts::arch(),
            "bootID": facts::boot_id(),
            "containerRuntimeVersion": format!("{}://{}", version.runtime_name, version.runtime_version),
            "kernelVersion": facts::kernel(),
            "kubeProxyVersion": "",
            "kubeletVersion": node.cfg.version,
            "machineID": facts::machine_id(),
            "operatingSystem": "linux",
            "osImage": facts::os_image(),
            "systemUUID": facts::system_uuid(),
        },
    })
}

/// Resources that others put into the node's capacity can be allocated; those that they took out no longer. The capacity
/// itself stays theirs: it is not sent, so that it is never put back.
fn foreign_resources(known: &Value, allocatable: &mut Value) {
    let of = |field: &str| known[field].as_object().cloned().unwrap_or_default();
    let theirs = of("capacity");
    for name in of("allocatable").keys().filter(|n| is_extended(n) && !theirs.contains_key(*n)) {
        allocatable[name] = Value::Null;
    }
    for (name, amount) in theirs.into_iter().filter(|(n, _)| is_extended(n)) {
        allocatable[&name] = amount;
    }
}

async fn images(node: &Node) -> Value {
    let mut list = node.runtime.list_images(None).await.unwrap_or_default();
    list.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    let of = |i: &cri::Image| {
        let names: Vec<&String> = i.repo_digests.iter().chain(&i.repo_tags).take(5).collect();
        json!({"names": names, "sizeBytes": i.size})
    };
    list.iter()
        .filter(|i| !i.repo_tags.is_empty() || !i.repo_digests.is_empty())
        .take(MAX_IMAGES)
        .map(of)
        .collect()
}

pub fn is_ready(status: &Value) -> bool {
    let mut c = status["conditions"].as_array().into_iter().flatten();
    c.any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Whether `theirs` has each of our conditions with our status.
pub fn same_conditions(theirs: &Value, ours: &Value) -> bool {
    let list = |v: &Value| v["conditions"].as_array().cloned().unwrap_or_default();
    let theirs = list(theirs);
    list(ours).iter().all(|c| theirs.iter().any(|t| t["type"] == c["type"] && t["status"] == c["status"]))
}

/// For "has anything changed": heartbeats do not count, nor does free space.
pub fn without_times(status: &Value) -> Value {
    let mut v = status.clone();
    for c in v["conditions"].as_array_mut().into_iter().flatten() {
        c["lastHeartbeatTime"] = Value::Null;
    }
    v
}

#[cfg(test)]
mod tests {
    use super::*;
    use cri::RuntimeCondition;

    #[test]
    fn resources_of_others_follow_the_capacity() {
        let known = json!({"capacity": {"cpu": "64", "example.com/a": "5", "kubernetes.io/b": "1"},
            "allocatable": {"example.com/a": "1", "example.com/gone": "3", "kubernetes.io/b": "1"}});
        let mut allocatable = json!({"cpu": "1"});
        foreign_resources(&known, &mut allocatable);
        assert_eq!(allocatable, json!({"cpu": "1", "example.com/a": "5", "example.com/gone": null}));
        let mut allocatable = json!({"cpu": "1"});
        foreign_resources(&Value::Null, &mut allocatable);
        assert_eq!(allocatable, json!({"cpu": "1"}));
    }

    #[test]
    fn readiness_follows_the_runtime() {
        let c = |t: &str, status| RuntimeCondition { r#type: t.into(), status, ..Default::default() };
        let ok = StatusResponse {
            conditions: vec![c("RuntimeReady", true), c("NetworkReady", true)],
            ..Default::default()
        };
        assert_eq!(not_ready(&Ok(ok)), "");
        let bad = StatusResponse {
            conditions: vec![c("RuntimeReady", true), c("NetworkReady", false)],
            ..Default::default()
        };
        assert!(not_ready(&Ok(bad)).contains("NetworkReady=false"));
        assert!(!not_ready(&Err(CriError::Unavailable("x".into()))).is_empty());
    }
}
