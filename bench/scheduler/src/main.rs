//! The scheduler's core alone, on the shapes of upstream's scheduler_perf (test/integration/scheduler_perf): pods a second
//! that are decided and counted, without API and store, and how good the placement is. One row of JSON for each shape.

mod shapes;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
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
        let pod = shapes::pod(&format!("init-{i}"), &(shape.init)(i), i)?;
        place(&mut cache, &pod).context("an initial pod found no place")?;
    }
    let pods: Vec<PodInfo> = (0..args.pods.min(shape.most))
        .map(|i| shapes::pod(&format!("p-{i}"), &(shape.measured)(i), i))
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

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut rows = Vec::new();
    for shape in shapes::all(args.nodes).iter().filter(|s| s.name.contains(&args.only)) {
        rows.push(run(shape, &args).with_context(|| shape.name)?);
    }
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&rows)?)
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}
