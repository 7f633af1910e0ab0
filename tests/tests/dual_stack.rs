//! A cluster of both address families: pods, services, node ports and names in each.

use std::net::TcpListener;

use e2e::dns::{self, RecordType};
use e2e::net::{PORTS, World, address, pod, service};
use testkit::{Cluster, wait_for};

const PROGRAM: &str = env!("CARGO_BIN_EXE_e2e-net");

/// Whether this machine has IPv6 at all.
fn has_v6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
        && std::path::Path::new("/proc/sys/net/ipv6/conf/all/forwarding").exists()
}

#[test]
fn pods_and_services_have_both_families() {
    if !has_v6() {
        testkit::skip("the machine has no IPv6");
        return;
    }
    if !testkit::node_possible() {
        testkit::skip("running containers needs root");
        return;
    }
    let n = std::process::id() % 200;
    let pods = format!("10.{}.0.0/16,fd00:{n:x}:1::/56", 20 + n % 40);
    let services = format!("10.{}.0.0/16,fd00:{n:x}:2::/112", 60 + n % 40);
    let c = Cluster::with_flags(true, &["--cluster-cidr", &pods, "--service-cidr", &services]);
    c.import_busybox();
    let both = format!("ipFamilyPolicy: RequireDualStack, type: NodePort, selector: {{app: echo}}, {PORTS}");
    let manifest = [
        pod(PROGRAM, "a", "app: echo", ""),
        pod(PROGRAM, "client", "app: client", ""),
        service("both", &both),
        service("six", &format!("ipFamilies: [IPv6], selector: {{app: echo}}, {PORTS}")),
        service("plain", &format!("selector: {{app: echo}}, {PORTS}")),
        service(
            "head",
            &format!("ipFamilyPolicy: PreferDualStack, clusterIP: None, selector: {{app: echo}}, {PORTS}"),
        ),
    ]
    .concat();
    c.apply(&manifest);
    c.kubectl(&["wait", "--for=condition=ready", "pod", "--all", "--timeout=90s"]);
    let node = c.kubectl(&["get", "node", "node-1", "-o", "jsonpath={.status.addresses[0].address}"]);
    let w = World { c, node };
    let list = |what: &[&str], path: &str| -> Vec<String> {
        w.get(what, path).split_whitespace().map(str::to_owned).collect()
    };
    let pod_ips = list(&["pod", "a"], ".status.podIPs[*].ip");
    let ips = list(&["service", "both"], ".spec.clusterIPs[*]");
    assert!(pod_ips.len() == 2 && !pod_ips[0].contains(':') && pod_ips[1].contains(':'), "{pod_ips:?}");
    assert!(ips.len() == 2 && !ips[0].contains(':') && ips[1].contains(':'), "{ips:?}");
    assert_eq!(list(&["service", "six"], ".spec.ipFamilies[*]"), ["IPv6"]);
    assert_eq!(list(&["service", "plain"], ".spec.ipFamilies[*]"), ["IPv4"]);

    for ip in
        pod_ips.iter().zip(["8080"; 2]).chain(ips.iter().zip(["80"; 2])).map(|(ip, port)| address(ip, port))
    {
        w.from_host(ip, "a");
        w.from_pod("client", &ip.to_string(), "a");
        wait_for(&format!("an answer by UDP at {ip}"), || {
            w.inside("client", &["udp", &ip.to_string()]).is_some()
        });
    }
    let client_ips = list(&["pod", "client"], ".status.podIPs[*].ip");
    assert_eq!(w.from_pod("client", &address(&ips[1], "80").to_string(), "a"), client_ips[1]);
    // A pod that reaches itself, by its address of the second family.
    assert_ne!(w.from_pod("a", &address(&ips[1], "80").to_string(), "a"), pod_ips[1]);
    let port = w.node_port("both");
    let mut nodes = list(&["node", "node-1"], ".status.addresses[?(@.type==\"InternalIP\")].address");
    nodes.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    for ip in &nodes {
        w.from_host(address(ip, &port), "a");
    }

    let six = w.service("six", ".spec.clusterIP");
    let names: &[(&str, &[&str])] = &[
        ("both", &[&ips[0], &ips[1]]),
        ("head", &[&pod_ips[0], &pod_ips[1]]),
        ("six.default.svc.cluster.local", &[&six]),
    ];
    for (name, want) in names {
        w.resolves("client", name, want);
    }
    // DNS itself answers on both.
    for dns in list(&["service", "-n", "kube-system", "kube-dns"], ".spec.clusterIPs[*]") {
        let mut got = Default::default();
        wait_for(&format!("DNS at {dns}"), || {
            let asked =
                dns::ask(address(&dns, "53"), "both.default.svc.cluster.local", RecordType::AAAA, false);
            asked.map(|a| got = a).is_ok()
        });
        assert_eq!(got, ("NoError".to_owned(), vec![ips[1].clone()]));
    }
}
