//! The v2 document as protobuf, the form client-go asks for first: gnostic's `openapi.v2.Document`. Pure; covers what
//! `paths` and `components` write.

use serde_json::{Map, Value};

use crate::protobuf::wire;

/// Answers carry this content type.
pub const CONTENT_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Whether an `Accept` header asks for this form, in its new or its old spelling.
pub fn wanted(accept: &str) -> bool {
    let first = accept.split(',').next().unwrap_or_default();
    first.contains("com.github.proto-openapi.spec.v2") && first.contains("+protobuf")
}

type Out = Vec<u8>;

fn message(out: &mut Out, number: u32, fill: impl FnOnce(&mut Out)) {
    let mut inner = Vec::new();
    fill(&mut inner);
    wire::bytes(out, number, &inner);
}

fn text(out: &mut Out, number: u32, v: &Value) {
    if let Some(s) = v.as_str().filter(|s| !s.is_empty()) {
        wire::bytes(out, number, s.as_bytes());
    }
}

fn texts(out: &mut Out, number: u32, v: &Value) {
    v.as_array().into_iter().flatten().for_each(|s| text(out, number, s));
}

fn flag(out: &mut Out, number: u32, v: &Value) {
    if v.as_bool() == Some(true) {
        wire::int(out, number, 1);
    }
}

/// `Any` holds YAML, of which JSON is a part.
fn any(out: &mut Out, number: u32, v: &Value) {
    if !v.is_null() {
        message(out, number, |o| wire::bytes(o, 2, v.to_string().as_bytes()));
    }
}

fn named(out: &mut Out, number: u32, name: &str, fill: impl FnOnce(&mut Out)) {
    message(out, number, |o| {
        wire::bytes(o, 1, name.as_bytes());
        message(o, 2, fill);
    });
}

fn extensions(out: &mut Out, number: u32, v: &Value) {
    for (k, x) in members(v).filter(|(k, _)| k.starts_with("x-")) {
        named(out, number, k, |o| wire::bytes(o, 2, x.to_string().as_bytes()));
    }
}

fn members(v: &Value) -> impl Iterator<Item = (&String, &Value)> {
    v.as_object().into_iter().flat_map(Map::iter)
}

fn schema(out: &mut Out, v: &Value) {
    for (number, key) in [(1, "$ref"), (2, "format"), (3, "title"), (4, "description"), (13, "pattern")] {
        text(out, number, &v[key]);
    }
    any(out, 5, &v["default"]);
    for (number, key) in [(7, "maximum"), (9, "minimum")] {
        if let Some(n) = v[key].as_f64() {
            wire::double(out, number, n);
        }
    }
    for (number, key) in [(11, "maxLength"), (12, "minLength"), (14, "maxItems"), (15, "minItems")] {
        if let Some(n) = v[key].as_i64() {
            wire::int(out, number, n);
        }
    }
    flag(out, 16, &v["uniqueItems"]);
    texts(out, 19, &v["required"]);
    v["enum"].as_array().into_iter().flatten().for_each(|e| any(out, 20, e));
    match &v["additionalProperties"] {
        Value::Bool(b) => message(out, 21, |o| wire::int(o, 2, i64::from(*b))),
        Value::Null => {}
        s => message(out, 21, |o| message(o, 1, |o| schema(o, s))),
    }
    match &v["type"] {
        Value::Null => {}
        Value::Array(_) => message(out, 22, |o| texts(o, 1, &v["type"])),
        t => message(out, 22, |o| text(o, 1, t)),
    }
    if !v["items"].is_null() {
        message(out, 23, |o| message(o, 1, |o| schema(o, &v["items"])));
    }
    v["allOf"].as_array().into_iter().flatten().for_each(|s| message(out, 24, |o| schema(o, s)));
    if v["properties"].is_object() {
        message(out, 25, |o| members(&v["properties"]).for_each(|(k, s)| named(o, 1, k, |o| schema(o, s))));
    }
    extensions(out, 31, v);
}

fn parameter(out: &mut Out, v: &Value) {
    // Which numbers `type` and `uniqueItems` have depends on where the parameter stands.
    let (place, kind, unique) = match v["in"].as_str() {
        Some("body") => {
            return message(out, 1, |o| {
                message(o, 1, |o| {
                    text(o, 1, &v["description"]);
                    text(o, 2, &v["name"]);
                    text(o, 3, &v["in"]);
                    flag(o, 4, &v["required"]);
                    message(o, 5, |o| schema(o, &v["schema"]));
                });
            });
        }
        Some("path") => (4, 5, 19),
        _ => (3, 6, 20),
    };
    message(out, 1, |o| {
        message(o, 2, |o| {
            message(o, place, |o| {
                flag(o, 1, &v["required"]);
                text(o, 2, &v["in"]);
                text(o, 3, &v["description"]);
                text(o, 4, &v["name"]);
                text(o, kind, &v["type"]);
                flag(o, unique, &v["uniqueItems"]);
            });
        });
    });
}

fn operation(out: &mut Out, v: &Value) {
    texts(out, 1, &v["tags"]);
    text(out, 3, &v["description"]);
    text(out, 5, &v["operationId"]);
    texts(out, 6, &v["produces"]);
    texts(out, 7, &v["consumes"]);
    v["parameters"].as_array().into_iter().flatten().for_each(|p| message(out, 8, |o| parameter(o, p)));
    message(out, 9, |o| {
        for (code, r) in members(&v["responses"]) {
            named(o, 1, code, |o| {
                message(o, 1, |o| {
                    text(o, 1, &r["description"]);
                    if !r["schema"].is_null() {
                        message(o, 2, |o| message(o, 1, |o| schema(o, &r["schema"])));
                    }
                });
            });
        }
    });
    extensions(out, 13, v);
}

fn path(out: &mut Out, v: &Value) {
    for (number, verb) in
        [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (6, "options"), (7, "head"), (8, "patch")]
    {
        if !v[verb].is_null() {
            message(out, number, |o| operation(o, &v[verb]));
        }
    }
    v["parameters"].as_array().into_iter().flatten().for_each(|p| message(out, 9, |o| parameter(o, p)));
    extensions(out, 10, v);
}

/// The bytes of a document that `v2` made.
pub fn encode(doc: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, 1, &doc["swagger"]);
    message(&mut out, 2, |o| {
        text(o, 1, &doc["info"]["title"]);
        text(o, 2, &doc["info"]["version"]);
    });
    message(&mut out, 8, |o| members(&doc["paths"]).for_each(|(k, p)| named(o, 2, k, |o| path(o, p))));
    message(&mut out, 9, |o| {
        members(&doc["definitions"]).for_each(|(k, s)| named(o, 1, k, |o| schema(o, s)))
    });
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_small_document_has_the_known_bytes() {
        let doc = json!({"swagger": "2.0", "info": {"title": "T"}, "paths": {},
            "definitions": {"A": {"type": "object", "x-y": 1}}});
        let schema = b"\xb2\x01\x08\x0a\x06object\xfa\x01\x0a\x0a\x03x-y\x12\x03\x12\x011";
        let mut want = b"\x0a\x032.0\x12\x03\x0a\x01T\x42\x00".to_vec();
        let named = [b"\x0a\x01A\x12".as_slice(), &[schema.len() as u8], schema].concat();
        want.extend([0x4a, named.len() as u8 + 2, 0x0a, named.len() as u8]);
        want.extend(named);
        assert_eq!(encode(&doc), want);
    }

    #[test]
    fn accepts_both_spellings() {
        assert!(wanted("application/com.github.proto-openapi.spec.v2@v1.0+protobuf"));
        assert!(wanted("application/com.github.proto-openapi.spec.v2.v1.0+protobuf, application/json"));
        assert!(!wanted("application/json") && !wanted(""));
    }
}
