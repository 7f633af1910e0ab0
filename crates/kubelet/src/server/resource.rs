//! `/metrics/resource`: what pods and containers use, in upstream's names, for whoever scales by it.
//! https://kubernetes.io/docs/reference/instrumentation/node-metrics/

use std::collections::HashMap;
use std::fmt::Write as _;

use client::clock;
use cri::{ContainerState, PodSandboxStats};

use crate::node::facts;
use crate::server::Cx;
use crate::server::stats::cpu_nanos;

const NANOS: f64 = 1e9;

/// What the node as a whole uses.
struct NodeUse {
    cpu_nanos: u64,
    memory: i64,
    at_ms: i64,
}

/// One line of a metric: labels (with braces, or nothing), value, and when it was measured.
struct Sample {
    labels: String,
    value: f64,
    at_ms: Option<i64>,
}

fn family(out: &mut String, name: &str, help: &str, kind: &str, samples: Vec<Sample>) {
    if samples.is_empty() {
        return;
    }
    let _ = writeln!(out, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}");
    for s in samples {
        let _ = write!(out, "{name}{} {}", s.labels, s.value);
        match s.at_ms {
            Some(at) => {
                let _ = writeln!(out, " {at}");
            }
            None => out.push('\n'),
        }
    }
}

/// `started`: nanoseconds since the epoch, by container id. `None` for the statistics: the runtime did not answer.
fn render(node: &NodeUse, stats: Option<&[PodSandboxStats]>, started: &HashMap<String, i64>) -> String {
    let mut out = String::new();
    let pods = stats.unwrap_or_default();
    let of_pod = |s: &PodSandboxStats| {
        let m = &s.attributes.metadata;
        format!("namespace=\"{}\",pod=\"{}\"", m.namespace, m.name)
    };
    let containers = || pods.iter().flat_map(|s| s.containers.iter().map(move |c| (s, c)));
    let labels = |s: &PodSandboxStats, c: &cri::ContainerStats| {
        format!("{{container=\"{}\",{}}}", c.attributes.metadata.name, of_pod(s))
    };
    let at = |nanos: i64| Some(nanos / 1_000_000);
    let cpu = containers()
        .filter_map(|(s, c)| {
            let nanos = c.cpu.usage_core_nano_seconds?;
            Some(Sample { labels: labels(s, c), value: nanos as f64 / NANOS, at_ms: at(c.cpu.timestamp) })
        })
        .collect();
    let help = "Cumulative cpu time consumed by the container in core-seconds";
    family(&mut out, "container_cpu_usage_seconds_total", help, "counter", cpu);
    let memory = containers()
        .filter_map(|(s, c)| {
            let bytes = c.memory.working_set_bytes?;
            Some(Sample { labels: labels(s, c), value: bytes as f64, at_ms: at(c.memory.timestamp) })
        })
        .collect();
    let help = "Current working set of the container in bytes";
    family(&mut out, "container_memory_working_set_bytes", help, "gauge", memory);
    let starts = containers()
        .filter_map(|(s, c)| {
            let nanos = *started.get(&c.attributes.id).filter(|n| **n > 0)?;
            Some(Sample { labels: labels(s, c), value: nanos as f64 / NANOS, at_ms: None })
        })
        .collect();
    let help = "Start time of the container since unix epoch in seconds";
    family(&mut out, "container_start_time_seconds", help, "gauge", starts);
    if stats.is_some() {
        let of = |value: f64| vec![Sample { labels: String::new(), value, at_ms: Some(node.at_ms) }];
        let help = "Cumulative cpu time consumed by the node in core-seconds";
        family(&mut out, "node_cpu_usage_seconds_total", help, "counter", of(node.cpu_nanos as f64 / NANOS));
        let help = "Current working set of the node in bytes";
        family(&mut out, "node_memory_working_set_bytes", help, "gauge", of(node.memory as f64));
    }
    let cpu = pods
        .iter()
        .filter_map(|s| {
            let nanos = s.cpu.usage_core_nano_seconds?;
            let labels = format!("{{{}}}", of_pod(s));
            Some(Sample { labels, value: nanos as f64 / NANOS, at_ms: at(s.cpu.timestamp) })
        })
        .collect();
    let help = "Cumulative cpu time consumed by the pod in core-seconds";
    family(&mut out, "pod_cpu_usage_seconds_total", help, "counter", cpu);
    let memory = pods
        .iter()
        .filter_map(|s| {
            let bytes = s.memory.working_set_bytes?;
            let labels = format!("{{{}}}", of_pod(s));
            Some(Sample { labels, value: bytes as f64, at_ms: at(s.memory.timestamp) })
        })
        .collect();
    family(
        &mut out,
        "pod_memory_working_set_bytes",
        "Current working set of the pod in bytes",
        "gauge",
        memory,
    );
    // The older name goes on beside the newer one, as upstream has it.
    for name in ["resource_scrape_error", "scrape_error"] {
        let failed = vec![Sample { labels: String::new(), value: f64::from(stats.is_none()), at_ms: None }];
        let help = "1 if there was an error while getting container metrics, 0 otherwise";
        family(&mut out, name, help, "gauge", failed);
    }
    out
}

pub async fn metrics(cx: &Cx) -> String {
    let stats = match cx.node.runtime.list_pod_sandbox_stats(None).await {
        Ok(s) => Some(s),
        Err(e) => {
            tracing::warn!(error = %e, "failed to read what pods use");
            None
        }
    };
    let started = cx.workers.all().into_iter().flat_map(|s| s.containers);
    let started = started
        .filter(|c| c.state == ContainerState::Running)
        .map(|c| (c.id, c.started_at))
        .collect::<HashMap<_, _>>();
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = facts::parse_meminfo(&meminfo, "MemAvailable");
    let node = NodeUse {
        cpu_nanos: cpu_nanos(),
        memory: (cx.node.memory_capacity - available).max(0),
        at_ms: clock::now().as_millisecond(),
    };
    render(&node, stats.as_deref(), &started)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cri::{ContainerStats, CpuUsage, MemoryUsage};

    fn pod() -> PodSandboxStats {
        let usage = |nanos, bytes| {
            (
                CpuUsage { timestamp: 5_000_000, usage_core_nano_seconds: nanos, usage_nano_cores: None },
                MemoryUsage { timestamp: 6_000_000, working_set_bytes: bytes, ..MemoryUsage::default() },
            )
        };
        let mut c = ContainerStats::default();
        c.attributes.id = "id".into();
        c.attributes.metadata.name = "c".into();
        (c.cpu, c.memory) = usage(Some(1_500_000_000), Some(4096));
        let mut s = PodSandboxStats::default();
        s.attributes.metadata.name = "p".into();
        s.attributes.metadata.namespace = "n".into();
        (s.cpu, s.memory) = usage(Some(2_000_000_000), None);
        s.containers = vec![c];
        s
    }

    #[test]
    fn upstreams_names_and_labels() {
        let node = NodeUse { cpu_nanos: 2_500_000_000, memory: 7, at_ms: 9 };
        let started = HashMap::from([("id".to_owned(), 3_250_000_000)]);
        let text = render(&node, Some(&[pod()]), &started);
        for line in [
            "# TYPE container_cpu_usage_seconds_total counter",
            "container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 1.5 5",
            "container_memory_working_set_bytes{container=\"c\",namespace=\"n\",pod=\"p\"} 4096 6",
            "container_start_time_seconds{container=\"c\",namespace=\"n\",pod=\"p\"} 3.25",
            "node_cpu_usage_seconds_total 2.5 9",
            "node_memory_working_set_bytes 7 9",
            "pod_cpu_usage_seconds_total{namespace=\"n\",pod=\"p\"} 2 5",
            "resource_scrape_error 0",
            "scrape_error 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        // What is not known is left out.
        assert!(!text.contains("pod_memory_working_set_bytes"), "{text}");
    }

    #[test]
    fn a_runtime_that_does_not_answer() {
        let node = NodeUse { cpu_nanos: 1, memory: 7, at_ms: 9 };
        let text = render(&node, None, &HashMap::new());
        assert!(text.contains("\nscrape_error 1\n") && !text.contains("node_"), "{text}");
    }
}
