//! CustomResourceDefinition: names, versions and what each says, conversion, and what a change may do. What an older
//! definition was allowed is still allowed to it.

mod defaults;
pub(super) mod field_path;
mod openapi;
pub(super) mod structural;
#[cfg(test)]
mod tests;
mod tolerated;

use super::admission::client_config;
use super::at::At;
use super::common::{format, one_of, required};
use super::errors::ErrorList;
use super::internal::Internal;
use super::names;
use super::path::Path;
use super::rules;
use serde_json::Value;
use std::collections::HashSet;
use tolerated::{Tolerated, known_review};

fn condition(o: &Value, kind: &str) -> bool {
    let list = o["status"]["conditions"].as_array();
    list.is_some_and(|l| l.iter().any(|c| c["type"] == kind && c["status"] == "True"))
}

pub fn definition(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let meta = root.get("metadata");
    let name = meta.s("name");
    let wanted = format!("{}.{}", spec.get("names").s("plural"), spec.s("group"));
    if !name.is_empty() && name != wanted {
        e.invalid(&meta.at("name"), name, "must be spec.names.plural+\".\"+spec.group");
    }
    whole(o, None, Tolerated::default(), e);
}

pub fn definition_update(n: &Value, o: &Value, e: &mut ErrorList) {
    whole(n, Some(o), Tolerated::by(o), e);
}

/// A new status: the names that were accepted.
pub fn definition_status(n: &Value, e: &mut ErrorList) {
    let root = At::root(n);
    let status = root.get("status");
    names_of(&status.get("acceptedNames"), e);
}

fn whole(o: &Value, old: Option<&Value>, tolerated: Tolerated, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let kinds = spec.get("names");
    let group = spec.get("group");
    if required(&group, e) {
        let wrong = names::dns1123_subdomain(group.str());
        if !wrong.is_empty() {
            e.bad(&group, &wrong.join(","));
        } else if !group.str().contains('.') {
            e.bad(&group, "should be a domain with at least one dot");
        }
    }
    one_of(&spec.get("scope"), &["Cluster", "Namespaced"], e);
    let shared = Shared::of(&spec);
    versions(&spec, &shared, tolerated, old, e);
    for f in ["plural", "singular", "kind", "listKind"] {
        required(&kinds.get(f), e);
    }
    names_of(&kinds, e);
    shared.check(&spec, tolerated, old, e);
    conversion(&spec.get("conversion"), tolerated, e);
    if let Some(old) = old {
        let was = At::root(old);
        let was = was.get("spec");
        if condition(old, "Established") {
            e.immutable(&spec.get("scope"), was.raw("scope"));
            e.immutable(&kinds.get("kind"), &was.raw("names")["kind"]);
        }
        e.immutable(&group, was.raw("group"));
        e.immutable(&kinds.get("plural"), &was.raw("names")["plural"]);
    }
    stored_versions(&root, old, e);
    approval(&root, old, e);
    let was_open = old.is_some_and(|o| o["spec"]["preserveUnknownFields"] == true);
    if spec.b("preserveUnknownFields") && !was_open {
        e.invalid(
            &spec.at("preserveUnknownFields"),
            true,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        );
    }
}

/// What was ever stored, the storage version now included, is still a version.
fn stored_versions(root: &At, old: Option<&Value>, e: &mut ErrorList) {
    let spec = root.get("spec");
    let versions = spec.get("versions");
    let storage = || versions.list().iter().filter(|v| v["storage"] == true).map(|v| &v["name"]);
    let mut stored: Vec<Value> = match old {
        Some(o) => o["status"]["storedVersions"].as_array().cloned().unwrap_or_default(),
        None => Vec::new(),
    };
    if let Some(first) = storage().next().filter(|n| !stored.contains(n)) {
        stored.push(first.clone());
    }
    let status = root.get("status");
    let shown = Value::Array(stored);
    let list = At::new(&shown, status.at("storedVersions"));
    if list.is_empty() {
        e.invalid(&list, Value::Null, "must have at least one stored version");
        return;
    }
    for name in storage().filter(|n| !list.list().contains(n)) {
        e.bad(&list, &format!("must have the storage version {}", name.as_str().unwrap_or_default()));
    }
    for v in list.iter() {
        if !versions.list().iter().any(|x| x["name"] == *v.v) {
            e.bad(
                &v,
                &format!("missing from spec.versions; {} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {0} and removes {0} from status.storedVersions", v.str()),
            );
        }
    }
}

/// Groups of the project itself want a word that they were looked at.
fn approval(root: &At, old: Option<&Value>, e: &mut ErrorList) {
    const NOTE: &str = "api-approved.kubernetes.io";
    let spec = root.get("spec");
    let protected = |s: &str| spec.s("group") == s || spec.s("group").ends_with(&format!(".{s}"));
    if !protected("k8s.io") && !protected("kubernetes.io") {
        return;
    }
    #[derive(PartialEq)]
    enum State {
        Missing,
        Bypassed,
        Approved,
        Invalid,
    }
    let state = |o: &Value| match o["metadata"]["annotations"][NOTE].as_str().unwrap_or_default() {
        "" => State::Missing,
        t if t.starts_with("unapproved") => State::Bypassed,
        t if t
            .split_once("://")
            .is_some_and(|(s, rest)| !s.is_empty() && !rest.is_empty() && !rest.starts_with('/')) =>
        {
            State::Approved
        }
        _ => State::Invalid,
    };
    let now = state(root.v);
    if old.is_some_and(|o| state(o) == now) {
        return;
    }
    let meta = root.get("metadata");
    let notes = meta.get("annotations");
    let at = notes.p.key(NOTE);
    const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
    let must = format!("protected groups must have approval annotation \"{NOTE}\"");
    match now {
        State::Missing => e.required(&at, &format!("{must}, {SEE}")),
        State::Invalid => {
            let why = format!("{must} with either a URL or a reason starting with \"unapproved\", {SEE}");
            e.invalid(&at, notes.s(NOTE), &why);
        }
        State::Bypassed | State::Approved => {}
    }
}

const SHARED: [&str; 4] = ["schema", "subresources", "additionalPrinterColumns", "selectableFields"];

/// What all versions say alike is told once, at the place of the older form that had no versions.
struct Shared([bool; 4]);

impl Shared {
    fn of(spec: &At) -> Self {
        let versions = spec.get("versions").list();
        let first = versions.first().unwrap_or(&Value::Null);
        let alike =
            |f: &str| structural::said(&first[f]) && versions.iter().all(|v| v.get(f) == first.get(f));
        // An empty status is said by its being there.
        Self(SHARED.map(|f| {
            alike(f)
                || (f == "subresources" && first[f].is_object() && versions.iter().all(|v| v[f] == first[f]))
        }))
    }

    /// A version without what it shares with all others.
    fn rest(&self, v: &Value) -> Value {
        let mut v = v.clone();
        for (f, _) in SHARED.iter().zip(self.0).filter(|(_, shared)| *shared) {
            v.as_object_mut().map(|o| o.remove(*f));
        }
        v
    }

    fn check(&self, spec: &At, tolerated: Tolerated, old: Option<&Value>, e: &mut ErrorList) {
        let versions = spec.get("versions");
        let first = versions.list().first().unwrap_or(&Value::Null);
        let part = |i: usize, at: &'static str| {
            At::new(first.get(SHARED[i]).filter(|_| self.0[i]).unwrap_or(&Value::Null), Path::new(at))
        };
        let schema = part(0, "spec.validation");
        let schema = schema.get("openAPIV3Schema");
        if !schema.is_null() {
            let status = versions.list().iter().any(|v| v["subresources"]["status"].is_object());
            openapi::check(&schema, status, tolerated.version(first, old), e);
        }
        subresources(&part(1, "spec.subresources"), e);
        columns(&part(2, "spec.additionalPrinterColumns"), e);
        let fields = part(3, "spec.selectableFields");
        if !fields.is_empty() {
            if schema.is_null() {
                e.invalid(&fields, "", "may only be set when validations.schema is included");
            } else {
                selectable(&fields, schema.v, e);
            }
        }
    }
}

fn versions(spec: &At, shared: &Shared, tolerated: Tolerated, old: Option<&Value>, e: &mut ErrorList) {
    let list = spec.get("versions");
    for v in list.iter() {
        let schema = v.get("schema");
        if !schema.has("openAPIV3Schema") && !tolerated.unversioned {
            e.required(&schema.at("openAPIV3Schema"), "");
        }
    }
    let mut seen = HashSet::new();
    let mut unique = true;
    for v in list.iter() {
        let name = v.get("name");
        unique &= seen.insert(name.str());
        label(&name, e);
        deprecation(&v, e);
        let schema = v.get("schema");
        let schema = schema.get("openAPIV3Schema");
        if !shared.0[0] && !schema.is_null() {
            let status = v.raw("subresources")["status"].is_object();
            openapi::check(&schema, status, tolerated.version(v.v, old), e);
        }
        if !shared.0[1] {
            subresources(&v.get("subresources"), e);
        }
        if !shared.0[2] {
            columns(&v.get("additionalPrinterColumns"), e);
        }
        let fields = v.get("selectableFields");
        if !shared.0[3] && !fields.is_empty() {
            if shared.0[0] || schema.is_null() {
                e.invalid(
                    &fields,
                    "",
                    "may only be set when `version.schema.openAPIV3Schema` is not included",
                );
            } else {
                selectable(&fields, schema.v, e);
            }
        }
    }
    let stored = list.list().iter().filter(|v| v["storage"] == true).count();
    let wrong = [
        (!unique, "must contain unique version names"),
        (stored != 1, "must have exactly one version marked as storage version"),
    ];
    for (_, why) in wrong.iter().filter(|(wrong, _)| *wrong) {
        let shown: Vec<Value> = list.list().iter().map(|v| shared.rest(v)).collect();
        e.invalid(&list, Internal("[]CustomResourceDefinitionVersion", &Value::Array(shown)), why);
    }
    let name = list.list().first().and_then(|v| v["name"].as_str()).unwrap_or_default();
    let wrong = names::dns1035_label(name);
    if !name.is_empty() && !wrong.is_empty() {
        e.invalid(&spec.at("version"), name, &wrong.join(","));
    }
}

fn label(a: &At, e: &mut ErrorList) {
    let wrong = names::dns1035_label(a.str());
    if !wrong.is_empty() {
        e.invalid(a, a.str(), &wrong.join(","));
    }
}

fn deprecation(v: &At, e: &mut ErrorList) {
    let warning = v.get("deprecationWarning");
    if warning.is_null() {
        return;
    }
    if !v.b("deprecated") {
        e.bad(&warning, "can only be set for deprecated versions");
        return;
    }
    if warning.str().len() > 256 {
        e.bad(&warning, "must be <= 256 characters long");
    }
    if warning.str().is_empty() {
        e.bad(&warning, "must not be an empty string");
    }
    let unseen = |c: char| c.is_control() || (c.is_whitespace() && c != ' ');
    if let Some((i, _)) = warning.str().char_indices().find(|(_, c)| unseen(*c)) {
        e.bad(
            &warning,
            &format!(
                "must only contain printable UTF-8 characters; non-printable character found at index {i}"
            ),
        );
    }
}

/// `.a.b`, as far as columns and scales need it.
fn simple_path(p: &At, e: &mut ErrorList) -> bool {
    let fits = p.str().starts_with('.');
    if !fits {
        e.invalid(p, p.str(), "must be a simple json path starting with .");
    }
    fits
}

fn columns(list: &At, e: &mut ErrorList) {
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
        let p = At::new(c.raw("jsonPath"), c.at("JSONPath"));
        if required(&p, e) {
            simple_path(&p, e);
        }
    }
}

/// Fields to select by: scalars of the schema, once each.
fn selectable(list: &At, schema: &Value, e: &mut ErrorList) {
    const MOST: usize = 8;
    let mut seen = HashSet::new();
    for f in list.iter() {
        let path = f.get("jsonPath");
        if !required(&path, e) {
            continue;
        }
        let (steps, end) = match field_path::follow(path.str(), schema, false) {
            Ok(found) => found,
            Err(why) => {
                e.bad(&path, &format!("is an invalid path: {why}"));
                continue;
            }
        };
        if matches!(steps.first(), Some(field_path::Step::Child(f)) if f == "metadata") {
            e.bad(&path, "must not point to fields in metadata");
        }
        if !matches!(end["type"].as_str(), Some("string" | "boolean" | "integer")) {
            e.bad(&path, "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.");
        }
        if !seen.insert(field_path::below(String::new(), &steps)) {
            e.duplicate(&path, path.str());
        }
    }
    if seen.len() > MOST {
        e.too_many(list, seen.len(), MOST);
    }
}

fn names_of(n: &At, e: &mut ErrorList) {
    for f in ["plural", "singular", "kind", "listKind"] {
        let v = n.get(f);
        if v.str().is_empty() {
            continue;
        }
        let cased = f.ends_with("ind");
        let wrong = names::dns1035_label(&if cased { v.str().to_lowercase() } else { v.str().to_owned() });
        if !wrong.is_empty() {
            let lead = if cased { "may have mixed case, but should otherwise match: " } else { "" };
            e.bad(&v, &format!("{lead}{}", wrong.join(",")));
        }
    }
    let list = |f: &str, e: &mut ErrorList| {
        for v in n.get(f).iter() {
            label(&v, e);
        }
    };
    list("shortNames", e);
    if !n.s("kind").is_empty() && n.s("kind") == n.s("listKind") {
        e.bad(&n.get("listKind"), "kind and listKind may not be the same");
    }
    list("categories", e);
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
            let either = if under.len() > 1 { "either " } else { "" };
            e.bad(&v, &format!("should be a json path under {either}{}", under.join(" or ")));
        }
    }
}

fn conversion(c: &At, old: Tolerated, e: &mut ErrorList) {
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
        return;
    }
    let mut seen = HashSet::new();
    for v in list.iter() {
        if seen.insert(v.str()) {
            format(&v, names::dns1035_label, e);
        } else {
            e.bad(&v, "duplicate version");
        }
    }
    if !list.list().iter().any(known_review) && !old.unknown_reviews {
        e.bad(&list, "must include at least one of v1, v1beta1");
    }
}
