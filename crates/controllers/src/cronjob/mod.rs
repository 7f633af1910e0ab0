//! The CronJob loop: starts a job whenever the schedule says so, keeps the list of running ones, and cleans up old ones.
//! `plan` decides (pure), `view` makes jobs and sorts out old ones, this file acts. Owns the revisions it wrote; spawns
//! its workers.

mod plan;
mod view;

use std::collections::HashMap;

use api::cron::Schedule;
use api::resource::{CRON_JOBS, JOBS};
use api::{Object, Status};
use client::{Change, DeleteOptions, Informer, ObjectRef, clock};
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::Context;
use crate::skeleton::{self, Error, Key, Next, Queue, key_of};
use plan::{Decision, Facts, Verdict};
use view::{Child, CronJob, Spec, beyond_history, job_name};

struct Loop {
    ctx: Context,
    crons: Informer,
    jobs: Informer,
    /// The revision of the last status written: an older cron job would start a job twice.
    written: Mutex<HashMap<Key, u64>>,
}

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let (crons, jobs) = (ctx.informers.get(&CRON_JOBS), ctx.informers.get(&JOBS));
    jobs.index_by_owner();
    {
        let queue = queue.clone();
        crons.on_change(move |c| cron_changed(c, &queue));
    }
    skeleton::enqueue_owner(&jobs, &queue, "CronJob");
    if !skeleton::synced(&ctx.token, &[&crons, &jobs]).await {
        return;
    }
    let token = ctx.token.clone();
    let l = Loop { ctx, crons, jobs, written: Mutex::default() };
    skeleton::work("cronjob", &token, &queue, 5, |key| l.reconcile(key)).await;
}

/// A new schedule counts from now on: what it would have started in the past is not made up for.
fn cron_changed(c: Change<'_>, queue: &Queue) {
    let Some(o) = c.object() else { return };
    let (old, new) = (c.old.and_then(|o| o.view::<CronJob>().ok()), o.view::<CronJob>().ok());
    if let (Some(old), Some(new)) = (old, new)
        && (old.spec.schedule, old.spec.time_zone) != (new.spec.schedule.clone(), new.spec.time_zone.clone())
        && let (Ok(schedule), Some(zone)) = (Schedule::parse(&new.spec.schedule), new.spec.zone())
        && let Some(wait) = plan::wait(&facts(o, &new, clock::now()), &schedule, &zone)
    {
        queue.add_after(key_of(o), wait);
        return;
    }
    queue.add(key_of(o));
}

fn facts(o: &Object, cron: &CronJob, now: Timestamp) -> Facts {
    let time = |t: Option<&str>| t.and_then(clock::parse);
    Facts {
        created: time(o.meta().creation_timestamp()).unwrap_or(now),
        last: time(cron.status.last_schedule_time.as_deref()),
        deadline_seconds: cron.spec.starting_deadline_seconds,
        policy: cron.spec.policy(),
        active: cron.status.active.len(),
        now,
    }
}

fn about(cron: &Object) -> ObjectRef {
    ObjectRef::of(&CRON_JOBS, cron)
}

impl Loop {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(o) = self.crons.get(&key.0, &key.1) else {
            self.written.lock().remove(&key);
            return Ok(Next::Wait);
        };
        if self.written.lock().get(&key).is_some_and(|r| *r > o.revision()) {
            // Its newer state is on the way and wakes this up again.
            return Ok(Next::Wait);
        }
        let mut cron: CronJob = o.view()?;
        let before = cron.status.clone();
        let children: Vec<Child> =
            self.jobs.by_index("owner", o.uid()).into_iter().map(Child::of).collect::<Result<_, _>>()?;
        for child in beyond_history(&cron.spec, &children) {
            self.delete(&o, &mut cron.status, &child.object).await;
        }
        self.observe(&o, &mut cron.status, &children).await?;
        let next =
            if o.meta().is_deleting() { Ok(Next::Wait) } else { self.start(&key, &o, &mut cron).await };
        if cron.status != before {
            let new = cron.status.onto(&o)?;
            let written = self.ctx.client.update(&CRON_JOBS, &key.0, &key.1, "status", &new).await?;
            self.written.lock().insert(key, written.revision());
        }
        next
    }

    /// Brings the list of running jobs up to date.
    async fn observe(&self, o: &Object, status: &mut view::Status, children: &[Child]) -> Result<(), Error> {
        let events = &self.ctx.events;
        for child in children {
            let (uid, name) = (child.object.uid(), child.object.name());
            match (&child.ended, status.is_active(uid)) {
                (None, false) => {
                    let what = format!("Saw a job that the controller did not create or forgot: {name}");
                    events.warning(about(o), "UnexpectedJob", what);
                }
                (Some(how), true) => {
                    status.drop_active(uid);
                    events.normal(
                        about(o),
                        "SawCompletedJob",
                        format!("Saw completed job: {name}, status: {how}"),
                    );
                }
                _ => {}
            }
            if child.succeeded() {
                let time = |t: &Option<String>| clock::parse(t.as_deref()?);
                if time(&child.completed_at) > time(&status.last_successful_time) {
                    status.last_successful_time.clone_from(&child.completed_at);
                }
            }
        }
        for reference in status.active.clone() {
            let text = |f: &str| reference[f].as_str().unwrap_or_default();
            let (name, uid) = (text("name"), text("uid"));
            if children.iter().any(|c| c.object.uid() == uid) {
                continue;
            }
            // The informer may not have seen a new one yet.
            if self.ctx.client.find(&JOBS, o.namespace(), name).await?.is_none_or(|j| j.uid() != uid) {
                events.normal(about(o), "MissingJob", format!("Active job went missing: {name}"));
                status.drop_active(uid);
            }
        }
        Ok(())
    }

    async fn start(&self, key: &Key, o: &Object, cron: &mut CronJob) -> Result<Next, Error> {
        let events = &self.ctx.events;
        let spec = &cron.spec;
        let Some(zone) = spec.zone() else {
            let name = spec.time_zone.as_deref().unwrap_or_default();
            let why = format!("invalid timeZone: {name:?}: unknown time zone {name}");
            events.warning(about(o), "UnknownTimeZone", why);
            return Ok(Next::Wait);
        };
        if spec.suspend == Some(true) {
            return Ok(Next::Wait);
        }
        if spec.schedule.contains("TZ") {
            let why = format!(
                "CRON_TZ or TZ used in schedule {:?} is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details",
                spec.schedule
            );
            events.warning(about(o), "UnsupportedSchedule", why);
        }
        let schedule = match Schedule::parse(&spec.schedule) {
            Ok(s) => s,
            Err(e) => {
                let why = format!("unparseable schedule: {:?} : {e}", spec.schedule);
                events.warning(about(o), "UnparseableSchedule", why);
                return Ok(Next::Wait);
            }
        };
        let active = |at: Timestamp| {
            let name = job_name(o.name(), at);
            cron.status.active.iter().any(|r| r["name"] == *name)
        };
        let d = match plan::decide(&facts(o, cron, clock::now()), &schedule, &zone, active) {
            Ok(d) => d,
            Err(e) => {
                let why = format!("invalid schedule: {} : {e}", spec.schedule);
                events.warning(about(o), "InvalidSchedule", why);
                return Ok(Next::Wait);
            }
        };
        self.tell(o, &d);
        if let Verdict::Start { at, replace } = d.verdict {
            if replace {
                self.replace(o, &mut cron.status).await?;
            }
            self.create(key, o, &cron.spec, &mut cron.status, at).await?;
        }
        Ok(d.wait.map_or(Next::Wait, Next::After))
    }

    fn tell(&self, o: &Object, d: &Decision) {
        let events = &self.ctx.events;
        if d.many_missed {
            let why = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            events.warning(about(o), "TooManyMissedTimes", why);
        }
        match d.verdict {
            Verdict::TooLate(at) => {
                let at = at.strftime("%a, %d %b %Y %H:%M:%S +0000");
                events.warning(
                    about(o),
                    "MissSchedule",
                    format!("Missed scheduled time to start a job: {at}"),
                );
            }
            Verdict::Busy => {
                let why =
                    "Not starting job because prior execution is running and concurrency policy is Forbid";
                events.normal(about(o), "JobAlreadyActive", why);
            }
            Verdict::Wait | Verdict::Done | Verdict::Start { .. } => {}
        }
    }

    /// What still runs goes.
    async fn replace(&self, o: &Object, status: &mut view::Status) -> Result<(), Error> {
        for reference in status.active.clone() {
            let name = reference["name"].as_str().unwrap_or_default();
            match self.ctx.client.find(&JOBS, o.namespace(), name).await {
                Err(s) => {
                    self.ctx.events.warning(about(o), "FailedGet", format!("Get job: {s}"));
                    return Err(s.into());
                }
                Ok(None) => status.drop_active(reference["uid"].as_str().unwrap_or_default()),
                Ok(Some(job)) => {
                    if !self.delete(o, status, &job).await {
                        return Err(Status::internal(format!(
                            "could not replace job {}/{name}",
                            o.namespace()
                        ))
                        .into());
                    }
                }
            }
        }
        Ok(())
    }

    /// Deletes a job with its pods; false when that failed, which an event tells.
    async fn delete(&self, o: &Object, status: &mut view::Status, job: &Object) -> bool {
        let options =
            DeleteOptions { propagation_policy: Some("Background"), ..DeleteOptions::uid(job.uid()) };
        match self.ctx.client.delete_if_there(&JOBS, job.namespace(), job.name(), &options).await {
            Ok(()) => {
                status.drop_active(job.uid());
                self.ctx.events.normal(about(o), "SuccessfulDelete", format!("Deleted job {}", job.name()));
                true
            }
            Err(s) => {
                self.ctx.events.warning(about(o), "FailedDelete", format!("Deleted job: {s}"));
                false
            }
        }
    }

    async fn create(
        &self,
        key: &Key,
        o: &Object,
        spec: &Spec,
        status: &mut view::Status,
        at: Timestamp,
    ) -> Result<(), Error> {
        let job = match self.ctx.client.create(&JOBS, &key.0, &view::job(o, spec, at)).await {
            Ok(job) => {
                self.ctx.events.normal(about(o), "SuccessfulCreate", format!("Created job {}", job.name()));
                job
            }
            // Made before, but the status was never written; or somebody else's.
            Err(s) if s.is_already_exists() => {
                let there = self.ctx.client.get(&JOBS, &key.0, &job_name(o.name(), at)).await?;
                let ours = there.meta().controller().is_some_and(|c| c.uid == o.uid());
                if !ours || status.is_active(there.uid()) {
                    return Ok(());
                }
                there
            }
            Err(s) if s.causes.iter().any(|c| c.reason == "NamespaceTerminating") => return Ok(()),
            Err(s) => {
                self.ctx.events.warning(about(o), "FailedCreate", format!("Error creating job: {s}"));
                return Err(s.into());
            }
        };
        status.add_active(&job);
        status.last_schedule_time = Some(clock::rfc3339(at));
        Ok(())
    }
}
