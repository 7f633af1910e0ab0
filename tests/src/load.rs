//! Requests without end against one address, counted: either each on a connection of its own or all on one that is kept.
//! Spawns one thread per client.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
/// Between two requests: enough to leave the machine to others.
const PACE: Duration = Duration::from_millis(5);

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    answered: AtomicU64,
    /// Kept connections that the server closed between two requests.
    closed: AtomicU64,
    /// When, and how.
    failed: Mutex<Vec<(Instant, String)>>,
}

pub struct Load {
    name: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let s = TcpStream::connect_timeout(&to, PATIENCE)?;
    s.set_read_timeout(Some(PATIENCE))?;
    s.set_nodelay(true)?;
    Ok(s)
}

/// One request; the flag in the error tells whether a part of the answer had come.
fn ask(s: &mut TcpStream) -> Result<(), (bool, io::Error)> {
    s.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").map_err(|e| (false, e))?;
    let mut text = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let n = match s.read(&mut buffer) {
            Ok(0) => return Err((!text.is_empty(), io::ErrorKind::UnexpectedEof.into())),
            Ok(n) => n,
            Err(e) => return Err((!text.is_empty(), e)),
        };
        text.extend_from_slice(&buffer[..n]);
        let Some(head) = text.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        if !text.starts_with(b"HTTP/1.1 200 ") {
            return Err((true, io::Error::other(String::from_utf8_lossy(&text).into_owned())));
        }
        if text.len() > head + 4 && text.ends_with(b"\n") {
            return Ok(());
        }
    }
}

impl Shared {
    fn fresh(&self, to: SocketAddr) -> io::Result<()> {
        ask(&mut connect(to)?).map_err(|(_, e)| e)
    }

    /// A kept connection that ends before anything of the answer came was closed between two requests: HTTP says that
    /// the client asks again on a new one, once (RFC 9112, 9.3.1).
    fn kept(&self, to: SocketAddr, connection: &mut Option<TcpStream>) -> io::Result<()> {
        if let Some(mut s) = connection.take() {
            match ask(&mut s) {
                Ok(()) => {
                    *connection = Some(s);
                    return Ok(());
                }
                Err((true, e)) => return Err(e),
                Err((false, e))
                    if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
                {
                    return Err(e);
                }
                Err((false, _)) => {
                    self.closed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        let mut s = connect(to)?;
        ask(&mut s).map_err(|(_, e)| e)?;
        *connection = Some(s);
        Ok(())
    }

    fn run(&self, to: SocketAddr, keep: bool) {
        let begun = Instant::now();
        let mut connection = None;
        while !self.stop.load(Ordering::Relaxed) {
            let asked = Instant::now();
            let result = if keep { self.kept(to, &mut connection) } else { self.fresh(to) };
            match result {
                Ok(()) => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                }
                Err(e) => {
                    let text = format!("after {:?}: {e}", begun.elapsed());
                    self.failed.lock().expect("failures").push((asked, text));
                }
            }
            std::thread::park_timeout(PACE);
        }
    }
}

impl Load {
    pub fn start(name: &str, to: SocketAddr, keep: bool) -> Self {
        let shared = Arc::new(Shared::default());
        let s = shared.clone();
        let thread = std::thread::spawn(move || s.run(to, keep));
        Self { name: name.into(), shared, thread: Some(thread) }
    }

    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// What has failed so far: when it was asked, and how it ended.
    pub fn failed(&self) -> Vec<(Instant, String)> {
        self.shared.failed.lock().expect("failures").clone()
    }

    /// Ends the client; panics when a request failed. How often a kept connection was closed.
    pub fn finish(mut self) -> u64 {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join).transpose().expect("the client's thread");
        let failed = self.shared.failed.lock().expect("failures");
        let (name, answered) = (&self.name, self.answered());
        assert!(failed.is_empty(), "{name}: {} of {answered} requests failed: {failed:#?}", failed.len());
        eprintln!("{name}: {answered} requests answered, none failed");
        self.shared.closed.load(Ordering::Relaxed)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}
