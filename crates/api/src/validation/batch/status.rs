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
    conditions(&new, &old, &spec, e);
    times(&new, &old, &spec, &changed, e);
    counters(&new, &old, &spec, &changed, e);
    indexes(&new.status, &spec, &changed, e);
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

fn conditions(new: &Side, old: &Side, spec: &At, e: &mut ErrorList) {
    let at = new.status.at("conditions");
    let mut refuse = |when: bool, why: &str| {
        if when {
            e.wrong(&at, why);
        }
    };
    let complete_changed = new.complete != old.complete;
    refuse(
        (complete_changed || new.failed != old.failed) && new.complete && new.failed,
        "cannot set Complete=True and Failed=true conditions",
    );
    refuse(
        (complete_changed || new.failing != old.failing) && new.complete && new.failing,
        "cannot set Complete=True and FailureTarget=true conditions",
    );
    refuse(new.succeeding && new.failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions");
    refuse(
        new.succeeding && new.failing,
        "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
    );
    refuse(
        spec.has("successPolicy") && new.complete && !new.succeeding,
        "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
    );
    for (kind, was, is) in [
        ("Failed", old.failed, new.failed),
        ("Complete", old.complete, new.complete),
        ("FailureTarget", old.failing, new.failing),
    ] {
        refuse(was && !is, &format!("cannot disable the terminal {kind}=True condition"));
    }
    refuse(old.succeeding && !new.succeeding, "cannot disable the SuccessCriteriaMet=True condition");
    refuse(
        old.complete && !old.succeeding && new.succeeding,
        "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
    );
}

fn times(new: &Side, old: &Side, spec: &At, changed: &dyn Fn(&str) -> bool, e: &mut ErrorList) {
    let (start, end) = (new.status.get("startTime"), new.status.get("completionTime"));
    let (start_changed, end_changed) = (changed("startTime"), changed("completionTime"));
    if new.complete != old.complete || end_changed {
        if !end.is_null() && !new.complete {
            e.bad(&end, "cannot set completionTime when there is no Complete=True condition");
        }
        if end.is_null() && new.complete {
            e.required(&end, "completionTime is required for Complete jobs");
        }
    }
    if start_changed || end_changed {
        let parsed = |a: &At| crate::time::parse(a.str()).ok();
        if parsed(&start).zip(parsed(&end)).is_some_and(|(s, t)| t < s) {
            e.bad(&end, "completionTime cannot be set before startTime");
        }
    }
    if (new.finished() != old.finished() || start_changed) && start.is_null() && new.finished() {
        e.required(&start, "startTime is required for finished job");
    }
    if end_changed && !end.is_null() && old.status.has("completionTime") {
        e.bad(&end, "completionTime cannot be mutated");
    }
    if start_changed && old.status.has("startTime") && !spec.b("suspend") {
        e.required(&start, "startTime cannot be removed for unsuspended job");
    }
}

fn counters(new: &Side, old: &Side, spec: &At, changed: &dyn Fn(&str) -> bool, e: &mut ErrorList) {
    let finished_changed = new.finished() != old.finished();
    let active = new.status.get("active");
    if (finished_changed || changed("active")) && new.finished() && active.int().is_some_and(|n| n > 0) {
        e.bad(&active, "active>0 is invalid for finished job");
    }
    let open = new.status.get("uncountedTerminatedPods");
    if (finished_changed || changed("uncountedTerminatedPods"))
        && new.finished()
        && open.get("succeeded").len() + open.get("failed").len() > 0
    {
        e.bad(&open, "uncountedTerminatedPods needs to be empty for finished job");
    }
    let fell = |f: &str| new.status.i(f).unwrap_or(0) < old.status.i(f).unwrap_or(0);
    let count = |f: &str| new.status.i(f).unwrap_or(0);
    if fell("failed") {
        e.invalid(&new.status.at("failed"), count("failed"), "cannot decrease the failed counter");
    }
    // A job that may shrink may lose successes.
    let elastic =
        spec.s("completionMode") == "Indexed" && same(spec.raw("completions"), spec.raw("parallelism"));
    if fell("succeeded") && !elastic {
        e.invalid(&new.status.at("succeeded"), count("succeeded"), "cannot decrease the succeeded counter");
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
