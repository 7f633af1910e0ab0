//! Tests of server-side apply: tables of operations on a small made-up kind, real kinds, and the walks one by one.

mod builtin;
mod entries;
mod lists;
mod ownership;
mod random;
mod walks;

use super::*;
use crate::schema::Type;
use api::schema::Definition;
use serde_json::{Map, Value, json};
use std::sync::{Arc, OnceLock};

pub(crate) const NOW: &str = "2026-01-02T03:04:05Z";

/// A kind with one field of every sort.
pub(crate) fn thing() -> Type<'static> {
    static THING: OnceLock<Arc<Definition>> = OnceLock::new();
    let d = THING.get_or_init(|| {
        let string = json!({"type": "string"});
        let integer = json!({"type": "integer"});
        let set = |items: &Value| json!({"type": "array", "items": items, "x-kubernetes-list-type": "set"});
        let schema = json!({"type": "object", "properties": {
            "numeric": integer, "string": string, "bool": {"type": "boolean"},
            "list": {"type": "array", "items": string},
            "set": set(&string), "nums": set(&json!({"type": "number"})), "flags": set(&json!({"type": "boolean"})),
            "struct": {"type": "object", "properties": {"name": string, "value": integer,
                "inner": {"type": "object", "properties": {"a": string, "b": string}}}},
            "atomic": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": string},
            "map": {"type": "object", "additionalProperties": string},
            "mapOfLists": {"type": "object", "additionalProperties": {"type": "array", "items": string}},
            "mapOfMaps": {"type": "object", "additionalProperties":
                {"type": "object", "additionalProperties": string}},
            "any": {"x-kubernetes-preserve-unknown-fields": true},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {"name": string, "value": integer, "tags": set(&string),
                    "inner": {"type": "object", "properties": {"a": string, "b": string}}}}},
            "ports": {"type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["port", "protocol"],
                "items": {"type": "object", "properties": {"port": integer, "name": string,
                    "protocol": {"type": "string", "default": "TCP"}}}}}});
        api::schema::definition_from_openapi("", "v1", "Thing", &schema)
    });
    Type::of(d)
}

pub(crate) fn one() -> OneVersion<'static> {
    OneVersion { api_version: "v1", ty: thing() }
}

/// An object of the kind from its own fields.
pub(crate) fn object(fields: &Value) -> Value {
    let mut v = json!({"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "x"}});
    for (k, f) in fields.as_object().into_iter().flatten() {
        v[k] = f.clone();
    }
    v
}

pub(crate) enum Op {
    Apply(&'static str, Value),
    Force(&'static str, Value),
    Update(&'static str, Value),
    /// An apply that must fail with these conflicts.
    Conflict(&'static str, Value, Vec<(&'static str, &'static str)>),
    /// An apply that must fail with this text in the error.
    Fails(&'static str, Value, &'static str),
}

/// What is left in the end: the object's own fields and who owns what.
#[derive(Debug, PartialEq)]
pub(crate) struct End {
    pub fields: Value,
    pub owners: Value,
}

/// `{"applier": fieldsV1, "updater": fieldsV1}` of an object.
pub(crate) fn owners(object: &Value) -> Value {
    let mut out = Map::new();
    for e in managed_fields(object).and_then(Value::as_array).into_iter().flatten() {
        out.insert(e["manager"].as_str().unwrap_or_default().to_owned(), e["fieldsV1"].clone());
    }
    Value::Object(out)
}

pub(crate) fn own_fields(object: &Value) -> Value {
    let mut v = object.clone();
    if let Some(m) = v.as_object_mut() {
        m.retain(|k, _| !matches!(k.as_str(), "apiVersion" | "kind" | "metadata"));
    }
    v
}

pub(crate) fn run(name: &str, versions: &dyn Versions, ops: Vec<Op>) -> Value {
    let mut live: Option<Value> = None;
    let m = FieldManager { versions, api_version: "v1", kind: "Thing", subresource: "", filter: None };
    for (i, op) in ops.into_iter().enumerate() {
        let at = format!("{name}, operation {i}");
        let apply =
            |who: &str, fields: &Value, force| m.apply(live.as_ref(), &object(fields), who, force, NOW);
        let mut next = match op {
            Op::Apply(who, f) => apply(who, &f, false).unwrap_or_else(|e| panic!("{at}: {e}")).object,
            Op::Force(who, f) => apply(who, &f, true).unwrap_or_else(|e| panic!("{at}: {e}")).object,
            Op::Update(who, f) => {
                let mut new = object(&f);
                if let Some(l) = &live {
                    new["metadata"] = l["metadata"].clone();
                }
                m.update(live.as_ref(), new, who, NOW)
            }
            Op::Conflict(who, f, want) => {
                let Err(crate::Error::Conflict(c)) = apply(who, &f, false) else {
                    panic!("{at}: no conflict")
                };
                let got: Vec<(String, String)> =
                    c.0.iter().map(|c| (c.manager.manager.clone(), path_text(&c.path))).collect();
                let want: Vec<(String, String)> =
                    want.into_iter().map(|(a, b)| (a.into(), b.into())).collect();
                assert_eq!(got, want, "{at}");
                continue;
            }
            Op::Fails(who, f, want) => {
                let e = apply(who, &f, false).expect_err(&at).to_string();
                assert!(e.contains(want), "{at}: {e}");
                continue;
            }
        };
        next["metadata"]["uid"] = json!("u");
        live = Some(next);
    }
    live.unwrap_or_default()
}

/// Name, operations, the object's fields at the end, owners at the end.
pub(crate) type Case = (&'static str, Vec<Op>, Value, Value);

pub(crate) fn check(cases: Vec<Case>) {
    for (name, ops, fields, want) in cases {
        let end = run(name, &one(), ops);
        let got = End { fields: own_fields(&end), owners: owners(&end) };
        assert_eq!(got, End { fields, owners: want }, "{name}");
    }
}
