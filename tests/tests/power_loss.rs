//! Power loss under load, end to end: the real program on files whose unsynced bytes are dropped and whose last write is torn,
//! sixteen writers over HTTP, values compared; and the same without fsync, which must be noticed.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use e2e::http::Proxy;
use e2e::power::{Before, Dice, cut, layer};
use e2e::writers::{Ledger, Writers};
use testkit::{kelson_path, wait_for};

const WRITERS: usize = 16;
/// Answered writes before the power goes.
const WRITES: usize = 300;

struct Machine {
    dir: PathBuf,
    layer: PathBuf,
    port: u16,
    child: Option<Child>,
    starts: usize,
}

impl Machine {
    fn new(name: &str) -> Option<Self> {
        let dir = std::env::temp_dir().join(format!("kelson-e2e-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).expect("test directory");
        let dir = fs::canonicalize(dir).expect("test directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let Some(layer) = layer(&dir) else {
            testkit::skip("the layer needs gcc");
            let _ = fs::remove_dir_all(&dir);
            return None;
        };
        Some(Self { dir, layer, port, child: None, starts: 0 })
    }
    fn root(&self) -> PathBuf {
        self.dir.join("data")
    }
    fn journal(&self) -> PathBuf {
        self.dir.join("journal")
    }
    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Whether the server came up; a refusal is an answer too.
    fn on(&mut self, fsync: bool) -> bool {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log")).expect("log");
        let mut command = Command::new(kelson_path());
        command
            .args(["server", "--no-node", "--listen", &format!("127.0.0.1:{}", self.port), "--data-dir"])
            .arg(self.root())
            .env("LD_PRELOAD", &self.layer)
            .env("POWER_ROOT", self.root())
            .env("POWER_JOURNAL", self.journal())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if !fsync {
            command.env("POWER_NOSYNC", "1");
        }
        self.child = Some(command.spawn().expect("start kelson; build it first"));
        self.starts += 1;
        let mut up = false;
        wait_for("the server to start or to refuse", || {
            up = self.log().matches("Kelson is ready").count() == self.starts;
            up || self.child.as_mut().is_none_or(|c| !matches!(c.try_wait(), Ok(None)))
        });
        up
    }

    /// The process is gone at once, and with it what was not on the disk.
    fn off(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn proxy(&self) -> Proxy {
        Proxy::start(&self.root().join("admin.kubeconfig"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.off();
        let out = testkit::kelson(&["clean", "--data-dir", &self.root().to_string_lossy()]);
        if !out.ok {
            eprintln!("failed to clean up: {}", out.stderr);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Writers at work until the power goes.
fn run_until_dark(m: &mut Machine, ledger: &Ledger, before: &Before, dice: &mut Dice) -> Ledger {
    let proxy = m.proxy();
    let writers: Writers = ledger.more_writers(proxy.address, WRITERS);
    wait_for("many answered writes", || writers.answered() >= WRITES);
    m.off();
    let ledger = writers.finish();
    drop(proxy);
    cut(&m.root(), &m.journal(), before, dice);
    fs::remove_file(m.journal()).expect("the journal");
    ledger
}

fn faults(m: &Machine, ledger: &Ledger) -> Vec<String> {
    ledger.faults(m.proxy().address)
}

fn seed() -> u64 {
    let seed = std::env::var("POWER_SEED").ok().and_then(|s| s.parse().ok());
    seed.unwrap_or(u64::from(std::process::id()) * 2_654_435_761 + 1)
}

#[test]
fn what_was_answered_is_there_after_a_power_loss() {
    let Some(mut m) = Machine::new("power") else { return };
    let seed = seed();
    let mut dice = Dice(seed);
    let mut ledger = Ledger::default();
    for round in 0..3 {
        let before = Before::of(&m.root());
        assert!(m.on(true), "seed {seed}, round {round}: the server does not start:\n{}", m.log());
        let found = faults(&m, &ledger);
        assert!(found.is_empty(), "seed {seed}, round {round}: {found:#?}");
        ledger.settle(m.proxy().address);
        ledger = run_until_dark(&mut m, &ledger, &before, &mut dice);
    }
    assert!(m.on(true), "seed {seed}: the server does not start:\n{}", m.log());
    let found = faults(&m, &ledger);
    assert!(found.is_empty(), "seed {seed}: {found:#?}");
    assert!(ledger.answered() > WRITES / 4, "{}", ledger.answered());
}

#[test]
fn without_fsync_the_loss_is_noticed() {
    let Some(mut m) = Machine::new("nosync") else { return };
    let mut dice = Dice(seed());
    let before = Before::of(Path::new(&m.root()));
    assert!(m.on(false), "{}", m.log());
    let ledger = run_until_dark(&mut m, &Ledger::default(), &before, &mut dice);
    let up = m.on(true);
    assert!(!up || !faults(&m, &ledger).is_empty(), "nothing was lost without a single fsync");
}
