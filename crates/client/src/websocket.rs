//! The server's half of a WebSocket's opening handshake, for the API server and the kubelet alike. Pure: what the client
//! asked for goes in, the headers of the answer come out.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// What both sides have agreed to.
#[derive(Debug)]
pub struct Agreed {
    /// Of the answer, whose code is 101.
    pub headers: HeaderMap,
    /// The subprotocol; empty where the client named none.
    pub protocol: &'static str,
}

/// The elements of all headers of a name that holds a list.
fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',').map(str::trim))
}

/// Whether the request is one for a WebSocket.
pub fn wanted(headers: &HeaderMap) -> bool {
    let has = |name, word: &str| elements(headers, name).any(|p| p.eq_ignore_ascii_case(word));
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket")
}

/// Agrees to the first of the client's subprotocols that is among `known`, or says why not. A client that names none is
/// taken as it is.
pub fn agree(headers: &HeaderMap, known: &[&'static str]) -> Result<Agreed, String> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(|k| derive_accept_key(k.as_bytes()));
    let key = key.and_then(|k| HeaderValue::from_str(&k).ok()).ok_or("Sec-WebSocket-Key is missing")?;
    let asked: Vec<&str> =
        elements(headers, header::SEC_WEBSOCKET_PROTOCOL).filter(|p| !p.is_empty()).collect();
    let common = asked.iter().find_map(|a| known.iter().find(|k| *k == a).copied());
    let protocol = match common {
        Some(p) => p,
        None if asked.is_empty() => "",
        None => {
            return Err(format!(
                "unable to negotiate protocol: client supports {asked:?}, server supports {known:?}"
            ));
        }
    };
    let mut answer = HeaderMap::new();
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    if !protocol.is_empty() {
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok(Agreed { headers: answer, protocol })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut out = HeaderMap::new();
        for (name, value) in all {
            out.append(*name, HeaderValue::from_static(value));
        }
        out
    }

    #[test]
    fn a_websocket_is_told_by_two_headers() {
        for (connection, upgrade, want) in [
            ("Upgrade", "websocket", true),
            ("keep-alive, upgrade", "WebSocket", true),
            ("keep-alive", "websocket", false),
            ("Upgrade", "SPDY/3.1", false),
        ] {
            let h = headers(&[("connection", connection), ("upgrade", upgrade)]);
            assert_eq!(wanted(&h), want, "{connection}, {upgrade}");
        }
        assert!(!wanted(&HeaderMap::new()));
    }

    #[test]
    fn the_clients_first_wish_that_is_known_wins() {
        // The key and its answer are those of RFC 6455.
        let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        for (asked, want) in [
            (&["x, b, a"][..], Ok("b")),
            (&["x", "a,b"], Ok("a")),
            (&[], Ok("")),
            (&[""], Ok("")),
            (&["x"], Err(r#"client supports ["x"], server supports ["a", "b"]"#)),
        ] {
            let mut h = headers(&[key]);
            for a in asked {
                h.append(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(a));
            }
            match (agree(&h, &["a", "b"]), want) {
                (Ok(a), Ok(want)) => {
                    assert_eq!(a.protocol, want, "{asked:?}");
                    assert_eq!(a.headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
                    assert_eq!(a.headers.contains_key("sec-websocket-protocol"), !want.is_empty());
                }
                (Err(e), Err(want)) => assert!(e.ends_with(want), "{e}"),
                (got, _) => panic!("{asked:?}: {got:?}"),
            }
        }
        assert!(agree(&HeaderMap::new(), &["a"]).is_err_and(|e| e.contains("Key is missing")));
    }
}
