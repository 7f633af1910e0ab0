//! The plan of a StatefulSet by table: pods are written `ordinal:state[:revision]`.

use api::Object;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::plan::*;
use crate::pods::Pod;

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).expect("timestamp")
}

/// States: `ok`, `new` (ready for 5 s), `pending`, `run` (not ready), `term`, `failed`, `done`.
fn member(text: &str) -> Member {
    let mut parts = text.split(':');
    let ordinal: i64 = parts.next().and_then(|o| o.parse().ok()).expect("ordinal");
    let state = parts.next().expect("state");
    let revision = parts.next().unwrap_or("new");
    let (phase, ready, since) = match state {
        "ok" | "term" => ("Running", "True", "1970-01-12T00:00:00Z"),
        "new" => ("Running", "True", "1970-01-12T13:46:35Z"),
        "pending" => ("Pending", "False", "1970-01-12T00:00:00Z"),
        "run" => ("Running", "False", "1970-01-12T00:00:00Z"),
        "failed" => ("Failed", "False", "1970-01-12T00:00:00Z"),
        _ => ("Succeeded", "False", "1970-01-12T00:00:00Z"),
    };
    let mut v = json!({"metadata": {"name": format!("web-{ordinal}"), "uid": format!("u{ordinal}"),
        "labels": {"controller-revision-hash": revision}}, "status": {"phase": phase,
        "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": since}]}});
    if state == "term" {
        v["metadata"]["deletionTimestamp"] = json!("1970-01-12T00:00:00Z");
    }
    let pod = Pod::of(Object::from_value(v, 1).expect("object")).expect("pod");
    Member { ordinal, pod }
}

fn members(text: &str) -> Vec<Member> {
    text.split_whitespace().map(member).collect()
}

fn rolling(partition: i64, max_unavailable: usize) -> Strategy {
    Strategy::Rolling { partition: Some(partition), max_unavailable }
}

fn inputs(replicas: i64) -> Inputs<'static> {
    Inputs {
        start: 0,
        replicas,
        parallel: false,
        strategy: rolling(0, 1),
        min_ready: 0,
        current: "old",
        update: "new",
        current_replicas: 0,
        now: now(),
    }
}

/// `+1` create at the update, `+1old` at the current revision, `-1` delete, `~1` delete for the update, `c1` claims.
/// Tidying is left out.
fn steps(i: &Inputs<'_>, pods: &str) -> String {
    let said = plan(i, &members(pods), &|_| false).into_iter().filter_map(|a| match a {
        Act::Create { ordinal, revision } if revision == "new" => Some(format!("+{ordinal}")),
        Act::Create { ordinal, revision } => Some(format!("+{ordinal}{revision}")),
        Act::Delete(o) => Some(format!("-{o}")),
        Act::Update(o) => Some(format!("~{o}")),
        Act::Claims(o) => Some(format!("c{o}")),
        Act::Tidy(_) => None,
    });
    said.collect::<Vec<_>>().join(" ")
}

#[test]
fn in_order() {
    let i = inputs(3);
    for (pods, want) in [
        ("", "+0"),
        ("0:pending", "c0"),
        ("0:run", ""),
        ("0:ok", "+1"),
        ("0:ok 2:ok", "+1"),
        ("0:ok 1:term 2:ok", ""),
        ("0:failed 1:ok", "-0"),
        ("0:ok 1:done 2:ok", "-1"),
        ("0:ok 1:ok 2:ok", ""),
        // Scale down from the top, one at a time, only when all below are fine.
        ("0:ok 1:ok 2:ok 3:ok 4:ok", "-4"),
        ("0:ok 1:ok 2:ok 3:ok 4:term", ""),
        ("0:run 1:ok 2:ok 3:ok 4:ok", ""),
        ("0:ok 1:ok 2:ok 3:run 4:ok", "-4"),
        ("0:ok 1:ok 2:ok 3:run 4:run", ""),
        ("0:ok 1:ok 2:ok 3:ok 4:run", "-4"),
        // Scaling comes before updates.
        ("0:ok:old 1:ok:old 2:ok:old 3:ok:old", "-3"),
        // Updates from the top.
        ("0:ok:old 1:ok:old 2:ok:old", "~2"),
        ("0:ok:old 1:ok:old 2:term:old", ""),
        ("0:ok:old 1:ok:old", "+2"),
        ("0:ok:old 1:ok:old 2:run", ""),
        ("0:ok:old 1:ok:old 2:ok", "~1"),
    ] {
        assert_eq!(steps(&i, pods), want, "{pods:?}");
    }
}

#[test]
fn in_parallel() {
    let i = Inputs { parallel: true, ..inputs(3) };
    for (pods, want) in [
        ("", "+0 +1 +2"),
        ("0:pending 2:term", "c0 +1"),
        ("0:failed 1:ok 2:ok", "-0"),
        ("0:run 1:ok 2:ok 3:ok 4:run 5:term", "-4 -3"),
        ("0:ok:old 1:ok:old 2:ok:old", "~2"),
        ("0:ok:old 1:ok:old 2:run", ""),
        // What serves nobody is replaced at once, also beyond the budget.
        ("0:run:old 1:ok:old 2:run:old", "~2 ~0"),
    ] {
        assert_eq!(steps(&i, pods), want, "{pods:?}");
    }
    let two = Inputs { strategy: rolling(0, 2), ..i };
    assert_eq!(steps(&two, "0:ok:old 1:ok:old 2:ok:old"), "~2 ~1");
    assert_eq!(steps(&two, "0:ok:old 1:ok:old 2:run"), "~1");
}

#[test]
fn partition_start_and_strategy() {
    let i = Inputs { strategy: rolling(2, 1), ..inputs(3) };
    assert_eq!(steps(&i, "0:ok:old 1:ok:old 2:ok:old"), "~2");
    assert_eq!(steps(&i, "0:ok:old 1:ok:old 2:ok"), "");
    assert_eq!(steps(&i, "0:ok:old 2:ok"), "+1old");
    assert_eq!(steps(&i, "0:ok:old 1:ok:old"), "+2");
    let on_delete = Inputs { strategy: Strategy::OnDelete, ..inputs(2) };
    assert_eq!(steps(&on_delete, "0:ok:old 1:ok:old"), "");
    assert_eq!(steps(&on_delete, "0:ok:old"), "+1");
    let started = Inputs { start: 5, ..inputs(2) };
    assert_eq!(steps(&started, ""), "+5");
    assert_eq!(steps(&started, "5:ok 6:ok 0:ok"), "-0");
    let unset = Strategy::Rolling { partition: None, max_unavailable: 1 };
    let behind = Inputs { strategy: unset, current_replicas: 1, ..inputs(2) };
    assert_eq!(steps(&behind, ""), "+0old");
}

#[test]
fn availability_counts_and_a_stale_claim_holds_back() {
    let i = Inputs { min_ready: 10, ..inputs(2) };
    assert_eq!(steps(&i, "0:new"), "");
    assert_eq!(steps(&i, "0:ok"), "+1");
    assert!(plan(&inputs(1), &[], &|_| true).is_empty());
}

#[test]
fn strategies_are_read() {
    for (v, want) in [
        (json!({"type": "OnDelete"}), Strategy::OnDelete),
        (json!({"type": "RollingUpdate"}), Strategy::Rolling { partition: None, max_unavailable: 1 }),
        (json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}), rolling(2, 1)),
        (json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "50%"}}), rolling(0, 2)),
        (json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}}), rolling(0, 1)),
    ] {
        assert_eq!(Strategy::parse(&v, 5), want, "{v}");
    }
}

#[test]
fn the_status_counts_revisions_and_completes() {
    let numbers = |v: &Value| -> Vec<i64> {
        ["replicas", "readyReplicas", "availableReplicas", "currentReplicas", "updatedReplicas"]
            .iter()
            .map(|f| v[*f].as_i64().unwrap_or(0))
            .collect()
    };
    let i = inputs(3);
    let s = status(&Value::Null, &i, &members("0:ok:old 1:run:old 2:ok"), 4, 0, 0);
    assert_eq!(numbers(&s), [3, 2, 2, 2, 1]);
    assert_eq!(
        (&s["currentRevision"], &s["updateRevision"], &s["observedGeneration"]),
        (&json!("old"), &json!("new"), &json!(4))
    );
    let s = status(&Value::Null, &i, &members("0:ok:old 1:ok:old 2:term:old"), 4, 0, 0);
    assert_eq!(numbers(&s), [3, 3, 3, 2, 0]);
    let s = status(&Value::Null, &i, &members("0:ok:old 1:ok:old 2:ok:old"), 4, 0, 1);
    assert_eq!(numbers(&s), [3, 3, 3, 2, 0]);
    let s = status(&s, &i, &members("0:ok 1:ok 2:ok"), 4, 1, 0);
    assert_eq!(numbers(&s), [3, 3, 3, 3, 3]);
    assert_eq!((&s["currentRevision"], &s["collisionCount"]), (&json!("new"), &json!(1)));
}
