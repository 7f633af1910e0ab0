//! Links, addresses, routes and neighbours over rtnetlink.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::path::Path;

use futures::TryStreamExt;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::Error;

/// An address with the length of its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    pub addr: IpAddr,
    pub len: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no CIDR such as 10.244.0.0/16 or fd00::/64")]
pub struct CidrError(String);

impl std::str::FromStr for Cidr {
    type Err = CidrError;
    fn from_str(s: &str) -> Result<Self, CidrError> {
        let bad = || CidrError(s.to_owned());
        let (addr, len) = s.split_once('/').ok_or_else(bad)?;
        let addr: IpAddr = addr.parse().map_err(|_| bad())?;
        let len: u8 = len.parse().map_err(|_| bad())?;
        if len > if addr.is_ipv4() { 32 } else { 128 } { Err(bad()) } else { Ok(Self { addr, len }) }
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl Cidr {
    /// One address as a network of its own.
    pub fn host(addr: IpAddr) -> Self {
        Self { addr, len: if addr.is_ipv4() { 32 } else { 128 } }
    }
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.addr) || other.contains(self.addr)
    }
    fn bits(addr: IpAddr) -> u128 {
        match addr {
            IpAddr::V4(a) => u128::from(u32::from(a)),
            IpAddr::V6(a) => u128::from(a),
        }
    }
    fn width(&self) -> u32 {
        if self.addr.is_ipv4() { 32 } else { 128 }
    }
    fn host_bits(&self) -> u32 {
        self.width() - u32::from(self.len)
    }
    /// The n-th address of the network; `None` beyond its end.
    pub fn nth(&self, n: u128) -> Option<IpAddr> {
        if self.host_bits() < 128 && n >= 1u128 << self.host_bits() {
            return None;
        }
        let base = if self.host_bits() >= 128 {
            0
        } else {
            (Self::bits(self.addr) >> self.host_bits()) << self.host_bits()
        };
        let v = base.checked_add(n)?;
        match self.addr {
            IpAddr::V4(_) => Some(IpAddr::V4(Ipv4Addr::from(u32::try_from(v).ok()?))),
            IpAddr::V6(_) => Some(IpAddr::V6(Ipv6Addr::from(v))),
        }
    }
    /// How many addresses there are, at most 2^64.
    pub fn size(&self) -> u128 {
        1u128 << self.host_bits().min(64)
    }
    pub fn contains(&self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.addr.is_ipv4()
            && (self.host_bits() >= 128
                || Self::bits(addr) >> self.host_bits() == Self::bits(self.addr) >> self.host_bits())
    }
    /// The n-th network of length `len` inside.
    pub fn subnet(&self, len: u8, n: u128) -> Option<Cidr> {
        let shift = self.width().checked_sub(u32::from(len))?;
        let first = self.nth(n.checked_shl(shift)?)?;
        (len >= self.len).then_some(Cidr { addr: first, len })
    }
}

/// The host's MAC on every pod link, and the address pods use as their gateway: the same everywhere, so that a pod needs no
/// neighbour discovery at all.
const HOST_MAC: [u8; 6] = [0xee; 6];
const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);

/// A pod's link to be made.
#[derive(Debug, Clone)]
pub struct PodLink {
    /// Name on the host, at most 15 characters.
    pub host_name: String,
    /// Name inside, `eth0`.
    pub pod_name: String,
    pub addresses: Vec<IpAddr>,
    /// Source address of the host towards the pod, per family.
    pub host_addresses: Vec<IpAddr>,
    pub mtu: Option<u32>,
}

/// A netlink socket.
#[derive(Clone)]
pub struct Netlink {
    pub(crate) handle: Handle,
}

pub(crate) fn failed(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Error {
    let what = what.into();
    move |source| Error::Netlink { what, source }
}

/// The errno behind an answer of the kernel, positive.
pub(crate) fn errno(e: &rtnetlink::Error) -> i32 {
    match e {
        rtnetlink::Error::NetlinkError(m) => m.raw_code().abs(),
        _ => 0,
    }
}

pub fn pod_mac(addr: Option<&IpAddr>) -> [u8; 6] {
    match addr {
        Some(IpAddr::V4(a)) => {
            let o = a.octets();
            [0x0a, 0x58, o[0], o[1], o[2], o[3]]
        }
        Some(IpAddr::V6(a)) => {
            let o = a.octets();
            [0x0a, 0x58, o[12], o[13], o[14], o[15]]
        }
        None => [0x0a, 0x58, 0, 0, 0, 1],
    }
}

impl Netlink {
    /// In the namespace of the calling thread; spawns the socket's task on the current runtime.
    pub fn open() -> Result<Self, Error> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(Error::io("open a netlink socket"))?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Index of a link; `None` when there is none of that name.
    pub async fn index(&self, name: &str) -> Result<Option<u32>, Error> {
        let mut links = self.handle.link().get().match_name(name.to_owned()).execute();
        match links.try_next().await {
            Ok(l) => Ok(l.map(|l| l.header.index)),
            Err(e) if errno(&e) == 19 => Ok(None),
            Err(e) => Err(failed(format!("look up link {name}"))(e)),
        }
    }

    /// Names of all links.
    pub async fn names(&self) -> Result<Vec<String>, Error> {
        let links: Vec<_> =
            self.handle.link().get().execute().try_collect().await.map_err(failed("list links"))?;
        let name = |a: LinkAttribute| if let LinkAttribute::IfName(n) = a { Some(n) } else { None };
        Ok(links.into_iter().filter_map(|l| l.attributes.into_iter().find_map(name)).collect())
    }

    /// Makes the bridge if it is not there, gives it the addresses and sets it up. Returns its index.
    pub async fn ensure_bridge(&self, name: &str, addresses: &[Cidr]) -> Result<u32, Error> {
        let index = match self.index(name).await? {
            Some(i) => i,
            None => {
                let made = self.handle.link().add(LinkBridge::new(name).build()).execute().await;
                if let Err(e) = made
                    && errno(&e) != 17
                {
                    return Err(failed(format!("make the bridge {name}"))(e));
                }
                self.index(name).await?.ok_or_else(|| Error::Other(format!("the bridge {name} vanished")))?
            }
        };
        if addresses.iter().any(|a| a.addr.is_ipv6()) {
            // Without ports the bridge has no carrier: an address to be checked for doubles would wait for ever.
            crate::sysctl::set(&format!("net/ipv6/conf/{name}/disable_ipv6"), "0")?;
            crate::sysctl::set(&format!("net/ipv6/conf/{name}/accept_dad"), "0")?;
        }
        for a in addresses {
            self.add_address(index, name, *a).await?;
        }
        self.set_up(index, name).await?;
        Ok(index)
    }

    pub async fn add_address(&self, index: u32, name: &str, a: Cidr) -> Result<(), Error> {
        let mut add = self.handle.address().add(index, a.addr, a.len).replace();
        if a.addr.is_ipv6() {
            // Ours alone: usable at once, without asking the link whether somebody else has it.
            add.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        match add.execute().await {
            Err(e) if errno(&e) != 17 => Err(failed(format!("give {name} the address {a}"))(e)),
            _ => Ok(()),
        }
    }

    pub async fn set_up(&self, index: u32, name: &str) -> Result<(), Error> {
        let message = LinkUnspec::new_with_index(index).up().build();
        self.handle.link().set(message).execute().await.map_err(failed(format!("set {name} up")))
    }

    /// Deletes a link; one that is not there is fine.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        let Some(index) = self.index(name).await? else { return Ok(()) };
        match self.handle.link().del(index).execute().await {
            Err(e) if errno(&e) != 19 => Err(failed(format!("delete link {name}"))(e)),
            _ => Ok(()),
        }
    }

    /// A route to `to` over the link, with the source address that the host uses there.
    pub async fn route(&self, to: Cidr, index: u32, source: Option<IpAddr>) -> Result<(), Error> {
        let message = match (to.addr, source) {
            (IpAddr::V4(a), source) => {
                let mut b = RouteMessageBuilder::<Ipv4Addr>::new()
                    .destination_prefix(a, to.len)
                    .output_interface(index)
                    .scope(RouteScope::Link);
                if let Some(IpAddr::V4(s)) = source {
                    b = b.pref_source(s);
                }
                b.build()
            }
            (IpAddr::V6(a), source) => {
                let mut b = RouteMessageBuilder::<Ipv6Addr>::new()
                    .destination_prefix(a, to.len)
                    .output_interface(index);
                if let Some(IpAddr::V6(s)) = source {
                    b = b.pref_source(s);
                }
                b.build()
            }
        };
        self.handle
            .route()
            .add(message)
            .replace()
            .execute()
            .await
            .map_err(failed(format!("add a route to {to}")))
    }

    async fn default_route(&self, index: u32, v4: bool) -> Result<(), Error> {
        let message = if v4 {
            let first = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(GATEWAY_V4, 32)
                .output_interface(index)
                .scope(RouteScope::Link)
                .build();
            self.handle
                .route()
                .add(first)
                .replace()
                .execute()
                .await
                .map_err(failed("add the route to the gateway"))?;
            RouteMessageBuilder::<Ipv4Addr>::new().gateway(GATEWAY_V4).output_interface(index).build()
        } else {
            RouteMessageBuilder::<Ipv6Addr>::new().gateway(GATEWAY_V6).output_interface(index).build()
        };
        self.handle.route().add(message).replace().execute().await.map_err(failed("add the default route"))
    }

    /// A neighbour that never needs asking for.
    pub(crate) async fn neighbour(&self, index: u32, addr: IpAddr, mac: [u8; 6]) -> Result<(), Error> {
        use rtnetlink::packet_route::neighbour::NeighbourState;
        let add = self.handle.neighbours().add(index, addr);
        let add = add.link_layer_address(&mac).state(NeighbourState::Permanent).replace();
        add.execute().await.map_err(failed(format!("add the neighbour {addr}")))
    }

    /// Makes a veth pair with one end inside the namespace, addresses, routes and neighbours on both sides: everything a
    /// pod needs to be reached and to reach, by routing alone.
    pub async fn connect_pod(&self, netns: &Path, link: PodLink) -> Result<(), Error> {
        self.delete(&link.host_name).await?;
        let mac = pod_mac(link.addresses.first());
        // A name of its own while it is still on the host, where `eth0` is taken.
        let mut temporary = format!("t{}", link.host_name);
        temporary.truncate(15);
        self.delete(&temporary).await?;
        let mut pair = LinkVeth::new(&link.host_name, &temporary).address(HOST_MAC.to_vec());
        if let Some(mtu) = link.mtu {
            pair = pair.mtu(mtu);
        }
        let what = || format!("make the link {}", link.host_name);
        self.handle.link().add(pair.build()).execute().await.map_err(failed(what()))?;
        let result = self.finish_pod(netns, &link, &temporary, mac).await;
        if result.is_err() {
            let _ = self.delete(&link.host_name).await;
        }
        result
    }

    async fn finish_pod(
        &self,
        netns: &Path,
        link: &PodLink,
        temporary: &str,
        mac: [u8; 6],
    ) -> Result<(), Error> {
        let name = &link.host_name;
        let gone = || Error::Other(format!("the link {name} vanished while it was being made"));
        let host = self.index(name).await?.ok_or_else(gone)?;
        let inner = self.index(temporary).await?.ok_or_else(gone)?;
        let file = File::open(netns)
            .map_err(Error::io(format!("open the network namespace {}", netns.display())))?;
        let message = LinkUnspec::new_with_index(inner).setns_by_fd(file.as_raw_fd()).build();
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(failed(format!("move {temporary} into the pod")))?;
        self.set_up(host, name).await?;
        let (temporary, pod_name, addresses) =
            (temporary.to_owned(), link.pod_name.clone(), link.addresses.clone());
        let mtu = link.mtu;
        crate::inside(netns, move || async move {
            let inside = Netlink::open()?;
            let index = inside
                .index(&temporary)
                .await?
                .ok_or_else(|| Error::Other(format!("the link {temporary} did not arrive in the pod")))?;
            let mut set = LinkUnspec::new_with_index(index).name(&pod_name).address(mac.to_vec());
            if let Some(mtu) = mtu {
                set = set.mtu(mtu);
            }
            let what = format!("set up {pod_name} inside the pod");
            inside.handle.link().set(set.build()).execute().await.map_err(failed(what))?;
            inside.set_up(index, &pod_name).await?;
            if let Some(lo) = inside.index("lo").await? {
                inside.set_up(lo, "lo").await?;
            }
            for a in &addresses {
                if a.is_ipv6() {
                    let _ = crate::sysctl::set(&format!("net/ipv6/conf/{pod_name}/accept_dad"), "0");
                }
                inside.add_address(index, &pod_name, Cidr::host(*a)).await?;
                let gateway = if a.is_ipv4() { IpAddr::V4(GATEWAY_V4) } else { IpAddr::V6(GATEWAY_V6) };
                inside.neighbour(index, gateway, HOST_MAC).await?;
                inside.default_route(index, a.is_ipv4()).await?;
            }
            Ok(())
        })
        .await?;
        for a in &link.addresses {
            let source = link.host_addresses.iter().copied().find(|h| h.is_ipv4() == a.is_ipv4());
            self.route(Cidr::host(*a), host, source).await?;
            self.neighbour(host, *a, mac).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cidrs_count_contain_and_split() {
        let c: Cidr = "10.244.0.0/16".parse().expect("cidr");
        assert_eq!(c.nth(10), Some("10.244.0.10".parse().expect("ip")));
        assert_eq!(c.nth(65536), None);
        assert!(
            c.contains("10.244.255.1".parse().expect("ip")) && !c.contains("10.245.0.1".parse().expect("ip"))
        );
        assert_eq!(c.subnet(24, 3).map(|s| s.to_string()), Some("10.244.3.0/24".into()));
        let six: Cidr = "fd00:10::/64".parse().expect("cidr");
        assert_eq!(six.nth(1).map(|a| a.to_string()), Some("fd00:10::1".into()));
        assert_eq!(six.subnet(80, 1).map(|s| s.to_string()), Some("fd00:10:0:0:1::/80".into()));
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "x/8"] {
            assert!(bad.parse::<Cidr>().is_err());
        }
    }
}
