//! The plan of a DaemonSet by table: nodes are written `name[:stay|:no]`, pods `node:state[:old]`, named by node and state.

use std::collections::BTreeMap;

use api::Object;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::nodes::Verdict;
use super::plan::*;
use crate::pods::Pod;

fn nodes(text: &str) -> BTreeMap<String, Verdict> {
    let one = |t: &str| match t.split_once(':') {
        None => (t.to_owned(), Verdict { run: true, stay: true }),
        Some((n, "stay")) => (n.to_owned(), Verdict { run: false, stay: true }),
        Some((n, _)) => (n.to_owned(), Verdict { run: false, stay: false }),
    };
    text.split_whitespace().map(one).collect()
}

fn pods(text: &str) -> BTreeMap<String, Vec<Pod>> {
    let mut out: BTreeMap<String, Vec<Pod>> = BTreeMap::new();
    for (age, t) in text.split_whitespace().enumerate() {
        let parts: Vec<&str> = t.split(':').collect();
        let (node, state) = (parts[0], parts[1]);
        let phase = match state {
            "failed" => "Failed",
            "done" => "Succeeded",
            _ => "Running",
        };
        let ready = if state == "ok" || state == "term" { "True" } else { "False" };
        let hash = if parts.get(2) == Some(&"old") { "h0" } else { "h1" };
        let mut v = json!({"metadata": {"name": t.replace(':', "-"), "uid": t, "labels": {"controller-revision-hash": hash},
            "creationTimestamp": format!("1970-01-01T00:00:{age:02}Z")},
            "spec": {"nodeName": if state == "lost" { "" } else { node }},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "1970-01-01T00:00:00Z"}]}});
        if state == "term" {
            v["metadata"]["deletionTimestamp"] = json!("1970-01-01T00:00:00Z");
        }
        out.entry(node.into())
            .or_default()
            .push(Pod::of(Object::from_value(v, 1).expect("object")).expect("pod"));
    }
    out
}

fn rolling(surge: i64, unavailable: i64) -> Strategy {
    Strategy::Rolling { surge, unavailable }
}

fn with<T>(n: &str, p: &str, strategy: Strategy, f: impl Fn(&Inputs<'_>) -> T) -> T {
    let (nodes, pods) = (nodes(n), pods(p));
    let version = Version { hash: "h1", generation: None };
    let now = Timestamp::from_second(1000).expect("timestamp");
    f(&Inputs { nodes: &nodes, pods: &pods, version, strategy, min_ready: 0, now })
}

fn said(p: Plan) -> String {
    let mut all: Vec<String> = p.create.iter().map(|n| format!("+{n}")).collect();
    all.extend(p.delete.iter().map(|n| format!("-{n}")));
    all.extend(p.failed.iter().map(|(n, _)| format!("x{n}")));
    all.extend(p.succeeded.iter().map(|(n, _)| format!("s{n}")));
    all.join(" ")
}

#[test]
fn one_pod_where_one_belongs() {
    for (n, p, want) in [
        ("a b", "", "+a +b"),
        ("a b", "a:ok", "+b"),
        ("a:no", "a:ok", "-a-ok"),
        ("a:no", "a:term", ""),
        ("a:stay", "a:ok", ""),
        ("a:stay", "", ""),
        ("a", "a:term", ""),
        ("a", "a:failed", "xa-failed"),
        ("a", "a:done", "sa-done"),
        ("a", "a:ok a:run", "-a-run"),
        ("a", "a:lost a:ok", "-a-lost"),
        ("a", "a:ok gone:lost gone:ok", "-gone-lost"),
    ] {
        assert_eq!(with(n, p, rolling(0, 1), |i| said(manage(i))), want, "{n} / {p}");
    }
}

#[test]
fn surging_keeps_two_until_the_new_one_serves() {
    for (p, want) in [
        ("", "+a"),
        ("a:term", "+a"),
        ("a:ok:old a:run", ""),
        ("a:ok:old a:ok", "-a-ok-old"),
        ("a:run:old a:run", "-a-run-old"),
        ("a:ok:old a:run a:x", "-a-x"),
    ] {
        assert_eq!(with("a", p, rolling(1, 0), |i| said(manage(i))), want, "{p}");
    }
}

#[test]
fn updates() {
    for (strategy, p, want) in [
        (rolling(0, 1), "a:ok:old b:ok:old c:ok:old", "-a-ok-old"),
        (rolling(0, 2), "a:ok:old b:ok:old c:ok:old", "-a-ok-old -b-ok-old"),
        (rolling(0, 1), "a:run b:ok:old c:ok:old", ""),
        (rolling(0, 1), "a:ok b:ok:old c:ok:old", "-b-ok-old"),
        (rolling(0, 1), "a:term:old b:ok:old c:ok:old", ""),
        // What serves nobody goes at once.
        (rolling(0, 1), "a:run:old b:run:old c:ok:old", "-a-run-old -b-run-old"),
        (rolling(0, 1), "a:ok b:ok c:ok", ""),
        (Strategy::OnDelete, "a:ok:old b:ok:old c:ok:old", ""),
        (rolling(1, 0), "a:ok:old b:ok:old c:ok:old", "+a"),
        (rolling(2, 0), "a:ok:old b:ok:old c:ok:old", "+a +b"),
        (rolling(1, 0), "a:ok:old a:run b:ok:old c:ok:old", ""),
        (rolling(1, 0), "a:ok:old a:ok b:ok:old c:ok:old", "+b -a-ok-old"),
        (rolling(1, 0), "a:run:old b:run:old c:ok:old", "+a +b +c"),
    ] {
        assert_eq!(with("a b c", p, strategy, |i| said(update(i))), want, "{strategy:?} {p}");
    }
}

#[test]
fn strategies_are_read() {
    for (v, want) in [
        (json!({"type": "OnDelete"}), Strategy::OnDelete),
        (json!({"type": "RollingUpdate"}), rolling(0, 1)),
        (
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "30%", "maxSurge": 0}}),
            rolling(0, 2),
        ),
        (
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "10%"}}),
            rolling(1, 0),
        ),
        (
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 0}}),
            rolling(0, 1),
        ),
    ] {
        assert_eq!(Strategy::parse(&v, 4), want, "{v}");
    }
}

#[test]
fn the_status_counts_nodes() {
    let s = with("a b c d:no", "a:ok b:ok:old d:ok", rolling(0, 1), |i| status(&Value::Null, i, 7, 0));
    assert_eq!(
        s,
        json!({"currentNumberScheduled": 2, "desiredNumberScheduled": 3, "numberMisscheduled": 1, "numberReady": 2,
            "numberAvailable": 2, "numberUnavailable": 1, "updatedNumberScheduled": 1, "observedGeneration": 7})
    );
}
