//! One container as the shim sees it: its streams, its log, and who is attached. Output goes to the log and, bounded,
//! to attached readers; a reader that is too slow is dropped, the container is never held up.

use crate::log::{Splitter, now_ns};
use crate::protocol::{ContainerRecord, RunRequest};
use crate::sys;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// What an attached reader may lag behind, beside its pipe.
const ATTACH_BUFFER: usize = 256 * 1024;

pub struct Source {
    pub fd: OwnedFd,
    split: Splitter,
}

impl Source {
    pub fn new(fd: OwnedFd, name: &'static str) -> Self {
        let _ = sys::set_nonblocking(&fd);
        Source { fd, split: Splitter::new(name) }
    }
}

pub struct Sink {
    pub fd: OwnedFd,
    pub waiting: VecDeque<u8>,
}

impl Sink {
    fn new(fd: OwnedFd) -> Self {
        let _ = sys::set_nonblocking(&fd);
        Sink { fd, waiting: VecDeque::new() }
    }

    /// False: the reader is gone or too slow.
    fn push(&mut self, mut data: &[u8]) -> bool {
        if self.waiting.is_empty() {
            match nix::unistd::write(&self.fd, data) {
                Ok(n) => data = data.get(n..).unwrap_or_default(),
                Err(e) if sys::again(e) => {}
                Err(_) => return false,
            }
        }
        self.waiting.extend(data);
        self.waiting.len() <= ATTACH_BUFFER
    }

    pub fn flush(&mut self) -> bool {
        while !self.waiting.is_empty() {
            let (head, _) = self.waiting.as_slices();
            match nix::unistd::write(&self.fd, head) {
                Ok(n) => drop(self.waiting.drain(..n)),
                Err(e) if sys::again(e) => return true,
                Err(_) => return false,
            }
        }
        self.waiting = VecDeque::new();
        true
    }
}

pub struct Attach {
    /// The connection that asked; the attach ends with it.
    pub conn: u64,
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<Sink>,
    pub stderr: Option<Sink>,
}

impl Attach {
    pub fn new(conn: u64, stdin: Option<OwnedFd>, stdout: Option<OwnedFd>, stderr: Option<OwnedFd>) -> Self {
        if let Some(fd) = &stdin {
            let _ = sys::set_nonblocking(fd);
        }
        Attach { conn, stdin, stdout: stdout.map(Sink::new), stderr: stderr.map(Sink::new) }
    }

    fn sink(&mut self, which: Which) -> &mut Option<Sink> {
        match which {
            Which::Stdout => &mut self.stdout,
            Which::Stderr => &mut self.stderr,
        }
    }

    fn drained(&self) -> bool {
        [&self.stdout, &self.stderr].iter().all(|s| s.as_ref().is_none_or(|s| s.waiting.is_empty()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Stdout,
    Stderr,
}

pub struct Container {
    pub key: u64,
    pub rec: ContainerRecord,
    pub req: RunRequest,
    pub stdout: Option<Source>,
    pub stderr: Option<Source>,
    /// Write end of its stdin; with a terminal, the master (which `stdout` reads through a copy).
    pub stdin: Option<OwnedFd>,
    pub stdin_waiting: VecDeque<u8>,
    pub close_stdin: bool,
    pub attached: Vec<Attach>,
    log: Option<File>,
}

impl Container {
    pub fn new(key: u64, req: RunRequest) -> std::io::Result<Self> {
        let rec = ContainerRecord { id: req.id.clone(), ..Default::default() };
        let mut c = Container {
            key,
            rec,
            req,
            stdout: None,
            stderr: None,
            stdin: None,
            stdin_waiting: VecDeque::new(),
            close_stdin: false,
            attached: Vec::new(),
            log: None,
        };
        c.open_log()?;
        Ok(c)
    }

    /// Opens the log at its path again, after somebody has moved the old one away.
    pub fn open_log(&mut self) -> std::io::Result<()> {
        if self.req.log_path.is_empty() {
            return Ok(());
        }
        let f = File::options().append(true).create(true).mode(0o640).open(&self.req.log_path)?;
        self.rec.log_bytes = f.metadata()?.len();
        self.log = Some(f);
        Ok(())
    }

    pub fn set_terminal(&mut self, master: OwnedFd) {
        self.stdout = master.try_clone().ok().map(|fd| Source::new(fd, "stdout"));
        let _ = sys::set_nonblocking(&master);
        self.stdin = Some(master);
    }

    fn write_log(&mut self, lines: &[u8]) {
        // A full disk costs log lines, not the container.
        if let Some(f) = &mut self.log
            && f.write_all(lines).is_ok()
        {
            self.rec.log_bytes += lines.len() as u64;
        }
    }

    /// Reads once; true when there may be more.
    pub fn pump(&mut self, which: Which, buf: &mut [u8]) -> bool {
        let slot = match which {
            Which::Stdout => &mut self.stdout,
            Which::Stderr => &mut self.stderr,
        };
        let Some(src) = slot else { return false };
        let mut lines = Vec::new();
        match nix::unistd::read(&src.fd, buf) {
            Err(e) if sys::again(e) => false,
            Ok(0) | Err(_) => {
                src.split.finish(now_ns(), &mut lines);
                *slot = None;
                self.write_log(&lines);
                self.attached.iter_mut().for_each(|a| {
                    if a.sink(which).as_ref().is_some_and(|s| s.waiting.is_empty()) {
                        *a.sink(which) = None;
                    }
                });
                false
            }
            Ok(n) => {
                let data = buf.get(..n).unwrap_or_default();
                if self.log.is_some() {
                    src.split.feed(data, now_ns(), &mut lines);
                    self.write_log(&lines);
                }
                for a in &mut self.attached {
                    let sink = a.sink(which);
                    if sink.as_mut().is_some_and(|s| !s.push(data)) {
                        *sink = None;
                    }
                }
                true
            }
        }
    }

    /// Takes what is already in the pipes. Bounded, since somebody may still be writing.
    pub fn drain(&mut self, buf: &mut [u8]) {
        for which in [Which::Stdout, Which::Stderr] {
            let mut rounds = 0;
            while rounds < 256 && self.pump(which, buf) {
                rounds += 1;
            }
        }
    }

    /// Ends the streams after the last process; what was begun is written as a partial line.
    pub fn close_streams(&mut self) {
        for slot in [&mut self.stdout, &mut self.stderr] {
            if let Some(mut s) = slot.take() {
                let mut lines = Vec::new();
                s.split.finish(now_ns(), &mut lines);
                if let Some(f) = &mut self.log
                    && f.write_all(&lines).is_ok()
                {
                    self.rec.log_bytes += lines.len() as u64;
                }
            }
        }
        self.stdin = None;
        self.stdin_waiting = VecDeque::new();
        self.attached.iter_mut().for_each(|a| a.stdin = None);
    }

    pub fn close_log(&mut self) {
        self.log = None;
    }

    /// Moves input from an attached client towards the container, one bite at a time.
    pub fn feed_stdin(&mut self, conn: u64, buf: &mut [u8]) {
        let once = self.req.stdin_once && !self.req.tty;
        let Some(a) = self.attached.iter_mut().find(|a| a.conn == conn) else { return };
        let Some(fd) = &a.stdin else { return };
        match nix::unistd::read(fd, buf) {
            Err(e) if sys::again(e) => return,
            Ok(0) | Err(_) => {
                a.stdin = None;
                self.close_stdin |= once;
            }
            Ok(n) => self.stdin_waiting.extend(buf.get(..n).unwrap_or_default()),
        }
        self.flush_stdin();
    }

    pub fn flush_stdin(&mut self) {
        let Some(fd) = &self.stdin else {
            self.stdin_waiting = VecDeque::new();
            return;
        };
        while !self.stdin_waiting.is_empty() {
            let (head, _) = self.stdin_waiting.as_slices();
            match nix::unistd::write(fd, head) {
                Ok(n) => drop(self.stdin_waiting.drain(..n)),
                Err(e) if sys::again(e) => return,
                Err(_) => {
                    self.stdin = None;
                    self.stdin_waiting = VecDeque::new();
                    return;
                }
            }
        }
        if self.close_stdin && !self.req.tty {
            self.stdin = None;
        }
    }

    pub fn flush_attached(&mut self, conn: u64) {
        if let Some(a) = self.attached.iter_mut().find(|a| a.conn == conn) {
            for sink in [&mut a.stdout, &mut a.stderr] {
                if sink.as_mut().is_some_and(|s| !s.flush()) {
                    *sink = None;
                }
            }
        }
    }

    /// Attaches with nothing left to tell; their connections get the end.
    pub fn finished_attaches(&mut self) -> Vec<u64> {
        let over = self.stdout.is_none() && self.stderr.is_none();
        let mut done = Vec::new();
        self.attached.retain(|a| {
            let nobody = a.stdin.is_none() && a.stdout.is_none() && a.stderr.is_none();
            let end = nobody || (over && a.drained());
            if end {
                done.push(a.conn);
            }
            !end
        });
        done
    }

    pub fn resize(&self, width: u16, height: u16) -> std::io::Result<()> {
        match (&self.stdin, self.req.tty) {
            (Some(m), true) => set_size(m.as_raw_fd(), width, height),
            _ => Ok(()),
        }
    }
}

fn set_size(fd: i32, width: u16, height: u16) -> std::io::Result<()> {
    let ws = libc::winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `ws` lives through the call; the descriptor is open.
    if unsafe { libc::ioctl(fd, libc::TIOCSWINSZ, &ws) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn wired(log: &std::path::Path) -> (Container, OwnedFd) {
        let req = RunRequest { id: "c".into(), log_path: log.display().to_string(), ..Default::default() };
        let mut c = Container::new(1, req).unwrap();
        let (r, w) = sys::pipe().unwrap();
        c.stdout = Some(Source::new(r, "stdout"));
        (c, w)
    }

    #[test]
    fn output_goes_to_log_and_readers_and_slow_readers_are_dropped() {
        let dir = std::env::temp_dir().join(format!("shim-test-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let log = dir.join("0.log");
        let (mut c, w) = wired(&log);
        let (fast_r, fast_w) = sys::pipe().unwrap();
        let (_slow_r, slow_w) = sys::pipe().unwrap();
        c.attached.push(Attach::new(1, None, Some(fast_w), None));
        c.attached.push(Attach::new(2, None, Some(slow_w), None));
        let mut buf = [0; 32 * 1024];
        let mut fast = File::from(fast_r);
        let mut seen = 0;
        for _ in 0..20 {
            nix::unistd::write(&w, &[b'x'; 32 * 1024]).unwrap();
            while c.pump(Which::Stdout, &mut buf) {}
            let mut b = vec![0; 32 * 1024];
            fast.read_exact(&mut b).unwrap();
            seen += b.len();
        }
        assert_eq!(seen, 20 * 32 * 1024);
        let by = |c: &Container, k: u64| c.attached.iter().any(|a| a.conn == k && a.stdout.is_some());
        assert!(by(&c, 1) && !by(&c, 2));
        drop(w);
        while c.pump(Which::Stdout, &mut buf) {}
        assert_eq!(c.finished_attaches(), [1, 2]);
        assert_eq!(std::fs::metadata(&log).unwrap().len(), c.rec.log_bytes);
        std::fs::rename(&log, dir.join("1.log")).unwrap();
        c.open_log().unwrap();
        assert_eq!(c.rec.log_bytes, 0);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
