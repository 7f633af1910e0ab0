//! How pods of other nodes are reached: directly through their node where it is on a subnet of this one, else by a tunnel. `plan`
//! decides, purely, from what the nodes say; `Peers::apply` makes the kernel's routes say the same. Owns the routes within
//! the pods' networks that bear netlink's protocol number, and the tunnel's device; spawns nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlink::{Cidr, Netlink, Tunnel, Via, pod_mac};
use tracing::info;

use crate::{Error, link_prefix, short_hash};

/// Where the tunnel's packets go, as most who use VXLAN between hosts of pods have it.
const PORT: u16 = 8472;

/// A node, as its object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub name: String,
    /// Its internal addresses.
    pub addresses: Vec<IpAddr>,
    /// What its pods' addresses are from.
    pub blocks: Vec<Cidr>,
}

/// This node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Here {
    pub name: String,
    pub addresses: Vec<IpAddr>,
    pub blocks: Vec<Cidr>,
    /// The networks that this machine's links are in: link, address and length.
    pub subnets: Vec<(u32, Cidr)>,
}

/// A node's end of the tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub machine: IpAddr,
    pub mac: [u8; 6],
    pub blocks: Vec<Cidr>,
}

/// What has to be in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Block, the node's address, the link it is on.
    pub direct: BTreeMap<Cidr, (IpAddr, u32)>,
    /// By the node's name.
    pub tunnel: BTreeMap<String, End>,
}

/// The hardware address of a node's tunnel, which all others know without asking.
fn mac(blocks: &[Cidr]) -> [u8; 6] {
    pod_mac(blocks.first().map(|b| &b.addr))
}

/// The link on whose subnet an address is; not through it to everywhere.
fn link(here: &Here, address: IpAddr) -> Option<u32> {
    let on =
        |c: &Cidr| c.len > 0 && c.contains(address) && here.addresses.contains(&c.addr) && c.addr != address;
    here.subnets.iter().find(|(_, c)| on(c)).map(|(link, _)| *link)
}

/// Decides how each other node's pods are reached. `networks`: all pods' networks; what is not within them is nobody's to
/// lead anywhere.
pub fn plan(here: &Here, peers: &[Peer], networks: &[Cidr]) -> Plan {
    let mut out = Plan::default();
    for p in peers.iter().filter(|p| p.name != here.name) {
        let fine = |b: &&Cidr| {
            networks.iter().any(|n| n.contains(b.addr) && n.len <= b.len)
                && !here.blocks.iter().any(|own| own.overlaps(b))
        };
        let mut tunnelled = Vec::new();
        for b in p.blocks.iter().filter(fine) {
            let same = p.addresses.iter().find(|a| a.is_ipv4() == b.addr.is_ipv4());
            match same.and_then(|a| Some((*a, link(here, *a)?))) {
                Some(way) => {
                    out.direct.insert(*b, way);
                }
                None => tunnelled.push(*b),
            }
        }
        // Both ends of a tunnel are of one family: that of this node's first address.
        let family = here.addresses.first().map(IpAddr::is_ipv4);
        let machine = p.addresses.iter().find(|a| Some(a.is_ipv4()) == family && !here.addresses.contains(a));
        if let (Some(machine), false) = (machine, tunnelled.is_empty()) {
            let end = End { machine: *machine, mac: mac(&p.blocks), blocks: tunnelled };
            out.tunnel.insert(p.name.clone(), end);
        }
    }
    out
}

/// The tunnel's device of an instance.
pub fn tunnel_name(instance: &str) -> String {
    format!("{}-vx", link_prefix(instance))
}

/// Keeps the routes to other nodes' pods.
pub struct Peers {
    netlink: Netlink,
    instance: String,
    networks: Vec<Cidr>,
    in_force: Option<Plan>,
}

impl Peers {
    pub fn open(instance: &str, networks: &[Cidr]) -> Result<Self, Error> {
        let networks = networks.to_vec();
        Ok(Self { netlink: Netlink::open()?, instance: instance.to_owned(), networks, in_force: None })
    }

    pub async fn subnets(&self) -> Result<Vec<(u32, Cidr)>, Error> {
        Ok(self.netlink.addresses().await?)
    }

    /// Makes what is in force be the plan: routes first, then those that lead nowhere any more go.
    pub async fn apply(&mut self, here: &Here, plan: Plan) -> Result<(), Error> {
        let mut wanted: BTreeMap<Cidr, Via> = BTreeMap::new();
        for (block, (gateway, link)) in &plan.direct {
            wanted.insert(*block, Via { gateway: *gateway, link: *link, on_link: false, source: None });
        }
        if plan.tunnel.is_empty() {
            self.netlink.delete(&tunnel_name(&self.instance)).await?;
        } else {
            let tunnel = self.tunnel(here).await?;
            for end in plan.tunnel.values() {
                let gateways: Vec<IpAddr> = end.blocks.iter().map(|b| b.addr).collect();
                self.netlink.tunnel_end(tunnel, &gateways, end.mac, end.machine).await?;
                for b in &end.blocks {
                    let own = here.blocks.iter().find(|o| o.addr.is_ipv4() == b.addr.is_ipv4());
                    let source = own.and_then(|o| o.nth(1));
                    wanted.insert(*b, Via { gateway: b.addr, link: tunnel, on_link: true, source });
                }
            }
        }
        let had = self.netlink.routes_via().await?;
        for (to, via) in &wanted {
            if !had.contains(&(*to, via.gateway, via.link)) {
                self.netlink.route_via(*to, *via).await?;
            }
        }
        for (to, gateway, link) in had {
            let ours = self.networks.iter().any(|n| n.contains(to.addr));
            let stays = wanted.get(&to).is_some_and(|v| (v.gateway, v.link) == (gateway, link));
            if ours && !stays {
                self.netlink.unroute(to, gateway, link).await?;
            }
        }
        if self.in_force.as_ref() != Some(&plan) {
            info!(
                direct = plan.direct.len(),
                tunnelled = plan.tunnel.len(),
                "the pods of other nodes are reached"
            );
            self.in_force = Some(plan);
        }
        Ok(())
    }

    async fn tunnel(&self, here: &Here) -> Result<u32, Error> {
        let none = || netlink::Error::Other("this node's address is on none of its links".into());
        let at = |address: &IpAddr| {
            here.subnets.iter().find(|(_, c)| c.addr == *address).map(|(l, _)| (*address, *l))
        };
        let (local, under) = here.addresses.first().and_then(at).ok_or_else(none)?;
        let text: Vec<String> = self.networks.iter().map(ToString::to_string).collect();
        let tunnel = Tunnel {
            name: tunnel_name(&self.instance),
            // The same on all nodes of a cluster.
            id: short_hash(&text.join(",")) & 0x00ff_ffff,
            port: PORT,
            local,
            under,
            mac: mac(&here.blocks),
            addresses: here.blocks.iter().map(|b| Cidr::host(b.addr)).collect(),
        };
        Ok(self.netlink.ensure_tunnel(&tunnel).await?)
    }
}

/// Takes away the routes to other nodes within `networks`.
pub async fn forget(netlink: &Netlink, networks: &[Cidr]) -> Result<(), Error> {
    for (to, gateway, link) in netlink.routes_via().await? {
        if networks.iter().any(|n| n.contains(to.addr)) {
            netlink.unroute(to, gateway, link).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(s: &str) -> Cidr {
        s.parse().expect("cidr")
    }
    fn ip(s: &str) -> IpAddr {
        s.parse().expect("address")
    }
    fn peer(name: &str, addresses: &[&str], blocks: &[&str]) -> Peer {
        Peer {
            name: name.into(),
            addresses: addresses.iter().map(|a| ip(a)).collect(),
            blocks: blocks.iter().map(|b| cidr(b)).collect(),
        }
    }
    fn here() -> Here {
        Here {
            name: "me".into(),
            addresses: vec![ip("192.168.1.1"), ip("fd01::1")],
            blocks: vec![cidr("10.1.0.0/24"), cidr("fd00::/64")],
            subnets: vec![
                (1, cidr("127.0.0.1/8")),
                (2, cidr("192.168.1.1/24")),
                (2, cidr("fd01::1/64")),
                (3, cidr("172.17.0.1/16")),
            ],
        }
    }
    fn planned(peers: &[Peer]) -> Plan {
        plan(&here(), peers, &[cidr("10.1.0.0/16"), cidr("fd00::/56")])
    }

    #[test]
    fn neighbours_are_reached_directly_and_others_by_a_tunnel() {
        let p = planned(&[
            peer("me", &["192.168.1.1"], &["10.1.0.0/24"]),
            peer("near", &["192.168.1.2", "fd01::2"], &["10.1.1.0/24", "fd00:0:0:1::/64"]),
            peer("far", &["192.168.2.2"], &["10.1.2.0/24", "fd00:0:0:2::/64"]),
            // On a subnet of this machine, but not one that nodes are known by.
            peer("docker", &["172.17.0.2"], &["10.1.3.0/24"]),
            // The other family's block of a neighbour that has no address of it.
            peer("half", &["192.168.1.4"], &["10.1.4.0/24", "fd00:0:0:4::/64"]),
        ]);
        let direct: Vec<(String, String, u32)> =
            p.direct.iter().map(|(b, (a, l))| (b.to_string(), a.to_string(), *l)).collect();
        let want =
            [("10.1.1.0/24", "192.168.1.2"), ("10.1.4.0/24", "192.168.1.4"), ("fd00:0:0:1::/64", "fd01::2")];
        assert_eq!(direct, want.map(|(b, a)| (b.to_owned(), a.to_owned(), 2)));
        let tunnel: Vec<(&str, IpAddr, usize)> =
            p.tunnel.iter().map(|(n, e)| (n.as_str(), e.machine, e.blocks.len())).collect();
        let want =
            [("docker", ip("172.17.0.2"), 1), ("far", ip("192.168.2.2"), 2), ("half", ip("192.168.1.4"), 1)];
        assert_eq!(tunnel, want);
        assert_eq!(p.tunnel["far"].mac, [0x0a, 0x58, 10, 1, 2, 0]);
    }

    #[test]
    fn what_a_node_may_not_claim_is_left_alone() {
        let p = planned(&[
            peer(
                "greedy",
                &["192.168.1.2"],
                &["0.0.0.0/0", "192.168.1.0/24", "10.1.0.0/16", "10.1.0.128/25"],
            ),
            peer("silent", &[], &["10.1.5.0/24"]),
            peer("double", &["192.168.1.1"], &["10.1.6.0/24"]),
            peer("new", &["192.168.1.3"], &[]),
        ]);
        assert_eq!(p, Plan::default());
    }
}
