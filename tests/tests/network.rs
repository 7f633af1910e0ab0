//! The service network.

use std::net::{SocketAddr, TcpStream};

use testkit::{Cluster, wait_for};

fn address(ip: &str, port: &str) -> SocketAddr {
    format!("{ip}:{port}").parse().unwrap_or_else(|_| panic!("{ip:?} is no address"))
}

fn service(name: &str, spec: &str) -> String {
    format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
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
