//! The sockets: UDP answers within what the client can take and tells it to come back over TCP otherwise.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::RecordType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::Config;
use crate::forward::Forwarder;
use crate::zone::{Answer, Source, Zone};

/// Forwarded questions and TCP connections at once.
const AT_ONCE: usize = 1024;
const IDLE: Duration = Duration::from_secs(10);
const PLAIN_UDP: u16 = 512;
const MAX_UDP: u16 = 1232;

#[derive(Debug, thiserror::Error)]
#[error("failed to listen for DNS on {addr}: {source}; is another DNS server running there?")]
pub struct BindError {
    addr: SocketAddr,
    source: std::io::Error,
}

pub struct Server {
    sockets: Vec<(UdpSocket, TcpListener)>,
}

impl Server {
    pub async fn bind(config: &Config) -> Result<Self, BindError> {
        let mut sockets = Vec::new();
        for addr in &config.listen {
            let fail = |source| BindError { addr: *addr, source };
            sockets.push((
                UdpSocket::bind(addr).await.map_err(fail)?,
                TcpListener::bind(addr).await.map_err(fail)?,
            ));
        }
        Ok(Self { sockets })
    }

    /// Serves until the token is cancelled.
    pub(crate) async fn serve<S: Source>(
        self,
        zone: Zone<S>,
        forwarder: Forwarder,
        token: CancellationToken,
    ) {
        let shared = Arc::new(Shared { zone, forwarder, slots: Arc::new(Semaphore::new(AT_ONCE)) });
        let mut tasks = JoinSet::new();
        for (udp, tcp) in self.sockets {
            if let Ok(addr) = udp.local_addr() {
                info!(%addr, "DNS is answering");
            }
            tasks.spawn(shared.clone().udp(Arc::new(udp)));
            tasks.spawn(shared.clone().tcp(tcp));
        }
        token.cancelled().await;
        tasks.shutdown().await;
    }
}

struct Shared<S> {
    zone: Zone<S>,
    forwarder: Forwarder,
    slots: Arc<Semaphore>,
}

/// What to do with a question.
enum Step {
    Reply(Message),
    Forward(Message),
    Drop,
}

impl<S: Source> Shared<S> {
    fn step(&self, raw: &[u8]) -> Step {
        let Ok(question) = Message::from_vec(raw) else { return Step::Drop };
        if question.metadata.message_type != MessageType::Query {
            return Step::Drop;
        }
        let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
        reply.metadata.recursion_desired = question.metadata.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.add_queries(question.queries.clone());
        if question.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_UDP);
            reply.set_edns(edns);
        }
        let [query] = question.queries.as_slice() else {
            reply.metadata.response_code = ResponseCode::FormErr;
            return Step::Reply(reply);
        };
        if question.metadata.op_code != OpCode::Query {
            reply.metadata.response_code = ResponseCode::NotImp;
            return Step::Reply(reply);
        }
        if matches!(query.query_type, RecordType::AXFR | RecordType::IXFR) {
            reply.metadata.response_code = ResponseCode::Refused;
            return Step::Reply(reply);
        }
        match self.zone.answer(&query.name, query.query_type) {
            Answer::Own { code, answers, additionals, soa } => {
                reply.metadata.authoritative = true;
                reply.metadata.response_code = code;
                reply.add_answers(answers);
                reply.add_additionals(additionals);
                if let Some(soa) = soa {
                    reply.add_authority(soa);
                }
                Step::Reply(reply)
            }
            Answer::Outside { answers, target } => {
                reply.add_answers(answers);
                // The last CNAME's target is asked for by `outside`.
                debug!(%target, "a name of the cluster leads outside");
                Step::Forward(reply)
            }
            Answer::Foreign => Step::Forward(reply),
        }
    }

    /// Asks upstream: the question as it came, or the outside target of a CNAME.
    async fn forward(&self, raw: &[u8], mut reply: Message, tcp: bool) -> Option<Message> {
        let mut question = Message::from_vec(raw).ok()?;
        let outside = reply.answers.last().and_then(|r| match &r.data {
            hickory_proto::rr::RData::CNAME(c) => Some(c.0.clone()),
            _ => None,
        });
        let Some(target) = outside else {
            if let Some(answer) = self.forwarder.ask(&question, tcp, false).await {
                return Some(answer);
            }
            reply.metadata.response_code = ResponseCode::ServFail;
            return Some(reply);
        };
        question.queries.iter_mut().for_each(|q| q.name = target.clone());
        match self.forwarder.ask(&question, tcp, true).await {
            Some(a) => {
                reply.metadata.response_code = a.metadata.response_code;
                reply.add_answers(a.answers);
                reply.add_authorities(a.authorities);
            }
            None => reply.metadata.response_code = ResponseCode::ServFail,
        }
        Some(reply)
    }

    async fn udp(self: Arc<Self>, socket: Arc<UdpSocket>) {
        let mut buffer = vec![0u8; 4096];
        loop {
            let (n, from) = match socket.recv_from(&mut buffer).await {
                Ok(got) => got,
                Err(e) => {
                    debug!(error = %e, "failed to receive");
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            let Some(raw) = buffer.get(..n) else { continue };
            match self.step(raw) {
                Step::Drop => {}
                Step::Reply(reply) => {
                    if let Some(bytes) = fit(&reply, raw) {
                        let _ = socket.send_to(&bytes, from).await;
                    }
                }
                Step::Forward(reply) => {
                    let Ok(slot) = self.slots.clone().try_acquire_owned() else { continue };
                    let (this, socket, raw) = (self.clone(), socket.clone(), raw.to_vec());
                    tokio::spawn(async move {
                        let answer = this.forward(&raw, reply, false).await;
                        if let Some(bytes) = answer.and_then(|a| fit(&a, &raw)) {
                            let _ = socket.send_to(&bytes, from).await;
                        }
                        drop(slot);
                    });
                }
            }
        }
    }

    async fn tcp(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::task::yield_now().await;
                continue;
            };
            let Ok(slot) = self.slots.clone().try_acquire_owned() else { continue };
            let this = self.clone();
            tokio::spawn(async move {
                if let Err(e) = this.connection(stream).await {
                    debug!(error = %e, "a DNS connection ended");
                }
                drop(slot);
            });
        }
    }

    async fn connection(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let n = match timeout(IDLE, stream.read_u16()).await {
                Ok(Ok(n)) => n,
                _ => return Ok(()),
            };
            let mut raw = vec![0; usize::from(n)];
            timeout(IDLE, stream.read_exact(&mut raw)).await??;
            let answer = match self.step(&raw) {
                Step::Drop => return Ok(()),
                Step::Reply(reply) => Some(reply),
                Step::Forward(reply) => self.forward(&raw, reply, true).await,
            };
            let Some(answer) = answer.and_then(|a| a.to_vec().ok()) else { return Ok(()) };
            let len = u16::try_from(answer.len()).map_err(std::io::Error::other)?;
            stream.write_all(&len.to_be_bytes()).await?;
            stream.write_all(&answer).await?;
        }
    }
}

/// The reply in bytes, cut down with the truncation flag when it is more than the client takes over UDP.
fn fit(reply: &Message, raw: &[u8]) -> Option<Vec<u8>> {
    let limit =
        Message::from_vec(raw).ok()?.edns.map_or(PLAIN_UDP, |e| e.max_payload().clamp(PLAIN_UDP, MAX_UDP));
    let bytes = reply.to_vec().ok()?;
    if bytes.len() <= usize::from(limit) {
        return Some(bytes);
    }
    reply.truncate().to_vec().ok()
}
