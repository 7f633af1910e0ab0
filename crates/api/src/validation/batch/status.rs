//! A job's status, whoever writes it: counters do not run backwards, and what has ended stays ended. What a change does not
//! touch is not held against it, so that a job which a new specification has put in the wrong can still be set right.

use serde_json::Value;

use super::super::at::At;
use super::super::common::non_negative;
use super::super::errors::{ErrorList, same};
use crate::indexes::Indexes;

/// One side of the change.
struct Side<'v, 'p> {
    status: At<'v, 'p>,
    complete: bool,
    failed: bool,
    failing: bool,
    succeeding: bool,
}

impl<'v, 'p> Side<'v, 'p> {
    fn of(status: At<'v, 'p>) -> Self {
        let list = status.raw("conditions").as_array();
        let on =
            |kind: &str| list.is_some_and(|l| l.iter().any(|c| c["type"] == kind && c["status"] == "True"));
        Self {
            status,
            complete: on("Complete"),
            failed: on("Failed"),
            failing: on("FailureTarget"),
            succeeding: on("SuccessCriteriaMet"),
        }
    }

    fn finished(&self) -> bool {
        self.complete || self.failed
    }
}

/// Job status.
pub fn job_status(n: &Value, o: &Value, e: &mut ErrorList) {
    let (root, old_root) = (At::root(n), At::root(o));
    let spec = root.get("spec");
    let (new, old) = (Side::of(root.get("status")), Side::of(old_root.get("status")));
    for f in ["active", "succeeded", "failed", "ready", "terminating"] {
        non_negative(&new.status.get(f), e);
    }
    uncounted(&new.status, e);
    let changed = |f: &str| !same(new.status.raw(f), old.status.raw(f));
    ended(&new, &old, &spec, &changed, e);
    indexes(&new.status, &spec, &changed, e);
    running(&new, &old, &spec, &changed, e);
    turned(&new, &old, &spec, e);
}

fn uncounted(status: &At, e: &mut ErrorList) {
    let all = status.get("uncountedTerminatedPods");
    let mut seen = std::collections::HashSet::new();
    for f in ["succeeded", "failed"] {
        for uid in all.get(f).iter() {
            if uid.str().is_empty() {
                e.bad(&uid, "must not be empty");
            } else if !seen.insert(uid.str().to_owned()) {
                e.duplicate(&uid, uid.str());
            }
        }
    }
}

/// What has to be there when a job has ended, and what must not.
fn ended(new: &Side, old: &Side, spec: &At, changed: &dyn Fn(&str) -> bool, e: &mut ErrorList) {
    let at = new.status.at("conditions");
    let completed = new.complete != old.complete;
    let (start, end) = (new.status.get("startTime"), new.status.get("completionTime"));
    let (start_changed, end_changed) = (changed("startTime"), changed("completionTime"));
    if (completed || new.failed != old.failed) && new.complete && new.failed {
        e.wrong(&at, "cannot set Complete=True and Failed=true conditions");
    }
    if (completed || new.failing != old.failing) && new.complete && new.failing {
        e.wrong(&at, "cannot set Complete=True and FailureTarget=true conditions");
    }
    if (completed || end_changed) && !end.is_null() && !new.complete {
        e.bad(&end, "cannot set completionTime when there is no Complete=True condition");
    }
    if (completed || end_changed) && end.is_null() && new.complete {
        e.required(&end, "completionTime is required for Complete jobs");
    }
    let parsed = |a: &At| crate::time::parse(a.str()).ok();
    let backwards = parsed(&start).zip(parsed(&end)).is_some_and(|(s, t)| t < s);
    if (start_changed || end_changed) && backwards {
        e.bad(&end, "must be equal to or after `startTime`");
    }
    if (new.failed != old.failed || changed("failedIndexes")) && new.failed && !new.failing {
        e.wrong(&at, "cannot set Failed=True condition without the FailureTarget=true condition");
    }
    if (completed || new.succeeding != old.succeeding) && new.complete && !new.succeeding {
        e.wrong(&at, "cannot set Complete=True condition without the SuccessCriteriaMet=true condition");
    }
    let finished = new.finished() != old.finished();
    let active = new.status.get("active");
    if (finished || changed("active")) && new.finished() && active.int().is_some_and(|n| n > 0) {
        e.bad(&active, "active>0 is invalid for finished job");
    }
    // Nothing to do, and told to wait: it never started.
    let idle = spec.b("suspend") && spec.i("completions") == Some(0);
    if (finished || start_changed) && !idle && start.is_null() && new.finished() {
        e.required(&start, "startTime is required for finished job");
    }
    let open = new.status.get("uncountedTerminatedPods");
    let some = open.get("succeeded").len() + open.get("failed").len() > 0;
    if (finished || changed("uncountedTerminatedPods")) && new.finished() && some {
        e.bad(&open, "must be empty for finished job");
    }
}

fn running(new: &Side, old: &Side, spec: &At, changed: &dyn Fn(&str) -> bool, e: &mut ErrorList) {
    let at = new.status.at("conditions");
    let terminating = new.status.get("terminating");
    let any = terminating.int().is_some_and(|n| n > 0);
    if (new.finished() != old.finished() || changed("terminating")) && new.finished() && any {
        e.bad(&terminating, "terminating>0 is invalid for finished job");
    }
    let (ready, active) = (new.status.get("ready"), new.status.i("active").unwrap_or(0));
    if (changed("ready") || changed("active")) && ready.int().is_some_and(|r| r > active) {
        e.bad(&ready, "cannot set more ready pods than active");
    }
    if new.succeeding && new.failed {
        e.wrong(&at, "cannot set SuccessCriteriaMet=True and Failed=true conditions");
    }
    if new.succeeding && new.failing {
        e.wrong(&at, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    }
    if spec.has("successPolicy") && new.complete && !new.succeeding {
        e.wrong(&at, "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True");
    }
}

/// What does not turn back.
fn turned(new: &Side, old: &Side, spec: &At, e: &mut ErrorList) {
    let at = new.status.at("conditions");
    for (kind, was, is) in [
        ("Failed", old.failed, new.failed),
        ("Complete", old.complete, new.complete),
        ("FailureTarget", old.failing, new.failing),
    ] {
        if was && !is {
            e.wrong(&at, &format!("cannot disable the terminal {kind}=True condition"));
        }
    }
    let count = |f: &str| new.status.i(f).unwrap_or(0);
    let fell = |f: &str| count(f) < old.status.i(f).unwrap_or(0);
    if fell("failed") {
        e.invalid(&new.status.at("failed"), count("failed"), "cannot decrease the failed counter");
    }
    // A job that may shrink may lose successes.
    let elastic =
        spec.s("completionMode") == "Indexed" && same(spec.raw("completions"), spec.raw("parallelism"));
    if fell("succeeded") && !elastic {
        e.invalid(&new.status.at("succeeded"), count("succeeded"), "cannot decrease the succeeded counter");
    }
    let (start, end) = (new.status.get("startTime"), new.status.get("completionTime"));
    let was = |f: &str| old.status.raw(f);
    if !end.is_null() && !was("completionTime").is_null() && end.v != was("completionTime") {
        e.bad(&end, super::super::IMMUTABLE);
    }
    let suspended = |s: &Side, is: &str| {
        let list = s.status.raw("conditions").as_array().into_iter().flatten();
        list.into_iter().any(|c| c["type"] == "Suspended" && c["status"] == is)
    };
    let resumes = suspended(old, "True") && suspended(new, "False");
    if !was("startTime").is_null() && start.v != was("startTime") && !spec.b("suspend") && !resumes {
        e.bad(&start, "field is immutable for unsuspended job once set");
    }
    if old.succeeding && !new.succeeding {
        e.wrong(&at, "cannot disable the SuccessCriteriaMet=True condition");
    }
    if old.complete && !old.succeeding && new.succeeding {
        e.wrong(&at, "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions");
    }
}

fn indexes(status: &At, spec: &At, changed: &dyn Fn(&str) -> bool, e: &mut ErrorList) {
    let (done, failed) = (status.get("completedIndexes"), status.get("failedIndexes"));
    let (done_changed, failed_changed) = (changed("completedIndexes"), changed("failedIndexes"));
    let completions = spec.i("completions");
    let read = |a: &At| completions.map(|n| Indexes::check(a.str(), n));
    if done_changed {
        if let Some(Err(why)) = read(&done) {
            e.bad(&done, &format!("error parsing completedIndexes: {why}"));
        }
        if !done.str().is_empty() && spec.s("completionMode") != "Indexed" {
            e.bad(&done, "cannot set non-empty completedIndexes when non-indexed completion mode");
        }
    }
    if failed_changed && !failed.is_null() {
        if !spec.has("backoffLimitPerIndex") {
            e.bad(&failed, "cannot set non-null failedIndexes when backoffLimitPerIndex is null");
        } else if let Some(Err(why)) = read(&failed) {
            e.bad(&failed, &format!("error parsing failedIndexes: {why}"));
        }
    }
    if (done_changed || failed_changed)
        && let (Some(Ok(d)), Some(Ok(f))) = (read(&done), read(&failed))
        && let Some(first) = d.common(&f).first()
    {
        e.bad(&failed, &format!("failedIndexes and completedIndexes overlap at index: {first}"));
    }
}
