//! Embedded engines side by side in one run: Kelson's own log, redb, fjall, and etcd where its binary is on PATH.
//! Durable puts of 1 KB at 1, 8 and 64 tasks, disk bytes and syncs, and the time to load 100,000 records of 2 KB.
//!
//! `bench-store [--dir DIR] [--seconds S] [--rounds N] [--json FILE]`. Candidates take turns within a round; the table
//! shows medians, for disk bytes the least (others on the machine only add). Spawns etcd and copies of itself.

mod etcd;
mod measure;
mod peers;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::measure::{Candidate, Load, Row};

const TASKS: [usize; 3] = [1, 8, 64];
/// `plain` is Kelson's engine without real-time scheduling of its commit thread, which the peers do not have either.
const NAMES: [&str; 5] = ["kelson", "plain", "redb", "fjall", "etcd"];
pub const RECORDS: usize = 100_000;
pub const RECORD_BYTES: usize = 2048;

struct Args {
    dir: PathBuf,
    seconds: f64,
    rounds: usize,
    json: Option<PathBuf>,
    load: Option<String>,
}

fn args() -> Result<Args> {
    let mut out = Args { dir: std::env::temp_dir(), seconds: 1.5, rounds: 3, json: None, load: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--dir" => out.dir = value.into(),
            "--seconds" => out.seconds = value.parse().context("--seconds takes a number")?,
            "--rounds" => out.rounds = value.parse().context("--rounds takes a number")?,
            "--json" => out.json = Some(value.into()),
            // For the copies this program starts of itself.
            "--load" => out.load = Some(value),
            _ => anyhow::bail!("unknown option {word}"),
        }
    }
    Ok(out)
}

fn open(name: &str, dir: &std::path::Path) -> Result<Option<Arc<dyn Candidate>>> {
    std::fs::create_dir_all(dir)?;
    Ok(match name {
        "kelson" => Some(Arc::new(peers::Kelson::open(dir, true)?)),
        "plain" => Some(Arc::new(peers::Kelson::open(dir, false)?)),
        "redb" => Some(Arc::new(peers::redb(dir)?)),
        "fjall" => Some(Arc::new(peers::fjall(dir)?)),
        "etcd" => etcd::Etcd::start(dir)?.map(|e| Arc::new(e) as Arc<dyn Candidate>),
        _ => None,
    })
}

fn main() -> Result<()> {
    let args = args()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let _guard = runtime.enter();
    if let Some(name) = &args.load {
        return measure::load_here(name, || open(name, &args.dir));
    }
    let work = tempfile::tempdir_in(&args.dir).context("the bench needs a directory to write in")?;
    let mut loads: Vec<Load> = Vec::new();
    for round in 0..args.rounds {
        for name in NAMES {
            let dir = work.path().join(format!("{name}-{round}"));
            let Some(candidate) = open(name, &dir)? else { continue };
            // What a fresh directory costs once is not a put's.
            runtime.block_on(measure::puts(name, &candidate, &dir, 64, Duration::from_millis(300)))?;
            for tasks in TASKS {
                let duration = Duration::from_secs_f64(args.seconds);
                let load = runtime.block_on(measure::puts(name, &candidate, &dir, tasks, duration))?;
                eprintln!("{load}");
                loads.push(load);
            }
            runtime.block_on(candidate.close())?;
            drop(candidate);
            std::fs::remove_dir_all(&dir)?;
        }
    }
    let mut rows = measure::rows(&loads);
    for name in NAMES {
        let dir = work.path().join(format!("{name}-fill"));
        let Some(candidate) = open(name, &dir)? else { continue };
        runtime.block_on(measure::fill(&candidate))?;
        runtime.block_on(candidate.close())?;
        drop(candidate);
        measure::load_in_child(name, &dir, &mut rows)?;
        std::fs::remove_dir_all(&dir)?;
    }
    print!("{}", measure::table(&rows));
    if let Some(path) = args.json {
        std::fs::write(&path, serde_json::to_vec_pretty(&json(&rows))?)?;
    }
    Ok(())
}

fn json(rows: &[Row]) -> serde_json::Value {
    let mut out = Vec::new();
    for row in rows {
        let Some(own) = row.of("kelson") else { continue };
        for (name, value) in row.values.iter().filter(|(name, _)| name != "kelson") {
            out.push(serde_json::json!({
                "bench": row.bench, "unit": row.unit, "kelson": own, "peer": value, "peer_name": name,
                "ratio": own / value,
            }));
        }
    }
    out.into()
}
