//! Questions for other zones go to the host's resolvers, in turn until one answers; answers are kept (`cache`). The
//! file that names the resolvers is read again when it changes.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use client::clock;
use hickory_proto::op::Message;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::cache::Cache;

const PATIENCE: Duration = Duration::from_secs(2);
const MAX_UDP: usize = 4096;

pub struct Forwarder {
    file: PathBuf,
    own: Vec<SocketAddr>,
    /// As the file said when it had this age.
    read: Mutex<(Option<SystemTime>, Arc<[SocketAddr]>)>,
    cache: Cache,
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
        let f = Self {
            file: path.to_owned(),
            own: own.to_vec(),
            read: Mutex::new((None, Arc::default())),
            cache: Cache::default(),
        };
        if f.upstreams().is_empty() {
            tracing::info!(file = %path.display(), "no upstream resolver: only names of the cluster can be answered");
        }
        f
    }

    fn upstreams(&self) -> Arc<[SocketAddr]> {
        let changed = std::fs::metadata(&self.file).and_then(|m| m.modified()).ok();
        let mut read = self.read.lock();
        if changed.is_some() && read.0 != changed {
            let mut all = parse(&std::fs::read_to_string(&self.file).unwrap_or_default());
            all.retain(|u| !self.own.contains(u));
            *read = (changed, all.into());
        }
        read.1.clone()
    }

    /// The answer to a question, kept or fresh; `None` when nobody answered. With `whole`, one that was cut for UDP is
    /// asked for again over TCP; without, the client is told to do so.
    pub async fn ask(&self, question: &Message, tcp: bool, whole: bool) -> Option<Message> {
        let now = || clock::now().as_second();
        if let Some(kept) = self.cache.get(question, now()) {
            return Some(kept);
        }
        let raw = question.to_vec().ok()?;
        let mut answer = ask(&self.upstreams(), &raw, tcp).await?;
        if answer.metadata.truncation && whole && !tcp {
            answer = ask(&self.upstreams(), &raw, true).await?;
        }
        self.cache.put(question, answer.clone(), now());
        Some(answer)
    }
}

async fn ask(upstreams: &[SocketAddr], question: &[u8], over_tcp: bool) -> Option<Message> {
    for upstream in upstreams {
        let asked =
            async { if over_tcp { tcp(*upstream, question).await } else { udp(*upstream, question).await } };
        if let Ok(Ok(answer)) = timeout(PATIENCE, asked).await
            && let Ok(answer) = Message::from_vec(&answer)
        {
            return Some(answer);
        }
    }
    None
}

async fn udp(upstream: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let any: SocketAddr = if upstream.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    // A fresh socket has a random port, which makes a forged answer hard.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(upstream).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; MAX_UDP];
    loop {
        let n = socket.recv(&mut buffer).await?;
        // What answers another question is a late or forged one.
        if buffer.get(..2) == question.get(..2) {
            buffer.truncate(n);
            return Ok(buffer);
        }
    }
}

async fn tcp(upstream: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    let len = u16::try_from(question.len()).map_err(std::io::Error::other)?;
    stream.write_all(&len.to_be_bytes()).await?;
    stream.write_all(question).await?;
    let n = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(n)];
    stream.read_exact(&mut answer).await?;
    if answer.get(..2) == question.get(..2) {
        Ok(answer)
    } else {
        Err(std::io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{MessageType, OpCode, Query};
    use hickory_proto::rr::rdata::TXT;
    use hickory_proto::rr::{Name, RData, Record, RecordType};
    use std::str::FromStr;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::net::TcpListener;

    #[test]
    fn resolv_conf_is_read() {
        let got =
            parse("# x\nnameserver 10.0.0.1\nsearch a b\nnameserver fe80::1%eth0\nnameserver nonsense\n");
        assert_eq!(got.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.1:53", "[fe80::1]:53"]);
    }

    /// Cuts every answer over UDP, gives the whole one over TCP, counts the questions.
    async fn upstream() -> (SocketAddr, Arc<AtomicU32>) {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind(("127.0.0.1", 0)).await.expect("udp");
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("address")).await {
                break (udp, tcp);
            }
        };
        let at = udp.local_addr().expect("address");
        let asked = Arc::new(AtomicU32::new(0));
        let n = asked.clone();
        tokio::spawn(async move {
            let mut b = [0; 512];
            while let Ok((len, from)) = udp.recv_from(&mut b).await {
                n.fetch_add(1, Ordering::Relaxed);
                let mut m = Message::from_vec(&b[..len]).expect("question");
                m.metadata.message_type = MessageType::Response;
                m.metadata.truncation = true;
                let _ = udp.send_to(&m.to_vec().expect("bytes"), from).await;
            }
        });
        tokio::spawn(async move {
            while let Ok((mut s, _)) = tcp.accept().await {
                let mut raw = vec![0; usize::from(s.read_u16().await.expect("length"))];
                s.read_exact(&mut raw).await.expect("question");
                let mut m = Message::from_vec(&raw).expect("question");
                m.metadata.message_type = MessageType::Response;
                let text = RData::TXT(TXT::new(vec!["x".repeat(200); 6]));
                m.add_answer(Record::from_rdata(Name::from_str("big.example.").expect("name"), 60, text));
                let bytes = m.to_vec().expect("bytes");
                s.write_all(&u16::try_from(bytes.len()).expect("length").to_be_bytes()).await.expect("write");
                s.write_all(&bytes).await.expect("write");
            }
        });
        (at, asked)
    }

    #[tokio::test]
    async fn what_is_cut_is_asked_for_over_tcp_and_kept() {
        let (at, asked) = upstream().await;
        let mut question = Message::new(77, MessageType::Query, OpCode::Query);
        question.add_query(Query::query(Name::from_str("big.example.").expect("name"), RecordType::TXT));
        let read = Mutex::new((None, Arc::from([at])));
        let f = Forwarder { file: "/nonexistent".into(), own: vec![], read, cache: Cache::default() };
        let cut = f.ask(&question, false, false).await.expect("answer");
        assert!(cut.metadata.truncation && cut.answers.is_empty());
        let whole = f.ask(&question, false, true).await.expect("answer");
        assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 1));
        let before = asked.load(Ordering::Relaxed);
        let again = f.ask(&question, false, false).await.expect("answer");
        assert_eq!((again.answers.len(), asked.load(Ordering::Relaxed)), (1, before));
    }
}
