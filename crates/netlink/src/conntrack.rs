//! The connections that the kernel remembers with their translation (ctnetlink), read and forgotten one by one. A
//! datagram "connection" lives as long as its client sends, so one that leads to an address that is gone has to be
//! forgotten, or the client is never led anywhere else. Blocking and short; spawns nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::Error;

pub const UDP: u8 = 17;

const GET: u16 = 0x101;
const DELETE: u16 = 0x102;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const ENOENT: i32 = -2;
const HEADER: usize = 16;
/// The family and two fields that are always zero.
const GENERIC: usize = 4;
/// Attributes of a connection: the tuple as the client sent it and as answers come back; the identity.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;

/// One remembered connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    pub protocol: u8,
    pub client: SocketAddr,
    /// Where the client sends.
    pub to: SocketAddr,
    /// Where that is led: who answers.
    pub led_to: SocketAddr,
    /// The attributes that name it to the kernel.
    name: Vec<u8>,
}

impl Flow {
    /// One that the kernel does not know.
    pub fn new(protocol: u8, client: SocketAddr, to: SocketAddr, led_to: SocketAddr) -> Self {
        Self { protocol, client, to, led_to, name: Vec::new() }
    }
}

/// The attributes of a message: type and payload. Stops at the first that does not fit.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (len, kind) = (u16_at(bytes, 0)?, u16_at(bytes, 2)? & 0x3fff);
        let payload = bytes.get(4..usize::from(len))?;
        bytes = bytes.get((usize::from(len) + 3) & !3..).unwrap_or_default();
        Some((kind, payload))
    })
}

fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, _)| *k == kind).map(|(_, v)| v)
}

fn u16_at(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(b.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(b.get(at..at + 4)?.try_into().ok()?))
}

fn put(out: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    let len = u16::try_from(payload.len() + 4).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(payload);
    out.resize((out.len() + 3) & !3, 0);
}

fn ip(b: &[u8]) -> Option<IpAddr> {
    match b.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(b).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(b).ok()?).into()),
        _ => None,
    }
}

/// Protocol, source and destination of a tuple; what has no ports is left out.
fn tuple(b: &[u8]) -> Option<(u8, SocketAddr, SocketAddr)> {
    let (addresses, protocol) = (attribute(b, 1)?, attribute(b, 2)?);
    let address =
        |v4: u16, v6: u16| attribute(addresses, v4).or_else(|| attribute(addresses, v6)).and_then(ip);
    let port = |kind| Some(u16::from_be_bytes(attribute(protocol, kind)?.try_into().ok()?));
    let number = *attribute(protocol, 1)?.first()?;
    Some((number, SocketAddr::new(address(1, 3)?, port(2)?), SocketAddr::new(address(2, 4)?, port(3)?)))
}

fn flow(message: &[u8]) -> Option<Flow> {
    let body = message.get(GENERIC..)?;
    let original = attribute(body, ORIGINAL)?;
    let (protocol, client, to) = tuple(original)?;
    let (_, led_to, _) = tuple(attribute(body, REPLY)?)?;
    let mut name = Vec::new();
    // Bit 15 says that the payload is attributes itself.
    put(&mut name, ORIGINAL | 0x8000, original);
    if let Some(id) = attribute(body, ID) {
        put(&mut name, ID, id);
    }
    Some(Flow { protocol, client, to, led_to, name })
}

fn message(kind: u16, flags: u16, family: AddressFamily, attributes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(HEADER + GENERIC + attributes.len()).unwrap_or(0);
    let mut m = Vec::with_capacity(HEADER + GENERIC + attributes.len());
    m.extend_from_slice(&len.to_ne_bytes());
    m.extend_from_slice(&kind.to_ne_bytes());
    m.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
    m.extend_from_slice(&[0; 8]);
    m.extend_from_slice(&[u8::try_from(family as i32).unwrap_or(0), 0, 0, 0]);
    m.extend_from_slice(attributes);
    m
}

struct Socket(OwnedFd);

impl Socket {
    fn open() -> Result<Self, nix::Error> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let s = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
        setsockopt(&s, sockopt::ReceiveTimeout, &TimeVal::seconds(5))?;
        Ok(Self(s))
    }

    /// Sends, and gives every message that answers to `each` until the last; the error the kernel closes with.
    fn ask(&self, m: &[u8], mut each: impl FnMut(&[u8])) -> Result<i32, nix::Error> {
        sendto(self.0.as_raw_fd(), m, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let n = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = buffer.get(..n).unwrap_or_default();
            while let (Some(len), Some(kind)) = (u32_at(rest, 0), u16_at(rest, 4)) {
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                let Some(body) = rest.get(HEADER..len) else { break };
                match kind {
                    DONE => return Ok(0),
                    ERROR => return Ok(u32_at(body, 0).map_or(0, u32::cast_signed)),
                    _ => each(body),
                }
                rest = rest.get((len + 3) & !3..).unwrap_or_default();
            }
        }
    }
}

fn failed(what: &str) -> impl FnOnce(nix::Error) -> Error {
    let what = what.to_owned();
    move |e| Error::io(what)(e.into())
}

/// What the kernel remembers of one family.
fn dump(s: &Socket, family: AddressFamily) -> Result<Vec<Flow>, Error> {
    let mut flows = Vec::new();
    let what = "list the connections the kernel remembers";
    let code = s.ask(&message(GET, DUMP, family, &[]), |m| flows.extend(flow(m))).map_err(failed(what))?;
    if code == 0 { Ok(flows) } else { Err(Error::io(what)(std::io::Error::from_raw_os_error(-code))) }
}

/// Forgets the connections for which `stale` says so; how many they were.
pub fn forget(stale: impl Fn(&Flow) -> bool) -> Result<usize, Error> {
    let s = Socket::open().map_err(failed("open a socket for the connections the kernel remembers"))?;
    let mut gone = 0;
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        for f in dump(&s, family)?.into_iter().filter(|f| stale(f)) {
            let what = "forget a connection";
            match s.ask(&message(DELETE, ACK, family, &f.name), |_| {}).map_err(failed(what))? {
                0 => gone += 1,
                // It ended meanwhile.
                ENOENT => {}
                code => return Err(Error::io(what)(std::io::Error::from_raw_os_error(-code))),
            }
        }
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nest(parts: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        parts.iter().for_each(|(k, v)| put(&mut out, *k, v));
        out
    }

    #[test]
    fn a_message_of_the_kernel_is_read() {
        let tuple = |src: [u8; 4], dst: [u8; 4], from: u16, to: u16| {
            let ip = nest(&[(1, &src), (2, &dst)]);
            let proto = nest(&[(1, &[UDP]), (2, &from.to_be_bytes()), (3, &to.to_be_bytes())]);
            nest(&[(0x8001, &ip), (0x8002, &proto)])
        };
        let (there, back) = (
            tuple([10, 0, 0, 9], [10, 96, 0, 5], 4000, 53),
            tuple([10, 244, 0, 2], [10, 0, 0, 9], 5353, 4000),
        );
        let mut m = vec![2, 0, 0, 0];
        m.extend(nest(&[(0x8001, &there), (0x8002, &back), (12, &[1, 2, 3, 4])]));
        let f = flow(&m).expect("flow");
        assert_eq!(
            (f.protocol, f.client, f.to, f.led_to),
            (
                UDP,
                "10.0.0.9:4000".parse().expect("address"),
                "10.96.0.5:53".parse().expect("address"),
                "10.244.0.2:5353".parse().expect("address"),
            )
        );
        assert_eq!(f.name, nest(&[(0x8001, &there), (12, &[1, 2, 3, 4])]));
        for cut in 0..m.len() {
            let _ = flow(&m[..cut]);
        }
    }
}
