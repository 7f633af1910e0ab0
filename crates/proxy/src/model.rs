//! What leads where, pure: per service port its addresses, its endpoints and how it picks among them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::Object;
use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub ip: IpAddr,
    pub port: u16,
}

/// One port of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRule {
    /// `namespace/name:port`, for the names of chains and for people.
    pub id: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    pub port: u16,
    pub cluster_ips: Vec<IpAddr>,
    /// External and load balancer addresses.
    pub external_ips: Vec<IpAddr>,
    pub node_port: Option<u16>,
    /// For traffic from inside, and for traffic from outside the cluster.
    pub internal: Vec<Endpoint>,
    pub external: Vec<Endpoint>,
    /// External traffic keeps its source address (externalTrafficPolicy: Local).
    pub local_only: bool,
    /// Seconds of ClientIP affinity.
    pub affinity: Option<u32>,
}

pub type Rules = Vec<PortRule>;

#[derive(Deserialize, Default)]
#[serde(default)]
struct ServiceView {
    spec: Spec,
    status: ServiceStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    r#type: String,
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    #[serde(rename = "externalIPs")]
    external_ips: Vec<String>,
    ports: Vec<ServicePort>,
    session_affinity: String,
    session_affinity_config: Option<AffinityConfig>,
    external_traffic_policy: String,
    internal_traffic_policy: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ServicePort {
    name: String,
    protocol: String,
    port: u16,
    node_port: u16,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AffinityConfig {
    #[serde(rename = "clientIP")]
    client_ip: ClientIp,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ClientIp {
    timeout_seconds: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ServiceStatus {
    load_balancer: LoadBalancer,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct LoadBalancer {
    ingress: Vec<Ingress>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Ingress {
    ip: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SliceView {
    address_type: String,
    endpoints: Option<Vec<EndpointView>>,
    ports: Option<Vec<SlicePort>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct EndpointView {
    addresses: Vec<String>,
    conditions: Conditions,
    node_name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SlicePort {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<u16>,
}

struct Candidate {
    endpoint: Endpoint,
    ready: bool,
    /// Still answers although it is on its way out.
    draining: bool,
    local: bool,
}

/// Ready endpoints; when there is none, those that still serve while they terminate (KEP-1669).
fn pick(all: &[&Candidate]) -> Vec<Endpoint> {
    let of = |f: fn(&Candidate) -> bool| -> Vec<Endpoint> {
        let mut v: Vec<Endpoint> = all.iter().filter(|c| f(c)).map(|c| c.endpoint.clone()).collect();
        v.sort();
        v.dedup();
        v
    };
    let ready = of(|c| c.ready);
    if ready.is_empty() { of(|c| c.draining) } else { ready }
}

fn parse_ips(all: &[String]) -> Vec<IpAddr> {
    all.iter().filter_map(|s| s.parse().ok()).collect()
}

/// One rule per port of every service that has an address, in a stable order. What does not decode is left out.
pub fn rules(node: &str, services: &[Object], slices: &[Object]) -> Rules {
    let mut by_service: BTreeMap<(&str, &str), Vec<SliceView>> = BTreeMap::new();
    for o in slices {
        let Some(name) = o.meta().labels.get("kubernetes.io/service-name") else { continue };
        if let Ok(v) = o.view::<SliceView>() {
            by_service.entry((o.namespace(), name)).or_default().push(v);
        }
    }
    let mut out = Vec::new();
    for o in services {
        let Ok(v) = o.view::<ServiceView>() else { continue };
        let s = v.spec;
        if s.r#type == "ExternalName" || s.cluster_ip == "None" || s.cluster_ip.is_empty() {
            continue;
        }
        let cluster_ips =
            if s.cluster_ips.is_empty() { parse_ips(&[s.cluster_ip]) } else { parse_ips(&s.cluster_ips) };
        let mut external_ips = parse_ips(&s.external_ips);
        external_ips
            .extend(v.status.load_balancer.ingress.iter().filter_map(|i| i.ip.parse::<IpAddr>().ok()));
        let affinity = (s.session_affinity == "ClientIP").then(|| {
            s.session_affinity_config.unwrap_or_default().client_ip.timeout_seconds.unwrap_or(10800)
        });
        let empty = Vec::new();
        let mine = by_service.get(&(o.namespace(), o.name())).unwrap_or(&empty);
        for p in &s.ports {
            let candidates = candidates(node, mine, p);
            let all: Vec<&Candidate> = candidates.iter().collect();
            let local: Vec<&Candidate> = candidates.iter().filter(|c| c.local).collect();
            let local_only = s.external_traffic_policy == "Local";
            out.push(PortRule {
                id: format!("{}/{}:{}", o.namespace(), o.name(), p.name),
                protocol: p.protocol.to_ascii_lowercase(),
                port: p.port,
                cluster_ips: cluster_ips.clone(),
                external_ips: external_ips.clone(),
                node_port: (p.node_port > 0).then_some(p.node_port),
                internal: pick(if s.internal_traffic_policy == "Local" { &local } else { &all }),
                external: pick(if local_only { &local } else { &all }),
                local_only,
                affinity,
            });
        }
    }
    out
}

fn candidates(node: &str, slices: &[SliceView], port: &ServicePort) -> Vec<Candidate> {
    let mut out = Vec::new();
    for slice in slices.iter().filter(|s| s.address_type != "FQDN") {
        let protocol = |p: &SlicePort| p.protocol.clone().unwrap_or_else(|| "TCP".into());
        let found = slice
            .ports
            .iter()
            .flatten()
            .find(|p| p.name.as_deref().unwrap_or_default() == port.name && protocol(p) == port.protocol);
        let Some(number) = found.and_then(|p| p.port) else { continue };
        for e in slice.endpoints.iter().flatten() {
            let Some(ip) = e.addresses.first().and_then(|a| a.parse().ok()) else { continue };
            let serving = e.conditions.serving.unwrap_or(e.conditions.ready.unwrap_or(true));
            out.push(Candidate {
                endpoint: Endpoint { ip, port: number },
                ready: e.conditions.ready.unwrap_or(true),
                draining: serving && e.conditions.terminating.unwrap_or(false),
                local: e.node_name.as_deref() == Some(node),
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(v: Value) -> Object {
        Object::from_value(v, 1).expect("object")
    }

    fn slice(endpoints: Value) -> Object {
        object(
            json!({"metadata": {"namespace": "d", "name": "s1", "labels": {"kubernetes.io/service-name": "s"}},
            "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "", "port": 8080, "protocol": "TCP"}]}),
        )
    }

    fn service(extra: Value) -> Object {
        let mut v = json!({"metadata": {"namespace": "d", "name": "s"}, "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.5",
            "clusterIPs": ["10.96.0.5"], "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]}});
        if let (Some(spec), Some(extra)) = (v["spec"].as_object_mut(), extra.as_object()) {
            spec.extend(extra.clone());
        }
        object(v)
    }

    #[test]
    fn ready_first_then_draining_then_local() {
        let ready = json!({"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "nodeName": "a"});
        let draining = json!({"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}, "nodeName": "b"});
        let r = rules("b", &[service(json!({}))], &[slice(json!([ready, draining]))]);
        assert_eq!(r[0].internal.iter().map(|e| e.ip.to_string()).collect::<Vec<_>>(), ["10.0.0.1"]);
        let r = rules(
            "b",
            &[service(json!({"externalTrafficPolicy": "Local"}))],
            &[slice(json!([ready, draining]))],
        );
        assert_eq!(r[0].external.iter().map(|e| e.ip.to_string()).collect::<Vec<_>>(), ["10.0.0.2"]);
        let r = rules("b", &[service(json!({}))], &[slice(json!([draining]))]);
        assert_eq!(r[0].internal.len(), 1);
        let r = rules("b", &[service(json!({}))], &[slice(Value::Null)]);
        assert!(r[0].internal.is_empty());
    }
}
