//! The daemon's side of the shim protocol: starting a shim, calls on its control connection, and connections of their
//! own for what streams. A control connection has one reading task; it ends with the connection, and then tells its
//! owner.

use parking_lot::Mutex;
use shim::protocol::*;
use shim::sys;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    #[error("start the pod's shim: {0}")]
    Spawn(String),
    #[error("the pod's shim is gone: {0}")]
    Gone(String),
    #[error("{message}")]
    Refused { code: ErrorCode, message: String },
    #[error("the pod's shim answered something else than asked")]
    Confused,
}

impl From<io::Error> for ShimError {
    fn from(e: io::Error) -> Self {
        ShimError::Gone(e.to_string())
    }
}

pub type Result<T, E = ShimError> = std::result::Result<T, E>;

/// Starts a shim in `dir`, where its config is. Returns when it listens.
pub async fn spawn(command: &crate::config::ShimCommand, dir: &Path) -> Result<()> {
    let out = tokio::process::Command::new(&command.program)
        .args(&command.args)
        .arg("--dir")
        .arg(dir)
        .stdin(std::process::Stdio::null())
        .env_clear()
        .output()
        .await
        .map_err(|e| ShimError::Spawn(format!("{}: {e}", command.program.display())))?;
    match out.status.success() {
        true => Ok(()),
        false => {
            let text = String::from_utf8_lossy(&out.stderr).trim().to_string();
            Err(ShimError::Spawn(if text.is_empty() { out.status.to_string() } else { text }))
        }
    }
}

/// Socket paths are short by law; data directories aren't.
async fn connect(dir: &Path) -> io::Result<UnixStream> {
    let d = std::fs::File::open(dir)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", d.as_raw_fd())).await
}

/// One connection, used by one caller at a time.
pub struct Channel {
    sock: UnixStream,
    input: Mutex<(Vec<u8>, Vec<OwnedFd>)>,
}

impl Channel {
    pub async fn open(dir: &Path) -> Result<Self> {
        Ok(Channel { sock: connect(dir).await?, input: Mutex::default() })
    }

    pub async fn send(&self, seq: u64, req: Request, fds: &[OwnedFd]) -> Result<()> {
        let raw: Vec<RawFd> = fds.iter().map(|f| f.as_raw_fd()).collect();
        let data = encode(&RequestFrame { seq, req, fds: raw.len() });
        let mut at = 0;
        while at < data.len() {
            let with = if at == 0 { &raw[..] } else { &[] };
            let rest = data.get(at..).unwrap_or_default();
            at += self
                .sock
                .async_io(Interest::WRITABLE, || {
                    sys::send_with_fds(self.sock.as_fd(), rest, with).map_err(io::Error::from)
                })
                .await?;
        }
        Ok(())
    }

    pub async fn recv(&self) -> Result<(ReplyFrame, Vec<OwnedFd>)> {
        loop {
            {
                let mut input = self.input.lock();
                if let Some(body) = take_frame(&mut input.0).map_err(ShimError::Gone)? {
                    let frame: ReplyFrame = serde_json::from_slice(&body).map_err(|_| ShimError::Confused)?;
                    let n = frame.fds.min(input.1.len());
                    let fds = input.1.drain(..n).collect();
                    return Ok((frame, fds));
                }
            }
            let read = || {
                let mut buf = [0; 8192];
                let mut input = self.input.lock();
                let n =
                    sys::recv_with_fds(self.sock.as_fd(), &mut buf, &mut input.1).map_err(io::Error::from)?;
                input.0.extend_from_slice(buf.get(..n).unwrap_or_default());
                Ok(n)
            };
            if self.sock.async_io(Interest::READABLE, read).await? == 0 {
                return Err(ShimError::Gone("it closed the connection".into()));
            }
        }
    }

    /// A request and its reply, on a connection that nobody else uses.
    pub async fn call(&self, req: Request, fds: &[OwnedFd]) -> Result<(Reply, Vec<OwnedFd>)> {
        self.send(1, req, fds).await?;
        let (frame, fds) = self.recv().await?;
        match frame.reply {
            Reply::Error { code, message } => Err(ShimError::Refused { code, message }),
            r => Ok((r, fds)),
        }
    }
}

type Waiting = Mutex<Option<HashMap<u64, oneshot::Sender<Reply>>>>;

/// The control connection.
pub struct Shim {
    channel: Arc<Channel>,
    send: tokio::sync::Mutex<()>,
    waiting: Arc<Waiting>,
    seq: AtomicU64,
    pub pid: i32,
    pub pause_pid: i32,
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for Shim {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// What a shim tells unasked.
pub enum ShimEvent {
    Exited(ContainerRecord),
    /// The connection ended; the shim is dead or dying.
    Gone,
}

impl Shim {
    /// `on_event` is called from the reading task and must not block.
    pub async fn connect(dir: &Path, on_event: impl Fn(ShimEvent) + Send + 'static) -> Result<Self> {
        let channel = Arc::new(Channel::open(dir).await?);
        let (hello, _) = channel.call(Request::Hello { version: VERSION }, &[]).await?;
        let Reply::Hello { pid, pause_pid, .. } = hello else { return Err(ShimError::Confused) };
        channel.call(Request::Subscribe, &[]).await?;
        let waiting: Arc<Waiting> = Arc::new(Mutex::new(Some(HashMap::new())));
        let (ch, w) = (channel.clone(), waiting.clone());
        let reader = tokio::spawn(async move {
            while let Ok((frame, _)) = ch.recv().await {
                if let Reply::Exited { container } = frame.reply {
                    on_event(ShimEvent::Exited(container));
                } else if let Some(tx) = w.lock().as_mut().and_then(|m| m.remove(&frame.seq)) {
                    let _ = tx.send(frame.reply);
                }
            }
            *w.lock() = None;
            on_event(ShimEvent::Gone);
        });
        let (send, seq) = (tokio::sync::Mutex::new(()), AtomicU64::new(10));
        Ok(Shim { channel, send, waiting, seq, pid, pause_pid, reader })
    }

    pub async fn call(&self, req: Request) -> Result<Reply> {
        let seq = self.seq.fetch_add(1, Ordering::Relaxed);
        let (tx, rx) = oneshot::channel();
        let gone = || ShimError::Gone("the connection is closed".into());
        self.waiting.lock().as_mut().ok_or_else(gone)?.insert(seq, tx);
        {
            let _one = self.send.lock().await;
            if let Err(e) = self.channel.send(seq, req, &[]).await {
                self.waiting.lock().as_mut().map(|w| w.remove(&seq));
                return Err(e);
            }
        }
        match rx.await.map_err(|_| gone())? {
            Reply::Error { code, message } => Err(ShimError::Refused { code, message }),
            r => Ok(r),
        }
    }

    pub fn alive(&self) -> bool {
        self.waiting.lock().is_some()
    }
}
