//! What runs in a helper process between fork and exec: it makes a container (libcontainer) or joins one (exec).
//! The shim forks a helper for each, so that its own heap stays small, it never blocks on a slow start, and nothing
//! that goes wrong inside can leak into it. A helper sends one [`Outcome`] on its socket and ends; the process it made
//! becomes the shim's child (the shim is a subreaper).

use crate::cgroup::Hierarchies;
use crate::protocol::{ErrorCode, ExecRequest, RunRequest};
use crate::{seccomp, sys};
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::{SyscallType, create_syscall};
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::sched::{CloneFlags, setns};
use oci_spec::runtime::{Process, Spec};
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    pub pid: i32,
    pub error: Option<(ErrorCode, String)>,
}

type Launch = Result<(i32, Option<OwnedFd>), (ErrorCode, String)>;

/// Standard streams for the new process; with a terminal there are none.
#[derive(Default)]
pub struct Stdio {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

pub fn report(sock: &OwnedFd, launch: Launch) -> i32 {
    let (outcome, fd) = match launch {
        Ok((pid, fd)) => (Outcome { pid, error: None }, fd),
        Err(e) => (Outcome { pid: 0, error: Some(e) }, None),
    };
    let body = serde_json::to_vec(&outcome).unwrap_or_default();
    let fds: Vec<RawFd> = fd.iter().map(|f| f.as_raw_fd()).collect();
    i32::from(sys::send_with_fds(sock.as_fd(), &body, &fds).is_err())
}

fn internal(what: &str, e: impl std::fmt::Display) -> (ErrorCode, String) {
    (ErrorCode::Internal, format!("{what}: {e}"))
}

/// Makes and starts a container.
pub fn run(req: &RunRequest, lc_root: &Path, stdio: Stdio) -> Launch {
    sys::reset_signals();
    let (err_read, err_write) = sys::pipe().map_err(|e| internal("make a pipe", e))?;
    std::fs::create_dir_all(lc_root).map_err(|e| internal("make the state directory", e))?;
    let spec = load_spec(&req.bundle)?;
    // Read now: in the container's root its file is out of sight.
    let ready = seccomp::Ready::of(&spec).map_err(|e| internal("prepare the container", e))?;
    let mut b = ContainerBuilder::new(req.id.clone(), SyscallType::default())
        .with_executor(Exec { err: err_write.as_raw_fd(), ready })
        .with_root_path(lc_root)
        .map_err(|e| internal("open the state directory", e))?;
    let mut console = None;
    if req.tty {
        std::env::set_current_dir(&req.bundle).map_err(|e| internal("enter the bundle", e))?;
        let _ = std::fs::remove_file("console.sock");
        let l = std::os::unix::net::UnixListener::bind("console.sock")
            .map_err(|e| internal("make a socket", e))?;
        b = b.with_console_socket(Some(Path::new(&req.bundle).join("console.sock")));
        console = Some(l);
    } else {
        if let Some(fd) = stdio.stdin {
            b = b.with_stdin(fd);
        }
        if let Some(fd) = stdio.stdout {
            b = b.with_stdout(fd);
        }
        if let Some(fd) = stdio.stderr {
            b = b.with_stderr(fd);
        }
    }
    let built = b.as_init(&req.bundle).with_systemd(false).with_detach(true).build();
    let mut container = built.map_err(|e| (ErrorCode::Start, sys::chain(&e)))?;
    let pid = container.pid().map(|p| p.as_raw()).unwrap_or(0);
    if let Some(adj) = req.oom_score_adj {
        set_oom_score_adj(&pid.to_string(), adj);
    }
    let master = match &console {
        Some(l) => Some(receive_console(l).map_err(|e| internal("receive the terminal", e))?),
        None => None,
    };
    if let Err(e) = container.start() {
        kill(pid);
        return Err((ErrorCode::Start, sys::chain(&e)));
    }
    drop(err_write);
    match exec_error(err_read) {
        None => Ok((pid, master)),
        Some(e) => Err((ErrorCode::Start, e)),
    }
}

fn load_spec(bundle: &str) -> Result<Spec, (ErrorCode, String)> {
    Spec::load(Path::new(bundle).join("config.json")).map_err(|e| internal("read the spec", e))
}

fn kill(pid: i32) {
    if pid > 0 {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
    }
}

fn receive_console(l: &std::os::unix::net::UnixListener) -> Result<OwnedFd, String> {
    let (s, _) = l.accept().map_err(|e| e.to_string())?;
    let mut fds = Vec::new();
    sys::recv_with_fds(s.as_fd(), &mut [0; 64], &mut fds).map_err(|e| e.to_string())?;
    fds.pop().ok_or_else(|| "no descriptor came".to_string())
}

/// The other end closes without a word when exec succeeds.
fn exec_error(read: OwnedFd) -> Option<String> {
    let mut text = String::new();
    let _ = std::fs::File::from(read).read_to_string(&mut text);
    (!text.is_empty()).then_some(text)
}

/// A lower value than our own may be refused; then ours stays, which is the nearest allowed.
fn set_oom_score_adj(pid: &str, adj: i32) {
    let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), adj.to_string());
}

#[derive(Clone)]
struct Exec {
    err: RawFd,
    ready: Option<seccomp::Ready>,
}

impl Executor for Exec {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let args = spec.process().as_ref().and_then(|p| p.args().clone()).unwrap_or_default();
        let env: Vec<String> = std::env::vars_os()
            .filter_map(|(k, v)| Some(format!("{}={}", k.to_str()?, v.to_str()?)))
            .collect();
        let no_new_privs = spec.process().as_ref().and_then(Process::no_new_privileges) == Some(true);
        if let Some(ready) = &self.ready
            && let Err(e) = ready.apply(no_new_privs)
        {
            fail(self.err, &e);
        }
        fail(self.err, &execute(&args, &env))
    }

    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }
}

fn fail(err: RawFd, message: &str) -> ! {
    // SAFETY: `err` is the pipe's write end, open in this process until exec; `_exit` ends the process.
    unsafe {
        let fd = BorrowedFd::borrow_raw(err);
        let _ = nix::unistd::write(fd, message.as_bytes());
        libc::_exit(127)
    }
}

/// Replaces this process. Returns only to say why it couldn't, in upstream's words.
fn execute(args: &[String], env: &[String]) -> String {
    let Some(name) = args.first() else { return "no command specified".into() };
    let path = match look_up(name, env) {
        Ok(p) => p,
        Err(e) => return e,
    };
    let c = |s: &str| CString::new(s).map_err(|_| "an argument or variable holds a NUL byte".to_string());
    let build = || -> Result<_, String> {
        let argv: Result<Vec<_>, _> = args.iter().map(|a| c(a)).collect();
        let envp: Result<Vec<_>, _> = env.iter().map(|e| c(e)).collect();
        Ok((c(&path.to_string_lossy())?, argv?, envp?))
    };
    match build() {
        Ok((file, argv, envp)) => {
            let Err(e) = nix::unistd::execve(&file, &argv, &envp);
            format!("exec {}: {}", path.display(), e.desc().to_lowercase())
        }
        Err(e) => e,
    }
}

fn look_up(name: &str, env: &[String]) -> Result<PathBuf, String> {
    let usable = |p: &Path| -> Result<bool, std::io::Error> {
        let m = std::fs::metadata(p)?;
        Ok(!m.is_dir() && m.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        let p = PathBuf::from(name);
        return match usable(&p) {
            Ok(true) => Ok(p),
            Ok(false) => Err(format!("exec: {name:?}: permission denied")),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(format!("exec: {name:?}: stat {name}: no such file or directory"))
            }
            Err(e) => Err(format!("exec: {name:?}: {e}")),
        };
    }
    let path = env.iter().find_map(|e| e.strip_prefix("PATH=")).unwrap_or("");
    let dirs = path.split(':').map(|d| if d.is_empty() { "." } else { d });
    dirs.map(|d| Path::new(d).join(name))
        .find(|p| usable(p).unwrap_or(false))
        .ok_or_else(|| format!("exec: {name:?}: executable file not found in $PATH"))
}

/// What an exec needs to know about its container.
pub struct Target {
    pub pid: i32,
    pub bundle: String,
    pub cgroup: String,
    pub oom_score_adj: Option<i32>,
}

/// Starts one more process in a running container, under the container's own user, capabilities and seccomp filter.
/// (libcontainer's tenant builder drops the filter, so this is our own.)
pub fn exec(req: &ExecRequest, target: &Target, groups: &Hierarchies, stdio: Stdio) -> Launch {
    sys::reset_signals();
    let spec = load_spec(&target.bundle)?;
    let ready = seccomp::Ready::of(&spec).map_err(|e| internal("prepare the process", e))?;
    let process = spec.process().clone().ok_or_else(|| internal("read the spec", "it has no process"))?;
    let (err_read, err_write) = sys::pipe().map_err(|e| internal("make a pipe", e))?;
    groups
        .join(&target.cgroup, std::process::id())
        .map_err(|e| internal("enter the container's cgroup", e))?;
    if let Some(adj) = target.oom_score_adj {
        set_oom_score_adj("self", adj);
    }
    // SAFETY: a plain system call; the result is checked and owned here.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, target.pid, 0) };
    let raw = RawFd::try_from(raw).ok().filter(|r| *r >= 0);
    // SAFETY: the descriptor was just made for us.
    let pidfd = raw.map(|r| unsafe { OwnedFd::from_raw_fd(r) });
    let pidfd = pidfd.ok_or_else(|| (ErrorCode::NotRunning, "the container is not running".to_string()))?;
    let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWCGROUP;
    flags |= CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if other_user_ns(target.pid) {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    setns(&pidfd, flags).map_err(|e| internal("enter the container's namespaces", e))?;
    let tty = match req.tty {
        true => {
            Some(nix::pty::openpty(None, None).map_err(|e| internal("open a terminal in the container", e))?)
        }
        false => None,
    };
    let (slave, master) = tty.map_or((None, None), |t| (Some(t.slave), Some(t.master)));
    let err_fd = err_write.as_raw_fd();
    let master_fd = master.as_ref().map(|m| m.as_raw_fd());
    let child = sys::fork_child(|| {
        let text = become_process(&spec, &process, ready.as_ref(), &req.args, slave, master_fd, stdio);
        fail(err_fd, &text)
    });
    let child = child.map_err(|e| match e {
        nix::errno::Errno::ENOMEM => (ErrorCode::NotRunning, "the container is not running".to_string()),
        e => internal("fork", e),
    })?;
    drop(err_write);
    match exec_error(err_read) {
        None => Ok((child.as_raw(), master)),
        Some(e) => Err((ErrorCode::Start, e)),
    }
}

fn other_user_ns(pid: i32) -> bool {
    let ns = |p: &str| std::fs::read_link(format!("/proc/{p}/ns/user")).ok();
    ns(&pid.to_string()) != ns("self")
}

/// In the new process: returns only to say what failed.
fn become_process(
    spec: &Spec,
    process: &Process,
    ready: Option<&seccomp::Ready>,
    args: &[String],
    slave: Option<OwnedFd>,
    master: Option<RawFd>,
    stdio: Stdio,
) -> String {
    match prepare(spec, process, ready, slave, master, stdio) {
        Ok(env) => execute(args, &env),
        Err(e) => e,
    }
}

fn prepare(
    spec: &Spec,
    process: &Process,
    ready: Option<&seccomp::Ready>,
    slave: Option<OwnedFd>,
    master: Option<RawFd>,
    stdio: Stdio,
) -> Result<Vec<String>, String> {
    let err = |what: &str| {
        let what = what.to_string();
        move |e: nix::errno::Errno| format!("{what}: {}", e.desc())
    };
    nix::unistd::setsid().map_err(err("start a session"))?;
    let (uid, gid) = (process.user().uid(), process.user().gid());
    if let Some(fd) = master {
        // SAFETY: this process's own copy; the parent's is untouched.
        unsafe { libc::close(fd) };
    }
    match slave {
        Some(s) => {
            let _ = nix::unistd::fchown(&s, Some(uid.into()), None);
            // SAFETY: an ioctl without memory on an open terminal.
            unsafe { libc::ioctl(s.as_raw_fd(), libc::TIOCSCTTY, 0) };
            (0..3).try_for_each(|n| dup_to(s.as_fd(), n)).map_err(err("connect the terminal"))?;
        }
        None => {
            let null = nix::fcntl::open(
                "/dev/null",
                nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_CLOEXEC,
                nix::sys::stat::Mode::empty(),
            );
            for (n, fd) in [stdio.stdin, stdio.stdout, stdio.stderr].into_iter().enumerate() {
                let n = i32::try_from(n).unwrap_or(0);
                match (&fd, &null) {
                    (Some(fd), _) => dup_to(fd.as_fd(), n).map_err(err("connect a stream"))?,
                    (None, Ok(null)) => dup_to(null.as_fd(), n).map_err(err("connect a stream"))?,
                    (None, Err(_)) => {}
                }
            }
        }
    }
    for r in process.rlimits().iter().flatten() {
        let call = create_syscall();
        call.set_rlimit(r).map_err(|e| sys::chain(&e))?;
    }
    // SAFETY: plain system calls on values of our own.
    unsafe {
        libc::umask(process.user().umask().unwrap_or(0o022));
        if process.no_new_privileges() == Some(true) {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        }
        // Everything above the three streams goes at exec; the error pipe is needed until then.
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
    let chdir = nix::unistd::chdir(process.cwd());
    let groups: Vec<nix::unistd::Gid> =
        process.user().additional_gids().iter().flatten().map(|g| (*g).into()).collect();
    nix::unistd::setgroups(&groups).map_err(err("set the groups"))?;
    // SAFETY: as above.
    unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) };
    nix::unistd::setresgid(gid.into(), gid.into(), gid.into()).map_err(err("set the group"))?;
    nix::unistd::setresuid(uid.into(), uid.into(), uid.into()).map_err(err("set the user"))?;
    // SAFETY: as above.
    unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0) };
    if chdir.is_err() {
        nix::unistd::chdir(process.cwd()).map_err(err("enter the working directory"))?;
    }
    let call = create_syscall();
    libcontainer::capabilities::reset_effective(call.as_ref()).map_err(|e| sys::chain(&e))?;
    let late = process.no_new_privileges() == Some(true);
    match ready {
        Some(r) => r.apply(late)?,
        None => confine(spec, process, late)?,
    }
    let mut env = process.env().clone().unwrap_or_default();
    if !env.iter().any(|e| e.starts_with("HOME=")) {
        env.push(format!("HOME={}", home(uid)));
    }
    if process.terminal() != Some(true) && master.is_some() && !env.iter().any(|e| e.starts_with("TERM=")) {
        env.push("TERM=xterm".into());
    }
    Ok(env)
}

/// For a spec whose filter libcontainer has to compile.
fn confine(spec: &Spec, process: &Process, late: bool) -> Result<(), String> {
    let filter = spec.linux().as_ref().and_then(|l| l.seccomp().clone());
    let load = || {
        filter
            .as_ref()
            .map_or(Ok(None), libcontainer::seccomp::initialize_seccomp)
            .map_err(|e| sys::chain(&e))
    };
    if !late {
        load()?;
    }
    if let Some(c) = process.capabilities() {
        let call = create_syscall();
        libcontainer::capabilities::drop_privileges(c, call.as_ref()).map_err(|e| sys::chain(&e))?;
    }
    if late {
        load()?;
    }
    Ok(())
}

fn home(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = passwd.lines().map(|l| l.split(':')).find(|l| l.clone().nth(2) == Some(&uid.to_string()));
    line.and_then(|mut l| l.nth(5)).filter(|h| !h.is_empty()).unwrap_or("/").to_string()
}

fn dup_to(fd: BorrowedFd<'_>, n: RawFd) -> nix::Result<()> {
    // SAFETY: 0, 1 and 2 belong to this process, which is about to become another program.
    nix::errno::Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), n) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_programs_in_upstreams_words() {
        let env = ["PATH=/usr/bin:/bin".to_string()];
        assert!(look_up("sh", &env).is_ok());
        let e = |n: &str| look_up(n, &env).unwrap_err();
        assert_eq!(e("foo-none"), "exec: \"foo-none\": executable file not found in $PATH");
        assert_eq!(e("/none/x"), "exec: \"/none/x\": stat /none/x: no such file or directory");
        assert_eq!(e("/etc/passwd"), "exec: \"/etc/passwd\": permission denied");
    }
}
