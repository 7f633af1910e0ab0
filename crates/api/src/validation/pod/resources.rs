//! Requests and limits.

use super::super::amount::{self, quantity};
use super::super::at::At;
use super::super::common::format;
use super::super::errors::ErrorList;
use super::super::names;
use super::super::path::Place;
use std::collections::HashSet;

pub type NameRule = fn(&str, &dyn Place, &mut ErrorList);

/// A resource list: names and values.
pub fn list(l: &At, rule: NameRule, e: &mut ErrorList) {
    for (name, q) in l.entries() {
        rule(name, &q, e);
        amount::resource_value(name, &q, e);
        huge_page_value(name, &q, e);
    }
}

/// `ResourceRequirements`.
pub fn requirements(r: &At, pod_claims: &HashSet<&str>, rule: NameRule, e: &mut ErrorList) {
    let (limits, requests) = (r.get("limits"), r.get("requests"));
    list(&limits, rule, e);
    for (name, q) in requests.entries() {
        rule(name, &q, e);
        amount::resource_value(name, &q, e);
        let (request, limit) = (quantity(q.v), quantity(limits.raw(name)));
        match (request, limit) {
            (Some(request), Some(limit)) => {
                if request != limit && !amount::overcommit_allowed(name) {
                    let why = format!("must be equal to {name} limit of {limit}");
                    e.invalid(&requests, request.to_string(), &why);
                } else if request > limit {
                    let why = format!("must be less than or equal to {name} limit of {limit}");
                    e.invalid(&requests, request.to_string(), &why);
                }
            }
            (_, None) if !amount::overcommit_allowed(name) => {
                e.required(&limits, "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
        huge_page_value(name, &q, e);
    }
    let any = |f: fn(&str) -> bool| limits.keys().chain(requests.keys()).any(f);
    if any(amount::is_huge_page) && !any(|n| n == "cpu" || n == "memory") {
        e.forbidden(r, "HugePages require cpu or memory");
    }
    claim_names(&r.get("claims"), pod_claims, e);
}

fn huge_page_value(name: &str, q: &At, e: &mut ErrorList) {
    let Some(size) = name.strip_prefix("hugepages-") else {
        return;
    };
    let (Some(size), Some(value)) = (amount::Quantity::parse(size).ok(), quantity(q.v)) else {
        return;
    };
    let (size, bytes) = (size.value(), value.value());
    if size <= 0 || bytes % size != 0 {
        e.invalid(q, value.to_string(), &format!("{value} is not positive integer multiple of {name}"));
    }
}

fn claim_names(list: &At, pod_claims: &HashSet<&str>, e: &mut ErrorList) {
    let mut seen: HashSet<(&str, &str)> = HashSet::new();
    for c in list.iter() {
        let (name, request) = (c.s("name"), c.s("request"));
        if name.is_empty() {
            e.required(&c, "");
            continue;
        }
        if !request.is_empty() {
            format(&c.get("request"), names::dns1123_label, e);
        }
        let clash = seen.contains(&(name, ""))
            || seen.contains(&(name, request))
            || (request.is_empty() && seen.iter().any(|(n, _)| *n == name));
        if clash {
            let shown = if request.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
            e.duplicate(&c, shown);
        }
        seen.insert((name, request));
        if !pod_claims.contains(name) {
            let why = if pod_claims.is_empty() {
                "must be one of the names in pod.spec.resourceClaims which is empty".to_owned()
            } else {
                String::from("must be one of the names in pod.spec.resourceClaims")
            };
            e.not_found_in(&c, name, &why);
        }
    }
}
