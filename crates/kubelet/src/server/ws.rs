//! The server's side of a WebSocket on hyper: handshake with the choice of a subprotocol, and what is carried over it:
//! the channels of exec and attach (v4, v5, and the first version), or plain bytes. Two tasks per socket, which end with it.

use std::time::Duration;

use bytes::Bytes;
use client::websocket::{self, Agreed};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::server::remote::{ERROR, Input, Peer};
use crate::server::streams::{self, Pipe};
use crate::server::{Body, Refused};
use tokio::sync::mpsc;

const CHANNELS: [&str; 3] = ["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"];
/// Names the channel whose end the client tells (v5).
const CLOSE: u8 = 255;
/// How long the client may take to answer our close.
const FAREWELL: Duration = Duration::from_secs(5);

/// An end without a code counts as broken off.
fn goodbye() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() }))
}

pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A server's end over `io`; a client can't make it hold more than one message of this size.
async fn server_end<S: AsyncRead + AsyncWrite + Unpin>(io: S) -> WebSocketStream<S> {
    let config = WebSocketConfig::default().max_message_size(Some(32 << 20));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// What a client of exec or attach says over `io`, to its end.
pub async fn listen<S: AsyncRead + AsyncWrite + Unpin>(io: S, to: mpsc::Sender<Input>) {
    read_all(server_end(io).await.split().1, to).await;
}

/// Agrees to one of `known` (in the order of the client's wishes) and hands the socket to `f` in a task of its own.
pub fn upgrade<F, Fut>(
    mut r: Request<Incoming>,
    known: &[&'static str],
    f: F,
) -> Result<Response<Body>, Refused>
where
    F: FnOnce(Socket, &'static str) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    if !websocket::wanted(r.headers()) {
        return Err(Refused::bad("unable to upgrade: a WebSocket or SPDY/3.1 connection is needed here"));
    }
    let Agreed { headers, protocol } = websocket::agree(r.headers(), known)
        .map_err(|why| Refused::bad(format!("unable to upgrade: {why}")))?;
    let upgrade = hyper::upgrade::on(&mut r);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(io) => f(server_end(TokioIo::new(io)).await, protocol).await,
            Err(e) => tracing::debug!(error = %e, "an upgrade of a connection failed"),
        }
    });
    let mut out =
        Response::new(Full::default().map_err(|e: std::convert::Infallible| match e {}).boxed_unsync());
    *out.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *out.headers_mut() = headers;
    Ok(out)
}

async fn send_all(mut sink: SplitSink<Socket, Message>, mut rx: mpsc::Receiver<Message>) {
    while let Some(m) = rx.recv().await {
        if sink.send(m).await.is_err() {
            return;
        }
    }
    let _ = sink.send(goodbye()).await;
    let _ = sink.close().await;
}

fn input(m: Message) -> Option<Input> {
    let data = match m {
        Message::Binary(b) => b,
        Message::Text(t) => Bytes::copy_from_slice(t.as_bytes()),
        _ => return None,
    };
    match data.split_first()? {
        (&CLOSE, [0, ..]) => Some(Input::CloseStdin),
        (&channel, _) => Input::of(channel, data.slice(1..)),
    }
}

/// Reads to the client's close, also when nobody wants the input any more: only so our close is answered.
async fn read_all<S>(mut source: SplitStream<WebSocketStream<S>>, to: mpsc::Sender<Input>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(m)) = source.next().await {
        if m.is_close() {
            return;
        }
        if let Some(i) = input(m) {
            let _ = to.send(i).await;
        }
    }
}

/// A session of exec or attach.
pub fn remote<F, Fut>(r: Request<Incoming>, run: F) -> Result<Response<Body>, Refused>
where
    F: FnOnce(Peer) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    upgrade(r, &CHANNELS, move |socket, protocol| async move {
        // Before v4, clients take what comes on the channel of errors for an error.
        let plain = matches!(protocol, "" | "channel.k8s.io");
        let (sink, source) = socket.split();
        // A slow client holds the process up, nobody else.
        let (frames, rx) = mpsc::channel(16);
        let (output, mut chunks) = mpsc::channel::<(u8, Bytes)>(1);
        let (to, input) = mpsc::channel(16);
        let writer = tokio::spawn(send_all(sink, rx));
        let reader = tokio::spawn(read_all(source, to));
        let framer = tokio::spawn(async move {
            while let Some((channel, mut data)) = chunks.recv().await {
                if plain && channel == ERROR {
                    data = streams::last_words(protocol, &data);
                    if data.is_empty() {
                        continue;
                    }
                }
                if frames.send(Message::Binary([&[channel], &data[..]].concat().into())).await.is_err() {
                    return;
                }
            }
        });
        run(Peer { output, input }).await;
        let _ = framer.await;
        let _ = tokio::time::timeout(FAREWELL, async {
            let _ = writer.await;
            let _ = reader.await;
        })
        .await;
    })
}

/// The socket as plain bytes: what a client tunnels.
pub fn pipe(socket: Socket) -> Pipe {
    let (sink, mut source) = socket.split();
    let (tx, mut out) = mpsc::channel::<Bytes>(32);
    let (frames, rx) = mpsc::channel(1);
    let (to, input) = mpsc::channel(1);
    tokio::spawn(send_all(sink, rx));
    tokio::spawn(async move {
        while let Some(b) = out.recv().await {
            if frames.send(Message::Binary(b)).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some(Ok(m)) = source.next().await {
            let Message::Binary(b) = m else {
                if m.is_close() {
                    return;
                }
                continue;
            };
            if to.send(b).await.is_err() {
                return;
            }
        }
    });
    Pipe { output: tx, input }
}
