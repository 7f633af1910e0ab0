//! Custom resources against the OpenAPI v3 schema of their version: types, bounds, patterns, formats, enumerations,
//! list sets and maps. The schema is compiled once. On update, what did not change is not complained about
//! (ratcheting). CEL rules (`x-kubernetes-validations`) run last, see `rules`.

use super::at::At;
use super::errors::ErrorType;
use super::errors::{ErrorList, quote};
use super::formats;
use super::rules::Rules;
use regex::Regex;
use serde_json::Value;
use std::collections::HashMap;

/// A compiled schema.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    kind: String,
    format: String,
    nullable: bool,
    int_or_string: bool,
    embedded: bool,
    properties: Vec<(String, Schema)>,
    additional: Option<Box<Schema>>,
    items: Option<Box<Schema>>,
    required: Vec<String>,
    enums: Vec<Value>,
    minimum: Option<(f64, bool)>,
    maximum: Option<(f64, bool)>,
    multiple_of: Option<f64>,
    length: Bounds,
    count: Bounds,
    size: Bounds,
    pattern: Option<Pattern>,
    list_type: String,
    list_keys: Vec<String>,
    all_of: Vec<Schema>,
    any_of: Vec<Schema>,
    one_of: Vec<Schema>,
    not: Option<Box<Schema>>,
    /// Of the root only.
    rules: Rules,
}

/// An expression as it was written, and as it is matched.
#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    compiled: Regex,
}

impl Pattern {
    /// What is no expression was refused with the definition.
    fn new(text: &str) -> Option<Self> {
        Some(Self { text: text.to_owned(), compiled: cel::regexp::compile(text).ok()? })
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Bounds {
    min: Option<u64>,
    max: Option<u64>,
}

impl Bounds {
    fn of(s: &Value, min: &str, max: &str) -> Self {
        let get = |k: &str| s.get(k).and_then(Value::as_u64);
        Bounds { min: get(min), max: get(max) }
    }
    fn below(self, n: usize) -> Option<u64> {
        self.min.filter(|m| (n as u64) < *m)
    }
    fn above(self, n: usize) -> Option<u64> {
        self.max.filter(|m| (n as u64) > *m)
    }
}

/// With one of these, rules may meet what they were not written for.
const BLOCKING: [ErrorType; 5] = [
    ErrorType::NotSupported,
    ErrorType::Required,
    ErrorType::TooLong,
    ErrorType::TooMany,
    ErrorType::TypeInvalid,
];

/// What tells an item of a list from another: the value itself in a set, its keys in a map.
pub(super) fn list_key(schema: &Value, item: &Value) -> String {
    let part =
        |k: &Value| format!("{k}:{}", item.get(k.as_str().unwrap_or_default()).unwrap_or(&Value::Null));
    let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
    keys.map(part).collect::<Vec<_>>().join(",")
}

/// The items of the old list by their keys, where the schema lets them be told apart.
pub(super) fn correlated<'v>(schema: &Value, old: Option<&'v Value>) -> HashMap<String, &'v Value> {
    match old {
        Some(Value::Array(o)) if schema["x-kubernetes-list-type"] == "map" => {
            o.iter().map(|v| (list_key(schema, v), v)).collect()
        }
        _ => HashMap::new(),
    }
}

impl Schema {
    /// From `openAPIV3Schema`. apiVersion, kind and metadata are left to their own rules.
    pub fn compile(schema: &Value) -> Self {
        let mut s = compile(schema, 0);
        s.properties.retain(|(k, _)| !matches!(k.as_str(), "apiVersion" | "kind" | "metadata"));
        s.rules = Rules::compile(schema, true);
        s.required.retain(|k| !matches!(k.as_str(), "apiVersion" | "kind" | "metadata"));
        s
    }

    /// From a part of one, with its rules. `whole`: what it describes has apiVersion, kind and metadata.
    pub fn part(schema: &Value, whole: bool) -> Self {
        Schema { rules: Rules::compile(schema, whole), ..compile(schema, 0) }
    }

    /// Checks an object; `old` is what it was before an update.
    pub fn check(&self, new: &Value, old: Option<&Value>, e: &mut ErrorList) {
        let before = e.len();
        check(self, &At::root(new), old, e);
        let blocked = e.iter().skip(before).any(|e| BLOCKING.contains(&e.kind));
        if blocked && self.rules.any() {
            let text = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            e.invalid(&super::Path::ROOT.child("<nil>"), &Value::Null, text);
        } else if !blocked {
            self.rules.run(new, old, e);
        }
    }
}

fn compile(s: &Value, depth: usize) -> Schema {
    if depth > 64 {
        return Schema::default();
    }
    let sub = |v: &Value| compile(v, depth + 1);
    let boxed = |k: &str| s.get(k).filter(|v| v.is_object()).map(|v| Box::new(sub(v)));
    let many =
        |k: &str| s.get(k).and_then(Value::as_array).into_iter().flatten().map(sub).collect::<Vec<_>>();
    let texts = |k: &str| -> Vec<String> {
        s.get(k)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|v| Some(v.as_str()?.to_owned()))
            .collect()
    };
    let flag = |k: &str| s.get(k).and_then(Value::as_bool).unwrap_or(false);
    let text = |k: &str| s.get(k).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |k: &str| s.get(k).and_then(Value::as_f64);
    Schema {
        kind: text("type"),
        format: text("format"),
        nullable: flag("nullable"),
        int_or_string: flag("x-kubernetes-int-or-string"),
        embedded: flag("x-kubernetes-embedded-resource"),
        properties: s
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(k, v)| (k.clone(), sub(v)))
            .collect(),
        additional: boxed("additionalProperties"),
        items: boxed("items"),
        required: texts("required"),
        enums: s.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
        minimum: number("minimum").map(|m| (m, flag("exclusiveMinimum"))),
        maximum: number("maximum").map(|m| (m, flag("exclusiveMaximum"))),
        multiple_of: number("multipleOf"),
        length: Bounds::of(s, "minLength", "maxLength"),
        count: Bounds::of(s, "minItems", "maxItems"),
        size: Bounds::of(s, "minProperties", "maxProperties"),
        pattern: s.get("pattern").and_then(Value::as_str).and_then(Pattern::new),
        list_type: text("x-kubernetes-list-type"),
        list_keys: texts("x-kubernetes-list-map-keys"),
        all_of: many("allOf"),
        any_of: many("anyOf"),
        one_of: many("oneOf"),
        not: boxed("not"),
        rules: Rules::default(),
    }
}

fn type_name(v: &Value) -> &'static str {
    match v {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() && n.as_f64().is_some_and(|f| f.fract() != 0.0) => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// `spec.replicas in body`, as the messages name the place.
fn subject(a: &At) -> String {
    format!("{} in body", a.p)
}

fn wrong_type(a: &At, want: &str, e: &mut ErrorList) {
    let got = type_name(a.v);
    e.type_invalid(a, got, &format!("{} must be of type {want}: {}", subject(a), quote(got)));
}

fn check(s: &Schema, a: &At, old: Option<&Value>, e: &mut ErrorList) {
    if old == Some(a.v) {
        return;
    }
    if a.v.is_null() {
        if !s.nullable && !s.kind.is_empty() {
            wrong_type(a, &s.kind, e);
        }
        return;
    }
    let got = type_name(a.v);
    if s.int_or_string {
        if !matches!(got, "integer" | "string") {
            wrong_type(a, "integer,string", e);
            return;
        }
    } else if !s.kind.is_empty() && got != s.kind && !(s.kind == "number" && got == "integer") {
        wrong_type(a, &s.kind, e);
        return;
    }
    if !s.enums.is_empty() && !s.enums.contains(a.v) {
        let shown: Vec<String> =
            s.enums.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect();
        let list: Vec<&str> = shown.iter().map(String::as_str).collect();
        e.not_supported(a, a.v, &list);
    }
    match a.v {
        Value::String(t) => string(s, a, t, e),
        Value::Number(n) => number(s, a, n.as_f64().unwrap_or(0.0), e),
        Value::Array(_) => array(s, a, old, e),
        Value::Object(_) => object(s, a, old, e),
        _ => {}
    }
    combined(s, a, old, e);
}

fn string(s: &Schema, a: &At, t: &str, e: &mut ErrorList) {
    let chars = if s.length.min.is_some() || s.length.max.is_some() { t.chars().count() } else { 0 };
    if let Some(max) = s.length.above(chars) {
        e.too_long(a, usize::try_from(max).unwrap_or(usize::MAX));
    }
    if let Some(min) = s.length.below(chars) {
        e.bad(a, &format!("{} should be at least {min} chars long", subject(a)));
    }
    if let Some(p) = s.pattern.as_ref().filter(|p| !p.compiled.is_match(t)) {
        e.bad(a, &format!("{} should match '{}'", subject(a), p.text));
    }
    if !formats::holds(&s.format, t) {
        e.bad(a, &format!("{} must be of type {}: {}", subject(a), s.format, quote(t)));
    }
}

fn number(s: &Schema, a: &At, n: f64, e: &mut ErrorList) {
    if let Some((max, exclusive)) = s.maximum
        && (n > max || (exclusive && n >= max))
    {
        let than = if exclusive { "less than" } else { "less than or equal to" };
        e.bad(a, &format!("{} should be {than} {max}", subject(a)));
    }
    if let Some((min, exclusive)) = s.minimum
        && (n < min || (exclusive && n <= min))
    {
        let than = if exclusive { "greater than" } else { "greater than or equal to" };
        e.bad(a, &format!("{} should be {than} {min}", subject(a)));
    }
    if let Some(m) = s.multiple_of.filter(|m| *m > 0.0) {
        let q = n / m;
        if (q - q.round()).abs() > 1e-9 {
            e.bad(a, &format!("{} should be a multiple of {m}", subject(a)));
        }
    }
}

fn array(s: &Schema, a: &At, old: Option<&Value>, e: &mut ErrorList) {
    if let Some(max) = s.count.above(a.len()) {
        e.too_many(a, a.len(), usize::try_from(max).unwrap_or(usize::MAX));
    }
    if let Some(min) = s.count.below(a.len()) {
        e.bad(a, &format!("{} should have at least {min} items", subject(a)));
    }
    let key = |v: &Value| -> String {
        if s.list_type == "set" {
            return v.to_string();
        }
        let part = |k: &String| format!("{k:?}:{}", v.get(k).unwrap_or(&Value::Null));
        format!("{{{}}}", s.list_keys.iter().map(part).collect::<Vec<_>>().join(","))
    };
    let keyed = matches!(s.list_type.as_str(), "set" | "map");
    let before: std::collections::HashMap<String, &Value> = match old {
        Some(Value::Array(o)) if keyed => o.iter().map(|v| (key(v), v)).collect(),
        _ => Default::default(),
    };
    let mut seen = std::collections::HashSet::new();
    for item in a.iter() {
        let mut was = None;
        if keyed {
            let k = key(item.v);
            was = before.get(&k).copied();
            if !seen.insert(k.clone()) {
                e.duplicate(&item, super::common::Raw(&k));
            }
        }
        if let Some(i) = &s.items {
            check(i, &item, was, e);
        }
    }
}

fn object(s: &Schema, a: &At, old: Option<&Value>, e: &mut ErrorList) {
    if let Some(max) = s.size.above(a.len()) {
        e.too_many(a, a.len(), usize::try_from(max).unwrap_or(usize::MAX));
    }
    if let Some(min) = s.size.below(a.len()) {
        e.bad(a, &format!("{} should have at least {min} properties", subject(a)));
    }
    for r in &s.required {
        if a.v.get(r).is_none() {
            e.required(&a.at(r), "");
        }
    }
    if s.embedded {
        for f in ["apiVersion", "kind"] {
            if a.s(f).is_empty() {
                e.required(&a.at(f), "must not be empty");
            }
        }
    }
    let old = |k: &str| old.and_then(|o| o.get(k));
    for (k, p) in &s.properties {
        if a.v.get(k).is_some() {
            check(p, &a.get(k), old(k), e);
        }
    }
    if let Some(p) = &s.additional {
        for k in a.keys().filter(|k| !s.properties.iter().any(|(n, _)| n == k)) {
            check(p, &a.get(k), old(k), e);
        }
    }
}

fn combined(s: &Schema, a: &At, old: Option<&Value>, e: &mut ErrorList) {
    let fails = |x: &Schema| {
        let mut own = ErrorList::new();
        check(x, a, old, &mut own);
        own
    };
    let place = quote(&a.p.to_string());
    for x in &s.all_of {
        let own = fails(x);
        if !own.is_empty() {
            e.invalid(a, "", &format!("{place} must validate all the schemas (allOf)"));
            e.extend(own);
        }
    }
    if !s.any_of.is_empty() {
        let all: Vec<ErrorList> = s.any_of.iter().map(fails).collect();
        if all.iter().all(|x| !x.is_empty()) {
            e.invalid(a, "", &format!("{place} must validate at least one schema (anyOf)"));
            // The nearest miss says most.
            if let Some(best) = all.into_iter().min_by_key(ErrorList::len) {
                e.extend(best);
            }
        }
    }
    if !s.one_of.is_empty() {
        let good = s.one_of.iter().filter(|x| fails(x).is_empty()).count();
        let found = match good {
            1 => None,
            0 => Some("Found none valid".to_owned()),
            n => Some(format!("Found {n} valid alternatives")),
        };
        if let Some(found) = found {
            e.invalid(a, "", &format!("{place} must validate one and only one schema (oneOf). {found}"));
        }
    }
    if s.not.as_ref().is_some_and(|x| fails(x).is_empty()) {
        e.invalid(a, "", &format!("{place} must not validate the schema (not)"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(schema: &Value, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut e = ErrorList::new();
        Schema::compile(schema).check(new, old, &mut e);
        e.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_a_schema_tells() {
        let schema = json!({"type": "object", "required": ["spec"], "properties": {"metadata": {"type": "object"}, "spec": {"type": "object", "required": ["n"], "properties": {
            "n": {"type": "integer", "minimum": 1, "maximum": 5},
            "s": {"type": "string", "maxLength": 3, "pattern": "^a"},
            "e": {"type": "string", "enum": ["x", "y"]},
            "d": {"type": "string", "format": "date-time"},
            "p": {"x-kubernetes-int-or-string": true},
            "l": {"type": "array", "maxItems": 2, "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "m": {"type": "object", "additionalProperties": {"type": "boolean"}},
            "z": {"type": "string", "nullable": true},
            "a": {"anyOf": [{"type": "integer"}, {"type": "boolean"}]},
            "k": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["i"], "items": {"type": "object", "properties": {"i": {"type": "integer"}, "v": {"type": "string"}}}}
        }}}});
        let cases = [
            (json!({}), "spec: Required value"),
            (json!({"spec": {}}), "spec.n: Required value"),
            (
                json!({"spec": {"n": "1"}}),
                "spec.n: Invalid value: \"string\": spec.n in body must be of type integer: \"string\"",
            ),
            (
                json!({"spec": {"n": 0}}),
                "spec.n: Invalid value: 0: spec.n in body should be greater than or equal to 1",
            ),
            (
                json!({"spec": {"n": 9}}),
                "spec.n: Invalid value: 9: spec.n in body should be less than or equal to 5",
            ),
            (json!({"spec": {"n": 1, "s": "abcd"}}), "spec.s: Too long: may not be more than 3 bytes"),
            (
                json!({"spec": {"n": 1, "s": "b"}}),
                "spec.s: Invalid value: \"b\": spec.s in body should match '^a'",
            ),
            (
                json!({"spec": {"n": 1, "e": "z"}}),
                "spec.e: Unsupported value: \"z\": supported values: \"x\", \"y\"",
            ),
            (
                json!({"spec": {"n": 1, "d": "z"}}),
                "spec.d: Invalid value: \"z\": spec.d in body must be of type date-time: \"z\"",
            ),
            (
                json!({"spec": {"n": 1, "p": true}}),
                "spec.p: Invalid value: \"boolean\": spec.p in body must be of type integer,string: \"boolean\"",
            ),
            (
                json!({"spec": {"n": 1, "l": ["a", "b", "c"]}}),
                "spec.l: Too many: 3: must have at most 2 items",
            ),
            (json!({"spec": {"n": 1, "l": ["a", "a"]}}), "spec.l[1]: Duplicate value: \"a\""),
            (
                json!({"spec": {"n": 1, "m": {"q": 1}}}),
                "spec.m.q: Invalid value: \"integer\": spec.m.q in body must be of type boolean: \"integer\"",
            ),
            (json!({"spec": {"n": 1, "k": [{"i": 1}, {"i": 1}]}}), "spec.k[1]: Duplicate value: {\"i\":1}"),
            (
                json!({"spec": null}),
                "spec: Invalid value: \"null\": spec in body must be of type object: \"null\"",
            ),
        ];
        for (o, want) in cases {
            assert_eq!(texts(&schema, &o, None), [want], "{o}");
        }
        let good = json!({"spec": {"n": 1, "s": "abc", "p": "1", "z": null, "a": true, "unknown": 1, "d": "2024-01-01T00:00:00Z"}});
        assert_eq!(texts(&schema, &good, None), [""; 0]);
        assert!(
            texts(&schema, &json!({"spec": {"n": 1, "a": "x"}}), None)[0]
                .contains("must validate at least one schema (anyOf)")
        );
    }

    #[test]
    fn what_did_not_change_is_not_told_again() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer"}, "s": {"type": "string"}}}}});
        let old = json!({"spec": {"n": "bad", "s": "a"}});
        let new = json!({"spec": {"n": "bad", "s": "b"}});
        assert_eq!(texts(&schema, &new, Some(&old)), [""; 0]);
        assert_eq!(texts(&schema, &new, None).len(), 1);
    }
}
