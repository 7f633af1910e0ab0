//! What leads where, pure: per service port its addresses, its endpoints and how it picks among them. `Model` keeps the
//! rules of every service, so that a change costs the work of one service.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::Object;
use netlink::Cidr;

use crate::view::{ServicePort, ServiceView, SlicePort, SliceView};

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
    pub external_ips: Vec<IpAddr>,
    pub balancer_ips: Vec<IpAddr>,
    /// Who may come in by the balancer's addresses; empty: everybody.
    pub balancer_sources: Vec<Cidr>,
    pub node_port: Option<u16>,
    /// All that take traffic, wherever they are.
    pub everywhere: Vec<Endpoint>,
    /// For traffic from inside, and for traffic from outside the cluster.
    pub internal: Vec<Endpoint>,
    pub external: Vec<Endpoint>,
    /// Traffic to the cluster address stays on this node (internalTrafficPolicy: Local).
    pub internal_local: bool,
    /// External traffic stays on this node and keeps its source address (externalTrafficPolicy: Local).
    pub external_local: bool,
    /// Seconds of ClientIP affinity.
    pub affinity: Option<u32>,
}

/// Namespace and name of a Service.
pub type Key = (String, String);

/// The rules of every service, in a stable order.
#[derive(Debug, Default)]
pub struct Model {
    node: String,
    services: BTreeMap<Key, Vec<PortRule>>,
}

impl Model {
    pub fn new(node: &str) -> Self {
        Self { node: node.to_owned(), services: BTreeMap::new() }
    }

    /// Takes in the newest state of one service and its slices; tells whether its rules changed.
    pub fn set(&mut self, key: Key, service: Option<&Object>, slices: &[Object]) -> bool {
        let new = service.map(|s| rules(&self.node, s, slices)).unwrap_or_default();
        if new.is_empty() {
            return self.services.remove(&key).is_some();
        }
        let changed = self.services.get(&key) != Some(&new);
        self.services.insert(key, new);
        changed
    }

    pub fn rules(&self) -> impl Iterator<Item = &PortRule> + Clone {
        self.services.values().flatten()
    }
}

struct Candidate {
    endpoint: Endpoint,
    ready: bool,
    /// Still answers although it is on its way out.
    draining: bool,
    local: bool,
    /// Whether it is meant for this node; `None` where nothing is said of nodes.
    meant: Option<bool>,
}

/// Those meant for this node, where each that is ready says for which nodes it is and one is for this one (KEP-3015).
fn near<'a>(all: &[&'a Candidate]) -> Vec<&'a Candidate> {
    let mut ready = all.iter().filter(|c| c.ready).peekable();
    let said = ready.peek().is_some() && ready.clone().all(|c| c.meant.is_some());
    if said && ready.any(|c| c.meant == Some(true)) {
        return all.iter().filter(|c| c.meant == Some(true)).copied().collect();
    }
    all.to_vec()
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

/// One rule per port of a service that has an address. What does not decode is left out.
fn rules(node: &str, service: &Object, slices: &[Object]) -> Vec<PortRule> {
    let Ok(v) = service.view::<ServiceView>() else { return Vec::new() };
    let s = v.spec;
    if s.r#type == "ExternalName" || s.cluster_ip == "None" || s.cluster_ip.is_empty() {
        return Vec::new();
    }
    let slices: Vec<SliceView> = slices.iter().filter_map(|o| o.view().ok()).collect();
    let cluster_ips =
        if s.cluster_ips.is_empty() { parse_ips(&[s.cluster_ip]) } else { parse_ips(&s.cluster_ips) };
    let balancer = v.status.load_balancer.ingress.iter().filter(|i| i.ip_mode != "Proxy");
    let balancer_ips: Vec<IpAddr> = balancer.filter_map(|i| i.ip.parse().ok()).collect();
    let affinity = (s.session_affinity == "ClientIP")
        .then(|| s.session_affinity_config.unwrap_or_default().client_ip.timeout_seconds.unwrap_or(10800));
    let (internal_local, external_local) =
        (s.internal_traffic_policy == "Local", s.external_traffic_policy == "Local");
    let rule = |p: &ServicePort| {
        let candidates = candidates(node, &slices, p);
        let all: Vec<&Candidate> = candidates.iter().collect();
        let local: Vec<&Candidate> = candidates.iter().filter(|c| c.local).collect();
        let near = near(&all);
        PortRule {
            id: format!("{}/{}:{}", service.namespace(), service.name(), p.name),
            protocol: p.protocol.to_ascii_lowercase(),
            port: p.port,
            cluster_ips: cluster_ips.clone(),
            external_ips: parse_ips(&s.external_ips),
            balancer_ips: balancer_ips.clone(),
            balancer_sources: s
                .load_balancer_source_ranges
                .iter()
                .filter_map(|r| r.trim().parse().ok())
                .collect(),
            node_port: (p.node_port > 0).then_some(p.node_port),
            everywhere: pick(&all),
            internal: pick(if internal_local { &local } else { &near }),
            external: pick(if external_local { &local } else { &near }),
            internal_local,
            external_local,
            affinity,
        }
    };
    s.ports.iter().filter(|p| matches!(p.protocol.as_str(), "TCP" | "UDP" | "SCTP")).map(rule).collect()
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
                meant: e
                    .hints
                    .as_ref()
                    .and_then(|h| h.for_nodes.as_ref())
                    .filter(|n| !n.is_empty())
                    .map(|n| n.iter().any(|n| n.name == node)),
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
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

    fn rules_of(service: &Object, slice: &Object) -> PortRule {
        rules("b", service, std::slice::from_ref(slice)).remove(0)
    }

    fn ips(l: &[Endpoint]) -> Vec<String> {
        l.iter().map(|e| e.ip.to_string()).collect()
    }

    #[test]
    fn who_takes_traffic() {
        let ready = json!({"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "nodeName": "a"});
        let draining = json!({"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}, "nodeName": "b"});
        let down = json!({"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": false, "terminating": true}, "nodeName": "b"});
        let said_nothing = json!({"addresses": ["10.0.0.4"], "nodeName": "b"});
        let (internal, external) =
            (json!({"internalTrafficPolicy": "Local"}), json!({"externalTrafficPolicy": "Local"}));
        // Endpoints, what the service says, then who takes traffic from inside, from outside, and in general.
        type Row<'a> = (&'a [&'a Value], Value, &'a [&'a str], &'a [&'a str], &'a [&'a str]);
        let (one, two, four): (&[&str], &[&str], &[&str]) = (&["10.0.0.1"], &["10.0.0.2"], &["10.0.0.4"]);
        let table: &[Row<'_>] = &[
            (&[&ready, &draining], json!({}), one, one, one),
            (&[&ready, &draining], external.clone(), one, two, one),
            (&[&ready, &draining], internal.clone(), two, one, one),
            (&[&draining, &down], json!({}), two, two, two),
            (&[&down], json!({}), &[], &[], &[]),
            (&[&ready, &said_nothing], internal, four, &["10.0.0.1", "10.0.0.4"], &["10.0.0.1", "10.0.0.4"]),
            (&[&ready], external, one, &[], one),
            (&[], json!({}), &[], &[], &[]),
        ];
        for (i, (endpoints, extra, inside, outside, all)) in table.iter().enumerate() {
            let r = rules_of(&service(extra.clone()), &slice(json!(endpoints)));
            assert_eq!(
                (ips(&r.internal), ips(&r.external), ips(&r.everywhere)),
                (
                    inside.iter().map(|s| (*s).to_owned()).collect(),
                    outside.iter().map(|s| (*s).to_owned()).collect(),
                    all.iter().map(|s| (*s).to_owned()).collect(),
                ),
                "row {i}"
            );
        }
    }

    #[test]
    fn what_has_no_rules() {
        for extra in [
            json!({"clusterIP": "None"}),
            json!({"type": "ExternalName"}),
            json!({"clusterIP": ""}),
            json!({"ports": 7}),
        ] {
            assert!(rules("b", &service(extra), &[]).is_empty());
        }
    }

    #[test]
    fn what_is_meant_for_a_node_is_for_it_while_it_is_ready() {
        let e = |ip: &str, node: &str, ready: bool| {
            json!({"addresses": [ip], "conditions": {"ready": ready},
            "hints": {"forNodes": [{"name": node}]}})
        };
        let plain = json!({"addresses": ["10.0.0.9"]});
        for (endpoints, want) in [
            (json!([e("10.0.0.1", "a", true), e("10.0.0.2", "b", true)]), &["10.0.0.2"][..]),
            (json!([e("10.0.0.1", "a", true), e("10.0.0.2", "b", false)]), &["10.0.0.1"]),
            (json!([e("10.0.0.1", "a", true), e("10.0.0.2", "c", true)]), &["10.0.0.1", "10.0.0.2"]),
            (json!([e("10.0.0.2", "b", true), plain]), &["10.0.0.2", "10.0.0.9"]),
        ] {
            let r = rules_of(&service(json!({})), &slice(endpoints.clone()));
            assert_eq!(
                (ips(&r.internal), ips(&r.external)),
                (ips(&r.external), want.iter().map(|s| (*s).to_owned()).collect()),
                "{endpoints}"
            );
        }
    }

    #[test]
    fn a_balancer_that_proxies_is_left_alone() {
        let mut v = service(
            json!({"loadBalancerSourceRanges": ["10.9.0.0/16", "nonsense"], "sessionAffinity": "ClientIP"}),
        )
        .value()
        .expect("value");
        v["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2", "ipMode": "Proxy"}, {"hostname": "x"}]}});
        let r = rules_of(&object(v), &slice(Value::Null));
        assert_eq!(r.balancer_ips, ["192.0.2.1".parse::<IpAddr>().expect("ip")]);
        assert_eq!((r.balancer_sources.len(), r.affinity), (1, Some(10800)));
    }

    proptest! {
        /// Changes taken in one by one lead to the rules of a fresh start.
        #[test]
        fn one_by_one_equals_all_at_once(steps in proptest::collection::vec((0u8..4, 0u8..3, 0u8..4), 1..30)) {
            let mut model = Model::new("b");
            let mut state: BTreeMap<Key, (Option<Object>, Vec<Object>)> = BTreeMap::new();
            for (name, what, n) in steps {
                let key = ("d".to_owned(), format!("s{name}"));
                let entry = state.entry(key.clone()).or_default();
                match what {
                    0 => entry.0 = None,
                    1 => entry.0 = Some(service(json!({"ports": [{"port": 80 + u16::from(n), "protocol": "TCP"}]}))),
                    _ => entry.1 = vec![slice(json!((0..n).map(|i| json!({"addresses": [format!("10.0.0.{i}")]})).collect::<Vec<_>>()))],
                }
                model.set(key, entry.0.as_ref(), &entry.1);
            }
            let mut fresh = Model::new("b");
            for (key, (service, slices)) in &state {
                fresh.set(key.clone(), service.as_ref(), slices);
            }
            prop_assert!(model.rules().eq(fresh.rules()));
        }
    }
}
