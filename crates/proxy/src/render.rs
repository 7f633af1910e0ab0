//! The nftables table of the services of one family, rendered purely. Verdict maps lead from address, protocol and port
//! to a chain, so that the cost of a packet does not grow with the number of services.
//!
//! A packet's way: `services` or `node-ports` lead to `svc-` (from inside) or `ext-` (from outside), which mark what needs
//! another source address and pick an endpoint. What was not led anywhere meets `no-endpoints` and its kin afterwards,
//! and is refused or dropped. Established connections pass none of this.

use std::fmt::Write as _;
use std::net::IpAddr;

use netlink::Cidr;
use netlink::nft::{Family, Set, Table};

use crate::model::{Endpoint, PortRule};

/// Marks packets whose source must be rewritten.
const MASQUERADE: &str = "0x4000";

/// The networks a table is rendered for.
#[derive(Debug, Clone, Default)]
pub struct Networks {
    /// The pods'.
    pub cluster: Vec<Cidr>,
    pub services: Vec<Cidr>,
}

/// FNV-1a in 64 bits: chain names are short and the same on every render.
fn hash(s: &str) -> String {
    let h =
        s.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{h:016x}")
}

/// One table per family that the cluster or a service uses.
pub fn tables<'a>(
    name: &str,
    networks: &'a Networks,
    rules: impl Iterator<Item = &'a PortRule> + Clone,
) -> Vec<Table> {
    let uses = |v4: bool| {
        let mut ips =
            rules.clone().flat_map(|r| r.cluster_ips.iter().chain(&r.external_ips).chain(&r.balancer_ips));
        networks.cluster.iter().any(|c| c.addr.is_ipv4() == v4) || ips.any(|a| a.is_ipv4() == v4)
    };
    [true, false]
        .into_iter()
        .filter(|v4| uses(*v4))
        .map(|v4| Render::new(name, networks, v4).table(rules.clone()))
        .collect()
}

/// A table under way.
struct Render<'a> {
    t: Table,
    v4: bool,
    ip: &'static str,
    networks: &'a Networks,
    services: Set,
    node_ports: Set,
    no_endpoints: Set,
    no_endpoint_node_ports: Set,
    cluster_ips: Set,
    hairpin: Set,
}

fn list(all: impl Iterator<Item = String>) -> Option<String> {
    let all: Vec<String> = all.collect();
    (!all.is_empty()).then(|| format!("{{ {} }}", all.join(", ")))
}

impl<'a> Render<'a> {
    fn new(name: &str, networks: &'a Networks, v4: bool) -> Self {
        let (ip, addr) = if v4 { ("ip", "ipv4_addr") } else { ("ip6", "ipv6_addr") };
        let map = |spec: String| Set { kind: "map", spec, ..Set::default() };
        let set = |spec: String| Set { kind: "set", spec, ..Set::default() };
        let by_address = map(format!("type {addr} . inet_proto . inet_service : verdict ;"));
        let by_port = map("type inet_proto . inet_service : verdict ;".into());
        Self {
            t: Table::new(if v4 { Family::Ip } else { Family::Ip6 }, name),
            v4,
            ip,
            networks,
            services: by_address.clone(),
            node_ports: by_port.clone(),
            no_endpoints: by_address,
            no_endpoint_node_ports: by_port,
            cluster_ips: set(format!("type {addr} ;")),
            hairpin: set(format!("type {addr} . {addr} ;")),
        }
    }

    fn table(mut self, rules: impl Iterator<Item = &'a PortRule>) -> Table {
        for r in rules {
            self.port(r);
        }
        self.hooks();
        let sets = [
            ("services", self.services),
            ("node-ports", self.node_ports),
            ("no-endpoints", self.no_endpoints),
            ("no-endpoint-node-ports", self.no_endpoint_node_ports),
            ("cluster-ips", self.cluster_ips),
            ("hairpin", self.hairpin),
        ];
        self.t.sets.extend(sets.map(|(name, set)| (name.to_owned(), set)));
        self.t
    }

    fn mine(&self, l: &[Endpoint]) -> Vec<Endpoint> {
        l.iter().filter(|e| e.ip.is_ipv4() == self.v4).cloned().collect()
    }

    fn addresses(&self, l: &[IpAddr]) -> Vec<String> {
        l.iter().filter(|a| a.is_ipv4() == self.v4).map(ToString::to_string).collect()
    }

    fn cidrs(&self, l: &[Cidr]) -> Option<String> {
        list(l.iter().filter(|c| c.addr.is_ipv4() == self.v4).map(ToString::to_string))
    }

    fn port(&mut self, r: &PortRule) {
        let (inside, outside) = (self.addresses(&r.cluster_ips), self.addresses(&r.external_ips));
        let balancer = self.addresses(&r.balancer_ips);
        if inside.is_empty() && outside.is_empty() && balancer.is_empty() {
            return;
        }
        self.cluster_ips.elements.extend(inside.iter().map(|a| (a.clone(), String::new())));
        let all: Vec<Endpoint> =
            [&r.everywhere, &r.internal, &r.external].into_iter().flat_map(|l| self.mine(l)).collect();
        self.hairpin.elements.extend(all.iter().map(|e| (format!("{} . {}", e.ip, e.ip), String::new())));
        let id = hash(&format!("{}/{}", r.id, r.protocol));
        let key = |a: &str| format!("{a} . {} . {}", r.protocol, r.port);

        let internal = self.mine(&r.internal);
        if internal.is_empty() {
            let verdict = if r.internal_local && !r.everywhere.is_empty() { "drop" } else { "goto refuse" };
            self.no_endpoints.elements.extend(inside.iter().map(|a| (key(a), verdict.to_owned())));
        } else {
            let chain = format!("svc-{id}");
            let not_pods =
                self.cidrs(&self.networks.cluster).map(|c| format!("{} saddr != {c} {}", self.ip, mark()));
            let mut body: Vec<String> = not_pods.into_iter().collect();
            body.extend(self.balance(&id, r, &internal));
            self.t.chain(chain.clone(), body);
            self.services.elements.extend(inside.iter().map(|a| (key(a), format!("goto {chain}"))));
        }
        // A service without an address of this family has no node port in it either.
        let node_port = r.node_port.filter(|_| !inside.is_empty()).map(|p| format!("{} . {p}", r.protocol));
        if !outside.is_empty() || !balancer.is_empty() || node_port.is_some() {
            self.outward(r, &id, &outside, &balancer, node_port);
        }
    }

    /// External addresses, balancer addresses and the node port.
    fn outward(
        &mut self,
        r: &PortRule,
        id: &str,
        outside: &[String],
        balancer: &[String],
        node_port: Option<String>,
    ) {
        let key = |a: &str| format!("{a} . {} . {}", r.protocol, r.port);
        let (external, everywhere) = (self.mine(&r.external), self.mine(&r.everywhere));
        if external.is_empty() {
            // With policy Local a node without endpoints drops, so that the balancer goes elsewhere.
            let verdict = if r.external_local && !everywhere.is_empty() { "drop" } else { "goto refuse" };
            let refused = outside.iter().chain(balancer).map(|a| (key(a), verdict.to_owned()));
            self.no_endpoints.elements.extend(refused);
            self.no_endpoint_node_ports
                .elements
                .extend(node_port.iter().map(|k| (k.clone(), verdict.to_owned())));
        }
        let chain = format!("ext-{id}");
        let mut body = Vec::new();
        if !r.external_local {
            body.push(mark());
        } else if !everywhere.is_empty() {
            // Pods and the node itself are not outside: the policy is not about them.
            let near = format!("near-{id}");
            if let Some(pods) = self.cidrs(&self.networks.cluster) {
                body.push(format!("{} saddr {pods} goto {near}", self.ip));
            }
            body.push(format!("fib saddr type local {} goto {near}", mark()));
            let rules = self.balance(id, r, &everywhere);
            self.t.chain(near, rules);
        }
        if !external.is_empty() {
            body.extend(self.balance(id, r, &external));
        } else if !r.external_local || everywhere.is_empty() {
            return;
        }
        self.t.chain(chain.clone(), body);
        let verdict = format!("goto {chain}");
        self.services.elements.extend(outside.iter().map(|a| (key(a), verdict.clone())));
        self.node_ports.elements.extend(node_port.map(|k| (k, verdict.clone())));
        let guarded = match self.cidrs(&r.balancer_sources) {
            Some(sources) if !balancer.is_empty() => {
                let guard = format!("from-{id}");
                self.t.chain(guard.clone(), vec![format!("{} saddr != {sources} drop", self.ip), verdict]);
                format!("goto {guard}")
            }
            _ => verdict,
        };
        self.services.elements.extend(balancer.iter().map(|a| (key(a), guarded.clone())));
    }

    /// The rules that pick an endpoint: at random, or the one this client had before.
    fn balance(&mut self, id: &str, r: &PortRule, endpoints: &[Endpoint]) -> Vec<String> {
        let target = |e: &Endpoint| format!("{} . {}", e.ip, e.port);
        let proto = format!("meta l4proto {}", r.protocol);
        let ip = self.ip;
        let Some(seconds) = r.affinity else {
            if let [only] = endpoints {
                return vec![format!("{proto} dnat {ip} to {}", joined(only))];
            }
            let mut list = String::new();
            for (i, e) in endpoints.iter().enumerate() {
                let _ = write!(list, "{}{i} : {}", if i > 0 { ", " } else { "" }, target(e));
            }
            return vec![format!(
                "{proto} dnat {ip} to numgen random mod {} map {{ {list} }}",
                endpoints.len()
            )];
        };
        let (mut sticky, mut list) = (Vec::new(), String::new());
        for (i, e) in endpoints.iter().enumerate() {
            // The timeout is in the name: a set keeps its timeout for life.
            let own = hash(&format!("{id}/{}/{}/{seconds}", e.ip, e.port));
            let (chain, set) = (format!("ep-{own}"), format!("seen-{own}"));
            let addr = if self.v4 { "ipv4_addr" } else { "ipv6_addr" };
            let spec = format!("type {addr} ; flags dynamic, timeout ; timeout {seconds}s ;");
            self.t.sets.insert(set.clone(), Set { kind: "set", spec, dynamic: true, ..Set::default() });
            let remember = format!("update @{set} {{ {ip} saddr }}");
            self.t.chain(chain.clone(), vec![remember, format!("{proto} dnat {ip} to {}", joined(e))]);
            sticky.push(format!("{ip} saddr @{set} goto {chain}"));
            let _ = write!(list, "{}{i} : goto {chain}", if i > 0 { ", " } else { "" });
        }
        sticky.push(format!("numgen random mod {} vmap {{ {list} }}", endpoints.len()));
        sticky
    }

    fn hooks(&mut self) {
        let ip = self.ip;
        // The kernel would not route what leaves a loopback address: `netlink::loopback` listens there.
        let elsewhere = if self.v4 { "ip daddr != 127.0.0.0/8" } else { "ip6 daddr != ::1" };
        let here = "fib daddr type local meta l4proto . th dport vmap";
        let dispatch = vec![
            format!("{ip} daddr . meta l4proto . th dport vmap @services"),
            format!("{elsewhere} {here} @node-ports"),
        ];
        let refuse = vec![
            format!("ct state new {ip} daddr . meta l4proto . th dport vmap @no-endpoints"),
            format!("ct state new {here} @no-endpoint-node-ports"),
        ];
        // A port that no service has, then an address that no service has: that one may be about to be given out, so it is
        // dropped, and the client asks again.
        let mut astray = vec![format!("ct state new {ip} daddr @cluster-ips goto refuse")];
        astray
            .extend(self.cidrs(&self.networks.services).map(|c| format!("ct state new {ip} daddr {c} drop")));
        let t = &mut self.t;
        t.chain("refuse", vec!["meta l4proto tcp reject with tcp reset".into(), "reject".into()]);
        t.base("prerouting", "type nat hook prerouting priority -100 ; policy accept ;", dispatch.clone());
        t.base("output", "type nat hook output priority -100 ; policy accept ;", dispatch);
        t.base("filter-input", "type filter hook input priority -110 ; policy accept ;", refuse.clone());
        let all = [refuse, astray].concat();
        t.base("filter-forward", "type filter hook forward priority -110 ; policy accept ;", all.clone());
        // After the translation at -100: only what was led nowhere still has a service's address.
        t.base("filter-output", "type filter hook output priority -90 ; policy accept ;", all);
        t.base(
            "postrouting",
            "type nat hook postrouting priority 100 ; policy accept ;",
            vec![
                format!("meta mark & {MASQUERADE} == {MASQUERADE} meta mark set meta mark xor {MASQUERADE} masquerade fully-random"),
                format!("ct status dnat {ip} saddr . {ip} daddr @hairpin masquerade fully-random"),
            ],
        );
    }
}

fn mark() -> String {
    format!("meta mark set meta mark or {MASQUERADE}")
}

fn joined(e: &Endpoint) -> String {
    if e.ip.is_ipv4() { format!("{}:{}", e.ip, e.port) } else { format!("[{}]:{}", e.ip, e.port) }
}

#[cfg(test)]
mod tests;
