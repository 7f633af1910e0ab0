//! Ranges of addresses and which of them a Service gets. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    base: u128,
    bits: u8,
    v6: bool,
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

impl Cidr {
    pub fn parse(s: &str) -> Option<Self> {
        let (ip, bits) = s.split_once('/')?;
        let ip: IpAddr = ip.parse().ok()?;
        let bits: u8 = bits.parse().ok()?;
        let v6 = ip.is_ipv6();
        let width = if v6 { 128 } else { 32 };
        if bits > width {
            return None;
        }
        let host = u32::from(width - bits);
        let mask = if host >= 128 { 0 } else { u128::MAX << host };
        Some(Self { base: number(ip) & mask, bits, v6 })
    }

    fn host_bits(self) -> u32 {
        u32::from(if self.v6 { 128 - self.bits } else { 32 - self.bits })
    }

    /// Addresses that may be given out, capped so that offsets stay small numbers. The first (network) never is, the
    /// last of an IPv4 range (broadcast) neither.
    pub fn usable(self) -> u64 {
        let all = if self.host_bits() >= 62 { 1u64 << 62 } else { 1u64 << self.host_bits() };
        all.saturating_sub(if self.v6 { 1 } else { 2 })
    }

    /// The address at an offset; 0 is the network itself.
    pub fn at(self, offset: u64) -> IpAddr {
        let n = self.base.wrapping_add(u128::from(offset));
        if self.v6 { IpAddr::V6(Ipv6Addr::from(n)) } else { IpAddr::V4(Ipv4Addr::from(n as u32)) }
    }

    /// The first address that may be given out: that of the `kubernetes` Service.
    pub fn first(self) -> IpAddr {
        self.at(1)
    }

    pub fn contains(self, ip: IpAddr) -> bool {
        if ip.is_ipv6() != self.v6 {
            return false;
        }
        let off = number(ip).wrapping_sub(self.base);
        number(ip) >= self.base && off >= 1 && off <= u128::from(self.usable())
    }

    pub fn family(self) -> &'static str {
        if self.v6 { "IPv6" } else { "IPv4" }
    }

    /// Low offsets that dynamic allocation leaves to those who choose their address themselves.
    pub fn static_band(self) -> u64 {
        let n = self.usable();
        if n <= 16 { 0 } else { (n / 16).clamp(16, 256) }
    }
}

pub fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv6() { "IPv6" } else { "IPv4" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let c = Cidr::parse("10.96.0.0/16").expect("cidr");
        assert_eq!(c.first().to_string(), "10.96.0.1");
        assert_eq!(c.at(10).to_string(), "10.96.0.10");
        assert_eq!((c.usable(), c.static_band()), (65534, 256));
        assert!(c.contains("10.96.255.254".parse().expect("ip")));
        for out in ["10.96.0.0", "10.96.255.255", "10.97.0.1", "::1"] {
            assert!(!c.contains(out.parse().expect("ip")), "{out}");
        }
        let six = Cidr::parse("fd00::/108").expect("cidr");
        assert_eq!((six.family(), six.first().to_string().as_str()), ("IPv6", "fd00::1"));
        assert!(Cidr::parse("10.0.0.0/33").is_none() && Cidr::parse("x/8").is_none());
    }
}
