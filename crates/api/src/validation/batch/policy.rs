//! The pod failure policy and the success policy of a job.

use std::collections::HashSet;

use super::super::at::At;
use super::super::common::{format, non_negative};
use super::super::errors::ErrorList;
use super::super::names;
use super::listed;
use crate::indexes::Indexes;

const MAX_INDEXES_TEXT: usize = 64 * 1024;

pub(super) fn failure(spec: &At, e: &mut ErrorList) {
    let policy = spec.get("podFailurePolicy");
    if policy.is_null() {
        return;
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
        listed(&action, &["Count", "FailIndex", "FailJob", "Ignore"], e);
        if action.str() == "FailIndex" && !spec.has("backoffLimitPerIndex") {
            e.bad(&action, "requires the backoffLimitPerIndex to be set");
        }
        let codes = r.get("onExitCodes");
        let conditions = r.get("onPodConditions");
        if codes.is_null() && conditions.is_empty() {
            e.wrong(&r, "specifying one of OnExitCodes and OnPodConditions is required");
        }
        if !codes.is_null() && !conditions.is_empty() {
            e.wrong(&r, "specifying both OnExitCodes and OnPodConditions is not supported");
        }
        if !codes.is_null() {
            exit_codes(&codes, &containers, e);
        }
        if conditions.len() > 20 {
            e.too_many(&conditions, conditions.len(), 20);
        }
        for c in conditions.iter() {
            format(&c.get("type"), names::qualified_name, e);
            listed(&c.get("status"), &["False", "True", "Unknown"], e);
        }
    }
}

fn exit_codes(codes: &At, containers: &HashSet<&str>, e: &mut ErrorList) {
    let operator = codes.get("operator");
    listed(&operator, &["In", "NotIn"], e);
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
    let (mut last, mut ordered) = (i64::MIN, true);
    for v in values.iter() {
        let n = v.int().unwrap_or(0);
        if operator.str() == "In" && n == 0 {
            e.bad(&v, "must not be 0 for the In operator");
        }
        if !seen.insert(n) {
            e.duplicate(&v, n);
        }
        ordered &= last <= n;
        last = n;
    }
    if !ordered {
        e.bad(&values, "must be ordered");
    }
}

pub(super) fn success(spec: &At, indexed: bool, e: &mut ErrorList) {
    let policy = spec.get("successPolicy");
    if policy.is_null() {
        return;
    }
    if !indexed {
        e.bad_as("SuccessPolicy", &policy, "requires indexed completion mode");
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
        if indexes.str().len() > MAX_INDEXES_TEXT {
            e.too_long(&indexes, MAX_INDEXES_TEXT);
        }
        match Indexes::check(indexes.str(), completions).map(|i| i.total()) {
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
