//! `metrics.k8s.io`: what nodes and pods use at the moment, as the metrics-server tells it, without one. Kubelets are
//! asked only while somebody wants to know: the first question starts the collecting and waits for two scrapes a second
//! apart; after two minutes without a question it ends and forgets. An autoscaler asks every 15 s, so one that exists
//! keeps it going. An APIService of another server for the group takes its place (`aggregation`).
//! https://github.com/kubernetes-sigs/metrics-server
//!
//! It stands in this crate since it needs what only this crate has: the way to kubelets, and the requests.
//! Spawned by `start`: one task, which sleeps while nobody asks.

pub mod answer;
pub mod parse;
pub mod points;

use std::time::Duration;

use api::{Reason, Status};
use client::clock;
use futures::StreamExt;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::server::ApiServer;
use crate::streaming;
use points::Points;

pub const GROUP: &str = "metrics.k8s.io";

/// Between two scrapes.
const RESOLUTION: Duration = Duration::from_secs(15);
/// Between the first two, for which somebody waits.
const FIRST: Duration = Duration::from_secs(1);
/// How long nobody may ask before the collecting ends.
const LAPSE: Duration = Duration::from_secs(120);
/// How long a question waits for the first two scrapes.
const PATIENCE: Duration = Duration::from_secs(8);
const SCRAPE: Duration = Duration::from_secs(10);
/// The same while somebody waits: one silent node must not keep the others' figures back.
const FIRST_SCRAPE: Duration = Duration::from_secs(3);
/// Kubelets that are asked at once.
const AT_ONCE: usize = 64;
/// Most of an answer that is read: some 100,000 containers.
const LIMIT: usize = 64 << 20;

/// The figures, and who wants them.
pub struct Collector {
    points: RwLock<Points>,
    asked: Mutex<Option<Instant>>,
    wake: Notify,
    /// Whether two scrapes are in.
    warm: watch::Sender<bool>,
}

impl Default for Collector {
    fn default() -> Self {
        let resolution = i64::try_from(RESOLUTION.as_millis()).unwrap_or(i64::MAX);
        Self {
            points: RwLock::new(Points::new(resolution)),
            asked: Mutex::default(),
            wake: Notify::new(),
            warm: watch::channel(false).0,
        }
    }
}

impl Collector {
    /// Somebody wants to know: returns when there is something to tell, or has taken too long to come.
    async fn ask(&self) {
        *self.asked.lock() = Some(Instant::now());
        if *self.warm.borrow() {
            return;
        }
        self.wake.notify_one();
        let _ = tokio::time::timeout(PATIENCE, self.warm.subscribe().wait_for(|w| *w)).await;
    }

    fn wanted(&self) -> bool {
        wanted(*self.asked.lock(), Instant::now())
    }
}

fn wanted(asked: Option<Instant>, now: Instant) -> bool {
    asked.is_some_and(|t| now.saturating_duration_since(t) < LAPSE)
}

/// Starts what collects; costs nothing until somebody asks.
pub fn start(server: &ApiServer) {
    let (s, stop) = (server.clone(), server.stop.clone());
    tokio::spawn(async move {
        tokio::select! { () = stop.cancelled() => {} () = run(&s) => {} }
    });
}

async fn run(s: &ApiServer) {
    let c = &s.resource_metrics;
    loop {
        c.wake.notified().await;
        if !c.wanted() {
            continue;
        }
        tracing::debug!("somebody asks for metrics: kubelets are asked from now on");
        round(s, FIRST_SCRAPE).await;
        tokio::time::sleep(FIRST).await;
        round(s, FIRST_SCRAPE).await;
        c.warm.send_replace(true);
        loop {
            tokio::time::sleep(RESOLUTION).await;
            if !c.wanted() {
                break;
            }
            round(s, SCRAPE).await;
        }
        tracing::debug!("nobody asks for metrics any more");
        c.warm.send_replace(false);
        c.points.write().clear();
    }
}

/// Asks every kubelet once. One that does not answer is told of no longer.
async fn round(s: &ApiServer, patience: Duration) {
    let nodes = match s.reader().list("", "nodes", "").await {
        Ok(nodes) => nodes,
        Err(e) => return tracing::warn!(error = %e, "failed to list the nodes whose metrics are asked for"),
    };
    let c = &s.resource_metrics;
    let one = |name: String| async move {
        let text =
            tokio::time::timeout(patience, streaming::read(s, &name, "/metrics/resource", LIMIT)).await;
        let text = text.unwrap_or_else(|_| Err(Status::new(Reason::Timeout, "it did not answer in time")));
        match text {
            Ok(text) => {
                let scrape = parse::parse(&String::from_utf8_lossy(&text), clock::now().as_millisecond());
                c.points.write().put(&name, scrape);
                Some(name)
            }
            Err(e) => {
                tracing::debug!(node = name, error = %e, "failed to read what a node's pods use");
                None
            }
        }
    };
    let names: Vec<String> = nodes.iter().map(|n| n.name().to_owned()).collect();
    let all = futures::stream::iter(names).map(one).buffer_unordered(AT_ONCE);
    let told: std::collections::HashSet<String> = all.filter_map(std::future::ready).collect().await;
    c.points.write().retain(|n| told.contains(n));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interest_lapses() {
        let now = Instant::now();
        for (after, want) in [(0, true), (119, true), (120, false), (1000, false)] {
            assert_eq!(wanted(Some(now), now + Duration::from_secs(after)), want, "{after}");
        }
        assert!(!wanted(None, now));
    }
}
