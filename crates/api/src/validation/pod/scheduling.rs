//! Where a pod may run: affinity, node selectors, tolerations and taints, topology spread.

use super::super::at::At;
use super::super::common::{Raw, format, label_selector, optional_one_of};
use super::super::errors::{ErrorList, Shown};
use super::super::internal::Internal;
use super::super::{meta, names};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub fn affinity(a: &At, e: &mut ErrorList) {
    if a.is_null() {
        return;
    }
    let node = a.get("nodeAffinity");
    let required = node.get(REQUIRED);
    if !required.is_null() {
        node_selector(&required, e);
    }
    for t in node.get(PREFERRED).iter() {
        weight(&t, e);
        node_selector_term(&t.get("preference"), true, e);
    }
    for f in ["podAffinity", "podAntiAffinity"] {
        let p = a.get(f);
        for t in p.get(REQUIRED).iter() {
            pod_affinity_term(&t, e);
        }
        for t in p.get(PREFERRED).iter() {
            weight(&t, e);
            pod_affinity_term(&t.get("podAffinityTerm"), e);
        }
    }
}

fn weight(t: &At, e: &mut ErrorList) {
    let w = t.i("weight").unwrap_or(0);
    if !(1..=100).contains(&w) {
        e.invalid(&t.at("weight"), w, "must be in the range 1-100");
    }
}

/// `NodeSelector`.
pub fn node_selector(s: &At, e: &mut ErrorList) {
    let terms = s.get("nodeSelectorTerms");
    if terms.is_empty() {
        e.required(&terms, "must have at least one node selector term");
    }
    for t in terms.iter() {
        node_selector_term(&t, false, e);
    }
}

fn node_selector_term(t: &At, any_value: bool, e: &mut ErrorList) {
    for r in t.get("matchExpressions").iter() {
        let values = r.get("values");
        match r.s("operator") {
            "In" | "NotIn" if values.is_empty() => {
                e.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                e.forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "Exists" | "DoesNotExist" => {}
            "Gt" | "Lt" if values.len() != 1 => {
                e.required(&values, "must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
            "Gt" | "Lt" => {}
            op => e.invalid(&r.at("operator"), op, "not a valid selector operator"),
        }
        meta::label_name(r.s("key"), &r.at("key"), e);
        if !any_value {
            for v in values.iter() {
                format(&v, names::label_value, e);
            }
        }
    }
    for r in t.get("matchFields").iter() {
        let values = r.get("values");
        match r.s("operator") {
            "In" | "NotIn" if values.len() != 1 => {
                e.required(
                    &values,
                    "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
                );
            }
            "In" | "NotIn" => {}
            op => e.invalid(&r.at("operator"), op, "not a valid selector operator"),
        }
        if r.s("key") != "metadata.name" {
            e.invalid(&r.at("key"), r.s("key"), "not a valid field selector key");
            continue;
        }
        for v in values.iter() {
            format(&v, names::dns1123_subdomain, e);
        }
    }
}

fn pod_affinity_term(t: &At, e: &mut ErrorList) {
    let selector = t.get("labelSelector");
    label_selector(&selector, e);
    label_selector(&t.get("namespaceSelector"), e);
    for n in t.get("namespaces").list() {
        let n = n.as_str().unwrap_or_default();
        e.each(&t.at("namespace"), n, names::dns1123_label(n));
    }
    for f in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = t.get(f);
        if !keys.is_empty() && selector.is_null() {
            e.forbidden(&keys, "must not be specified when labelSelector is not set");
            continue;
        }
        for k in keys.iter() {
            meta::label_name(k.str(), &k, e);
        }
    }
    let mismatch = t.get("mismatchLabelKeys");
    for k in t.get("matchLabelKeys").iter() {
        if mismatch.list().contains(k.v) {
            e.bad(&k, "exists in both matchLabelKeys and mismatchLabelKeys");
        }
    }
    let key = t.get("topologyKey");
    if key.str().is_empty() {
        e.required(&key, "can not be empty");
    }
    meta::label_name(key.str(), &key, e);
}

pub fn tolerations(list: &At, e: &mut ErrorList) {
    for t in list.iter() {
        let (key, op, value) = (t.s("key"), t.s("operator"), t.s("value"));
        if !key.is_empty() {
            meta::label_name(key, &t.at("key"), e);
        }
        if key.is_empty() && op != "Exists" {
            e.invalid(
                &t.at("operator"),
                op,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if t.has("tolerationSeconds") && t.s("effect") != "NoExecute" {
            e.invalid(
                &t.at("effect"),
                t.s("effect"),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
        match op {
            "" | "Equal" => {
                let wrong = names::label_value(value);
                if !wrong.is_empty() {
                    e.invalid(&t.at("operator"), value, &wrong.join(";"));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    e.invalid(&t.at("operator"), value, "value must be empty when `operator` is 'Exists'");
                }
            }
            "Gt" | "Lt" => {
                if value.parse::<i64>().is_err() {
                    e.invalid(&t.at("value"), value, "must be a valid integer for numeric operators");
                }
            }
            other => e.not_supported(&t.at("operator"), other, &["Equal", "Exists"]),
        }
        if !t.s("effect").is_empty() {
            effect(&t.get("effect"), e);
        }
    }
}

fn effect(a: &At, e: &mut ErrorList) {
    if a.str().is_empty() {
        e.required(a, "");
    } else {
        optional_one_of(a, &["NoSchedule", "PreferNoSchedule", "NoExecute"], e);
    }
}

/// A node's taints.
pub fn taints(list: &At, e: &mut ErrorList) {
    let mut seen = HashSet::new();
    for t in list.iter() {
        meta::label_name(t.s("key"), &t.at("key"), e);
        let wrong = names::label_value(t.s("value"));
        if !wrong.is_empty() {
            e.invalid(&t.at("value"), t.s("value"), &wrong.join(";"));
        }
        effect(&t.get("effect"), e);
        if !seen.insert((t.s("effect"), t.s("key"))) {
            let taint = Internal("Taint", t.v).shown();
            let shown = format!("{taint}: taints must be unique by key and effect pair");
            e.duplicate(&t, Raw(&shown));
        }
    }
}

/// `pod`: a pod, not a template.
pub fn topology_spread(list: &At, pod: bool, e: &mut ErrorList) {
    for (i, c) in list.iter().enumerate() {
        let skew = c.i("maxSkew").unwrap_or(0);
        if skew <= 0 {
            e.invalid(&c.at("maxSkew"), skew, "must be greater than zero");
        }
        let (key, action) = (c.s("topologyKey"), c.s("whenUnsatisfiable"));
        if key.is_empty() {
            e.required(&c.at("topologyKey"), "can not be empty");
        }
        if !["DoNotSchedule", "ScheduleAnyway"].contains(&action) {
            e.not_supported(&c.at("whenUnsatisfiable"), action, &["DoNotSchedule", "ScheduleAnyway"]);
        }
        let alike = |o: &serde_json::Value| o["topologyKey"] == key && o["whenUnsatisfiable"] == action;
        if list.list()[i + 1..].iter().any(alike) {
            e.duplicate(&c.at("{topologyKey, whenUnsatisfiable}"), format!("{{{key}, {action}}}"));
        }
        let domains = c.get("minDomains");
        if let Some(n) = domains.int() {
            if n <= 0 {
                e.bad(&domains, "must be greater than zero");
            }
            if action != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                e.bad(&domains, &why);
            }
        }
        for f in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            optional_one_of(&c.get(f), &["Honor", "Ignore"], e);
        }
        let selector = c.get("labelSelector");
        let keys = c.get("matchLabelKeys");
        if !keys.is_empty() && selector.is_null() {
            e.forbidden(&keys, "must not be specified when labelSelector is not set");
        } else {
            for k in keys.iter() {
                meta::label_name(k.str(), &k, e);
            }
        }
        let mut expressions: HashMap<&Value, usize> = HashMap::new();
        for x in selector.raw("matchExpressions").as_array().into_iter().flatten() {
            *expressions.entry(&x["key"]).or_default() += 1;
        }
        for (i, k) in keys.iter().enumerate() {
            // A pod's keys become expressions of its selector; a template's stay keys.
            let named = usize::from(selector.raw("matchLabels").get(k.str()).is_some())
                + expressions.get(k.v).copied().unwrap_or(0)
                + usize::from(pod);
            if named > 1 {
                e.invalid(&c.p.index(i), k.str(), "exists in both matchLabelKeys and labelSelector");
            }
        }
        label_selector(&selector, e);
    }
}
