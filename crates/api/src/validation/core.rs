//! Namespace, Node, ResourceQuota, LimitRange, Event, Binding and the like.

use super::amount::{self, Quantity, quantity, quota_resource_name, resource_value};
use super::at::At;
use super::common::{format, optional_format, required};
use super::errors::{ErrorList, same};
use super::internal::Internal;
use super::pod::scheduling::taints;
use super::{go_json, names};
use serde_json::Value;
use std::collections::{BTreeSet, HashSet};

/// Namespace: its own finalizers.
pub fn namespace(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let list = spec.get("finalizers");
    for f in list.iter() {
        finalizer(&At::new(f.v, list.p), e);
    }
}
/// What remains to be done before a namespace is gone.
pub fn namespace_finalize(n: &Value, e: &mut ErrorList) {
    let root = At::root(n);
    for f in root.get("spec").get("finalizers").iter() {
        finalizer(&f, e);
    }
}
fn finalizer(f: &At, e: &mut ErrorList) {
    format(f, names::qualified_name, e);
    if !f.str().contains('/') && !matches!(f.str(), "kubernetes" | "orphan" | "foregroundDeletion") {
        e.bad(f, "name is neither a standard finalizer name nor is it fully qualified");
    }
}
pub fn namespace_status(n: &Value, e: &mut ErrorList) {
    let root = At::root(n);
    let deleting = root.get("metadata").has("deletionTimestamp");
    let status = root.get("status");
    let phase = status.s("phase");
    let at = status.at("Phase");
    if !deleting && phase != "Active" {
        e.invalid(&at, phase, "may only be 'Active' if `deletionTimestamp` is empty");
    } else if deleting && phase != "Terminating" {
        e.invalid(&at, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty");
    }
}

/// Node.
pub fn node(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let meta = root.get("metadata");
    node_annotations(&meta, e);
    let list = At::new(spec.raw("taints"), meta.at("taints"));
    taints(&list, e);
    node_resources(&root, e);
    let cidrs = spec.get("podCIDRs");
    let mut seen = HashSet::new();
    let (mut v4, mut v6) = (0, 0);
    for c in cidrs.iter() {
        format(&c, names::cidr, e);
        if !seen.insert(c.str()) {
            e.duplicate(&c, c.str());
        }
        match names::parse_cidr(c.str()) {
            Some((ip, _)) if ip.is_ipv4() => v4 += 1,
            Some(_) => v6 += 1,
            None => {}
        }
    }
    if v4 > 1 || v6 > 1 {
        e.bad(&cidrs, "may specify no more than one CIDR for each IP family");
    }
}
/// Notes of old times that hold JSON.
fn node_annotations(meta: &At, e: &mut ErrorList) {
    const TAINTS: &str = "scheduler.alpha.kubernetes.io/taints";
    const AVOID: &str = "scheduler.alpha.kubernetes.io/preferAvoidPods";
    let notes = meta.get("annotations");
    let (tainted, avoid) = (notes.s(TAINTS), notes.s(AVOID));
    if !tainted.is_empty() {
        match go_json::parse(tainted.as_bytes()) {
            Err(why) => e.invalid(&notes.p, TAINTS, &why),
            Ok(list) => taints(&At::new(&list, notes.at(TAINTS)), e),
        }
    }
    if avoid.is_empty() {
        return;
    }
    match go_json::object(avoid.as_bytes(), "v1.AvoidPods") {
        Err(why) => e.invalid(&notes.at("AvoidPods"), AVOID, &why),
        Ok(o) => {
            let at = notes.at(AVOID);
            for (i, entry) in
                o.get("preferAvoidPods").and_then(Value::as_array).into_iter().flatten().enumerate()
            {
                let at = at.index(i);
                let signature = at.child("PodSignature");
                let owner = &entry["podSignature"]["podController"];
                if owner.is_null() {
                    e.required(&signature, "");
                } else if owner["controller"] != true {
                    let at = signature.child("PodController");
                    e.invalid(&at.child("Controller"), false, "must point to a controller");
                }
            }
        }
    }
}
fn node_resources(root: &At, e: &mut ErrorList) {
    let status = root.get("status");
    for f in ["capacity", "allocatable"] {
        let list = status.get(f);
        for (k, q) in list.entries() {
            resource_value(k, &At::new(q.v, list.at(k)), e);
        }
    }
}
pub fn node_update(n: &Value, o: &Value, e: &mut ErrorList) {
    node(n, e);
    let (root, before) = (At::root(n), At::root(o));
    let status = root.get("status");
    let mut seen = HashSet::new();
    for a in status.get("addresses").iter() {
        if !seen.insert((a.s("type"), a.s("address"))) {
            e.duplicate(&a, Internal("NodeAddress", a.v));
        }
    }
    let (spec, was) = (root.get("spec"), before.get("spec"));
    if !was.get("podCIDRs").is_empty() && !same(spec.raw("podCIDRs"), was.raw("podCIDRs")) {
        e.forbidden(&spec.at("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid");
    }
    if !was.s("providerID").is_empty() && spec.s("providerID") != was.s("providerID") {
        e.invalid(&spec.at("providerID"), Value::Null, "field cannot be modified once set");
    }
}

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

fn scope_fits(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => resource == "persistentvolumeclaims" || resource == "requests.storage",
        _ => {
            resource == "pods"
                || matches!(
                    resource.trim_start_matches("requests.").trim_start_matches("limits."),
                    "cpu" | "memory"
                )
                || (resource.contains("ephemeral-storage") && scope.contains("Terminating"))
        }
    }
}

/// ResourceQuota.
pub fn quota(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    amounts(&spec.get("hard"), e);
    let hard = spec.get("hard");
    let scopes = spec.get("scopes");
    let mut seen: HashSet<&str> = HashSet::new();
    let check = |scope: &str, at: &At, shown: &At, e: &mut ErrorList| {
        if !SCOPES.contains(&scope) {
            e.invalid(at, shown, "unsupported scope");
        }
        for k in hard.keys().filter(|k| amount::is_standard_quota(k) && !scope_fits(scope, k)) {
            let _ = k;
            e.invalid(at, shown, "unsupported scope applied to resource");
        }
    };
    for s in scopes.list() {
        let s = s.as_str().unwrap_or_default();
        check(s, &scopes, &scopes, e);
        seen.insert(s);
    }
    let selector = spec.get("scopeSelector");
    let list = selector.get("matchExpressions");
    for r in list.list() {
        let r = At::new(r, list.p);
        let scope = r.s("scopeName");
        check(scope, &r.get("scopeName"), &r.get("scopeName"), e);
        seen.insert(scope);
        let operator = r.get("operator");
        let values = r.get("values");
        if matches!(
            scope,
            "BestEffort" | "NotBestEffort" | "Terminating" | "NotTerminating" | "CrossNamespacePodAffinity"
        ) && operator.str() != "Exists"
        {
            e.bad(&operator, "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity");
        }
        match operator.str() {
            "In" | "NotIn" if values.is_empty() => {
                e.required(
                    &values,
                    "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
                );
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                e.bad(
                    &values,
                    "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => e.bad(&operator, "not a valid selector operator"),
        }
    }
    for (a, b) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if seen.contains(a) && seen.contains(b) {
            e.bad(&scopes, "conflicting scopes");
        }
    }
}
fn amounts(list: &At, e: &mut ErrorList) {
    for (k, q) in list.entries() {
        quota_resource_name(k, &q, e);
        resource_value(k, &q, e);
    }
}
pub fn quota_update(n: &Value, o: &Value, e: &mut ErrorList) {
    quota(n, e);
    let set = |v: &Value| -> BTreeSet<String> {
        let root = At::root(v);
        let spec = root.get("spec");
        spec.get("scopes").list().iter().filter_map(|s| Some(s.as_str()?.to_owned())).collect()
    };
    if set(n) != set(o) {
        let root = At::root(n);
        e.bad(&root.get("spec").get("scopes"), super::IMMUTABLE);
    }
}
pub fn quota_status(n: &Value, e: &mut ErrorList) {
    let root = At::root(n);
    let status = root.get("status");
    amounts(&status.get("hard"), e);
    amounts(&status.get("used"), e);
}

/// LimitRange.
pub fn limit_range(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let mut seen = HashSet::new();
    for l in spec.get("limits").iter() {
        let kind = l.get("type");
        let before = e.len();
        format(&kind, names::qualified_name, e);
        let standard = matches!(kind.str(), "Pod" | "Container" | "PersistentVolumeClaim");
        if e.len() == before && !kind.str().contains('/') && !standard {
            e.bad(&kind, "must be a standard limit type or fully qualified");
        }
        if !seen.insert(kind.str()) {
            e.duplicate(&kind, kind.str());
        }
        limit_item(&l, kind.str(), e);
    }
}

fn limit_item(l: &At, kind: &str, e: &mut ErrorList) {
    let mut keys: BTreeSet<&str> = BTreeSet::new();
    for f in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let list = l.get(f);
        if kind == "Pod" && f.starts_with("default") {
            if !list.is_empty() {
                e.forbidden(&list, "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (k, q) in list.entries() {
            if matches!(kind, "Pod" | "Container") {
                amount::container_resource_name(k, &q, e);
            } else {
                amount::resource_name(k, &q, e);
            }
            keys.insert(k);
        }
    }
    if kind == "PersistentVolumeClaim" && !l.get("min").has("storage") && !l.get("max").has("storage") {
        e.required(
            &l.at("limits"),
            "either minimum or maximum storage value is required, but neither was provided",
        );
    }
    for k in keys {
        let get = |f: &str| -> Option<Quantity> { quantity(l.get(f).raw(k)) };
        let (min, max, default) = (get("min"), get("max"), get("default"));
        let (request, ratio) = (get("defaultRequest"), get("maxLimitRequestRatio"));
        // Where it is told, the lesser and its name, the greater and its name.
        let mut order = |f: &str, shown: &Quantity, a: (&Quantity, &str), b: (&Quantity, &str)| {
            if a.0 > b.0 {
                let list = l.get(f);
                let why = format!("{} {} is greater than {} {}", a.1, a.0, b.1, b.0);
                e.invalid(&list.p.key(k), shown.to_string(), &why);
            }
        };
        const D: &str = "default value";
        const R: &str = "default request value";
        if let (Some(a), Some(b)) = (&min, &max) {
            order("min", a, (a, "min value"), (b, "max value"));
        }
        if let Some(r) = &request {
            if let Some(a) = &min {
                order("defaultRequest", r, (a, "min value"), (r, R));
            }
            if let Some(b) = &max {
                order("defaultRequest", r, (r, R), (b, "max value"));
            }
            if let Some(d) = &default {
                order("defaultRequest", r, (r, R), (d, "default limit value"));
            }
        }
        if let Some(d) = &default {
            if let Some(a) = &min {
                order("default", a, (a, "min value"), (d, D));
            }
            if let Some(b) = &max {
                order("default", b, (d, D), (b, "max value"));
            }
        }
        if let Some(r) = &ratio {
            let list = l.get("maxLimitRequestRatio");
            let at = list.p.key(k);
            if r.as_f64() < 1.0 {
                e.invalid(&at, r.to_string(), &format!("ratio {r} is less than 1"));
            }
            if let (Some(a), Some(b)) = (&min, &max) {
                let most = b.as_f64() / a.as_f64();
                if r.as_f64() > most {
                    e.invalid(&at, r.to_string(), &format!("ratio {r} is greater than max/min = {most:.6}"));
                }
            }
        }
        if let (Some(d), Some(r)) = (&default, &request)
            && d != r
            && !amount::overcommit_allowed(k)
        {
            let list = l.get("defaultRequest");
            let why = format!("default value {d} must equal to defaultRequest value {r} in {k}");
            e.invalid(&list.p.key(k), r.to_string(), &why);
        }
    }
}

/// Binding of a pod to a node.
pub fn binding(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let target = root.get("target");
    let kind = target.get("kind");
    if !matches!(kind.str(), "" | "Node") {
        e.not_supported(&kind, kind.str(), &["Node", "<empty>"]);
    }
    required(&target.get("name"), e);
}

/// Lease.
pub fn lease(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let duration = spec.get("leaseDurationSeconds");
    if duration.int().is_some_and(|d| d <= 0) {
        e.bad(&duration, "must be greater than 0");
    }
    super::common::non_negative(&spec.get("leaseTransitions"), e);
    optional_format(&spec.get("strategy"), names::qualified_name, e);
    if spec.has("preferredHolder") && spec.s("strategy").is_empty() {
        e.required(&spec.at("strategy"), "must be specified when `preferredHolder` is specified");
    }
}
