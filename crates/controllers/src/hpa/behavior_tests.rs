//! Limits, rates and windows.

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::behavior::*;
use super::view::{Behavior, Policy, Rules};

const WINDOW: Duration = Duration::from_secs(300);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).expect("time")
}

fn policy(kind: &str, value: i32, period: i64) -> Policy {
    Policy { r#type: kind.into(), value, period_seconds: period }
}

fn rules(window: Option<i64>, select: &str, policies: Vec<Policy>) -> Rules {
    Rules {
        stabilization_window_seconds: window,
        select_policy: Some(select.into()),
        policies,
        tolerance: None,
    }
}

/// As the API fills it in.
fn usual() -> Behavior {
    Behavior {
        scale_up: rules(Some(0), "Max", vec![policy("Pods", 4, 15), policy("Percent", 100, 15)]),
        scale_down: rules(None, "Max", vec![policy("Percent", 100, 15)]),
    }
}

#[test]
fn limits_without_rules() {
    for (current, desired, min, max, want, limited, reason) in [
        (3, 5, 1, 10, 5, false, "DesiredWithinRange"),
        (3, 7, 1, 10, 6, true, "ScaleUpLimit"),
        (1, 9, 1, 10, 4, true, "ScaleUpLimit"),
        (3, 6, 1, 5, 5, true, "TooManyReplicas"),
        (3, 1, 2, 5, 2, true, "TooFewReplicas"),
        (3, 0, 1, 5, 1, true, "TooFewReplicas"),
        (3, 3, 1, 5, 3, false, "DesiredWithinRange"),
    ] {
        // Never met, so that no earlier recommendation holds it up.
        let d = Memory::default().decide(desired, Bounds { current, min, max }, WINDOW, at(0));
        assert_eq!(
            (d.replicas, d.limited.0, d.limited.1.0),
            (want, limited, reason),
            "{current} to {desired}"
        );
        assert_eq!(d.able.0, "ReadyForNewScale");
    }
}

#[test]
fn the_way_down_waits_for_its_window() {
    let mut m = Memory::default();
    let b = Bounds { current: 5, min: 1, max: 10 };
    m.met(5, at(0));
    m.met(9, at(1));
    let d = m.decide(2, b, WINDOW, at(15));
    assert_eq!((d.replicas, d.able.0), (5, "ScaleDownStabilized"));
    let d = m.decide(3, b, WINDOW, at(300));
    assert_eq!((d.replicas, d.able.0), (5, "ScaleDownStabilized"));
    let d = m.decide(2, b, WINDOW, at(301));
    assert_eq!(d.replicas, 3);
    let d = m.decide(2, b, WINDOW, at(601));
    assert_eq!((d.replicas, d.able.0), (2, "ReadyForNewScale"));
}

#[test]
fn rates_of_rules() {
    let b = |current| Bounds { current, min: 1, max: 1000 };
    for (name, up, current, desired, want, reason) in [
        ("four pods", usual().scale_up, 2, 100, 6, "ScaleUpLimit"),
        ("double", usual().scale_up, 10, 100, 20, "ScaleUpLimit"),
        ("the least", rules(Some(0), "Min", usual().scale_up.policies), 10, 100, 14, "ScaleUpLimit"),
        ("rounded up", rules(Some(0), "Max", vec![policy("Percent", 10, 60)]), 1, 5, 2, "ScaleUpLimit"),
        ("not at all", rules(Some(0), "Disabled", usual().scale_up.policies), 10, 100, 10, "ScaleUpLimit"),
        ("enough", usual().scale_up, 10, 12, 12, "DesiredWithinRange"),
    ] {
        let behavior = Behavior { scale_up: up, ..usual() };
        let d = Memory::default().decide_by(&behavior, desired, b(current), WINDOW, at(0));
        assert_eq!((d.replicas, d.limited.1.0), (want, reason), "{name}");
    }
    for (name, down, current, desired, want, reason) in [
        ("all", usual().scale_down, 10, 2, 2, "DesiredWithinRange"),
        ("two pods", rules(Some(0), "Max", vec![policy("Pods", 2, 60)]), 10, 2, 8, "ScaleDownLimit"),
        ("a tenth", rules(Some(0), "Max", vec![policy("Percent", 10, 60)]), 11, 2, 9, "ScaleDownLimit"),
        (
            "the least",
            rules(Some(0), "Min", vec![policy("Percent", 50, 60), policy("Pods", 1, 60)]),
            10,
            2,
            9,
            "ScaleDownLimit",
        ),
        ("not at all", rules(Some(0), "Disabled", vec![policy("Pods", 2, 60)]), 10, 2, 10, "ScaleDownLimit"),
        ("below the least", rules(Some(0), "Max", vec![policy("Pods", 100, 60)]), 10, 0, 1, "TooFewReplicas"),
    ] {
        let behavior = Behavior { scale_down: down, ..usual() };
        let d = Memory::default().decide_by(&behavior, desired, b(current), WINDOW, at(0));
        assert_eq!((d.replicas, d.limited.1.0), (want, reason), "{name}");
    }
    let d = Memory::default().decide_by(&usual(), 9, Bounds { current: 6, min: 1, max: 8 }, WINDOW, at(0));
    assert_eq!((d.replicas, d.limited), (8, (true, d.limited.1)));
    assert_eq!(d.limited.1.0, "TooManyReplicas");
}

#[test]
fn what_was_done_in_a_period_counts() {
    let behavior = Behavior {
        scale_up: rules(Some(0), "Max", vec![policy("Pods", 4, 60)]),
        scale_down: rules(Some(0), "Max", vec![policy("Pods", 4, 60)]),
    };
    let mut m = Memory::default();
    let b = |current| Bounds { current, min: 1, max: 100 };
    m.scaled(Some(&behavior), 2, 5, at(0));
    // It began the minute with two, so that one more is all.
    assert_eq!(m.clone().decide_by(&behavior, 50, b(5), WINDOW, at(30)).replicas, 6);
    assert_eq!(m.clone().decide_by(&behavior, 50, b(5), WINDOW, at(61)).replicas, 9);
    m.scaled(Some(&behavior), 5, 3, at(40));
    // Of the way down what went up in between is given back too.
    assert_eq!(m.clone().decide_by(&behavior, 1, b(3), WINDOW, at(50)).replicas, 1);
    m.scaled(None, 3, 90, at(50));
    assert_eq!(m.decide_by(&behavior, 50, b(3), WINDOW, at(59)).replicas, 6);
}

#[test]
fn windows_of_rules() {
    let behavior = Behavior { scale_up: rules(Some(60), "Max", usual().scale_up.policies), ..usual() };
    let b = Bounds { current: 5, min: 1, max: 100 };
    let mut m = Memory::default();
    m.met(5, at(0));
    let d = m.decide_by(&behavior, 8, b, WINDOW, at(30));
    assert_eq!((d.replicas, d.able.0), (5, "ScaleUpStabilized"));
    let d = m.decide_by(&behavior, 7, b, WINDOW, at(61));
    assert_eq!((d.replicas, d.able.0), (7, "ReadyForNewScale"));
    // Down only after five minutes below.
    let d = m.decide_by(&behavior, 2, b, WINDOW, at(100));
    assert_eq!((d.replicas, d.able.0), (5, "ScaleDownStabilized"));
    let d = m.decide_by(&behavior, 2, b, WINDOW, at(500));
    assert_eq!(d.replicas, 2);
}

proptest! {
    /// Whatever is asked for, it stays within the bounds, or where it was outside of them on its way in.
    #[test]
    fn decisions_stay_within_bounds(
        steps in prop::collection::vec((0i32..50, 0i64..400), 1..20), min in 0i32..5, more in 0i32..20, ruled: bool,
    ) {
        let max = min.max(1) + more;
        let mut m = Memory::default();
        let mut current = min.max(1);
        let mut now = 0;
        for (desired, later) in steps {
            now += later;
            m.met(current, at(now));
            let b = Bounds { current, min, max };
            let behavior = usual();
            let d = match ruled {
                true => m.decide_by(&behavior, desired, b, WINDOW, at(now)),
                false => m.decide(desired, b, WINDOW, at(now)),
            };
            prop_assert!((min..=max).contains(&d.replicas), "{d:?} of {b:?}");
            m.scaled(ruled.then_some(&behavior), current, d.replicas, at(now));
            current = d.replicas;
        }
    }
}
