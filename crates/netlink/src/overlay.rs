//! Routes to networks behind other machines, and the tunnel (VXLAN) to those that are not on a common subnet. Routes made
//! here bear a protocol number of their own, by which they are found again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkInfo};
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol};
use rtnetlink::{LinkUnspec, LinkVxlan, RouteMessageBuilder};

use crate::link::{Cidr, Netlink, errno, failed};
use crate::{Error, sysctl};

/// Not given to anybody by the kernel's list; ours stands as `75` in `ip route`.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(75);

/// A way to a network: through a machine, over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via {
    pub gateway: IpAddr,
    pub link: u32,
    /// The gateway is taken to be on the link without being asked for.
    pub on_link: bool,
    /// What the host itself uses as its source there.
    pub source: Option<IpAddr>,
}

/// A tunnel's device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    pub name: String,
    /// Tells tunnels of different clusters between the same machines apart.
    pub id: u32,
    pub port: u16,
    /// This machine's end, and the link it is on.
    pub local: IpAddr,
    pub under: u32,
    pub mac: [u8; 6],
    pub addresses: Vec<Cidr>,
}

fn message(to: Cidr, via: Via) -> Option<RouteMessage> {
    macro_rules! build {
        ($family:ty, $to:expr, $gateway:expr, $variant:path) => {{
            let mut b = RouteMessageBuilder::<$family>::new()
                .destination_prefix($to, to.len)
                .gateway($gateway)
                .output_interface(via.link)
                .protocol(PROTOCOL);
            if let Some($variant(s)) = via.source {
                b = b.pref_source(s);
            }
            if via.on_link {
                b = b.onlink();
            }
            Some(b.build())
        }};
    }
    match (to.addr, via.gateway) {
        (IpAddr::V4(a), IpAddr::V4(g)) => build!(Ipv4Addr, a, g, IpAddr::V4),
        (IpAddr::V6(a), IpAddr::V6(g)) => build!(Ipv6Addr, a, g, IpAddr::V6),
        _ => None,
    }
}

fn ip(a: &RouteAddress) -> Option<IpAddr> {
    match a {
        RouteAddress::Inet(a) => Some((*a).into()),
        RouteAddress::Inet6(a) => Some((*a).into()),
        _ => None,
    }
}

/// Where a route of ours leads, and what it goes through.
fn read(m: &RouteMessage) -> Option<(Cidr, IpAddr, u32)> {
    if m.header.protocol != PROTOCOL {
        return None;
    }
    let (mut to, mut gateway, mut link) = (None, None, None);
    for a in &m.attributes {
        match a {
            RouteAttribute::Destination(a) => to = ip(a),
            RouteAttribute::Gateway(a) => gateway = ip(a),
            RouteAttribute::Oif(i) => link = Some(*i),
            _ => {}
        }
    }
    Some((Cidr { addr: to?, len: m.header.destination_prefix_length }, gateway?, link?))
}

impl Netlink {
    /// The addresses of all links, with the networks they are in.
    pub async fn addresses(&self) -> Result<Vec<(u32, Cidr)>, Error> {
        let all: Vec<_> =
            self.handle.address().get().execute().try_collect().await.map_err(failed("list addresses"))?;
        let one = |m: rtnetlink::packet_route::address::AddressMessage| {
            let find = |local: bool| {
                m.attributes.iter().find_map(|a| match a {
                    AddressAttribute::Local(ip) if local => Some(*ip),
                    AddressAttribute::Address(ip) if !local => Some(*ip),
                    _ => None,
                })
            };
            let addr = find(true).or_else(|| find(false))?;
            Some((m.header.index, Cidr { addr, len: m.header.prefix_len }))
        };
        Ok(all.into_iter().filter_map(one).collect())
    }

    /// The routes made by `route_via`, each with its gateway and its link.
    pub async fn routes_via(&self) -> Result<Vec<(Cidr, IpAddr, u32)>, Error> {
        let mut out = Vec::new();
        for all in
            [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()]
        {
            let found: Vec<_> =
                self.handle.route().get(all).execute().try_collect().await.map_err(failed("list routes"))?;
            out.extend(found.iter().filter_map(read));
        }
        Ok(out)
    }

    /// Makes a route, or leads it elsewhere.
    pub async fn route_via(&self, to: Cidr, via: Via) -> Result<(), Error> {
        let what = || format!("add a route to {to} through {}", via.gateway);
        let message = message(to, via)
            .ok_or_else(|| Error::Other(format!("failed to {}: they are of different families", what())))?;
        self.handle.route().add(message).replace().execute().await.map_err(failed(what()))
    }

    /// Takes a route made by `route_via` away; one that is not there is fine.
    pub async fn unroute(&self, to: Cidr, gateway: IpAddr, link: u32) -> Result<(), Error> {
        let via = Via { gateway, link, on_link: false, source: None };
        let Some(message) = message(to, via) else { return Ok(()) };
        match self.handle.route().del(message).execute().await {
            Err(e) if !matches!(errno(&e), 2 | 3) => Err(failed(format!("remove the route to {to}"))(e)),
            _ => Ok(()),
        }
    }

    async fn mtu(&self, index: u32) -> Result<Option<u32>, Error> {
        let mut links = self.handle.link().get().match_index(index).execute();
        let link = links.try_next().await.map_err(failed("look up a link's size of packets"))?;
        let mtu = |a: &LinkAttribute| if let LinkAttribute::Mtu(m) = a { Some(*m) } else { None };
        Ok(link.and_then(|l| l.attributes.iter().find_map(mtu)))
    }

    /// Whether a link is the tunnel that is wanted; what it is made of can't be changed.
    async fn is_tunnel(&self, index: u32, t: &Tunnel) -> Result<bool, Error> {
        let mut links = self.handle.link().get().match_index(index).execute();
        let link = links.try_next().await.map_err(failed(format!("look up the tunnel {}", t.name)))?;
        let infos = link.into_iter().flat_map(|l| l.attributes).filter_map(|a| match a {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        });
        let data = infos.flatten().find_map(|i| match i {
            LinkInfo::Data(InfoData::Vxlan(data)) => Some(data),
            _ => None,
        });
        let local = match t.local {
            IpAddr::V4(a) => InfoVxlan::Local(a),
            IpAddr::V6(a) => InfoVxlan::Local6(a),
        };
        let want = [InfoVxlan::Id(t.id), InfoVxlan::Port(t.port), InfoVxlan::Link(t.under), local];
        Ok(data.is_some_and(|d| want.iter().all(|w| d.contains(w))))
    }

    /// Makes the tunnel's device, or brings it up to date. Returns its index.
    pub async fn ensure_tunnel(&self, t: &Tunnel) -> Result<u32, Error> {
        let name = &t.name;
        let had = match self.index(name).await? {
            Some(i) if self.is_tunnel(i, t).await? => Some(i),
            // This machine's address was another one, say.
            Some(_) => {
                self.delete(name).await?;
                None
            }
            None => None,
        };
        let index = match had {
            Some(i) => i,
            None => {
                let vxlan = LinkVxlan::new(name, t.id).port(t.port).dev(t.under).learning(false);
                let vxlan = match t.local {
                    IpAddr::V4(a) => vxlan.local(a),
                    IpAddr::V6(a) => vxlan.local6(a),
                };
                let made = self.handle.link().add(vxlan.build()).execute().await;
                made.map_err(failed(format!("make the tunnel {name}")))?;
                let vanished = || Error::Other(format!("the tunnel {name} vanished"));
                self.index(name).await?.ok_or_else(vanished)?
            }
        };
        let around = if t.local.is_ipv4() { 50 } else { 70 };
        let mut set = LinkUnspec::new_with_index(index).address(t.mac.to_vec());
        if let Some(mtu) = self.mtu(t.under).await? {
            set = set.mtu(mtu.saturating_sub(around));
        }
        let set = self.handle.link().set(set.up().build());
        set.execute().await.map_err(failed(format!("set up the tunnel {name}")))?;
        // Answers come by the same way, but not for every address that a strict filter looks at.
        sysctl::set(&format!("net/ipv4/conf/{name}/rp_filter"), "0")?;
        for a in &t.addresses {
            self.add_address(index, name, *a).await?;
        }
        Ok(index)
    }

    /// Tells the tunnel that `gateway`, with that hardware address, is at `machine`.
    pub async fn tunnel_end(
        &self,
        tunnel: u32,
        gateways: &[IpAddr],
        mac: [u8; 6],
        machine: IpAddr,
    ) -> Result<(), Error> {
        for gateway in gateways {
            self.neighbour(tunnel, *gateway, mac).await?;
        }
        let add = self
            .handle
            .neighbours()
            .add_bridge(tunnel, &mac)
            .destination(machine)
            .state(NeighbourState::Permanent)
            .flags(NeighbourFlags::Own)
            .replace();
        add.execute().await.map_err(failed(format!("tell the tunnel of the machine {machine}")))
    }
}
