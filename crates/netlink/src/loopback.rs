//! Ports on the loopback addresses that lead elsewhere. The kernel does not route what has a loopback source, and
//! switching that check off (route_localnet, IPv4 only) opens the host's loopback to its neighbours; a small relay here
//! serves 127.0.0.1 and ::1 alike. Spawns one task per listening socket and one per connection or datagram peer; the
//! listeners end when they are no longer wanted, connections when their ends do.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::{debug, warn};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    Tcp,
    Udp,
}

const ADDRESSES: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
/// Connections, and datagram peers of one port, at once.
const AT_ONCE: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(5);
const UDP_IDLE: Duration = Duration::from_secs(60);
const MAX_DATAGRAM: usize = 65_535;

type Targets = Arc<RwLock<Vec<SocketAddr>>>;

struct Port {
    targets: Targets,
    listeners: Vec<AbortHandle>,
}

/// What each port leads to: the first target of the listener's own family, or else of the other one.
pub type Wanted = BTreeMap<(Transport, u16), Vec<SocketAddr>>;

/// The ports that listen now.
pub struct Loopback {
    ports: BTreeMap<(Transport, u16), Port>,
    slots: Arc<Semaphore>,
}

impl Default for Loopback {
    fn default() -> Self {
        Self { ports: BTreeMap::new(), slots: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.ports.values().flat_map(|p| &p.listeners).for_each(AbortHandle::abort);
    }
}

impl Loopback {
    /// Listens where it is wanted and nowhere else. A port that somebody else has is said once and left to them.
    pub async fn set(&mut self, wanted: Wanted) {
        self.ports.retain(|key, port| {
            let keep = wanted.contains_key(key);
            if !keep {
                port.listeners.iter().for_each(AbortHandle::abort);
            }
            keep
        });
        for (key, targets) in wanted {
            if let Some(port) = self.ports.get(&key) {
                *port.targets.write() = targets;
                continue;
            }
            let targets = Arc::new(RwLock::new(targets));
            let mut listeners = Vec::new();
            for ip in ADDRESSES {
                let at = SocketAddr::new(ip, key.1);
                match self.listen(key.0, at, targets.clone()).await {
                    Ok(task) => listeners.push(task),
                    // No such address here: the family is switched off.
                    Err(e)
                        if e.kind() == io::ErrorKind::AddrNotAvailable
                            || e.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
                    Err(e) => {
                        warn!(%at, error = %e, "failed to listen on a loopback port; the node's other addresses answer on it all the same")
                    }
                }
            }
            self.ports.insert(key, Port { targets, listeners });
        }
    }

    async fn listen(
        &self,
        transport: Transport,
        at: SocketAddr,
        targets: Targets,
    ) -> io::Result<AbortHandle> {
        Ok(match transport {
            Transport::Tcp => {
                let listener = TcpListener::bind(at).await?;
                tokio::spawn(tcp(listener, targets, self.slots.clone())).abort_handle()
            }
            Transport::Udp => {
                let socket = UdpSocket::bind(at).await?;
                tokio::spawn(udp(Arc::new(socket), targets)).abort_handle()
            }
        })
    }
}

/// Those of the same family first.
fn order(targets: &[SocketAddr], v4: bool) -> Vec<SocketAddr> {
    let (mut own, other): (Vec<SocketAddr>, Vec<SocketAddr>) =
        targets.iter().partition(|t| t.is_ipv4() == v4);
    own.extend(other);
    own
}

async fn tcp(listener: TcpListener, targets: Targets, slots: Arc<Semaphore>) {
    let v4 = listener.local_addr().is_ok_and(|a| a.is_ipv4());
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let Ok((mut inner, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let to = order(&targets.read(), v4);
        tokio::spawn(async move {
            for t in to {
                if let Ok(Ok(mut outer)) = timeout(PATIENCE, TcpStream::connect(t)).await {
                    let _ = (inner.set_nodelay(true), outer.set_nodelay(true));
                    if let Err(e) = copy_bidirectional(&mut inner, &mut outer).await {
                        debug!(error = %e, "a relayed connection broke");
                    }
                    break;
                }
            }
            drop(slot);
        });
    }
}

/// One socket per peer towards the target, so that answers find their way back.
async fn udp(socket: Arc<UdpSocket>, targets: Targets) {
    let v4 = socket.local_addr().is_ok_and(|a| a.is_ipv4());
    let peers: Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>> = Arc::default();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let Ok((n, from)) = socket.recv_from(&mut buffer).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let Some(datagram) = buffer.get(..n) else { continue };
        let known = peers.lock().get(&from).cloned();
        let outer = match known {
            Some(s) => s,
            None => {
                let Some(to) = order(&targets.read(), v4).first().copied() else { continue };
                if peers.lock().len() >= AT_ONCE {
                    continue;
                }
                let Ok(outer) = connected(to).await.map(Arc::new) else { continue };
                peers.lock().insert(from, outer.clone());
                tokio::spawn(answers(socket.clone(), outer.clone(), from, peers.clone()));
                outer
            }
        };
        let _ = outer.send(datagram).await;
    }
}

async fn connected(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(to).await?;
    Ok(socket)
}

async fn answers(
    socket: Arc<UdpSocket>,
    outer: Arc<UdpSocket>,
    peer: SocketAddr,
    peers: Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>>,
) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    while let Ok(Ok(n)) = timeout(UDP_IDLE, outer.recv(&mut buffer)).await {
        let Some(datagram) = buffer.get(..n) else { break };
        if socket.send_to(datagram, peer).await.is_err() {
            break;
        }
    }
    peers.lock().remove(&peer);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_port_leads_elsewhere_until_it_is_no_longer_wanted() {
        let target = TcpListener::bind(("127.0.0.1", 0)).await.expect("target");
        let to = target.local_addr().expect("address");
        tokio::spawn(async move {
            while let Ok((mut s, _)) = target.accept().await {
                let mut b = [0; 4];
                let _ = s.read_exact(&mut b).await;
                let _ = s.write_all(&b).await;
            }
        });
        let free =
            TcpListener::bind(("127.0.0.1", 0)).await.and_then(|l| l.local_addr()).expect("port").port();
        let mut l = Loopback::default();
        l.set(Wanted::from([((Transport::Tcp, free), vec![to])])).await;
        for ip in ADDRESSES {
            let Ok(mut s) = TcpStream::connect((ip, free)).await else {
                assert!(ip.is_ipv6(), "127.0.0.1 must answer");
                continue;
            };
            s.write_all(b"ping").await.expect("write");
            let mut b = [0; 4];
            s.read_exact(&mut b).await.expect("read");
            assert_eq!(&b, b"ping");
        }
        l.set(Wanted::new()).await;
        while TcpStream::connect((ADDRESSES[0], free)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn datagrams_come_back_to_who_sent_them() {
        let target = UdpSocket::bind(("127.0.0.1", 0)).await.expect("target");
        let to = target.local_addr().expect("address");
        tokio::spawn(async move {
            let mut b = [0; 16];
            while let Ok((n, from)) = target.recv_from(&mut b).await {
                let _ = target.send_to(&b[..n], from).await;
            }
        });
        let free = UdpSocket::bind(("127.0.0.1", 0)).await.and_then(|l| l.local_addr()).expect("port").port();
        let mut l = Loopback::default();
        l.set(Wanted::from([((Transport::Udp, free), vec![to])])).await;
        let (one, two) = (
            connected(([127, 0, 0, 1], free).into()).await.expect("a"),
            connected(([127, 0, 0, 1], free).into()).await.expect("b"),
        );
        for (s, text) in [(&one, b"one"), (&two, b"two"), (&one, b"1st")] {
            s.send(text).await.expect("send");
            let mut b = [0; 16];
            let n = s.recv(&mut b).await.expect("receive");
            assert_eq!(&b[..n], text);
        }
    }
}
