//! One load for any Kubernetes API server: objects of one resource are created, read, listed, changed and watched over
//! HTTP/2, at an offered rate or as fast as it goes. Each phase prints a line of JSON: rates, percentiles, and what the
//! processes named by `--pid` used of CPU and memory meanwhile. `bench/api` runs it against servers side by side.

mod objects;
mod phases;
mod plain;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Parser;

use bench_load::client::{self, Pool};
use bench_load::process::Watched;
use objects::Resource;
use phases::{Phase, Run};

#[derive(Parser)]
struct Args {
    /// `https://host:port`. The server's certificate is not verified.
    #[arg(long, required_unless_present = "plain", default_value = "")]
    url: String,
    #[arg(long)]
    cert: PathBuf,
    #[arg(long)]
    key: PathBuf,
    /// `v1/configmaps` or `group/version/plural`.
    #[arg(long, default_value = "v1/configmaps")]
    resource: String,
    /// Kind of the objects.
    #[arg(long, default_value = "ConfigMap")]
    kind: String,
    #[arg(long, default_value = "default")]
    namespace: String,
    /// HTTP/2 connections that the requests share.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Bytes of payload in an object.
    #[arg(long, default_value_t = 1024)]
    bytes: usize,
    /// Requests at one time where no rate is offered.
    #[arg(long, default_value_t = 64)]
    at_once: usize,
    /// Objects that are there already, from an earlier run.
    #[arg(long, default_value_t = 0)]
    there: usize,
    /// NAME=PID of a process whose CPU and memory count.
    #[arg(long)]
    pid: Vec<String>,
    /// Instead of any load: serves so many bytes for each request, as a limit to hold lists against.
    #[arg(long)]
    plain: Option<usize>,
    /// VERB[@RATE][~SECONDS][:COUNT]: fill, create, get, update, patch, apply, list (with a selector), nothing (a selector that
    /// matches nothing), all (the whole list), mix, watch (COUNT watchers, updates at RATE), idle (COUNT watchers, no updates).
    #[arg(required_unless_present = "plain")]
    phases: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(size) = args.plain {
        return plain::serve(&args.cert, &args.key, size).await;
    }
    let watched: Vec<Watched> = args.pid.iter().map(|p| Watched::parse(p)).collect::<Result<_>>()?;
    let phases: Vec<Phase> =
        args.phases.iter().map(|p| Phase::parse(p)).collect::<Result<_>>().context("a phase")?;
    let tls = client::tls(&args.cert, &args.key)?;
    let pool = Pool::new(&args.url, tls, args.connections).await?;
    let resource = Resource::parse(&args.resource, &args.kind, &args.namespace, args.bytes)?;
    let run = Arc::new(Run::new(pool, resource, args.at_once, args.there));
    for phase in phases {
        let line = phases::perform(&run, &phase, &watched).await.with_context(|| phase.text.clone())?;
        println!("{line}");
    }
    Ok(())
}
