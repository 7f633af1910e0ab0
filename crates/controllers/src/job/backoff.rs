//! How long a job waits before it replaces a failed pod: ten seconds after the first failure in a row, then twice as long
//! each time, ten minutes at most. Pure.

use std::time::Duration;

use client::clock;
use jiff::{SignedDuration, Timestamp};

use crate::pods::Pod;

const FIRST: Duration = Duration::from_secs(10);
const MOST: Duration = Duration::from_secs(600);

/// Failures since the last success, and when the last one was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record {
    pub failures: u32,
    pub last: Option<Timestamp>,
}

impl Record {
    /// After these pods have ended.
    #[must_use]
    pub fn after(self, succeeded: &[&Pod], failed: &[&Pod]) -> Self {
        let success = succeeded.iter().filter_map(|p| finished_at(p)).max();
        let since: Vec<Timestamp> =
            failed.iter().filter_map(|p| finished_at(p)).filter(|t| success.is_none_or(|s| *t > s)).collect();
        let new = u32::try_from(since.len()).unwrap_or(u32::MAX);
        let last = since.into_iter().max();
        match (succeeded.is_empty(), last) {
            (true, None) => self,
            (true, Some(_)) => Self { failures: self.failures.saturating_add(new), last },
            (false, _) => Self { failures: new, last },
        }
    }

    pub fn remaining(self, now: Timestamp) -> Duration {
        match self.last {
            Some(last) => remaining(self.failures, last, now),
            None => Duration::ZERO,
        }
    }
}

/// What is left of the wait after so many failures, the last of them at `last`.
pub fn remaining(failures: u32, last: Timestamp, now: Timestamp) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let wait = FIRST.saturating_mul(1 << (failures - 1).min(16)).min(MOST);
    wait.saturating_sub(clock::between(last, now))
}

/// When a pod ended: by its containers, by its readiness, by its deletion, or at worst by its creation.
pub fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let status = &pod.view.status;
    let ends: Option<Vec<Timestamp>> = status
        .container_statuses
        .iter()
        .map(|c| clock::parse(c.state.terminated.as_ref()?.finished_at.as_deref()?))
        .collect();
    if let Some(end) = ends.and_then(|e| e.into_iter().max()) {
        return Some(end);
    }
    let not_ready = pod.condition("Ready").filter(|c| c.status == "False");
    if let Some(t) = not_ready.and_then(|c| clock::parse(c.last_transition_time.as_deref()?)) {
        return Some(t);
    }
    let meta = pod.object.meta();
    if let Some(t) = meta.deletion_timestamp().and_then(clock::parse) {
        let grace = SignedDuration::from_secs(meta.deletion_grace_period_seconds().unwrap_or(0));
        return Some(t.checked_sub(grace).unwrap_or(t));
    }
    clock::parse(pod.created())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Object;
    use serde_json::{Value, json};

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + s).expect("time")
    }
    fn text(s: i64) -> String {
        clock::rfc3339(at(s))
    }
    fn pod(mut v: Value) -> Pod {
        v["metadata"]["name"] = json!("p");
        Pod::of(Object::from_value(v, 1).expect("object")).expect("pod")
    }
    fn ended(s: i64) -> Pod {
        pod(
            json!({"status": {"containerStatuses": [{"name": "c", "state": {"terminated": {"finishedAt": text(s)}}}]}}),
        )
    }

    #[test]
    fn the_wait_doubles_up_to_ten_minutes() {
        for (failures, elapsed, left) in [
            (0, 0, 0),
            (1, 0, 10),
            (1, 4, 6),
            (1, 10, 0),
            (2, 0, 20),
            (3, 0, 40),
            (6, 0, 320),
            (7, 0, 600),
            (99, 0, 600),
            (1, 99, 0),
        ] {
            let got = remaining(failures, at(0), at(elapsed));
            assert_eq!(got, Duration::from_secs(left), "{failures} failures, {elapsed} s ago");
        }
    }

    #[test]
    fn a_success_starts_the_count_again() {
        let start = Record { failures: 3, last: Some(at(0)) };
        let (a, b, c) = (ended(10), ended(20), ended(30));
        for (ok, bad, want) in [
            (vec![], vec![], start),
            (vec![], vec![&b, &a], Record { failures: 5, last: Some(at(20)) }),
            (vec![&a], vec![], Record::default()),
            (vec![&b], vec![&a, &c], Record { failures: 1, last: Some(at(30)) }),
            (vec![&c], vec![&a, &b], Record::default()),
        ] {
            assert_eq!(start.after(&ok, &bad), want);
        }
    }

    #[test]
    fn the_end_of_a_pod() {
        let running = json!([{"name": "c", "state": {}}]);
        let not_ready = json!([{"type": "Ready", "status": "False", "lastTransitionTime": text(5)}]);
        for (v, want) in [
            (json!({"status": {"containerStatuses": running, "conditions": not_ready}}), 5),
            (json!({"metadata": {"deletionTimestamp": text(40), "deletionGracePeriodSeconds": 30}}), 10),
            (json!({"metadata": {"creationTimestamp": text(3)}}), 3),
        ] {
            assert_eq!(finished_at(&pod(v.clone())), Some(at(want)), "{v}");
        }
    }
}
