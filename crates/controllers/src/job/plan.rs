//! What a job needs next. One `Sync` goes through its steps in order, all pure: `start` reads the facts and finds out
//! whether the job has to end, `action` says which pods to make or delete; the rest stands in `tally`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use api::indexes::Indexes;
use client::clock;
use jiff::{SignedDuration, Timestamp};

use super::backoff::{self, Record};
use super::children::{self, NewPod, index, is_tracked};
use super::policy::{Verdict, judge};
use super::view::{Condition, Job, Spec, Status};
use crate::pods::Pod;

/// Pods counted, made or deleted at once at most, so that a big job does not starve the others.
pub(super) const AT_ONCE: usize = 500;
const DEFAULT_BACKOFF: i64 = 6;

/// What is known when a job is looked at.
pub struct Facts<'a> {
    pub job: &'a Job,
    pub deleting: bool,
    /// The pods it owns.
    pub pods: &'a [Pod],
    /// Pods whose finalizer is gone though the informer has not seen that yet.
    pub released: HashSet<String>,
    /// Whether the informer has seen all pods that were made or deleted.
    pub seen_all: bool,
    pub record: Record,
    pub now: Timestamp,
}

#[derive(Debug, PartialEq)]
pub enum Action<'a> {
    None,
    /// The job ends: delete these, finalizers stay until they are counted.
    Stop(Vec<&'a str>),
    /// Too many: let go of these and delete them.
    Remove(Vec<&'a str>),
    Create(Vec<NewPod>),
}

/// How an action went.
#[derive(Debug, Clone, Copy, Default)]
pub struct Done {
    pub created: usize,
    pub deleted: usize,
    /// Of the deleted.
    pub ready: usize,
}

pub struct Sync<'a> {
    pub(super) f: Facts<'a>,
    pub status: Status,
    pub record: Record,
    /// Look again then.
    pub again: Option<Duration>,
    /// Events that go with the change of a condition.
    pub suspended: Option<bool>,
    pub(super) active: Vec<&'a Pod>,
    pub(super) succeeded: i64,
    pub(super) failed: i64,
    pub(super) counted_before: Indexes,
    pub(super) done: Indexes,
    pub(super) failed_indexes: Option<Indexes>,
    /// Per index the failed pod that waits for its replacement, which takes over its failure count.
    pub(super) waiting: BTreeMap<i64, &'a Pod>,
    pub(super) end: Option<Condition>,
    pub(super) stopping: bool,
    pub(super) full: bool,
    pub(super) tracked: HashSet<&'a str>,
}

pub(super) fn len(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) fn has_failed(p: &Pod, spec: &Spec) -> bool {
    match p.view.status.phase.as_str() {
        "Failed" => true,
        // A deleted pod may never get to say that it failed.
        phase => !spec.replaces_ended_only() && phase != "Succeeded" && p.object.meta().is_deleting(),
    }
}

pub(super) fn has_succeeded(p: &Pod) -> bool {
    p.view.status.phase == "Succeeded"
}

impl<'a> Sync<'a> {
    pub fn start(f: Facts<'a>) -> Self {
        let mut status = f.job.status.clone();
        let uncounted = status.uncounted_terminated_pods.get_or_insert_default().clone();
        if status.start_time.is_none() && !f.job.spec.suspended() {
            status.start_time = Some(clock::rfc3339(f.now));
        }
        let active: Vec<&Pod> = f.pods.iter().filter(|p| p.is_active()).collect();
        status.active = len(active.len());
        status.ready = Some(len(active.iter().filter(|p| p.is_ready()).count()));
        status.terminating = Some(len(f.pods.iter().filter(|p| p.is_terminating()).count()));
        let mut s = Self {
            status,
            record: f.record,
            again: None,
            suspended: None,
            active,
            succeeded: 0,
            failed: 0,
            counted_before: Indexes::default(),
            done: Indexes::default(),
            failed_indexes: None,
            waiting: BTreeMap::new(),
            end: None,
            stopping: false,
            full: false,
            tracked: HashSet::new(),
            f,
        };
        let spec = s.spec();
        let new = |counted: &[String], test: &dyn Fn(&Pod) -> bool| -> Vec<&'a Pod> {
            let fresh = |p: &&Pod| s.is_tracked(p) && !counted.iter().any(|u| u == p.object.uid());
            s.f.pods.iter().filter(fresh).filter(|p| s.is_valid(p) && test(p)).collect()
        };
        let succeeded = new(&uncounted.succeeded, &has_succeeded);
        let failed = new(&uncounted.failed, &|p| has_failed(p, spec));
        let counted = failed.iter().filter(|p| s.verdict(p) != Verdict::Ignore).count();
        s.succeeded = s.status.succeeded + len(succeeded.len()) + len(uncounted.succeeded.len());
        s.failed = s.status.failed + len(counted) + len(uncounted.failed.len());
        s.record = s.f.record.after(&succeeded, &failed);
        s.end = s.why_end();
        s.count_indexes();
        s.stopping = s.end.is_some();
        s
    }

    pub(super) fn spec(&self) -> &'a Spec {
        &self.f.job.spec
    }

    pub(super) fn verdict(&self, p: &Pod) -> Verdict {
        judge(self.spec().pod_failure_policy.as_ref(), p)
    }

    pub(super) fn is_tracked(&self, p: &Pod) -> bool {
        is_tracked(&p.object) && !self.f.released.contains(p.object.uid())
    }

    fn completions(&self) -> i64 {
        self.spec().completions.unwrap_or(0)
    }

    /// An indexed job counts a pod by its index.
    pub(super) fn index_in_range(&self, p: &Pod) -> Option<i64> {
        index(p).filter(|i| *i < self.completions())
    }

    pub(super) fn is_valid(&self, p: &Pod) -> bool {
        !self.spec().is_indexed() || self.index_in_range(p).is_some()
    }

    pub(super) fn condition(&self, r#type: &str, reason: &str, message: &str) -> Condition {
        Condition::new(r#type, true, reason, message, self.f.now)
    }

    fn fail(&self, reason: &str, message: &str) -> Option<Condition> {
        Some(self.condition("FailureTarget", reason, message))
    }

    /// Why the job ends, as far as that does not hang on indexes.
    fn why_end(&mut self) -> Option<Condition> {
        if let Some(met) = self.status.on("SuccessCriteriaMet") {
            return Some(met.clone());
        }
        if let Some(c) = self.status.on("FailureTarget") {
            return Some(self.condition("Failed", &c.reason, &c.message));
        }
        let spec = self.spec();
        let told = self.f.pods.iter().filter(|p| has_failed(p, spec)).find_map(|p| match self.verdict(p) {
            Verdict::FailJob(message) => Some(message),
            _ => None,
        });
        if let Some(message) = told {
            return self.fail("PodFailurePolicy", &message);
        }
        if self.failed > spec.backoff_limit.unwrap_or(DEFAULT_BACKOFF) || self.restarted_too_often() {
            return self.fail("BackoffLimitExceeded", "Job has reached the specified backoff limit");
        }
        let limit = spec.active_deadline_seconds.filter(|_| !spec.suspended())?;
        let end = self.status.start()?.checked_add(SignedDuration::from_secs(limit)).ok()?;
        if self.f.now >= end {
            return self.fail("DeadlineExceeded", "Job was active longer than specified deadline");
        }
        self.look_again(clock::between(self.f.now, end));
        None
    }

    fn restarted_too_often(&self) -> bool {
        let spec = self.spec();
        if spec.template["spec"]["restartPolicy"] != "OnFailure" {
            return false;
        }
        let restarts: i64 = self
            .f
            .pods
            .iter()
            .filter(|p| matches!(p.view.status.phase.as_str(), "Running" | "Pending"))
            .flat_map(|p| {
                p.view.status.init_container_statuses.iter().chain(&p.view.status.container_statuses)
            })
            .map(|c| c.restart_count)
            .sum();
        let limit = spec.backoff_limit.unwrap_or(DEFAULT_BACKOFF);
        if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    fn look_again(&mut self, after: Duration) {
        self.again = Some(self.again.map_or(after, |a| a.min(after)));
    }

    fn count_indexes(&mut self) {
        let spec = self.spec();
        if !spec.is_indexed() {
            return;
        }
        let n = self.completions();
        let tracked = || self.f.pods.iter().filter(|p| is_tracked(&p.object));
        self.counted_before = Indexes::read(&self.status.completed_indexes, n);
        let new: BTreeSet<i64> =
            tracked().filter(|p| has_succeeded(p)).filter_map(|p| self.index_in_range(p)).collect();
        self.done = self.counted_before.with(&new);
        self.succeeded = self.done.total();
        if let Some(limit) = spec.backoff_limit_per_index {
            let before = Indexes::read(self.status.failed_indexes.as_deref().unwrap_or_default(), n);
            let new: BTreeSet<i64> = tracked()
                .filter(|p| self.fails_index(p, limit))
                .filter_map(|p| self.index_in_range(p))
                .collect();
            let failed = before.with(&new);
            let total = failed.total();
            if self.end.is_none() {
                if spec.max_failed_indexes.is_some_and(|max| total > max) {
                    let why = "Job has exceeded the specified maximal number of failed indexes";
                    self.end = self.fail("MaxFailedIndexesExceeded", why);
                } else if total > 0 && total + self.succeeded >= n {
                    self.end = self.fail("FailedIndexes", "Job has failed indexes");
                }
            }
            self.failed_indexes = Some(failed);
            self.waiting = self.find_waiting();
        }
        if self.end.is_none()
            && let Some(message) = spec.success_policy.as_ref().and_then(|p| p.met(&self.done, n))
        {
            self.end = Some(self.condition("SuccessCriteriaMet", "SuccessPolicy", &message));
        }
    }

    fn fails_index(&self, p: &Pod, limit: i64) -> bool {
        has_failed(p, self.spec())
            && match self.verdict(p) {
                Verdict::FailIndex => true,
                Verdict::Ignore => false,
                _ => i64::from(children::failures_before(p)) >= limit,
            }
    }

    fn find_waiting(&self) -> BTreeMap<i64, &'a Pod> {
        let active = children::indexes(self.active.iter().copied());
        let over = |i: &i64| {
            self.done.has(*i) || self.failed_indexes.as_ref().is_some_and(|f| f.has(*i)) || active.contains(i)
        };
        let mut out: BTreeMap<i64, &'a Pod> = BTreeMap::new();
        for p in self.f.pods.iter().filter(|p| self.is_tracked(p) && has_failed(p, self.spec())) {
            let Some(i) = self.index_in_range(p).filter(|i| !over(i)) else { continue };
            let later = |q: &&Pod| {
                children::all_failures_before(q) <= children::all_failures_before(p)
                    && backoff::finished_at(q) <= backoff::finished_at(p)
            };
            if out.get(&i).is_none_or(later) {
                out.insert(i, p);
            }
        }
        out
    }

    /// What to do about the number of pods.
    pub fn action(&mut self) -> Action<'a> {
        let uids = |pods: Vec<&'a Pod>| pods.into_iter().map(|p| p.object.uid()).collect::<Vec<_>>();
        if self.stopping {
            return Action::Stop(uids(self.active.clone()));
        }
        if !self.f.seen_all || self.f.deleting {
            return Action::None;
        }
        let spec = self.spec();
        let in_index = spec.is_indexed().then(|| self.completions());
        let active = len(self.active.len());
        if spec.suspended() {
            return match self.active.is_empty() {
                true => Action::None,
                false => Action::Remove(uids(children::surplus(&self.active, self.active.len(), in_index))),
            };
        }
        let want = match spec.completions {
            // The first success ends the making of pods; those that run may end.
            None if self.succeeded > 0 => active,
            None => spec.parallelism.unwrap_or(1),
            Some(n) => (n - self.succeeded).min(spec.parallelism.unwrap_or(1)).max(0),
        };
        let too_many = usize::try_from(active - want).unwrap_or(0);
        let mut surplus = children::surplus(&self.active, too_many, in_index);
        if !surplus.is_empty() {
            surplus.truncate(AT_ONCE);
            return Action::Remove(uids(surplus));
        }
        let held = if spec.replaces_ended_only() { self.status.terminating.unwrap_or(0) } else { 0 };
        let missing = usize::try_from(want - held - active).unwrap_or(0).min(AT_ONCE);
        if missing == 0 { Action::None } else { self.create(missing) }
    }

    fn create(&mut self, missing: usize) -> Action<'a> {
        let spec = self.spec();
        let per_index = spec.is_indexed() && spec.backoff_limit_per_index.is_some();
        if !per_index {
            let wait = self.record.remaining(self.f.now);
            if !wait.is_zero() {
                self.look_again(wait);
                return Action::None;
            }
        }
        if !spec.is_indexed() {
            return Action::Create(vec![NewPod::default(); missing]);
        }
        let mut taken = self.done.with(&children::indexes(self.active.iter().copied()));
        if spec.replaces_ended_only() {
            taken = taken.with(&children::indexes(self.f.pods.iter().filter(|p| p.is_terminating())));
        }
        if let Some(failed) = &self.failed_indexes {
            taken = taken.merge(failed);
        }
        let free = taken.free(missing, self.completions());
        if !per_index {
            return Action::Create(
                free.into_iter().map(|i| NewPod { index: Some(i), failures: None }).collect(),
            );
        }
        let mut wait: Option<Duration> = None;
        let mut new = Vec::new();
        for i in free {
            let before = self.waiting.get(&i).copied();
            let left = before.map_or(Duration::ZERO, |p| {
                let failures = children::all_failures_before(p).saturating_add(1);
                backoff::finished_at(p)
                    .map_or(Duration::ZERO, |t| backoff::remaining(failures, t, self.f.now))
            });
            if left.is_zero() {
                new.push(NewPod::per_index(i, before, spec.pod_failure_policy.as_ref()));
            } else {
                wait = Some(wait.map_or(left, |w| w.min(left)));
            }
        }
        if let Some(wait) = wait {
            self.look_again(wait);
        }
        if new.is_empty() { Action::None } else { Action::Create(new) }
    }
}
