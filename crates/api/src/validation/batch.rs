//! Job and CronJob.

use super::at::At;
use super::common::{
    format, label_selector, non_negative, one_of, optional_one_of, required, selector_is_empty, selects,
};
use super::errors::{ErrorList, same};
use super::{names, pod};
use crate::cron;
use serde_json::Value;
use std::collections::HashSet;

/// Job.
pub fn job(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    job_spec(&spec, e);
    let selector = spec.get("selector");
    if selector.is_null() {
        e.required(&selector, "");
    } else {
        label_selector(&selector, e);
        let t = spec.get("template");
        let meta = t.get("metadata");
        let labels = meta.get("labels");
        if !selector_is_empty(selector.v) && !selects(selector.v, labels.v) {
            e.bad(&labels, "`selector` does not match template `labels`");
        }
    }
    // Pods of an indexed job are named after it, the index, and a random tail.
    let name = root.get("metadata").s("name");
    if spec.s("completionMode") == "Indexed" && !name.is_empty() {
        let last = spec.i("completions").unwrap_or(1).saturating_sub(1).max(0);
        let host = format!("{name}-{last}");
        for m in names::dns1123_label(&host) {
            let why = format!("will not able to create pod with invalid DNS label: {host}: {m}");
            e.invalid(&root.get("metadata").at("name"), name, &why);
        }
    }
}

fn job_spec(spec: &At, e: &mut ErrorList) {
    for f in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        non_negative(&spec.get(f), e);
    }
    let mode = spec.get("completionMode");
    if !mode.is_null() {
        if !matches!(mode.str(), "NonIndexed" | "Indexed") {
            e.not_supported(&mode, mode.str(), &["Indexed", "NonIndexed"]);
        }
        if mode.str() == "Indexed" {
            match spec.i("completions") {
                None => e.required(&spec.at("completions"), "when completion mode is Indexed"),
                Some(_) => {
                    let parallel = spec.get("parallelism");
                    if parallel.int().is_some_and(|p| p > 100_000) {
                        e.bad(
                            &parallel,
                            "must be less than or equal to 100000 when completion mode is Indexed",
                        );
                    }
                }
            }
        }
    }
    let indexed = mode.str() == "Indexed";
    let (per_index, max_failed) = (spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes"));
    if !per_index.is_null() && !indexed {
        e.bad(&per_index, "requires indexed completion mode");
    }
    if let Some(m) = max_failed.int() {
        if per_index.is_null() {
            e.required(&per_index, "when maxFailedIndexes is specified");
        }
        if spec.i("completions").is_some_and(|c| m > c) {
            e.bad(&max_failed, "must be less than or equal to completions");
        }
    }
    let by = spec.get("managedBy");
    if !by.is_null() {
        if by.str().len() > 63 {
            e.too_long(&by, 63);
        }
        super::certificates::path_qualified(&by, e);
    }
    let replacement = spec.get("podReplacementPolicy");
    optional_one_of(&replacement, &["Failed", "TerminatingOrFailed"], e);
    failure_policy(spec, e);
    success_policy(spec, indexed, e);
    let t = spec.get("template");
    pod::template(&t, e);
    let inner = t.get("spec");
    let restart = inner.get("restartPolicy");
    if restart.str() == "Always" {
        e.required(&restart, "valid values: \"OnFailure\", \"Never\"");
    } else if !restart.str().is_empty() && !matches!(restart.str(), "OnFailure" | "Never") {
        e.not_supported(&restart, restart.str(), &["OnFailure", "Never"]);
    }
}

fn failure_policy(spec: &At, e: &mut ErrorList) {
    let policy = spec.get("podFailurePolicy");
    if policy.is_null() {
        return;
    }
    if spec.get("template").get("spec").s("restartPolicy") != "Never" {
        let t = spec.get("template");
        let s = t.get("spec");
        let why = "only \"Never\" is supported when podFailurePolicy is specified";
        e.bad(&s.get("restartPolicy"), why);
    }
    let rules = policy.get("rules");
    if rules.len() > 20 {
        e.too_many(&rules, rules.len(), 20);
    }
    let t = spec.get("template");
    let s = t.get("spec");
    let containers: HashSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|l| s.raw(l).as_array().into_iter().flatten())
        .filter_map(|c| c.get("name")?.as_str())
        .collect();
    for r in rules.iter() {
        let action = r.get("action");
        one_of(&action, &["Count", "FailIndex", "FailJob", "Ignore"], e);
        if action.str() == "FailIndex" && !spec.has("backoffLimitPerIndex") {
            e.bad(&action, "requires the backoffLimitPerIndex to be set");
        }
        let codes = r.get("onExitCodes");
        let conditions = r.get("onPodConditions");
        if codes.is_null() && conditions.is_empty() {
            e.bad(&r, "specifying one of OnExitCodes and OnPodConditions is required");
        }
        if !codes.is_null() && !conditions.is_empty() {
            e.bad(&r, "specifying both OnExitCodes and OnPodConditions is not supported");
        }
        if !codes.is_null() {
            exit_codes(&codes, &containers, e);
        }
        if conditions.len() > 20 {
            e.too_many(&conditions, conditions.len(), 20);
        }
        for c in conditions.iter() {
            format(&c.get("type"), names::qualified_name, e);
            one_of(&c.get("status"), &["False", "True", "Unknown"], e);
        }
    }
}

fn exit_codes(codes: &At, containers: &HashSet<&str>, e: &mut ErrorList) {
    let operator = codes.get("operator");
    one_of(&operator, &["In", "NotIn"], e);
    let name = codes.get("containerName");
    if !name.is_null() && !containers.contains(name.str()) {
        e.bad(&name, "must be one of the container or initContainer names in the pod template");
    }
    let values = codes.get("values");
    if values.is_empty() {
        e.bad(&values, "at least one value is required");
    } else if values.len() > 255 {
        e.too_many(&values, values.len(), 255);
    }
    let mut seen = HashSet::new();
    let mut last = i64::MIN;
    for v in values.iter() {
        let n = v.int().unwrap_or(0);
        if operator.str() == "In" && n == 0 {
            e.bad(&v, "must not be 0 for the In operator");
        }
        if !seen.insert(n) {
            e.duplicate(&v, n);
        } else if n < last {
            e.bad(&values, "must be ordered");
            break;
        }
        last = n;
    }
}

fn success_policy(spec: &At, indexed: bool, e: &mut ErrorList) {
    let policy = spec.get("successPolicy");
    if policy.is_null() {
        return;
    }
    if !indexed {
        e.bad(&policy, "requires indexed completion mode");
        return;
    }
    let rules = policy.get("rules");
    if rules.is_empty() {
        e.required(&rules, "at least one rules must be specified when the successPolicy is specified");
    }
    if rules.len() > 20 {
        e.too_many(&rules, rules.len(), 20);
    }
    let completions = spec.i("completions").unwrap_or(0);
    for r in rules.iter() {
        let (count, indexes) = (r.get("succeededCount"), r.get("succeededIndexes"));
        if count.is_null() && indexes.is_null() {
            e.required(&r, "at least one of succeededCount or succeededIndexes must be specified");
        }
        non_negative(&count, e);
        if count.int().is_some_and(|c| c > completions) {
            let why =
                format!("must be less than or equal to {completions} (the number of specified completions)");
            e.bad(&count, &why);
        }
        if indexes.is_null() {
            continue;
        }
        match indexes_total(indexes.str(), completions) {
            Err(why) => e.bad(&indexes, &format!("error parsing succeededIndexes: {why}")),
            Ok(total) => {
                if count.int().is_some_and(|c| c > total) {
                    let why = format!(
                        "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
                    );
                    e.bad(&count, &why);
                }
            }
        }
    }
}

/// How many indexes `1,3-5` names.
fn indexes_total(text: &str, completions: i64) -> Result<i64, String> {
    let mut total = 0;
    let mut last = -1i64;
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let number = |s: &str| {
            s.parse::<i64>().map_err(|_| format!("cannot convert string to integer for index: {s:?}"))
        };
        let (lo, hi) = part.split_once('-').map_or((part, part), |p| p);
        let (lo, hi) = (number(lo)?, number(hi)?);
        if lo <= last || hi < lo {
            return Err(format!("non-increasing order, previous: {last}, current: {lo}"));
        }
        if hi >= completions {
            return Err(format!("too large index: {hi:?}"));
        }
        total += hi - lo + 1;
        last = hi;
    }
    Ok(total)
}

pub fn job_update(n: &Value, o: &Value, e: &mut ErrorList) {
    job(n, e);
    let (new, old) = (At::root(n), At::root(o));
    let (spec, was) = (new.get("spec"), old.get("spec"));
    // An elastic indexed job may change both numbers together.
    let completions = spec.get("completions");
    if !same(completions.v, was.raw("completions")) {
        let elastic = spec.s("completionMode") == "Indexed" && completions.v == spec.raw("parallelism");
        if !elastic {
            if spec.s("completionMode") == "Indexed" {
                let why = "can only be modified in tandem with spec.parallelism";
                e.bad(&completions, why);
            } else {
                e.bad(&completions, super::IMMUTABLE);
            }
        }
    }
    for f in [
        "selector",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        e.immutable(&spec.get(f), was.raw(f));
    }
    template_update(&spec, &was, &old, e);
}

/// A suspended job that has not started may still be told where and how to run.
fn template_update(spec: &At, was: &At, old: &At, e: &mut ErrorList) {
    let (t, b) = (spec.get("template"), was.get("template"));
    let status = old.get("status");
    let mutable = was.b("suspend") && !status.has("startTime");
    if !mutable {
        e.immutable(&t, b.v);
        return;
    }
    let (ts, bs) = (t.get("spec"), b.get("spec"));
    let spec_same = super::common::same_except(
        ts.v,
        bs.v,
        &["affinity", "nodeSelector", "tolerations", "schedulingGates", "containers", "initContainers"],
    );
    let others_same = super::common::same_except(t.v, b.v, &["spec", "metadata"])
        && super::common::same_except(t.raw("metadata"), b.raw("metadata"), &["labels", "annotations"]);
    let containers_same = ["containers", "initContainers"].iter().all(|l| {
        let (now, before) = (ts.get(l), bs.get(l));
        now.len() == before.len()
            && now
                .list()
                .iter()
                .zip(before.list())
                .all(|(c, d)| super::common::same_except(c, d, &["resources"]))
    });
    if !spec_same || !others_same || !containers_same {
        e.bad(&t, super::IMMUTABLE);
    }
}

/// Job status: what has ended stays ended.
pub fn job_status(n: &Value, o: &Value, e: &mut ErrorList) {
    let (new, old) = (At::root(n), At::root(o));
    let (status, was) = (new.get("status"), old.get("status"));
    for f in ["active", "succeeded", "failed", "terminating", "ready"] {
        non_negative(&status.get(f), e);
    }
    let on = |s: &At, kind: &str| {
        s.get("conditions").list().iter().any(|c| c["type"] == kind && c["status"] == "True")
    };
    for kind in ["Complete", "Failed"] {
        if on(&was, kind) && !on(&status, kind) {
            let conditions = status.get("conditions");
            e.bad(&conditions, &format!("must not be removed once set to True: {kind}"));
        }
    }
    if on(&status, "Complete") && on(&status, "Failed") {
        e.bad(&status.get("conditions"), "cannot set Complete=True and Failed=true conditions");
    }
}

/// CronJob.
pub fn cron_job(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    // Jobs are named after their minute: eleven characters more.
    let meta = root.get("metadata");
    let name = meta.get("name");
    if name.str().len() > 52 {
        e.bad(&name, "must be no more than 52 characters");
    }
    let spec = root.get("spec");
    let schedule = spec.get("schedule");
    if required(&schedule, e) {
        if let Err(why) = cron::Schedule::parse(schedule.str()) {
            e.bad(&schedule, &why.to_string());
        } else if schedule.str().contains("TZ=") {
            let why = if spec.has("timeZone") {
                "cannot use both timeZone field and TZ or CRON_TZ in schedule"
            } else {
                "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
            };
            e.bad(&schedule, why);
        }
    }
    let zone = spec.get("timeZone");
    if !zone.is_null() {
        if zone.str().is_empty() {
            e.bad(&zone, "timeZone must be nil or non-empty string");
        } else if zone.str().eq_ignore_ascii_case("local") {
            e.bad(
                &zone,
                "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
            );
        } else if !cron::known_zone(zone.str()) {
            e.bad(&zone, &format!("unknown time zone {}", zone.str()));
        }
    }
    for f in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        non_negative(&spec.get(f), e);
    }
    one_of(&spec.get("concurrencyPolicy"), &["Allow", "Forbid", "Replace"], e);
    let template = spec.get("jobTemplate");
    let job = template.get("spec");
    if job.b("manualSelector") {
        e.not_supported(&job.at("manualSelector"), true, &["nil", "false"]);
    }
    job_spec(&job, e);
}
