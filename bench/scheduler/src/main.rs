//! The scheduler on the shapes of upstream's scheduler_perf (test/integration/scheduler_perf): its core alone, without API
//! and store, or with `--url` through a real API. Pods a second, and how even the placement is; one row of JSON a shape.

mod shapes;
mod through;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use bench_load::client::{self, Pool};
use bench_load::process::Watched;
use clap::Parser;
use scheduler::core::{Cache, Outcome, PodInfo, schedule};
use serde_json::{Value, json};

#[derive(Parser)]
struct Args {
    #[arg(long, default_value_t = 5000)]
    nodes: usize,
    /// Pods that are measured, of each shape.
    #[arg(long, default_value_t = 10000)]
    pods: usize,
    /// Only shapes whose name holds this.
    #[arg(long, default_value = "")]
    only: String,
    #[arg(long)]
    json: Option<PathBuf>,
    /// `https://host:port` of an API server that a scheduler serves; its certificate is not verified.
    #[arg(long, requires_all = ["cert", "key"])]
    url: Option<String>,
    #[arg(long)]
    cert: Option<PathBuf>,
    #[arg(long)]
    key: Option<PathBuf>,
    /// NAME=PID of a process whose CPU counts.
    #[arg(long)]
    pid: Vec<String>,
}

/// Places a pod and counts it there.
fn place(cache: &mut Cache, pod: &PodInfo) -> Option<String> {
    match schedule(cache, pod) {
        Outcome::Node(node) => {
            cache.assume(pod, &node);
            Some(node)
        }
        Outcome::Unschedulable { .. } => None,
    }
}

fn run(shape: &shapes::Shape, args: &Args) -> anyhow::Result<Value> {
    let mut cache = Cache::default();
    for i in 0..args.nodes {
        cache.set_node(shapes::node(i)?);
    }
    for i in 0..shape.before {
        let pod = shapes::pod("init", i, &(shape.init)(i))?;
        place(&mut cache, &pod).context("an initial pod found no place")?;
    }
    let pods: Vec<PodInfo> = (0..args.pods.min(shape.most))
        .map(|i| shapes::pod("p", i, &(shape.measured)(i)))
        .collect::<Result<_, _>>()?;
    let began = Instant::now();
    let mut placed = 0usize;
    for pod in &pods {
        placed += usize::from(place(&mut cache, pod).is_some());
    }
    let took = began.elapsed().as_secs_f64();
    let rate = pods.len() as f64 / took;
    // How far the fullest node is above the emptiest, in pods: small is even.
    let counts = || cache.nodes().iter().map(|n| n.pods.len());
    let spread = counts().max().unwrap_or(0) - counts().min().unwrap_or(0);
    println!(
        "{:<28} {:>8} pods {:>10.0} a second {:>8.1} µs each  placed {placed}, spread {spread}",
        shape.name,
        pods.len(),
        rate,
        1e6 / rate
    );
    Ok(
        json!({"bench": "scheduler-core", "shape": shape.name, "nodes": args.nodes, "pods": pods.len(), "placed": placed,
        "pods_per_second": rate, "microseconds_per_pod": 1e6 / rate, "spread": spread}),
    )
}

async fn through(args: &Args, url: &str, shapes: &[&shapes::Shape]) -> anyhow::Result<Vec<Value>> {
    let (cert, key) = (args.cert.as_deref().context("--cert")?, args.key.as_deref().context("--key")?);
    let pool = Arc::new(Pool::new(url, client::tls(cert, key)?, 8).await?);
    let watched = args.pid.iter().map(|p| Watched::parse(p)).collect::<anyhow::Result<_>>()?;
    let world = through::World { pool, nodes: args.nodes, watched };
    world.prepare().await?;
    let mut rows = Vec::new();
    for (turn, shape) in shapes.iter().enumerate() {
        rows.push(world.run(shape, args.pods, turn).await.context(shape.name)?);
    }
    Ok(rows)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let all = shapes::all(args.nodes);
    let chosen: Vec<&shapes::Shape> = all.iter().filter(|s| s.name.contains(&args.only)).collect();
    let rows = match &args.url {
        Some(url) => through(&args, url, &chosen).await?,
        None => {
            let core = chosen.iter().filter(|s| s.apart.is_none() && s.goal > 0);
            core.map(|s| run(s, &args).context(s.name)).collect::<anyhow::Result<_>>()?
        }
    };
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&rows)?)
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}
