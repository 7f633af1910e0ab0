//! CronJob.

use serde_json::Value;

use super::super::at::At;
use super::super::common::{non_negative, one_of, required};
use super::super::errors::{ErrorList, same};
use super::job_spec;
use crate::cron;

/// CronJob.
pub fn cron_job(o: &Value, e: &mut ErrorList) {
    spec(o, None, e);
    // Jobs are named after their minute: eleven characters more.
    let root = At::root(o);
    let meta = root.get("metadata");
    let name = meta.get("name");
    if name.str().len() > 52 {
        e.bad(&name, "must be no more than 52 characters");
    }
}

/// Names are left alone: old ones may be too long.
pub fn cron_job_update(n: &Value, o: &Value, e: &mut ErrorList) {
    spec(n, Some(o), e);
}

fn spec(o: &Value, old: Option<&Value>, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let before = |f: &str| old.and_then(|o| o.get("spec")?.get(f)).unwrap_or(&Value::Null);
    let schedule = spec.get("schedule");
    if !schedule.str().is_empty() {
        if let Err(why) = cron::Schedule::parse(schedule.str()) {
            e.bad(&schedule, &why.to_string());
        }
        if schedule.str().contains("TZ") {
            if !before("schedule").as_str().is_some_and(|s| s.contains("TZ")) {
                e.bad(&schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
            } else if spec.has("timeZone") {
                e.bad(&schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule");
            }
        }
    }
    non_negative(&spec.get("startingDeadlineSeconds"), e);
    let zone = spec.get("timeZone");
    if old.is_none() || !same(zone.v, before("timeZone")) {
        time_zone(&zone, e);
    }
    one_of(&spec.get("concurrencyPolicy"), &["Allow", "Forbid", "Replace"], e);
    let template = spec.get("jobTemplate");
    let job = template.get("spec");
    job_spec(&job, e);
    let selector = job.get("selector");
    if !selector.is_null() {
        e.bad(&selector, "`selector` will be auto-generated");
    }
    if job.b("manualSelector") {
        e.not_supported(&job.at("manualSelector"), true, &["nil", "false"]);
    }
    for f in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        non_negative(&spec.get(f), e);
    }
    // Declared with the field upstream, which is told last.
    required(&schedule, e);
}

fn time_zone(zone: &At, e: &mut ErrorList) {
    if zone.is_null() {
        return;
    }
    let name = zone.str();
    if name.is_empty() {
        e.bad(zone, "timeZone must be nil or non-empty string");
        return;
    }
    let part_is_fine = |part: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
        (1..=14).contains(&part.len())
            && part.bytes().all(allowed)
            && !matches!(part, "." | "..")
            && !part.starts_with('-')
    };
    if !name.split('/').all(part_is_fine) {
        e.bad(zone, &format!("unknown time zone {name}"));
        return;
    }
    if name.eq_ignore_ascii_case("local") {
        e.bad(zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones");
    } else if !cron::known_zone(name) {
        e.bad(zone, &format!("unknown time zone {name}"));
    }
}
