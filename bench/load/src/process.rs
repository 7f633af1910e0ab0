//! What a process used, from /proc.

use anyhow::{Context, Result};

pub struct Watched {
    pub name: String,
    pid: u32,
}

impl Watched {
    /// NAME=PID
    pub fn parse(text: &str) -> Result<Self> {
        let (name, pid) = text.split_once('=').context("--pid is NAME=PID")?;
        Ok(Self { name: name.to_owned(), pid: pid.parse().context("--pid is NAME=PID")? })
    }

    /// CPU seconds since its start, all threads.
    pub fn cpu(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .with_context(|| format!("{} (process {}) is gone", self.name, self.pid))?;
        // The name may hold anything, so fields count from its closing parenthesis.
        let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        // USER_HZ is 100 on every Linux that the benches run on.
        Ok(ticks as f64 / 100.0)
    }

    /// Its share of memory (PSS), MiB.
    pub fn memory(&self) -> Result<f64> {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid))?;
        let line = rollup.lines().find_map(|l| l.strip_prefix("Pss:")).context("Pss")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kib / 1024.0)
    }
}
