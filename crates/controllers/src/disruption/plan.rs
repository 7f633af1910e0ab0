//! What a PodDisruptionBudget allows, pure.

use std::collections::BTreeMap;
use std::time::Duration;

use api::int_or_string;
use client::clock;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::pods::Pod;

/// How long a pod counts as lost after an eviction was granted, while its deletion has not been seen.
const DELETION: SignedDuration = SignedDuration::from_secs(120);
/// How long a pod may carry the mark of a disruption that does not come.
const STALE_MARK: SignedDuration = SignedDuration::from_secs(120);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct View {
    pub spec: Spec,
    pub status: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    pub selector: Value,
    min_available: Value,
    max_unavailable: Value,
}

impl Spec {
    /// Whether the number of pods is that of their controllers, not of those that are there.
    pub fn by_scale(&self) -> bool {
        !self.max_unavailable.is_null() || self.min_available.is_string()
    }
}

/// Expected and desired numbers of pods. `scale`: what the controllers want together, asked for when `by_scale`.
pub fn wanted(spec: &Spec, pods: usize, scale: i64) -> Result<(i64, i64), int_or_string::IntOrStringError> {
    if !spec.max_unavailable.is_null() {
        let lost = int_or_string::scaled(&spec.max_unavailable, scale, true)?;
        return Ok((scale, (scale - lost).max(0)));
    }
    if spec.min_available.is_null() {
        return Ok((0, 0));
    }
    let expected = if spec.by_scale() { scale } else { i64::try_from(pods).unwrap_or(i64::MAX) };
    Ok((expected, int_or_string::scaled(&spec.min_available, expected, true)?))
}

/// Evictions that are granted and not yet seen as deletions, those whose pods were not deleted in time, and when to look
/// again.
#[derive(Debug, Default, PartialEq)]
pub struct Disrupted {
    pub pending: BTreeMap<String, String>,
    pub given_up: Vec<String>,
    pub next: Option<Duration>,
}

pub fn disrupted(status: &Value, pods: &[Pod], now: Timestamp) -> Disrupted {
    let mut out = Disrupted::default();
    let Some(granted) = status["disruptedPods"].as_object() else { return out };
    for pod in pods.iter().filter(|p| !p.object.meta().is_deleting()) {
        let Some(at) = granted.get(pod.object.name()).and_then(Value::as_str) else { continue };
        match clock::parse(at).and_then(|t| t.checked_add(DELETION).ok()).filter(|end| *end >= now) {
            Some(end) => {
                let left = clock::between(now, end) + Duration::from_secs(1);
                out.next = Some(out.next.map_or(left, |n| n.min(left)));
                out.pending.insert(pod.object.name().to_owned(), at.to_owned());
            }
            None => out.given_up.push(pod.object.name().to_owned()),
        }
    }
    out
}

pub fn healthy(pods: &[Pod], pending: &BTreeMap<String, String>) -> i64 {
    let counts =
        |p: &&Pod| !p.object.meta().is_deleting() && !pending.contains_key(p.object.name()) && p.is_ready();
    i64::try_from(pods.iter().filter(counts).count()).unwrap_or(i64::MAX)
}

/// The status of a budget.
pub fn status(
    old: &Value,
    generation: i64,
    healthy: i64,
    wanted: (i64, i64),
    d: &Disrupted,
    now: Timestamp,
) -> Value {
    let (expected, desired) = wanted;
    // A budget that matches nothing yet must not be generous to the first pods.
    let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let mut new = if old.is_object() { old.clone() } else { json!({}) };
    new["currentHealthy"] = json!(healthy);
    new["desiredHealthy"] = json!(desired);
    new["expectedPods"] = json!(expected);
    new["disruptionsAllowed"] = json!(allowed);
    new["observedGeneration"] = json!(generation);
    match new.as_object_mut() {
        Some(o) if d.pending.is_empty() => {
            o.remove("disruptedPods");
        }
        _ => new["disruptedPods"] = json!(d.pending),
    }
    let (state, reason) =
        if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    condition(&mut new, state, reason, "", generation, now);
    new
}

/// The status of a budget that could not be worked out: nothing may go.
pub fn failed(old: &Value, why: &str, now: Timestamp) -> Value {
    let mut new = if old.is_object() { old.clone() } else { json!({}) };
    for field in ["currentHealthy", "desiredHealthy", "expectedPods"] {
        if !new[field].is_number() {
            new[field] = json!(0);
        }
    }
    new["disruptionsAllowed"] = json!(0);
    let generation = new["observedGeneration"].as_i64().unwrap_or(0);
    condition(&mut new, "False", "SyncFailed", why, generation, now);
    new
}

fn condition(status: &mut Value, state: &str, reason: &str, message: &str, generation: i64, now: Timestamp) {
    let mut all = status["conditions"].as_array().cloned().unwrap_or_default();
    let place = all.iter().position(|c| c["type"] == "DisruptionAllowed");
    let since = place
        .and_then(|i| all.get(i))
        .filter(|c| c["status"] == state)
        .map(|c| c["lastTransitionTime"].clone());
    let mut c = Map::new();
    c.insert("type".into(), json!("DisruptionAllowed"));
    c.insert("status".into(), json!(state));
    c.insert("reason".into(), json!(reason));
    c.insert("message".into(), json!(message));
    c.insert("lastTransitionTime".into(), since.unwrap_or_else(|| json!(clock::rfc3339(now))));
    if generation != 0 {
        c.insert("observedGeneration".into(), json!(generation));
    }
    match place.and_then(|i| all.get_mut(i)) {
        Some(old) => *old = Value::Object(c),
        None => all.push(Value::Object(c)),
    }
    status["conditions"] = json!(all);
}

/// How long until the mark of a disruption on a pod that stays is stale; `None` when there is no such mark.
pub fn stale_mark(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let c = pod
        .condition("DisruptionTarget")
        .filter(|c| c.status == "True" && c.reason != "TerminationByKubelet")?;
    if !pod.is_active() {
        return None;
    }
    let end = clock::parse(c.last_transition_time.as_deref()?)?.checked_add(STALE_MARK).ok()?;
    Some(clock::between(now, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Object;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + s).expect("time")
    }

    fn pod(name: &str, ready: bool, deleting: bool) -> Pod {
        let mut v = json!({"metadata": {"name": name}, "status": {"phase": "Running",
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}});
        if deleting {
            v["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Pod::of(Object::from_value(v, 1).expect("object")).expect("pod")
    }

    fn spec(v: Value) -> Spec {
        serde_json::from_value(v).expect("spec")
    }

    #[test]
    fn numbers_and_shares() {
        assert_eq!(wanted(&spec(json!({"minAvailable": 2})), 3, 99), Ok((3, 2)));
        assert_eq!(wanted(&spec(json!({"minAvailable": "50%"})), 3, 5), Ok((5, 3)));
        assert_eq!(wanted(&spec(json!({"maxUnavailable": 1})), 3, 5), Ok((5, 4)));
        assert_eq!(wanted(&spec(json!({"maxUnavailable": "30%"})), 3, 5), Ok((5, 3)));
        assert_eq!(wanted(&spec(json!({"maxUnavailable": 9})), 3, 5), Ok((5, 0)));
        assert_eq!(wanted(&spec(json!({})), 3, 5), Ok((0, 0)));
        assert!(
            spec(json!({"maxUnavailable": 0})).by_scale() && !spec(json!({"minAvailable": 1})).by_scale()
        );
    }

    #[test]
    fn granted_evictions_count_as_lost_until_seen_or_given_up() {
        let pods = [
            pod("a", true, false),
            pod("b", true, false),
            pod("c", true, true),
            pod("d", false, false),
            pod("e", true, false),
        ];
        let granted = json!({"disruptedPods": {"a": clock::rfc3339(at(-20)), "b": clock::rfc3339(at(-121)),
            "c": clock::rfc3339(at(-1)), "gone": clock::rfc3339(at(-1))}});
        let d = disrupted(&granted, &pods, at(0));
        assert_eq!(d.pending.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!((d.given_up.as_slice(), d.next), (&["b".to_owned()][..], Some(Duration::from_secs(101))));
        assert_eq!(healthy(&pods, &d.pending), 2);
        let s = status(&granted, 3, 2, (5, 1), &d, at(0));
        assert_eq!((s["disruptionsAllowed"].as_i64(), s["observedGeneration"].as_i64()), (Some(1), Some(3)));
        assert_eq!(s["conditions"][0]["reason"], "SufficientPods");
        assert_eq!(s["disruptedPods"].as_object().map(Map::len), Some(1));
        let t = status(&s, 3, 1, (5, 1), &Disrupted::default(), at(9));
        assert!(t.get("disruptedPods").is_none());
        assert_eq!(
            (&t["conditions"][0]["status"], &t["conditions"][0]["lastTransitionTime"]),
            (&json!("False"), &json!(clock::rfc3339(at(9))))
        );
        assert_eq!(status(&t, 3, 1, (5, 1), &Disrupted::default(), at(50)), t);
        // Nothing expected, nothing allowed.
        assert_eq!(status(&json!({}), 1, 3, (0, 0), &Disrupted::default(), at(0))["disruptionsAllowed"], 0);
        let f = failed(&s, "found no controllers", at(5));
        assert_eq!(
            (f["disruptionsAllowed"].as_i64(), f["conditions"][0]["reason"].as_str()),
            (Some(0), Some("SyncFailed"))
        );
    }

    #[test]
    fn marks_grow_stale_on_pods_that_stay() {
        let marked = |reason: &str, deleting: bool| {
            let mut p = pod("a", true, deleting);
            p.view.status.conditions.push(crate::pods::Condition {
                r#type: "DisruptionTarget".into(),
                status: "True".into(),
                reason: reason.into(),
                last_transition_time: Some(clock::rfc3339(at(0))),
                ..Default::default()
            });
            p
        };
        assert_eq!(
            stale_mark(&marked("EvictionByEvictionAPI", false), at(20)),
            Some(Duration::from_secs(100))
        );
        assert_eq!(stale_mark(&marked("EvictionByEvictionAPI", false), at(200)), Some(Duration::ZERO));
        assert_eq!(stale_mark(&marked("TerminationByKubelet", false), at(200)), None);
        assert_eq!(stale_mark(&marked("EvictionByEvictionAPI", true), at(200)), None);
        assert_eq!(stale_mark(&pod("a", true, false), at(200)), None);
    }
}
