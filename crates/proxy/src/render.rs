//! The nftables table of the services of one family, rendered purely. Verdict maps lead from address, protocol and port
//! to a chain, so that the cost of a packet does not grow with the number of services.

use std::fmt::Write as _;

use netlink::Cidr;
use netlink::nft::{Family, Set, Table};

use crate::model::{Endpoint, PortRule};

/// Marks packets whose source must be rewritten.
const MASQUERADE: &str = "0x4000";

/// FNV-1a in 64 bits: chain names are short and the same on every render.
fn hash(s: &str) -> String {
    let h =
        s.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{h:016x}")
}

pub fn tables(name: &str, cluster: &[Cidr], rules: &[PortRule]) -> Vec<Table> {
    let mut out = vec![table(name, cluster, rules, true)];
    let six = |r: &PortRule| r.cluster_ips.iter().chain(&r.external_ips).any(|a| a.is_ipv6());
    if cluster.iter().any(|c| c.addr.is_ipv6()) || rules.iter().any(six) {
        out.push(table(name, cluster, rules, false));
    }
    out
}

struct Words {
    ip: &'static str,
    addr: &'static str,
}

fn table(name: &str, cluster: &[Cidr], rules: &[PortRule], v4: bool) -> Table {
    let w = if v4 { Words { ip: "ip", addr: "ipv4_addr" } } else { Words { ip: "ip6", addr: "ipv6_addr" } };
    let mut t = Table::new(if v4 { Family::Ip } else { Family::Ip6 }, name);
    let map = |spec: String| Set { kind: "map", spec, ..Set::default() };
    let mut by_address = map(format!("type {} . inet_proto . inet_service : verdict ;", w.addr));
    let mut by_node_port = map("type inet_proto . inet_service : verdict ;".into());
    let mut refused = by_address.clone();
    let mut refused_node_ports = by_node_port.clone();
    let mut hairpin = Set { kind: "set", spec: format!("type {} . {} ;", w.addr, w.addr), ..Set::default() };
    let outside = outside(cluster, v4, w.ip);

    for r in rules {
        let mine = |l: &[Endpoint]| -> Vec<Endpoint> {
            l.iter().filter(|e| e.ip.is_ipv4() == v4).cloned().collect()
        };
        let (internal, external) = (mine(&r.internal), mine(&r.external));
        let addresses = |l: &[std::net::IpAddr]| -> Vec<String> {
            l.iter().filter(|a| a.is_ipv4() == v4).map(ToString::to_string).collect()
        };
        let (cluster_ips, external_ips) = (addresses(&r.cluster_ips), addresses(&r.external_ips));
        if cluster_ips.is_empty() && external_ips.is_empty() {
            continue;
        }
        for e in internal.iter().chain(&external) {
            hairpin.elements.insert(format!("{} . {}", e.ip, e.ip), String::new());
        }
        let id = hash(&format!("{}/{}", r.id, r.protocol));
        let key = |a: &str| format!("{a} . {} . {}", r.protocol, r.port);
        if internal.is_empty() {
            for a in &cluster_ips {
                refused.elements.insert(key(a), "goto refuse".into());
            }
        } else {
            let chain = format!("svc-{id}");
            let mut body: Vec<String> =
                outside.iter().map(|o| format!("{o} meta mark set meta mark or {MASQUERADE}")).collect();
            body.extend(balance(&mut t, &w, &id, r, &internal));
            t.chain(chain.clone(), body);
            for a in &cluster_ips {
                by_address.elements.insert(key(a), format!("goto {chain}"));
            }
        }
        let outward = !external_ips.is_empty() || r.node_port.is_some();
        if !outward {
            continue;
        }
        let node_key = r.node_port.map(|p| format!("{} . {p}", r.protocol));
        if external.is_empty() {
            // With policy Local a node without endpoints drops, so that the balancer goes elsewhere.
            let verdict = if r.local_only { "drop" } else { "goto refuse" };
            for a in &external_ips {
                refused.elements.insert(key(a), verdict.into());
            }
            refused_node_ports.elements.extend(node_key.map(|k| (k, verdict.to_owned())));
            continue;
        }
        let chain = format!("ext-{id}");
        let mut body = Vec::new();
        if !r.local_only {
            body.push(format!("meta mark set meta mark or {MASQUERADE}"));
        }
        body.extend(balance(&mut t, &w, &format!("x{id}"), r, &external));
        t.chain(chain.clone(), body);
        for a in &external_ips {
            by_address.elements.insert(key(a), format!("goto {chain}"));
        }
        by_node_port.elements.extend(node_key.map(|k| (k, format!("goto {chain}"))));
    }

    t.chain("refuse", vec!["meta l4proto tcp reject with tcp reset".into(), "reject".into()]);
    let dispatch = vec![
        format!("{} daddr . meta l4proto . th dport vmap @services", w.ip),
        format!("fib daddr type local {} meta l4proto . th dport vmap @node-ports", not_loopback(v4)),
    ];
    let refuse = vec![
        format!("{} daddr . meta l4proto . th dport vmap @no-endpoints", w.ip),
        "fib daddr type local meta l4proto . th dport vmap @no-endpoint-node-ports".into(),
    ];
    t.base("prerouting", "type nat hook prerouting priority -100 ; policy accept ;", dispatch.clone());
    t.base("output", "type nat hook output priority -100 ; policy accept ;", dispatch);
    t.base("filter-input", "type filter hook input priority -110 ; policy accept ;", refuse.clone());
    t.base("filter-forward", "type filter hook forward priority -110 ; policy accept ;", refuse.clone());
    t.base("filter-output", "type filter hook output priority -110 ; policy accept ;", refuse);
    t.base(
        "postrouting",
        "type nat hook postrouting priority 100 ; policy accept ;",
        vec![
            format!("meta mark & {MASQUERADE} == {MASQUERADE} meta mark set meta mark xor {MASQUERADE} masquerade fully-random"),
            format!("ct status dnat {0} saddr . {0} daddr @hairpin masquerade fully-random", w.ip),
        ],
    );
    for (name, set) in [
        ("services", by_address),
        ("node-ports", by_node_port),
        ("no-endpoints", refused),
        ("no-endpoint-node-ports", refused_node_ports),
        ("hairpin", hairpin),
    ] {
        t.sets.insert(name.into(), set);
    }
    t
}

/// A node port does not answer on loopback: the kernel would not route the translated packet.
fn not_loopback(v4: bool) -> &'static str {
    if v4 { "ip daddr != 127.0.0.0/8" } else { "ip6 daddr != ::1" }
}

/// Matches what does not come from a pod.
fn outside(cluster: &[Cidr], v4: bool, ip: &str) -> Option<String> {
    let own: Vec<String> =
        cluster.iter().filter(|c| c.addr.is_ipv4() == v4).map(ToString::to_string).collect();
    (!own.is_empty()).then(|| format!("{ip} saddr != {{ {} }}", own.join(", ")))
}

/// The rules that pick an endpoint: at random, or the one this client had before.
fn balance(t: &mut Table, w: &Words, id: &str, r: &PortRule, endpoints: &[Endpoint]) -> Vec<String> {
    let target = |e: &Endpoint| format!("{} . {}", e.ip, e.port);
    let proto = format!("meta l4proto {}", r.protocol);
    let Some(seconds) = r.affinity else {
        if let [only] = endpoints {
            return vec![format!("{proto} dnat {} to {}", w.ip, joined(only))];
        }
        let mut list = String::new();
        for (i, e) in endpoints.iter().enumerate() {
            let _ = write!(list, "{}{i} : {}", if i > 0 { ", " } else { "" }, target(e));
        }
        return vec![format!(
            "{proto} dnat {} to numgen random mod {} map {{ {list} }}",
            w.ip,
            endpoints.len()
        )];
    };
    let (mut sticky, mut list) = (Vec::new(), String::new());
    for (i, e) in endpoints.iter().enumerate() {
        let own = hash(&format!("{id}/{}/{}", e.ip, e.port));
        let (chain, set) = (format!("ep-{own}"), format!("seen-{own}"));
        let spec = format!("type {} ; flags dynamic, timeout ; timeout {seconds}s ;", w.addr);
        t.sets.insert(set.clone(), Set { kind: "set", spec, dynamic: true, ..Set::default() });
        let remember = format!("update @{set} {{ {} saddr }}", w.ip);
        t.chain(chain.clone(), vec![remember, format!("{proto} dnat {} to {}", w.ip, joined(e))]);
        sticky.push(format!("{} saddr @{set} goto {chain}", w.ip));
        let _ = write!(list, "{}{i} : goto {chain}", if i > 0 { ", " } else { "" });
    }
    sticky.push(format!("numgen random mod {} vmap {{ {list} }}", endpoints.len()));
    sticky
}

fn joined(e: &Endpoint) -> String {
    if e.ip.is_ipv4() { format!("{}:{}", e.ip, e.port) } else { format!("[{}]:{}", e.ip, e.port) }
}

#[cfg(test)]
mod tests;
