//! What is known of the nodes' health, pure: the last sign of life of each, which conditions turn `Unknown`, the state of
//! the zones, and how fast nodes of a zone may be tainted so that their pods go.

use api::LabelSet;
use std::collections::HashMap;
use std::time::Duration;

use client::clock::between;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::view::NodeView;

/// Nodes tainted a second in a healthy zone, and in a large one of which much is down.
const RATE: f64 = 0.1;
const REDUCED_RATE: f64 = 0.01;
/// A zone up to this size gets no evictions at all while much of it is down.
const LARGE_ZONE: usize = 50;
const UNHEALTHY_SHARE: f64 = 0.55;

/// The last sign of life of a node, by our own clock.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    pub seen: Timestamp,
    heartbeat: Option<String>,
    lease: Option<Timestamp>,
    /// What `Ready` was when we looked last.
    pub ready: Option<String>,
}

/// `lease`: when it was last renewed, as the node says.
pub fn observe(
    before: Option<&Health>,
    node: &NodeView,
    created: Timestamp,
    lease: Option<Timestamp>,
    now: Timestamp,
) -> Health {
    let condition = node.condition("Ready");
    let heartbeat = condition.map(|c| c.last_heartbeat_time.clone().unwrap_or_default());
    let mut h = match before {
        Some(b) if b.heartbeat == heartbeat => b.clone(),
        // Nobody has ever posted a status: the node's own age counts.
        None if condition.is_none() => Health { seen: created, heartbeat: None, lease: None, ready: None },
        other => Health { seen: now, heartbeat, lease: other.and_then(|b| b.lease), ready: None },
    };
    if let Some(renewed) = lease
        && h.lease.is_none_or(|l| l < renewed)
    {
        h.lease = Some(renewed);
        h.seen = now;
    }
    h.ready = condition.map(|c| c.status.clone());
    h
}

const CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// The conditions of a silent node as a status patch; `None` when they stand there already.
pub fn unknown(node: &NodeView, created: &str, now: &str) -> Option<Value> {
    if node.ready() == Some("Unknown") {
        return None;
    }
    let mut out = Vec::new();
    for kind in CONDITIONS {
        match node.condition(kind) {
            None => out.push(json!({ "type": kind, "status": "Unknown", "reason": "NodeStatusNeverUpdated",
                "message": "Kubelet never posted node status.", "lastHeartbeatTime": created, "lastTransitionTime": now })),
            Some(c) if c.status != "Unknown" => out.push(json!({ "type": kind, "status": "Unknown", "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.", "lastTransitionTime": now })),
            Some(_) => {}
        }
    }
    Some(json!({ "conditions": out }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Normal,
    Partial,
    Full,
}

fn state(ready: usize, not: usize) -> State {
    #[expect(clippy::cast_precision_loss, reason = "numbers of nodes")]
    let share = not as f64 / (ready + not).max(1) as f64;
    match (ready, not) {
        (0, 1..) => State::Full,
        (_, 3..) if share >= UNHEALTHY_SHARE => State::Partial,
        _ => State::Normal,
    }
}

#[derive(Debug)]
struct Zone {
    state: State,
    rate: f64,
    /// When the next node may be tainted; unset: at once.
    next: Option<Timestamp>,
}

/// All zones, and what their state allows.
#[derive(Debug, Default)]
pub struct Zones {
    zones: HashMap<String, Zone>,
    all_down: bool,
}

/// What a look at all zones led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    None,
    /// Not a single node is left: that looks like our fault, so nothing is evicted and the taints go.
    AllDown,
    /// Some are back: every node gets a new grace period.
    Back,
}

pub fn zone(labels: &LabelSet) -> String {
    let get = |k: &str, old: &str| labels.get(k).or_else(|| labels.get(old)).unwrap_or_default();
    let region = get("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region");
    let zone = get("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone");
    if region.is_empty() && zone.is_empty() { String::new() } else { format!("{region}:{zone}") }
}

impl Zones {
    /// `nodes`: zone and readiness of each node that counts.
    pub fn look(&mut self, nodes: impl Iterator<Item = (String, bool)>) -> Turn {
        let mut counts: HashMap<String, (usize, usize)> = HashMap::new();
        for (zone, ready) in nodes {
            let c = counts.entry(zone).or_default();
            if ready { c.0 += 1 } else { c.1 += 1 }
        }
        self.zones.retain(|z, _| counts.contains_key(z));
        let all_down = !counts.is_empty() && counts.values().all(|(r, n)| state(*r, *n) == State::Full);
        for (name, (ready, not)) in counts {
            let state = state(ready, not);
            let rate = match state {
                _ if all_down => 0.0,
                State::Partial if ready + not > LARGE_ZONE => REDUCED_RATE,
                State::Partial => 0.0,
                State::Normal | State::Full => RATE,
            };
            let zone = self.zones.entry(name).or_insert(Zone { state, rate, next: None });
            (zone.state, zone.rate) = (state, rate);
        }
        match (std::mem::replace(&mut self.all_down, all_down), all_down) {
            (false, true) => Turn::AllDown,
            (true, false) => Turn::Back,
            _ => Turn::None,
        }
    }

    pub fn all_down(&self) -> bool {
        self.all_down
    }

    /// Gives a turn back that was not used.
    pub fn give_back(&mut self, zone: &str) {
        if let Some(z) = self.zones.get_mut(zone) {
            z.next = None;
        }
    }

    /// Whether a node of the zone may be tainted now; takes its turn when it may, else says how long to wait (`None`:
    /// until the zone changes).
    pub fn take(&mut self, zone: &str, now: Timestamp) -> Result<(), Option<Duration>> {
        let Some(z) = self.zones.get_mut(zone) else { return Ok(()) };
        if z.rate <= 0.0 {
            return Err(None);
        }
        if let Some(next) = z.next.filter(|n| *n > now) {
            return Err(Some(between(now, next)));
        }
        z.next = now.checked_add(Duration::from_secs_f64(1.0 / z.rate)).ok();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(1000 + s).expect("time")
    }

    fn node(status: &str, beat: &str) -> NodeView {
        serde_json::from_value(json!({"status": {"conditions": [{"type": "Ready", "status": status, "lastHeartbeatTime": beat}]}}))
            .expect("node")
    }

    #[test]
    fn any_sign_of_life_counts_by_our_clock() {
        let silent = NodeView::default();
        let h = observe(None, &silent, at(-5), None, at(0));
        assert_eq!((h.seen, h.ready.clone()), (at(-5), None));
        // The first status, a new one, the same again.
        let h = observe(Some(&h), &node("True", "a"), at(-5), None, at(1));
        assert_eq!(h.seen, at(1));
        let h = observe(Some(&h), &node("True", "a"), at(-5), None, at(2));
        assert_eq!(h.seen, at(1));
        let h = observe(Some(&h), &node("False", "b"), at(-5), None, at(3));
        assert_eq!((h.seen, h.ready.as_deref()), (at(3), Some("False")));
        // Leases: only forward, whatever the node's clock says.
        let h = observe(Some(&h), &node("False", "b"), at(-5), Some(at(900)), at(4));
        assert_eq!(h.seen, at(4));
        let h = observe(Some(&h), &node("False", "b"), at(-5), Some(at(900)), at(5));
        assert_eq!(observe(Some(&h), &node("False", "b"), at(-5), Some(at(800)), at(6)).seen, at(4));
        // A heartbeat keeps the lease in mind.
        let h = observe(Some(&h), &node("True", "c"), at(-5), Some(at(900)), at(7));
        assert_eq!(observe(Some(&h), &node("True", "c"), at(-5), Some(at(900)), at(8)).seen, at(7));
    }

    #[test]
    fn a_silent_node_is_unknown_once() {
        let patch = unknown(&node("True", "a"), "c", "n").expect("patch");
        assert_eq!(patch["conditions"][0]["reason"], "NodeStatusUnknown");
        assert_eq!(patch["conditions"][1]["reason"], "NodeStatusNeverUpdated");
        assert_eq!(unknown(&node("Unknown", "a"), "c", "n"), None);
        assert_eq!(
            unknown(&NodeView::default(), "c", "n").expect("patch")["conditions"][0]["lastHeartbeatTime"],
            "c"
        );
    }

    fn zones(all: &[(&str, usize, usize)]) -> Vec<(String, bool)> {
        let of = |z: &str, n: usize, ready| vec![(z.to_owned(), ready); n];
        all.iter().flat_map(|(z, r, n)| [of(z, *r, true), of(z, *n, false)].concat()).collect()
    }

    #[test]
    fn zones_slow_down_stop_and_come_back() {
        let mut z = Zones::default();
        assert_eq!(
            z.look(zones(&[("a", 3, 1), ("b", 0, 2), ("c", 1, 4), ("d", 20, 40)]).into_iter()),
            Turn::None
        );
        assert_eq!(z.take("a", at(0)), Ok(()));
        assert_eq!(z.take("a", at(4)), Err(Some(Duration::from_secs(6))));
        assert_eq!(z.take("a", at(10)), Ok(()));
        // One zone wholly down among others goes on at the usual rate, a small one mostly down stops, a large one slows.
        assert_eq!(z.take("b", at(0)), Ok(()));
        assert_eq!(z.take("c", at(0)), Err(None));
        assert_eq!((z.take("d", at(0)), z.take("d", at(50))), (Ok(()), Err(Some(Duration::from_secs(50)))));
        assert_eq!(z.look(zones(&[("a", 0, 4), ("b", 0, 2)]).into_iter()), Turn::AllDown);
        assert_eq!((z.take("a", at(100)), z.all_down()), (Err(None), true));
        assert_eq!(z.look(zones(&[("a", 0, 4), ("b", 0, 2)]).into_iter()), Turn::None);
        assert_eq!(z.look(zones(&[("a", 1, 3), ("b", 0, 2)]).into_iter()), Turn::Back);
        assert_eq!(z.take("b", at(100)), Ok(()));
        // Nobody counts: nothing is down.
        assert_eq!((z.look(zones(&[]).into_iter()), z.all_down()), (Turn::None, false));
    }

    #[test]
    fn zone_names() {
        let l = |pairs: &[(&str, &str)]| {
            zone(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
        };
        assert_eq!(l(&[]), "");
        assert_eq!(l(&[("topology.kubernetes.io/zone", "z")]), ":z");
        assert_eq!(l(&[("topology.kubernetes.io/zone", "z"), ("topology.kubernetes.io/region", "r")]), "r:z");
    }
}
