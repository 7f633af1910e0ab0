//! The Job loop: runs pods until enough have succeeded or the job has failed. `plan` and `tally` decide (pure), this file and `act`
//! carry it out. Ended pods are counted exactly once: each holds a finalizer until its uid stands in the status, and
//! leaves it for a counter once the finalizer is gone. Owns expectations, back-off records and the revisions it wrote;
//! spawns its workers, and one that frees pods without a job of their finalizer.

mod act;
mod backoff;
pub mod children;
mod plan;
mod policy;
mod tally;
#[cfg(test)]
mod tests;
pub mod view;

use std::collections::HashMap;
use std::sync::Arc;

use api::Object;
use api::resource::{JOBS, PODS};
use api::selector::LabelSelector;
use client::{Informer, ObjectRef, clock};
use parking_lot::Mutex;

use crate::expectations::{Expectations, LOOK_AGAIN};
use crate::skeleton::{self, Error, Key, Next, Queue, key_of};
use crate::{Context, owners, pods};
use act::Released;
use backoff::Record;
use children::{TRACKING, is_tracked};
use plan::{Facts, Sync};
use view::{Condition, Job};

struct Loop {
    ctx: Context,
    jobs: Informer,
    pods: Informer,
    expected: Arc<Expectations>,
    released: Released,
    /// Per job, with the uid that it is about.
    records: Mutex<HashMap<Key, (String, Record)>>,
    /// The revision of the last status written: an older job from the informer would be counted from the past.
    written: Mutex<HashMap<Key, u64>>,
}

pub async fn run(ctx: Context) {
    let (queue, strays) = (Queue::default(), Queue::default());
    let (jobs, pods) = (ctx.informers.get(&JOBS), ctx.informers.get(&PODS));
    owners::index(&pods);
    let expected = Arc::new(Expectations::default());
    skeleton::enqueue_self(&jobs, &queue);
    let seen = expected.clone();
    owners::enqueue_for_pods(&pods, &jobs, &JOBS, &queue, selector, move |key, c| seen.observe(key, c));
    let strayed = strays.clone();
    pods.on_change(move |c| {
        if let Some(o) = c.new.filter(|o| o.meta().controller().is_none() && is_tracked(o)) {
            strayed.add(key_of(o));
        }
    });
    if !skeleton::synced(&ctx.token, &[&jobs, &pods]).await {
        return;
    }
    let token = ctx.token.clone();
    let l = Loop {
        ctx,
        jobs,
        pods,
        expected,
        released: Released::default(),
        records: Mutex::default(),
        written: Mutex::default(),
    };
    tokio::join!(
        skeleton::work("job", &token, &queue, 5, |key| l.reconcile(key)),
        skeleton::work("job-strays", &token, &strays, 1, |key| l.free_stray(key)),
    );
}

fn selector(job: &Object) -> Result<LabelSelector, Error> {
    let view: Job = job.view()?;
    Ok(view::selector(&view.spec)?)
}

impl Loop {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(job) = self.jobs.get(&key.0, &key.1) else {
            self.forget(&key);
            self.written.lock().remove(&key);
            return self.free_children(&key, None).await;
        };
        if self.written.lock().get(&key).is_some_and(|r| *r > job.revision()) {
            // Its newer state is on the way and wakes this up again.
            return Ok(Next::Wait);
        }
        let view: Job = job.view()?;
        if view.spec.managed_elsewhere() {
            return Ok(Next::Wait);
        }
        if view.status.end().is_some() {
            self.forget(&key);
            return self.free_children(&key, Some(&job)).await;
        }
        if !view.spec.knows_mode() {
            let why = "Skipped Job sync because completion mode is unknown";
            self.ctx.events.warning(ObjectRef::of(&JOBS, &job), "UnknownCompletionMode", why);
            return Ok(Next::Wait);
        }
        self.sync(&key, job, &view).await
    }

    async fn sync(&self, key: &Key, mut job: Object, view: &Job) -> Result<Next, Error> {
        let now = clock::now();
        let seen_all = self.expected.satisfied(key, now);
        let candidates = owners::candidates(&self.pods, &job);
        let selector = view::selector(&view.spec)?;
        let client = &self.ctx.client;
        let claimed =
            owners::claim_with(client, &JOBS, &job, &selector, &PODS, candidates, &[TRACKING]).await?;
        let pods = pods::parse(claimed)?;
        let record =
            self.records.lock().get(key).filter(|r| r.0 == job.uid()).map(|r| r.1).unwrap_or_default();
        let mut sync = Sync::start(Facts {
            job: view,
            deleting: job.meta().is_deleting(),
            pods: &pods,
            released: self.released.among(key, &pods),
            seen_all,
            record,
            now,
        });
        let action = sync.action();
        let outcome = self.act(key, &job, &view.spec.template, &pods, action).await;
        sync.acted(outcome.done);
        let ended = sync.track();

        let mut written = view.status.clone();
        self.write(key, &mut job, &mut written, &sync.status).await?;
        self.records.lock().insert(key.clone(), (job.uid().to_owned(), sync.record));
        if let Some(on) = sync.suspended {
            let (reason, message) =
                if on { ("Suspended", "Job suspended") } else { ("Resumed", "Job resumed") };
            self.ctx.events.normal(ObjectRef::of(&JOBS, &job), reason, message);
        }
        let (free, failed) = self.release_all(key, &ended).await;
        sync.settle(&free);
        let end = if failed.is_none() { sync.finish() } else { None };
        self.write(key, &mut job, &mut written, &sync.status).await?;
        if let Some(end) = end {
            self.tell_end(&job, view, &sync.status, &end);
        }
        match outcome.error.or(failed) {
            Some(status) => Err(status.into()),
            None if !seen_all => Ok(Next::After(sync.again.map_or(LOOK_AGAIN, |a| a.min(LOOK_AGAIN)))),
            None => Ok(sync.again.map_or(Next::Wait, Next::After)),
        }
    }

    /// Writes the status, if it differs from what was written last. Fails when somebody else has written meanwhile.
    async fn write(
        &self,
        key: &Key,
        job: &mut Object,
        last: &mut view::Status,
        new: &view::Status,
    ) -> Result<(), Error> {
        if last == new {
            return Ok(());
        }
        *job = self.ctx.client.update(&JOBS, &key.0, &key.1, "status", &new.onto(job)?).await?;
        *last = new.clone();
        self.written.lock().insert(key.clone(), job.revision());
        Ok(())
    }

    fn tell_end(&self, job: &Object, view: &Job, status: &view::Status, end: &Condition) {
        let about = ObjectRef::of(&JOBS, job);
        if end.r#type == "Failed" {
            self.ctx.events.warning(about, &end.reason, end.message.clone());
            return;
        }
        if view.spec.completions.is_some_and(|n| status.succeeded > n) {
            let why = "Too many succeeded pods running after completion count reached";
            self.ctx.events.warning(about.clone(), "TooManySucceededPods", why);
        }
        self.ctx.events.normal(about, "Completed", "Job completed");
    }

    fn forget(&self, key: &Key) {
        self.expected.forget(key);
        self.released.forget(key);
        self.records.lock().remove(key);
    }

    /// Takes the finalizer off the pods of a job that has ended, or is gone.
    async fn free_children(&self, key: &Key, ended: Option<&Object>) -> Result<Next, Error> {
        let named =
            |p: &Object| p.meta().controller().is_some_and(|c| c.kind == JOBS.kind && c.name == key.1);
        let mut children = match ended {
            Some(job) => self.pods.by_index("owner", job.uid()),
            None => self.pods.list(Some(&key.0)).into_iter().filter(named).collect(),
        };
        children.retain(is_tracked);
        if children.is_empty() {
            return Ok(Next::Wait);
        }
        let alive = match ended {
            Some(_) => None,
            // Before its pods are let go uncounted: is it really gone, or just new?
            None => self.ctx.client.find(&JOBS, &key.0, &key.1).await?,
        };
        for pod in children {
            let owner = pod.meta().controller().map(|c| c.uid.as_str());
            if alive.as_ref().is_none_or(|job| Some(job.uid()) != owner) {
                act::release(&self.ctx.client, &pod).await?;
            }
        }
        Ok(Next::Wait)
    }

    /// A pod that no job owns any more must not be held by our finalizer.
    async fn free_stray(&self, key: Key) -> Result<Next, Error> {
        if let Some(pod) = self.pods.get(&key.0, &key.1)
            && pod.meta().controller().is_none()
            && is_tracked(&pod)
        {
            act::release(&self.ctx.client, &pod).await?;
        }
        Ok(Next::Wait)
    }
}
