//! Priority and fairness: FlowSchema and PriorityLevelConfiguration.

use super::at::At;
use super::common::{format, required};
use super::errors::ErrorList;
use super::internal::Internal;
use super::names;
use serde_json::Value;
use std::collections::HashSet;

const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

/// Kinds of subjects, and where each is told more.
const SUBJECTS: [(&str, &str); 3] =
    [("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")];

/// FlowSchema.
pub fn schema(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let precedence = spec.get("matchingPrecedence");
    let n = precedence.int().unwrap_or(0);
    if n <= 0 {
        e.invalid(&precedence, n, "must be a positive value");
    }
    if n > 10_000 {
        e.bad(&precedence, "must not be greater than 10000");
    }
    if n == 1 && root.get("metadata").s("name") != "exempt" {
        e.bad(&precedence, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
    let method = spec.get("distinguisherMethod");
    if !method.is_null() && !matches!(method.s("type"), "ByUser" | "ByNamespace") {
        let shown = Internal("FlowDistinguisherMethod", method.v);
        e.not_supported(&method.at("type"), shown, &["ByNamespace", "ByUser"]);
    }
    let level = spec.get("priorityLevelConfiguration");
    let name = level.get("name");
    if name.str().is_empty() {
        e.required(&name, "must reference a priority level");
    } else {
        format(&name, names::dns1123_subdomain, e);
    }
    for r in spec.get("rules").iter() {
        rule(&r, e);
    }
}

fn rule(r: &At, e: &mut ErrorList) {
    let subjects = r.get("subjects");
    if subjects.is_empty() {
        e.required(&subjects, "subjects must contain at least one value");
    }
    for s in subjects.iter() {
        subject(&s, e);
    }
    let (resource, other) = (r.get("resourceRules"), r.get("nonResourceRules"));
    if resource.is_empty() && other.is_empty() {
        e.required(r, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    for x in resource.iter() {
        verbs(&x, e);
        some_or_all(
            &x.get("apiGroups"),
            "resource rules must supply at least one api group",
            "api groups",
            e,
        );
        some_or_all(&x.get("resources"), "resource rules must supply at least one resource", "resources", e);
        let spaces = x.get("namespaces");
        if spaces.is_empty() && !x.b("clusterScope") {
            let why = "resource rules that are not cluster scoped must supply at least one namespace";
            e.required(&spaces, why);
        } else if !wildcard(&spaces, "namespaces", e) {
            for ns in spaces.iter() {
                for m in names::dns1123_label(ns.str()) {
                    e.bad(&ns, &format!("each member of this list must be '*' or a DNS-1123 label; {m}"));
                }
            }
        }
    }
    for x in other.iter() {
        verbs(&x, e);
        let urls = x.get("nonResourceURLs");
        if urls.is_empty() {
            e.required(&urls, "nonResourceURLs must contain at least one value");
        } else if !wildcard(&urls, "non-resource URLs", e) {
            for u in urls.iter() {
                url(&u, e);
            }
        }
    }
}

fn subject(s: &At, e: &mut ErrorList) {
    let Some((kind, field)) = SUBJECTS.iter().find(|(k, _)| *k == s.s("kind")) else {
        e.not_supported(&s.at("kind"), s.s("kind"), &SUBJECTS.map(|(k, _)| k));
        return;
    };
    let own = s.get(field);
    if own.is_null() {
        e.required(&own, &format!("{field} is required when subject kind is '{kind}'"));
    } else {
        let name = own.get("name");
        let account = *kind == "ServiceAccount";
        if required(&name, e) && account && name.str() != "*" {
            format(&name, names::dns1123_subdomain, e);
        }
        let ns = own.get("namespace");
        if account && ns.str().is_empty() {
            e.required(&ns, "must specify namespace for service account");
        } else if account {
            format(&ns, names::dns1123_label, e);
        }
    }
    for (k, f) in
        ["serviceAccount", "user", "group"].iter().filter_map(|f| SUBJECTS.iter().find(|(_, g)| g == f))
    {
        if k != kind && s.has(f) {
            e.forbidden(&s.at(f), &format!("{f} is forbidden when subject kind is not '{k}'"));
        }
    }
}

/// True when the list holds `*`, which then stands alone.
fn wildcard(list: &At, what: &str, e: &mut ErrorList) -> bool {
    let all = list.list().iter().any(|v| v == "*");
    if all && list.len() > 1 {
        e.bad(list, &format!("if '*' is present, must not specify other {what}"));
    }
    all
}

fn some_or_all(list: &At, none: &str, what: &str, e: &mut ErrorList) {
    if list.is_empty() {
        e.required(list, none);
    } else {
        wildcard(list, what, e);
    }
}

fn verbs(r: &At, e: &mut ErrorList) {
    let list = r.get("verbs");
    if list.is_empty() {
        e.required(&list, "verbs must contain at least one value");
    } else if !wildcard(&list, "verbs", e)
        && !list.list().iter().all(|v| v.as_str().is_some_and(|v| VERBS.contains(&v)))
    {
        e.not_supported(&list, list, &VERBS);
    }
}

fn url(u: &At, e: &mut ErrorList) {
    let path = u.str();
    let wrong = match path {
        "" => "must not be empty",
        "/" => return,
        p if !p.starts_with('/') => "must start with slash",
        p if p.contains(' ') => "must not contain white-space",
        p if p.contains("//") => "must not contain double slash",
        p if p.strip_suffix('*').unwrap_or(p).contains('*') || (p.ends_with('*') && !p.ends_with("/*")) => {
            "wildcard can only do suffix matching"
        }
        _ => return,
    };
    e.bad(u, wrong);
}

/// The conditions of either kind.
pub fn status(n: &Value, e: &mut ErrorList) {
    let root = At::root(n);
    let mut seen = HashSet::new();
    for c in root.get("status").get("conditions").iter() {
        if !seen.insert(c.s("type")) {
            e.duplicate(&c.at("type"), c.s("type"));
        }
        required(&c.get("type"), e);
    }
}

/// PriorityLevelConfiguration.
pub fn level(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let (limited, exempt, kind) = (spec.get("limited"), spec.get("exempt"), spec.get("type"));
    if (root.get("metadata").s("name") == "exempt") != (kind.str() == "Exempt") {
        e.invalid(&kind, kind.str(), "must be 'Exempt' if and only if `name` is 'exempt'");
    }
    match kind.str() {
        "Exempt" => shares(&exempt, e),
        "Limited" if !limited.is_null() => {
            concurrency(&limited, e);
            response(&limited, e);
            lending(&limited, e);
        }
        "Limited" | "" => {}
        other => e.not_supported(&kind, other, &["Exempt", "Limited"]),
    }
    union(&kind, &[("Exempt", &exempt, false), ("Limited", &limited, true)], e);
}

/// A field that goes with one type only; `true`: it has to be there then.
fn union(kind: &At, members: &[(&str, &At, bool)], e: &mut ErrorList) {
    for (of, member, needed) in members {
        if kind.str() != *of && !member.is_null() {
            e.forbidden(*member, "");
        } else if kind.str() == *of && *needed && member.is_null() {
            e.required(*member, "");
        }
    }
    if kind.str().is_empty() {
        e.required(kind, "");
    }
}

fn concurrency(l: &At, e: &mut ErrorList) {
    let n = l.get("nominalConcurrencyShares");
    if n.int().is_some_and(|n| n < 0) {
        e.bad(&n, "must be a non-negative integer");
    }
}
fn lending(l: &At, e: &mut ErrorList) {
    let lend = l.get("lendablePercent");
    if lend.int().is_some_and(|n| !(0..=100).contains(&n)) {
        e.bad(&lend, "must be between 0 and 100, inclusive");
    }
    let borrow = l.get("borrowingLimitPercent");
    if borrow.int().is_some_and(|n| n < 0) {
        e.bad(&borrow, "if specified, must be a non-negative integer");
    }
}
fn shares(l: &At, e: &mut ErrorList) {
    concurrency(l, e);
    lending(l, e);
}

fn response(l: &At, e: &mut ErrorList) {
    let response = l.get("limitResponse");
    let (queuing, kind) = (response.get("queuing"), response.get("type"));
    match kind.str() {
        "Queue" if !queuing.is_null() => {
            let number = |f: &str| queuing.i(f).unwrap_or(0);
            let (queues, hand) = (number("queues"), number("handSize"));
            for f in ["queueLengthLimit", "queues"] {
                if number(f) <= 0 {
                    e.invalid(&queuing.at(f), number(f), "must be positive");
                }
            }
            if queues > 10_000_000 {
                e.invalid(&queuing.at("queues"), queues, "must not be greater than 10000000");
            }
            if hand <= 0 {
                e.invalid(&queuing.at("handSize"), hand, "must be positive");
            }
            if hand > queues {
                e.invalid(
                    &queuing.at("handSize"),
                    hand,
                    &format!("should not be greater than queues ({queues})"),
                );
            }
            entropy(&queuing, queues, hand, e);
        }
        "Queue" | "Reject" | "" => {}
        other => e.not_supported(&kind, other, &["Queue", "Reject"]),
    }
    union(&kind, &[("Queue", &queuing, true)], e);
}

/// Hands are dealt from one 64-bit hash: that many bits must be enough.
fn entropy(queuing: &At, queues: i64, hand: i64, e: &mut ErrorList) {
    if queues <= 0 || hand <= 0 || hand > queues {
        return;
    }
    let bits: f64 = (0..hand.min(64)).map(|i| ((queues - i) as f64).log2()).sum();
    let bits = bits.ceil() as i64;
    if bits > 60 {
        let why = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than 60"
        );
        e.invalid(&queuing.at("handSize"), hand, &why);
    }
}
