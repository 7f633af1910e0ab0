//! Questions for other zones go to the host's resolvers, in turn until one answers.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(2);
const MAX_UDP: usize = 4096;

#[derive(Debug, Clone)]
pub struct Forwarder {
    upstreams: Vec<SocketAddr>,
}

/// The nameservers of a resolv.conf.
fn parse(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|l| l.trim().strip_prefix("nameserver"))
        .filter_map(|a| a.trim().split('%').next()?.parse::<IpAddr>().ok())
        .map(|ip| SocketAddr::new(ip, 53))
        .collect()
}

impl Forwarder {
    /// Our own addresses are left out: they would ask in a circle.
    pub fn from_file(path: &Path, own: &[SocketAddr]) -> Self {
        let mut upstreams = parse(&std::fs::read_to_string(path).unwrap_or_default());
        upstreams.retain(|u| !own.contains(u));
        if upstreams.is_empty() {
            tracing::info!(file = %path.display(), "no upstream resolver: only names of the cluster can be answered");
        }
        Self { upstreams }
    }

    /// The raw answer to a raw question; `None` when nobody answered.
    pub async fn ask(&self, question: &[u8], tcp: bool) -> Option<Vec<u8>> {
        for upstream in &self.upstreams {
            let asked = async {
                if tcp { Self::tcp(*upstream, question).await } else { Self::udp(*upstream, question).await }
            };
            match timeout(PATIENCE, asked).await {
                Ok(Ok(answer)) if answer.get(..2) == question.get(..2) => return Some(answer),
                _ => {}
            }
        }
        None
    }

    async fn udp(upstream: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
        let any: SocketAddr =
            if upstream.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        // A fresh socket has a random port, which makes a forged answer hard.
        let socket = UdpSocket::bind(any).await?;
        socket.connect(upstream).await?;
        socket.send(question).await?;
        let mut buffer = vec![0; MAX_UDP];
        let n = socket.recv(&mut buffer).await?;
        buffer.truncate(n);
        Ok(buffer)
    }

    async fn tcp(upstream: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(upstream).await?;
        let len = u16::try_from(question.len()).map_err(std::io::Error::other)?;
        stream.write_all(&len.to_be_bytes()).await?;
        stream.write_all(question).await?;
        let n = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(n)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn resolv_conf_is_read() {
        let got = super::parse(
            "# x\nnameserver 10.0.0.1\nsearch a b\nnameserver fe80::1%eth0\nnameserver nonsense\n",
        );
        assert_eq!(got.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.1:53", "[fe80::1]:53"]);
    }
}
