//! The server's side of a WebSocket handshake on hyper, with the choice of a subprotocol.

use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::server::{Body, Refused};

/// An end without a code counts as broken off.
pub fn goodbye() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() }))
}

pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

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
    let has = |name: header::HeaderName, word: &str| {
        let all = r.headers().get_all(name).iter();
        all.filter_map(|v| v.to_str().ok()).any(|v| v.split(',').any(|p| p.trim().eq_ignore_ascii_case(word)))
    };
    if !has(header::CONNECTION, "upgrade") || !has(header::UPGRADE, "websocket") {
        return Err(Refused::bad("unable to upgrade: only WebSocket connections are served here"));
    }
    let key = r.headers().get(header::SEC_WEBSOCKET_KEY).map(|k| derive_accept_key(k.as_bytes()));
    let key = key.ok_or_else(|| Refused::bad("unable to upgrade: Sec-WebSocket-Key is missing"))?;
    let asked: Vec<String> = r
        .headers()
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(',').map(|p| p.trim().to_owned()).collect::<Vec<_>>())
        .collect();
    let chosen = match asked.is_empty() {
        true => "",
        false => asked
            .iter()
            .find_map(|a| known.iter().find(|k| *k == a).copied())
            .ok_or_else(|| Refused::bad(format!("unable to upgrade: unable to negotiate protocol: client supports {asked:?}, server supports {known:?}")))?,
    };
    let upgrade = hyper::upgrade::on(&mut r);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(io) => {
                let config = WebSocketConfig::default().max_message_size(Some(32 << 20));
                let socket =
                    WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Server, Some(config)).await;
                f(socket, chosen).await;
            }
            Err(e) => tracing::debug!(error = %e, "an upgrade of a connection failed"),
        }
    });
    let mut out =
        Response::new(Full::default().map_err(|e: std::convert::Infallible| match e {}).boxed_unsync());
    *out.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let h = out.headers_mut();
    h.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    h.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(v) = HeaderValue::from_str(&key) {
        h.insert(header::SEC_WEBSOCKET_ACCEPT, v);
    }
    if !chosen.is_empty() {
        h.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
    }
    Ok(out)
}
