//! The second half of a sync: `acted` is told how the action went, `track` counts ended pods and names those whose
//! finalizer may go, `settle` moves them into the counters, `finish` ends the job. Pure.

use std::collections::BTreeSet;

use client::{clock, planted};

use super::children::index;
use super::plan::{AT_ONCE, Done, Sync, has_failed, has_succeeded, len};
use super::policy::Verdict;
use super::view::Condition;
use crate::pods::Pod;

impl<'a> Sync<'a> {
    /// Takes in how the action went, and whether the job is complete by that.
    pub fn acted(&mut self, done: Done) {
        let (ready, terminating) = (self.status.ready.unwrap_or(0), self.status.terminating.unwrap_or(0));
        let before = self.status.active;
        self.status.active = before + len(done.created) - len(done.deleted);
        self.status.terminating = Some(terminating + len(done.deleted));
        self.status.ready = Some((ready - len(done.ready)).max(0));
        if self.stopping {
            if len(done.deleted) != before || !self.f.seen_all {
                // Pods may be left, or not be known yet.
                self.end = None;
            }
            return;
        }
        let over = match self.spec().completions {
            None => self.succeeded > 0,
            Some(n) => self.succeeded >= n,
        };
        if over && self.status.active == 0 {
            let message = "Reached expected number of succeeded pods";
            self.end = Some(self.condition("SuccessCriteriaMet", "CompletionsReached", message));
        } else if self.f.seen_all && !self.f.deleting {
            self.suspend_or_resume();
        }
    }

    fn suspend_or_resume(&mut self) {
        let on = self.spec().suspended();
        let (reason, message) =
            if on { ("JobSuspended", "Job suspended") } else { ("JobResumed", "Job resumed") };
        if self.status.set(Condition::new("Suspended", on, reason, message, self.f.now)) {
            self.suspended = Some(on);
            // The deadline counts from the last start.
            self.status.start_time = (!on).then(|| clock::rfc3339(self.f.now));
        }
    }

    /// Counts ended pods into the status. Answers the pods whose finalizer may go once the status is written.
    pub fn track(&mut self) -> Vec<&'a Pod> {
        self.tracked = self.f.pods.iter().filter(|p| self.is_tracked(p)).map(|p| p.object.uid()).collect();
        self.settle(&[]);
        let spec = self.spec();
        let mut pods: Vec<&'a Pod> = self.f.pods.iter().filter(|p| self.is_tracked(p)).collect();
        if spec.is_indexed() {
            pods.sort_by_key(|p| index(p));
        }
        let mut out = Vec::new();
        let mut new = BTreeSet::new();
        let mut uncounted = self.status.uncounted_terminated_pods.take().unwrap_or_default();
        let fails_all = self.end.as_ref().is_some_and(|c| c.r#type != "SuccessCriteriaMet");
        for p in pods {
            let failed = has_failed(p, spec);
            if !self.may_release(p, failed) {
                continue;
            }
            out.push(p);
            let uid = p.object.uid();
            let counted_failed = uncounted.failed.iter().any(|u| u == uid);
            if has_succeeded(p) && !counted_failed {
                if spec.is_indexed() {
                    new.extend(self.index_in_range(p).filter(|i| !self.counted_before.has(*i)));
                } else if !uncounted.succeeded.iter().any(|u| u == uid)
                    && !planted::is_on("finalizer-dropped")
                {
                    uncounted.succeeded.push(uid.to_owned());
                }
            } else if (failed || fails_all)
                && !counted_failed
                && self.is_valid(p)
                && self.verdict(p) != Verdict::Ignore
            {
                uncounted.failed.push(uid.to_owned());
            }
            if new.len() + uncounted.succeeded.len() + uncounted.failed.len() >= AT_ONCE {
                self.full = true;
                break;
            }
        }
        self.status.uncounted_terminated_pods = Some(uncounted);
        if spec.is_indexed() {
            // Only what is counted now; the rest follows.
            self.done = self.counted_before.with(&new);
            self.status.succeeded = self.done.total();
            self.status.completed_indexes = self.done.to_string();
            self.status.failed_indexes = self.failed_indexes.as_ref().map(ToString::to_string);
        }
        self.announce_end();
        out
    }

    fn may_release(&self, p: &Pod, failed: bool) -> bool {
        if self.f.deleting || self.end.is_some() || has_succeeded(p) {
            return true;
        }
        let waits =
            index(p).and_then(|i| self.waiting.get(&i)).is_some_and(|w| w.object.uid() == p.object.uid());
        failed && !waits
    }

    /// The interim condition is written before finalizers go, the final one after.
    fn announce_end(&mut self) {
        let Some(end) = self.end.take() else { return };
        self.end = Some(match end.r#type.as_str() {
            "FailureTarget" => self.condition("Failed", &end.reason, &end.message),
            "SuccessCriteriaMet" => self.condition("Complete", &end.reason, &end.message),
            _ => end.clone(),
        });
        if end.r#type != "Failed" && self.status.on(&end.r#type).is_none() {
            self.status.set(end);
        }
    }

    /// These have lost their finalizer: uncounted pods without one go into the counters.
    pub fn settle(&mut self, released: &[&'a str]) {
        for uid in released {
            self.tracked.remove(uid);
        }
        let Some(uncounted) = &mut self.status.uncounted_terminated_pods else { return };
        for (list, counter) in [
            (&mut uncounted.succeeded, &mut self.status.succeeded),
            (&mut uncounted.failed, &mut self.status.failed),
        ] {
            let before = list.len();
            list.retain(|u| self.tracked.contains(u.as_str()));
            *counter += len(before - list.len());
        }
    }

    /// Ends the job when all its pods have ended and are counted; the condition that did it.
    pub fn finish(&mut self) -> Option<Condition> {
        let end = self.end.clone()?;
        let uncounted = self.status.uncounted_terminated_pods.as_ref();
        let open = uncounted.is_some_and(|u| !u.succeeded.is_empty() || !u.failed.is_empty());
        if open || self.full || self.status.terminating.unwrap_or(0) > 0 {
            return None;
        }
        self.status.set(end.clone());
        // A job that ends while it is suspended has lost its start, and the API insists on one.
        self.status.start_time.get_or_insert_with(|| clock::rfc3339(self.f.now));
        if end.r#type == "Complete" {
            self.status.completion_time.clone_from(&end.last_transition_time);
        }
        Some(end)
    }
}
