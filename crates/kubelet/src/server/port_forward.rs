//! Port-forwarding: SPDY frames, plain or tunnelled in a WebSocket (kubectl), or two WebSocket channels per port (v4, other
//! clients). One task per session and one per forwarded connection.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use cri::Cri;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::pod_worker::Snapshot;
use crate::server::spdy::{Frame, Reader, Writer, header};
use crate::server::streams::{self, Pipe};
use crate::server::ws::{self, Socket};
use crate::server::{Body, Cx, Query, Refused};

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const PROTOCOLS: [&str; 3] = [TUNNEL, "v4.channel.k8s.io", "portforward.k8s.io"];
const CHUNK: usize = 32 << 10;
/// Connections of one session.
const MAX_STREAMS: usize = 512;

pub fn serve(cx: &Cx, r: Request<Incoming>, shot: &Snapshot, q: &Query) -> Result<Response<Body>, Refused> {
    if shot.sandbox_id.is_empty() {
        return Err(Refused::bad(format!(
            "unable to forward port because pod \"{}\" is not running",
            shot.pod.metadata.name
        )));
    }
    let (runtime, sandbox) = (cx.node.runtime.clone(), shot.sandbox_id.clone());
    let ports: Vec<u16> = q
        .all("ports")
        .iter()
        .chain(&q.all("port"))
        .flat_map(|p| p.split(','))
        .filter_map(|p| p.parse().ok())
        .collect();
    if streams::asked(&r) {
        return streams::upgrade(r, &PROTOCOLS[2..], move |pipe, _| tunnel(pipe, runtime, sandbox));
    }
    ws::upgrade(r, &PROTOCOLS, move |socket, protocol| async move {
        if protocol == TUNNEL {
            tunnel(ws::pipe(socket), runtime, sandbox).await;
        } else {
            channels(socket, runtime, sandbox, ports).await;
        }
    })
}

/// Joins a port of the pod with two ends: bytes from `rx` go in, what comes out goes to `out` with `wrap`.
async fn connect(
    runtime: Arc<dyn Cri>,
    sandbox: String,
    port: u16,
    mut rx: mpsc::Receiver<Bytes>,
    out: mpsc::Sender<Bytes>,
    wrap: impl Fn(&[u8], bool) -> Bytes + Send + Sync,
) -> Result<(), String> {
    let io = runtime.port_forward(&sandbox, port).await.map_err(|e| {
        format!("error forwarding port {port} to pod {sandbox}: failed to connect to localhost:{port} inside the pod: {e}")
    })?;
    let (mut from, mut to) = tokio::io::split(io);
    let inward = async {
        while let Some(b) = rx.recv().await {
            if to.write_all(&b).await.is_err() || to.flush().await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
        std::future::pending::<()>().await;
    };
    let outward = async {
        let mut buf = vec![0; CHUNK];
        loop {
            match from.read(&mut buf).await {
                Ok(0) | Err(_) => break,
                Ok(n) => {
                    if out.send(wrap(buf.get(..n).unwrap_or_default(), false)).await.is_err() {
                        break;
                    }
                }
            }
        }
        let _ = out.send(wrap(&[], true)).await;
    };
    tokio::select! { () = inward => {}, () = outward => {} }
    Ok(())
}

async fn tunnel(pipe: Pipe, runtime: Arc<dyn Cri>, sandbox: String) {
    let Pipe { output: tx, mut input } = pipe;
    let mut reader = Reader::new();
    let mut replies = Writer::default();
    // Error streams by request id, data streams by stream id.
    let mut errors: HashMap<String, u32> = HashMap::new();
    let mut streams: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
    while let Some(b) = input.recv().await {
        reader.feed(&b);
        loop {
            let frame = match reader.next() {
                Ok(Some(f)) => f,
                Ok(None) => break,
                Err(e) => {
                    tracing::debug!(error = %e, "a port-forward client sent what is not SPDY/3.1");
                    return;
                }
            };
            match frame {
                Frame::SynStream { id, headers, .. } => {
                    let request = header(&headers, "requestid").to_owned();
                    let port: u16 = header(&headers, "port").parse().unwrap_or(0);
                    let kind = header(&headers, "streamtype").to_owned();
                    if port == 0 || streams.len() + errors.len() > MAX_STREAMS {
                        let _ = tx.send(Writer::reset(id).into()).await;
                        continue;
                    }
                    if tx.send(replies.syn_reply(id).into()).await.is_err() {
                        return;
                    }
                    let request = if request.is_empty() {
                        (if kind == "error" { id } else { id.saturating_sub(2) }).to_string()
                    } else {
                        request
                    };
                    if kind == "error" {
                        errors.insert(request, id);
                        continue;
                    }
                    let error_id = errors.remove(&request);
                    let (to, rx) = mpsc::channel(16);
                    streams.insert(id, to);
                    let (runtime, sandbox, out) = (runtime.clone(), sandbox.clone(), tx.clone());
                    tokio::spawn(async move {
                        let wrap = move |d: &[u8], fin: bool| Bytes::from(Writer::data(id, d, fin));
                        let result = connect(runtime, sandbox, port, rx, out.clone(), wrap).await;
                        let text = result.err().unwrap_or_default();
                        if !text.is_empty() {
                            let _ = out.send(Writer::data(id, &[], true).into()).await;
                        }
                        if let Some(e) = error_id {
                            let _ = out.send(Writer::data(e, text.as_bytes(), true).into()).await;
                        }
                    });
                }
                Frame::Data { id, data, fin } => {
                    if !data.is_empty()
                        && let Some(s) = streams.get(&id)
                        && s.send(data.into()).await.is_err()
                    {
                        streams.remove(&id);
                    }
                    if fin {
                        streams.remove(&id);
                    }
                }
                Frame::Reset { id } => {
                    streams.remove(&id);
                }
                Frame::Ping { id } => {
                    // Odd ids are the client's; our own are never sent.
                    let _ = tx.send(Writer::ping(id).into()).await;
                }
                Frame::GoAway => return,
                Frame::Other => {}
            }
        }
        streams.retain(|_, s| !s.is_closed());
    }
}

/// Channel 2n carries the data of the n-th port, 2n+1 its errors; each begins with the port, little-endian.
async fn channels(socket: Socket, runtime: Arc<dyn Cri>, sandbox: String, ports: Vec<u16>) {
    let Pipe { output: tx, mut input } = ws::pipe(socket);
    let mut inputs: Vec<mpsc::Sender<Bytes>> = Vec::new();
    for (n, port) in ports.into_iter().take(64).enumerate() {
        let (data, error) = ((2 * n) as u8, (2 * n + 1) as u8);
        for channel in [data, error] {
            let hello = [&[channel][..], &port.to_le_bytes()].concat();
            if tx.send(hello.into()).await.is_err() {
                return;
            }
        }
        let (to, rx) = mpsc::channel(16);
        inputs.push(to);
        let (runtime, sandbox, out) = (runtime.clone(), sandbox.clone(), tx.clone());
        tokio::spawn(async move {
            let wrap = move |d: &[u8], _: bool| Bytes::from([&[data], d].concat());
            if let Err(e) = connect(runtime, sandbox, port, rx, out.clone(), wrap).await {
                let _ = out.send([&[error], e.as_bytes()].concat().into()).await;
            }
        });
    }
    drop(tx);
    while let Some(b) = input.recv().await {
        let Some(channel) = b.first().copied() else { continue };
        if channel % 2 == 0
            && let Some(to) = inputs.get(usize::from(channel / 2))
        {
            let _ = to.send(b.slice(1..)).await;
        }
    }
}
