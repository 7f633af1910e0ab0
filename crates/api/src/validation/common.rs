//! Small rules that many kinds share: enums, non-negative numbers, label selectors, int-or-percent, paths.

use super::at::At;
use super::errors::{ErrorList, Shown};
use super::names;
use super::path::Place;
use serde_json::Value;

/// Shown as it is, without quotes (what a Go Stringer prints).
pub struct Raw<'a>(pub &'a str);
impl Shown for Raw<'_> {
    fn shown(&self) -> String {
        self.0.to_owned()
    }
}

/// Of several fields exactly one is set: `check` looks at the first, further ones are refused. `what` is in words what they
/// choose between: "volume type".
pub fn exactly_one<'k>(
    v: &At,
    kinds: impl IntoIterator<Item = &'k str>,
    what: &str,
    e: &mut ErrorList,
    mut check: impl FnMut(&'k str, &At, &mut ErrorList),
) {
    let mut found = false;
    for kind in kinds {
        let one = v.get(kind);
        if one.is_null() {
            continue;
        }
        if found {
            e.forbidden(&one, &format!("may not specify more than 1 {what}"));
        } else {
            check(kind, &one, e);
        }
        found = true;
    }
    if !found {
        e.required(v, &format!("must specify a {what}"));
    }
}

/// A string out of a sorted list; empty is Required.
pub fn one_of(a: &At, supported: &[&str], e: &mut ErrorList) {
    if a.str().is_empty() {
        e.required(a, "");
    } else {
        optional_one_of(a, supported, e);
    }
}
/// A string out of a sorted list, or absent.
pub fn optional_one_of(a: &At, supported: &[&str], e: &mut ErrorList) {
    if !a.is_null() && !supported.contains(&a.str()) {
        e.not_supported(a, a.str(), supported);
    }
}
pub fn required(a: &At, e: &mut ErrorList) -> bool {
    let missing = a.str().is_empty();
    if missing {
        e.required(a, "");
    }
    !missing
}
pub fn non_negative(a: &At, e: &mut ErrorList) {
    if a.int().is_some_and(|n| n < 0) {
        e.bad(a, names::NON_NEGATIVE);
    }
}
/// Checks a string against a format.
pub fn format(a: &At, rule: fn(&str) -> names::Messages, e: &mut ErrorList) {
    let s = a.str();
    e.each(a, s, rule(s));
}
/// The same, when the string is there and not empty.
pub fn optional_format(a: &At, rule: fn(&str) -> names::Messages, e: &mut ErrorList) {
    if !a.str().is_empty() {
        format(a, rule, e);
    }
}

/// Port number or name.
pub fn port(a: &At, e: &mut ErrorList) {
    match a.v {
        Value::String(s) => e.each(a, s, names::port_name(s)),
        v => {
            let n = v.as_i64().unwrap_or(0);
            e.each(a, n, names::port_number(n));
        }
    }
}

/// `metav1.LabelSelector`.
pub fn label_selector(sel: &At, e: &mut ErrorList) {
    super::meta::labels(&sel.get("matchLabels"), e);
    for r in sel.get("matchExpressions").iter() {
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
            op => e.invalid(&r.at("operator"), op, "not a valid selector operator"),
        }
        super::meta::label_name(r.s("key"), &r.at("key"), e);
        for v in values.iter() {
            format(&v, names::label_value, e);
        }
    }
}

/// Whether the selector (a LabelSelector) selects these labels.
pub fn selects(sel: &Value, labels: &Value) -> bool {
    let label = |k: &str| labels.get(k).and_then(Value::as_str);
    let by_map = sel.get("matchLabels").and_then(Value::as_object);
    if by_map.is_some_and(|m| m.iter().any(|(k, v)| label(k) != v.as_str())) {
        return false;
    }
    sel.get("matchExpressions").and_then(Value::as_array).into_iter().flatten().all(|r| {
        let have = label(r.get("key").and_then(Value::as_str).unwrap_or_default());
        let listed = || {
            r.get("values").and_then(Value::as_array).is_some_and(|l| l.iter().any(|v| v.as_str() == have))
        };
        match r.get("operator").and_then(Value::as_str) {
            Some("In") => have.is_some() && listed(),
            Some("NotIn") => have.is_none() || !listed(),
            Some("Exists") => have.is_some(),
            Some("DoesNotExist") => have.is_none(),
            _ => false,
        }
    })
}
/// A selector that selects everything.
pub fn selector_is_empty(sel: &Value) -> bool {
    let n = |f: &str| {
        sel.get(f)
            .map_or(0, |v| v.as_object().map_or(0, serde_json::Map::len) + v.as_array().map_or(0, Vec::len))
    };
    n("matchLabels") + n("matchExpressions") == 0
}

/// A number that is not negative, or a percentage.
pub fn int_or_percent(a: &At, e: &mut ErrorList) {
    match a.v {
        Value::String(s) => e.each(a, s, names::percent(s)),
        v => {
            if v.as_i64().is_some_and(|n| n < 0) {
                e.bad(a, names::NON_NEGATIVE);
            }
        }
    }
}
/// A percentage of more than 100 is wrong.
pub fn at_most_100_percent(a: &At, e: &mut ErrorList) {
    if a.v.as_str().and_then(names::percent_value).is_some_and(|p| p > 100) {
        e.bad(a, "must not be greater than 100%");
    }
}
/// The number that stands there, a percentage's own number included.
pub fn int_or_percent_value(v: &Value) -> i64 {
    v.as_i64().or_else(|| v.as_str().and_then(names::percent_value)).unwrap_or(0)
}

pub fn no_backsteps(at: &dyn Place, path: &str, e: &mut ErrorList) {
    if path.split('/').any(|p| p == "..") {
        e.invalid(at, path, "must not contain '..'");
    }
}
/// Relative, and never upwards.
pub fn local_path(at: &dyn Place, path: &str, e: &mut ErrorList) {
    if path.starts_with('/') {
        e.invalid(at, path, "must be a relative path");
    }
    no_backsteps(at, path, e);
}
/// A local path whose first element does not start with two dots.
pub fn local_non_reserved_path(at: &dyn Place, path: &str, e: &mut ErrorList) {
    local_path(at, path, e);
    if path.starts_with("..") && path != ".." && !path.starts_with("../") {
        e.invalid(at, path, "must not start with '..'");
    }
}

/// IPs that no endpoint or external address may be.
pub fn non_special_ip(at: &dyn Place, text: &str, e: &mut ErrorList) {
    let Some(ip) = names::parse_ip(text) else {
        return;
    };
    if ip.is_unspecified() {
        e.invalid(at, text, &format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        e.invalid(at, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (link_local, multicast) = match ip {
        std::net::IpAddr::V4(a) => (a.is_link_local(), a.octets()[..3] == [224, 0, 0]),
        std::net::IpAddr::V6(a) => (a.is_unicast_link_local(), a.segments()[0] & 0xff0f == 0xff02),
    };
    if link_local {
        e.invalid(at, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        e.invalid(at, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

/// Both objects alike, these fields aside.
pub fn same_except(a: &Value, b: &Value, skip: &[&str]) -> bool {
    changed_fields(a, b, skip).next().is_none()
}
/// The fields in which two objects differ.
pub fn changed_fields<'v>(a: &'v Value, b: &'v Value, skip: &'v [&'v str]) -> impl Iterator<Item = &'v str> {
    static NULL: Value = Value::Null;
    let keys = |v: &'v Value| v.as_object().into_iter().flatten().map(|(k, _)| k.as_str());
    keys(a)
        .chain(keys(b).filter(|k| a.get(k).is_none()))
        .filter(|k| !skip.contains(k))
        .filter(|k| !super::errors::same(a.get(k).unwrap_or(&NULL), b.get(k).unwrap_or(&NULL)))
}

/// `metav1.Condition` lists.
pub fn conditions(list: &At, e: &mut ErrorList) {
    let mut seen = std::collections::HashSet::new();
    for c in list.iter() {
        let kind = c.get("type");
        if !seen.insert(kind.str()) {
            e.duplicate(&c, kind.str());
        }
        if kind.str().is_empty() {
            e.required(&kind, "is required");
        } else {
            format(&kind, names::qualified_name, e);
        }
        one_of(&c.get("status"), &["False", "True", "Unknown"], e);
        let generation = c.get("observedGeneration");
        if generation.int().is_some_and(|g| g < 0) {
            e.bad(&generation, "must be greater than or equal to zero");
        }
        required(&c.get("lastTransitionTime"), e);
        let reason = c.get("reason");
        if required(&reason, e) {
            format(&reason, names::condition_reason, e);
            if reason.str().len() > 1024 {
                e.too_long(&reason, 1024);
            }
        }
        if c.s("message").len() > 32 * 1024 {
            e.too_long(&c.at("message"), 32 * 1024);
        }
    }
}
