//! The ttl-after-finished loop: deletes a job, and its pods with it, so many seconds after it ended. Owns nothing, spawns
//! its workers.

use std::time::Duration;

use api::Object;
use api::resource::JOBS;
use client::{DeleteOptions, clock};
use jiff::{SignedDuration, Timestamp};

use crate::Context;
use crate::job::view::Job;
use crate::skeleton::{self, Error, Key, Next, Queue};

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let jobs = ctx.informers.get(&JOBS);
    skeleton::enqueue_self(&jobs, &queue);
    if !skeleton::synced(&ctx.token, &[&jobs]).await {
        return;
    }
    let reconcile = |key: Key| {
        let (client, seen) = (&ctx.client, jobs.get(&key.0, &key.1));
        async move {
            let left = match &seen {
                Some(job) => left(job, clock::now())?,
                None => None,
            };
            match left {
                None => return Ok(Next::Wait),
                Some(left) if !left.is_zero() => return Ok(Next::After(left)),
                Some(_) => {}
            }
            // The informer may lag behind a new time to live.
            let Some(job) = client.find(&JOBS, &key.0, &key.1).await? else { return Ok(Next::Wait) };
            match left_of(&job)? {
                Some(left) if left.is_zero() => {
                    let options = DeleteOptions {
                        propagation_policy: Some("Foreground"),
                        ..DeleteOptions::uid(job.uid())
                    };
                    client.delete_if_there(&JOBS, &key.0, &key.1, &options).await?;
                    Ok(Next::Wait)
                }
                Some(left) => Ok(Next::After(left)),
                None => Ok(Next::Wait),
            }
        }
    };
    skeleton::work("ttl-after-finished", &ctx.token, &queue, 5, reconcile).await;
}

fn left_of(job: &Object) -> Result<Option<Duration>, Error> {
    left(job, clock::now())
}

/// How long the job may still stay; `None` when its time does not run.
fn left(job: &Object, now: Timestamp) -> Result<Option<Duration>, Error> {
    if job.meta().is_deleting() {
        return Ok(None);
    }
    let view: Job = job.view()?;
    let ended = view.status.end().and_then(|c| clock::parse(c.last_transition_time.as_deref()?));
    let (Some(ttl), Some(ended)) = (view.spec.ttl_seconds_after_finished, ended) else { return Ok(None) };
    let end = ended.checked_add(SignedDuration::from_secs(ttl)).unwrap_or(Timestamp::MAX);
    Ok(Some(clock::between(now, end)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn only_ended_jobs_with_a_time_to_live_go() {
        let now = Timestamp::from_second(1_000_000).expect("time");
        let ended = |kind: &str, status: &str, ago: i64| {
            let at = clock::rfc3339(now.checked_sub(SignedDuration::from_secs(ago)).expect("time"));
            json!([{"type": kind, "status": status, "lastTransitionTime": at}])
        };
        for (ttl, conditions, deleting, want) in [
            (json!(10), ended("Complete", "True", 3), false, Some(7)),
            (json!(10), ended("Failed", "True", 10), false, Some(0)),
            (json!(10), ended("Complete", "True", 99), false, Some(0)),
            (json!(0), ended("Complete", "True", 0), false, Some(0)),
            (json!(10), ended("Complete", "True", -5), false, Some(15)),
            (json!(10), ended("Complete", "False", 99), false, None),
            (json!(10), ended("FailureTarget", "True", 99), false, None),
            (json!(10), ended("Complete", "True", 99), true, None),
            (Value::Null, ended("Complete", "True", 99), false, None),
        ] {
            let v = json!({"metadata": {"name": "j", "deletionTimestamp": deleting.then(|| clock::rfc3339(now))},
                "spec": {"ttlSecondsAfterFinished": ttl}, "status": {"conditions": conditions}});
            let got = left(&Object::from_value(v.clone(), 1).expect("job"), now).expect("left");
            assert_eq!(got, want.map(Duration::from_secs), "{v}");
        }
    }
}
