//! Raw HTTP/1.1 over TLS, as ill-behaved as a test wants it: one connection per request, nothing interpreted, nothing
//! retried. Owns no task.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::Cluster;

/// A test that waits this long for bytes has failed.
const PATIENCE: Duration = Duration::from_secs(90);

pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub code: u16,
    /// Names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    }
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
    pub fn reason(&self) -> String {
        self.json()["reason"].as_str().unwrap_or_default().to_owned()
    }
    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// A way to one cluster as one user.
#[derive(Clone)]
pub struct Http {
    address: SocketAddr,
    /// How long it waits for bytes.
    patience: Duration,
    /// Whom the server's certificate must name.
    server: ServerName<'static>,
    tls: Arc<ClientConfig>,
    /// Sent with each request.
    pub headers: Vec<(String, String)>,
}

fn entry(kubeconfig: &str, key: &str) -> Vec<u8> {
    let line = kubeconfig.lines().find_map(|l| l.trim().strip_prefix(key)).expect("kubeconfig entry");
    STANDARD.decode(line.trim_start_matches(':').trim()).expect("base64 in the kubeconfig")
}

impl Http {
    fn new(c: &Cluster, identity: Option<(Vec<u8>, Vec<u8>)>) -> Self {
        let text = std::fs::read_to_string(c.kubeconfig()).expect("kubeconfig");
        let mut roots = RootCertStore::empty();
        for ca in CertificateDer::pem_slice_iter(&entry(&text, "certificate-authority-data")) {
            roots.add(ca.expect("certificate authority")).expect("certificate authority");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_root_certificates(roots);
        let tls = match identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain: Vec<_> =
                    CertificateDer::pem_slice_iter(&cert).map(|c| c.expect("client certificate")).collect();
                let key = PrivateKeyDer::from_pem_slice(&key).expect("client key");
                builder.with_client_auth_cert(chain, key).expect("client identity")
            }
        };
        let server = ServerName::try_from("localhost").expect("a name");
        Self { address: c.address(), patience: PATIENCE, server, tls: Arc::new(tls), headers: Vec::new() }
    }

    /// The user of `admin.kubeconfig`.
    pub fn admin(c: &Cluster) -> Self {
        let text = std::fs::read_to_string(c.kubeconfig()).expect("kubeconfig");
        Self::new(c, Some((entry(&text, "client-certificate-data"), entry(&text, "client-key-data"))))
    }
    /// Nobody: no certificate, no token.
    pub fn nobody(c: &Cluster) -> Self {
        Self::new(c, None)
    }
    /// A client certificate (PEM) of whatever origin.
    pub fn with_certificate(c: &Cluster, cert: &str, key: &str) -> Self {
        Self::new(c, Some((cert.into(), key.into())))
    }
    /// The server under another of its names, or an address.
    pub fn under(mut self, name: &str) -> Self {
        self.server = ServerName::try_from(name.to_owned()).expect("a name");
        self
    }
    /// For servers that may not answer.
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A connection with the handshake done by the first bytes.
    pub fn connect(&self) -> std::io::Result<Stream> {
        let tcp = TcpStream::connect_timeout(&self.address, self.patience)?;
        tcp.set_read_timeout(Some(self.patience))?;
        tcp.set_write_timeout(Some(self.patience))?;
        tcp.set_nodelay(true)?;
        let tls =
            ClientConnection::new(self.tls.clone(), self.server.clone()).map_err(std::io::Error::other)?;
        Ok(StreamOwned::new(tls, tcp))
    }

    /// Sends bytes as they are and reads one answer.
    pub fn raw(&self, bytes: &[u8]) -> std::io::Result<Answer> {
        let mut s = self.connect()?;
        // The server may answer before it has read all; then the answer is what counts.
        let sent = s.write_all(bytes).and_then(|()| s.flush());
        read_answer(&mut s).or_else(|e| sent.and(Err(e)))
    }

    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Answer> {
        self.raw(&self.bytes(method, path, headers, body))
    }

    /// A request as it goes over the wire.
    pub fn bytes(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        let own = self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        for (n, v) in own.chain(headers.iter().copied()) {
            head.push_str(&format!("{n}: {v}\r\n"));
        }
        if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        [head.as_bytes(), body].concat()
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_send(method, path, headers, body)
            .unwrap_or_else(|e| panic!("{method} {path}: no answer: {e}"))
    }
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }
    /// With a JSON body.
    pub fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.send(method, path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }
}

/// Reads up to and including the blank line after the headers.
pub(crate) fn read_head(s: &mut impl Read) -> std::io::Result<(u16, Vec<(String, String)>)> {
    let mut head = Vec::new();
    let mut byte = [0u8];
    while !head.ends_with(b"\r\n\r\n") {
        if s.read(&mut byte)? == 0 {
            return Err(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                "the connection ended within the headers",
            ));
        }
        head.extend_from_slice(&byte);
    }
    let text = String::from_utf8_lossy(&head);
    let mut lines = text.lines();
    let code = lines.next().and_then(|l| l.split(' ').nth(1)).and_then(|c| c.parse().ok());
    let code = code.ok_or_else(|| std::io::Error::other("no status line"))?;
    let headers = lines
        .filter_map(|l| l.split_once(':'))
        .map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()))
        .collect();
    Ok((code, headers))
}

/// One answer. A body without a length ends with the connection.
pub fn read_answer(s: &mut impl Read) -> std::io::Result<Answer> {
    let (mut code, mut headers) = read_head(s)?;
    while code == 100 {
        (code, headers) = read_head(s)?;
    }
    let mut a = Answer { code, headers, body: Vec::new() };
    if let Ok(n) = a.header("content-length").parse::<usize>() {
        a.body = vec![0; n];
        s.read_exact(&mut a.body)?;
    } else if a.header("transfer-encoding") == "chunked" {
        while let Some(chunk) = read_chunk(s)? {
            a.body.extend_from_slice(&chunk);
        }
    } else {
        s.read_to_end(&mut a.body).or_else(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => Ok(0),
            _ => Err(e),
        })?;
    }
    Ok(a)
}

/// The next chunk of a chunked body; `None` at its end.
pub fn read_chunk(s: &mut impl Read) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut byte = [0u8];
    while !line.ends_with(b"\r\n") {
        s.read_exact(&mut byte)?;
        line.extend_from_slice(&byte);
    }
    let size =
        usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).map_err(std::io::Error::other)?;
    let mut data = vec![0; size + 2];
    s.read_exact(&mut data)?;
    data.truncate(size);
    Ok((size > 0).then_some(data))
}

/// A watch that is being read: chunks in, lines out.
pub struct Lines {
    stream: Stream,
    buffer: Vec<u8>,
    pub code: u16,
    pub headers: Vec<(String, String)>,
}

impl Http {
    /// A GET whose answer is read line by line.
    pub fn lines(&self, path: &str, headers: &[(&str, &str)]) -> Lines {
        self.try_lines(path, headers).unwrap_or_else(|e| panic!("GET {path}: no answer: {e}"))
    }

    pub fn try_lines(&self, path: &str, headers: &[(&str, &str)]) -> std::io::Result<Lines> {
        let mut stream = self.connect()?;
        stream.write_all(&self.bytes("GET", path, headers, b""))?;
        stream.flush()?;
        let (code, headers) = read_head(&mut stream)?;
        Ok(Lines { stream, buffer: Vec::new(), code, headers })
    }
}

impl Lines {
    /// The next `n` bytes of the body; fewer only at its end.
    pub fn take(&mut self, n: usize) -> Vec<u8> {
        while self.buffer.len() < n {
            match read_chunk(&mut self.stream).expect("chunk") {
                Some(c) => self.buffer.extend_from_slice(&c),
                None => break,
            }
        }
        let n = n.min(self.buffer.len());
        self.buffer.drain(..n).collect()
    }

    /// The next line as JSON; `None` when the stream has ended.
    pub fn event(&mut self) -> Option<Value> {
        self.try_event().expect("an event")
    }

    pub fn try_event(&mut self) -> std::io::Result<Option<Value>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(std::io::Error::other);
            }
            match read_chunk(&mut self.stream)? {
                Some(c) => self.buffer.extend_from_slice(&c),
                None => return Ok(None),
            }
        }
    }
}
