//! What the schema of a custom resource may say: types, combinations of `x-kubernetes-*`, keys of lists, rules. Then
//! whether it is structural and its defaults fit.

use super::super::at::At;
use super::super::errors::ErrorList;
use super::super::internal::Internal;
use super::super::path::Path;
use super::super::rule_costs::{self, Sizes, Total};
use super::super::rules::{self, Site};
use super::structural::{self, said};
use super::{Tolerated, defaults};
use serde_json::Value;
use std::collections::HashSet;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// What else may stand at the root once `status` is looked at alone.
const WITH_STATUS: &str = "Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations";
/// What may not.
const NOT_WITH_STATUS: [&str; 20] = [
    "id",
    "$schema",
    "$ref",
    "nullable",
    "default",
    "enum",
    "maxProperties",
    "minProperties",
    "allOf",
    "oneOf",
    "anyOf",
    "not",
    "additionalProperties",
    "patternProperties",
    "dependencies",
    "additionalItems",
    "definitions",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
];

/// `openAPIV3Schema`. `status`: the subresource is enabled.
pub fn check(s: &At, status: bool, old: Tolerated, e: &mut ErrorList) {
    let mut own = ErrorList::new();
    if status {
        with_status(s, &mut own);
    }
    if s.b("nullable") {
        own.forbidden(&s.at("nullable"), "nullable cannot be true at the root");
    }
    let unsupported = structural::unsupported(s.v);
    let before = own.len();
    if unsupported.is_none() {
        structural::check(s, &mut own);
        if own.len() == before {
            defaults::check(s, !old.unpruned_defaults, &mut own);
        }
    }
    let rules = unsupported.is_none() && own.len() == before;
    let some = rules && any(s.v, &|s| said(&s["x-kubernetes-validations"]));
    let sizes = some.then(|| Sizes::of(s.v, true));
    let root =
        Context { root: true, rules, old, sizes: sizes.as_ref(), times: Some(1), ..Context::default() };
    let found = node(s, root);
    own.extend(found.schema);
    own.extend(found.rules);
    if let Some(why) = unsupported.filter(|_| own.is_empty()) {
        own.invalid(s, "", &why);
    }
    found.total.tell(s, &mut own);
    e.extend(own);
}

fn with_status(s: &At, e: &mut ErrorList) {
    let (kind, all) = (s.get("type"), s.v.as_object().into_iter().flatten());
    if !kind.str().is_empty() && kind.str() != "object" {
        e.bad(&kind, "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled");
        return;
    }
    let other = |k: &str| {
        NOT_WITH_STATUS.contains(&k) || matches!(k, "x-kubernetes-list-type" | "x-kubernetes-map-type")
    };
    if all.into_iter().any(|(k, v)| other(k) && said(v)) {
        let why = format!(
            "only [{WITH_STATUS}] fields are allowed at the root of the schema if the status subresource is enabled"
        );
        e.invalid(s, Internal("JSONSchemaProps", s.v), &why);
    }
}

/// Errors of the schema, and of the rules in it: rules are compiled where the schema holds.
#[derive(Default)]
struct Found {
    schema: ErrorList,
    rules: ErrorList,
    total: Total,
}

impl Found {
    fn add(&mut self, other: Found) {
        self.schema.extend(other.schema);
        self.rules.extend(other.rules);
        self.total.add(other.total);
    }
}

/// What holds for a part of the schema by where it stands.
#[derive(Clone, Copy, Default)]
struct Context<'a> {
    root: bool,
    /// Why there may be no default.
    no_default: Option<&'static str>,
    in_meta: bool,
    /// Where values stop being the same ones after a change.
    alone: Option<&'a Path<'a>>,
    /// Rules are compiled.
    rules: bool,
    sizes: Option<&'a Sizes>,
    /// How many such values an object has at most; `None`: nobody says.
    times: Option<u64>,
    old: Tolerated,
}

fn node(s: &At, c: Context) -> Found {
    let mut found = Found::default();
    if !s.v.is_object() {
        return found;
    }
    let e = &mut found.schema;
    standard(s, c, e);
    if s.b("uniqueItems") {
        e.forbidden(
            &s.at("uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        );
    }
    let (properties, additional) = (s.get("properties"), s.get("additionalProperties"));
    if !properties.is_empty() && !additional.is_null() && additional.v != true {
        e.forbidden(&additional, "additionalProperties and properties are mutual exclusive");
    }
    below(s, c, &mut found);
    let e = &mut found.schema;
    let preserve = s.get("x-kubernetes-preserve-unknown-fields");
    if preserve.v == false {
        e.bad(&preserve, "must be true or undefined");
    }
    maps(s, e);
    lists(s, c.old, e);
    if s.get("x-kubernetes-validations").is_empty() {
        return found;
    }
    rules::check_texts(s, e);
    if c.rules && found.schema.is_empty() {
        let site = Site {
            whole: c.root,
            alone: c.alone,
            sizes: c.sizes,
            times: c.times,
            tolerated: c.old.costs,
            newer: c.old.newer,
        };
        rules::check_programs(s, site, &mut found.total, &mut found.rules);
    }
    found
}

/// What no schema may say.
fn standard(s: &At, c: Context, e: &mut ErrorList) {
    let kind = s.get("type");
    if !kind.str().is_empty() && !TYPES.contains(&kind.str()) && !c.old.other_types {
        e.not_supported(&kind, kind.str(), &TYPES);
    }
    let default = s.get("default");
    if let Some(why) = c.no_default.filter(|_| !default.is_null()) {
        e.forbidden(&default, &format!("must not be set {why}"));
    }
    for f in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        let v = s.get(f);
        let there = if matches!(f, "additionalItems" | "$ref") { !v.is_null() } else { said(v.v) };
        if there {
            e.forbidden(&v, &format!("{f} is not supported"));
        }
    }
    if kind.str() == "null" {
        e.forbidden(&kind, "type cannot be set to null, use nullable as an alternative");
    }
    let items = s.get("items");
    if !items.list().is_empty() {
        e.forbidden(&items, "items must be a schema object and not an array");
    }
    if c.in_meta && s.b("x-kubernetes-embedded-resource") {
        e.forbidden(&s.at("x-kubernetes-embedded-resource"), "must not be used inside of resource meta");
    }
}

fn below(s: &At, c: Context, found: &mut Found) {
    let times = c.times.zip(rule_costs::parts(s.v)).map(|(n, m)| n.saturating_mul(m));
    let inner = Context { root: false, sizes: c.sizes.and_then(Sizes::item), times, ..c };
    let alone = inner.alone.or(Some(&s.p));
    let additional = s.get("additionalProperties");
    let reason = "inside additionalProperties applying to object metadata";
    found.add(node(
        &additional,
        Context { no_default: inner.no_default.or(c.in_meta.then_some(reason)), ..inner },
    ));
    let whole = c.root || s.b("x-kubernetes-embedded-resource");
    let granular = matches!(s.s("x-kubernetes-map-type"), "" | "granular" | "atomic");
    for (name, p) in s.get("properties").entries() {
        let mut own = Context {
            alone: if granular { inner.alone } else { alone },
            sizes: c.sizes.and_then(|s| s.property(name)),
            ..inner
        };
        let top = match name {
            "metadata" => Some("in top-level metadata"),
            "apiVersion" => Some("in top-level apiVersion"),
            "kind" => Some("in top-level kind"),
            _ => None,
        };
        if whole && top.is_some() {
            own.in_meta = true;
            own.no_default = own.no_default.or(top.filter(|_| c.root));
        }
        found.add(node(&p, own));
    }
    // Rules below a junctor are refused as such.
    let junctor = Context { rules: false, ..inner };
    found.add(node(&s.get("not"), junctor));
    for f in ["allOf", "oneOf", "anyOf"] {
        for part in s.get(f).iter() {
            found.add(node(&part, junctor));
        }
    }
    for f in ["definitions", "dependencies"] {
        for (_, part) in s.get(f).entries() {
            found.add(node(&part, junctor));
        }
    }
    let items = s.get("items");
    let own =
        Context { alone: if s.s("x-kubernetes-list-type") == "map" { inner.alone } else { alone }, ..inner };
    found.add(node(&items, own));
    for item in items.iter() {
        found.add(node(&item, own));
    }
}

fn must_be(s: &At, wanted: &str, why: &str, e: &mut ErrorList) {
    let kind = s.get("type");
    if kind.str().is_empty() {
        e.required(&kind, why);
    } else if kind.str() != wanted {
        e.bad(&kind, why);
    }
}

fn maps(s: &At, e: &mut ErrorList) {
    let kind = s.get("x-kubernetes-map-type");
    if kind.is_null() {
        return;
    }
    must_be(s, "object", "must be object if x-kubernetes-map-type is specified", e);
    if !matches!(kind.str(), "atomic" | "granular") {
        e.not_supported(&kind, kind.str(), &["atomic", "granular"]);
    }
}

/// Where the items of a set are no scalars and can be told apart only in part.
pub fn granular_set(s: &Value) -> Option<&'static str> {
    let item = &s["items"];
    let other = |f: &str| item[f].as_str().is_some_and(|t| t != "atomic");
    match (s["x-kubernetes-list-type"].as_str(), item["type"].as_str()) {
        (Some("set"), Some("array")) if other("x-kubernetes-list-type") => Some("x-kubernetes-list-type"),
        (Some("set"), Some("object"))
            if other("x-kubernetes-map-type") || item["x-kubernetes-map-type"].is_null() =>
        {
            Some("x-kubernetes-map-type")
        }
        _ => None,
    }
}

fn lists(s: &At, old: Tolerated, e: &mut ErrorList) {
    let (list, keys, items) =
        (s.get("x-kubernetes-list-type"), s.get("x-kubernetes-list-map-keys"), s.get("items"));
    let item_type = items.get("type");
    if !list.is_null() {
        must_be(s, "array", "must be array if x-kubernetes-list-type is specified", e);
        if let Some(f) = granular_set(s.v).filter(|_| s.s("type") == "array" && !old.granular_sets) {
            // Upstream shows the item's list type in both cases.
            let shown = items.raw("x-kubernetes-list-type");
            e.invalid(
                &items.at(f),
                shown,
                "must be atomic as item of a list with x-kubernetes-list-type=set",
            );
        }
        if !matches!(list.str(), "atomic" | "set" | "map") {
            e.not_supported(&list, list.str(), &["atomic", "set", "map"]);
        }
    }
    if !keys.is_empty() {
        const MUST: &str = "must be map if x-kubernetes-list-map-keys is non-empty";
        if list.is_null() {
            e.required(&list, MUST);
        } else if list.str() != "map" {
            e.bad(&list, MUST);
        }
    }
    if list.str() == "map" {
        if keys.is_empty() {
            e.required(&keys, "must not be empty if x-kubernetes-list-type is map");
        }
        if items.is_null() {
            e.required(&items, "must have a schema if x-kubernetes-list-type is map");
        } else if items.v.is_array() {
            e.invalid(
                &items,
                Internal("JSONSchemaPropsOrArray", items.v),
                "must only have a single schema if x-kubernetes-list-type is map",
            );
        } else if item_type.str() != "object" {
            e.invalid(
                &item_type,
                item_type.str(),
                "must be object if parent array's x-kubernetes-list-type is map",
            );
        } else {
            let properties = items.get("properties");
            let mut seen = HashSet::new();
            for k in keys.list() {
                let name = k.as_str().unwrap_or_default();
                let p = At::new(properties.raw(name), properties.p.key(name));
                if p.is_null() {
                    e.bad(&keys, "entries must all be names of item properties");
                } else if matches!(p.s("type"), "array" | "object") {
                    // Upstream shows the item's type.
                    e.invalid(
                        &p.at("type"),
                        item_type.str(),
                        "must be a scalar type if parent array's x-kubernetes-list-type is map",
                    );
                }
                if !seen.insert(k) {
                    e.bad(&keys, "must not contain duplicate entries");
                }
            }
        }
    }
    if !old.loose_keys {
        told_apart(s, e);
    }
}

/// Items of sets and maps are there, and so are the keys of maps.
pub fn told_apart(s: &At, e: &mut ErrorList) {
    let (list, items) = (s.s("x-kubernetes-list-type"), s.get("items"));
    if !items.v.is_object() || !matches!(list, "set" | "map") {
        return;
    }
    if items.b("nullable") {
        e.forbidden(
            &items.at("nullable"),
            &format!("cannot be nullable when x-kubernetes-list-type is {list}"),
        );
    }
    if list != "map" {
        return;
    }
    let (properties, required) = (items.get("properties"), items.get("required"));
    let required: HashSet<&Value> = required.list().iter().collect();
    for k in s.get("x-kubernetes-list-map-keys").list() {
        let name = k.as_str().unwrap_or_default();
        let p = At::new(properties.raw(name), properties.p.key(name));
        if p.is_null() {
            continue;
        }
        if !required.contains(k) && !p.has("default") {
            e.required(&p.at("default"), "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property");
        }
        if p.b("nullable") {
            e.forbidden(
                &p.at("nullable"),
                "this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
            );
        }
    }
}

/// Whether something holds for a schema or any part of it.
pub fn any(s: &Value, holds: &dyn Fn(&Value) -> bool) -> bool {
    if !s.is_object() {
        return s.as_array().is_some_and(|a| a.iter().any(|s| any(s, holds)));
    }
    let one = ["items", "not", "additionalProperties", "additionalItems", "allOf", "anyOf", "oneOf"];
    let named = ["properties", "patternProperties", "definitions", "dependencies"];
    holds(s)
        || one.iter().any(|f| any(&s[*f], holds))
        || named.iter().any(|f| s[*f].as_object().is_some_and(|m| m.values().any(|s| any(s, holds))))
}

/// A type that no schema knows.
pub fn other_type(s: &Value) -> bool {
    s["type"].as_str().is_some_and(|t| !t.is_empty() && !TYPES.contains(&t))
}
