//! One connection from the daemon: frames in, frames out, never blocking, bounded.

use crate::protocol::{MAX_FRAME, Reply, ReplyFrame, RequestFrame, encode, take_frame};
use crate::sys;
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

struct OutFrame {
    data: Vec<u8>,
    at: usize,
    fd: Option<OwnedFd>,
}

pub struct Conn {
    pub key: u64,
    pub sock: UnixStream,
    pub subscribed: bool,
    pub dead: bool,
    input: Vec<u8>,
    fds: Vec<OwnedFd>,
    out: VecDeque<OutFrame>,
    queued: usize,
}

impl Conn {
    pub fn new(key: u64, sock: UnixStream) -> Self {
        Conn {
            key,
            sock,
            subscribed: false,
            dead: false,
            input: Vec::new(),
            fds: Vec::new(),
            out: VecDeque::new(),
            queued: 0,
        }
    }

    pub fn wants_write(&self) -> bool {
        !self.out.is_empty()
    }

    /// Reads what is there and gives the requests that are complete, each with its descriptors.
    pub fn read(&mut self, buf: &mut [u8]) -> Vec<(RequestFrame, Vec<OwnedFd>)> {
        let mut out = Vec::new();
        loop {
            match sys::recv_with_fds(self.sock.as_fd(), buf, &mut self.fds) {
                Ok(0) => {
                    self.dead = true;
                    break;
                }
                Ok(n) => self.input.extend_from_slice(buf.get(..n).unwrap_or_default()),
                Err(e) if sys::again(e) => break,
                Err(_) => {
                    self.dead = true;
                    break;
                }
            }
            if self.input.len() > MAX_FRAME || self.fds.len() > 16 {
                break;
            }
        }
        loop {
            match take_frame(&mut self.input) {
                Ok(Some(body)) => match serde_json::from_slice::<RequestFrame>(&body) {
                    Ok(f) => {
                        let n = f.fds.min(self.fds.len());
                        let fds = self.fds.drain(..n).collect();
                        out.push((f, fds));
                    }
                    Err(e) => {
                        // A newer daemon's request: say so, keep the connection.
                        let seq = serde_json::from_slice::<serde_json::Value>(&body).ok();
                        let seq = seq.and_then(|v| v.get("seq")?.as_u64()).unwrap_or(0);
                        let message = format!("this shim doesn't understand the request: {e}");
                        self.send(
                            seq,
                            Reply::Error { code: crate::protocol::ErrorCode::Invalid, message },
                            None,
                        );
                    }
                },
                Ok(None) => break,
                Err(_) => {
                    self.dead = true;
                    break;
                }
            }
        }
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        out
    }

    pub fn send(&mut self, seq: u64, reply: Reply, fd: Option<OwnedFd>) {
        let data = encode(&ReplyFrame { seq, reply, fds: usize::from(fd.is_some()) });
        self.queued += data.len();
        self.out.push_back(OutFrame { data, at: 0, fd });
        // A daemon that doesn't read is as good as gone; it lists again when it comes back.
        if self.queued > 4 * MAX_FRAME {
            self.dead = true;
        }
        self.flush();
    }

    pub fn flush(&mut self) {
        while let Some(f) = self.out.front_mut() {
            let fds: Vec<_> = f.fd.iter().map(|fd| fd.as_raw_fd()).collect();
            match sys::send_with_fds(self.sock.as_fd(), f.data.get(f.at..).unwrap_or_default(), &fds) {
                Ok(n) => {
                    f.fd = None;
                    f.at += n;
                    self.queued = self.queued.saturating_sub(n);
                    if f.at >= f.data.len() {
                        self.out.pop_front();
                    }
                }
                Err(e) if sys::again(e) => return,
                Err(_) => {
                    self.dead = true;
                    return;
                }
            }
        }
    }
}
