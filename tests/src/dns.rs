//! A question to a DNS server.

use std::io::{Error, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::Name;
pub use hickory_proto::rr::RecordType;

/// The answer's code and its records of the first section, as text.
pub fn ask(
    server: SocketAddr,
    name: &str,
    kind: RecordType,
    tcp: bool,
) -> Result<(String, Vec<String>), Error> {
    let patience = Duration::from_secs(5);
    let mut m = Message::new(4242, MessageType::Query, OpCode::Query);
    m.metadata.recursion_desired = true;
    m.add_query(Query::query(
        Name::from_str(&format!("{}.", name.trim_end_matches('.'))).map_err(Error::other)?,
        kind,
    ));
    let raw = m.to_vec().map_err(Error::other)?;
    let answer = if tcp {
        let mut s = TcpStream::connect_timeout(&server, patience)?;
        s.set_read_timeout(Some(patience))?;
        s.write_all(&u16::try_from(raw.len()).map_err(Error::other)?.to_be_bytes())?;
        s.write_all(&raw)?;
        let mut len = [0; 2];
        s.read_exact(&mut len)?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
        s.read_exact(&mut answer)?;
        answer
    } else {
        let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let s = UdpSocket::bind(any)?;
        s.set_read_timeout(Some(patience))?;
        s.connect(server)?;
        s.send(&raw)?;
        let mut answer = vec![0; 4096];
        let n = s.recv(&mut answer)?;
        answer.truncate(n);
        answer
    };
    let m = Message::from_vec(&answer).map_err(Error::other)?;
    let mut records: Vec<String> = m.answers.iter().map(|r| r.data.to_string()).collect();
    records.sort();
    Ok((format!("{:?}", m.metadata.response_code), records))
}
