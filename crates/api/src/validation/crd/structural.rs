//! Structural schemas: every value has a type outside of allOf, anyOf, oneOf and not; those only restrict; metadata,
//! apiVersion and kind stay what they are.
//! https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema

use super::super::at::At;
use super::super::errors::ErrorList;
use super::super::path::Path;
use serde_json::{Value, json};

/// Where a part of a schema stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Junctors of value validation that hold several schemas.
const MANY: [&str; 3] = ["anyOf", "allOf", "oneOf"];

/// Whether a field of a schema says anything.
pub fn said(v: &Value) -> bool {
    match v {
        Value::Null | Value::Bool(false) => false,
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
        _ => true,
    }
}

/// What keeps a schema from being looked at as a structural one at all.
pub fn unsupported(s: &Value) -> Option<String> {
    const NOT_SUPPORTED: [(&str, &str); 7] = [
        ("id", "id"),
        ("$schema", "schema"),
        ("$ref", "$ref"),
        ("patternProperties", "patternProperties"),
        ("dependencies", "dependencies"),
        ("additionalItems", "additionalItems"),
        ("definitions", "definitions"),
    ];
    if let Some((_, shown)) = NOT_SUPPORTED.iter().find(|(f, _)| s.get(f).is_some_and(said)) {
        return Some(format!("OpenAPIV3Schema '{shown}' is not supported"));
    }
    let parts = |k: &'static str| s[k].as_array().into_iter().flatten();
    let validations = s.get("not").into_iter().chain(["allOf", "anyOf", "oneOf"].into_iter().flat_map(parts));
    if let Some(why) = validations.filter_map(unsupported).next() {
        return Some(why);
    }
    if s["x-kubernetes-preserve-unknown-fields"] == false {
        return Some(
            "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined".into(),
        );
    }
    if s["items"].is_array() {
        return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".into());
    }
    let below = s["properties"].as_object().into_iter().flatten().map(|(_, p)| p);
    below.chain(s.get("items")).chain(s.get("additionalProperties")).filter_map(unsupported).next()
}

/// Everything that keeps a schema from being structural, sorted.
pub fn check(s: &At, e: &mut ErrorList) {
    let mut own = ErrorList::new();
    invariants(s, Level::Root, &mut own);
    complete_validation(s, Some(s.v), &s.p, &mut own);
    own.sort();
    e.extend(own);
}

fn invariants(s: &At, level: Level, e: &mut ErrorList) {
    let (kind, items) = (s.get("type"), s.get("items"));
    let (properties, additional) = (s.get("properties"), s.get("additionalProperties"));
    let flag = |f: &str| s.b(f);
    let embedded = flag("x-kubernetes-embedded-resource");
    let (int_or_string, preserve) =
        (flag("x-kubernetes-int-or-string"), flag("x-kubernetes-preserve-unknown-fields"));
    if items.v.is_object() {
        invariants(&items, Level::Item, e);
    } else if kind.str() == "array" {
        e.required(&items, "must be specified");
    }
    for (_, p) in properties.entries() {
        invariants(&p, Level::Field, e);
    }
    if !additional.is_null() {
        if level == Level::Root {
            e.forbidden(&additional, "must not be used at the root");
        }
        if additional.v.is_object() {
            invariants(&additional, Level::Field, e);
        }
        if embedded {
            e.forbidden(&additional, "must not be used if x-kubernetes-embedded-resource is set");
        }
    }
    for f in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if int_or_string && flag(f) {
            e.invalid(&s.at(f), true, "must be false if x-kubernetes-int-or-string is true");
        }
    }
    // What makes a value a number or a text may be said in these two ways.
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    let skip = Skip { any_of: *s.raw("anyOf") == either, first_of_all: s.raw("allOf")[0]["anyOf"] == either };
    validation(s, skip, e);
    if embedded && kind.str() != "object" {
        const MUST: &str = "must be object if x-kubernetes-embedded-resource is true";
        if kind.str().is_empty() { e.required(&kind, MUST) } else { e.bad(&kind, MUST) }
    } else if kind.str().is_empty() && !int_or_string && !preserve {
        let place = match level {
            Level::Root => "at the root",
            Level::Item => "for specified array items",
            Level::Field => "for specified object fields",
        };
        e.required(&kind, &format!("must not be empty {place}"));
    }
    if level == Level::Root && !kind.str().is_empty() && kind.str() != "object" {
        e.bad(&kind, "must be object at the root");
    }
    let whole = level == Level::Root || embedded;
    for (name, p) in properties.entries() {
        let (kind, wanted) = (p.get("type"), if name == "metadata" { "object" } else { "string" });
        if !matches!(name, "apiVersion" | "kind" | "metadata") {
            continue;
        }
        if whole && kind.str() != wanted {
            e.invalid(&kind, kind.str(), &format!("must be {wanted}"));
        }
        if name == "metadata" && level == Level::Root && !only_names(p.v) {
            e.forbidden(
                &p,
                "must not specify anything other than name and generateName, but metadata is implicitly specified",
            );
        }
    }
    if embedded && !preserve && properties.is_empty() {
        e.required(&properties, "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields");
    }
}

/// A schema of metadata says nothing but what names look like.
fn only_names(s: &Value) -> bool {
    s.as_object().into_iter().flatten().all(|(k, v)| match k.as_str() {
        "type" | "default" => true,
        "properties" => {
            v.as_object().into_iter().flatten().all(|(k, _)| matches!(k.as_str(), "name" | "generateName"))
        }
        _ => !said(v),
    })
}

/// The two ways to say "a number or a text" are left alone.
#[derive(Clone, Copy, Default)]
struct Skip {
    any_of: bool,
    first_of_all: bool,
}

fn validation(s: &At, skip: Skip, e: &mut ErrorList) {
    for f in MANY.into_iter().filter(|f| !(skip.any_of && *f == "anyOf")) {
        for (i, part) in s.get(f).iter().enumerate() {
            nested(
                &part,
                Skip { any_of: skip.first_of_all && f == "allOf" && i == 0, first_of_all: false },
                e,
            );
        }
    }
    nested(&s.get("not"), Skip::default(), e);
    let pattern = s.get("pattern");
    if let Some(why) =
        Some(pattern.str()).filter(|p| !p.is_empty()).and_then(|p| cel::regexp::compile(p).err())
    {
        e.bad(&pattern, &format!("must be a valid regular expression, but isn't: {why}"));
    }
}

/// A schema below a junctor: it may restrict values, and say nothing else of them.
fn nested(s: &At, skip: Skip, e: &mut ErrorList) {
    if !s.v.is_object() {
        return;
    }
    validation(s, skip, e);
    nested(&s.get("items"), Skip::default(), e);
    for (_, p) in s.get("properties").entries() {
        nested(&p, Skip::default(), e);
    }
    let additional = s.get("additionalProperties");
    if additional.v.is_object() || additional.v == true {
        e.forbidden(&additional, "must be undefined to be structural");
    }
    for (f, must) in [
        ("type", "empty"),
        ("default", "undefined"),
        ("title", "empty"),
        ("description", "empty"),
        ("nullable", "false"),
        ("x-kubernetes-preserve-unknown-fields", "false"),
        ("x-kubernetes-embedded-resource", "false"),
        ("x-kubernetes-int-or-string", "false"),
        ("x-kubernetes-list-map-keys", "empty"),
        ("x-kubernetes-list-type", "undefined"),
        ("x-kubernetes-map-type", "undefined"),
        ("x-kubernetes-validations", "empty"),
    ] {
        let v = s.get(f);
        let there = if must == "undefined" { !v.is_null() } else { said(v.v) };
        if there {
            e.forbidden(&v, &format!("must be {must} to be structural"));
        }
    }
    let properties = s.get("properties");
    if properties.has("metadata") {
        e.forbidden(&properties.p.key("metadata"), "must not be specified in a nested context");
    }
}

/// What is restricted below junctors is specified outside of them, too: `s`, at `place`.
fn complete_validation(v: &At, s: Option<&Value>, place: &Path, e: &mut ErrorList) {
    complete(&v.get("not"), s, place, e);
    for f in ["allOf", "anyOf", "oneOf"] {
        for part in v.get(f).iter() {
            complete(&part, s, place, e);
        }
    }
}

fn complete(v: &At, s: Option<&Value>, place: &Path, e: &mut ErrorList) {
    if !v.v.is_object() {
        return;
    }
    let Some(s) = s else {
        e.required(place, &format!("because it is defined in {}", v.p));
        return;
    };
    complete_validation(v, Some(s), place, e);
    complete(&v.get("items"), s.get("items"), &place.child("items"), e);
    let properties = place.child("properties");
    for (k, p) in v.get("properties").entries() {
        complete(&p, s["properties"].get(k), &properties.key(k), e);
    }
}
