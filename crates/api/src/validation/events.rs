//! Events. They are stored in the core group's form; what is asked of them depends on the group that they came through.

use super::at::At;
use super::common::required;
use super::errors::{ErrorList, same};
use super::names;
use super::path::Path;
use serde_json::Value;

/// Event of the core group.
pub fn event(o: &Value, e: &mut ErrorList) {
    common(o, "reportingComponent", e);
}

fn common(o: &Value, controller: &str, e: &mut ErrorList) {
    let root = At::root(o);
    let about = root.get("involvedObject");
    let about = about.get("namespace");
    let own = root.get("metadata").s("namespace");
    let old = root.s("eventTime").is_empty();
    let fits = match (old, about.str()) {
        (true, "") => matches!(own, "" | "default"),
        (true, ns) => ns == own,
        (false, ns) => !ns.is_empty() || matches!(own, "default" | "kube-system"),
    };
    if !fits {
        e.invalid(&about.p, about.str(), "does not match event.namespace");
    }
    if old {
        return;
    }
    let by = At::new(root.raw("reportingComponent"), Path::new(controller));
    required(&by, e);
    e.each(&by, by.str(), names::qualified_name(by.str()));
    for (f, max) in [("reportingInstance", 128), ("action", 128), ("reason", 128), ("message", 1024)] {
        let v = root.get(f);
        if f != "message" {
            required(&v, e);
        }
        if v.str().len() > max {
            e.invalid(&v, "", &format!("can have at most {max} characters"));
        }
    }
}

/// Event of events.k8s.io, as it is created.
pub fn new_event(o: &Value, e: &mut ErrorList) {
    common(o, "reportingController", e);
    let root = At::root(o);
    series(&root, e);
    required(&root.get("eventTime"), e);
    let kind = root.get("type");
    if !matches!(kind.str(), "Normal" | "Warning") {
        e.invalid(&kind, "", &format!("has invalid value: {}", kind.str()));
    }
    let source = root.get("source");
    let unset = [
        ("firstTimestamp", !root.s("firstTimestamp").is_empty()),
        ("lastTimestamp", !root.s("lastTimestamp").is_empty()),
        ("count", root.i("count").unwrap_or(0) != 0),
        ("source", !(source.s("component").is_empty() && source.s("host").is_empty())),
    ];
    for (f, _) in unset.iter().filter(|(_, set)| *set) {
        e.invalid(&root.at(f), "", "needs to be unset");
    }
}

fn series(root: &At, e: &mut ErrorList) {
    let s = root.get("series");
    if s.is_null() {
        return;
    }
    if s.i("count").unwrap_or(0) < 2 {
        e.invalid(&s.at("count"), "", "should be at least 2");
    }
    required(&s.get("lastObservedTime"), e);
}

/// Only the series of an event of events.k8s.io changes.
pub fn new_event_update(n: &Value, o: &Value, e: &mut ErrorList) {
    common(n, "reportingController", e);
    let (root, was) = (At::root(n), At::root(o));
    if !same(root.raw("series"), was.raw("series")) {
        series(&root, e);
    }
    for (f, shown, shape) in [
        ("involvedObject", "involvedObject", "ObjectReference"),
        ("reason", "reason", "string"),
        ("message", "message", "string"),
        ("source", "source", "=null"),
        ("firstTimestamp", "firstTimestamp", "=null"),
        ("lastTimestamp", "lastTimestamp", "=null"),
        ("count", "count", "number"),
        ("type", "type", "string"),
        ("eventTime", "eventTime", "=null"),
        ("action", "action", "string"),
        ("related", "related", "*ObjectReference"),
        ("reportingComponent", "reportingController", "string"),
        ("reportingInstance", "reportingInstance", "string"),
    ] {
        let now = At::new(root.raw(f), Path::new(shown));
        if !same(now.v, was.raw(f)) {
            e.bad_as(shape, &now, super::IMMUTABLE);
        }
    }
}
