//! The shim's first milliseconds: leave the daemon's process tree, make the pod's namespaces, bind the socket, say
//! "ready". Spawns the shim itself and, when containers share a PID namespace, the pause process.

use crate::protocol::{CONFIG, SOCKET, ShimConfig, VERSION};
use crate::{server, sys};
use nix::sched::{CloneFlags, setns, unshare};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

pub fn start(dir: &Path) -> Result<(), String> {
    std::env::set_current_dir(dir).map_err(|e| format!("enter {}: {e}", dir.display()))?;
    let dir = std::env::current_dir().map_err(|e| format!("find the working directory: {e}"))?;
    let (read, write) = sys::pipe().map_err(|e| format!("make a pipe: {e}"))?;
    sys::fork_child(move || shim(&dir, write)).map_err(|e| format!("fork: {e}"))?;
    let mut answer = String::new();
    std::fs::File::from(read).read_to_string(&mut answer).map_err(|e| format!("wait for the shim: {e}"))?;
    match answer.as_str() {
        "ready" => Ok(()),
        "" => Err("the shim ended before it was ready".into()),
        e => Err(e.to_string()),
    }
}

fn shim(dir: &Path, ready: OwnedFd) -> i32 {
    match prepare() {
        Ok((cfg, pause_pid, listener)) => {
            let srv = server::Server::new(dir.to_path_buf(), cfg, pause_pid, listener);
            let mut srv = match srv {
                Ok(s) => s,
                Err(e) => return say(&ready, &e, 1),
            };
            say(&ready, "ready", 0);
            drop(ready);
            srv.run()
        }
        Err(e) => say(&ready, &e, 1),
    }
}

fn say(to: &OwnedFd, text: &str, code: i32) -> i32 {
    let _ = nix::unistd::write(to, text.as_bytes());
    code
}

fn prepare() -> Result<(ShimConfig, i32, UnixListener), String> {
    let text = std::fs::read(CONFIG).map_err(|e| format!("read {CONFIG}: {e}"))?;
    let cfg: ShimConfig = serde_json::from_slice(&text).map_err(|e| format!("parse {CONFIG}: {e}"))?;
    if cfg.version != VERSION {
        return Err(format!("{CONFIG} has version {}, this shim speaks {VERSION}", cfg.version));
    }
    nix::unistd::setsid().map_err(|e| format!("start a session: {e}"))?;
    redirect_streams().map_err(|e| format!("redirect the standard streams: {e}"))?;
    // SAFETY: prctl without pointers, or with a static string.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_NAME, c"kelson-shim".as_ptr());
    }
    namespaces(&cfg)?;
    let pause_pid = if cfg.shared_pid { spawn_pause()? } else { 0 };
    let _ = std::fs::remove_file(SOCKET);
    let listener = UnixListener::bind(SOCKET).map_err(|e| format!("bind {SOCKET}: {e}"))?;
    listener.set_nonblocking(true).map_err(|e| format!("set up {SOCKET}: {e}"))?;
    Ok((cfg, pause_pid, listener))
}

/// The daemon waits for the end of our stdout and stderr; a panic's words go to a file.
fn redirect_streams() -> Result<(), std::io::Error> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let err = std::fs::OpenOptions::new().append(true).create(true).open("shim.log")?;
    for (fd, n) in [(&null, 0), (&null, 1), (&err, 2)] {
        // SAFETY: replaces this process's standard streams with open files.
        if unsafe { libc::dup2(fd.as_raw_fd(), n) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

fn namespaces(cfg: &ShimConfig) -> Result<(), String> {
    let mut flags = CloneFlags::empty();
    if !cfg.host_ipc {
        flags |= CloneFlags::CLONE_NEWIPC;
    }
    if !cfg.hostname.is_empty() {
        flags |= CloneFlags::CLONE_NEWUTS;
    }
    if !flags.is_empty() {
        unshare(flags).map_err(|e| format!("make the pod's namespaces: {e} (is this root?)"))?;
    }
    if !cfg.netns.is_empty() {
        let f = std::fs::File::open(&cfg.netns).map_err(|e| format!("open {}: {e}", cfg.netns))?;
        setns(&f, CloneFlags::CLONE_NEWNET).map_err(|e| format!("enter {}: {e}", cfg.netns))?;
    }
    if !cfg.hostname.is_empty() {
        nix::unistd::sethostname(&cfg.hostname).map_err(|e| format!("set the host name: {e}"))?;
    }
    for (k, v) in &cfg.sysctls {
        let path = format!("/proc/sys/{}", k.replace('.', "/"));
        if k.contains("..") {
            return Err(format!("sysctl {k:?} is no valid name"));
        }
        std::fs::write(&path, v).map_err(|e| format!("set sysctl {k}={v}: {e}"))?;
    }
    Ok(())
}

/// The first process of a PID namespace that all the pod's containers join. A helper makes the namespace, so that the
/// shim's later children are not born into it.
fn spawn_pause() -> Result<i32, String> {
    let (read, write) = sys::pipe().map_err(|e| format!("make a pipe: {e}"))?;
    let helper = sys::fork_child(move || {
        if unshare(CloneFlags::CLONE_NEWPID).is_err() {
            return 1;
        }
        match sys::fork_child(pause) {
            Ok(p) => i32::from(nix::unistd::write(&write, &p.as_raw().to_ne_bytes()).is_err()),
            Err(_) => 1,
        }
    });
    let helper = helper.map_err(|e| format!("fork: {e}"))?;
    let mut pid = [0; 4];
    let got = std::fs::File::from(read).read_exact(&mut pid);
    let _ = nix::sys::wait::waitpid(helper, None);
    got.map_err(|e| format!("make the shared PID namespace: {e}"))?;
    Ok(i32::from_ne_bytes(pid))
}

/// Does nothing but reap what is orphaned in its namespace.
fn pause() -> i32 {
    // SAFETY: plain system calls; the handlers are the kernel's own.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"pause".as_ptr());
        libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
        // Ignored children leave no zombies.
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        loop {
            libc::pause();
        }
    }
}
