//! `/stats/summary` and `/metrics`, from the runtime's figures.

use std::fmt::Write as _;

use client::clock;
use cri::{ContainerState, ContainerStats};
use serde_json::{Value, json};

use crate::node::facts;
use crate::server::Cx;

fn time(nanos: i64) -> String {
    let t = jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(clock::now());
    clock::rfc3339(t)
}

fn container(c: &ContainerStats) -> Value {
    json!({"name": c.attributes.metadata.name,
        "startTime": time(c.cpu.timestamp),
        "cpu": {"time": time(c.cpu.timestamp), "usageNanoCores": c.cpu.usage_nano_cores, "usageCoreNanoSeconds": c.cpu.usage_core_nano_seconds},
        "memory": {"time": time(c.memory.timestamp), "workingSetBytes": c.memory.working_set_bytes,
            "usageBytes": c.memory.usage_bytes, "rssBytes": c.memory.rss_bytes,
            "pageFaults": c.memory.page_faults, "majorPageFaults": c.memory.major_page_faults},
        "rootfs": {"time": time(c.writable_layer.timestamp), "usedBytes": c.writable_layer.used_bytes, "inodesUsed": c.writable_layer.inodes_used},
        "logs": {}})
}

pub async fn summary(cx: &Cx) -> Value {
    let stats = cx.node.runtime.list_pod_sandbox_stats(None).await.unwrap_or_default();
    let pods: Vec<Value> = stats
        .iter()
        .map(|s| {
            let m = &s.attributes.metadata;
            json!({"podRef": {"name": m.name, "namespace": m.namespace, "uid": m.uid},
                "containers": s.containers.iter().map(container).collect::<Vec<_>>(),
                "cpu": {"time": time(s.cpu.timestamp), "usageNanoCores": s.cpu.usage_nano_cores, "usageCoreNanoSeconds": s.cpu.usage_core_nano_seconds},
                "memory": {"time": time(s.memory.timestamp), "workingSetBytes": s.memory.working_set_bytes, "usageBytes": s.memory.usage_bytes},
                "network": s.network.default_interface.as_ref().map(|i| json!({"time": time(s.network.timestamp), "name": i.name,
                    "rxBytes": i.rx_bytes, "txBytes": i.tx_bytes, "rxErrors": i.rx_errors, "txErrors": i.tx_errors})),
                "process_stats": {"process_count": s.process_count}})
        })
        .collect();
    let fs = facts::fs_use(&cx.node.cfg.root_dir);
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = facts::parse_meminfo(&meminfo, "MemAvailable");
    let now = clock::rfc3339(clock::now());
    json!({
        "node": {
            "nodeName": cx.node.cfg.node_name,
            "cpu": {"time": now, "usageCoreNanoSeconds": cpu_nanos()},
            "memory": {"time": now, "availableBytes": available, "workingSetBytes": (cx.node.memory_capacity - available).max(0)},
            "fs": {"time": now, "availableBytes": fs.free, "capacityBytes": fs.size, "usedBytes": fs.size.saturating_sub(fs.free),
                "inodesFree": fs.inodes_free, "inodes": fs.inodes},
        },
        "pods": pods,
    })
}

/// CPU time of the whole machine, idle left out.
pub fn cpu_nanos() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = text.lines().next().unwrap_or_default();
    let n: Vec<u64> = first.split_whitespace().skip(1).filter_map(|x| x.parse().ok()).collect();
    let busy: u64 = n.iter().enumerate().filter(|(i, _)| *i != 3 && *i != 4 && *i < 8).map(|(_, v)| v).sum();
    busy * 10_000_000
}

pub fn metrics(cx: &Cx) -> String {
    let shots = cx.workers.all();
    let running = shots.iter().filter(|s| s.status.phase == "Running").count();
    let containers =
        shots.iter().flat_map(|s| &s.containers).filter(|c| c.state == ContainerState::Running).count();
    let mut out = String::new();
    for (name, help, value) in [
        ("kubelet_running_pods", "Number of pods that have a running pod sandbox", running),
        ("kubelet_desired_pods", "The number of pods the kubelet is being instructed to run", shots.len()),
    ] {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
    }
    let name = "kubelet_running_containers";
    let _ = writeln!(
        out,
        "# HELP {name} Number of containers currently running\n# TYPE {name} gauge\n{name}{{container_state=\"running\"}} {containers}"
    );
    let name = "kubelet_node_name";
    let _ = writeln!(
        out,
        "# HELP {name} The node's name. The count is always 1.\n# TYPE {name} gauge\n{name}{{node=\"{}\"}} 1",
        cx.node.cfg.node_name
    );
    let name = "kubelet_pod_certificate_states";
    let _ = writeln!(
        out,
        "# HELP {name} Gauge vector reporting the number of pod certificate projected volume sources, faceted by signer_name and state.\n# TYPE {name} gauge"
    );
    for ((signer, state), n) in cx.node.certificates.states() {
        let _ = writeln!(out, "{name}{{signer_name=\"{signer}\",state=\"{state}\"}} {n}");
    }
    out
}
