//! An answer carried by a WebSocket, for clients that read streams no other way (browsers): logs byte by byte, a watch
//! event by event. One task per socket, which ends when the answer does or when the client leaves.

use std::time::Duration;

use api::{Reason, Status};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use client::websocket::{self, Agreed};
use futures::{SinkExt, StreamExt};
use http::{StatusCode, header};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use crate::body::{Body, Reply, WireBody, encode};
use crate::call::Call;

const BASE64: &str = "base64.binary.k8s.io";
/// For a watch they make no difference.
const KNOWN: [&str; 2] = ["binary.k8s.io", BASE64];
/// What a client says is not listened to; more than this at once ends it.
const INCOMING: usize = 64 * 1024;
/// How long the client may take to answer our close.
const FAREWELL: Duration = Duration::from_secs(5);

/// How the bytes of an answer become messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Binary,
    Base64,
    /// Of a watch in JSON.
    Text,
}

impl Framing {
    fn message(self, data: Bytes) -> Message {
        match self {
            Framing::Binary => Message::Binary(data),
            Framing::Base64 => Message::text(STANDARD.encode(&data)),
            Framing::Text => match Utf8Bytes::try_from(data.clone()) {
                Ok(text) => Message::Text(text),
                Err(_) => Message::Binary(data),
            },
        }
    }
}

/// A WebSocket that the client asked for and that is not open yet.
pub struct Socket {
    agreed: Agreed,
    upgrade: OnUpgrade,
}

impl Socket {
    /// What a client asks for, judged before any work is done; `None` when it wants a plain answer.
    pub fn asked(call: &mut Call) -> Result<Option<Self>, Status> {
        if !websocket::wanted(&call.headers) {
            return Ok(None);
        }
        let refused = |why: String| Status::new(Reason::Forbidden, format!("unable to upgrade: {why}"));
        let agreed = websocket::agree(&call.headers, &KNOWN).map_err(refused)?;
        Ok(call.upgrade.take().map(|upgrade| Self { agreed, upgrade }))
    }

    /// Bytes in pieces, behind an empty message by which the client sees that the stream has begun.
    pub fn bytes(self, reply: Reply) -> Reply {
        let framing = if self.agreed.protocol == BASE64 { Framing::Base64 } else { Framing::Binary };
        self.open(reply, framing, true)
    }

    /// One message for each event.
    pub fn events(self, reply: Reply) -> Reply {
        let json = reply.headers().get(header::CONTENT_TYPE).is_some_and(|t| t == crate::body::JSON);
        self.open(reply, if json { Framing::Text } else { Framing::Binary }, false)
    }

    fn open(self, reply: Reply, framing: Framing, greet: bool) -> Reply {
        if !reply.status().is_success() {
            return reply;
        }
        let Self { agreed, upgrade } = self;
        let body = encode(reply, false).into_body();
        tokio::spawn(async move {
            match upgrade.await {
                Ok(io) => {
                    if let Err(e) = carry(TokioIo::new(io), body, framing, greet).await {
                        tracing::debug!(error = %e, "a WebSocket ended");
                    }
                }
                Err(e) => tracing::debug!(error = %e, "an upgrade of a connection failed"),
            }
        });
        let mut opened = Reply::new(Body::Bytes(Bytes::new()));
        *opened.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *opened.headers_mut() = agreed.headers;
        opened
    }
}

async fn carry<S>(io: S, mut body: WireBody, framing: Framing, greet: bool) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default().max_message_size(Some(INCOMING)).max_frame_size(Some(INCOMING));
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let (mut sink, mut source) = socket.split();
    let sending = async {
        if greet {
            sink.send(framing.message(Bytes::new())).await?;
        }
        while let Some(frame) = body.frame().await {
            // A source that broke off is told as one: without a code for a good end.
            let frame = frame.map_err(|e| Error::Io(std::io::Error::other(e)))?;
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                sink.send(framing.message(data)).await?;
            }
        }
        let end = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
        sink.send(Message::Close(Some(end))).await
    };
    // Reading answers pings and sees the client leave.
    let listening = async { while source.next().await.is_some_and(|m| m.is_ok()) {} };
    tokio::pin!(listening);
    tokio::select! {
        sent = sending => sent?,
        () = &mut listening => return Ok(()),
    }
    let _ = tokio::time::timeout(FAREWELL, listening).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::stream;
    use tokio::io::DuplexStream;

    type Client = WebSocketStream<DuplexStream>;

    /// A client's end of a socket that carries `chunks`, and the task that carries them.
    async fn carried(
        chunks: Vec<Result<Bytes, std::io::Error>>,
        framing: Framing,
        greet: bool,
    ) -> (Client, tokio::task::JoinHandle<Result<(), Error>>) {
        let (ours, theirs) = tokio::io::duplex(1024);
        let task = tokio::spawn(carry(ours, stream(futures::stream::iter(chunks)), framing, greet));
        (WebSocketStream::from_raw_socket(theirs, Role::Client, None).await, task)
    }

    async fn received(mut client: Client) -> Vec<Message> {
        let mut out = Vec::new();
        while let Some(Ok(m)) = client.next().await {
            out.push(m);
        }
        out
    }

    fn end() -> Message {
        Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() }))
    }

    #[tokio::test]
    async fn the_pieces_arrive_as_messages() {
        let pieces =
            || vec![Ok(Bytes::from_static(b"one\n")), Ok(Bytes::new()), Ok(Bytes::from_static(b"\xff"))];
        let binary = |b: &'static [u8]| Message::Binary(Bytes::from_static(b));
        for (framing, greet, want) in [
            (Framing::Binary, true, vec![binary(b""), binary(b"one\n"), binary(b"\xff"), end()]),
            (
                Framing::Base64,
                true,
                vec![Message::text(""), Message::text("b25lCg=="), Message::text("/w=="), end()],
            ),
            (Framing::Text, false, vec![Message::text("one\n"), binary(b"\xff"), end()]),
        ] {
            let (client, task) = carried(pieces(), framing, greet).await;
            assert_eq!(received(client).await, want, "{framing:?}");
            assert!(task.await.expect("task").is_ok());
        }
    }

    #[tokio::test]
    async fn a_source_that_breaks_off_is_no_good_end() {
        let broken = vec![Ok(Bytes::from_static(b"a")), Err(std::io::Error::other("gone"))];
        let (client, task) = carried(broken, Framing::Binary, false).await;
        assert_eq!(received(client).await, [Message::Binary(Bytes::from_static(b"a"))]);
        assert!(task.await.expect("task").is_err());
    }

    #[tokio::test]
    async fn the_task_ends_with_the_client() {
        let (ours, theirs) = tokio::io::duplex(1024);
        let body = stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let task = tokio::spawn(carry(ours, body, Framing::Binary, true));
        let mut client: Client = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        assert!(client.next().await.is_some_and(|m| m.is_ok()), "the greeting");
        client.send(Message::text("not listened to")).await.expect("send");
        client.close(None).await.expect("close");
        assert!(task.await.expect("task").is_ok());
    }
}
