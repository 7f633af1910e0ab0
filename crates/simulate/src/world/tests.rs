//! A whole small cluster without an API: what is handed out is taken for written.

use std::collections::{BTreeMap, BTreeSet};

use api::Object;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn clock(now: u64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(1_767_225_600_000 + i64::try_from(now).expect("time")).expect("time")
}

fn pod(n: u128, node: usize) -> Seen {
    let v = json!({"metadata": {"name": format!("p{n}"), "namespace": "d", "uid": crate::pod::uid_text(n)},
        "spec": {"nodeName": node::name(node), "containers": [{"name": "c", "image": "i"}]}});
    Seen::of(&Object::from_value(v, 1).expect("object")).expect("a pod").expect("a uid")
}

/// Plays until a moment; the acts in their order.
fn play(w: &mut World, from: u64, until: u64) -> Vec<Act> {
    let (mut now, mut all) = (from, Vec::new());
    while let Some(at) = w.next_due().filter(|at| *at <= until) {
        now = now.max(at);
        for a in w.act(now, clock(now), usize::MAX) {
            let what = a.what();
            match &a {
                Act::Pod(p) if p.remove => {
                    w.done(what, Outcome::Written, now);
                    w.gone(p.uid);
                }
                Act::Beat { node, .. } => {
                    w.done(what, Outcome::Written, now);
                    assert!(w.nodes[*node].block.is_some());
                }
                _ => w.done(what, Outcome::Written, now),
            }
            all.push(a);
        }
    }
    all
}

/// Nodes that are there, with a block each.
fn world(nodes: usize, failures: Failures) -> World {
    let mut w = World::new(nodes, failures);
    play(&mut w, 0, 0);
    for n in 0..nodes {
        w.node_seen(&node::name(n), (format!("u{n}"), Block::of(&format!("10.0.{n}.0/24")), false, false), 1);
    }
    w
}

fn phases(acts: &[Act]) -> Vec<String> {
    let of = |a: &Act| match a {
        Act::Pod(p) => p.status.as_ref().map(|s| {
            let s = &s["status"];
            let waits = s["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or("-");
            format!(
                "{} {waits} {}",
                s["phase"].as_str().unwrap_or_default(),
                s["podIP"].as_str().unwrap_or("-")
            )
        }),
        _ => None,
    };
    acts.iter().filter_map(of).collect()
}

#[test]
fn a_pod_comes_up_and_goes() {
    let mut w = world(1, Failures::default());
    w.pod_seen("d", "p1", pod(1, 0), 10);
    let up = play(&mut w, 10, 5_000);
    assert_eq!(phases(&up), ["Pending ContainerCreating -", "Running - 10.0.0.1", "Running - 10.0.0.1"]);
    let told: Vec<&str> = up
        .iter()
        .filter_map(|a| match a {
            Act::Pod(p) => Some(p.events.iter().map(|e| e.1)),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(told, ["Pulled", "Created", "Started"]);
    w.pod_seen("d", "p1", Seen { deleting: true, grace: 30, ..pod(1, 0) }, 5_000);
    let down = play(&mut w, 5_000, 8_000);
    assert_eq!(phases(&down), ["Succeeded - 10.0.0.1"]);
    assert_eq!(down.iter().filter(|a| matches!(a, Act::Pod(p) if p.remove)).count(), 1);
    assert_eq!(w.by_uid.len(), 0);
    // Its address is free again.
    w.pod_seen("d", "p2", pod(2, 0), 9_000);
    assert_eq!(phases(&play(&mut w, 9_000, 15_000))[1], "Running - 10.0.0.1");
}

#[test]
fn leases_are_spread_and_silence_ends_them() {
    let mut w = world(10, Failures::default());
    let mut at: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    let mut now = 1;
    while let Some(due) = w.next_due().filter(|d| *d <= 30_000) {
        now = now.max(due);
        for a in w.act(now, clock(now), usize::MAX) {
            if let Act::Lease(n) = a {
                at.entry(n).or_default().push(now);
            }
            w.done(a.what(), Outcome::Written, now);
        }
    }
    assert!(at.values().all(|t| t.len() >= 3), "{at:?}");
    let first: BTreeSet<u64> = at.values().filter_map(|t| t.first().copied()).collect();
    assert_eq!(first.len(), 10, "each at a moment of its own: {first:?}");
    w.node_seen("sim-3", ("u3".into(), None, true, true), 30_000);
    w.pod_seen("d", "p1", pod(1, 3), 30_000);
    let silent = play(&mut w, 30_000, 60_000);
    assert!(!silent.iter().any(|a| matches!(a, Act::Lease(3) | Act::Pod(_))), "a silent node says nothing");
    assert!(silent.iter().any(|a| matches!(a, Act::Lease(4))));
    w.node_seen("sim-3", ("u3".into(), None, false, false), 60_000);
    let awake = play(&mut w, 60_000, 75_000);
    assert!(
        awake.iter().any(|a| matches!(a, Act::Lease(3)))
            && awake.iter().any(|a| matches!(a, Act::Beat { node: 3, changed: true, .. }))
    );
    assert_eq!(phases(&awake).last().map(String::as_str), Some("Running - 10.0.3.1"));
}

#[test]
fn a_block_that_comes_early_is_not_missed_and_words_do_not_multiply() {
    let mut w = World::new(1, Failures::default());
    let register = w.act(0, clock(0), usize::MAX);
    // The API has given it a block before the answer to its registration is here.
    for _ in 0..5 {
        w.node_seen("sim-0", ("u".into(), Block::of("10.0.0.0/24"), false, false), 1);
    }
    assert!(w.act(1, clock(1), usize::MAX).is_empty());
    w.done(register[0].what(), Outcome::Written, 2);
    let beats = |acts: &[Act]| acts.iter().filter(|a| matches!(a, Act::Beat { .. })).count();
    assert_eq!(beats(&play(&mut w, 2, 1_000)), 1);
    for now in 1_000..1_020 {
        w.node_seen("sim-0", ("u".into(), None, false, true), now);
    }
    assert_eq!(beats(&play(&mut w, 1_020, 1_000 + 3 * HEARTBEAT)), 3);
}

#[test]
fn nodes_that_fail_come_back() {
    let mut w = world(3, Failures { node: 1_000_000, ..Failures::default() });
    play(&mut w, 1, DOWN_WITHIN);
    assert!(
        w.nodes.iter().all(|n| n.down || w.due.iter().all(|Reverse((_, i))| !matches!(i, Item::Down(_))))
    );
    play(&mut w, DOWN_WITHIN, DOWN_WITHIN + DOWN_FOR);
    assert!(w.nodes.iter().all(|n| !n.is_silent()));
}

#[test]
fn what_fails_is_tried_again_and_what_is_gone_is_forgotten() {
    let mut w = world(1, Failures::default());
    w.pod_seen("d", "p1", pod(1, 0), 10);
    let first = |w: &mut World, now: u64| {
        let acts = w.act(now, clock(now), usize::MAX);
        acts.into_iter().find(|a| matches!(a, Act::Pod(_)))
    };
    let a = first(&mut w, 1_000).expect("a write");
    w.done(a.what(), Outcome::Failed, 1_000);
    assert!(first(&mut w, 1_001).is_none());
    let a = first(&mut w, 1_000 + AGAIN).expect("it is tried again");
    w.done(a.what(), Outcome::Gone, 4_000);
    assert_eq!(w.by_uid.len(), 0);
    w.begin();
    w.pod_seen("d", "p2", pod(2, 0), 5_000);
    w.begin();
    w.pod_seen("d", "p3", pod(3, 0), 5_000);
    w.sweep();
    assert_eq!(w.by_uid.len(), 1, "what a list does not have is gone");
}

proptest! {
    /// However pods come and go, no two that run on a node have one address.
    #[test]
    fn addresses_are_nobody_elses(steps in prop::collection::vec((0u128..40, any::<bool>(), 1u64..3_000), 1..120)) {
        let mut w = world(2, Failures { crash: 300_000, image: 300_000, node: 0 });
        let mut now = 10;
        for (n, come, pause) in steps {
            if come {
                w.pod_seen("d", &format!("p{n}"), pod(n, usize::from(n % 2 == 0)), now);
            } else if w.by_uid.contains_key(&n) {
                w.pod_seen("d", &format!("p{n}"), Seen { deleting: true, grace: 1, ..pod(n, usize::from(n % 2 == 0)) }, now);
            }
            play(&mut w, now, now + pause);
            now += pause;
            let mut seen = BTreeSet::new();
            for p in w.pods.iter().flatten() {
                if let Some(a) = p.address {
                    prop_assert!(seen.insert((p.node, a)));
                }
            }
        }
        prop_assert_eq!(w.pods.iter().flatten().count(), w.by_uid.len());
    }
}
