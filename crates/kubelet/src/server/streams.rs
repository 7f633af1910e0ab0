//! SPDY/3.1 on an upgraded connection, as clients before WebSockets speak it: the handshake, and the streams of exec and
//! attach. Two tasks per connection, which end with it.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::server::remote::{ERROR, Input, Peer, RESIZE, STDERR, STDIN, STDOUT};
use crate::server::spdy::{Frame, Reader, Writer, header};
use crate::server::{Body, Refused};

const VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
const REMOTE: [&str; 4] = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
/// How long a client may take to open the streams it asked for.
const CREATION: Duration = Duration::from_secs(30);
/// How long a client may take to close after the end.
const FAREWELL: Duration = Duration::from_secs(5);
const CHUNK: usize = 32 << 10;

/// Bytes both ways, whatever carries them. The other side is gone when `input` is closed.
pub struct Pipe {
    pub output: mpsc::Sender<Bytes>,
    pub input: mpsc::Receiver<Bytes>,
}

/// Whether the request wants SPDY.
pub fn asked<B>(r: &Request<B>) -> bool {
    let words = r.headers().get_all(header::UPGRADE).iter().filter_map(|v| v.to_str().ok());
    words.flat_map(|v| v.split(',')).any(|w| w.trim().eq_ignore_ascii_case("spdy/3.1"))
}

fn pipe(io: Upgraded) -> Pipe {
    let (mut from, mut to) = tokio::io::split(TokioIo::new(io));
    let (output, mut out) = mpsc::channel::<Bytes>(32);
    let (tx, input) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(b) = out.recv().await {
            if to.write_all(&b).await.is_err() || to.flush().await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    });
    tokio::spawn(async move {
        let mut buf = vec![0; CHUNK];
        loop {
            match from.read(&mut buf).await {
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    if tx.send(Bytes::copy_from_slice(buf.get(..n).unwrap_or_default())).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    Pipe { output, input }
}

/// Agrees to the first of the client's protocols that is `known`, and hands the connection to `f` in a task of its own.
pub fn upgrade<F, Fut>(
    mut r: Request<Incoming>,
    known: &[&'static str],
    f: F,
) -> Result<Response<Body>, Refused>
where
    F: FnOnce(Pipe, &'static str) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let asked: Vec<&str> = r
        .headers()
        .get_all(&VERSION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .collect();
    // Clients of the first version name none.
    let chosen = match asked.is_empty() {
        true => known.last().copied(),
        false => asked.iter().find_map(|a| known.iter().find(|k| *k == a).copied()),
    };
    let Some(chosen) = chosen else {
        let message = format!(
            "unable to upgrade: unable to negotiate protocol: client supports {asked:?}, server accepts {known:?}"
        );
        return Err(Refused {
            headers: vec![(ACCEPTED, known.join(","))],
            ..Refused::new(StatusCode::FORBIDDEN, message)
        });
    };
    let upgrade = hyper::upgrade::on(&mut r);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(io) => f(pipe(io), chosen).await,
            Err(e) => tracing::debug!(error = %e, "an upgrade of a connection failed"),
        }
    });
    let mut out =
        Response::new(Full::default().map_err(|e: std::convert::Infallible| match e {}).boxed_unsync());
    *out.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let h = out.headers_mut();
    h.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    h.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    h.insert(VERSION, HeaderValue::from_static(chosen));
    Ok(out)
}

fn channel(kind: &str) -> Option<u8> {
    Some(match kind {
        "stdin" => STDIN,
        "stdout" => STDOUT,
        "stderr" => STDERR,
        "error" => ERROR,
        "resize" => RESIZE,
        _ => return None,
    })
}

/// The streams a client opened, by channel and by id.
#[derive(Default)]
struct Opened {
    ids: HashMap<u8, u32>,
    channels: HashMap<u32, u8>,
}

/// What a frame means to a session.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Input(Input),
    Send(Vec<u8>),
    End,
    Nothing,
}

impl Opened {
    fn take(&mut self, frame: Frame, replies: &mut Writer) -> Event {
        match frame {
            Frame::SynStream { id, headers, .. } => match channel(header(&headers, "streamtype")) {
                Some(c) if !self.ids.contains_key(&c) => {
                    self.ids.insert(c, id);
                    self.channels.insert(id, c);
                    Event::Send(replies.syn_reply(id))
                }
                _ => Event::Send(Writer::reset(id)),
            },
            Frame::Data { id, data, fin } => match self.channels.get(&id) {
                Some(&c) if !data.is_empty() => {
                    Input::of(c, data.into()).map_or(Event::Nothing, Event::Input)
                }
                Some(&STDIN) if fin => Event::Input(Input::CloseStdin),
                _ => Event::Nothing,
            },
            Frame::Reset { id } if self.channels.get(&id) == Some(&STDIN) => Event::Input(Input::CloseStdin),
            Frame::Ping { id } => Event::Send(Writer::ping(id)),
            Frame::GoAway => Event::End,
            Frame::Reset { .. } | Frame::Other => Event::Nothing,
        }
    }
}

/// The last words, in the form of the protocol: before v4 a plain text, and only of a failure.
pub(super) fn last_words(protocol: &str, status: &Bytes) -> Bytes {
    if protocol == REMOTE[0] {
        return status.clone();
    }
    let v: serde_json::Value = serde_json::from_slice(status).unwrap_or_default();
    if v["status"] == "Success" {
        Bytes::new()
    } else {
        v["message"].as_str().unwrap_or_default().to_owned().into()
    }
}

/// A session of exec or attach, once the `expected` streams are open.
pub fn remote<F, Fut>(r: Request<Incoming>, expected: Vec<u8>, run: F) -> Result<Response<Body>, Refused>
where
    F: FnOnce(Peer) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    upgrade(r, &REMOTE, move |pipe, protocol| async move {
        let Pipe { output: wire, mut input } = pipe;
        let (mut reader, mut replies, mut opened) = (Reader::new(), Writer::default(), Opened::default());
        // The second version had no size of a terminal.
        let sized = matches!(protocol, "v4.channel.k8s.io" | "v3.channel.k8s.io");
        let missing = |o: &Opened| expected.iter().any(|c| !o.ids.contains_key(c) && (*c != RESIZE || sized));
        let mut early = Vec::new();
        let complete = tokio::time::timeout(CREATION, async {
            while missing(&opened) {
                let Some(bytes) = input.recv().await else { return false };
                reader.feed(&bytes);
                while let Ok(Some(f)) = reader.next() {
                    match opened.take(f, &mut replies) {
                        Event::Send(b) => drop(wire.send(b.into()).await),
                        Event::Input(i) => early.push(i),
                        Event::End => return false,
                        Event::Nothing => {}
                    }
                }
            }
            true
        });
        if complete.await != Ok(true) {
            tracing::debug!("a client did not open the streams it asked for");
            return;
        }
        let ids = opened.ids.clone();
        let (output, mut chunks) = mpsc::channel::<(u8, Bytes)>(1);
        let (to, from) = mpsc::channel(16);
        let out = wire.clone();
        let framer = tokio::spawn(async move {
            while let Some((c, data)) = chunks.recv().await {
                let data = if c == ERROR { last_words(protocol, &data) } else { data };
                if let Some(id) = ids.get(&c).filter(|_| !data.is_empty())
                    && out.send(Writer::data(*id, &data, false).into()).await.is_err()
                {
                    return;
                }
            }
            for id in [STDOUT, STDERR, ERROR].iter().filter_map(|c| ids.get(c)) {
                let _ = out.send(Writer::data(*id, &[], true).into()).await;
            }
        });
        let listener = tokio::spawn(async move {
            for i in early {
                let _ = to.send(i).await;
            }
            loop {
                loop {
                    match reader.next().map(|f| f.map(|f| opened.take(f, &mut replies))) {
                        Ok(Some(Event::Send(b))) => drop(wire.send(b.into()).await),
                        Ok(Some(Event::Input(i))) => drop(to.send(i).await),
                        Ok(Some(Event::Nothing)) => {}
                        Ok(Some(Event::End)) | Err(_) => return,
                        Ok(None) => break,
                    }
                }
                let Some(bytes) = input.recv().await else { return };
                reader.feed(&bytes);
            }
        });
        run(Peer { output, input: from }).await;
        let _ = framer.await;
        // The client closes once it has the last words.
        let mut listener = listener;
        if tokio::time::timeout(FAREWELL, &mut listener).await.is_err() {
            listener.abort();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syn(id: u32, kind: &str) -> Frame {
        Frame::SynStream { id, headers: vec![("streamtype".into(), kind.into())], fin: false }
    }

    #[test]
    fn frames_become_a_sessions_events() {
        let (mut o, mut w) = (Opened::default(), Writer::default());
        assert!(matches!(o.take(syn(1, "error"), &mut w), Event::Send(_)));
        assert!(matches!(o.take(syn(3, "stdin"), &mut w), Event::Send(_)));
        assert_eq!(o.take(syn(5, "stdin"), &mut w), Event::Send(Writer::reset(5)));
        assert_eq!(o.take(syn(7, "nonsense"), &mut w), Event::Send(Writer::reset(7)));
        assert_eq!(o.ids, HashMap::from([(ERROR, 1), (STDIN, 3)]));
        let data = |id, d: &[u8], fin| Frame::Data { id, data: d.to_vec(), fin };
        assert_eq!(
            o.take(data(3, b"x", false), &mut w),
            Event::Input(Input::Stdin(Bytes::from_static(b"x")))
        );
        assert_eq!(o.take(data(3, b"", true), &mut w), Event::Input(Input::CloseStdin));
        assert_eq!(o.take(data(9, b"x", false), &mut w), Event::Nothing);
        assert_eq!(o.take(Frame::Ping { id: 5 }, &mut w), Event::Send(Writer::ping(5)));
        assert_eq!(o.take(Frame::GoAway, &mut w), Event::End);
    }

    #[test]
    fn last_words_by_version() {
        let ok = Bytes::from_static(br#"{"status":"Success"}"#);
        let bad = Bytes::from_static(br#"{"status":"Failure","message":"m"}"#);
        assert_eq!(last_words("v4.channel.k8s.io", &ok), ok);
        assert_eq!(last_words("v2.channel.k8s.io", &ok), Bytes::new());
        assert_eq!(last_words("v3.channel.k8s.io", &bad), Bytes::from_static(b"m"));
    }
}
