//! Requests at an offered rate, each timed from when it was due, so that a slow server does not slow its own measurement;
//! or from a number of tasks as fast as they go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Requests under way at an offered rate; a server that lags behind more than that is not offered more.
const UNDER_WAY: usize = 2000;

#[derive(Default)]
pub struct Outcome {
    /// Microseconds, sorted.
    pub times: Vec<u32>,
    pub failed: u64,
    /// What the first failure said.
    pub why: String,
    pub seconds: f64,
    pub bytes: u64,
}

impl Outcome {
    /// Milliseconds.
    pub fn percentile(&self, p: f64) -> f64 {
        let last = self.times.len().saturating_sub(1);
        let at = (p * last as f64).round() as usize;
        self.times.get(at).map_or(0.0, |t| f64::from(*t) / 1000.0)
    }
}

#[derive(Default)]
struct Tally {
    times: Mutex<Vec<u32>>,
    failed: AtomicU64,
    why: Mutex<String>,
    bytes: AtomicU64,
}

impl Tally {
    async fn note(&self, due: Instant, answer: Result<u64>) {
        match answer {
            Ok(bytes) => {
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
                let us = u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX);
                self.times.lock().await.push(us);
            }
            Err(e) => {
                if self.failed.fetch_add(1, Ordering::Relaxed) == 0 {
                    *self.why.lock().await = format!("{e:#}");
                }
            }
        }
    }
    async fn close(&self, begun: Instant) -> Outcome {
        let seconds = begun.elapsed().as_secs_f64();
        let mut times = std::mem::take(&mut *self.times.lock().await);
        times.sort_unstable();
        Outcome {
            times,
            failed: self.failed.load(Ordering::Relaxed),
            why: std::mem::take(&mut *self.why.lock().await),
            seconds,
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

/// Offers `rate` requests a second for the time; the request gives the bytes of its answer.
pub async fn offered<F, Fut>(rate: f64, time: Duration, request: F) -> Outcome
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<u64>> + Send + 'static,
{
    let tally = Arc::new(Tally::default());
    let room = Arc::new(Semaphore::new(UNDER_WAY));
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for n in 0..(rate * time.as_secs_f64()) as usize {
        let due = begun + Duration::from_secs_f64(n as f64 / rate);
        tokio::time::sleep_until(due).await;
        let Ok(seat) = room.clone().acquire_owned().await else { break };
        let (tally, answer) = (tally.clone(), request(n));
        tasks.spawn(async move {
            let answer = answer.await;
            drop(seat);
            tally.note(due, answer).await;
        });
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
    tally.close(begun).await
}

/// As fast as `at_once` tasks go, for the time or until `count` requests were made.
pub async fn closed<F, Fut>(at_once: usize, time: Option<Duration>, count: usize, request: F) -> Outcome
where
    F: Fn(usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<u64>> + Send,
{
    let tally = Arc::new(Tally::default());
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..at_once {
        let (tally, next, request) = (tally.clone(), next.clone(), request.clone());
        tasks.spawn(async move {
            while time.is_none_or(|t| begun.elapsed() < t) {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    break;
                }
                let due = Instant::now();
                tally.note(due, request(n).await).await;
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    tally.close(begun).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn counts_and_failures_are_told() {
        let o = closed(4, None, 100, |n| async move {
            anyhow::ensure!(n != 7, "seven");
            Ok(2)
        })
        .await;
        assert_eq!((o.times.len(), o.failed, o.why.as_str(), o.bytes), (99, 1, "seven", 198));
    }

    #[test]
    fn percentiles() {
        let o = Outcome { times: (1..=101).map(|n| n * 1000).collect(), ..Default::default() };
        assert_eq!((o.percentile(0.5), o.percentile(0.99), o.percentile(1.0)), (51.0, 100.0, 101.0));
        assert_eq!(Outcome::default().percentile(0.5), 0.0);
    }
}
