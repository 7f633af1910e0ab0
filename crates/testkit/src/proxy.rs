//! A TCP proxy that misbehaves on demand: it stalls, cuts connections, or swallows answers. Spawns a thread for the
//! listener and two for each connection; they end with the value.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::wait_for;

const TICK: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    None,
    /// Connections stay open, nothing passes.
    Stall,
    /// Connections are closed, new ones at once.
    Cut,
    /// What clients send passes; at the first answer the connection is cut.
    Swallow,
    End,
}

struct State {
    fault: AtomicU8,
    /// Milliseconds that each piece waits.
    delay: AtomicU64,
    /// Directions of connections that are open.
    open: AtomicUsize,
    target: String,
}

pub struct Proxy {
    state: Arc<State>,
    port: u16,
}

impl State {
    fn is(&self, fault: Fault) -> bool {
        self.fault.load(Ordering::SeqCst) == fault as u8
    }
    fn over(&self) -> bool {
        self.is(Fault::Cut) || self.is(Fault::End)
    }
}

impl Proxy {
    /// In front of a port of this machine.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port for the proxy");
        let own = listener.local_addr().expect("the proxy's address").port();
        let state = Arc::new(State {
            fault: AtomicU8::new(Fault::None as u8),
            delay: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            target: format!("127.0.0.1:{port}"),
        });
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.is(Fault::End) {
                    return;
                }
                let Ok(server) = TcpStream::connect(&shared.target) else { continue };
                for (from, to, answers) in [(&client, &server, false), (&server, &client, true)] {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
                    let state = shared.clone();
                    state.open.fetch_add(1, Ordering::SeqCst);
                    std::thread::spawn(move || {
                        pass(&state, from, to, answers);
                        state.open.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            }
        });
        Self { state, port: own }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on; a cut is made when this returns.
    pub fn set(&self, fault: Fault) {
        self.state.fault.store(fault as u8, Ordering::SeqCst);
        if fault == Fault::Cut {
            wait_for("the proxy to cut", || self.state.open.load(Ordering::SeqCst) == 0);
        }
    }

    /// Holds every piece back for so long.
    pub fn delay(&self, by: Duration) {
        self.state.delay.store(by.as_millis() as u64, Ordering::SeqCst);
    }
}

fn pass(state: &State, mut from: TcpStream, mut to: TcpStream, answers: bool) {
    let _ = from.set_read_timeout(Some(TICK));
    let _ = from.set_nodelay(true);
    let mut buffer = vec![0; 64 << 10];
    while !state.over() {
        if state.is(Fault::Stall) {
            std::thread::park_timeout(TICK);
            continue;
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) if answers && state.is(Fault::Swallow) => break,
            Ok(n) => {
                let delay = state.delay.load(Ordering::SeqCst);
                if delay > 0 {
                    std::thread::park_timeout(Duration::from_millis(delay));
                }
                if to.write_all(&buffer[..n]).is_err() {
                    break;
                }
            }
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Fault::End);
        // Wakes the listener's thread.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}
