//! The table of host ports and masquerade, rendered purely, one per address family in use.

use std::net::IpAddr;

use netlink::Cidr;
use netlink::nft::{Family, Set, Table};

use crate::Config;

/// A port of the node that leads to a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    pub host_port: u16,
    /// Only on this address of the node.
    pub host_ip: Option<IpAddr>,
    pub container_port: u16,
    /// Filled in by the network.
    pub pod: Option<IpAddr>,
}

fn list(cidrs: &[Cidr], v4: bool) -> Vec<String> {
    cidrs.iter().filter(|c| c.addr.is_ipv4() == v4).map(ToString::to_string).collect()
}

pub fn tables(name: &str, config: &Config, ports: &[HostPort]) -> Vec<Table> {
    [true, false].into_iter().filter_map(|v4| table(name, config, ports, v4)).collect()
}

fn table(name: &str, config: &Config, ports: &[HostPort], v4: bool) -> Option<Table> {
    let (family, ip, addr) =
        if v4 { (Family::Ip, "ip", "ipv4_addr") } else { (Family::Ip6, "ip6", "ipv6_addr") };
    let own = list(&config.pod_cidrs, v4);
    if own.is_empty() {
        return None;
    }
    let inside = {
        let mut all = list(&config.cluster_cidrs, v4);
        all.extend(own.iter().filter(|o| !all.contains(o)).cloned().collect::<Vec<_>>());
        merge(all)
    };
    let mut t = Table::new(family, name);
    let mut any = Set {
        kind: "map",
        spec: format!("type inet_proto . inet_service : {addr} . inet_service ;"),
        ..Set::default()
    };
    let mut bound = Set {
        kind: "map",
        spec: format!("type {addr} . inet_proto . inet_service : {addr} . inet_service ;"),
        ..Set::default()
    };
    for p in ports {
        let Some(pod) = p.pod.filter(|a| a.is_ipv4() == v4) else { continue };
        let target = format!("{pod} . {}", p.container_port);
        match p.host_ip.filter(|h| !h.is_unspecified()) {
            None => any.elements.insert(format!("{} . {}", p.protocol, p.host_port), target),
            Some(h) if h.is_ipv4() == v4 => {
                bound.elements.insert(format!("{h} . {} . {}", p.protocol, p.host_port), target)
            }
            Some(_) => None,
        };
    }
    t.sets.insert("host-ports".into(), any);
    t.sets.insert("bound-host-ports".into(), bound);
    let loopback = if v4 { "127.0.0.0/8" } else { "::1" };
    let to_pods = vec![
        format!("dnat {ip} to {ip} daddr . meta l4proto . th dport map @bound-host-ports"),
        // What goes to a loopback address is left to `netlink::loopback`.
        format!(
            "{ip} daddr != {loopback} fib daddr type local dnat {ip} to meta l4proto . th dport map @host-ports"
        ),
    ];
    // After the services (-100), whose node ports win.
    t.base("prerouting", "type nat hook prerouting priority -95 ; policy accept ;", to_pods.clone());
    t.base("output", "type nat hook output priority -95 ; policy accept ;", to_pods);
    let own = own.join(", ");
    t.base(
        "postrouting",
        "type nat hook postrouting priority 105 ; policy accept ;",
        vec![
            format!("{ip} saddr {{ {own} }} {ip} daddr != {{ {}, {} }} masquerade fully-random", inside.join(", "), multicast(v4)),
            // A pod that reaches itself through a host port must see another source than itself.
            format!("ct status dnat {ip} saddr {{ {own} }} {ip} daddr {{ {own} }} ct original {ip} daddr != {{ {own} }} fib saddr type local masquerade fully-random"),
        ],
    );
    Some(t)
}

fn multicast(v4: bool) -> &'static str {
    if v4 { "224.0.0.0/4" } else { "ff00::/8" }
}

/// Drops networks that lie inside another one: nft refuses overlapping intervals.
fn merge(all: Vec<String>) -> Vec<String> {
    let cidrs: Vec<Cidr> = all.iter().filter_map(|s| s.parse().ok()).collect();
    let covered = |c: &Cidr| cidrs.iter().any(|o| o != c && o.len < c.len && o.contains(c.addr));
    cidrs.iter().filter(|c| !covered(c)).map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_ports_and_masquerade() {
        let config = Config {
            instance: "x".into(),
            bridge: "b".into(),
            pod_cidrs: vec!["10.1.0.0/24".parse().expect("cidr")],
            cluster_cidrs: vec!["10.1.0.0/16".parse().expect("cidr")],
            service_cidrs: vec![],
            state_dir: "/tmp".into(),
        };
        let port = HostPort {
            protocol: "tcp".into(),
            host_port: 80,
            host_ip: None,
            container_port: 8080,
            pod: Some("10.1.0.5".parse().expect("ip")),
        };
        let tables = tables("t", &config, &[port]);
        assert_eq!(tables.len(), 1);
        let text = tables[0].full();
        assert!(text.contains("add element ip t host-ports { tcp . 80 : 10.1.0.5 . 8080 }"), "{text}");
        assert!(
            text.contains("ip saddr { 10.1.0.0/24 } ip daddr != { 10.1.0.0/16, 224.0.0.0/4 } masquerade"),
            "{text}"
        );
    }
}
