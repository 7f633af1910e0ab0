//! exec, attach and run: a process's streams over WebSocket channels (stdin 0, stdout 1, stderr 2, error 3, resize 4,
//! close 255), in the versions v4 and v5 of the subprotocol. One task per session.

use bytes::Bytes;
use cri::{AttachRequest, BoxRead, CriError, ExecRequest, ExecStream, TerminalSize};
use futures::stream::SplitSink;
use futures::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use crate::pod_worker::Snapshot;
use crate::server::ws::{self, Socket};
use crate::server::{Body, Cx, Query, Refused, full, running};

const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const PROTOCOLS: [&str; 3] = ["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"];
const CHUNK: usize = 32 << 10;

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Resize {
    width: u16,
    height: u16,
}

pub fn exec(
    cx: &Cx,
    r: Request<Incoming>,
    shot: &Snapshot,
    container: &str,
    q: &Query,
) -> Result<Response<Body>, Refused> {
    let tty = q.flag("tty");
    let req = ExecRequest {
        container_id: running(shot, container)?,
        cmd: q.all("command"),
        tty,
        stdin: q.flag("input"),
        stdout: q.flag("output"),
        stderr: q.flag("error") && !tty,
    };
    if req.cmd.is_empty() {
        return Err(Refused::bad("you must specify at least 1 command for the container"));
    }
    let runtime = cx.node.runtime.clone();
    ws::upgrade(r, &PROTOCOLS, move |socket, _| async move {
        let stream = runtime.exec(&req).await;
        session(socket, stream, true).await;
    })
}

pub fn attach(
    cx: &Cx,
    r: Request<Incoming>,
    shot: &Snapshot,
    container: &str,
    q: &Query,
) -> Result<Response<Body>, Refused> {
    let tty = shot.pod.container(container).is_some_and(|(_, c)| c.tty);
    let req = AttachRequest {
        container_id: running(shot, container)?,
        tty,
        stdin: q.flag("input"),
        stdout: q.flag("output"),
        stderr: q.flag("error") && !tty,
    };
    let runtime = cx.node.runtime.clone();
    ws::upgrade(r, &PROTOCOLS, move |socket, _| async move {
        let stream = runtime.attach(&req).await;
        session(socket, stream, false).await;
    })
}

/// Runs a command and answers with its output.
pub async fn run(cx: &Cx, shot: &Snapshot, container: &str, q: &Query) -> Result<Response<Body>, Refused> {
    let id = running(shot, container)?;
    let cmd: Vec<String> = q.get("cmd").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    match cx.node.runtime.exec_sync(&id, &cmd, 0).await {
        Ok(r) => {
            let mut out = r.stdout;
            out.extend(r.stderr);
            Ok(full(StatusCode::OK, "text/plain", out))
        }
        Err(e) => Err(Refused::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string())),
    }
}

/// What the error channel carries at the end.
fn verdict(result: &Result<i32, CriError>) -> Value {
    match result {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]}}),
        Err(e) => json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
            "message": format!("Internal error occurred: {e}"),
            "details": {"causes": [{"message": e.to_string()}]}}),
    }
}

fn frame(channel: u8, data: &[u8]) -> Message {
    let mut m = Vec::with_capacity(data.len() + 1);
    m.push(channel);
    m.extend_from_slice(data);
    Message::Binary(Bytes::from(m))
}

async fn pump(mut from: BoxRead, channel: u8, to: mpsc::Sender<Message>) {
    let mut buf = vec![0; CHUNK];
    loop {
        match from.read(&mut buf).await {
            Ok(0) | Err(_) => return,
            Ok(n) => {
                if to.send(frame(channel, buf.get(..n).unwrap_or_default())).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn send_all(mut sink: SplitSink<Socket, Message>, mut rx: mpsc::Receiver<Message>) {
    while let Some(m) = rx.recv().await {
        if sink.send(m).await.is_err() {
            return;
        }
    }
    let _ = sink.send(ws::goodbye()).await;
    let _ = sink.close().await;
}

async fn session(socket: Socket, stream: Result<ExecStream, CriError>, is_exec: bool) {
    let (sink, mut source) = socket.split();
    // A slow client holds the process up, nobody else.
    let (tx, rx) = mpsc::channel(16);
    let writer = tokio::spawn(send_all(sink, rx));
    let s = match stream {
        Ok(s) => s,
        Err(e) => {
            let _ = tx.send(frame(ERROR, verdict(&Err(e)).to_string().as_bytes())).await;
            drop(tx);
            let _ = writer.await;
            return;
        }
    };
    // Tells the client that the streams are open.
    let first = if s.stdout.is_some() {
        STDOUT
    } else if s.stderr.is_some() {
        STDERR
    } else {
        ERROR
    };
    let _ = tx.send(frame(first, &[])).await;
    let outputs = [(s.stdout, STDOUT), (s.stderr, STDERR)];
    let pumps: Vec<_> =
        outputs.into_iter().filter_map(|(o, c)| o.map(|o| tokio::spawn(pump(o, c, tx.clone())))).collect();
    let (mut stdin, resize, mut exit) = (s.stdin, s.resize, s.exit);
    let result = loop {
        tokio::select! {
            done = &mut exit => break done.unwrap_or_else(|_| Err(CriError::Internal("the stream broke off".into()))),
            m = source.next() => {
                let data = match m {
                    Some(Ok(Message::Binary(b))) => b,
                    Some(Ok(Message::Text(t))) => Bytes::copy_from_slice(t.as_bytes()),
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => {
                        // The client went: the process loses its streams, as with a closed terminal.
                        pumps.iter().for_each(tokio::task::JoinHandle::abort);
                        return;
                    }
                };
                match (data.first(), data.get(1..).unwrap_or_default()) {
                    (Some(0), bytes) if !bytes.is_empty() => {
                        if let Some(w) = stdin.as_mut()
                            && (w.write_all(bytes).await.is_err() || w.flush().await.is_err())
                        {
                            stdin = None;
                        }
                    }
                    (Some(4), bytes) => {
                        if let Ok(r) = serde_json::from_slice::<Resize>(bytes) {
                            let _ = resize.try_send(TerminalSize { width: r.width, height: r.height });
                        }
                    }
                    (Some(255), [0, ..]) => {
                        if let Some(mut w) = stdin.take() {
                            let _ = w.shutdown().await;
                        }
                    }
                    _ => {}
                }
            }
        }
    };
    drop(stdin);
    for p in pumps {
        let _ = p.await;
    }
    let result = if is_exec { result } else { result.map(|_| 0) };
    let _ = tx.send(frame(ERROR, verdict(&result).to_string().as_bytes())).await;
    drop(tx);
    // Go on reading, so that the client's close is seen and ours is answered.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), async {
        let _ = writer.await;
        while let Some(Ok(m)) = source.next().await {
            if m.is_close() {
                break;
            }
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        assert_eq!(verdict(&Ok(0))["status"], "Success");
        let v = verdict(&Ok(3));
        assert_eq!(v["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
        assert_eq!(v["reason"], "NonZeroExitCode");
        assert_eq!(verdict(&Err(CriError::Internal("x".into())))["reason"], "InternalError");
    }
}
