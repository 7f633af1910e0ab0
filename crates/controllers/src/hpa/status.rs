//! An autoscaler's status as it will be written. Pure.

use client::clock;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::behavior::Why;

pub const SCALING_ACTIVE: &str = "ScalingActive";
pub const ABLE: &str = "AbleToScale";
pub const LIMITED: &str = "ScalingLimited";
pub const TO_ZERO: &str = "ScaledToZero";

/// The status in the making, over the one that was read.
#[derive(Debug, Clone)]
pub struct Status {
    pub value: Value,
    now: Timestamp,
}

impl Status {
    pub fn over(old: &Value, now: Timestamp) -> Self {
        let mut value = if old.is_object() { old.clone() } else { json!({}) };
        if value["conditions"].is_null() {
            value["conditions"] = json!([]);
        }
        Self { value, now }
    }

    pub fn set(&mut self, kind: &str, status: bool, reason: &str, message: impl Into<String>) {
        let text = if status { "True" } else { "False" };
        let Some(all) = self.value["conditions"].as_array_mut() else { return };
        let at = match all.iter().position(|c| c["type"] == kind) {
            Some(i) => i,
            None => {
                all.push(json!({"type": kind}));
                all.len() - 1
            }
        };
        let Some(c) = all.get_mut(at) else { return };
        if c["status"] != text {
            c["lastTransitionTime"] = json!(clock::rfc3339(self.now));
        }
        c["status"] = json!(text);
        c["reason"] = json!(reason);
        c["message"] = json!(message.into());
    }

    pub fn why(&mut self, kind: &str, status: bool, (reason, message): Why) {
        self.set(kind, status, reason, message);
    }

    pub fn is(&self, kind: &str) -> bool {
        let all = self.value["conditions"].as_array();
        all.is_some_and(|c| c.iter().any(|c| c["type"] == kind && c["status"] == "True"))
    }

    /// The numbers; `desired` stays as it was when nothing could be worked out.
    pub fn count(
        &mut self,
        current: i32,
        desired: Option<i32>,
        metrics: Option<Vec<Value>>,
        generation: i64,
    ) {
        let before = self.value["desiredReplicas"].as_i64().unwrap_or(0);
        let mut new = json!({"desiredReplicas": desired.map_or(before, i64::from), "observedGeneration": generation,
            "currentMetrics": metrics.map_or(Value::Null, Value::Array), "conditions": self.value["conditions"]});
        if current != 0 {
            new["currentReplicas"] = json!(current);
        }
        if !self.value["lastScaleTime"].is_null() {
            new["lastScaleTime"] = self.value["lastScaleTime"].clone();
        }
        self.value = new;
    }

    pub fn rescaled(&mut self) {
        self.value["lastScaleTime"] = json!(clock::rfc3339(self.now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_keep_their_time_while_they_keep_their_status() {
        let at = |s| Timestamp::from_second(s).expect("time");
        let mut s = Status::over(&Value::Null, at(1));
        s.set(ABLE, true, "A", "a");
        let mut t = Status::over(&s.value, at(2));
        t.set(ABLE, true, "B", "b");
        t.set(LIMITED, false, "C", "c");
        let of = |s: &Status, i: usize, f: &str| s.value["conditions"][i][f].as_str().map(str::to_owned);
        assert_eq!(of(&t, 0, "lastTransitionTime").as_deref(), Some("1970-01-01T00:00:01Z"));
        assert_eq!(of(&t, 0, "reason").as_deref(), Some("B"));
        assert!(t.is(ABLE) && !t.is(LIMITED));
        t.set(LIMITED, true, "C", "c");
        assert_eq!(of(&t, 1, "lastTransitionTime").as_deref(), Some("1970-01-01T00:00:02Z"));
    }

    #[test]
    fn numbers() {
        let old = json!({"currentReplicas": 3, "desiredReplicas": 4, "lastScaleTime": "x", "currentMetrics": [{"type": "Pods"}]});
        let mut s = Status::over(&old, Timestamp::UNIX_EPOCH);
        s.count(0, None, None, 7);
        assert_eq!(
            s.value,
            json!({"desiredReplicas": 4, "observedGeneration": 7, "currentMetrics": null, "conditions": [], "lastScaleTime": "x"})
        );
        s.count(2, Some(5), Some(vec![]), 7);
        s.rescaled();
        assert_eq!(s.value["currentReplicas"], 2);
        assert_eq!(
            (&s.value["desiredReplicas"], &s.value["lastScaleTime"]),
            (&json!(5), &json!("1970-01-01T00:00:00Z"))
        );
    }
}
