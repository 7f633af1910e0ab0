//! admissionregistration.k8s.io: webhook configurations and admission policies.

use super::at::At;
use super::common::{format, label_selector, one_of, optional_one_of, required};
use super::errors::ErrorList;
use super::names;
use serde_json::Value;
use std::collections::HashSet;

/// Both webhook configurations; `mutating` may be reinvoked.
pub fn webhooks(o: &Value, mutating: bool, e: &mut ErrorList) {
    let root = At::root(o);
    let mut seen = HashSet::new();
    for w in root.get("webhooks").iter() {
        let name = w.get("name");
        fully_qualified(&name, e);
        if !seen.insert(name.str()) {
            e.duplicate(&name, name.str());
        }
        for r in w.get("rules").iter() {
            rule(&r, e);
        }
        optional_one_of(&w.get("failurePolicy"), &["Fail", "Ignore"], e);
        optional_one_of(&w.get("matchPolicy"), &["Equivalent", "Exact"], e);
        let effects = w.get("sideEffects");
        if effects.is_null() {
            e.required(&effects, "must specify one of None, NoneOnDryRun");
        }
        optional_one_of(&effects, &["None", "NoneOnDryRun"], e);
        let timeout = w.get("timeoutSeconds");
        if timeout.int().is_some_and(|t| !(1..=30).contains(&t)) {
            e.bad(&timeout, "the timeout value must be between 1 and 30 seconds");
        }
        label_selector(&w.get("namespaceSelector"), e);
        label_selector(&w.get("objectSelector"), e);
        client_config(&w.get("clientConfig"), e);
        versions(&w.get("admissionReviewVersions"), e);
        match_conditions(&w.get("matchConditions"), e);
        if mutating {
            optional_one_of(&w.get("reinvocationPolicy"), &["IfNeeded", "Never"], e);
        }
    }
}

fn fully_qualified(a: &At, e: &mut ErrorList) {
    if !required(a, e) {
        return;
    }
    format(a, names::dns1123_subdomain, e);
    if a.str().split('.').count() < 3 {
        e.bad(a, "should be a domain with at least three segments separated by dots");
    }
}

fn versions(list: &At, e: &mut ErrorList) {
    if list.is_empty() {
        e.required(list, "must specify one of v1, v1beta1");
        return;
    }
    let mut seen = HashSet::new();
    for v in list.iter() {
        if !seen.insert(v.str()) {
            e.invalid(&v, v.str(), "duplicate version");
        }
        format(&v, names::dns1035_label, e);
    }
    if !seen.contains("v1") && !seen.contains("v1beta1") {
        e.bad(list, "must include at least one of v1, v1beta1");
    }
}

/// Where a webhook (or a conversion) is called: a URL or a service.
pub fn client_config(c: &At, e: &mut ErrorList) {
    let (url, service) = (c.get("url"), c.get("service"));
    if url.is_null() == service.is_null() {
        e.required(c, "exactly one of url or service is required");
        return;
    }
    if !url.is_null() {
        const FORM: &str = "; desired format: https://host[/path]";
        let (scheme, rest) = url.str().split_once("://").unwrap_or(("", url.str()));
        if scheme != "https" {
            e.invalid(&url, scheme, &format!("'https' is the only allowed URL scheme{FORM}"));
        }
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if host.is_empty() || scheme.is_empty() {
            e.invalid(&url, host, &format!("host must be specified{FORM}"));
        }
        if host.contains('@') {
            let user = host.split('@').next().unwrap_or_default();
            e.invalid(&url, user, "user information is not permitted in the URL");
        }
        if let Some((_, f)) = rest.split_once('#') {
            e.invalid(&url, f, "fragments are not permitted in the URL");
        }
        if let Some((_, q)) = rest.split('#').next().unwrap_or_default().split_once('?') {
            e.invalid(&url, q, "query parameters are not permitted in the URL");
        }
        return;
    }
    if service.s("name").is_empty() {
        e.required(&service.at("name"), "");
    }
    if service.s("namespace").is_empty() {
        e.required(&service.at("namespace"), "");
    }
    let port = service.get("port");
    if let Some(n) = port.int() {
        for m in names::port_number(n) {
            e.bad(&port, &format!("port is not valid: {m}"));
        }
    }
    let path = service.get("path");
    let text = path.str();
    if path.is_null() || matches!(text, "" | "/") {
        return;
    }
    if !text.starts_with('/') {
        e.bad(&path, "must start with a '/'");
    }
    let text = text.strip_suffix('/').unwrap_or(text);
    for (i, step) in text.split('/').skip(1).enumerate() {
        if step.is_empty() {
            e.bad(&path, &format!("segment[{i}] may not be empty"));
        }
        for m in names::dns1123_subdomain(step).into_iter().filter(|_| !step.is_empty()) {
            e.bad(&path, &format!("segment[{i}]: {m}"));
        }
    }
    if !text.contains('/') {
        e.bad(&path, "segment[0] may not be empty");
    }
}

fn rule(r: &At, e: &mut ErrorList) {
    let star_alone = |list: &At, what: &str, e: &mut ErrorList| {
        if list.len() > 1 && list.list().iter().any(|v| v == "*") {
            e.bad(list, &format!("if '*' is present, must not specify other {what}"));
        }
    };
    let operations = r.get("operations");
    if operations.is_empty() {
        e.required(&operations, "");
    }
    star_alone(&operations, "operations", e);
    for o in operations.iter() {
        optional_one_of(&o, &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"], e);
    }
    for (f, what) in [("apiGroups", "API groups"), ("apiVersions", "API versions")] {
        let list = r.get(f);
        if list.is_empty() {
            e.required(&list, "");
        }
        star_alone(&list, what, e);
        for v in list.iter().filter(|_| f == "apiVersions") {
            required(&v, e);
        }
    }
    resources(&r.get("resources"), e);
    optional_one_of(&r.get("scope"), &["*", "Cluster", "Namespaced"], e);
}

/// Resources and subresources; what a wildcard covers does not stand beside it.
fn resources(list: &At, e: &mut ErrorList) {
    if list.is_empty() {
        e.required(list, "");
    }
    let has = |name: &str| list.list().iter().any(|v| v == name);
    for r in list.iter() {
        let name = r.str();
        required(&r, e);
        if let Some((resource, sub)) = name.split_once('/') {
            let (every, any) = (format!("{resource}/*"), format!("*/{sub}"));
            if sub != "*" && has(&every) {
                e.bad(&r, &format!("if '{every}' is present, must not specify {name}"));
            }
            if resource != "*" && has(&any) {
                e.bad(&r, &format!("if '{any}' is present, must not specify {name}"));
            }
        }
    }
    if list.len() > 1 && has("*/*") {
        e.bad(list, "if '*/*' is present, must not specify other resources");
    }
    let plain = list.list().iter().filter(|v| v.as_str().is_some_and(|v| !v.contains('/'))).count();
    if has("*") && plain > 1 {
        e.bad(list, "if '*' is present, must not specify other resources without subresources");
    }
}

/// Names of the objects that a rule is about.
fn resource_names(list: &At, e: &mut ErrorList) {
    let mut seen = HashSet::new();
    for n in list.iter() {
        e.each(&n, n.str(), names::path_segment(n.str(), false));
        if !seen.insert(n.str()) {
            e.duplicate(&n, n.str());
        }
    }
}

fn match_conditions(list: &At, e: &mut ErrorList) {
    if list.len() > 64 {
        e.too_many(list, list.len(), 64);
        return;
    }
    let mut seen = HashSet::new();
    for c in list.iter() {
        let (name, text) = (c.get("name"), c.get("expression"));
        if text.str().trim().is_empty() {
            e.required(&text, "");
        }
        if required(&name, e) {
            format(&name, names::qualified_name, e);
            if !seen.insert(name.str()) {
                e.duplicate(&name, name.str());
            }
        }
    }
}

/// ValidatingAdmissionPolicy; `mutating` for the other.
pub fn policy(o: &Value, mutating: bool, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    optional_one_of(&spec.get("failurePolicy"), &["Fail", "Ignore"], e);
    let param = spec.get("paramKind");
    if !param.is_null() {
        let version = param.get("apiVersion");
        if required(&version, e) {
            group_version(&version, e);
        }
        let kind = param.get("kind");
        if required(&kind, e) {
            for m in names::dns1035_label(&kind.str().to_lowercase()) {
                e.bad(&kind, &format!("may have mixed case, but should otherwise match: {m}"));
            }
        }
    }
    let constraints = spec.get("matchConstraints");
    if constraints.is_null() {
        e.required(&constraints, "");
    } else {
        let rules = constraints.get("resourceRules");
        if rules.is_empty() {
            e.required(&rules, "");
        }
        match_resources(&constraints, e);
    }
    match_conditions(&spec.get("matchConditions"), e);
    for v in spec.get("variables").iter() {
        let (name, text) = (v.get("name"), v.get("expression"));
        if name.str().is_empty() {
            e.required(&name, "name is not specified");
        } else {
            let ok = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if !name.str().chars().all(ok) || name.str().starts_with(|c: char| c.is_ascii_digit()) {
                e.bad(&name, "must be a valid CEL identifier");
            }
        }
        if text.str().trim().is_empty() {
            e.required(&text, "expression is not specified");
        }
    }
    if mutating {
        let list = spec.get("mutations");
        if list.is_empty() {
            e.required(&list, "");
        }
        for m in list.iter() {
            one_of(&m.get("patchType"), &["ApplyConfiguration", "JSONPatch"], e);
        }
        one_of(&spec.get("reinvocationPolicy"), &["IfNeeded", "Never"], e);
        return;
    }
    let (checks, audits) = (spec.get("validations"), spec.get("auditAnnotations"));
    if checks.is_empty() && audits.is_empty() {
        for list in [&checks, &audits] {
            e.required(list, "validations or auditAnnotations must contain at least one item");
        }
    }
    for c in checks.iter() {
        let text = c.get("expression");
        if text.str().trim().is_empty() {
            e.required(&text, "expression is not specified");
        }
        let message = c.get("message");
        if message.str().trim().contains('\n') {
            e.bad(&message, "must not contain line breaks");
        } else if !message.is_null() && message.str().trim().is_empty() {
            e.bad(&message, "must be non-empty if specified");
        }
        let reason = c.get("reason");
        if reason.str() != "Unauthorized" {
            optional_one_of(&reason, &["Forbidden", "Invalid", "RequestEntityTooLarge"], e);
        }
    }
    let mut seen = HashSet::new();
    let own = root.get("metadata").s("name");
    for a in audits.iter() {
        let key = a.get("key");
        let whole = format!("{own}/{}", key.str());
        e.each(&key, whole.as_str(), names::qualified_name(&whole));
        if !seen.insert(key.str()) {
            e.duplicate(&key, key.str());
        }
        if a.s("valueExpression").trim().is_empty() {
            e.required(&a.at("valueExpression"), "valueExpression is not specified");
        }
    }
}

fn match_resources(m: &At, e: &mut ErrorList) {
    label_selector(&m.get("namespaceSelector"), e);
    label_selector(&m.get("objectSelector"), e);
    optional_one_of(&m.get("matchPolicy"), &["Equivalent", "Exact"], e);
    for f in ["resourceRules", "excludeResourceRules"] {
        for r in m.get(f).iter() {
            rule(&r, e);
            resource_names(&r.get("resourceNames"), e);
        }
    }
}

/// Bindings of both policies.
pub fn binding(o: &Value, mutating: bool, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let name = spec.get("policyName");
    if required(&name, e) {
        format(&name, names::dns1123_subdomain, e);
    }
    let param = spec.get("paramRef");
    if !param.is_null() {
        match (param.s("name").is_empty(), param.has("selector")) {
            (true, false) => e.required(&param, "one of name or selector must be specified"),
            (false, true) => {
                for f in ["name", "selector"] {
                    e.forbidden(&param.at(f), "name and selector are mutually exclusive");
                }
            }
            (false, false) => {
                e.each(&param.at("name"), param.s("name"), names::path_segment(param.s("name"), false));
            }
            (true, true) => label_selector(&param.get("selector"), e),
        }
        if param.s("parameterNotFoundAction").is_empty() {
            e.required(&param.at("parameterNotFoundAction"), "");
        }
        optional_one_of(&param.get("parameterNotFoundAction"), &["Deny", "Allow"], e);
    }
    match_resources(&spec.get("matchResources"), e);
    if mutating {
        return;
    }
    let actions = spec.get("validationActions");
    if actions.is_empty() {
        e.required(&actions, "");
    }
    let mut seen = HashSet::new();
    for a in actions.iter() {
        optional_one_of(&a, &["Audit", "Deny", "Warn"], e);
        if !seen.insert(a.str()) {
            e.duplicate(&a, a.str());
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        e.bad(&actions, "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)");
    }
}

/// `group/version`.
pub fn group_version(a: &At, e: &mut ErrorList) {
    if a.str().matches('/').count() > 1 {
        e.bad(a, &format!("unexpected GroupVersion string: {}", a.str()));
    }
}
