//! The row of a pod: readiness, the reason that stands for its state, restarts.

use super::row::{Row, condition, condition_is, list, or, since, text};
use serde_json::{Value, json};
use std::collections::HashSet;

pub const COLUMNS: &str = "Name:n,Ready,Status,Restarts,Age,IP:w,Node:w,Nominated Node:w,Readiness Gates:w";

/// What the containers' statuses say together.
struct Summary {
    ready: i64,
    reason: String,
    restarts: i64,
    last_restart: String,
}

fn ended(state: &Value) -> Option<&Value> {
    state.get("terminated").filter(|t| !t.is_null())
}
fn exit(t: &Value) -> String {
    let n = |f: &str| t.get(f).and_then(Value::as_i64).unwrap_or(0);
    match (text(t, "reason"), n("signal")) {
        ("", 0) => format!("ExitCode:{}", n("exitCode")),
        ("", s) => format!("Signal:{s}"),
        (r, _) => r.to_owned(),
    }
}
fn restarts(c: &Value) -> i64 {
    c.get("restartCount").and_then(Value::as_i64).unwrap_or(0)
}
/// RFC 3339 in UTC sorts as text.
fn later(last: &mut String, c: &Value) {
    if let Some(t) = ended(&c["lastState"]) {
        let at = text(t, "finishedAt");
        if at > last.as_str() {
            at.clone_into(last);
        }
    }
}

fn summary(row: &Row, sidecars: &HashSet<&str>) -> Summary {
    let conditions = row.at("status.conditions");
    let mut s = Summary {
        ready: 0,
        reason: row.str("status.phase").into(),
        restarts: 0,
        last_restart: String::new(),
    };
    if !row.str("status.reason").is_empty() {
        s.reason = row.str("status.reason").into();
    }
    if condition(conditions, "PodScheduled").is_some_and(|c| text(c, "reason") == "SchedulingGated") {
        s.reason = "SchedulingGated".into();
    }
    let (mut side_restarts, mut side_last) = (0, String::new());
    let mut initializing = false;
    for (i, c) in list(row.at("status.initContainerStatuses")).iter().enumerate() {
        s.restarts += restarts(c);
        later(&mut s.last_restart, c);
        let sidecar = sidecars.contains(text(c, "name"));
        if sidecar {
            side_restarts += restarts(c);
            later(&mut side_last, c);
        }
        let state = &c["state"];
        let waiting = text(&state["waiting"], "reason");
        match ended(state) {
            Some(t) if t.get("exitCode").and_then(Value::as_i64).unwrap_or(0) == 0 => continue,
            _ if sidecar && c["started"] == true => {
                s.ready += i64::from(c["ready"] == true);
                continue;
            }
            Some(t) => s.reason = format!("Init:{}", exit(t)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => {
                s.reason = format!("Init:{waiting}")
            }
            None => s.reason = format!("Init:{i}/{}", list(row.at("spec.initContainers")).len()),
        }
        initializing = true;
        break;
    }
    if !initializing || condition_is(conditions, "Initialized", "True") {
        s.restarts = side_restarts;
        s.last_restart = side_last;
        let mut running = false;
        for c in list(row.at("status.containerStatuses")).iter().rev() {
            s.restarts += restarts(c);
            later(&mut s.last_restart, c);
            let state = &c["state"];
            let waiting = text(&state["waiting"], "reason");
            if !waiting.is_empty() {
                s.reason = waiting.into();
            } else if let Some(t) = ended(state) {
                s.reason = exit(t);
            } else if c["ready"] == true && state.get("running").is_some() {
                running = true;
                s.ready += 1;
            }
        }
        if s.reason == "Completed" && running {
            s.reason = if condition_is(conditions, "Ready", "True") { "Running" } else { "NotReady" }.into();
        }
    }
    if row.deleting() {
        if row.str("status.reason") == "NodeLost" {
            s.reason = "Unknown".into();
        } else if !matches!(row.str("status.phase"), "Succeeded" | "Failed") {
            s.reason = "Terminating".into();
        }
    }
    s
}

pub fn cells(row: &mut Row) {
    let sidecars: HashSet<&str> = list(row.at("spec.initContainers"))
        .iter()
        .filter(|c| text(c, "restartPolicy") == "Always")
        .map(|c| text(c, "name"))
        .collect();
    let total = list(row.at("spec.containers")).len() + sidecars.len();
    let s = summary(row, &sidecars);
    row.name();
    row.text(format!("{}/{total}", s.ready));
    row.text(s.reason);
    if s.restarts != 0 && !s.last_restart.is_empty() {
        let ago = since(&s.last_restart, row.now);
        row.text(format!("{} ({ago} ago)", s.restarts));
    } else {
        row.text(s.restarts.to_string());
    }
    row.age();
    let ip = list(row.at("status.podIPs")).first().map_or("", |i| text(i, "ip"));
    row.text(or(ip, "<none>"));
    row.text_at("spec.nodeName", "<none>");
    row.text_at("status.nominatedNodeName", "<none>");
    let gates = list(row.at("spec.readinessGates"));
    if gates.is_empty() {
        row.text("<none>");
    } else {
        let conditions = row.at("status.conditions");
        let open =
            gates.iter().filter(|g| condition_is(conditions, text(g, "conditionType"), "True")).count();
        row.text(format!("{open}/{}", gates.len()));
    }
    let phase = row.str("status.phase");
    let message = match phase {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return,
    };
    row.conditions = json!([{"type": "Completed", "status": "True", "reason": phase, "message": message}]);
}
