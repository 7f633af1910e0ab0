//! The server over a pipe in memory: what the API server would ask.

use std::sync::Arc;

use bytes::Bytes;
use cri::ExecSyncResponse;
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::*;
use crate::pod_worker;
use crate::server::spdy::{Frame, Reader, Writer};
use crate::testing::{Rig, rig};

struct Server {
    rig: Rig,
    workers: Arc<Workers>,
    _ended: mpsc::Receiver<String>,
}

/// A node with one running pod `ns/p`, container `a`.
async fn server() -> Server {
    let rig = rig();
    rig.runtime.on_exec(|_, cmd| {
        let code = cmd.first().and_then(|c| c.parse().ok()).unwrap_or(0);
        Ok(ExecSyncResponse { stdout: cmd.join(" ").into_bytes(), stderr: b"err".to_vec(), exit_code: code })
    });
    let pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {"containers": [{"name": "a", "image": "img", "imagePullPolicy": "Never"}]}}));
    let (tx, ended) = mpsc::channel(1);
    let workers = Arc::new(Workers::default());
    let handle = pod_worker::spawn(rig.node.clone(), Arc::new(pod.expect("pod")), None, tx);
    workers.insert("u", handle.clone());
    rig.api.until("running", |_| handle.snapshot.read().status.is_true("Ready")).await;
    Server { rig, workers, _ended: ended }
}

impl Server {
    fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        tokio::spawn(serve(self.rig.node.clone(), self.workers.clone(), theirs, None));
        ours
    }
    async fn get(&self, path: &str) -> (u16, String) {
        let (mut sender, conn) =
            hyper::client::conn::http1::handshake(TokioIo::new(self.connect())).await.expect("handshake");
        tokio::spawn(conn);
        let r = sender
            .send_request(Request::get(path).body(Empty::<Bytes>::new()).expect("request"))
            .await
            .expect("answer");
        let code = r.status().as_u16();
        let body = r.into_body().collect().await.expect("body").to_bytes();
        (code, String::from_utf8_lossy(&body).into_owned())
    }
    async fn socket(&self, path: &str, protocol: &str) -> WebSocketStream<DuplexStream> {
        let mut r = format!("ws://node{path}").into_client_request().expect("request");
        r.headers_mut().insert("sec-websocket-protocol", protocol.parse().expect("header"));
        let (socket, answer) = tokio_tungstenite::client_async(r, self.connect()).await.expect("upgrade");
        assert_eq!(answer.headers()["sec-websocket-protocol"], protocol);
        socket
    }
}

async fn all(mut socket: WebSocketStream<DuplexStream>) -> Vec<(u8, String)> {
    let mut out = Vec::new();
    while let Some(Ok(m)) = socket.next().await {
        if let Message::Close(frame) = &m {
            assert_eq!(frame.as_ref().map(|f| u16::from(f.code)), Some(1000));
        }
        if let Message::Binary(b) = m
            && b.len() > 1
        {
            out.push((b[0], String::from_utf8_lossy(&b[1..]).into_owned()));
        }
    }
    out.sort();
    out
}

#[tokio::test]
async fn plain_paths() {
    let s = server().await;
    assert_eq!(s.get("/healthz").await, (200, "ok".into()));
    let (_, pods) = s.get("/pods").await;
    let pods: Value = serde_json::from_str(&pods).expect("json");
    assert_eq!(pods["items"][0]["metadata"]["name"], "p");
    assert_eq!(s.get("/nowhere").await.0, 404);
    assert_eq!(s.get("/containerLogs/ns/none/a").await.0, 404);
    assert_eq!(s.get("/containerLogs/ns/p/b").await, (400, "container b is not valid for pod p\n".into()));
    let (code, text) = s.get("/containerLogs/ns/p/a?previous=true").await;
    assert_eq!((code, text.as_str()), (400, "previous terminated container \"a\" in pod \"p\" not found\n"));
    let summary: Value = serde_json::from_str(&s.get("/stats/summary").await.1).expect("json");
    assert_eq!(summary["pods"][0]["podRef"]["name"], "p");
    assert!(s.get("/metrics").await.1.contains("kubelet_running_pods 1"));
}

#[tokio::test]
async fn logs_are_read() {
    let s = server().await;
    let log = s.rig.runtime.container_named("a").expect("container").status.log_path;
    std::fs::create_dir_all(std::path::Path::new(&log).parent().expect("dir")).expect("dir");
    std::fs::write(&log, "2026-01-01T00:00:00Z stdout F hello\n").expect("log");
    assert_eq!(s.get("/containerLogs/ns/p/a").await, (200, "hello\n".into()));
}

#[tokio::test]
async fn exec_carries_streams_and_the_exit_code() {
    let s = server().await;
    for protocol in ["v5.channel.k8s.io", "v4.channel.k8s.io"] {
        let socket = s.socket("/exec/ns/p/a?output=1&error=1&command=3&command=x", protocol).await;
        let got = all(socket).await;
        assert_eq!(got[0], (1, "3 x".to_owned()));
        assert_eq!(got[1], (2, "err".to_owned()));
        let v: Value = serde_json::from_str(&got[2].1).expect("status");
        assert_eq!((got[2].0, &v["details"]["causes"][0]["message"]), (3, &json!("3")));
    }
}

#[tokio::test]
async fn the_first_version_tells_only_failures_and_in_words() {
    let s = server().await;
    let run = |code: u8| format!("/exec/ns/p/a?output=1&error=1&command={code}&command=x");
    let told =
        |all: Vec<(u8, String)>| all.into_iter().find(|(channel, _)| *channel == 3).map(|(_, text)| text);
    let got = all(s.socket(&run(0), "channel.k8s.io").await).await;
    assert_eq!((got[0].clone(), told(got)), ((1, "0 x".to_owned()), None));
    let got = told(all(s.socket(&run(3), "channel.k8s.io").await).await);
    assert_eq!(got.as_deref(), Some("command terminated with non-zero exit code: exit status 3"));
}

#[tokio::test]
async fn ports_are_forwarded_by_channels() {
    let s = server().await;
    let mut socket = s.socket("/portForward/ns/p?ports=80", "v4.channel.k8s.io").await;
    for want in [vec![0, 80, 0], vec![1, 80, 0]] {
        let m = socket.next().await.expect("hello").expect("hello");
        assert_eq!(m.into_data().to_vec(), want);
    }
    socket.send(Message::Binary(Bytes::from_static(b"\0ping"))).await.expect("send");
    assert_eq!(socket.next().await.expect("echo").expect("echo").into_data().to_vec(), b"\0ping");
}

#[tokio::test]
async fn ports_are_forwarded_by_spdy_in_a_tunnel() {
    use crate::server::spdy::tests::syn;
    let s = server().await;
    let mut socket = s.socket("/portForward/ns/p", "SPDY/3.1+portforward.k8s.io").await;
    let stream =
        |id, first, kind| syn(id, first, &[("streamtype", kind), ("port", "80"), ("requestid", "0")]);
    let mut out = stream(1, true, "error");
    out.extend(stream(3, false, "data"));
    out.extend(Writer::data(3, b"ping", false));
    socket.send(Message::Binary(out.into())).await.expect("send");
    let mut r = Reader::new();
    loop {
        let m = socket.next().await.expect("frame").expect("frame");
        r.feed(&m.into_data());
        let mut frames = std::iter::from_fn(|| r.next().expect("SPDY"));
        if frames.any(|f| f == Frame::Data { id: 3, data: b"ping".to_vec(), fin: false }) {
            return;
        }
    }
}

/// Upgrades to SPDY, sends `frames`, and gives what came back up to the end or `enough`.
async fn spdy(
    s: &Server,
    path: &str,
    version: &str,
    frames: Vec<u8>,
    enough: impl Fn(&[Frame]) -> bool,
) -> Vec<Frame> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut sender, conn) =
        hyper::client::conn::http1::handshake(TokioIo::new(s.connect())).await.expect("handshake");
    tokio::spawn(conn.with_upgrades());
    let r = Request::post(path)
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1")
        .header("x-stream-protocol-version", "v5.channel.k8s.io")
        .header("x-stream-protocol-version", version);
    let answer = sender.send_request(r.body(Empty::<Bytes>::new()).expect("request")).await.expect("answer");
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["x-stream-protocol-version"]),
        (101, &version.parse().expect("header"))
    );
    let mut io = TokioIo::new(hyper::upgrade::on(answer).await.expect("upgrade"));
    io.write_all(&frames).await.expect("send");
    let (mut reader, mut got, mut buf) = (Reader::new(), Vec::new(), [0; 4096]);
    while !enough(&got) {
        let n = io.read(&mut buf).await.expect("read");
        if n == 0 {
            break;
        }
        reader.feed(&buf[..n]);
        got.extend(std::iter::from_fn(|| reader.next().expect("SPDY")));
    }
    got
}

#[tokio::test]
async fn exec_and_ports_over_plain_spdy() {
    use crate::server::spdy::tests::syn;
    let s = server().await;
    let mut out = syn(1, true, &[("streamtype", "error")]);
    out.extend(syn(3, false, &[("streamtype", "stdout")]));
    out.extend(syn(5, false, &[("streamtype", "stderr")]));
    let path = "/exec/ns/p/a?output=1&error=1&command=3&command=x";
    let ends = |got: &[Frame]| got.iter().filter(|f| matches!(f, Frame::Data { fin: true, .. })).count() == 3;
    let got = spdy(&s, path, "v4.channel.k8s.io", out, ends).await;
    let text = |id: u32| -> String {
        let data = got.iter().filter_map(|f| match f {
            Frame::Data { id: i, data, .. } if *i == id => Some(String::from_utf8_lossy(data).into_owned()),
            _ => None,
        });
        data.collect()
    };
    assert_eq!((text(3), text(5)), ("3 x".to_owned(), "err".to_owned()));
    let v: Value = serde_json::from_str(&text(1)).expect("status");
    assert_eq!(v["details"]["causes"][0]["message"], "3");

    let stream =
        |id, first, kind| syn(id, first, &[("streamtype", kind), ("port", "80"), ("requestid", "0")]);
    let mut out = stream(1, true, "error");
    out.extend(stream(3, false, "data"));
    out.extend(Writer::data(3, b"ping", false));
    let echo = Frame::Data { id: 3, data: b"ping".to_vec(), fin: false };
    let got = spdy(&s, "/portForward/ns/p", "portforward.k8s.io", out, |got| got.contains(&echo)).await;
    assert!(got.contains(&echo), "{got:?}");
}

#[test]
fn queries() {
    let q = Query::parse("command=sh&command=-c&command=a%20b+c&tty=1&tailLines=5");
    assert_eq!(q.all("command"), ["sh", "-c", "a b c"]);
    assert!(q.flag("tty") && !q.flag("input"));
    assert_eq!(q.number("tailLines"), Some(5));
}
