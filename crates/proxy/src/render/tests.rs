//! Golden text of the table, and what must hold when services come and go.

use super::*;

fn rule(affinity: Option<u32>, endpoints: &[&str]) -> PortRule {
    let all: Vec<Endpoint> =
        endpoints.iter().map(|e| Endpoint { ip: e.parse().expect("ip"), port: 8080 }).collect();
    PortRule {
        id: "d/s:".into(),
        protocol: "tcp".into(),
        port: 80,
        cluster_ips: vec!["10.96.0.5".parse().expect("ip")],
        external_ips: vec![],
        node_port: Some(30080),
        internal: all.clone(),
        external: all,
        local_only: false,
        affinity,
    }
}

fn cluster() -> Vec<Cidr> {
    vec!["10.244.0.0/16".parse().expect("cidr")]
}

#[test]
fn two_endpoints_by_random_and_masquerade_from_outside() {
    let t = &tables("t", &cluster(), &[rule(None, &["10.244.0.2", "10.244.0.3"])])[0];
    let text = t.full();
    for part in [
        "ip saddr != { 10.244.0.0/16 } meta mark set meta mark or 0x4000",
        "dnat ip to numgen random mod 2 map { 0 : 10.244.0.2 . 8080, 1 : 10.244.0.3 . 8080 }",
        "add element ip t node-ports { tcp . 30080 : goto ext-",
        "add element ip t services { 10.96.0.5 . tcp . 80 : goto svc-",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

#[test]
fn no_endpoint_is_refused_and_comes_back_by_a_small_change() {
    let none = &tables("t", &cluster(), &[rule(None, &[])])[0];
    let one = &tables("t", &cluster(), &[rule(None, &["10.244.0.2"])])[0];
    assert!(none.full().contains("no-endpoints { 10.96.0.5 . tcp . 80 : goto refuse }"));
    let delta = none.delta(one);
    assert!(delta.contains("delete element ip t no-endpoints { 10.96.0.5 . tcp . 80 : goto refuse }"));
    assert!(delta.lines().count() < 12, "{delta}");
}

#[test]
fn affinity_remembers_the_client() {
    let text = tables("t", &cluster(), &[rule(Some(60), &["10.244.0.2", "10.244.0.3"])])[0].full();
    assert!(text.contains("flags dynamic, timeout ; timeout 60s ;"));
    assert_eq!(text.matches("update @seen-").count(), 4);
}

/// The kernel has the last word: every table and every step between tables is loaded in a network namespace of its own.
#[test]
fn the_kernel_accepts_the_tables_and_the_changes() {
    let states: Vec<Vec<Table>> = vec![
        tables("kelson-test", &cluster(), &[rule(None, &["10.244.0.2", "10.244.0.3"])]),
        tables("kelson-test", &cluster(), &[rule(Some(60), &["10.244.0.2", "10.244.0.3"])]),
        tables("kelson-test", &cluster(), &[rule(Some(60), &["10.244.0.3"])]),
        tables("kelson-test", &cluster(), &[rule(None, &[])]),
        tables("kelson-test", &cluster(), &[]),
    ];
    let mut script = String::from("set -e\n");
    let mut last: Option<&Table> = None;
    for table in states.iter().map(|s| &s[0]) {
        let text = last.map_or_else(|| table.full(), |l| l.delta(table));
        let _ = write!(script, "nft -f - <<'END'\n{text}END\n");
        last = Some(table);
    }
    let out =
        std::process::Command::new("unshare").args(["-n", "sh", "-c", &script]).output().expect("unshare");
    let text = String::from_utf8_lossy(&out.stderr);
    if text.contains("Operation not permitted") {
        eprintln!("skipped: making a network namespace needs root");
        return;
    }
    assert!(out.status.success(), "{text}\n{script}");
}
