//! Defaults of the batch group.

use super::{Fields, core, each, ensure, get, plain, pod, pointer, unset};

pub(super) fn apply(kind: &str, o: &mut Fields) {
    match kind {
        "Job" => job(o),
        "CronJob" => cron_job(o),
        _ => {}
    }
}

fn job(o: &mut Fields) {
    if let Some(labels) = core::template_labels(o)
        && let Some(m) = ensure(o, "metadata")
    {
        plain(m, "labels", labels);
    }
    let Some(s) = ensure(o, "spec") else { return };
    if unset(s, "completions") && unset(s, "parallelism") {
        pointer(s, "completions", 1);
    }
    pointer(s, "parallelism", 1);
    let limit = if unset(s, "backoffLimitPerIndex") { 6 } else { i32::MAX };
    pointer(s, "backoffLimit", limit);
    pointer(s, "completionMode", "NonIndexed");
    pointer(s, "suspend", false);
    pointer(s, "manualSelector", false);
    let replacement = if unset(s, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
    pointer(s, "podReplacementPolicy", replacement);
    if let Some(p) = get(s, "podFailurePolicy") {
        for c in each(p, "rules").flat_map(|r| each(r, "onPodConditions")) {
            plain(c, "status", "True");
        }
    }
    pod::template(s);
}

fn cron_job(o: &mut Fields) {
    let Some(s) = ensure(o, "spec") else { return };
    plain(s, "concurrencyPolicy", "Allow");
    pointer(s, "suspend", false);
    pointer(s, "successfulJobsHistoryLimit", 3);
    pointer(s, "failedJobsHistoryLimit", 1);
    if let Some(j) = ensure(s, "jobTemplate").and_then(|t| ensure(t, "spec")) {
        if let Some(p) = get(j, "podFailurePolicy") {
            for c in each(p, "rules").flat_map(|r| each(r, "onPodConditions")) {
                plain(c, "status", "True");
            }
        }
        pod::template(j);
    }
}
