//! Golden text of tables (`UPDATE_GOLDEN=1` writes it anew, the diff is then reviewed), and that the kernel accepts the
//! tables and every step between them, ending where a full load ends.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use super::*;

fn endpoints(all: &[&str]) -> Vec<Endpoint> {
    all.iter().map(|e| Endpoint { ip: e.parse().expect("ip"), port: 8080 }).collect()
}

fn ips(all: &[&str]) -> Vec<IpAddr> {
    all.iter().map(|a| a.parse().expect("ip")).collect()
}

fn cidrs(all: &[&str]) -> Vec<Cidr> {
    all.iter().map(|c| c.parse().expect("cidr")).collect()
}

fn rule(all: &[&str]) -> PortRule {
    PortRule {
        id: "d/s:".into(),
        protocol: "tcp".into(),
        port: 80,
        cluster_ips: ips(&["10.96.0.5"]),
        external_ips: vec![],
        balancer_ips: vec![],
        balancer_sources: vec![],
        node_port: None,
        everywhere: endpoints(all),
        internal: endpoints(all),
        external: endpoints(all),
        internal_local: false,
        external_local: false,
        affinity: None,
    }
}

fn networks(six: bool) -> Networks {
    let (mut cluster, mut services) = (vec!["10.244.0.0/16"], vec!["10.96.0.0/16"]);
    if six {
        cluster.push("fd00:10::/56");
        services.push("fd00:20::/112");
    }
    Networks { cluster: cidrs(&cluster), services: cidrs(&services) }
}

const TWO: &[&str] = &["10.244.0.2", "10.244.0.3"];

/// Every shape of service that the renderer knows.
fn shapes() -> Vec<(&'static str, bool, Vec<PortRule>)> {
    let port = |r: PortRule| PortRule { node_port: Some(30080), ..r };
    let outward = |r: PortRule| PortRule {
        external_ips: ips(&["192.0.2.7"]),
        balancer_ips: ips(&["198.51.100.1"]),
        balancer_sources: cidrs(&["203.0.113.0/24"]),
        ..port(r)
    };
    let local =
        |r: PortRule, here: &[&str]| PortRule { external_local: true, external: endpoints(here), ..r };
    vec![
        ("empty", false, vec![]),
        ("cluster-ip", false, vec![rule(TWO)]),
        ("one-endpoint", false, vec![rule(&["10.244.0.2"])]),
        ("no-endpoints", false, vec![outward(rule(&[]))]),
        ("node-port", false, vec![port(rule(TWO))]),
        ("outward", false, vec![outward(rule(TWO))]),
        ("external-local", false, vec![local(outward(rule(TWO)), &["10.244.0.3"])]),
        ("external-local-elsewhere", false, vec![local(outward(rule(TWO)), &[])]),
        (
            "internal-local-elsewhere",
            false,
            vec![PortRule { internal_local: true, internal: vec![], ..rule(TWO) }],
        ),
        ("affinity", false, vec![PortRule { affinity: Some(60), ..port(rule(TWO)) }]),
        ("udp", false, vec![PortRule { protocol: "udp".into(), port: 53, ..rule(TWO) }]),
        (
            "dual-stack",
            true,
            vec![PortRule {
                cluster_ips: ips(&["10.96.0.5", "fd00:20::5"]),
                ..port(rule(&["10.244.0.2", "fd00:10::2"]))
            }],
        ),
    ]
}

fn render(six: bool, rules: &[PortRule]) -> Vec<Table> {
    tables("kelson-test", &networks(six), rules.iter())
}

#[test]
fn golden_texts() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/render/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for (name, six, rules) in shapes() {
        let text: String = render(six, &rules).iter().map(Table::full).collect();
        let path = dir.join(format!("{name}.nft"));
        if update {
            std::fs::write(&path, &text).expect("write the golden file");
        } else if std::fs::read_to_string(&path).unwrap_or_default() != text {
            wrong.push(format!("{name} differs; now:\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn one_endpoint_more_among_a_thousand_services_is_a_small_change() {
    let many = |extra: &[&str]| -> Vec<PortRule> {
        let service = |i: u16| PortRule {
            id: format!("d/s{i}:"),
            cluster_ips: vec![IpAddr::from([10, 96, i.to_be_bytes()[0], i.to_be_bytes()[1]])],
            ..rule(if i == 500 { extra } else { TWO })
        };
        (0..1000).map(service).collect()
    };
    let (before, after) = (many(TWO), many(&["10.244.0.2", "10.244.0.3", "10.244.0.4"]));
    let delta = render(false, &before)[0].delta(&render(false, &after)[0]);
    assert!(delta.lines().count() <= 4 && delta.contains("10.244.0.4"), "{delta}");
}

#[test]
fn another_timeout_is_another_set() {
    let with = |s: u32| render(false, &[PortRule { affinity: Some(s), ..rule(TWO) }]);
    let delta = with(60)[0].delta(&with(90)[0]);
    assert_eq!(delta.matches("add set ip kelson-test seen-").count(), 2, "{delta}");
    assert_eq!(delta.matches("delete set ip kelson-test seen-").count(), 2, "{delta}");
}

/// Runs a script in a network namespace of its own; `None` where that needs rights we lack.
fn apart(script: &str) -> Option<String> {
    let out = Command::new("unshare").args(["-n", "sh", "-c", script]).output().expect("unshare");
    let text = String::from_utf8_lossy(&out.stderr);
    if text.contains("Operation not permitted") {
        eprintln!("skipped: render::tests: making a network namespace needs root");
        return None;
    }
    assert!(out.status.success(), "{text}\n{script}");
    Some(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// `nft -j` output without order and handles: rules by chain, elements sorted.
fn content(listing: &str) -> BTreeMap<String, Vec<String>> {
    let v: Value = serde_json::from_str(listing).expect("nft -j");
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for item in v["nftables"].as_array().into_iter().flatten() {
        for (kind, v) in item.as_object().into_iter().flatten() {
            let (name, chain) =
                (v["name"].as_str().unwrap_or_default(), v["chain"].as_str().unwrap_or_default());
            match kind.as_str() {
                "rule" => out.entry(format!("chain {chain}")).or_default().push(v["expr"].to_string()),
                "chain" => {
                    out.entry(format!("chain {name}")).or_default();
                }
                "set" | "map" => {
                    let mut all: Vec<String> =
                        v["elem"].as_array().into_iter().flatten().map(Value::to_string).collect();
                    all.sort();
                    out.insert(format!("{kind} {name}"), all);
                }
                _ => {}
            }
        }
    }
    out
}

/// The kernel has the last word: every shape, and the way from each to the next and back, in one namespace; then the
/// same states loaded whole.
#[test]
fn the_kernel_ends_where_a_full_load_ends() {
    let mut states: Vec<Table> = shapes()
        .into_iter()
        .filter(|(_, six, _)| !six)
        .map(|(_, _, r)| render(false, &r).remove(0))
        .collect();
    states.extend(states.clone().into_iter().rev().step_by(2));
    let list = "nft -j list table ip kelson-test\n";
    let mut changes = String::from("set -e\n");
    let mut last: Option<&Table> = None;
    for t in &states {
        let text = last.map_or_else(|| t.full(), |l| l.delta(t));
        let _ = write!(changes, "nft -f - <<'END'\n{text}END\n{list}");
        last = Some(t);
    }
    let Some(stepwise) = apart(&changes) else { return };
    let whole: String = states.iter().map(|t| format!("nft -f - <<'END'\n{}END\n{list}", t.full())).collect();
    let Some(whole) = apart(&format!("set -e\n{whole}")) else { return };
    let (stepwise, whole): (Vec<_>, Vec<_>) =
        (stepwise.lines().map(content).collect(), whole.lines().map(content).collect());
    assert_eq!(stepwise.len(), states.len());
    for (i, (a, b)) in stepwise.iter().zip(&whole).enumerate() {
        assert_eq!(a, b, "state {i}");
    }
}

#[test]
fn the_kernel_accepts_both_families() {
    for (_, six, rules) in shapes().into_iter().filter(|(_, six, _)| *six) {
        for t in render(six, &rules) {
            let _ = apart(&format!("nft -f - <<'END'\n{}END\n", t.full()));
        }
    }
}
