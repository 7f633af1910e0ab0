//! What extends the API: CustomResourceDefinition and APIService.

use super::admission::client_config;
use super::at::At;
use super::common::{format, one_of, required};
use super::errors::ErrorList;
use super::internal::Internal;
use super::path::Path;
use super::{names, rules};
use serde_json::Value;
use std::collections::HashSet;

/// CustomResourceDefinition.
pub fn definition(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let name = root.get("metadata").s("name");
    let wanted = format!("{}.{}", spec.get("names").s("plural"), spec.s("group"));
    if !name.is_empty() && name != wanted {
        let meta = root.get("metadata");
        e.invalid(&meta.at("name"), name, "must be spec.names.plural+\".\"+spec.group");
    }
    whole(o, e);
    if !spec.get("versions").list().iter().any(|v| v["storage"] == true) {
        let status = root.get("status");
        e.invalid(&status.at("storedVersions"), Value::Null, "must have at least one stored version");
    }
}

fn whole(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let meta = root.get("metadata");
    let spec = root.get("spec");
    let kinds = spec.get("names");
    let group = spec.get("group");
    if required(&group, e) {
        format(&group, names::dns1123_subdomain, e);
        if !group.str().contains('.') {
            e.bad(&group, "should be a domain with at least one dot");
        }
        let protected = |s: &str| group.str() == s || group.str().ends_with(&format!(".{s}"));
        let approval = "api-approved.kubernetes.io";
        if protected("k8s.io") || protected("kubernetes.io") {
            let notes = meta.get("annotations");
            let text = notes.s(approval);
            let at = notes.p.key(approval);
            if text.is_empty() {
                e.required(&at, "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111");
            } else if !text.starts_with("unapproved") && !text.starts_with("https://") {
                e.invalid(&at, text, "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111");
            }
        }
    }
    one_of(&spec.get("scope"), &["Cluster", "Namespaced"], e);
    versions(&spec, e);
    names_of(&kinds, e);
    if spec.b("preserveUnknownFields") {
        e.invalid(
            &spec.at("preserveUnknownFields"),
            true,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        );
    }
    conversion(&spec.get("conversion"), e);
}

/// What all versions say alike is told once, at the place of the older form that had no versions.
fn versions(spec: &At, e: &mut ErrorList) {
    const SHARED: [&str; 4] = ["schema", "subresources", "additionalPrinterColumns", "selectableFields"];
    let list = spec.get("versions");
    let first = list.list().first().unwrap_or(&Value::Null);
    let shared = SHARED.map(|f| list.list().iter().all(|v| v.get(f) == first.get(f)));
    let mut seen = HashSet::new();
    let mut unique = true;
    let stored = list.list().iter().filter(|v| v["storage"] == true).count();
    for v in list.iter() {
        let name = v.get("name");
        e.each(&name, name.str(), names::dns1035_label(name.str()));
        unique &= seen.insert(name.str());
        let warning = v.get("deprecationWarning");
        if !warning.is_null() && !v.b("deprecated") {
            e.bad(&warning, "can only be set for deprecated versions");
        } else if !warning.is_null() && warning.str().is_empty() {
            e.bad(&warning, "must not be an empty string");
        }
        let schema = v.get("schema");
        let schema = schema.get("openAPIV3Schema");
        if schema.is_null() {
            e.required(&schema, "");
        } else if !shared[0] {
            root_schema(&schema, e);
        }
        if !shared[1] {
            subresources(&v.get("subresources"), e);
        }
        if !shared[2] {
            columns(&v.get("additionalPrinterColumns"), "jsonPath", e);
        }
        if !shared[3] {
            selectable(&v.get("selectableFields"), schema.v, e);
        }
    }
    if !unique || stored != 1 {
        let why = if unique {
            "must have exactly one version marked as storage version"
        } else {
            "must contain unique version names"
        };
        let shown: Vec<Value> = list.list().iter().map(|v| older(v, &SHARED, &shared)).collect();
        e.invalid(&list, Internal("[]CustomResourceDefinitionVersion", &Value::Array(shown)), why);
    }
    if list.is_empty() {
        return;
    }
    let name = first["name"].as_str().unwrap_or_default();
    if !name.is_empty() {
        e.each(&spec.at("version"), name, names::dns1035_label(name));
    }
    let at = |i: usize, f: &'static str| {
        At::new(first.get(SHARED[i]).filter(|_| shared[i]).unwrap_or(&Value::Null), Path::new(f))
    };
    let schema = at(0, "spec.validation");
    let schema = schema.get("openAPIV3Schema");
    if !schema.is_null() {
        root_schema(&schema, e);
    }
    subresources(&at(1, "spec.subresources"), e);
    selectable(&at(3, "spec.selectableFields"), &first["schema"]["openAPIV3Schema"], e);
    columns(&at(2, "spec.additionalPrinterColumns"), "JSONPath", e);
}

/// A version without what it shares with all others.
fn older(v: &Value, fields: &[&str], shared: &[bool]) -> Value {
    let mut v = v.clone();
    for (f, _) in fields.iter().zip(shared).filter(|(_, shared)| **shared) {
        v.as_object_mut().map(|o| o.remove(*f));
    }
    v
}

/// `.a.b`, as far as columns and scales need it.
fn simple_path(p: &At, e: &mut ErrorList) -> bool {
    let fits = p.str().starts_with('.') && p.str() != ".";
    if !fits {
        e.invalid(p, p.str(), "must be a simple json path starting with .");
    }
    fits
}

fn columns(list: &At, path: &str, e: &mut ErrorList) {
    const TYPES: &str = "boolean,date,integer,number,string";
    const FORMATS: &str = "byte,date,date-time,double,float,int32,int64,password";
    for c in list.iter() {
        required(&c.get("name"), e);
        let (kind, format) = (c.get("type"), c.get("format"));
        let named = |list: &str, s: &str| list.split(',').any(|x| x == s);
        if kind.str().is_empty() {
            e.required(&kind, &format!("must be one of {TYPES}"));
        } else if !named(TYPES, kind.str()) {
            e.bad(&kind, &format!("must be one of {TYPES}"));
        }
        if !format.str().is_empty() && !named(FORMATS, format.str()) {
            e.bad(&format, &format!("must be one of {FORMATS}"));
        }
        let p = At::new(c.raw("jsonPath"), c.at(path));
        if required(&p, e) && !p.str().starts_with("{.") {
            simple_path(&p, e);
        }
    }
}

/// Fields to select by: scalars of the schema, once each.
fn selectable(list: &At, schema: &Value, e: &mut ErrorList) {
    if list.len() > 8 {
        e.too_many(list, list.len(), 8);
    }
    let mut seen = HashSet::new();
    for f in list.iter() {
        let path = f.get("jsonPath");
        if !required(&path, e) {
            continue;
        }
        let mut steps = path.str().trim_start_matches('.').split('.');
        let meta = path.str().starts_with(".metadata.");
        let node = steps.try_fold(schema, |s, step| s.get("properties")?.get(step)).filter(|_| !meta);
        match node.map(|n| n["type"].as_str().unwrap_or_default()) {
            None => e.bad(&path, "is an invalid path: does not refer to a valid field"),
            Some("string" | "boolean" | "integer") => {}
            Some(_) => e.bad(&path, "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."),
        }
        if !seen.insert(path.str()) {
            e.duplicate(&path, path.str());
        }
    }
}

fn names_of(n: &At, e: &mut ErrorList) {
    for f in ["plural", "singular", "kind", "listKind"] {
        let v = n.get(f);
        if !required(&v, e) {
            continue;
        }
        if matches!(f, "plural" | "singular") {
            format(&v, names::dns1035_label, e);
        } else {
            let wrong = names::dns1035_label(&v.str().to_lowercase());
            if !wrong.is_empty() {
                e.bad(&v, &format!("may have mixed case, but should otherwise match: {}", wrong.join(",")));
            }
        }
    }
    if !n.s("kind").is_empty() && n.s("kind") == n.s("listKind") {
        e.bad(&n.get("listKind"), "kind and listKind may not be the same");
    }
    for f in ["shortNames", "categories"] {
        for v in n.get(f).iter() {
            format(&v, names::dns1035_label, e);
        }
    }
}

fn subresources(s: &At, e: &mut ErrorList) {
    let scale = s.get("scale");
    if scale.is_null() {
        return;
    }
    for (f, under, must) in [
        ("specReplicasPath", &["spec"][..], true),
        ("statusReplicasPath", &["status"], true),
        ("labelSelectorPath", &["spec", "status"], false),
    ] {
        let v = scale.get(f);
        if v.str().is_empty() {
            if must {
                e.required(&v, "");
            }
        } else if simple_path(&v, e) && !under.iter().any(|u| v.str().starts_with(&format!(".{u}."))) {
            let under: Vec<String> = under.iter().map(|u| format!(".{u}")).collect();
            e.bad(&v, &format!("should be a json path under {}", under.join(" or ")));
        }
    }
}

fn conversion(c: &At, e: &mut ErrorList) {
    if c.is_null() {
        return;
    }
    one_of(&c.get("strategy"), &["None", "Webhook"], e);
    let hook = c.get("webhook");
    let config = At::new(hook.raw("clientConfig"), c.at("webhookClientConfig"));
    let list = At::new(hook.raw("conversionReviewVersions"), c.at("conversionReviewVersions"));
    if c.s("strategy") != "Webhook" {
        for f in [&config, &list] {
            if !f.is_null() {
                e.forbidden(f, "should not be set when strategy is not set to Webhook");
            }
        }
        return;
    }
    if config.is_null() {
        e.required(&config, "required when strategy is set to Webhook");
    } else {
        client_config(&config, e);
    }
    if list.is_empty() {
        e.required(&list, "");
    } else if !list.list().iter().any(|v| v == "v1" || v == "v1beta1") {
        e.bad(&list, "must include at least one of v1, v1beta1");
    }
}

fn root_schema(s: &At, e: &mut ErrorList) {
    let kind = s.get("type");
    if kind.str().is_empty() {
        e.required(&kind, "must not be empty at the root");
    } else if kind.str() != "object" {
        e.bad(&kind, "must be object at the root");
    }
    if s.b("nullable") {
        e.forbidden(&s.at("nullable"), "nullable cannot be true at the root");
    }
    structural(s, 0, e);
}

/// Every node says its type, and what a schema may not say is not said.
fn structural(s: &At, depth: usize, e: &mut ErrorList) {
    if depth > 64 {
        e.forbidden(s, "schema is nested too deeply");
        return;
    }
    let kind = s.get("type");
    let anything = s.b("x-kubernetes-int-or-string") || s.b("x-kubernetes-preserve-unknown-fields");
    if depth > 0 && kind.str().is_empty() && !anything {
        e.required(&kind, "must not be empty for specified object fields");
    }
    if s.b("x-kubernetes-int-or-string") && !kind.str().is_empty() {
        e.bad(&kind, "must be empty if x-kubernetes-int-or-string is true");
    }
    if !kind.str().is_empty()
        && !["array", "boolean", "integer", "number", "object", "string"].contains(&kind.str())
    {
        e.not_supported(&kind, kind.str(), &["array", "boolean", "integer", "number", "object", "string"]);
    }
    for f in [
        "definitions",
        "dependencies",
        "deprecated",
        "discriminator",
        "id",
        "patternProperties",
        "readOnly",
        "writeOnly",
        "xml",
        "$ref",
    ] {
        let v = s.get(f);
        if !v.is_null() {
            e.forbidden(&v, if f == "$ref" { "$ref is not supported" } else { "is not supported" });
        }
    }
    rules::check_definition(s, depth == 0, e);
    if s.b("uniqueItems") {
        e.forbidden(
            &s.at("uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        );
    }
    let (properties, additional) = (s.get("properties"), s.get("additionalProperties"));
    if !additional.is_null() {
        if !properties.is_empty() {
            e.forbidden(&additional, "additionalProperties and properties are mutual exclusive");
        }
        if additional.v.as_bool() == Some(false) {
            e.forbidden(&additional, "additionalProperties cannot be set to false");
        }
        if additional.v.is_object() {
            structural(&additional, depth + 1, e);
        }
    }
    for (_, p) in properties.entries() {
        structural(&p, depth + 1, e);
    }
    let items = s.get("items");
    if items.v.is_array() {
        e.forbidden(&items, "items must be a schema object and not an array");
    } else if items.v.is_object() {
        structural(&items, depth + 1, e);
    } else if kind.str() == "array" {
        e.required(&items, "must be specified");
    }
    let (list_type, keys) = (s.get("x-kubernetes-list-type"), s.get("x-kubernetes-list-map-keys"));
    if !list_type.is_null() {
        if !["atomic", "map", "set"].contains(&list_type.str()) {
            e.not_supported(&list_type, list_type.str(), &["atomic", "set", "map"]);
        }
        if kind.str() != "array" {
            e.bad(&kind, "must be array if x-kubernetes-list-type is specified");
        }
    }
    if list_type.str() == "map" && keys.is_empty() {
        e.required(&keys, "must not be empty if x-kubernetes-list-type is map");
    }
    if list_type.str() != "map" && !keys.is_empty() {
        e.bad(&list_type, "must be map if x-kubernetes-list-map-keys is non-empty");
    }
    for r in s.get("x-kubernetes-validations").iter() {
        let text = r.get("rule");
        if text.str().trim().is_empty() {
            e.required(&text, "rule is not specified");
        }
    }
}

pub fn definition_update(n: &Value, o: &Value, e: &mut ErrorList) {
    whole(n, e);
    let (root, was) = (At::root(n), At::root(o));
    let (spec, before) = (root.get("spec"), was.get("spec"));
    for f in ["scope", "group"] {
        e.immutable(&spec.get(f), before.raw(f));
    }
    let (names_now, names_then) = (spec.get("names"), before.get("names"));
    for f in ["kind", "plural"] {
        e.immutable(&names_now.get(f), names_then.raw(f));
    }
    let status = was.get("status");
    for v in status.get("storedVersions").iter() {
        let listed = spec.get("versions").list().iter().any(|x| x["name"] == *v.v);
        if !listed {
            e.bad(
                &v,
                &format!("missing from spec.versions; {} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {0} and removes {0} from status.storedVersions", v.str()),
            );
        }
    }
}

/// Status: names of versions that were ever stored.
pub fn definition_status(n: &Value, e: &mut ErrorList) {
    let root = At::root(n);
    let status = root.get("status");
    let stored = status.get("storedVersions");
    let spec = root.get("spec");
    for v in stored.iter() {
        if !spec.get("versions").list().iter().any(|x| x["name"] == *v.v) {
            e.bad(&v, "must appear in spec.versions");
        }
    }
    if stored.is_empty() {
        e.bad(&stored, "must have at least one stored version");
    }
}

/// APIService.
pub fn api_service(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let (group, version) = (spec.get("group"), spec.get("version"));
    let meta = root.get("metadata");
    let name = meta.get("name");
    let want = format!("{}.{}", version.str(), group.str());
    if name.str() != want {
        e.bad(&name, &format!("must be `spec.version+\".\"+spec.group`: {want:?}"));
    }
    if !group.str().is_empty() {
        format(&group, names::dns1123_subdomain, e);
    }
    e.each(&version, version.str(), names::dns1035_label(version.str()));
    let number = |f: &str, max: i64, e: &mut ErrorList| {
        let v = spec.get(f);
        let n = v.int().unwrap_or(0);
        if n <= 0 || n > max {
            e.invalid(&v, n, &format!("must be positive and less than {max}"));
        }
    };
    number("groupPriorityMinimum", 20_000, e);
    number("versionPriority", 1000, e);
    let service = spec.get("service");
    let ca = !spec.s("caBundle").is_empty();
    if service.is_null() {
        if ca {
            e.invalid(
                &spec.at("caBundle"),
                format!("{} bytes", spec.s("caBundle").len() / 4 * 3),
                "local APIServices may not have a caBundle",
            );
        }
        if spec.b("insecureSkipTLSVerify") {
            e.invalid(
                &spec.at("insecureSkipTLSVerify"),
                true,
                "local APIServices may not have insecureSkipTLSVerify",
            );
        }
        return;
    }
    required(&service.get("namespace"), e);
    required(&service.get("name"), e);
    let port = service.get("port");
    if let Some(n) = port.int() {
        for m in names::port_number(n) {
            e.bad(&port, &format!("port is not valid: {m}"));
        }
    }
    if spec.b("insecureSkipTLSVerify") && ca {
        e.invalid(&spec.at("insecureSkipTLSVerify"), true, "may not be true if caBundle is present");
    }
}
