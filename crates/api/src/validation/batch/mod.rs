//! Job and CronJob: what a job's specification may say, and what of it may change.

mod cron_job;
mod policy;
mod status;

use serde_json::Value;

use super::at::At;
use super::common::{label_selector, non_negative, optional_one_of, same_except, selects};
use super::errors::{ErrorList, quote, same};
use super::{names, pod};
pub use cron_job::{cron_job, cron_job_update};
pub use status::job_status;

const MAX_PARALLEL_INDEXED: i64 = 100_000;
const MAX_FAILED_INDEXES: i64 = 100_000;
/// Above so many completions, limits per index are held tighter.
const MANY_COMPLETIONS: i64 = 100_000;
const MAX_WITH_MANY: i64 = 10_000;

const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
const NAME_LABEL: &str = "batch.kubernetes.io/job-name";

/// An enum that has to be there, with upstream's list of what it may be.
fn listed(a: &At, supported: &[&str], e: &mut ErrorList) {
    if a.str().is_empty() {
        let all: Vec<String> = supported.iter().map(|s| quote(s)).collect();
        e.required(a, &format!("valid values: [{}]", all.join(" ")));
    } else {
        optional_one_of(a, supported, e);
    }
}

/// Job.
pub fn job(o: &Value, e: &mut ErrorList) {
    whole_job(o, true, e);
}

/// `prefixed`: the labels with the project's prefix are required too; jobs from old times lack them.
fn whole_job(o: &Value, prefixed: bool, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    generated_selector(&root, &spec, prefixed, e);
    job_spec(&spec, e);
    let selector = spec.get("selector");
    let before = e.len();
    if selector.is_null() {
        e.required(&selector, "");
    } else {
        label_selector(&selector, e);
    }
    // What is no selector matches nothing; what can't be read is not matched at all.
    let t = spec.get("template");
    let meta = t.get("metadata");
    let labels = meta.get("labels");
    if selector.is_null() || (e.len() == before && !selects(selector.v, labels.v)) {
        e.bad(&labels, "`selector` does not match template `labels`");
    }
    // Pods of an indexed job have it and their index as their host name.
    let name = root.get("metadata").s("name");
    if spec.s("completionMode") == "Indexed"
        && let Some(n) = spec.i("completions").filter(|n| *n > 0)
    {
        let host = format!("{name}-{}", n - 1);
        if !names::dns1123_label(&host).is_empty() {
            let why = format!("will not able to create pod with invalid DNS label: {host}");
            e.invalid(&root.get("metadata").at("name"), name, &why);
        }
    }
}

/// Unless the author says otherwise, a job selects its pods by labels that are made of its uid and name.
fn generated_selector(root: &At, spec: &At, prefixed: bool, e: &mut ErrorList) {
    let selector = spec.get("selector");
    if spec.b("manualSelector") || selector.is_null() {
        return;
    }
    let meta = root.get("metadata");
    let (uid, name) = (meta.s("uid"), meta.s("name"));
    if uid.is_empty() {
        e.required(&meta.at("uid"), "");
    }
    let t = spec.get("template");
    let tm = t.get("metadata");
    let labels = tm.get("labels");
    if name.is_empty() {
        return;
    }
    let mut wanted = vec![("controller-uid", uid), ("job-name", name)];
    if prefixed {
        wanted.extend([(UID_LABEL, uid), (NAME_LABEL, name)]);
    }
    for (key, want) in &wanted {
        let at = labels.p.key(key);
        let why = format!("must be '{want}'");
        match labels.raw(key).as_str() {
            None => e.required(&at, &why),
            Some(have) if have != *want => e.invalid(&at, labels.v, &why),
            Some(_) => {}
        }
    }
    let made = Value::from_iter(wanted.iter().map(|(k, v)| ((*k).to_owned(), Value::from(*v))));
    if !selects(selector.v, &made) {
        e.bad(&selector, "`selector` not auto-generated");
    }
}

/// What a job and a cron job's template share.
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
    let (per_index, max_failed) = (spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes"));
    if !max_failed.is_null() && per_index.is_null() {
        e.required(&per_index, "when maxFailedIndexes is specified");
    }
    let by = spec.get("managedBy");
    if !by.is_null() {
        super::certificates::path_qualified(&by, e);
        if by.str().len() > 63 {
            e.too_long(&by, 63);
        }
    }
    let mode = spec.get("completionMode");
    optional_one_of(&mode, &["NonIndexed", "Indexed"], e);
    if mode.str() == "Indexed" {
        indexed(spec, e);
    } else if mode.is_null() || mode.str() == "NonIndexed" {
        for f in [&per_index, &max_failed] {
            if !f.is_null() {
                e.bad(f, "requires indexed completion mode");
            }
        }
    }
    policy::failure(spec, e);
    policy::success(spec, mode.str() == "Indexed", e);
    let replacement = spec.get("podReplacementPolicy");
    let allowed: &[&str] =
        if spec.has("podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    optional_one_of(&replacement, allowed, e);
    let t = spec.get("template");
    pod::template(&t, e);
    let inner = t.get("spec");
    let restart = inner.get("restartPolicy");
    match restart.str() {
        "" | "Always" => e.required(&restart, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if spec.has("podFailurePolicy") => {
            e.bad(&restart, "only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" | "Never" => {}
        other => e.not_supported(&restart, other, &["OnFailure", "Never"]),
    }
}

fn indexed(spec: &At, e: &mut ErrorList) {
    let at_most = |a: &At, max: i64, why: &str, e: &mut ErrorList| {
        if a.int().is_some_and(|n| n > max) {
            e.bad(a, &format!("must be less than or equal to {max}{why}"));
        }
    };
    let (completions, parallel) = (spec.i("completions"), spec.get("parallelism"));
    let max_failed = spec.get("maxFailedIndexes");
    if completions.is_none() {
        e.required(&spec.at("completions"), "when completion mode is Indexed");
    }
    at_most(&parallel, MAX_PARALLEL_INDEXED, " when completion mode is Indexed", e);
    if max_failed.int().zip(completions).is_some_and(|(m, c)| m > c) {
        e.bad(&max_failed, "must be less than or equal to completions");
    }
    at_most(&max_failed, MAX_FAILED_INDEXES, "", e);
    if completions.is_some_and(|c| c > MANY_COMPLETIONS) && spec.has("backoffLimitPerIndex") {
        if max_failed.is_null() {
            e.required(
                &max_failed,
                &format!("must be specified when completions is above {MANY_COMPLETIONS}"),
            );
        }
        let why =
            format!(" when completions are above {MANY_COMPLETIONS} and used with backoff limit per index");
        at_most(&parallel, MAX_WITH_MANY, &why, e);
        at_most(&max_failed, MAX_WITH_MANY, &why, e);
    }
}

pub fn job_update(n: &Value, o: &Value, e: &mut ErrorList) {
    let (new, old) = (At::root(n), At::root(o));
    let labels = o.pointer("/spec/template/metadata/labels");
    let had = |key: &str| labels.is_some_and(|l| l.get(key).is_some());
    whole_job(n, had(UID_LABEL) && had(NAME_LABEL), e);
    let (spec, was) = (new.get("spec"), old.get("spec"));
    // An elastic indexed job may change both numbers together.
    let completions = spec.get("completions");
    if !same(completions.v, was.raw("completions")) {
        if spec.s("completionMode") != "Indexed" {
            e.bad(&completions, super::IMMUTABLE);
        } else if !completions.is_null() && completions.v != spec.raw("parallelism") {
            e.bad(&completions, "can only be modified in tandem with spec.parallelism");
        }
    }
    e.immutable(&spec.get("selector"), was.raw("selector"));
    template_update(&spec, &was, &old, e);
    for (f, shape) in [
        ("completionMode", "*string"),
        ("podFailurePolicy", "*PodFailurePolicy"),
        ("backoffLimitPerIndex", "*number"),
        ("managedBy", "*string"),
        ("successPolicy", "*SuccessPolicy"),
    ] {
        let now = spec.get(f);
        if !same(now.v, was.raw(f)) {
            e.bad_as(shape, &now, super::IMMUTABLE);
        }
    }
}

/// A suspended job without pods may still be told where and how to run.
fn template_update(spec: &At, was: &At, old: &At, e: &mut ErrorList) {
    let (t, b) = (spec.get("template"), was.get("template"));
    let status = old.get("status");
    let suspended =
        status.get("conditions").list().iter().any(|c| c["type"] == "Suspended" && c["status"] == "True");
    let idle = status.i("active").unwrap_or(0) == 0 && (suspended || !status.has("startTime"));
    if !(was.b("suspend") && idle) {
        e.immutable(&t, b.v);
        return;
    }
    let (ts, bs) = (t.get("spec"), b.get("spec"));
    let free = ["affinity", "nodeSelector", "tolerations", "schedulingGates", "containers", "initContainers"];
    let affinity = same_except(ts.raw("affinity"), bs.raw("affinity"), &["nodeAffinity"]);
    let others = same_except(t.v, b.v, &["spec", "metadata"])
        && same_except(t.raw("metadata"), b.raw("metadata"), &["labels", "annotations"]);
    let containers = ["containers", "initContainers"].iter().all(|l| {
        let (now, before) = (ts.get(l), bs.get(l));
        now.len() == before.len()
            && now.list().iter().zip(before.list()).all(|(c, d)| same_except(c, d, &["resources"]))
    });
    if !(same_except(ts.v, bs.v, &free) && affinity && others && containers) {
        e.bad(&t, super::IMMUTABLE);
    }
}

#[cfg(test)]
mod tests;
