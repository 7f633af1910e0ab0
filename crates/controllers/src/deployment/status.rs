//! The status of a Deployment and the words of its conditions, pure.

use api::Status;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::rollout::Sets;
use crate::pods::Condition;

pub struct Inputs {
    pub generation: i64,
    pub desired: i64,
    pub max_unavailable: i64,
    pub deadline: Option<i64>,
    pub paused: bool,
    /// The new ReplicaSet was made just now.
    pub created: bool,
}

/// Everything updated, nothing old left, all available.
pub fn is_complete(sets: &Sets, desired: i64) -> bool {
    sets.new.as_ref().is_some_and(|n| {
        n.status_replicas == desired && n.replicas == desired && n.available >= desired && n.observed
    }) && sets.old.iter().all(|r| r.replicas == 0 && r.status_replicas == 0)
}

fn conditions(status: &Value) -> Vec<Condition> {
    status.get("conditions").cloned().and_then(|v| serde_json::from_value(v).ok()).unwrap_or_default()
}

fn set(all: &mut Vec<Condition>, kind: &str, value: &str, reason: &str, message: String, now: Timestamp) {
    let at = client::clock::rfc3339(now);
    if let Some(c) = all.iter_mut().find(|c| c.r#type == kind) {
        if c.status == value && c.reason == reason && c.message == message {
            return;
        }
        if c.status != value {
            c.last_transition_time = Some(at.clone());
        }
        value.clone_into(&mut c.status);
        reason.clone_into(&mut c.reason);
        c.message = message;
        c.last_update_time = Some(at);
        return;
    }
    all.push(Condition {
        r#type: kind.into(),
        status: value.into(),
        reason: reason.into(),
        message,
        last_transition_time: Some(at.clone()),
        last_update_time: Some(at),
    });
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
    let replicas: i64 = sets.iter().map(|r| r.status_replicas).sum();
    let updated = sets.new.as_ref().map_or(0, |r| r.status_replicas);
    let available = sets.available();
    new["observedGeneration"] = json!(i.generation);
    count(&mut new, old, "replicas", replicas);
    count(&mut new, old, "updatedReplicas", updated);
    count(&mut new, old, "readyReplicas", sets.iter().map(|r| r.ready).sum());
    count(&mut new, old, "availableReplicas", available);
    count(&mut new, old, "unavailableReplicas", (sets.total() - available).max(0));

    let mut all = conditions(old);
    if available >= i.desired - i.max_unavailable {
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
    progress(&mut all, old, name, sets, i, updated, replicas, available, now);
    new["conditions"] = json!(all);
    new
}

#[allow(clippy::too_many_arguments, reason = "the numbers were just computed by the one caller")]
fn progress(
    all: &mut Vec<Condition>,
    old: &Value,
    name: &str,
    sets: &Sets,
    i: &Inputs,
    updated: i64,
    replicas: i64,
    available: i64,
    now: Timestamp,
) {
    let present = all.iter().find(|c| c.r#type == "Progressing").cloned();
    if i.paused {
        if present.as_ref().is_some_and(|c| c.reason != "DeploymentPaused") || present.is_none() {
            set(all, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused".into(), now);
        }
        return;
    }
    let rs = sets.new.as_ref().map_or(name, |r| r.object.name());
    let what =
        if sets.new.is_some() { format!("ReplicaSet \"{rs}\"") } else { format!("Deployment \"{name}\"") };
    if i.deadline.is_none() {
        all.retain(|c| c.r#type != "Progressing");
        return;
    }
    let number = |field: &str| old.get(field).and_then(Value::as_i64).unwrap_or(0);
    let advanced = updated > number("updatedReplicas")
        || (replicas - updated) < (number("replicas") - number("updatedReplicas"))
        || available > number("availableReplicas");
    if i.created {
        set(
            all,
            "Progressing",
            "True",
            "NewReplicaSetCreated",
            format!("Created new replica set \"{rs}\""),
            now,
        );
    } else if is_complete(sets, i.desired) {
        let message = format!("{what} has successfully progressed.");
        set(all, "Progressing", "True", "NewReplicaSetAvailable", message, now);
    } else if present.as_ref().is_some_and(|c| c.reason == "DeploymentPaused") {
        set(all, "Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed".into(), now);
    } else if advanced
        || present.is_none()
        || present.as_ref().is_some_and(|c| c.reason == "NewReplicaSetAvailable")
    {
        // The update time is the sign of progress that the deadline counts from.
        all.retain(|c| c.r#type != "Progressing");
        let since = present.filter(|c| c.status == "True").and_then(|c| c.last_transition_time);
        let at = client::clock::rfc3339(now);
        all.push(Condition {
            r#type: "Progressing".into(),
            status: "True".into(),
            reason: "ReplicaSetUpdated".into(),
            message: format!("{what} is progressing."),
            last_transition_time: since.or_else(|| Some(at.clone())),
            last_update_time: Some(at),
        });
    } else if overdue(all, i, now) {
        let message = format!("{what} has timed out progressing.");
        set(all, "Progressing", "False", "ProgressDeadlineExceeded", message, now);
    }
}

/// Seconds since the last sign of progress.
fn idle(all: &[Condition], now: Timestamp) -> Option<i64> {
    let c = all.iter().find(|c| c.r#type == "Progressing")?;
    let since = client::clock::parse(c.last_update_time.as_deref()?)?;
    Some(now.duration_since(since).as_secs())
}

fn overdue(all: &[Condition], i: &Inputs, now: Timestamp) -> bool {
    matches!((i.deadline, idle(all, now)), (Some(d), Some(s)) if s >= d)
}

/// When the deadline has to be looked at, in seconds.
pub fn next_check(status: &Value, i: &Inputs, sets: &Sets, now: Timestamp) -> Option<u64> {
    let all = conditions(status);
    if i.paused || is_complete(sets, i.desired) || all.iter().any(|c| c.reason == "ProgressDeadlineExceeded")
    {
        return None;
    }
    let left = i.deadline? - idle(&all, now)?;
    u64::try_from(left.max(0) + 1).ok()
}

/// The status patch after the new ReplicaSet could not be made.
pub fn failed_create(old: &Value, rs: &str, why: &Status, now: Timestamp) -> Value {
    let mut all = conditions(old);
    let message = format!("Failed to create new replica set \"{rs}\": {why}");
    set(&mut all, "Progressing", "False", "ReplicaSetCreateError", message, now);
    json!({ "conditions": all })
}
