//! Jobs and cron jobs: suspended, out of time, out of tries.

use super::creation;
use super::workloads::of_pods;
use crate::cause::{Cause, Weight};
use crate::facts::{Facts, Thing, str_of};

pub fn job(f: &Facts, j: &Thing) -> Vec<Cause> {
    if j.condition("Complete").is_some_and(|c| c["status"] == "True") {
        return Vec::new();
    }
    let mut out = Vec::new();
    let below = of_pods(f, f.owned("pod", j));
    let failed =
        ["Failed", "FailureTarget"].iter().find_map(|n| j.condition(n).filter(|c| c["status"] == "True"));
    if let Some(c) = failed {
        let (reason, message) = (str_of(&c["reason"]), str_of(&c["message"]));
        let again = j.kubectl(&format!("get {} -o yaml", j.id()));
        let again =
            format!("{again} > {0}.yaml   # change it, then: kubectl replace --force -f {0}.yaml", j.name());
        let seen = |x: Cause| {
            x.seen(j, "status.conditions[Failed].reason", reason).seen(
                j,
                "status.conditions[Failed].message",
                message,
            )
        };
        return match reason {
            "DeadlineExceeded" => {
                let limit = j.int("/spec/activeDeadlineSeconds");
                let cause = Cause::root(
                    "deadline-exceeded",
                    format!(
                        "it was ended: it ran longer than the {limit} s that its activeDeadlineSeconds allows"
                    ),
                );
                let mut all = vec![seen(cause).run("allow it more time and run it again", again)];
                all.extend(below.into_iter().map(|mut c| {
                    c.weight = c.weight.max(Weight::State);
                    c
                }));
                all
            }
            "BackoffLimitExceeded" | "MaxFailedIndexesExceeded" | "FailedIndexes" | "PodFailurePolicy" => {
                let tries = j.int("/status/failed");
                let cause = Cause::new(
                    "job-failed",
                    if below.is_empty() { Weight::Root } else { Weight::Symptom },
                    format!("it has given up after {tries} failed pods: {message}"),
                );
                let mut all = below;
                all.push(seen(cause).run("run it again, once the cause is mended", again));
                all
            }
            _ => vec![
                seen(Cause::root("job-failed", format!("it failed: {message}"))).run("run it again", again),
            ],
        };
    }
    if j.at("/spec/suspend") == &serde_json::Value::Bool(true) {
        let resume = r#"-p '{"spec":{"suspend":false}}'"#;
        out.push(
            Cause::root("suspended", "it is suspended: no pod of it runs until somebody resumes it")
                .seen(j, "spec.suspend", "true")
                .run("resume it", j.kubectl(&format!("patch {} {resume}", j.id()))),
        );
    }
    let by = j.text("/spec/managedBy");
    if !by.is_empty() && by != "kubernetes.io/job-controller" && j.at("/status/startTime").is_null() {
        out.push(
            Cause::root(
                "managed-elsewhere",
                format!("it is left to the controller {by}, which has not begun with it"),
            )
            .seen(j, "spec.managedBy", by),
        );
    }
    out.extend(creation::causes(f, j));
    out.extend(below);
    out
}

pub fn cron(f: &Facts, c: &Thing) -> Vec<Cause> {
    let mut out = Vec::new();
    if c.at("/spec/suspend") == &serde_json::Value::Bool(true) {
        let resume = r#"-p '{"spec":{"suspend":false}}'"#;
        out.push(
            Cause::new("suspended", Weight::State, "it is suspended: it makes no jobs")
                .seen(c, "spec.suspend", "true")
                .run("resume it", c.kubectl(&format!("patch {} {resume}", c.id()))),
        );
    }
    if let Some(e) = f.event(
        c,
        &[
            "UnparseableCronJobSchedule",
            "UnknownTimeZone",
            "TooManyMissedTimes",
            "FailedCreate",
            "MissSchedule",
        ],
    ) {
        let age = f.now - crate::facts::event_time(e);
        if age < 24 * 3600 {
            out.push(Cause::state("cron-missed", e.text("/message").to_owned()).event(Some(e)));
        }
    }
    // The newest of its jobs says how it does now.
    let newest = f.owned("job", c).max_by_key(|j| j.text("/metadata/creationTimestamp").to_owned());
    if let Some(j) = newest {
        for mut x in job(f, j) {
            x.affects.push(j.id());
            out.push(x);
        }
    }
    out
}
