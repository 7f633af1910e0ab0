//! What waits, by steps.

use super::*;
use crate::core::Cache;

fn pod(uid: &str, priority: i64) -> Arc<PodInfo> {
    let mut p = PodInfo { uid: uid.into(), name: uid.into(), ..PodInfo::default() };
    p.shape_mut().priority = priority;
    Arc::new(p)
}
fn at(s: i64) -> Timestamp {
    Timestamp::from_second(s).expect("timestamp")
}
fn failed(by: &'static str) -> Wait {
    Wait { failed: vec![by], promised: None }
}
fn gone() -> ClusterEvent {
    Kind::PodGone.at("n")
}
fn node() -> ClusterEvent {
    Kind::NodeChanged.at("n")
}
impl Queue {
    fn event(&mut self, e: &ClusterEvent, now: i64) {
        self.cluster_event(e, at(now), |_, _| true);
    }
}

#[test]
fn priority_then_age() {
    let mut q = Queue::default();
    for (u, p) in [("a", 0), ("b", 10), ("c", 0)] {
        q.add(pod(u, p));
    }
    let order: Vec<String> = std::iter::from_fn(|| q.pop(at(0))).map(|p| p.uid.clone()).collect();
    assert_eq!(order, ["b", "a", "c"]);
}

#[test]
fn a_stuck_pod_comes_back_on_an_event_that_helps() {
    let mut q = Queue::default();
    q.add(pod("a", 0));
    let p = q.pop(at(0)).expect("pod");
    q.unschedulable(p, failed("NodeAffinity"), at(0));
    q.event(&gone(), 1);
    assert!(q.pop(at(1)).is_none());
    q.cluster_event(&node(), at(2), |_, n| n != "n");
    assert!(q.pop(at(2)).is_none(), "it does not fit there");
    q.event(&node(), 2);
    assert!(q.pop(at(2)).is_some());
}

#[test]
fn an_event_while_a_pod_is_tried_is_not_missed() {
    let mut q = Queue::default();
    q.add(pod("a", 0));
    let p = q.pop(at(0)).expect("pod");
    q.event(&Kind::StorageChanged.into(), 0);
    q.unschedulable(p, failed("VolumeBinding"), at(0));
    let p = q.pop(at(1)).expect("pod");
    q.event(&gone(), 1);
    q.unschedulable(p, failed("VolumeBinding"), at(1));
    assert!(q.pop(at(20)).is_none());
}

#[test]
fn an_update_while_binding_does_not_queue_it_again() {
    let mut q = Queue::default();
    q.add(pod("a", 0));
    assert!(q.pop(at(0)).is_some());
    q.add(pod("a", 0));
    assert!(q.pop(at(0)).is_none());
    q.forget("a", at(0));
}

#[test]
fn what_changes_while_a_pod_is_tried_counts_afterwards() {
    let mut q = Queue::default();
    q.add(pod("a", 0));
    let p = q.pop(at(0)).expect("pod");
    let told = PodInfo { reported: Some("no".into()), ..(*p).clone() };
    q.add(Arc::new(told));
    q.unschedulable(p, failed("NodeResourcesFit"), at(0));
    assert!(q.pop(at(0)).is_none(), "a condition does not make it fit");
    q.event(&gone(), 2);
    let p = q.pop(at(2)).expect("pod");
    assert_eq!(p.reported.as_deref(), Some("no"));
    let mut labelled = (*p).clone();
    labelled.shape_mut().labels.insert("k".into(), "v".into());
    q.add(Arc::new(labelled));
    q.unschedulable(p, failed("NodeResourcesFit"), at(2));
    assert!(q.pop(at(2)).is_some_and(|p| p.labels.len() == 1));
    // Gone meanwhile: nothing is kept.
    q.remove("a", at(3));
    q.unschedulable(pod("a", 0), failed("NodeResourcesFit"), at(3));
    assert!(q.next_due(at(3)).is_none());
}

#[test]
fn a_pod_that_waits_is_taken_back_to_make_room() {
    let mut q = Queue::default();
    q.add(pod("a", 0));
    assert!(!q.take_back("a", at(0)), "it waits for nothing yet");
    let p = q.pop(at(0)).expect("pod");
    q.unschedulable(p, failed("VolumeBinding"), at(0));
    assert!(q.take_back("a", at(0)));
    assert!(q.pop(at(0)).is_none());
    assert!(q.pop(at(20)).is_some());
}

#[test]
fn a_pod_that_came_helps_those_that_look_for_company() {
    for (plugin, helped) in
        [("InterPodAffinity", true), ("PodTopologySpread", true), ("NodeResourcesFit", false)]
    {
        assert_eq!(Kind::PodPlaced.helps(&[plugin]), helped, "{plugin}");
    }
}

#[test]
fn back_off_grows_and_is_due() {
    let mut q = Queue::default();
    q.add(pod("a", 0));
    let p = q.pop(at(0)).expect("pod");
    q.back_off(p, at(0));
    assert!(q.pop(at(0)).is_none());
    assert_eq!(q.next_due(at(0)), Some(Duration::from_secs(1)));
    assert!(q.pop(at(1)).is_some());
}

/// Pods of one shape, all stuck.
fn many(q: &mut Queue, uids: &[&str]) {
    let mut cache = Cache::default();
    for u in uids {
        let mut p = PodInfo { uid: (*u).into(), ..PodInfo::default() };
        cache.intern(&mut p);
        q.add(Arc::new(p));
    }
    while let Some(p) = q.pop(at(0)) {
        q.unschedulable(p, failed("NodeResourcesFit"), at(0));
    }
}

#[test]
fn an_event_wakes_the_first_of_a_shape_and_its_success_the_next() {
    let mut q = Queue::default();
    many(&mut q, &["a", "b", "c", "d"]);
    q.event(&gone(), 2);
    q.event(&gone(), 2);
    let a = q.pop(at(2)).expect("pod");
    assert_eq!(a.uid, "a");
    assert!(q.pop(at(2)).is_none(), "one at a time");
    q.placed("a", at(2));
    q.forget("a", at(2));
    let b = q.pop(at(2)).expect("pod");
    assert_eq!(b.uid, "b");
    // It is deleted before it is tried to the end: the next one goes on.
    q.remove("b", at(2));
    let c = q.pop(at(2)).expect("pod");
    q.unschedulable(c, failed("NodeResourcesFit"), at(2));
    assert!(q.pop(at(2)).is_none(), "no room is left");
    q.event(&gone(), 4);
    assert_eq!(q.pop(at(4)).map(|p| p.uid.clone()).as_deref(), Some("d"));
}

#[test]
fn one_that_was_promised_a_node_waits_for_that() {
    let mut q = Queue::default();
    q.add(pod("a", 0));
    let p = q.pop(at(0)).expect("pod");
    let promised = Some("m".into());
    q.unschedulable(p, Wait { failed: vec!["NodeResourcesFit"], promised }, at(0));
    q.event(&gone(), 2);
    assert!(q.pop(at(2)).is_none());
    q.event(&Kind::PodGone.at("m"), 2);
    assert!(q.pop(at(2)).is_some());
}

#[test]
fn after_a_while_it_is_tried_without_an_event() {
    let mut q = Queue::default();
    many(&mut q, &["a"]);
    assert!(q.pop(at(100)).is_none());
    assert!(q.pop(at(400)).is_some());
}

#[test]
fn a_gated_pod_waits_for_its_own_change_only() {
    let mut q = Queue::default();
    let gated = |gates: &[&str]| {
        let gates = gates.iter().map(|g| (*g).to_owned()).collect();
        Arc::new(PodInfo { uid: "a".into(), gates, ..PodInfo::default() })
    };
    q.add(gated(&["x"]));
    let p = q.pop(at(0)).expect("pod");
    q.unschedulable(p, failed("SchedulingGates"), at(0));
    assert!(!q.anyone_waits(), "no event has to look at it");
    q.event(&node(), 2);
    q.add(gated(&["x"]));
    assert!(q.pop(at(1000)).is_none());
    q.add(gated(&[]));
    assert!(q.pop(at(1000)).is_some());
    q.remove("a", at(1000));
    assert!(q.next_due(at(1000)).is_none());
}
