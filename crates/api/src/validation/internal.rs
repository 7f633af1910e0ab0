//! Values as upstream's error texts print them: in the fields and order of its internal types, with everything that is
//! not there as null or zero. The types are data (`data/internal.txt`, made by `tests/corpus/gen`). For errors only.

use super::diff;
use super::errors::Shown;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::OnceLock;

/// A field: its name on the wire (`-` for none, with dots when it stands deeper), the name that is printed (`?`: left out when empty), its shape.
type Field = (&'static str, &'static str, &'static str);

fn types() -> &'static HashMap<&'static str, Vec<Field>> {
    static TYPES: OnceLock<HashMap<&'static str, Vec<Field>>> = OnceLock::new();
    TYPES.get_or_init(|| {
        let mut all: HashMap<&str, Vec<Field>> = HashMap::new();
        let mut current = "";
        for line in include_str!("../../data/internal.txt").lines() {
            match line.strip_prefix(' ') {
                None => current = line,
                Some(f) => {
                    let mut parts = f.splitn(3, ' ');
                    if let (Some(a), Some(b), Some(c)) = (parts.next(), parts.next(), parts.next()) {
                        all.entry(current).or_default().push((a, b, c));
                    }
                }
            }
        }
        all
    })
}

/// A value of an internal type. Shapes: a type's name, `*` before what may be null, `[]` and `{}` before items.
pub struct Internal<'a>(pub &'a str, pub &'a Value);

impl Shown for Internal<'_> {
    fn shown(&self) -> String {
        let mut w = Writer { out: String::new(), pretty: false, depth: 0 };
        w.value(self.0, self.1);
        w.out
    }
}

/// What changed between two values, as a unified diff of their printed forms.
pub fn changes(shape: &str, old: &Value, new: &Value) -> String {
    let text = |v| {
        let mut w = Writer { out: String::new(), pretty: true, depth: 0 };
        w.value(shape, v);
        w.out
    };
    diff::unified(&text(old), &text(new))
}

struct Writer {
    out: String,
    pretty: bool,
    depth: usize,
}

impl Writer {
    fn value(&mut self, shape: &str, v: &Value) {
        static NULL: Value = Value::Null;
        if let Some(inner) = shape.strip_prefix('*') {
            match v {
                Value::Null => self.out.push_str("null"),
                v => self.value(inner, v),
            }
        } else if let Some(inner) = shape.strip_prefix("[]") {
            match v.as_array() {
                None => self.out.push_str("null"),
                Some(list) => {
                    self.open('[');
                    for (i, v) in list.iter().enumerate() {
                        self.next(i == 0);
                        self.value(inner, v);
                    }
                    self.close(']', list.is_empty());
                }
            }
        } else if let Some(inner) = shape.strip_prefix("{}") {
            match v.as_object() {
                None => self.out.push_str("null"),
                Some(map) => {
                    self.open('{');
                    for (i, (k, v)) in map.iter().enumerate() {
                        self.next(i == 0);
                        self.key(k);
                        self.value(inner, v);
                    }
                    self.close('}', map.is_empty());
                }
            }
        } else if let Some(zero) = shape.strip_prefix('=') {
            match v {
                Value::Null => self.out.push_str(zero),
                v => self.plain(v),
            }
        } else if let Some(fields) = types().get(shape) {
            let either = either(shape, v);
            self.open('{');
            let mut first = true;
            for (wire, shown, shape) in fields {
                let v = match either {
                    Some((field, _)) if *wire == field => v,
                    Some((_, true)) if *wire == "Allows" => &Value::Bool(true),
                    Some(_) => &NULL,
                    None => wire.split('.').try_fold(v, |v, step| v.get(step)).unwrap_or(&NULL),
                };
                let name = shown.trim_end_matches('?');
                if name.len() < shown.len() && empty(v) {
                    continue;
                }
                self.next(first);
                first = false;
                self.key(name);
                self.value(shape, v);
            }
            self.close('}', first);
        } else {
            match (shape, v) {
                ("string", Value::Null) => self.out.push_str("\"\""),
                ("number", Value::Null) => self.out.push('0'),
                ("bool", Value::Null) => self.out.push_str("false"),
                (_, v) => self.plain(v),
            }
        }
    }

    /// Go escapes what HTML knows.
    fn plain(&mut self, v: &Value) {
        for c in v.to_string().chars() {
            match c {
                '<' | '>' | '&' => {
                    let _ = write!(self.out, "\\u{:04x}", c as u32);
                }
                c => self.out.push(c),
            }
        }
    }
    fn key(&mut self, k: &str) {
        self.plain(&Value::from(k));
        self.out.push_str(if self.pretty { ": " } else { ":" });
    }
    fn open(&mut self, c: char) {
        self.out.push(c);
        self.depth += 1;
    }
    fn next(&mut self, first: bool) {
        if !first {
            self.out.push(',');
        }
        self.line();
    }
    fn close(&mut self, c: char, empty: bool) {
        self.depth -= 1;
        if !empty {
            self.line();
        }
        self.out.push(c);
    }
    fn line(&mut self) {
        if self.pretty {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', self.depth));
        }
    }
}

/// What is one of two things on the wire is the struct of both upstream: the field that it fills there, and whether its
/// `Allows` is true beside.
fn either(shape: &str, v: &Value) -> Option<(&'static str, bool)> {
    let other = match shape {
        "JSONSchemaPropsOrArray" => "JSONSchemas",
        "JSONSchemaPropsOrStringArray" => "Property",
        "JSONSchemaPropsOrBool" if v.is_boolean() => "Allows",
        "JSONSchemaPropsOrBool" => return Some(("Schema", true)),
        _ => return None,
    };
    Some((if v.is_object() { "Schema" } else { other }, false))
}

fn empty(v: &Value) -> bool {
    match v {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_i64() == Some(0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_prints_as_upstream_prints_it() {
        let v = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}});
        assert_eq!(
            Internal("DeploymentStrategy", &v).shown(),
            r#"{"Type":"RollingUpdate","RollingUpdate":{"MaxUnavailable":0,"MaxSurge":"25%"}}"#
        );
        let owner = json!({"uid": "u", "controller": true, "kind": "A", "name": "<a>", "apiVersion": "v1"});
        assert_eq!(
            Internal("[]OwnerReference", &json!([owner])).shown(),
            r#"[{"apiVersion":"v1","kind":"A","name":"\u003ca\u003e","uid":"u","controller":true}]"#
        );
        assert_eq!(Internal("*PodSpec", &Value::Null).shown(), "null");
    }

    #[test]
    fn one_of_two_prints_as_both() {
        let shown = |shape, v| Internal(shape, &v).shown();
        assert_eq!(shown("JSONSchemaPropsOrBool", json!(false)), r#"{"Allows":false,"Schema":null}"#);
        let of = shown("JSONSchemaPropsOrBool", json!({"type": "string"}));
        assert!(
            of.starts_with(r#"{"Allows":true,"Schema":{"ID":"","#) && of.contains(r#""Type":"string""#),
            "{of}"
        );
        let of = shown("*JSONSchemaPropsOrArray", json!({"type": "string"}));
        assert!(of.starts_with(r#"{"Schema":{"#) && of.ends_with(r#","JSONSchemas":null}"#), "{of}");
        let of = shown("JSONSchemaPropsOrArray", json!([{}]));
        assert!(of.starts_with(r#"{"Schema":null,"JSONSchemas":[{"#), "{of}");
    }

    #[test]
    fn changes_are_a_unified_diff() {
        let (a, b) = (json!({"path": "/a"}), json!({"path": "/b"}));
        assert_eq!(
            changes("HostPathVolumeSource", &a, &b),
            "@@ -1,4 +1,4 @@\n {\n- \"Path\": \"/a\",\n+ \"Path\": \"/b\",\n  \"Type\": null\n }\n"
        );
    }
}
