//! The status of a Deployment and the words of its conditions, pure.

use std::time::Duration;

use api::Status;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::sets::Sets;
use crate::pods::Condition;

const PROGRESSING: &str = "Progressing";
const FAILURE: &str = "ReplicaFailure";
const AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

pub struct Inputs {
    pub generation: i64,
    pub desired: i64,
    pub max_unavailable: i64,
    pub deadline: Option<i64>,
    pub paused: bool,
    /// The new ReplicaSet was made just now.
    pub created: bool,
    /// Part of a rollout, so that progress is judged; not while paused or scaled.
    pub rollout: bool,
}

/// The numbers that progress is read from.
#[derive(Clone, Copy)]
struct Counts {
    replicas: i64,
    updated: i64,
    ready: i64,
    available: i64,
}

impl Counts {
    fn of(sets: &Sets) -> Self {
        Self {
            replicas: sets.status_total(),
            updated: sets.new.as_ref().map_or(0, |r| r.status_replicas),
            ready: sets.iter().map(|r| r.ready).sum(),
            available: sets.available(),
        }
    }

    fn before(status: &Value) -> Self {
        let n = |field: &str| status.get(field).and_then(Value::as_i64).unwrap_or(0);
        Self {
            replicas: n("replicas"),
            updated: n("updatedReplicas"),
            ready: n("readyReplicas"),
            available: n("availableReplicas"),
        }
    }

    fn is_complete(self, desired: i64) -> bool {
        self.updated == desired && self.replicas == desired && self.available == desired
    }

    fn advanced(self, before: Self) -> bool {
        self.updated > before.updated
            || self.replicas - self.updated < before.replicas - before.updated
            || self.ready > before.ready
            || self.available > before.available
    }
}

/// Everything updated, nothing old left, all available.
pub fn is_complete(sets: &Sets, desired: i64) -> bool {
    Counts::of(sets).is_complete(desired)
}

fn conditions(status: &Value) -> Vec<Condition> {
    status.get("conditions").cloned().and_then(|v| serde_json::from_value(v).ok()).unwrap_or_default()
}

fn find<'a>(all: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    all.iter().find(|c| c.r#type == kind)
}

/// A condition of the same status and reason stays as it is; a changed one moves to the end.
fn put(all: &mut Vec<Condition>, mut new: Condition) {
    if let Some(c) = find(all, &new.r#type) {
        if c.status == new.status && c.reason == new.reason {
            return;
        }
        if c.status == new.status {
            new.last_transition_time.clone_from(&c.last_transition_time);
        }
    }
    all.retain(|c| c.r#type != new.r#type);
    all.push(new);
}

fn set(all: &mut Vec<Condition>, kind: &str, value: &str, reason: &str, message: String, now: Timestamp) {
    let at = client::clock::rfc3339(now);
    put(
        all,
        Condition {
            r#type: kind.into(),
            status: value.into(),
            reason: reason.into(),
            message,
            last_transition_time: Some(at.clone()),
            last_update_time: Some(at),
        },
    );
}

fn count(status: &mut Value, old: &Value, name: &str, n: i64) {
    match (n, old.get(name)) {
        (0, None) => {}
        // Zero is omitted in canonical form; null says so in a merge patch.
        (0, Some(_)) => status[name] = Value::Null,
        (n, _) => status[name] = json!(n),
    }
}

pub fn status(old: &Value, name: &str, sets: &Sets, i: &Inputs, now: Timestamp) -> Value {
    let mut new = if old.is_object() { old.clone() } else { json!({}) };
    let c = Counts::of(sets);
    new["observedGeneration"] = json!(i.generation);
    count(&mut new, old, "replicas", c.replicas);
    count(&mut new, old, "updatedReplicas", c.updated);
    count(&mut new, old, "readyReplicas", c.ready);
    count(&mut new, old, "availableReplicas", c.available);
    count(&mut new, old, "unavailableReplicas", (sets.total() - c.available).max(0));
    // Known only when each set has counted.
    match sets.iter().map(|r| r.terminating).sum::<Option<i64>>() {
        Some(n) => new["terminatingReplicas"] = json!(n),
        None if old.get("terminatingReplicas").is_some() => new["terminatingReplicas"] = Value::Null,
        None => {}
    }

    let mut all = conditions(old);
    pause(&mut all, i, now);
    if i.deadline.is_some()
        && let Some(rs) = sets.new.as_ref()
    {
        let name = rs.name();
        if i.created {
            set(
                &mut all,
                PROGRESSING,
                "True",
                "NewReplicaSetCreated",
                format!("Created new replica set \"{name}\""),
                now,
            );
        } else if find(&all, PROGRESSING).is_none() {
            set(
                &mut all,
                PROGRESSING,
                "True",
                "FoundNewReplicaSet",
                format!("Found new replica set \"{name}\""),
                now,
            );
        }
    }
    if c.available >= i.desired - i.max_unavailable {
        set(
            &mut all,
            "Available",
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.".into(),
            now,
        );
    } else {
        let text = "Deployment does not have minimum availability.".to_owned();
        set(&mut all, "Available", "False", "MinimumReplicasUnavailable", text, now);
    }
    if i.rollout {
        progress(&mut all, (Counts::before(old), c), name, sets, i, now);
        failures(&mut all, sets);
    }
    new["conditions"] = json!(all);
    new
}

/// A pause stops the clock of the deadline; the end of a pause starts it anew.
fn pause(all: &mut Vec<Condition>, i: &Inputs, now: Timestamp) {
    let present = find(all, PROGRESSING).map(|c| c.reason.as_str());
    if i.deadline.is_none() || present == Some(TIMED_OUT) {
        return;
    }
    match (i.paused, present == Some(PAUSED)) {
        (true, false) => set(all, PROGRESSING, "Unknown", PAUSED, "Deployment is paused".into(), now),
        (false, true) => {
            set(all, PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed".into(), now)
        }
        _ => {}
    }
}

fn progress(
    all: &mut Vec<Condition>,
    counts: (Counts, Counts),
    name: &str,
    sets: &Sets,
    i: &Inputs,
    now: Timestamp,
) {
    let (before, c) = counts;
    let Some(deadline) = i.deadline else {
        all.retain(|c| c.r#type != PROGRESSING);
        return;
    };
    let present = find(all, PROGRESSING).cloned();
    let reason = present.as_ref().map(|p| p.reason.as_str());
    if c.replicas == c.updated && reason == Some(AVAILABLE) {
        return;
    }
    let what = match &sets.new {
        Some(rs) => format!("ReplicaSet \"{}\"", rs.name()),
        None => format!("Deployment \"{name}\""),
    };
    if c.is_complete(i.desired) {
        set(all, PROGRESSING, "True", AVAILABLE, format!("{what} has successfully progressed."), now);
    } else if c.advanced(before) {
        // Written anew each time: its update time is the sign of progress that the deadline counts from.
        all.retain(|c| c.r#type != PROGRESSING);
        set(all, PROGRESSING, "True", "ReplicaSetUpdated", format!("{what} is progressing."), now);
        if let (Some(new), Some(old)) = (all.last_mut(), present.filter(|p| p.status == "True")) {
            new.last_transition_time = old.last_transition_time;
        }
    } else if present.is_some_and(|p| p.reason != AVAILABLE && is_overdue(&p, deadline, now)) {
        set(all, PROGRESSING, "False", TIMED_OUT, format!("{what} has timed out progressing."), now);
    }
}

fn due(c: &Condition, deadline: i64) -> Option<Timestamp> {
    client::clock::parse(c.last_update_time.as_deref()?)?
        .checked_add(SignedDuration::from_secs(deadline))
        .ok()
}

fn is_overdue(c: &Condition, deadline: i64, now: Timestamp) -> bool {
    due(c, deadline).is_some_and(|d| d < now)
}

/// The failure of the new set, or of any when it has none, becomes the deployment's.
fn failures(all: &mut Vec<Condition>, sets: &Sets) {
    let of = |c: &&Condition| c.r#type == FAILURE;
    let new = sets.new.iter().flat_map(|r| &r.conditions).find(of);
    match new.or_else(|| sets.iter().flat_map(|r| &r.conditions).find(of)) {
        Some(c) => put(all, Condition { last_update_time: c.last_transition_time.clone(), ..c.clone() }),
        None => all.retain(|c| c.r#type != FAILURE),
    }
}

/// When the deadline has to be looked at.
pub fn next_check(status: &Value, i: &Inputs, sets: &Sets, now: Timestamp) -> Option<Duration> {
    let all = conditions(status);
    let c = find(&all, PROGRESSING)?;
    if i.paused || is_complete(sets, i.desired) || matches!(c.reason.as_str(), TIMED_OUT | AVAILABLE) {
        return None;
    }
    Some(client::clock::between(now, due(c, i.deadline?)?) + Duration::from_secs(1))
}

/// The status patch after the new ReplicaSet could not be made.
pub fn failed_create(old: &Value, rs: &str, why: &Status, now: Timestamp) -> Value {
    let mut all = conditions(old);
    set(&mut all, PROGRESSING, "False", "ReplicaSetCreateError", create_error(rs, why), now);
    json!({ "conditions": all })
}

pub fn create_error(rs: &str, why: &Status) -> String {
    format!("Failed to create new replica set \"{rs}\": {why}")
}

#[cfg(test)]
mod tests {
    use super::super::sets::tests::rs;
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + s).expect("time")
    }

    fn inputs() -> Inputs {
        Inputs {
            generation: 1,
            desired: 2,
            max_unavailable: 0,
            deadline: Some(10),
            paused: false,
            created: false,
            rollout: true,
        }
    }

    fn reason(status: &Value, kind: &str) -> String {
        let all = conditions(status);
        find(&all, kind).map(|c| format!("{} {}", c.status, c.reason)).unwrap_or_default()
    }

    #[test]
    fn a_rollout_progresses_completes_and_stays_complete() {
        let mut sets = Sets { new: Some(rs("new", 2, 0)), old: vec![] };
        let s = status(&json!({}), "d", &sets, &Inputs { created: true, ..inputs() }, at(0));
        // Two pods are there that were not before.
        assert_eq!(reason(&s, PROGRESSING), "True ReplicaSetUpdated");
        assert_eq!(reason(&s, "Available"), "False MinimumReplicasUnavailable");
        assert_eq!(
            (s["unavailableReplicas"].as_i64(), s["terminatingReplicas"].as_i64()),
            (Some(2), Some(0))
        );
        assert_eq!(next_check(&s, &inputs(), &sets, at(4)), Some(Duration::from_secs(7)));
        sets.new = Some(rs("new", 2, 2));
        let s = status(&s, "d", &sets, &inputs(), at(20));
        assert_eq!(reason(&s, PROGRESSING), "True NewReplicaSetAvailable");
        // A pod lost later is no lack of progress.
        sets.new = Some(rs("new", 2, 1));
        let s = status(&s, "d", &sets, &inputs(), at(100));
        assert_eq!(reason(&s, PROGRESSING), "True NewReplicaSetAvailable");
        assert_eq!(next_check(&s, &inputs(), &sets, at(100)), None);
    }

    #[test]
    fn without_progress_the_deadline_passes_once_and_any_progress_lifts_it() {
        let mut sets = Sets { new: Some(rs("new", 2, 0)), old: vec![] };
        let s = status(&json!({}), "d", &sets, &Inputs { created: true, ..inputs() }, at(0));
        let s = status(&s, "d", &sets, &inputs(), at(10));
        assert_eq!(reason(&s, PROGRESSING), "True ReplicaSetUpdated");
        let s = status(&s, "d", &sets, &inputs(), at(11));
        assert_eq!(reason(&s, PROGRESSING), "False ProgressDeadlineExceeded");
        assert_eq!(next_check(&s, &inputs(), &sets, at(11)), None);
        assert_eq!(status(&s, "d", &sets, &inputs(), at(30)), s);
        sets.new = Some(rs("new", 2, 1));
        assert_eq!(reason(&status(&s, "d", &sets, &inputs(), at(31)), PROGRESSING), "True ReplicaSetUpdated");
        let none = Inputs { deadline: None, ..inputs() };
        assert_eq!(reason(&status(&s, "d", &sets, &none, at(31)), PROGRESSING), "");
    }

    #[test]
    fn a_pause_holds_the_clock_and_an_adopted_set_starts_it() {
        let sets = Sets { new: Some(rs("new", 2, 0)), old: vec![] };
        let paused = Inputs { paused: true, rollout: false, ..inputs() };
        let s = status(&json!({}), "d", &sets, &paused, at(0));
        assert_eq!(reason(&s, PROGRESSING), "Unknown DeploymentPaused");
        let s = status(&s, "d", &sets, &inputs(), at(500));
        assert_eq!(reason(&s, PROGRESSING), "Unknown DeploymentResumed");
        assert_eq!(
            reason(&status(&s, "d", &sets, &inputs(), at(511)), PROGRESSING),
            "False ProgressDeadlineExceeded"
        );
        let idle = Sets { new: Some(rs("new", 0, 0)), old: vec![] };
        let s = status(&json!({}), "d", &idle, &inputs(), at(0));
        assert_eq!(reason(&s, PROGRESSING), "True FoundNewReplicaSet");
    }

    #[test]
    fn failures_of_sets_are_passed_on_and_taken_back() {
        let failed = Condition {
            r#type: FAILURE.into(),
            status: "True".into(),
            reason: "FailedCreate".into(),
            ..Condition::default()
        };
        let mut new = rs("new", 2, 0);
        new.conditions.push(failed);
        let mut sets = Sets { new: Some(new), old: vec![] };
        let s = status(&json!({}), "d", &sets, &inputs(), at(0));
        assert_eq!(reason(&s, FAILURE), "True FailedCreate");
        sets.new = Some(rs("new", 2, 0));
        assert_eq!(reason(&status(&s, "d", &sets, &inputs(), at(1)), FAILURE), "");
        sets.old.push(Rs { terminating: None, ..rs("old", 0, 0) });
        assert!(status(&s, "d", &sets, &inputs(), at(1))["terminatingReplicas"].is_null());
    }

    use super::super::sets::Rs;
}
