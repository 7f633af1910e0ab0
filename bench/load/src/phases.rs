//! The phases: which requests, at which rate, and the line that each ends with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use rand::Rng;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::objects::{GROUPS, Resource, version_of};
use bench_load::client::{Pool, open};
use bench_load::pace::{Outcome, closed, offered};
use bench_load::process::Watched;

/// Streams of watches on one connection: servers allow a hundred.
const WATCHES: usize = 50;

/// VERB[@RATE][~SECONDS][:COUNT]
#[derive(Debug, PartialEq)]
pub struct Phase {
    pub text: String,
    verb: String,
    rate: Option<f64>,
    seconds: Option<f64>,
    count: Option<usize>,
}

impl Phase {
    pub fn parse(text: &str) -> Result<Self> {
        let mut rest = text;
        let mut cut = |mark: char| match rest.rsplit_once(mark) {
            Some((before, after)) => {
                rest = before;
                Some(after)
            }
            None => None,
        };
        let count = cut(':').map(str::parse).transpose().context("COUNT")?;
        let seconds = cut('~').map(str::parse).transpose().context("SECONDS")?;
        let rate = cut('@').map(str::parse).transpose().context("RATE")?;
        ensure!(rate.is_none_or(|r: f64| r > 0.0), "a rate is above zero");
        Ok(Self { text: text.to_owned(), verb: rest.to_owned(), rate, seconds, count })
    }
    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.unwrap_or(5.0))
    }
}

/// What the phases of one run share: which objects there are, and their versions.
pub struct Run {
    pool: Pool,
    resource: Resource,
    at_once: usize,
    made: AtomicUsize,
    turn: AtomicU64,
    versions: Vec<AtomicU64>,
}

/// Objects that one run can know.
const OBJECTS: usize = 2_000_000;

impl Run {
    pub fn new(pool: Pool, resource: Resource, at_once: usize, there: usize) -> Self {
        let versions = std::iter::repeat_with(AtomicU64::default).take(OBJECTS).collect();
        Self { pool, resource, at_once, made: AtomicUsize::new(there), turn: AtomicU64::new(1), versions }
    }

    fn any(&self) -> usize {
        rand::rng().random_range(0..self.made.load(Ordering::Relaxed).max(1))
    }

    async fn write(&self, n: usize, method: Method, path: &str, content: &str, body: Bytes) -> Result<u64> {
        let answer = self.pool.send(method, path, content, body).await?;
        if let Some(v) = self.versions.get(n) {
            v.store(version_of(&answer), Ordering::Relaxed);
        }
        Ok(answer.len() as u64)
    }

    async fn create(&self) -> Result<u64> {
        let n = self.made.fetch_add(1, Ordering::Relaxed);
        let (path, body) = (self.resource.path.clone(), self.resource.body(n, 0, 0));
        self.write(n, Method::POST, &path, "application/json", body).await
    }

    async fn get(&self) -> Result<u64> {
        let path = self.resource.item(self.any());
        Ok(self.pool.send(Method::GET, &path, "", Bytes::new()).await?.len() as u64)
    }

    /// Objects in turn, so that no two updates of one object are under way together.
    async fn update(&self) -> Result<u64> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let n = (turn as usize).wrapping_mul(7919) % self.made.load(Ordering::Relaxed).max(1);
        let path = self.resource.item(n);
        let mut version = self.versions.get(n).map_or(0, |v| v.load(Ordering::Relaxed));
        if version == 0 {
            version = version_of(&self.pool.send(Method::GET, &path, "", Bytes::new()).await?);
        }
        let body = self.resource.body(n, turn, version);
        self.write(n, Method::PUT, &path, "application/json", body).await
    }

    async fn patch(&self) -> Result<u64> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let n = (turn as usize).wrapping_mul(7919) % self.made.load(Ordering::Relaxed).max(1);
        let path = self.resource.item(n);
        self.write(n, Method::PATCH, &path, "application/merge-patch+json", Resource::patch(turn)).await
    }

    async fn apply(&self) -> Result<u64> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let n = (turn as usize).wrapping_mul(7919) % self.made.load(Ordering::Relaxed).max(1);
        let path = format!("{}?fieldManager=load&force=true", self.resource.item(n));
        let body = self.resource.body(n, turn, 0);
        self.write(n, Method::PATCH, &path, "application/apply-patch+yaml", body).await
    }

    async fn list(&self, query: String) -> Result<u64> {
        let path = format!("{}{query}", self.resource.path);
        Ok(self.pool.send(Method::GET, &path, "", Bytes::new()).await?.len() as u64)
    }

    async fn request(&self, verb: Verb) -> Result<u64> {
        match verb {
            Verb::Create => self.create().await,
            Verb::Get => self.get().await,
            Verb::Update => self.update().await,
            Verb::Patch => self.patch().await,
            Verb::Apply => self.apply().await,
            Verb::List => {
                let group = rand::rng().random_range(0..GROUPS);
                self.list(format!("?limit=500&labelSelector=group%3Dg{group}")).await
            }
            Verb::Nothing => self.list("?labelSelector=group%3Dnone".into()).await,
            Verb::All => self.list(String::new()).await,
            // As clusters see it: mostly reads of single objects and changes of status, few creates.
            Verb::Mix => {
                let of = match rand::rng().random_range(0..100) {
                    0..40 => Verb::Get,
                    40..45 => Verb::List,
                    45..70 => Verb::Update,
                    70..88 => Verb::Patch,
                    88..94 => Verb::Apply,
                    _ => Verb::Create,
                };
                match Box::pin(self.request(of)).await {
                    // Two changes of one object at a time: in a cluster, too, one of them tries again later.
                    Err(e) if e.to_string().starts_with("409") => Ok(0),
                    other => other,
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Verb {
    Create,
    Get,
    Update,
    Patch,
    Apply,
    List,
    Nothing,
    All,
    Mix,
}

fn verb(name: &str) -> Result<Verb> {
    Ok(match name {
        "create" | "fill" => Verb::Create,
        "get" => Verb::Get,
        "update" => Verb::Update,
        "patch" => Verb::Patch,
        "apply" => Verb::Apply,
        "list" => Verb::List,
        "nothing" => Verb::Nothing,
        "all" => Verb::All,
        "mix" => Verb::Mix,
        other => bail!("{other}: no such verb"),
    })
}

/// Watchers of the whole collection; each gives the events and bytes that reached it.
struct Watchers {
    tasks: JoinSet<Result<()>>,
    events: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

impl Watchers {
    async fn open(run: &Run, count: usize) -> Result<Self> {
        let page =
            run.pool.send(Method::GET, &format!("{}?limit=1", run.resource.path), "", Bytes::new()).await?;
        let version = version_of(&page);
        let mut w = Self { tasks: JoinSet::new(), events: Arc::default(), bytes: Arc::default() };
        let path = format!("{}?watch=true&resourceVersion={version}&timeoutSeconds=3600", run.resource.path);
        let mut sender = run.pool.connect().await?;
        for n in 0..count {
            if n > 0 && n % WATCHES == 0 {
                sender = run.pool.connect().await?;
            }
            let mut body = open(&mut sender, run.pool.request(Method::GET, &path, "", Bytes::new())?).await?;
            let (events, bytes) = (w.events.clone(), w.bytes.clone());
            w.tasks.spawn(async move {
                while let Some(frame) = body.frame().await {
                    let frame = frame?;
                    if let Some(data) = frame.data_ref() {
                        // An event is a line.
                        let lines = data.iter().filter(|b| **b == b'\n').count() as u64;
                        events.fetch_add(lines, Ordering::Relaxed);
                        bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                    }
                }
                bail!("the server ended a watch")
            });
        }
        Ok(w)
    }
    /// Until so many events came, all together.
    async fn delivered(&mut self, events: u64) -> Result<()> {
        while self.events.load(Ordering::Relaxed) < events {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
                Some(ended) = self.tasks.join_next() => ended??,
            }
        }
        Ok(())
    }
}

pub async fn perform(run: &Arc<Run>, phase: &Phase, watched: &[Watched]) -> Result<Value> {
    let memory = || -> Result<Vec<f64>> { watched.iter().map(Watched::memory).collect() };
    let cpu = || -> Result<Vec<f64>> { watched.iter().map(Watched::cpu).collect() };
    let started_with = memory()?;
    let mut watchers = match phase.verb.as_str() {
        "watch" | "idle" => {
            Some(Watchers::open(run, phase.count.context("how many watchers, :COUNT")?).await?)
        }
        _ => None,
    };
    let before = cpu()?;
    let outcome = match phase.verb.as_str() {
        "idle" => {
            tokio::time::sleep(phase.time()).await;
            Outcome { seconds: phase.time().as_secs_f64(), ..Default::default() }
        }
        "watch" => paced(run, Verb::Update, phase).await,
        "fill" => {
            let (run, count) = (run.clone(), phase.count.context("how many objects, :COUNT")?);
            let at_once = run.at_once;
            closed(at_once, None, count, move |_| {
                let run = run.clone();
                async move { run.create().await }
            })
            .await
        }
        other => paced(run, verb(other)?, phase).await,
    };
    ensure!(outcome.failed == 0, "{} requests failed; the first: {}", outcome.failed, outcome.why);
    let done = outcome.times.len() as u64;
    let mut line = json!({
        "phase": phase.verb,
        "offered": phase.rate,
        "there": run.made.load(Ordering::Relaxed),
        "done": done,
        "seconds": outcome.seconds,
        "per_second": done as f64 / outcome.seconds,
        "mb_per_second": outcome.bytes as f64 / 1e6 / outcome.seconds,
        "p50_ms": outcome.percentile(0.5),
        "p90_ms": outcome.percentile(0.9),
        "p99_ms": outcome.percentile(0.99),
        "max_ms": outcome.percentile(1.0),
    });
    if let (Some(w), Some(count)) = (&mut watchers, phase.count) {
        w.delivered(done * count as u64).await?;
        line["watchers"] = count.into();
        line["events"] = w.events.load(Ordering::Relaxed).into();
        line["event_bytes"] = w.bytes.load(Ordering::Relaxed).into();
    }
    let after = cpu()?;
    let now = memory()?;
    for (i, p) in watched.iter().enumerate() {
        line["cpu_seconds"][&p.name] = (after[i] - before[i]).into();
        line["memory_mib"][&p.name] = now[i].into();
        line["memory_before_mib"][&p.name] = started_with[i].into();
    }
    Ok(line)
}

async fn paced(run: &Arc<Run>, verb: Verb, phase: &Phase) -> Outcome {
    let each = run.clone();
    let request = move |_| {
        let run = each.clone();
        async move { run.request(verb).await }
    };
    match phase.rate {
        Some(rate) => offered(rate, phase.time(), request).await,
        None => closed(run.at_once, Some(phase.time()), usize::MAX, request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_read() {
        let p = Phase::parse("watch@100~5:1000").unwrap();
        assert_eq!(
            (p.verb.as_str(), p.rate, p.seconds, p.count),
            ("watch", Some(100.0), Some(5.0), Some(1000))
        );
        let p = Phase::parse("mix").unwrap();
        assert_eq!((p.verb.as_str(), p.rate, p.seconds), ("mix", None, None));
        let p = Phase::parse("mix@50").unwrap();
        assert_eq!((p.verb.as_str(), p.rate, p.seconds), ("mix", Some(50.0), None));
        assert!(Phase::parse("get@fast").is_err());
        assert!(Phase::parse("get@0").is_err());
    }
}
