//! The service network: rollouts without a failed request, every kind of Service, names.

use std::net::{SocketAddr, TcpStream, UdpSocket};

use e2e::dns::{self, RecordType};
use e2e::load::Load;
use e2e::net::{PORTS, World, address, ask, ask_udp, indent, pod, server, service};
use testkit::{Cluster, wait_for};

const PROGRAM: &str = env!("CARGO_BIN_EXE_e2e-net");

fn rolling(version: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 3
  strategy: {{rollingUpdate: {{maxUnavailable: 1, maxSurge: 1}}}}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web, version: {version}}}}}
    spec:{}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{type: NodePort, selector: {{app: web}}, ports: [{{port: 80, targetPort: http}}]}}
"#,
        indent(&server(PROGRAM, "web", "version", ""), 4)
    )
}

/// The server ends 50 ms after SIGTERM and has no preStop hook: traffic has to be led away before the signal.
#[test]
fn a_rollout_under_load_fails_no_request() {
    let Some(c) = Cluster::with_node() else { return };
    c.apply(&rolling("v0"));
    c.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    let get = |path: &str| c.kubectl(&["get", "service", "web", "-o", &format!("jsonpath={{{path}}}")]);
    let (cluster, node_port) = (address(&get(".spec.clusterIP"), "80"), get(".spec.ports[0].nodePort"));
    let node = c.kubectl(&["get", "node", "node-1", "-o", "jsonpath={.status.addresses[0].address}"]);
    wait_for("the service in force", || TcpStream::connect(cluster).is_ok());
    let loads = [
        Load::start("new connections to the cluster address", cluster, false),
        Load::start("a kept connection to the cluster address", cluster, true),
        Load::start("new connections to the node port", address(&node, &node_port), false),
        Load::start("a kept connection to the node port", address(&node, &node_port), true),
        Load::start("new connections to the node port on loopback", address("127.0.0.1", &node_port), false),
    ];
    for version in ["v1", "v2", "v3"] {
        let before: Vec<u64> = loads.iter().map(Load::answered).collect();
        c.apply(&rolling(version));
        c.kubectl(&["rollout", "status", "deployment/web", "--timeout=180s"]);
        wait_for("the old pods to be gone", || {
            let pods = c.kubectl(&[
                "get",
                "pods",
                "-l",
                "app=web",
                "-o",
                "jsonpath={.items[*].metadata.labels.version}",
            ]);
            pods.split(' ').count() == 3 && pods.split(' ').all(|v| v == version)
        });
        wait_for("answers from the new pods", || {
            loads.iter().zip(&before).all(|(l, b)| l.answered() > b + 20)
        });
    }
    let closed: Vec<u64> = loads.into_iter().map(Load::finish).collect();
    // The kept connections did live on pods that went.
    assert!(closed[1] >= 1 && closed[3] >= 1, "{closed:?}");
}

/// Of this run alone, for two may run beside each other.
fn host_port() -> String {
    (18_000 + std::process::id() % 2000).to_string()
}

#[test]
fn services_lead_where_they_should() {
    let Some(c) = Cluster::with_node() else { return };
    let both = format!("selector: {{app: echo}}, {PORTS}");
    let one = format!("selector: {{who: a}}, {PORTS}");
    let host_port = format!(", hostPort: {}", host_port());
    let a = pod(PROGRAM, "a", "app: echo", "  hostname: a\n  subdomain: head\n")
        .replace("name: http}", &format!("name: http{host_port}}}"));
    let manifest = [
        a,
        pod(PROGRAM, "b", "app: echo", ""),
        pod(PROGRAM, "client", "app: client", "  hostAliases: [{ip: 198.51.100.99, hostnames: [alias.test]}]\n  dnsConfig: {searches: [extra.test], options: [{name: ndots, value: '3'}]}\n"),
        service("echo", &both),
        service("port", &format!("type: NodePort, {both}")),
        service("sticky", &format!("type: NodePort, sessionAffinity: ClientIP, {both}")),
        service("alone", &format!("type: NodePort, {one}")),
        service("head", &format!("clusterIP: None, {both}")),
        service("nobody", "type: NodePort, selector: {app: nobody}, ports: [{port: 80}]"),
        service("local", &format!("type: NodePort, externalTrafficPolicy: Local, internalTrafficPolicy: Local, {both}")),
        service("outer", &format!("externalIPs: [198.51.100.10], {one}")),
        service("balanced", &format!("type: LoadBalancer, {one}")),
        service("moved", &one),
        service("elsewhere", "type: ExternalName, externalName: echo.default.svc.cluster.local"),
    ]
    .concat();
    c.apply(&manifest);
    c.kubectl(&["wait", "--for=condition=ready", "pod", "--all", "--timeout=90s"]);
    let node = c.kubectl(&["get", "node", "node-1", "-o", "jsonpath={.status.addresses[0].address}"]);
    let w = World { c, node };
    cluster_addresses(&w);
    node_ports(&w);
    outer_addresses(&w);
    affinity(&w);
    changes(&w);
    names(&w);
}

fn cluster_addresses(w: &World) {
    let echo = w.cluster_ip("echo");
    w.from_host(echo, "a");
    w.from_host(echo, "b");
    assert_eq!(w.from_pod("client", &echo.to_string(), "b"), w.pod_ip("client"), "a pod's address is kept");
    // A pod that reaches itself through a service sees another address than its own.
    assert_ne!(w.from_pod("a", &w.cluster_ip("alone").to_string(), "a"), w.pod_ip("a"));
    wait_for("an answer by UDP", || ask_udp(echo).is_some());
    wait_for("an answer by UDP in a pod", || w.inside("client", &["udp", &echo.to_string()]).is_some());
    // Nobody there, and no such port: refused, not silent.
    let refused = |to: SocketAddr| ask(to).is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused);
    let nobody = w.cluster_ip("nobody");
    wait_for("a service without endpoints to refuse", || refused(nobody));
    wait_for("its node port to refuse", || refused(address(&w.node, &w.node_port("nobody"))));
    wait_for("its node port on loopback to refuse", || refused(address("127.0.0.1", &w.node_port("nobody"))));
    wait_for("a port that the service lacks to refuse", || refused(SocketAddr::new(echo.ip(), 81)));
    wait_for("a pod to be refused as well", || {
        let out = w.c.try_kubectl(&["exec", "client", "--", "/e2e-net", "get", &nobody.to_string()], None);
        out.stderr.contains("refused")
    });
}

fn node_ports(w: &World) {
    let port = w.node_port("port");
    for ip in [w.node.as_str(), "127.0.0.1", "::1"] {
        if ip == "::1" && std::net::TcpListener::bind("[::1]:0").is_err() {
            continue;
        }
        w.from_host(address(ip, &port), "a");
        w.from_host(address(ip, &port), "b");
    }
    let datagrams = w.service("port", ".spec.ports[1].nodePort");
    for ip in [w.node.as_str(), "127.0.0.1"] {
        wait_for(&format!("an answer by UDP on {ip}"), || ask_udp(address(ip, &datagrams)).is_some());
    }
    w.from_pod("client", &format!("{}:{port}", w.node), "b");
    w.from_pod("a", &format!("{}:{}", w.node, w.node_port("alone")), "a");
    // Policy Local: every endpoint is here, and who is in the cluster keeps its address.
    let local = format!("{}:{}", w.node, w.node_port("local"));
    assert_eq!(w.from_pod("client", &local, "b"), w.pod_ip("client"));
    w.from_host(w.cluster_ip("local"), "a");
    // Host ports, from the node, by loopback, from a pod, and from the pod itself.
    for ip in [w.node.as_str(), "127.0.0.1"] {
        w.from_host(address(ip, &host_port()), "a");
    }
    w.from_pod("client", &format!("{}:{}", w.node, host_port()), "a");
    w.from_pod("a", &format!("{}:{}", w.node, host_port()), "a");
}

fn outer_addresses(w: &World) {
    w.from_host(address("198.51.100.10", "80"), "a");
    w.from_pod("client", "198.51.100.10:80", "a");
    let status = r#"{"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.20"}]}}}"#;
    w.c.kubectl(&["patch", "service", "balanced", "--subresource=status", "--type=merge", "-p", status]);
    w.from_host(address("198.51.100.20", "80"), "a");
    w.from_pod("client", "198.51.100.20:80", "a");
}

fn affinity(w: &World) {
    for to in [w.cluster_ip("sticky"), address(&w.node, &w.node_port("sticky"))] {
        w.from_host(to, "");
        let who: std::collections::BTreeSet<String> = (0..12)
            .filter_map(|_| ask(to).ok())
            .filter_map(|s| s.split(' ').next().map(str::to_owned))
            .collect();
        assert_eq!(who.len(), 1, "one client, one pod: {who:?}");
    }
}

/// The service's address and its pods change under it.
fn changes(w: &World) {
    let before = w.cluster_ip("moved");
    w.from_host(before, "a");
    w.c.kubectl(&["delete", "service", "moved"]);
    w.c.apply(&service("moved", &format!("selector: {{who: b}}, {PORTS}")));
    let after = w.cluster_ip("moved");
    w.from_host(after, "b");
    // A datagram client that keeps its port is led to the pods of now.
    let client = UdpSocket::bind("0.0.0.0:0").expect("socket");
    client.set_read_timeout(Some(std::time::Duration::from_millis(300))).expect("timeout");
    client.connect(after).expect("connect");
    let answers = |who: &str| {
        let mut buffer = [0; 64];
        let n = client.send(b"?").and_then(|_| client.recv(&mut buffer)).unwrap_or(0);
        String::from_utf8_lossy(&buffer[..n]).starts_with(who)
    };
    wait_for("b by UDP", || answers("b "));
    w.c.kubectl(&["patch", "service", "moved", "-p", r#"{"spec": {"selector": {"who": "a"}}}"#]);
    wait_for("a by UDP from the same client", || answers("a "));
}

fn names(w: &World) {
    let (echo, a, b) = (w.cluster_ip("echo").ip().to_string(), w.pod_ip("a"), w.pod_ip("b"));
    let full = "echo.default.svc.cluster.local";
    for name in ["echo", "echo.default", "echo.default.svc", full, "elsewhere"] {
        w.resolves("client", name, &[&echo]);
    }
    w.resolves("client", "head", &[&a, &b]);
    w.resolves("client", "a.head", &[&a]);
    w.resolves("client", &format!("{}.default.pod.cluster.local", b.replace('.', "-")), &[&b]);
    let hosts = w.c.kubectl(&["exec", "client", "--", "cat", "/etc/hosts"]);
    assert!(hosts.contains("198.51.100.99\talias.test"), "{hosts}");
    let conf = w.c.kubectl(&["exec", "client", "--", "cat", "/etc/resolv.conf"]);
    assert!(conf.contains("search default.svc.cluster.local svc.cluster.local cluster.local"), "{conf}");
    assert!(conf.contains("extra.test") && conf.contains("ndots:3"), "{conf}");
    let hosts = w.c.kubectl(&["exec", "a", "--", "cat", "/etc/hosts"]);
    assert!(hosts.contains(&format!("{a}\ta.head.default.svc.cluster.local\ta")), "{hosts}");

    let dns = SocketAddr::new(
        w.get(&["service", "-n", "kube-system", "kube-dns"], ".spec.clusterIP").parse().expect("ip"),
        53,
    );
    let reverse: Vec<&str> = echo.split('.').rev().collect();
    let reverse = format!("{}.in-addr.arpa", reverse.join("."));
    let table: &[(&str, RecordType, &str, &str)] = &[
        (full, RecordType::A, "NoError", &echo),
        (full, RecordType::AAAA, "NoError", ""),
        ("none.default.svc.cluster.local", RecordType::A, "NXDomain", ""),
        ("none.nowhere.svc.cluster.local", RecordType::A, "NXDomain", ""),
        ("default.svc.cluster.local", RecordType::A, "NoError", ""),
        (
            "_web._tcp.echo.default.svc.cluster.local",
            RecordType::SRV,
            "NoError",
            "0 100 80 echo.default.svc.cluster.local.",
        ),
        ("_tcp.echo.default.svc.cluster.local", RecordType::A, "NoError", ""),
        (
            "elsewhere.default.svc.cluster.local",
            RecordType::CNAME,
            "NoError",
            "echo.default.svc.cluster.local.",
        ),
        (&reverse, RecordType::PTR, "NoError", "echo.default.svc.cluster.local."),
    ];
    for (name, kind, code, want) in table {
        for tcp in [false, true] {
            let mut got = None;
            wait_for(&format!("DNS for {name} {kind}"), || {
                got = dns::ask(dns, name, *kind, tcp).ok();
                got.is_some()
            });
            let (got_code, records) = got.unwrap_or_default();
            assert_eq!(
                (got_code.as_str(), records.join(",").as_str()),
                (*code, *want),
                "{name} {kind}, tcp: {tcp}"
            );
        }
    }
}

/// A thousand services are in force soon after they are made, and one endpoint more among them is a small change.
#[test]
fn a_thousand_services() {
    let Some(c) = Cluster::with_node() else { return };
    let slice = |ports: &str, ip: &str| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: last, labels: {{kubernetes.io/service-name: s999}}}}\naddressType: IPv4\nports: [{ports}]\nendpoints: [{{addresses: [{ip}]}}]\n"
        )
    };
    let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("a server");
    let port = listener.local_addr().expect("address").port();
    let node = c.kubectl(&["get", "node", "node-1", "-o", "jsonpath={.status.addresses[0].address}"]);
    let all: String = (0..1000).map(|i| service(&format!("s{i}"), "ports: [{port: 80}]")).collect();
    let out = c.try_kubectl(&["create", "-f", "-"], Some(&all));
    assert!(out.ok, "{}", out.stderr);
    let last = address(&c.kubectl(&["get", "service", "s999", "-o", "jsonpath={.spec.clusterIP}"]), "80");
    let refused =
        |to| TcpStream::connect(to).is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused);
    wait_for("the last service to refuse", || refused(last));
    c.apply(&slice(&format!("{{port: {port}}}"), &node));
    wait_for("the last service to lead to the server", || TcpStream::connect(last).is_ok());
    c.kubectl(&["delete", "endpointslice", "last"]);
    wait_for("the last service to refuse again", || refused(last));
    assert!(!c.log().contains("replacing it"), "a table was replaced as a whole:\n{}", c.log());
}
