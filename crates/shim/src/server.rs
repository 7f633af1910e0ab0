//! The shim's loop: connections, streams, helpers, children. One thread, one poll, nothing that waits for anybody.

use crate::cgroup::Hierarchies;
use crate::conn::Conn;
use crate::container::{Attach, Container, Source, Which};
use crate::launch::{self, Outcome, Stdio, Target};
use crate::log::now_ns;
use crate::protocol::*;
use crate::sys;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

struct Helper {
    pid: i32,
    sock: OwnedFd,
    conn: u64,
    seq: u64,
    /// The container it starts; `None` for an exec.
    container: Option<u64>,
}

struct ExecProc {
    pid: i32,
    conn: u64,
}

/// A control group to remove once its last process is gone.
struct Sweep {
    cgroup: String,
    tries: u32,
}

#[derive(Clone, Copy)]
enum Token {
    Listener,
    Signal,
    Conn(u64),
    Helper(i32),
    Out(u64, Which),
    Stdin(u64),
    AttachIn(u64, u64),
    AttachOut(u64, u64),
}

pub struct Server {
    dir: PathBuf,
    pause_pid: i32,
    listener: UnixListener,
    signals: SignalFd,
    groups: Hierarchies,
    conns: Vec<Conn>,
    containers: Vec<Container>,
    helpers: Vec<Helper>,
    execs: Vec<ExecProc>,
    /// Ended before their helper's word about them was read.
    unclaimed: Vec<(i32, i32)>,
    sweeps: Vec<Sweep>,
    shutdown: Option<(u64, u64)>,
    next_key: u64,
    buf: Vec<u8>,
}

fn error(code: ErrorCode, message: impl Into<String>) -> Reply {
    Reply::Error { code, message: message.into() }
}

fn no_container(id: &str) -> Reply {
    error(ErrorCode::NotFound, format!("container {id} is not known to its shim"))
}

impl Server {
    pub fn new(
        dir: PathBuf,
        _cfg: ShimConfig,
        pause_pid: i32,
        listener: UnixListener,
    ) -> Result<Self, String> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        // These must not end the shim: its containers would lose their keeper.
        [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().for_each(|s| mask.add(s));
        mask.thread_block().map_err(|e| format!("block signals: {e}"))?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map_err(|e| format!("watch signals: {e}"))?;
        let groups = Hierarchies::detect().map_err(|e| format!("find the cgroups: {e}"))?;
        let s = Server {
            dir,
            pause_pid,
            listener,
            signals,
            groups,
            conns: Vec::new(),
            containers: Vec::new(),
            helpers: Vec::new(),
            execs: Vec::new(),
            unclaimed: Vec::new(),
            sweeps: Vec::new(),
            shutdown: None,
            next_key: 1,
            buf: vec![0; 16 * 1024],
        };
        s.save(false).map_err(|e| format!("write {STATE}: {e}"))?;
        Ok(s)
    }

    fn key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    /// Atomic. Synced only for what a power loss must not take: how containers ended.
    fn save(&self, sync: bool) -> std::io::Result<()> {
        let pid = std::process::id().cast_signed();
        let state = ShimState {
            version: VERSION,
            pid,
            start_ticks: sys::start_ticks(pid).unwrap_or(0),
            pause_pid: self.pause_pid,
            containers: self.containers.iter().map(|c| c.rec.clone()).collect(),
        };
        let (tmp, path) = (self.dir.join(".shim-state.tmp"), self.dir.join(STATE));
        let f = std::fs::File::create(&tmp)?;
        serde_json::to_writer(std::io::BufWriter::new(&f), &state)?;
        if sync {
            f.sync_data()?;
        }
        std::fs::rename(&tmp, &path)?;
        if sync {
            std::fs::File::open(&self.dir)?.sync_all()?;
        }
        Ok(())
    }

    pub fn run(&mut self) -> i32 {
        loop {
            let (mut fds, tokens) = self.interest();
            let timeout = if self.sweeps.is_empty() { -1 } else { 20 };
            let n = libc::nfds_t::try_from(fds.len()).unwrap_or(0);
            // SAFETY: `fds` is a valid array of its own length.
            let ready = unsafe { libc::poll(fds.as_mut_ptr(), n, timeout) };
            if ready < 0 && nix::errno::Errno::last() != nix::errno::Errno::EINTR {
                return 1;
            }
            for (fd, token) in fds.iter().zip(tokens) {
                if fd.revents != 0 {
                    self.handle(token, fd.revents);
                }
            }
            self.tidy();
            if let Some((conn, seq)) = self.shutdown
                && self.containers.iter().all(|c| c.rec.phase == Phase::Exited)
                && self.helpers.is_empty()
            {
                self.sweep();
                self.reply(conn, seq, Reply::Ok);
                if self.pause_pid > 0 {
                    let _ = nix::sys::signal::kill(Pid::from_raw(self.pause_pid), Signal::SIGKILL);
                }
                return 0;
            }
        }
    }

    fn interest(&self) -> (Vec<libc::pollfd>, Vec<Token>) {
        let mut fds = Vec::with_capacity(8);
        let mut tokens = Vec::with_capacity(8);
        let mut add = |fd: RawFd, events: i16, t: Token| {
            fds.push(libc::pollfd { fd, events, revents: 0 });
            tokens.push(t);
        };
        add(self.signals.as_raw_fd(), libc::POLLIN, Token::Signal);
        for h in &self.helpers {
            add(h.sock.as_raw_fd(), libc::POLLIN, Token::Helper(h.pid));
        }
        for c in &self.containers {
            for (s, w) in [(&c.stdout, Which::Stdout), (&c.stderr, Which::Stderr)] {
                if let Some(s) = s {
                    add(s.fd.as_raw_fd(), libc::POLLIN, Token::Out(c.key, w));
                }
            }
            if let (Some(fd), false) = (&c.stdin, c.stdin_waiting.is_empty()) {
                add(fd.as_raw_fd(), libc::POLLOUT, Token::Stdin(c.key));
            }
            for a in &c.attached {
                if let (Some(fd), true) = (&a.stdin, c.stdin_waiting.is_empty()) {
                    add(fd.as_raw_fd(), libc::POLLIN, Token::AttachIn(c.key, a.conn));
                }
                for s in [&a.stdout, &a.stderr].into_iter().flatten() {
                    // Without events: an error alone tells that the reader has gone.
                    let ev = if s.waiting.is_empty() { 0 } else { libc::POLLOUT };
                    add(s.fd.as_raw_fd(), ev, Token::AttachOut(c.key, a.conn));
                }
            }
        }
        for c in &self.conns {
            let ev = if c.wants_write() { libc::POLLIN | libc::POLLOUT } else { libc::POLLIN };
            add(c.sock.as_raw_fd(), ev, Token::Conn(c.key));
        }
        add(self.listener.as_raw_fd(), libc::POLLIN, Token::Listener);
        (fds, tokens)
    }

    fn handle(&mut self, token: Token, revents: i16) {
        match token {
            Token::Listener => {
                while let Ok((sock, _)) = self.listener.accept() {
                    if sock.set_nonblocking(true).is_ok() {
                        let key = self.key();
                        self.conns.push(Conn::new(key, sock));
                    }
                }
            }
            Token::Signal => {
                while let Ok(Some(_)) = self.signals.read_signal() {}
                self.reap();
            }
            Token::Helper(pid) => self.helper_ready(pid, false),
            Token::Out(key, which) => {
                if let Some(c) = self.containers.iter_mut().find(|c| c.key == key) {
                    c.pump(which, &mut self.buf);
                }
            }
            Token::Stdin(key) => {
                if let Some(c) = self.containers.iter_mut().find(|c| c.key == key) {
                    c.flush_stdin();
                }
            }
            Token::AttachIn(key, conn) => {
                if let Some(c) = self.containers.iter_mut().find(|c| c.key == key) {
                    c.feed_stdin(conn, &mut self.buf);
                }
            }
            Token::AttachOut(key, conn) => {
                if let Some(c) = self.containers.iter_mut().find(|c| c.key == key) {
                    if revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0 {
                        self.end_attach(key, conn);
                    } else {
                        c.flush_attached(conn);
                    }
                }
            }
            Token::Conn(key) => {
                let Some(c) = self.conns.iter_mut().find(|c| c.key == key) else { return };
                if revents & libc::POLLOUT != 0 {
                    c.flush();
                }
                let requests = c.read(&mut self.buf);
                for (frame, fds) in requests {
                    self.request(key, frame.seq, frame.req, fds);
                }
            }
        }
    }

    fn end_attach(&mut self, container: u64, conn: u64) {
        if let Some(c) = self.containers.iter_mut().find(|c| c.key == container) {
            c.attached.retain(|a| a.conn != conn);
        }
        self.reply(conn, 0, Reply::ExecExited { code: 0 });
    }

    fn reply(&mut self, conn: u64, seq: u64, reply: Reply) {
        self.reply_fd(conn, seq, reply, None);
    }

    fn reply_fd(&mut self, conn: u64, seq: u64, reply: Reply, fd: Option<OwnedFd>) {
        if let Some(c) = self.conns.iter_mut().find(|c| c.key == conn) {
            c.send(seq, reply, fd);
        }
    }

    /// Ends what has nobody left: attaches that are through, connections that closed, empty control groups.
    fn tidy(&mut self) {
        let mut done = Vec::new();
        for c in &mut self.containers {
            if c.rec.phase != Phase::Starting && !c.attached.is_empty() {
                done.extend(c.finished_attaches());
            }
        }
        for conn in done {
            self.reply(conn, 0, Reply::ExecExited { code: 0 });
        }
        let dead: Vec<u64> = self.conns.iter().filter(|c| c.dead).map(|c| c.key).collect();
        for key in dead {
            self.conns.retain(|c| c.key != key);
            for c in &mut self.containers {
                let before = c.attached.len();
                c.attached.retain(|a| a.conn != key);
                if c.attached.len() != before && c.req.stdin_once && !c.req.tty {
                    c.close_stdin = true;
                    c.flush_stdin();
                }
            }
            for e in self.execs.iter().filter(|e| e.conn == key) {
                let _ = nix::sys::signal::kill(Pid::from_raw(e.pid), Signal::SIGKILL);
            }
        }
        self.sweep();
    }

    fn sweep(&mut self) {
        let groups = &self.groups;
        self.sweeps.retain_mut(|s| {
            s.tries += 1;
            groups.remove(&s.cgroup).is_err() && s.tries < 250
        });
    }

    fn request(&mut self, conn: u64, seq: u64, req: Request, fds: Vec<OwnedFd>) {
        let reply = match req {
            Request::Hello { .. } => Reply::Hello {
                version: VERSION,
                pid: std::process::id().cast_signed(),
                pause_pid: self.pause_pid,
            },
            Request::Subscribe => {
                if let Some(c) = self.conns.iter_mut().find(|c| c.key == conn) {
                    c.subscribed = true;
                }
                Reply::Ok
            }
            Request::Run(req) => match self.start(conn, seq, req) {
                Ok(()) => return,
                Err(e) => e,
            },
            Request::Exec(req) => match self.exec(conn, seq, &req, fds) {
                Ok(()) => return,
                Err(e) => e,
            },
            Request::Attach { id, stdin, stdout, stderr } => {
                self.attach(conn, &id, [stdin, stdout, stderr], fds)
            }
            Request::Signal { id, signal, all } => self.signal(&id, signal, all),
            Request::Resize { id, width, height } => self.with(&id, |c| match c.resize(width, height) {
                Ok(()) => Reply::Ok,
                Err(e) => error(ErrorCode::Internal, format!("resize the terminal: {e}")),
            }),
            Request::ReopenLog { id } => self.with(&id, |c| match c.open_log() {
                Ok(()) => Reply::Ok,
                Err(e) => error(ErrorCode::Internal, format!("open {}: {e}", c.req.log_path)),
            }),
            Request::List => {
                Reply::List { containers: self.containers.iter().map(|c| c.rec.clone()).collect() }
            }
            Request::Pids { id } => match self.containers.iter().find(|c| c.rec.id == id) {
                Some(c) => Reply::Pids { pids: self.groups.pids(&c.req.cgroup) },
                None => no_container(&id),
            },
            Request::Remove { id } => self.forget(&id),
            Request::Connect { port } => match connect(port) {
                Ok(fd) => return self.reply_fd(conn, seq, Reply::Ok, Some(fd)),
                Err(e) => error(ErrorCode::Internal, format!("connect to port {port} in the pod: {e}")),
            },
            Request::Shutdown => {
                self.shutdown = Some((conn, seq));
                let ids: Vec<String> = self.containers.iter().map(|c| c.rec.id.clone()).collect();
                ids.iter().for_each(|id| drop(self.signal(id, libc::SIGKILL, true)));
                return;
            }
        };
        self.reply(conn, seq, reply);
    }

    fn with(&mut self, id: &str, f: impl FnOnce(&mut Container) -> Reply) -> Reply {
        match self.containers.iter_mut().find(|c| c.rec.id == id) {
            Some(c) => f(c),
            None => no_container(id),
        }
    }

    fn forget(&mut self, id: &str) -> Reply {
        match self.containers.iter().position(|c| c.rec.id == id) {
            Some(i) if self.containers.get(i).is_some_and(|c| c.rec.phase == Phase::Exited) => {
                self.containers.remove(i);
                match self.save(false) {
                    Ok(()) => Reply::Ok,
                    Err(e) => error(ErrorCode::Internal, format!("write {STATE}: {e}")),
                }
            }
            Some(_) => error(ErrorCode::Invalid, format!("container {id} has not ended")),
            None => Reply::Ok,
        }
    }

    fn signal(&mut self, id: &str, signal: i32, all: bool) -> Reply {
        let Some(c) = self.containers.iter().find(|c| c.rec.id == id) else { return no_container(id) };
        if c.rec.phase != Phase::Running {
            return error(ErrorCode::NotRunning, format!("container {id} is not running"));
        }
        let Ok(sig) = Signal::try_from(signal) else {
            // Real-time signals have no name.
            // SAFETY: the pid is our own child's, not yet reaped.
            let r = unsafe { libc::kill(c.rec.pid, signal) };
            return if r == 0 { Reply::Ok } else { error(ErrorCode::Invalid, format!("no signal {signal}")) };
        };
        if all && !c.req.private_pid {
            for p in self.groups.pids(&c.req.cgroup) {
                let _ = nix::sys::signal::kill(Pid::from_raw(p), sig);
            }
        }
        let _ = nix::sys::signal::kill(Pid::from_raw(c.rec.pid), sig);
        Reply::Ok
    }

    fn helper_pair(&self) -> Result<(OwnedFd, OwnedFd), Reply> {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|e| error(ErrorCode::Internal, format!("make a socket pair: {e}")))
    }

    fn start(&mut self, conn: u64, seq: u64, req: RunRequest) -> Result<(), Reply> {
        if self.shutdown.is_some() {
            return Err(error(ErrorCode::Invalid, "the sandbox is being stopped"));
        }
        if self.containers.iter().any(|c| c.rec.id == req.id) {
            return Err(error(ErrorCode::Exists, format!("container {} exists", req.id)));
        }
        let key = self.key();
        let log = req.log_path.clone();
        let mut c = Container::new(key, req)
            .map_err(|e| error(ErrorCode::Internal, format!("open the log {log}: {e}")))?;
        let pipe = || sys::pipe().map_err(|e| error(ErrorCode::Internal, format!("make a pipe: {e}")));
        let mut stdio = Stdio::default();
        if !c.req.tty {
            let (r, w) = pipe()?;
            (c.stdout, stdio.stdout) = (Some(Source::new(r, "stdout")), Some(w));
            let (r, w) = pipe()?;
            (c.stderr, stdio.stderr) = (Some(Source::new(r, "stderr")), Some(w));
            if c.req.stdin {
                let (r, w) = pipe()?;
                let _ = sys::set_nonblocking(&w);
                (stdio.stdin, c.stdin) = (Some(r), Some(w));
            }
        }
        let (ours, theirs) = self.helper_pair()?;
        let (req, root) = (c.req.clone(), self.dir.join("lc"));
        let pid = sys::fork_child(move || launch::report(&theirs, launch::run(&req, &root, stdio)))
            .map_err(|e| error(ErrorCode::Internal, format!("fork: {e}")))?;
        self.containers.push(c);
        self.helpers.push(Helper { pid: pid.as_raw(), sock: ours, conn, seq, container: Some(key) });
        Ok(())
    }

    fn exec(&mut self, conn: u64, seq: u64, req: &ExecRequest, fds: Vec<OwnedFd>) -> Result<(), Reply> {
        let Some(c) = self.containers.iter().find(|c| c.rec.id == req.id) else {
            return Err(no_container(&req.id));
        };
        if c.rec.phase != Phase::Running {
            return Err(error(ErrorCode::NotRunning, format!("container {} is not running", req.id)));
        }
        let target = Target {
            pid: c.rec.pid,
            bundle: c.req.bundle.clone(),
            cgroup: c.req.cgroup.clone(),
            oom_score_adj: c.req.oom_score_adj,
        };
        let mut fds = fds.into_iter();
        let mut stdio = Stdio::default();
        if !req.tty {
            for (wanted, slot) in [
                (req.stdin, &mut stdio.stdin),
                (req.stdout, &mut stdio.stdout),
                (req.stderr, &mut stdio.stderr),
            ] {
                if wanted {
                    *slot = fds.next();
                }
            }
        }
        let (ours, theirs) = self.helper_pair()?;
        let groups = &self.groups;
        let pid = sys::fork_child(move || launch::report(&theirs, launch::exec(req, &target, groups, stdio)))
            .map_err(|e| error(ErrorCode::Internal, format!("fork: {e}")))?;
        self.helpers.push(Helper { pid: pid.as_raw(), sock: ours, conn, seq, container: None });
        Ok(())
    }

    fn attach(&mut self, conn: u64, id: &str, want: [bool; 3], fds: Vec<OwnedFd>) -> Reply {
        let mut fds = fds.into_iter();
        let [stdin, stdout, stderr] = want.map(|w| if w { fds.next() } else { None });
        self.with(id, |c| {
            if c.rec.phase == Phase::Exited {
                return error(ErrorCode::NotRunning, format!("container {id} is not running"));
            }
            let stdin = stdin.filter(|_| c.req.stdin || c.req.tty);
            let stderr = stderr.filter(|_| !c.req.tty);
            c.attached.push(Attach::new(conn, stdin, stdout, stderr));
            Reply::Ok
        })
    }

    /// Reads a helper's outcome. `ended`: it is dead, so silence is an answer too.
    fn helper_ready(&mut self, pid: i32, ended: bool) {
        let Some(i) = self.helpers.iter().position(|h| h.pid == pid) else { return };
        let h = self.helpers.swap_remove(i);
        let mut fds = Vec::new();
        let mut buf = vec![0; 16 * 1024];
        if ended {
            let _ = sys::set_nonblocking(&h.sock);
        }
        let n = sys::recv_with_fds(h.sock.as_fd(), &mut buf, &mut fds).unwrap_or(0);
        let outcome = serde_json::from_slice(buf.get(..n).unwrap_or_default()).unwrap_or_else(|_| Outcome {
            pid: 0,
            error: Some((ErrorCode::Internal, "the helper process died before it could answer".into())),
        });
        match h.container {
            Some(key) => self.started(&h, key, outcome, fds.pop()),
            None => self.exec_started(&h, outcome, fds.pop()),
        }
    }

    fn started(&mut self, h: &Helper, key: u64, outcome: Outcome, master: Option<OwnedFd>) {
        let Some(c) = self.containers.iter_mut().find(|c| c.key == key) else { return };
        c.rec.started_at = now_ns();
        let reply = match outcome.error {
            None => {
                c.rec.phase = Phase::Running;
                c.rec.pid = outcome.pid;
                if let Some(m) = master {
                    c.set_terminal(m);
                }
                Reply::Started { pid: outcome.pid, started_at: c.rec.started_at }
            }
            Some((code, message)) => {
                c.drain(&mut self.buf);
                c.close_streams();
                c.close_log();
                c.rec.phase = Phase::Exited;
                c.rec.exit_code = 128;
                c.rec.finished_at = c.rec.started_at;
                c.rec.error = message.clone();
                let _ = std::fs::remove_dir_all(self.dir.join("lc").join(&c.rec.id));
                self.sweeps.push(Sweep { cgroup: c.req.cgroup.clone(), tries: 0 });
                error(code, message)
            }
        };
        let _ = self.save(false);
        self.reply(h.conn, h.seq, reply);
        self.claim(outcome.pid);
        if self.shutdown.is_some()
            && let Some(id) = self.containers.iter().find(|c| c.key == key).map(|c| c.rec.id.clone())
        {
            self.signal(&id, libc::SIGKILL, true);
        }
    }

    fn exec_started(&mut self, h: &Helper, outcome: Outcome, master: Option<OwnedFd>) {
        match outcome.error {
            Some((code, message)) => self.reply(h.conn, h.seq, error(code, message)),
            None => {
                self.execs.push(ExecProc { pid: outcome.pid, conn: h.conn });
                if self.conns.iter().any(|c| c.key == h.conn) {
                    let started = Reply::Started { pid: outcome.pid, started_at: now_ns() };
                    self.reply_fd(h.conn, h.seq, started, master);
                } else {
                    let _ = nix::sys::signal::kill(Pid::from_raw(outcome.pid), Signal::SIGKILL);
                }
                self.claim(outcome.pid);
            }
        }
    }

    fn claim(&mut self, pid: i32) {
        if let Some(i) = self.unclaimed.iter().position(|(p, _)| *p == pid) {
            let (pid, code) = self.unclaimed.swap_remove(i);
            self.exited(pid, code);
        }
    }

    fn reap(&mut self) {
        let mut ended = Vec::new();
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(p, code)) => ended.push((p.as_raw(), code)),
                Ok(WaitStatus::Signaled(p, sig, _)) => ended.push((p.as_raw(), 128 + sig as i32)),
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(_) => {}
            }
        }
        // Helpers first: they name the processes that follow.
        for (pid, _) in &ended {
            self.helper_ready(*pid, true);
        }
        for (pid, code) in ended {
            self.exited(pid, code);
        }
        if self.helpers.is_empty() {
            self.unclaimed.clear();
        }
    }

    fn exited(&mut self, pid: i32, code: i32) {
        if let Some(i) = self.execs.iter().position(|e| e.pid == pid) {
            let e = self.execs.swap_remove(i);
            return self.reply(e.conn, 0, Reply::ExecExited { code });
        }
        if pid == self.pause_pid {
            self.pause_pid = 0;
            return;
        }
        let running = |c: &&mut Container| c.rec.pid == pid && c.rec.phase == Phase::Running;
        let Some(c) = self.containers.iter_mut().find(running) else {
            if !self.helpers.is_empty() && self.unclaimed.len() < 256 {
                self.unclaimed.push((pid, code));
            }
            return;
        };
        c.rec.finished_at = now_ns();
        if !c.req.private_pid {
            for p in self.groups.pids(&c.req.cgroup) {
                let _ = nix::sys::signal::kill(Pid::from_raw(p), Signal::SIGKILL);
            }
        }
        c.drain(&mut self.buf);
        c.close_streams();
        c.close_log();
        c.rec.phase = Phase::Exited;
        c.rec.exit_code = code;
        c.rec.oom_killed = code != 0 && self.groups.oom_kills(&c.req.cgroup) > 0;
        let rec = c.rec.clone();
        self.sweeps.push(Sweep { cgroup: c.req.cgroup.clone(), tries: 0 });
        let _ = std::fs::remove_dir_all(self.dir.join("lc").join(&rec.id));
        let _ = self.save(false);
        for c in self.conns.iter_mut().filter(|c| c.subscribed) {
            c.send(0, Reply::Exited { container: rec.clone() }, None);
        }
        // After the news is out: a daemon in the same boot doesn't need the disk.
        let _ = self.save(true);
    }
}

fn connect(port: u16) -> std::io::Result<OwnedFd> {
    use nix::sys::socket::{SockaddrIn, SockaddrIn6, connect, socket};
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let v4 = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    // In progress is fine: the daemon waits for it.
    match connect(v4.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)) {
        Ok(()) | Err(nix::errno::Errno::EINPROGRESS) => return Ok(v4),
        Err(_) => {}
    }
    let v6 = socket(AddressFamily::Inet6, SockType::Stream, flags, None)?;
    let addr = SockaddrIn6::from(std::net::SocketAddrV6::new(std::net::Ipv6Addr::LOCALHOST, port, 0, 0));
    match connect(v6.as_raw_fd(), &addr) {
        Ok(()) | Err(nix::errno::Errno::EINPROGRESS) => Ok(v6),
        Err(_) => Err(std::io::Error::from_raw_os_error(libc::ECONNREFUSED)),
    }
}
