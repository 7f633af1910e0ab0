//! HorizontalPodAutoscaler, in both its versions.

use super::amount::quantity;
use super::at::At;
use super::common::{label_selector, one_of, optional_one_of, required};
use super::errors::ErrorList;
use super::names;
use serde_json::Value;
use std::collections::HashSet;

pub fn autoscaler(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let (min, max) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    if min.int().is_some_and(|m| m < 1) {
        e.bad(&min, "must be greater than or equal to 1");
    }
    let most = max.int().unwrap_or(0);
    if most < 1 {
        e.invalid(&max, most, "must be greater than 0");
    }
    if min.int().is_some_and(|m| most < m) {
        e.invalid(&max, most, "must be greater than or equal to `minReplicas`");
    }
    target(&spec.get("scaleTargetRef"), e);
    let cpu = spec.get("targetCPUUtilizationPercentage");
    if cpu.int().is_some_and(|c| c < 1) {
        e.bad(&cpu, "must be greater than 0");
    }
    for m in spec.get("metrics").iter() {
        metric(&m, e);
    }
    let behavior = spec.get("behavior");
    for f in ["scaleUp", "scaleDown"] {
        rules(&behavior.get(f), e);
    }
}

fn target(t: &At, e: &mut ErrorList) {
    for f in ["kind", "name"] {
        let v = t.get(f);
        if required(&v, e) {
            e.each(&v, v.str(), names::path_segment(v.str(), false));
        }
    }
}

fn metric(m: &At, e: &mut ErrorList) {
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
        return;
    }
    let Some((_, field)) = KINDS.iter().find(|(k, _)| *k == kind.str()) else {
        e.not_supported(&kind, kind.str(), &KINDS.map(|(k, _)| k));
        return;
    };
    for (_, f) in KINDS {
        if f == *field && !m.has(f) {
            e.required(&m.at(f), "must populate the given metric source");
        } else if f != *field && m.has(f) {
            e.forbidden(&m.at(f), "must populate the given metric source only");
        }
    }
    let source = m.get(field);
    if source.is_null() {
        return;
    }
    match *field {
        "resource" | "containerResource" => {
            required(&source.get("name"), e);
            if *field == "containerResource" {
                required(&source.get("container"), e);
            }
        }
        _ => {
            let id = source.get("metric");
            let name = id.get("name");
            if required(&name, e) {
                e.each(&name, name.str(), names::path_segment(name.str(), false));
            }
            label_selector(&id.get("selector"), e);
            if *field == "object" {
                target(&source.get("describedObject"), e);
            }
        }
    }
    metric_target(&source.get("target"), field, e);
}

fn metric_target(t: &At, field: &str, e: &mut ErrorList) {
    one_of(&t.get("type"), &["AverageValue", "Utilization", "Value"], e);
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
                e.required(&average, "must set either a target value for metric or a per-pod target");
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
        one_of(&p.get("type"), &["Percent", "Pods"], e);
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
        e.bad(&tolerance, "must be greater or equal to zero");
    }
}

/// The status: counts are not negative.
pub fn status(n: &Value, e: &mut ErrorList) {
    let root = At::root(n);
    let status = root.get("status");
    for f in ["currentReplicas", "desiredReplicas"] {
        super::common::non_negative(&status.get(f), e);
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
    super::common::non_negative(&spec.get("replicas"), e);
}
