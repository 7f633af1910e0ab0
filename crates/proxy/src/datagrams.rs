//! Which remembered datagram connections lead to where nobody is any more, pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use netlink::conntrack::{Flow, UDP};

use crate::model::PortRule;

/// The addresses and node ports of UDP services, and the endpoints behind each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Datagrams {
    by_address: BTreeMap<SocketAddr, BTreeSet<SocketAddr>>,
    by_node_port: BTreeMap<u16, BTreeSet<SocketAddr>>,
}

impl Datagrams {
    pub fn new<'a>(rules: impl Iterator<Item = &'a PortRule>) -> Self {
        let mut out = Self::default();
        for r in rules.filter(|r| r.protocol == "udp") {
            let all = r.everywhere.iter().chain(&r.internal).chain(&r.external);
            let endpoints: BTreeSet<SocketAddr> = all.map(|e| SocketAddr::new(e.ip, e.port)).collect();
            for ip in r.cluster_ips.iter().chain(&r.external_ips).chain(&r.balancer_ips) {
                out.by_address.insert(SocketAddr::new(*ip, r.port), endpoints.clone());
            }
            if let Some(port) = r.node_port {
                out.by_node_port.insert(port, endpoints);
            }
        }
        out
    }

    fn behind(&self, to: SocketAddr) -> Option<&BTreeSet<SocketAddr>> {
        self.by_address.get(&to).or_else(|| self.by_node_port.get(&to.port()))
    }

    /// Whether a connection to a service of now or before leads to none of its endpoints of now.
    pub fn stale(&self, before: &Self, flow: &Flow) -> bool {
        if flow.protocol != UDP {
            return false;
        }
        match (self.behind(flow.to), before.behind(flow.to)) {
            (Some(now), _) => !now.contains(&flow.led_to),
            (None, Some(_)) => true,
            (None, None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: &str) -> SocketAddr {
        s.parse().expect("address")
    }

    fn datagrams(all: &[(&str, &[&str])], node_ports: &[(u16, &[&str])]) -> Datagrams {
        let set = |e: &[&str]| e.iter().map(|e| at(e)).collect();
        Datagrams {
            by_address: all.iter().map(|(a, e)| (at(a), set(e))).collect(),
            by_node_port: node_ports.iter().map(|(p, e)| (*p, set(e))).collect(),
        }
    }

    #[test]
    fn what_is_forgotten() {
        let now = datagrams(&[("10.96.0.5:53", &["10.244.0.2:53"])], &[(30053, &["10.244.0.2:53"])]);
        let before = datagrams(&[("10.96.0.6:53", &["10.244.0.3:53"])], &[]);
        let flow =
            |to: &str, led_to: &str, protocol| Flow::new(protocol, at("10.0.0.9:4000"), at(to), at(led_to));
        let table = [
            (flow("10.96.0.5:53", "10.244.0.2:53", UDP), false),
            (flow("10.96.0.5:53", "10.244.0.3:53", UDP), true),
            (flow("10.96.0.5:53", "10.244.0.3:53", 6), false),
            (flow("192.0.2.1:30053", "10.244.0.3:53", UDP), true),
            (flow("192.0.2.1:30053", "10.244.0.2:53", UDP), false),
            (flow("10.96.0.6:53", "10.244.0.3:53", UDP), true),
            (flow("8.8.8.8:53", "8.8.8.8:53", UDP), false),
        ];
        for (f, want) in table {
            assert_eq!(now.stale(&before, &f), want, "{f:?}");
        }
    }
}
