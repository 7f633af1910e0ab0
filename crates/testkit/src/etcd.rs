//! A real etcd for tests, built from `tests/etcd` where Go is there. Ends with the value that holds it, and leaves nothing.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::tools::{self, Lack};
use crate::wait_for;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// One member.
pub struct Etcd {
    child: Option<Child>,
    dir: PathBuf,
    args: Vec<String>,
    port: u16,
    /// Of the health endpoint, which speaks plain HTTP.
    health: u16,
    scheme: &'static str,
    /// Where it listens.
    ip: Ipv4Addr,
}

pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr()).expect("a free port").port()
}

/// The program, or why it can't be had.
fn program() -> Result<PathBuf, Lack> {
    static PROGRAM: OnceLock<Result<PathBuf, Lack>> = OnceLock::new();
    let built = PROGRAM.get_or_init(|| {
        if let Some(path) = std::env::var_os("KELSON_ETCD") {
            return Ok(path.into());
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/etcd");
        let made = tools::target().join("tools/etcd");
        let age = |p: &Path| std::fs::metadata(p).and_then(|m| m.modified()).ok();
        let newest = [age(&source.join("main.go")), age(&source.join("go.sum"))].into_iter().max().flatten();
        if age(&made) <= newest {
            tools::go(&source, ".", &made)?;
        }
        Ok(made)
    });
    built.clone()
}

/// Whether there is one; where it can't be had, that is said on standard error.
pub fn have() -> bool {
    tools::have(program(), "etcd").is_some()
}

impl Etcd {
    /// A member alone; `None`, said on standard error, where it can't be had.
    pub fn start() -> Option<Self> {
        Self::with(&[])
    }

    /// The same with more flags. With `--cert-file` it speaks TLS.
    pub fn with(flags: &[&str]) -> Option<Self> {
        Self::cluster(1, flags)?.pop()
    }

    /// Several members of one cluster.
    pub fn cluster(members: usize, flags: &[&str]) -> Option<Vec<Self>> {
        Self::cluster_at(Ipv4Addr::LOCALHOST, members, flags)
    }

    /// The same at an address of this machine that others reach.
    pub fn cluster_at(ip: Ipv4Addr, members: usize, flags: &[&str]) -> Option<Vec<Self>> {
        if !have() {
            return None;
        }
        let peers: Vec<u16> = (0..members).map(|_| free_port()).collect();
        let url = |i: usize| format!("http://127.0.0.1:{}", peers[i]);
        let all: Vec<String> = (0..members).map(|i| format!("m{i}={}", url(i))).collect();
        let scheme = if flags.iter().any(|f| f.starts_with("--cert-file")) { "https" } else { "http" };
        let mut out: Vec<Self> = (0..members)
            .map(|i| {
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                let name = format!("kelson-etcd-{}-{number}", std::process::id());
                let dir = std::env::temp_dir().join(name);
                let (port, health) = (free_port(), free_port());
                let client = format!("{scheme}://{ip}:{port}");
                let mut args: Vec<String> = [
                    ("name", format!("m{i}")),
                    ("data-dir", dir.to_string_lossy().into_owned()),
                    ("listen-client-urls", client.clone()),
                    ("advertise-client-urls", client),
                    ("listen-peer-urls", url(i)),
                    ("initial-advertise-peer-urls", url(i)),
                    ("initial-cluster", all.join(",")),
                    ("listen-metrics-urls", format!("http://127.0.0.1:{health}")),
                    ("log-level", "error".to_owned()),
                    ("unsafe-no-fsync", "true".to_owned()),
                ]
                .into_iter()
                .map(|(flag, value)| format!("--{flag}={value}"))
                .collect();
                args.extend(flags.iter().map(|f| (*f).to_owned()));
                Self { child: None, dir, args, port, health, scheme, ip }
            })
            .collect();
        out.iter_mut().for_each(Self::spawn);
        out.iter().for_each(Self::wait);
        Some(out)
    }

    fn spawn(&mut self) {
        let program = program().expect("looked at before");
        let child = Command::new(program)
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("start etcd"));
    }

    fn wait(&self) {
        wait_for("etcd to be healthy", || {
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.health)) else { return false };
            let mut answer = String::new();
            let _ = stream.write_all(b"GET /health HTTP/1.0\r\n\r\n");
            let _ = stream.read_to_string(&mut answer);
            answer.starts_with("HTTP/1.0 200")
        });
    }

    /// kill -9.
    pub fn crash(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Whether it was started and not ended.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Starts it again on its data.
    pub fn run(&mut self) {
        self.crash();
        self.spawn();
        self.wait();
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("{}://{}:{}", self.scheme, self.ip, self.port)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.crash();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
