//! What a StatefulSet does next, pure: pods come up in order, each when its predecessors are available, and go in
//! reverse order; updates take the highest ordinals first, as far as partition and `maxUnavailable` let them.

use api::int_or_string;
use client::planted;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::identity::{self, Spec};
use crate::counts;
use crate::pods::Pod;

/// A pod with its ordinal.
#[derive(Debug, Clone)]
pub struct Member {
    pub ordinal: i64,
    pub pod: Pod,
}

impl Member {
    pub fn revision(&self) -> &str {
        self.pod.object.meta().labels.get(identity::REVISION).unwrap_or_default()
    }
    fn is_terminating(&self) -> bool {
        self.pod.object.meta().is_deleting()
    }
    fn is_running_and_ready(&self) -> bool {
        self.pod.view.status.phase == "Running" && self.pod.is_ready()
    }
    fn is_available(&self, i: &Inputs<'_>) -> bool {
        self.is_running_and_ready() && self.pod.is_available(i.min_ready, i.now)
    }
    fn is_unavailable(&self, i: &Inputs<'_>) -> bool {
        self.is_terminating() || !self.is_available(i)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    OnDelete,
    Rolling {
        /// Pods below this ordinal stay; `None` when no `rollingUpdate` is given.
        partition: Option<i64>,
        max_unavailable: usize,
    },
}

impl Strategy {
    pub fn parse(v: &Value, replicas: i64) -> Self {
        if v["type"] == "OnDelete" {
            return Strategy::OnDelete;
        }
        let r = &v["rollingUpdate"];
        let partition = r.is_object().then(|| r["partition"].as_i64().unwrap_or(0));
        let max = match &r["maxUnavailable"] {
            Value::Null => 1,
            m => int_or_string::scaled(m, replicas, false).unwrap_or(1),
        };
        Strategy::Rolling { partition, max_unavailable: usize::try_from(max.max(1)).unwrap_or(1) }
    }
}

#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    pub start: i64,
    pub replicas: i64,
    pub parallel: bool,
    pub strategy: Strategy,
    pub min_ready: i64,
    /// Names of the revisions that pods have and should have.
    pub current: &'a str,
    pub update: &'a str,
    /// `status.currentReplicas` as it was.
    pub current_replicas: i64,
    pub now: Timestamp,
}

impl<'a> Inputs<'a> {
    pub fn new(spec: &Spec, status: &Value, current: &'a str, update: &'a str, now: Timestamp) -> Self {
        Self {
            start: spec.start(),
            replicas: spec.replicas(),
            parallel: spec.pod_management_policy == "Parallel" || planted::is_on("order-ignored"),
            strategy: Strategy::parse(&spec.update_strategy, spec.replicas()),
            min_ready: spec.min_ready_seconds,
            current,
            update,
            current_replicas: status["currentReplicas"].as_i64().unwrap_or(0),
            now,
        }
    }

    /// Whether a new pod of this ordinal starts with the current revision rather than the update.
    fn stays_behind(&self, ordinal: i64) -> bool {
        match self.strategy {
            Strategy::OnDelete => false,
            Strategy::Rolling { partition: None, .. } => ordinal < self.start + self.current_replicas,
            Strategy::Rolling { partition: Some(p), .. } => ordinal < self.start + p,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Create {
        ordinal: i64,
        revision: String,
    },
    /// Makes claims that a pending pod lacks.
    Claims(i64),
    /// Puts the pod's labels and its claims' owners right.
    Tidy(i64),
    Delete(i64),
    /// As `Delete`, for the sake of the update.
    Update(i64),
}

/// The next steps. `members` in any order; `stale` tells whether a claim of the ordinal still belongs to a former pod.
pub fn plan(i: &Inputs<'_>, members: &[Member], stale: &dyn Fn(i64) -> bool) -> Vec<Act> {
    let end = i.start + i.replicas;
    let mut acts = Vec::new();
    let wanted: Vec<(i64, Option<&Member>)> =
        (i.start..end).map(|o| (o, members.iter().find(|m| m.ordinal == o))).collect();
    let mut condemned: Vec<&Member> =
        members.iter().filter(|m| m.ordinal < i.start || m.ordinal >= end).collect();
    condemned.sort_by_key(|m| std::cmp::Reverse(m.ordinal));

    for (ordinal, member) in &wanted {
        let stop = replica(i, *ordinal, *member, stale, &mut acts);
        if stop && !i.parallel {
            return acts;
        }
    }
    acts.extend(condemned.iter().map(|m| Act::Tidy(m.ordinal)));
    // Of all that are not available the one with the lowest ordinal may be taken away though it is not.
    let first_bad = wanted
        .iter()
        .filter_map(|(_, m)| *m)
        .chain(condemned.iter().rev().copied())
        .find(|m| m.is_unavailable(i));
    for m in &condemned {
        if m.is_terminating() {
            if i.parallel {
                continue;
            }
            return acts;
        }
        if !i.parallel && !m.is_available(i) && first_bad.is_none_or(|b| b.ordinal != m.ordinal) {
            return acts;
        }
        acts.push(Act::Delete(m.ordinal));
        if !i.parallel {
            return acts;
        }
    }
    let Strategy::Rolling { partition, max_unavailable } = i.strategy else { return acts };
    update(i, &wanted, partition.unwrap_or(0), max_unavailable, &mut acts);
    acts
}

/// One wanted pod; true when nothing after it may be touched yet.
fn replica(
    i: &Inputs<'_>,
    ordinal: i64,
    member: Option<&Member>,
    stale: &dyn Fn(i64) -> bool,
    acts: &mut Vec<Act>,
) -> bool {
    let Some(m) = member else {
        if !stale(ordinal) {
            let revision = if i.stays_behind(ordinal) { i.current } else { i.update };
            acts.push(Act::Create { ordinal, revision: revision.to_owned() });
        }
        return true;
    };
    // A pod that ended is replaced whatever its exit code says.
    if m.pod.is_finished() {
        if !m.is_terminating() {
            acts.push(Act::Delete(ordinal));
        }
        return true;
    }
    if m.pod.view.status.phase == "Pending" {
        acts.push(Act::Claims(ordinal));
    }
    if !i.parallel && (m.is_terminating() || !m.is_available(i)) {
        return true;
    }
    acts.push(Act::Tidy(ordinal));
    false
}

fn update(
    i: &Inputs<'_>,
    wanted: &[(i64, Option<&Member>)],
    partition: i64,
    max_unavailable: usize,
    acts: &mut Vec<Act>,
) {
    let unavailable = wanted.iter().filter(|(_, m)| m.is_none_or(|m| m.is_unavailable(i))).count();
    let mut budget = max_unavailable.saturating_sub(unavailable);
    // `partition` counts places from the first ordinal.
    let from = i.start + partition;
    for m in wanted.iter().rev().filter(|(o, _)| *o >= from).filter_map(|(_, m)| *m) {
        if m.revision() == i.update || m.is_terminating() || m.pod.is_finished() {
            continue;
        }
        // One that serves nobody costs no availability; otherwise a broken template could never be repaired.
        if i.parallel && m.is_unavailable(i) {
            acts.push(Act::Update(m.ordinal));
        } else if budget > 0 {
            budget -= 1;
            acts.push(Act::Update(m.ordinal));
        }
    }
}

/// The status as it should be; fields this loop does not know are kept.
pub fn status(
    old: &Value,
    i: &Inputs<'_>,
    members: &[Member],
    generation: i64,
    collisions: i64,
    updating: usize,
) -> Value {
    let count = |f: &dyn Fn(&Member) -> bool| counts::of(members.iter().filter(|m| f(m)).count());
    let live = |m: &Member, revision: &str| !m.is_terminating() && m.revision() == revision;
    let replicas = counts::of(members.len());
    let ready = count(&|m| m.is_running_and_ready());
    let updated = count(&|m| live(m, i.update));
    let mut current = count(&|m| live(m, i.current)) - counts::of(updating);
    let mut revision = i.current;
    let rolling = matches!(i.strategy, Strategy::Rolling { .. });
    if rolling && updated == i.replicas && ready == i.replicas && replicas == i.replicas {
        current = updated;
        revision = i.update;
    }
    let mut new = if old.is_object() { old.clone() } else { json!({}) };
    new["observedGeneration"] = json!(generation);
    new["replicas"] = json!(replicas);
    counts::set(&mut new, old, "readyReplicas", ready);
    counts::set(&mut new, old, "currentReplicas", current.max(0));
    counts::set(&mut new, old, "updatedReplicas", updated);
    new["availableReplicas"] = json!(count(&|m| m.is_available(i)));
    new["currentRevision"] = json!(revision);
    new["updateRevision"] = json!(i.update);
    new["collisionCount"] = json!(collisions);
    new
}
