//! exec, attach and run: a process's streams, whatever carries them. `ws` carries them as WebSocket channels, `streams`
//! as SPDY/3.1 streams. One task per session, and one per output.

use bytes::Bytes;
use cri::{AttachRequest, BoxRead, CriError, ExecRequest, ExecStream, TerminalSize};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::pod_worker::Snapshot;
use crate::server::{Body, Cx, Query, Refused, full, running, streams, ws};

/// Channels of a session, numbered as the WebSocket protocol does.
pub const STDIN: u8 = 0;
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;
pub const ERROR: u8 = 3;
pub const RESIZE: u8 = 4;
const CHUNK: usize = 32 << 10;

/// What the client sends.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    Stdin(Bytes),
    CloseStdin,
    Resize(TerminalSize),
}

impl Input {
    /// Bytes of a channel; `None` for what nobody reads.
    pub fn of(channel: u8, data: Bytes) -> Option<Self> {
        match channel {
            STDIN if !data.is_empty() => Some(Input::Stdin(data)),
            RESIZE => {
                let r: Resize = serde_json::from_slice(&data).ok()?;
                Some(Input::Resize(TerminalSize { width: r.width, height: r.height }))
            }
            _ => None,
        }
    }
}

/// A session's two ends: what goes to the client, by channel, and what comes from it. The client is gone when `input` is
/// closed; the session is over when `output` is.
pub struct Peer {
    pub output: mpsc::Sender<(u8, Bytes)>,
    pub input: mpsc::Receiver<Input>,
}

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
    open(r, q, move |peer| async move { session(peer, runtime.exec(&req).await, true).await })
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
    open(r, q, move |peer| async move { session(peer, runtime.attach(&req).await, false).await })
}

/// Upgrades the request to the carrier it asks for.
fn open<F, Fut>(r: Request<Incoming>, q: &Query, run: F) -> Result<Response<Body>, Refused>
where
    F: FnOnce(Peer) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    if streams::asked(&r) {
        let tty = q.flag("tty");
        let mut expected = vec![ERROR];
        let more = [
            (STDIN, q.flag("input")),
            (STDOUT, q.flag("output")),
            (STDERR, q.flag("error") && !tty),
            (RESIZE, tty),
        ];
        expected.extend(more.into_iter().filter(|(_, yes)| *yes).map(|(c, _)| c));
        return streams::remote(r, expected, run);
    }
    ws::remote(r, run)
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

async fn pump(mut from: BoxRead, channel: u8, to: mpsc::Sender<(u8, Bytes)>) {
    let mut buf = vec![0; CHUNK];
    loop {
        match from.read(&mut buf).await {
            Ok(0) | Err(_) => return,
            Ok(n) => {
                let data = Bytes::copy_from_slice(buf.get(..n).unwrap_or_default());
                if to.send((channel, data)).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn session(peer: Peer, stream: Result<ExecStream, CriError>, is_exec: bool) {
    let Peer { output, mut input } = peer;
    let s = match stream {
        Ok(s) => s,
        Err(e) => {
            let _ = output.send((ERROR, verdict(&Err(e)).to_string().into())).await;
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
    let _ = output.send((first, Bytes::new())).await;
    let outputs = [(s.stdout, STDOUT), (s.stderr, STDERR)];
    let pumps: Vec<_> = outputs
        .into_iter()
        .filter_map(|(o, c)| o.map(|o| tokio::spawn(pump(o, c, output.clone()))))
        .collect();
    let (mut stdin, resize, mut exit) = (s.stdin, s.resize, s.exit);
    let result = loop {
        tokio::select! {
            done = &mut exit => break done.unwrap_or_else(|_| Err(CriError::Internal("the stream broke off".into()))),
            i = input.recv() => match i {
                Some(Input::Stdin(bytes)) => {
                    if let Some(w) = stdin.as_mut()
                        && (w.write_all(&bytes).await.is_err() || w.flush().await.is_err())
                    {
                        stdin = None;
                    }
                }
                Some(Input::CloseStdin) => {
                    if let Some(mut w) = stdin.take() {
                        let _ = w.shutdown().await;
                    }
                }
                Some(Input::Resize(size)) => {
                    let _ = resize.try_send(size);
                }
                None => {
                    // The client went: the process loses its streams, as with a closed terminal.
                    pumps.iter().for_each(tokio::task::JoinHandle::abort);
                    return;
                }
            }
        }
    };
    drop(stdin);
    for p in pumps {
        let _ = p.await;
    }
    let result = if is_exec { result } else { result.map(|_| 0) };
    let _ = output.send((ERROR, verdict(&result).to_string().into())).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs() {
        assert_eq!(Input::of(STDIN, Bytes::from_static(b"x")), Some(Input::Stdin(Bytes::from_static(b"x"))));
        assert_eq!(Input::of(STDIN, Bytes::new()), None);
        let size = Bytes::from_static(br#"{"Width":80,"Height":25}"#);
        assert_eq!(Input::of(RESIZE, size), Some(Input::Resize(TerminalSize { width: 80, height: 25 })));
        assert_eq!(Input::of(RESIZE, Bytes::from_static(b"{")), None);
    }

    #[test]
    fn verdicts() {
        assert_eq!(verdict(&Ok(0))["status"], "Success");
        let v = verdict(&Ok(3));
        assert_eq!(v["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
        assert_eq!(v["reason"], "NonZeroExitCode");
        assert_eq!(verdict(&Err(CriError::Internal("x".into())))["reason"], "InternalError");
    }
}
