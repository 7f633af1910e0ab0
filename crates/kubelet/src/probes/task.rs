//! The task of one probe: waits, probes, counts; tells the worker when a threshold is crossed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::node_ctx::Node;
use crate::pod::{Container, Pod, Probe};
use crate::pod_worker::Msg;
use crate::probes::run;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

impl ProbeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            ProbeKind::Startup => "Startup",
            ProbeKind::Readiness => "Readiness",
            ProbeKind::Liveness => "Liveness",
        }
    }
}

/// What a probe came to.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub id: String,
    pub kind: ProbeKind,
    pub healthy: bool,
}

pub struct Task {
    pub node: Arc<Node>,
    pub pod: Arc<Pod>,
    pub container: Container,
    pub id: String,
    pub ips: Vec<String>,
    pub probe: Probe,
    pub kind: ProbeKind,
    /// When the container started, in ms.
    pub started_ms: i64,
    pub to: mpsc::Sender<Msg>,
}

/// Counts in a row and says when to speak. Pure.
#[derive(Debug, Default)]
pub struct Counter {
    last: Option<bool>,
    row: i32,
}

impl Counter {
    /// `true` when the run of equal results has just reached its threshold, or goes on past it.
    pub fn add(&mut self, ok: bool, successes: i32, failures: i32) -> bool {
        if self.last == Some(ok) {
            self.row = self.row.saturating_add(1);
        } else {
            self.last = Some(ok);
            self.row = 1;
        }
        self.row >= if ok { successes } else { failures }
    }
}

impl Task {
    pub async fn run(self) {
        let p = &self.probe;
        let begin = self.started_ms + i64::from(p.initial_delay_seconds.max(0)) * 1000;
        let wait = u64::try_from(begin - self.node.now_ms()).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let mut tick = tokio::time::interval(p.period());
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut counter = Counter::default();
        let mut told = None;
        loop {
            tick.tick().await;
            let result = run::probe(&self.node, &self.pod, &self.container, &self.id, &self.ips, p).await;
            if let Err(output) = &result {
                let about = self.node.about_container(&self.pod, &self.container.name);
                let text = format!("{} probe failed: {output}", self.kind.as_str());
                self.node.recorder.warning(about, "Unhealthy", text);
            }
            let ok = result.is_ok();
            if !counter.add(ok, p.successes(), p.failures()) || told == Some(ok) {
                continue;
            }
            told = Some(ok);
            let verdict = Verdict { id: self.id.clone(), kind: self.kind, healthy: ok };
            if self.to.send(Msg::Probe(verdict)).await.is_err() {
                return;
            }
            let over = match self.kind {
                ProbeKind::Startup => true,
                ProbeKind::Liveness => !ok,
                ProbeKind::Readiness => false,
            };
            if over {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Counter;

    #[test]
    fn thresholds() {
        let mut c = Counter::default();
        let said: Vec<bool> =
            [false, false, false, true, false, true, true].into_iter().map(|ok| c.add(ok, 2, 3)).collect();
        assert_eq!(said, [false, false, true, false, false, false, true]);
    }
}
