//! etcd as a peer: the binary on PATH, one member on loopback, puts over gRPC (a few lines of HTTP/2 by hand; the two
//! fields of a PutRequest need no generated code). Its syncs are read from its metrics.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::runtime::Handle;

use crate::measure::{Answer, Candidate};

const CONNECTIONS: usize = 8;

pub struct Etcd {
    child: Mutex<Child>,
    port: u16,
    connections: Vec<SendRequest<Full<Bytes>>>,
    next: AtomicUsize,
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Etcd {
    /// `None` when there is no etcd.
    pub fn start(dir: &Path) -> Result<Option<Self>> {
        if Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
        {
            return Ok(None);
        }
        let (port, peer) = (free_port()?, free_port()?);
        let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer}"));
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(dir.join("etcd")).args(["--name", "bench", "--log-level", "error"]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command
            .arg("--initial-cluster")
            .arg(format!("bench={peer}"))
            .args(["--quota-backend-bytes", "8589934592"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let connections = Handle::current().block_on(async {
            for _ in 0..600 {
                let health = metrics(port).await;
                if health.is_ok_and(|text| text.contains("etcd_server_has_leader 1")) {
                    return connect(port).await;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            anyhow::bail!("etcd has no leader after six seconds")
        });
        match connections {
            Ok(connections) => {
                Ok(Some(Self { child: Mutex::new(child), port, connections, next: AtomicUsize::new(0) }))
            }
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(e)
            }
        }
    }

    async fn call(&self, path: &str, message: Bytes) -> Result<Bytes> {
        let mut body = BytesMut::with_capacity(message.len() + 5);
        body.put_u8(0);
        body.put_u32(message.len() as u32);
        body.put(message);
        let uri = format!("http://127.0.0.1:{}/etcdserverpb.KV/{path}", self.port);
        let request = Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
        let i = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        let mut connection = self.connections.get(i).context("no connection")?.clone();
        connection.ready().await?;
        let response = connection.send_request(request.body(Full::new(body.freeze()))?).await?;
        let early = response.headers().get("grpc-status").cloned();
        let body = response.into_body().collect().await?;
        let status = body.trailers().and_then(|t| t.get("grpc-status").cloned()).or(early);
        ensure!(status.as_ref().is_some_and(|s| s == "0"), "etcd answered {status:?}");
        Ok(body.to_bytes())
    }

    fn kill(&self) {
        if let Ok(mut child) = self.child.lock() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

async fn connect(port: u16) -> Result<Vec<SendRequest<Full<Bytes>>>> {
    let mut out = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .max_frame_size(1 << 20)
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(64 << 20)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(connection);
        out.push(sender);
    }
    Ok(out)
}

async fn metrics(port: u16) -> Result<String> {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/metrics").header("host", "127.0.0.1").body(Full::new(Bytes::new()))?;
    let body = sender.send_request(request).await?.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn field(out: &mut BytesMut, number: u8, bytes: &[u8]) {
    out.put_u8(number << 3 | 2);
    let mut n = bytes.len();
    while n > 0x7f {
        out.put_u8(n as u8 | 0x80);
        n >>= 7;
    }
    out.put_u8(n as u8);
    out.put(bytes);
}

impl Candidate for Etcd {
    fn put(&self, key: String, value: Bytes) -> Answer<'_> {
        Box::pin(async move {
            let mut message = BytesMut::with_capacity(key.len() + value.len() + 8);
            field(&mut message, 1, key.as_bytes());
            field(&mut message, 2, &value);
            self.call("Put", message.freeze()).await.map(|_| ())
        })
    }
    fn close(&self) -> Answer<'_> {
        Box::pin(async {
            self.kill();
            Ok(())
        })
    }
    fn syncs(&self) -> Option<u64> {
        let text = tokio::task::block_in_place(|| Handle::current().block_on(metrics(self.port))).ok()?;
        let count = |name: &str| {
            let line = text.lines().find(|l| l.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|n| n as u64)
        };
        Some(
            count("etcd_disk_wal_fsync_duration_seconds_count")?
                + count("etcd_disk_backend_commit_duration_seconds_count")?,
        )
    }
    fn read_all(&self) -> Result<usize> {
        // All keys from "/registry/" to "/registry0", page by page: etcd's answers have a size limit.
        Handle::current().block_on(async {
            let (mut start, mut found) = (b"/registry/".to_vec(), 0);
            loop {
                let mut message = BytesMut::new();
                field(&mut message, 1, &start);
                field(&mut message, 2, b"/registry0");
                message.put_slice(&[3 << 3, 0x90, 0x4e]);
                let answer = self.call("Range", message.freeze()).await?;
                let (count, last) = keys(answer.get(5..).unwrap_or_default())?;
                let Some(last) = last else { return Ok(found) };
                found += count;
                start = last;
                start.push(0);
            }
        })
    }
}

/// The number of `kvs` in a RangeResponse and the last one's key.
fn keys(mut message: &[u8]) -> Result<(usize, Option<Vec<u8>>)> {
    fn varint(data: &mut &[u8]) -> Result<u64> {
        let mut out = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = data.split_first().context("a short message")?;
            *data = rest;
            out |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Ok(out)
    }
    fn next<'a>(data: &mut &'a [u8]) -> Result<(u64, &'a [u8])> {
        let tag = varint(data)?;
        if tag & 7 == 0 {
            varint(data)?;
            return Ok((tag >> 3, &[]));
        }
        let len = varint(data)? as usize;
        let (bytes, rest) = data.split_at_checked(len).context("a short message")?;
        *data = rest;
        Ok((tag >> 3, bytes))
    }
    let (mut count, mut last) = (0, None);
    while !message.is_empty() {
        let (number, mut kv) = next(&mut message)?;
        if number != 2 {
            continue;
        }
        count += 1;
        let (number, key) = next(&mut kv)?;
        ensure!(number == 1, "a key-value without its key first");
        last = Some(key);
    }
    Ok((count, last.map(<[u8]>::to_vec)))
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}
