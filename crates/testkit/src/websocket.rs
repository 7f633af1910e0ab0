//! A WebSocket to the API server, frame by frame, as a browser opens one. Owns no task.

use std::io::{Read, Write};

use crate::http::{Answer, Http, Stream, read_head};

/// One message of the server's. What tests read is never cut into several frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    Text(String),
    Binary(Vec<u8>),
    /// With its code, when it has one.
    Close(Option<u16>),
}

pub struct WebSocket {
    stream: Stream,
    /// The subprotocol that was agreed on.
    pub protocol: String,
}

impl Http {
    /// Asks for a socket; the plain answer when there is none.
    pub fn websocket(&self, path: &str, protocols: &[&str]) -> Result<WebSocket, Answer> {
        let mut head = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\norigin: http://localhost\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !protocols.is_empty() {
            head.push_str(&format!("sec-websocket-protocol: {}\r\n", protocols.join(", ")));
        }
        let mut stream = self.connect().expect("connect");
        stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.flush()).expect("send");
        let (code, headers) = read_head(&mut stream).expect("answer");
        let mut answer = Answer { code, headers, body: Vec::new() };
        if code != 101 {
            let length = answer.header("content-length").parse().unwrap_or(0);
            answer.body = vec![0; length];
            stream.read_exact(&mut answer.body).expect("body");
            return Err(answer);
        }
        // The example of RFC 6455.
        assert_eq!(answer.header("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        Ok(WebSocket { stream, protocol: answer.header("sec-websocket-protocol").to_owned() })
    }
}

impl WebSocket {
    /// The next frame; `None` when the connection has ended.
    pub fn frame(&mut self) -> Option<Frame> {
        let mut head = [0u8; 2];
        self.stream.read_exact(&mut head).ok()?;
        assert_eq!(head[0] & 0xf0, 0x80, "a whole message without extensions");
        let length = match head[1] {
            126 => self.number(2),
            127 => self.number(8),
            n => {
                assert!(n < 126, "a server masks nothing");
                u64::from(n)
            }
        };
        let mut data = vec![0; usize::try_from(length).expect("length")];
        self.stream.read_exact(&mut data).expect("the rest of a frame");
        Some(match head[0] & 0x0f {
            1 => Frame::Text(String::from_utf8(data).expect("text")),
            2 => Frame::Binary(data),
            8 => Frame::Close(data.get(..2).map(|c| u16::from_be_bytes([c[0], c[1]]))),
            other => panic!("frame of kind {other}"),
        })
    }

    fn number(&mut self, bytes: usize) -> u64 {
        let mut b = [0u8; 8];
        self.stream.read_exact(&mut b[8 - bytes..]).expect("the length of a frame");
        u64::from_be_bytes(b)
    }

    /// Says goodbye; the server's answer can be read.
    pub fn close(&mut self) {
        // Masked with zeros, code 1000.
        let frame = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
        self.stream.write_all(&frame).and_then(|()| self.stream.flush()).expect("send");
    }
}
