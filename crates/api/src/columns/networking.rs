//! Kinds of networking.k8s.io and discovery.k8s.io.

use super::core::balancer;
use super::row::{first_three, list, selector, text};
use serde_json::Value;

pub fn kind(kind: &str) -> Option<super::Kind> {
    Some(match kind {
        "NetworkPolicy" => ("Name:n,Pod-Selector,Age", |r| {
            r.name();
            r.text(selector(r.at("spec.podSelector")));
            r.age();
        }),
        "Ingress" => ("Name:n,Class,Hosts,Address,Ports,Age", |r| {
            r.name();
            r.text_at("spec.ingressClassName", "<none>");
            let hosts: Vec<String> = list(r.at("spec.rules"))
                .iter()
                .map(|x| text(x, "host").to_owned())
                .filter(|h| !h.is_empty())
                .collect();
            r.text(if hosts.is_empty() { "*".to_owned() } else { first_three(&hosts) });
            r.text(balancer(r.at("status.loadBalancer.ingress")).join(","));
            let tls = !list(r.at("spec.tls")).is_empty();
            r.text(if tls { "80, 443" } else { "80" });
            r.age();
        }),
        "IngressClass" => ("Name:n,Controller,Parameters,Age", |r| {
            r.name();
            r.text_at("spec.controller", "");
            let p = r.at("spec.parameters");
            let shown = match (p.is_null(), text(p, "apiGroup")) {
                (true, _) => "<none>".to_owned(),
                (_, "") => format!("{}/{}", text(p, "kind"), text(p, "name")),
                (_, g) => format!("{}.{g}/{}", text(p, "kind"), text(p, "name")),
            };
            r.text(shown);
            r.age();
        }),
        "IPAddress" => ("Name:n,ParentRef", |r| {
            r.name();
            r.text(parent(r.at("spec.parentRef")));
            // One cell more than there are columns, as upstream has it.
            r.age();
        }),
        "ServiceCIDR" => ("Name:n,CIDRs,Age", |r| {
            r.name();
            let all: Vec<&str> = list(r.at("spec.cidrs")).iter().filter_map(Value::as_str).collect();
            r.text(all.join(","));
            r.age();
        }),
        "EndpointSlice" => ("Name:n,AddressType,Ports,Endpoints,Age", |r| {
            r.name();
            r.text_at("addressType", "");
            let port = |p: &Value| match (p.get("port").and_then(Value::as_i64), text(p, "name")) {
                (Some(n), _) => n.to_string(),
                (None, "") => "*".to_owned(),
                (None, n) => n.to_owned(),
            };
            let ports: Vec<String> = list(r.at("ports")).iter().map(port).collect();
            let addresses: Vec<String> = list(r.at("endpoints"))
                .iter()
                .flat_map(|e| list(&e["addresses"]))
                .filter_map(|a| Some(a.as_str()?.to_owned()))
                .collect();
            for all in [&ports, &addresses] {
                r.text(if all.is_empty() { "<unset>".to_owned() } else { first_three(all) });
            }
            r.age();
        }),
        _ => return None,
    })
}

fn parent(p: &Value) -> String {
    if p.is_null() {
        return "<none>".into();
    }
    let mut s = text(p, "resource").to_lowercase();
    if !text(p, "group").is_empty() {
        s = format!("{s}.{}", text(p, "group").to_lowercase());
    }
    if !text(p, "namespace").is_empty() {
        s = format!("{s}/{}", text(p, "namespace"));
    }
    format!("{s}/{}", text(p, "name"))
}
