//! When the change happened that a write of endpoints answers: the earliest of what is new since the last look. For those
//! who measure how long it takes the network to follow.

use std::collections::HashMap;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::pods::Pod;
use crate::skeleton::Key;

pub const ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

struct State {
    service: Option<Timestamp>,
    pods: HashMap<String, Timestamp>,
}

#[derive(Default)]
pub struct Triggers(Mutex<HashMap<Key, State>>);

impl Triggers {
    /// The service's creation when it is new to us, else the earliest change of readiness that is.
    pub fn look(&self, key: &Key, service: Option<Timestamp>, pods: &[Pod]) -> Option<Timestamp> {
        let time = |p: &Pod| client::clock::parse(p.condition("Ready")?.last_transition_time.as_deref()?);
        let now: HashMap<String, Timestamp> =
            pods.iter().filter_map(|p| Some((p.object.name().to_owned(), time(p)?))).collect();
        let mut all = self.0.lock();
        let state = State { service, pods: now };
        let Some(before) = all.get(key) else {
            all.insert(key.clone(), state);
            return service;
        };
        let newer = |name: &String, t: &Timestamp| before.pods.get(name).is_none_or(|b| t > b);
        let mut changed: Vec<Timestamp> =
            state.pods.iter().filter(|(n, t)| newer(n, t)).map(|(_, t)| *t).collect();
        changed.extend(service.filter(|s| before.service.is_none_or(|b| *s > b)));
        let earliest = changed.into_iter().min();
        all.insert(key.clone(), state);
        earliest
    }

    pub fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Object;
    use serde_json::json;

    fn pod(name: &str, second: u32) -> Pod {
        let v = json!({"metadata": {"name": name}, "status": {"conditions":
            [{"type": "Ready", "status": "True", "lastTransitionTime": format!("2026-01-01T00:00:{second:02}Z")}]}});
        Pod::of(Object::from_value(v, 1).expect("object")).expect("pod")
    }

    #[test]
    fn the_earliest_news_counts() {
        let at = |s: u32| format!("2026-01-01T00:00:{s:02}Z").parse::<Timestamp>().ok();
        let t = Triggers::default();
        let key = ("d".to_owned(), "s".to_owned());
        assert_eq!(t.look(&key, at(1), &[pod("a", 5)]), at(1));
        assert_eq!(t.look(&key, at(1), &[pod("a", 5)]), None);
        assert_eq!(t.look(&key, at(1), &[pod("a", 5), pod("b", 9), pod("c", 8)]), at(8));
        assert_eq!(t.look(&key, at(1), &[pod("a", 20), pod("b", 9)]), at(20));
        t.forget(&key);
        assert_eq!(t.look(&key, at(30), &[]), at(30));
    }
}
