//! HorizontalPodAutoscaler, in both its versions.

use super::amount::quantity;
use super::at::At;
use super::common::{non_negative, optional_one_of, required};
use super::errors::ErrorList;
use super::names;
use serde_json::Value;
use std::collections::HashSet;

pub fn autoscaler(o: &Value, e: &mut ErrorList) {
    whole(o, None, e);
}

pub fn autoscaler_update(n: &Value, o: &Value, e: &mut ErrorList) {
    whole(n, Some(o), e);
}

/// What a reference's apiVersion may be.
#[derive(Clone, Copy)]
enum Group {
    /// A group and a version, or a version.
    Any,
    Required,
    /// It was stored like this.
    Unchecked,
}

fn whole(o: &Value, old: Option<&Value>, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let (min, max) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    non_negative(&min, e);
    let most = max.int().unwrap_or(0);
    if min.int().is_some_and(|m| most < m) {
        e.invalid(&max, most, "must be greater than or equal to `minReplicas`");
    }
    let scaled = spec.get("scaleTargetRef");
    let before = old.map(|o| &o["spec"]["scaleTargetRef"]);
    let kept = |f: &str| before.is_some_and(|b| b[f].as_str().unwrap_or_default() == scaled.s(f));
    let group = match scaled.s("kind") {
        _ if kept("apiVersion") && kept("kind") => Group::Unchecked,
        "ReplicationController" => Group::Any,
        _ => Group::Required,
    };
    target(&scaled, group, e);
    let loose = old.and_then(|o| o["spec"]["metrics"].as_array()).into_iter().flatten().any(|m| {
        let version = m["object"]["describedObject"]["apiVersion"].as_str().unwrap_or_default();
        m["type"] == "Object" && version.matches('/').count() > 1
    });
    let described = if loose { Group::Unchecked } else { Group::Any };
    let cpu = spec.get("targetCPUUtilizationPercentage");
    if cpu.int().is_some_and(|c| c < 1) {
        e.bad(&cpu, "must be greater than 0");
    }
    let metrics = spec.get("metrics");
    for m in metrics.iter() {
        metric(&m, described, e);
    }
    // Without pods there is nothing to measure but what is elsewhere.
    let outside = metrics.list().iter().any(|m| matches!(m["type"].as_str(), Some("Object" | "External")));
    if min.int() == Some(0) && !outside {
        e.forbidden(
            &metrics,
            "must specify at least one Object or External metric to support scaling to zero replicas",
        );
    }
    let behavior = spec.get("behavior");
    for f in ["scaleUp", "scaleDown"] {
        rules(&behavior.get(f), e);
    }
    match most {
        0 => e.required(&max, ""),
        n if n < 0 => e.bad(&max, "must be greater than or equal to 1"),
        _ => {}
    }
}

fn target(t: &At, group: Group, e: &mut ErrorList) {
    for f in ["kind", "name"] {
        let v = t.get(f);
        if required(&v, e) {
            e.each(&v, v.str(), names::path_segment(v.str(), false));
        }
    }
    let version = t.get("apiVersion");
    let before = e.len();
    if !matches!(group, Group::Unchecked) {
        super::admission::group_version(&version, e);
    }
    if matches!(group, Group::Required) && e.len() == before && !version.str().contains('/') {
        e.invalid(&version, version.str(), "apiVersion must specify API group");
    }
}

fn metric(m: &At, described: Group, e: &mut ErrorList) {
    const KINDS: [(&str, &str); 5] = [
        ("ContainerResource", "containerResource"),
        ("External", "external"),
        ("Object", "object"),
        ("Pods", "pods"),
        ("Resource", "resource"),
    ];
    let kind = m.get("type");
    if kind.str().is_empty() {
        e.required(&kind, "must specify a metric source type");
    }
    let Some((_, field)) = KINDS.iter().find(|(k, _)| *k == kind.str()) else {
        e.not_supported(&kind, kind.str(), &KINDS.map(|(k, _)| k));
        return;
    };
    if !m.has(field) {
        e.required(&m.at(field), "must populate information for the given metric source");
    } else if let Some((_, other)) = KINDS.iter().find(|(_, f)| f != field && m.has(f)) {
        e.forbidden(&m.at(other), "must populate the given metric source only");
    }
    let source = m.get(field);
    if source.is_null() {
        return;
    }
    match *field {
        "resource" | "containerResource" => {
            named(&source, "name", "must specify a resource name", e);
            if *field == "containerResource" {
                named(&source, "container", "must specify a container", e);
            }
        }
        _ => {
            let id = source.get("metric");
            let name = id.get("name");
            if named(&id, "name", "must specify a metric name", e) {
                e.each(&name, name.str(), names::path_segment(name.str(), false));
            }
            if *field == "object" {
                target(&source.get("describedObject"), described, e);
            }
        }
    }
    metric_target(&source.get("target"), field, e);
}

fn named(of: &At, field: &str, why: &str, e: &mut ErrorList) -> bool {
    let missing = of.s(field).is_empty();
    if missing {
        e.required(&of.at(field), why);
    }
    !missing
}

fn metric_target(t: &At, field: &str, e: &mut ErrorList) {
    named(t, "type", "must specify a metric target type", e);
    let kind = t.s("type");
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        e.invalid(&t.at("type"), kind, "must be either Utilization, Value, or AverageValue");
    }
    let (value, average, percent) = (t.get("value"), t.get("averageValue"), t.get("averageUtilization"));
    for q in [&value, &average] {
        if quantity(q.v).is_some_and(|n| n.sign() <= 0) {
            e.bad(q, "must be positive");
        }
    }
    if percent.int().is_some_and(|n| n < 1) {
        e.bad(&percent, "must be greater than 0");
    }
    match field {
        "pods" => {
            if average.is_null() {
                e.required(&average, "must specify a positive target averageValue");
            }
        }
        "resource" | "containerResource" => {
            if percent.is_null() && average.is_null() {
                e.required(&percent, "must set either a target raw value or a target utilization");
            } else if !percent.is_null() && !average.is_null() {
                e.forbidden(&average, "may not set both a target raw value and a target utilization");
            }
        }
        _ => {
            if value.is_null() && average.is_null() {
                e.required(
                    &average,
                    if field == "object" {
                        "must set either a target value or averageValue"
                    } else {
                        "must set either a target value for metric or a per-pod target"
                    },
                );
            } else if !value.is_null() && !average.is_null() && field == "external" {
                e.forbidden(&value, "may not set both a target value for metric and a per-pod target");
            }
        }
    }
}

fn rules(r: &At, e: &mut ErrorList) {
    if r.is_null() {
        return;
    }
    let window = r.get("stabilizationWindowSeconds");
    match window.int() {
        Some(w) if w < 0 => e.bad(&window, "must be greater than or equal to zero"),
        Some(w) if w > 3600 => e.bad(&window, "must be less than or equal to 3600"),
        _ => {}
    }
    optional_one_of(&r.get("selectPolicy"), &["Disabled", "Max", "Min"], e);
    let policies = r.get("policies");
    if policies.is_empty() {
        e.required(&policies, "must specify at least one Policy");
    }
    for p in policies.iter() {
        optional_one_of(&At::new(p.raw("type"), p.at("type")), &["Percent", "Pods"], e);
        for f in ["value", "periodSeconds"] {
            let v = p.get(f);
            match v.int().unwrap_or(0) {
                n if n <= 0 => e.invalid(&v, n, "must be greater than zero"),
                n if n > 1800 && f == "periodSeconds" => e.bad(&v, "must be less than or equal to 1800"),
                _ => {}
            }
        }
    }
    let tolerance = r.get("tolerance");
    if quantity(tolerance.v).is_some_and(|q| q.sign() < 0) {
        e.bad(&tolerance, names::NON_NEGATIVE);
    }
}

/// The status: counts are not negative.
pub fn status(n: &Value, e: &mut ErrorList) {
    let root = At::root(n);
    let status = root.get("status");
    for c in status.get("conditions").iter() {
        non_negative(&c.get("observedGeneration"), e);
    }
    for f in ["currentReplicas", "desiredReplicas"] {
        non_negative(&status.get(f), e);
    }
    let mut seen = HashSet::new();
    for c in status.get("conditions").iter() {
        if !seen.insert(c.s("type")) {
            e.duplicate(&c.at("type"), c.s("type"));
        }
    }
}

/// `Scale`, whatever it scales.
pub fn scale(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    non_negative(&spec.get("replicas"), e);
}
