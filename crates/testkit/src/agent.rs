//! A machine that joins a cluster: the real agent on a host of its own.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::{BUSYBOX, clean, directory, import_busybox, log_in, said_again, send};
use crate::{Host, kelson_path};

const READY: &str = "The Kelson agent is ready";

pub struct Agent {
    child: Option<Child>,
    dir: PathBuf,
    host: Host,
    node: String,
    starts: usize,
}

impl Agent {
    /// Joins with what `kelson token create` printed, and waits until it is ready; with the image of `Cluster::with_node`.
    pub fn join(host: &Host, node: &str, line: &str) -> Self {
        let mut a =
            Self { child: None, dir: directory(), host: host.clone(), node: node.to_owned(), starts: 0 };
        let words: Vec<&str> = line.split_whitespace().skip(2).collect();
        a.spawn(&words);
        a.wait_ready();
        import_busybox(&a.dir, &a.data(), BUSYBOX);
        a
    }

    /// Busybox under another name, for pods whose image changes.
    pub fn import_busybox_as(&self, name: &str) {
        import_busybox(&self.dir, &self.data(), name);
    }

    /// Starts it again, without the token.
    pub fn run(&mut self) {
        self.spawn(&[]);
        self.wait_ready();
    }

    pub fn spawn(&mut self, flags: &[&str]) {
        self.starts = self.log().matches(READY).count();
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log")).expect("log");
        let mut command = self.host.command(kelson_path());
        command
            .args(["agent", "--data-dir", &self.data(), "--node-name", &self.node])
            .args(["--eviction-hard", "memory.available<50Mi"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.child = Some(command.spawn().expect("start the agent"));
    }

    pub fn wait_ready(&mut self) {
        let (dir, starts) = (&self.dir, self.starts);
        said_again(&mut self.child, "the agent", READY, starts, dir);
    }

    pub fn data(&self) -> String {
        self.dir.join("data").to_string_lossy().into_owned()
    }
    pub fn log(&self) -> String {
        log_in(&self.dir)
    }
    pub fn host(&self) -> &Host {
        &self.host
    }

    fn signal(&mut self, signal: Signal) {
        if let Some(mut child) = self.child.take() {
            let _ = kill(Pid::from_raw(i32::try_from(child.id()).expect("pid")), signal);
            let _ = child.wait();
        }
    }
    /// SIGSTOP, until `resume`.
    pub fn pause(&self) {
        send(self.child.as_ref(), Signal::SIGSTOP);
    }
    pub fn resume(&self) {
        send(self.child.as_ref(), Signal::SIGCONT);
    }
    /// kill -9.
    pub fn crash(&mut self) {
        self.signal(Signal::SIGKILL);
    }
    /// SIGTERM.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop();
        clean(&mut self.host.command(kelson_path()), &self.dir);
    }
}
