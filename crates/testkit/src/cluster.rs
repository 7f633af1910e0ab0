//! One cluster of the real program. `KELSON` and `KUBECTL` name the binaries; what is not set is looked for beside the
//! test and on the path.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Host, busybox_archive, wait_for};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// What a command said.
#[derive(Debug, Clone)]
pub struct Output {
    pub ok: bool,
    /// `None`: it was ended by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

pub struct Cluster {
    child: Option<Child>,
    dir: PathBuf,
    port: u16,
    node: bool,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    /// Where it runs; `None`: here.
    host: Option<Host>,
    /// How often the log said "ready" before this start.
    starts: usize,
}

const READY: &str = "Kelson is ready";
pub(crate) const BUSYBOX: &str = "busybox:1.36";

/// What a program whose directory this is has said so far.
pub(crate) fn log_in(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("log")).unwrap_or_default()
}

/// Waits until a running program has said `words` more than `before` times; it must not end before.
pub(crate) fn said_again(child: &mut Option<Child>, what: &str, words: &str, before: usize, dir: &Path) {
    wait_for(&format!("{what} to be ready"), || {
        if let Some(child) = child.as_mut()
            && let Ok(Some(status)) = child.try_wait()
        {
            panic!("{what} ended with {status}:\n{}", log_in(dir));
        }
        log_in(dir).matches(words).count() > before
    });
}

/// Whether this machine lets us run containers; tests that need it say so when they skip.
pub fn node_possible() -> bool {
    nix::unistd::geteuid().is_root()
}

fn program(variable: &str, name: &str) -> PathBuf {
    if let Some(p) = std::env::var_os(variable) {
        return p.into();
    }
    // target/debug/deps/test-… stands beside target/debug/kelson.
    let beside = std::env::current_exe().ok().and_then(|e| Some(e.parent()?.parent()?.join(name)));
    beside.filter(|p| p.is_file()).unwrap_or_else(|| name.into())
}

/// The program under test.
pub fn kelson_path() -> PathBuf {
    program("KELSON", "kelson")
}

/// One command of the program.
pub fn kelson(args: &[&str]) -> Output {
    run(Command::new(kelson_path()).args(args), None)
}

impl Cluster {
    /// A control plane alone; with `KELSON_TEST_NODE=1` it has a node, so that the same tests hold in both shapes.
    pub fn control_plane() -> Self {
        if std::env::var("KELSON_TEST_NODE").is_ok_and(|v| v == "1")
            && let Some(c) = Self::with_node()
        {
            return c;
        }
        Self::start(false, &[])
    }

    /// A control plane alone, or one with a node but without images, started with more flags.
    pub fn with_flags(node: bool, flags: &[&str]) -> Self {
        Self::start(node, flags)
    }

    /// A control plane and a node with the image `busybox:1.36`; `None`, said on standard error, where containers can't
    /// run.
    pub fn with_node() -> Option<Self> {
        if !node_possible() {
            crate::skip("running containers needs root");
            return None;
        }
        let c = Self::start(true, &[]);
        c.import_busybox();
        Some(c)
    }

    pub fn import_busybox(&self) {
        import_busybox(&self.dir, &self.data(), BUSYBOX);
    }

    /// Busybox under another name, for pods whose image changes.
    pub fn import_busybox_as(&self, name: &str) {
        import_busybox(&self.dir, &self.data(), name);
    }

    /// Another control plane of the same cluster, with its keys; they meet in an etcd.
    pub fn beside(other: &Self, flags: &[&str]) -> Self {
        let mut c = Self::with_keys_of(other, flags);
        c.run();
        c
    }

    /// The same, not started yet.
    pub fn with_keys_of(other: &Self, flags: &[&str]) -> Self {
        let c = Self::new(false, flags);
        let (from, to) = (Path::new(&other.data()).join("pki"), PathBuf::from(c.data()));
        std::fs::create_dir_all(&to).expect("data directory");
        let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
        assert!(copied.is_ok_and(|s| s.success()), "failed to copy the keys");
        c
    }

    /// A control plane and a node on a machine of their own, with the image of `with_node`.
    pub fn on_host(host: &Host, flags: &[&str]) -> Self {
        Self::on_host_with(host, flags, &[])
    }

    /// The same with variables in its environment.
    pub fn on_host_with(host: &Host, flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut c = Self::new(true, flags);
        c.host = Some(host.clone());
        for (name, value) in variables {
            c.set_variable(name, value);
        }
        c.run();
        c.import_busybox();
        c
    }

    /// A control plane that `run` is to start, for a test that prepares its data directory.
    pub fn unstarted(flags: &[&str]) -> Self {
        Self::new(false, flags)
    }

    /// What it is started with from the next start on.
    pub fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|f| (*f).to_owned()).collect();
    }

    /// A variable of its environment from the next start on.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.environment.retain(|(n, _)| n != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    fn start(node: bool, flags: &[&str]) -> Self {
        let mut c = Self::new(node, flags);
        c.run();
        c
    }

    fn new(node: bool, flags: &[&str]) -> Self {
        let dir = directory();
        let port =
            TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr()).expect("a free port").port();
        let flags = flags.iter().map(|f| (*f).to_owned()).collect();
        let environment = Vec::new();
        Self { child: None, dir, port, node, flags, environment, host: None, starts: 0 }
    }

    /// Starts the program (again) on the same data.
    pub fn run(&mut self) {
        self.spawn();
        self.wait_ready();
    }

    /// The same without waiting until it is ready.
    pub fn spawn(&mut self) {
        self.starts = self.log().matches(READY).count();
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log")).expect("log");
        let (mut command, listen) = match &self.host {
            Some(host) => (host.command(kelson_path()), host.address.to_string()),
            None => (Command::new(kelson_path()), "0.0.0.0".to_owned()),
        };
        command
            .args([
                "server",
                "--data-dir",
                &self.data(),
                "--listen",
                &format!("{listen}:{}", self.port),
                "--node-name",
                "node-1",
                // A builder's disk is often nearly full, which is not what the tests are about.
                "--eviction-hard",
                "memory.available<50Mi",
            ])
            .args(&self.flags)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if !self.node {
            command.arg("--no-node");
        }
        self.child = Some(command.spawn().expect("start kelson; build it first"));
    }

    pub fn wait_ready(&mut self) {
        let (dir, starts) = (&self.dir, self.starts);
        said_again(&mut self.child, "kelson", READY, starts, dir);
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }
    /// Of the running program; 0 when it does not run.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }
    pub fn port(&self) -> u16 {
        self.port
    }
    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        let ip = self.host.as_ref().map_or(Ipv4Addr::LOCALHOST, |h| h.address);
        SocketAddr::from((ip, self.port))
    }
    pub fn data(&self) -> String {
        self.dir.join("data").to_string_lossy().into_owned()
    }
    pub fn log(&self) -> String {
        log_in(&self.dir)
    }
    pub fn kubeconfig(&self) -> String {
        format!("{}/admin.kubeconfig", self.data())
    }

    fn signal(&mut self, signal: Signal) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("pid"));
        let _ = kill(pid, signal);
        child.wait().ok()
    }
    /// SIGSTOP, until `resume`.
    pub fn pause(&self) {
        send(self.child.as_ref(), Signal::SIGSTOP);
    }
    pub fn resume(&self) {
        send(self.child.as_ref(), Signal::SIGCONT);
    }
    /// kill -9: nothing is said goodbye to.
    pub fn crash(&mut self) {
        self.signal(Signal::SIGKILL);
    }
    /// SIGTERM; how the program ended.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        self.signal(Signal::SIGTERM)
    }

    pub fn kelson(&self, args: &[&str]) -> Output {
        kelson(args)
    }

    /// kubectl against this cluster, for a test that needs its environment or its pipes.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("KUBECTL", "kubectl"));
        command
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", &self.dir)
            .env_remove("KUBECTL_EXTERNAL_DIFF")
            .args(args);
        command
    }

    /// kubectl, whatever it answers.
    pub fn try_kubectl(&self, args: &[&str], input: Option<&str>) -> Output {
        run(&mut self.command(args), input)
    }

    /// kubectl, which must succeed; its standard output.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let out = self.try_kubectl(args, None);
        assert!(
            out.ok,
            "kubectl {args:?} failed: {}\n{}\nthe cluster's log:\n{}",
            out.stderr,
            out.stdout,
            self.log_tail()
        );
        out.stdout
    }

    /// kubectl, which must fail; its standard error.
    pub fn kubectl_fails(&self, args: &[&str], input: Option<&str>) -> String {
        let out = self.try_kubectl(args, input);
        assert!(!out.ok, "kubectl {args:?} should have failed: {}", out.stdout);
        out.stderr
    }

    pub fn apply(&self, manifest: &str) -> String {
        let out = self.try_kubectl(&["apply", "-f", "-"], Some(manifest));
        assert!(out.ok, "kubectl apply failed: {}\n{manifest}", out.stderr);
        out.stdout
    }

    /// A node that exists in the API only: ready with room for pods, without a kubelet. It does not count when zones are
    /// judged, so that it may be the only one that is down.
    pub fn add_silent_node(&self, name: &str) {
        let label = "node.kubernetes.io/exclude-disruption: \"\"";
        self.apply(&format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{{label}}}}}\n"));
        let size = r#"{"cpu":"4","memory":"8Gi","pods":"110"}"#;
        let ready = r#"{"type":"Ready","status":"True","reason":"KubeletReady","lastHeartbeatTime":"2026-01-01T00:00:00Z"}"#;
        let status =
            format!(r#"{{"status":{{"capacity":{size},"allocatable":{size},"conditions":[{ready}]}}}}"#);
        self.kubectl(&["patch", "node", name, "--subresource=status", "--type=strategic", "-p", &status]);
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

/// A signal to a program that runs.
pub(crate) fn send(child: Option<&Child>, signal: Signal) {
    if let Some(pid) = child.and_then(|c| i32::try_from(c.id()).ok()) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command, input: Option<&str>) -> Output {
    command
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("failed to start {command:?}: {e}"));
    if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(text.as_bytes()).expect("write to the command");
    }
    let out = child.wait_with_output().expect("wait for the command");
    Output {
        ok: out.status.success(),
        code: out.status.code(),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

/// Brings the image onto the node whose data directory that is.
pub(crate) fn import_busybox(dir: &Path, data: &str, name: &str) {
    let archive = dir.join("busybox.tar");
    busybox_archive(&archive, &format!("docker.io/library/{name}"));
    let out = kelson(&["image", "import", "--data-dir", data, &archive.to_string_lossy()]);
    assert!(out.ok, "failed to import the image: {out:?}");
}

/// A directory of this test process; `scripts/e2e` knows it by its name.
pub(crate) fn directory() -> PathBuf {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("kelson-e2e-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("test directory");
    dir
}

/// Takes every trace of what ran on the data directory away.
pub(crate) fn clean(command: &mut Command, dir: &Path) {
    let data = dir.join("data");
    let out = run(command.args(["clean", "--data-dir", &data.to_string_lossy()]), None);
    if !out.ok {
        eprintln!("failed to clean up {}: {}", data.display(), out.stderr);
    }
    let _ = std::fs::remove_dir_all(dir);
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
        let mut command = match &self.host {
            Some(host) => host.command(kelson_path()),
            None => Command::new(kelson_path()),
        };
        clean(&mut command, &self.dir);
    }
}
