//! The load, the figures, the table.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;

use crate::{RECORD_BYTES, RECORDS};

pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// Something that answers puts when they are durable.
pub trait Candidate: Send + Sync {
    fn put(&self, key: String, value: Bytes) -> Answer<'_>;
    fn close(&self) -> Answer<'_>;
    /// Syncs of the log so far, where that can be told.
    fn syncs(&self) -> Option<u64>;
    /// Reads everything; answers the records found.
    fn read_all(&self) -> Result<usize>;
}

pub struct Load {
    name: String,
    tasks: usize,
    puts: f64,
    p50: f64,
    p99: f64,
    bytes: f64,
    syncs: Option<f64>,
    cpu: f64,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, tasks, puts, p50, p99, bytes, cpu, .. } = self;
        let syncs = self.syncs.map_or("-".into(), |s| format!("{s:.0}"));
        write!(f, "{name:>7} {tasks:>3} tasks: {puts:>8.0} puts/s, p50 {p50:.3} ms, p99 {p99:.2} ms, ")?;
        write!(f, "{bytes:.0} disk bytes and {cpu:.1} CPU us a put, {syncs} syncs/s")
    }
}

/// Bytes written to the device that holds a directory, by everybody.
fn device_bytes(dir: &Path) -> Result<u64> {
    let dev = std::fs::metadata(dir)?.dev();
    let (major, minor) = ((dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00));
    let stat = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat"))?;
    let sectors: u64 = stat.split_whitespace().nth(6).context("a short stat line")?.parse()?;
    Ok(sectors * 512)
}

/// CPU of this process and of its ended children, in microseconds. A running etcd is not in it.
fn cpu_us() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<u64> =
        stat.rsplit(')').next().unwrap_or("").split_whitespace().map(|f| f.parse().unwrap_or(0)).collect();
    fields.get(11..13).map_or(0, |t| t.iter().sum::<u64>() * 10_000)
}

pub async fn puts(
    name: &str,
    candidate: &Arc<dyn Candidate>,
    dir: &Path,
    tasks: usize,
    duration: Duration,
) -> Result<Load> {
    let value = Bytes::from(vec![b'v'; 1024]);
    let counter = Arc::new(AtomicU64::new(0));
    let (bytes, syncs, cpu) = (device_bytes(dir)?, candidate.syncs(), cpu_us());
    let start = Instant::now();
    let mut running = Vec::new();
    for _ in 0..tasks {
        let (candidate, value, counter) = (candidate.clone(), value.clone(), counter.clone());
        running.push(tokio::spawn(async move {
            let mut took = Vec::new();
            while start.elapsed() < duration {
                let n = counter.fetch_add(1, Ordering::Relaxed);
                let key = format!("/registry/pods/ns-{:02}/pod-{:06}", n % 40, n.wrapping_mul(7919) % 10_000);
                let before = Instant::now();
                candidate.put(key, value.clone()).await?;
                took.push(before.elapsed());
            }
            anyhow::Ok(took)
        }));
    }
    let mut took = Vec::new();
    for task in running {
        took.extend(task.await??);
    }
    let seconds = start.elapsed().as_secs_f64();
    took.sort_unstable();
    let n = took.len().max(1);
    let at =
        |q: f64| took.get(((n as f64 * q) as usize).min(n - 1)).map_or(0.0, |d| d.as_secs_f64() * 1000.0);
    Ok(Load {
        name: name.into(),
        tasks,
        puts: n as f64 / seconds,
        p50: at(0.5),
        p99: at(0.99),
        bytes: device_bytes(dir)?.saturating_sub(bytes) as f64 / n as f64,
        syncs: syncs.zip(candidate.syncs()).map(|(a, b)| (b - a) as f64 / seconds),
        cpu: (cpu_us() - cpu) as f64 / n as f64,
    })
}

/// 100,000 records of 2 KB.
pub async fn fill(candidate: &Arc<dyn Candidate>) -> Result<()> {
    let counter = Arc::new(AtomicU64::new(0));
    let mut running = Vec::new();
    for _ in 0..128 {
        let (candidate, counter) = (candidate.clone(), counter.clone());
        running.push(tokio::spawn(async move {
            loop {
                let n = counter.fetch_add(1, Ordering::Relaxed) as usize;
                if n >= RECORDS {
                    return anyhow::Ok(());
                }
                let value = Bytes::from(vec![(n % 251) as u8; RECORD_BYTES]);
                candidate.put(format!("/registry/pods/ns-{:02}/pod-{n:06}", n % 40), value).await?;
            }
        }));
    }
    for task in running {
        task.await??;
    }
    Ok(())
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|p| p.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// In the child: opens, reads all, tells milliseconds and resident bytes.
pub fn load_here(name: &str, open: impl Fn() -> Result<Option<Arc<dyn Candidate>>>) -> Result<()> {
    let before = resident();
    let start = Instant::now();
    let Some(candidate) = open()? else { return Ok(()) };
    let found = candidate.read_all()?;
    let ms = start.elapsed().as_secs_f64() * 1000.0;
    anyhow::ensure!(found == RECORDS, "{name} has {found} records");
    println!("{ms} {}", resident() - before);
    Ok(())
}

pub fn load_in_child(name: &str, dir: &Path, rows: &mut Vec<Row>) -> Result<()> {
    let mut times = Vec::new();
    let mut bytes = 0.0;
    for _ in 0..3 {
        let out = Command::new(std::env::current_exe()?).args(["--load", name, "--dir"]).arg(dir).output()?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let mut numbers = text.split_whitespace().filter_map(|w| w.parse::<f64>().ok());
        let context = || format!("{name} failed to load: {}", String::from_utf8_lossy(&out.stderr));
        times.push(numbers.next().with_context(context)?);
        bytes = numbers.next().with_context(context)?;
    }
    put(rows, "open and load 100,000 x 2 KB (warm)", "ms", name, median(&mut times));
    if name != "etcd" {
        let key = "/registry/pods/ns-00/pod-000000".len() + RECORD_BYTES;
        let over = bytes / RECORDS as f64 - key as f64;
        put(rows, "resident memory a record, beyond key and value", "bytes", name, over);
    }
    Ok(())
}

pub struct Row {
    pub bench: String,
    pub unit: &'static str,
    pub values: Vec<(String, f64)>,
}

impl Row {
    pub fn of(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(n, _)| n == name).map(|(_, v)| *v)
    }
}

fn put(rows: &mut Vec<Row>, bench: &str, unit: &'static str, name: &str, value: f64) {
    match rows.iter_mut().find(|r| r.bench == bench) {
        Some(row) => row.values.push((name.into(), value)),
        None => rows.push(Row { bench: bench.into(), unit, values: vec![(name.into(), value)] }),
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

pub fn rows(loads: &[Load]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut seen: Vec<(&str, usize)> = Vec::new();
    for load in loads {
        if !seen.contains(&(&load.name, load.tasks)) {
            seen.push((&load.name, load.tasks));
        }
    }
    type Figure = (&'static str, &'static str, fn(&Load) -> Option<f64>);
    let figures: [Figure; 6] = [
        ("durable 1 KB puts", "1/s", |l| Some(l.puts)),
        ("p50", "ms", |l| Some(l.p50)),
        ("p99", "ms", |l| Some(l.p99)),
        ("disk bytes a put", "bytes", |l| Some(l.bytes)),
        ("syncs", "1/s", |l| l.syncs),
        ("CPU a put, with the load itself", "us", |l| (l.name != "etcd").then_some(l.cpu)),
    ];
    for (bench, unit, figure) in figures {
        for (name, tasks) in &seen {
            let mine = loads.iter().filter(|l| l.name == *name && l.tasks == *tasks);
            let mut values: Vec<f64> = mine.filter_map(figure).collect();
            let value = match bench {
                "disk bytes a put" => values.iter().copied().fold(f64::INFINITY, f64::min),
                _ => median(&mut values),
            };
            if !values.is_empty() {
                put(&mut rows, &format!("{bench}, {tasks} tasks"), unit, name, value);
            }
        }
    }
    rows
}

pub fn table(rows: &[Row]) -> String {
    let names: Vec<&str> =
        crate::NAMES.into_iter().filter(|n| rows.iter().any(|r| r.of(n).is_some())).collect();
    let mut out = format!("| | unit | {} |\n|---|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for row in rows {
        let cells: Vec<String> = names
            .iter()
            .map(|n| match row.of(n) {
                Some(v) if v >= 100.0 => format!("{v:.0}"),
                Some(v) => format!("{v:.2}"),
                None => String::new(),
            })
            .collect();
        out.push_str(&format!("| {} | {} | {} |\n", row.bench, row.unit, cells.join(" | ")));
    }
    out
}
