//! IP addresses, networks and URLs, as Kubernetes' libraries have them.
//! https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-ip-address-library

use std::any::Any;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Function, opaque, text, value};
use crate::value::{Key, Opaque, Value};

type R = Result<Value, String>;

pub const TYPES: [&str; 3] = ["net.IP", "net.CIDR", "kubernetes.URL"];

#[derive(Debug, PartialEq)]
struct Ip(IpAddr);
#[derive(Debug, PartialEq)]
struct Cidr(IpAddr, u8);
#[derive(Debug, PartialEq, Default)]
struct Url {
    scheme: String,
    host: String,
    hostname: String,
    port: String,
    path: String,
    query: Vec<(String, String)>,
}

macro_rules! opaque {
    ($($t:ty = $name:literal),*) => {$(
        impl Opaque for $t {
            fn type_name(&self) -> &'static str {
                $name
            }
            fn same(&self, other: &dyn Opaque) -> bool {
                other.as_any().downcast_ref::<$t>() == Some(self)
            }
            fn as_any(&self) -> &dyn Any {
                self
            }
        }
    )*};
}
opaque!(Ip = "net.IP", Cidr = "net.CIDR", Url = "kubernetes.URL");

/// As upstream takes it: no zone, no IPv4 in IPv6 form.
fn parse_ip(s: &str) -> Result<IpAddr, String> {
    let ip: IpAddr =
        s.parse().map_err(|_| format!("IP Address {s:?} parse error during conversion from string"))?;
    match ip {
        IpAddr::V6(v) if v.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {s:?} is not allowed"))
        }
        _ => Ok(ip),
    }
}

fn mask(ip: IpAddr, len: u8) -> IpAddr {
    match ip {
        IpAddr::V4(v) => {
            let m = u32::MAX.checked_shl(32 - u32::from(len.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(v.to_bits() & m).into()
        }
        IpAddr::V6(v) => {
            let m = u128::MAX.checked_shl(128 - u32::from(len.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(v.to_bits() & m).into()
        }
    }
}

fn parse_cidr(s: &str) -> Result<Cidr, String> {
    let wrong = || format!("network address parse error during conversion from string: {s:?}");
    let (ip, len) = s.split_once('/').ok_or_else(wrong)?;
    let ip = parse_ip(ip)?;
    if len.len() > 1 && len.starts_with('0') {
        return Err(wrong());
    }
    let len: u8 = len.parse().map_err(|_| wrong())?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    if len > most { Err(wrong()) } else { Ok(Cidr(ip, len)) }
}

impl Cidr {
    fn holds(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.0.is_ipv4() && mask(ip, self.1) == mask(self.0, self.1)
    }
}

fn boolean(b: bool) -> R {
    Ok(Value::Bool(b))
}
fn ip(a: &[Value]) -> R {
    Ok(Value::opaque(Ip(parse_ip(text(a, 0)?)?)))
}
fn is_ip(a: &[Value]) -> R {
    boolean(parse_ip(text(a, 0)?).is_ok())
}
fn is_canonical(a: &[Value]) -> R {
    let s = text(a, 0)?;
    boolean(parse_ip(s)?.to_string() == s)
}
fn own(a: &[Value]) -> Result<IpAddr, String> {
    Ok(opaque::<Ip>(a, 0)?.0)
}
fn family(a: &[Value]) -> R {
    Ok(Value::Int(if own(a)?.is_ipv4() { 4 } else { 6 }))
}
fn unspecified(a: &[Value]) -> R {
    boolean(own(a)?.is_unspecified())
}
fn loopback(a: &[Value]) -> R {
    boolean(own(a)?.is_loopback())
}
fn link_local_multicast(a: &[Value]) -> R {
    boolean(match own(a)? {
        IpAddr::V4(v) => v.octets().starts_with(&[224, 0, 0]),
        IpAddr::V6(v) => v.segments().first().is_some_and(|s| s & 0xff0f == 0xff02),
    })
}
fn link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v) => v.is_link_local(),
        IpAddr::V6(v) => v.segments().first().is_some_and(|s| s & 0xffc0 == 0xfe80),
    }
}
fn link_local_unicast(a: &[Value]) -> R {
    boolean(link_local(own(a)?))
}
fn global_unicast(a: &[Value]) -> R {
    let ip = own(a)?;
    let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    boolean(!(broadcast || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local(ip)))
}
fn ip_text(a: &[Value]) -> R {
    Ok(Value::from(own(a)?.to_string()))
}

fn cidr(a: &[Value]) -> R {
    Ok(Value::opaque(parse_cidr(text(a, 0)?)?))
}
fn is_cidr(a: &[Value]) -> R {
    boolean(parse_cidr(text(a, 0)?).is_ok())
}
fn contains_ip(a: &[Value]) -> R {
    let ip = match value(a, 1)? {
        Value::String(s) => parse_ip(s)?,
        _ => opaque::<Ip>(a, 1)?.0,
    };
    boolean(opaque::<Cidr>(a, 0)?.holds(ip))
}
fn contains_cidr(a: &[Value]) -> R {
    let outer = opaque::<Cidr>(a, 0)?;
    let (ip, len) = match value(a, 1)? {
        Value::String(s) => {
            let c = parse_cidr(s)?;
            (c.0, c.1)
        }
        _ => {
            let c = opaque::<Cidr>(a, 1)?;
            (c.0, c.1)
        }
    };
    boolean(len >= outer.1 && outer.holds(ip))
}
fn cidr_ip(a: &[Value]) -> R {
    Ok(Value::opaque(Ip(opaque::<Cidr>(a, 0)?.0)))
}
fn masked(a: &[Value]) -> R {
    let c = opaque::<Cidr>(a, 0)?;
    Ok(Value::opaque(Cidr(mask(c.0, c.1), c.1)))
}
fn prefix_length(a: &[Value]) -> R {
    Ok(Value::Int(opaque::<Cidr>(a, 0)?.1.into()))
}
fn cidr_text(a: &[Value]) -> R {
    let c = opaque::<Cidr>(a, 0)?;
    Ok(Value::from(format!("{}/{}", c.0, c.1)))
}

/// An absolute URI or an absolute path.
fn parse_url(s: &str) -> Result<Url, String> {
    let wrong =
        || format!("URL parse error during conversion from string: parse {s:?}: invalid URI for request");
    let bad = |c: char| c.is_control() || c == ' ';
    if s.is_empty() || s.contains(bad) {
        return Err(wrong());
    }
    let mut url = Url::default();
    let rest = match s.split_once("://") {
        Some((scheme, rest)) if !s.starts_with('/') => {
            let mut c = scheme.chars();
            let fine = c.next().is_some_and(|c| c.is_ascii_alphabetic())
                && c.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
            if !fine {
                return Err(wrong());
            }
            url.scheme = scheme.to_ascii_lowercase();
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (authority, rest) = rest.split_at(end);
            url.host = authority.rsplit_once('@').map_or(authority, |(_, h)| h).to_owned();
            rest
        }
        _ if s.starts_with('/') => s,
        _ => return Err(wrong()),
    };
    let host = url.host.clone();
    let (hostname, port) = match host.strip_prefix('[').and_then(|h| h.split_once(']')) {
        Some((name, port)) => (name, port.strip_prefix(':').unwrap_or_default()),
        None => host.split_once(':').unwrap_or((&host, "")),
    };
    if !port.chars().all(|c| c.is_ascii_digit()) {
        return Err(wrong());
    }
    (url.hostname, url.port) = (hostname.to_owned(), port.to_owned());
    let rest = rest.split('#').next().unwrap_or_default();
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    url.path = path.to_owned();
    let plain =
        |s: &str| percent_encoding::percent_decode_str(&s.replace('+', " ")).decode_utf8_lossy().into_owned();
    url.query = query
        .split('&')
        .filter(|p| !p.is_empty())
        .map(|p| p.split_once('=').unwrap_or((p, "")))
        .map(|(k, v)| (plain(k), plain(v)))
        .collect();
    Ok(url)
}

fn url(a: &[Value]) -> R {
    Ok(Value::opaque(parse_url(text(a, 0)?)?))
}
fn is_url(a: &[Value]) -> R {
    boolean(parse_url(text(a, 0)?).is_ok())
}
fn scheme(a: &[Value]) -> R {
    Ok(Value::from(opaque::<Url>(a, 0)?.scheme.as_str()))
}
fn host(a: &[Value]) -> R {
    Ok(Value::from(opaque::<Url>(a, 0)?.host.as_str()))
}
fn hostname(a: &[Value]) -> R {
    Ok(Value::from(opaque::<Url>(a, 0)?.hostname.as_str()))
}
fn port(a: &[Value]) -> R {
    Ok(Value::from(opaque::<Url>(a, 0)?.port.as_str()))
}
fn path(a: &[Value]) -> R {
    Ok(Value::from(opaque::<Url>(a, 0)?.path.as_str()))
}
fn query(a: &[Value]) -> R {
    let mut out: std::collections::BTreeMap<Key, Vec<Value>> = Default::default();
    for (k, v) in &opaque::<Url>(a, 0)?.query {
        out.entry(Key::String(k.as_str().into())).or_default().push(Value::from(v.as_str()));
    }
    let out: crate::Map = out.into_iter().map(|(k, v)| (k, Value::from(v))).collect();
    Ok(Value::Map(out.into()))
}

pub const ALL: &[(&str, Function)] = &[
    ("ip(string)->net.IP", ip),
    ("isIP(string)->bool", is_ip),
    ("ip.isCanonical(string)->bool", is_canonical),
    ("net.IP:family()->int", family),
    ("net.IP:isUnspecified()->bool", unspecified),
    ("net.IP:isLoopback()->bool", loopback),
    ("net.IP:isLinkLocalMulticast()->bool", link_local_multicast),
    ("net.IP:isLinkLocalUnicast()->bool", link_local_unicast),
    ("net.IP:isGlobalUnicast()->bool", global_unicast),
    ("string(net.IP)->string", ip_text),
    ("cidr(string)->net.CIDR", cidr),
    ("isCIDR(string)->bool", is_cidr),
    ("net.CIDR:containsIP(string)->bool", contains_ip),
    ("net.CIDR:containsIP(net.IP)->bool", contains_ip),
    ("net.CIDR:containsCIDR(string)->bool", contains_cidr),
    ("net.CIDR:containsCIDR(net.CIDR)->bool", contains_cidr),
    ("net.CIDR:ip()->net.IP", cidr_ip),
    ("net.CIDR:masked()->net.CIDR", masked),
    ("net.CIDR:prefixLength()->int", prefix_length),
    ("string(net.CIDR)->string", cidr_text),
    ("url(string)->kubernetes.URL", url),
    ("isURL(string)->bool", is_url),
    ("kubernetes.URL:getScheme()->string", scheme),
    ("kubernetes.URL:getHost()->string", host),
    ("kubernetes.URL:getHostname()->string", hostname),
    ("kubernetes.URL:getPort()->string", port),
    ("kubernetes.URL:getEscapedPath()->string", path),
    ("kubernetes.URL:getQuery()->map(string,list(string))", query),
];
