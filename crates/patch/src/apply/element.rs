//! One step of a field path: a field, a list element by its keys, a set element by its value, or an index.

use super::value::compare;
use crate::gofmt;
use serde_json::{Map, Value};
use std::cmp::Ordering;
use std::fmt;

#[derive(Debug, Clone)]
pub enum PathElement {
    Field(String),
    /// Sorted by name.
    Key(Vec<(String, Value)>),
    Value(Value),
    Index(i64),
}

/// Steps from the root of an object.
pub type Path = Vec<PathElement>;

/// `.spec.containers[name="a"].image`
pub fn path_text(path: &[PathElement]) -> String {
    path.iter().map(ToString::to_string).collect()
}

impl PathElement {
    pub fn field(name: impl Into<String>) -> Self {
        PathElement::Field(name.into())
    }

    pub fn key(mut fields: Vec<(String, Value)>) -> Self {
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        PathElement::Key(fields)
    }

    /// `f:spec`, `k:{"name":"a"}`, `v:"x"`, `i:3`
    pub fn encode(&self) -> String {
        match self {
            PathElement::Field(name) => format!("f:{name}"),
            PathElement::Key(fields) => {
                let parts: Vec<String> = fields
                    .iter()
                    .map(|(k, v)| format!("{}:{}", json(&Value::from(k.as_str())), json(v)))
                    .collect();
                format!("k:{{{}}}", parts.join(","))
            }
            PathElement::Value(v) => format!("v:{}", json(v)),
            PathElement::Index(i) => format!("i:{i}"),
        }
    }

    /// The inverse; `None` for a kind of element this version does not know (upstream skips those).
    pub fn decode(text: &str) -> Result<Option<Self>, String> {
        if text.len() < 2 {
            return Err("key must be 2 characters long:".into());
        }
        let Some((kind, rest)) = text.split_once(':').filter(|(k, _)| k.len() == 1) else {
            return Err(format!("missing colon: {text}"));
        };
        Ok(Some(match kind {
            "f" => PathElement::Field(rest.to_owned()),
            "k" => {
                let fields: Map<String, Value> = serde_json::from_str(rest).map_err(|e| e.to_string())?;
                PathElement::Key(fields.into_iter().collect())
            }
            "v" => PathElement::Value(serde_json::from_str(rest).map_err(|e| e.to_string())?),
            "i" => PathElement::Index(
                rest.parse().map_err(|_| format!("strconv.Atoi: parsing {rest:?}: invalid syntax"))?,
            ),
            _ => return Ok(None),
        }))
    }
}

/// JSON as Go writes it: `<`, `>` and `&` escaped.
fn json(v: &Value) -> String {
    let text = v.to_string();
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return text;
    }
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

fn text(v: &Value) -> String {
    match v {
        Value::Null => "null".into(),
        Value::String(s) => gofmt::q(s),
        Value::Array(a) => format!("[{}]", a.iter().map(text).collect::<Vec<_>>().join(",")),
        Value::Object(m) => m.iter().map(|(k, x)| format!("{k}={}", text(x))).collect(),
        other => gofmt::v(other),
    }
}

impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathElement::Field(name) => write!(f, ".{name}"),
            PathElement::Key(fields) => {
                let parts: Vec<String> = fields.iter().map(|(k, v)| format!("{k}={}", text(v))).collect();
                write!(f, "[{}]", parts.join(","))
            }
            PathElement::Value(v) => write!(f, "[={}]", text(v)),
            PathElement::Index(i) => write!(f, "[{i}]"),
        }
    }
}

impl Ord for PathElement {
    fn cmp(&self, other: &Self) -> Ordering {
        use PathElement::*;
        match (self, other) {
            (Field(a), Field(b)) => a.cmp(b),
            (Key(a), Key(b)) => {
                let first = a.iter().zip(b).map(|(x, y)| x.0.cmp(&y.0).then_with(|| compare(&x.1, &y.1)));
                first.into_iter().find(|o| o.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            (Value(a), Value(b)) => compare(a, b),
            (Index(a), Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PathElement {
    fn rank(&self) -> u8 {
        match self {
            PathElement::Field(_) => 0,
            PathElement::Key(_) => 1,
            PathElement::Value(_) => 2,
            PathElement::Index(_) => 3,
        }
    }
}

impl PartialOrd for PathElement {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PathElement {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for PathElement {}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn encodes_and_shows() {
        for (e, encoded, shown) in [
            (PathElement::field("spec"), "f:spec", ".spec"),
            (PathElement::field("a/b:c"), "f:a/b:c", ".a/b:c"),
            (
                PathElement::key(vec![
                    ("protocol".into(), json!("TCP")),
                    ("containerPort".into(), json!(80)),
                ]),
                "k:{\"containerPort\":80,\"protocol\":\"TCP\"}",
                "[containerPort=80,protocol=\"TCP\"]",
            ),
            (PathElement::Value(json!("a<b")), "v:\"a\\u003cb\"", "[=\"a<b\"]"),
            (PathElement::Value(json!(1)), "v:1", "[=1]"),
            (PathElement::Value(json!(true)), "v:true", "[=true]"),
            (PathElement::Index(3), "i:3", "[3]"),
        ] {
            assert_eq!(e.encode(), encoded);
            assert_eq!(e.to_string(), shown);
            assert_eq!(PathElement::decode(encoded), Ok(Some(e)));
        }
        for bad in ["", "f", "spec", "i:x", "v:", "k:1", "k:{", "v:1 2"] {
            assert!(PathElement::decode(bad).is_err(), "{bad}");
        }
        assert_eq!(PathElement::decode("z:new"), Ok(None));
    }

    #[test]
    fn ordered_by_kind_then_content() {
        let mut all = [
            PathElement::Index(1),
            PathElement::Value(json!("a")),
            PathElement::Value(json!(2)),
            PathElement::key(vec![("a".into(), json!(1)), ("b".into(), json!(1))]),
            PathElement::key(vec![("a".into(), json!(1))]),
            PathElement::field("b"),
            PathElement::field("a"),
        ];
        all.sort();
        let shown: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(shown, [".a", ".b", "[a=1]", "[a=1,b=1]", "[=2]", "[=\"a\"]", "[1]"]);
        assert_eq!(PathElement::Value(json!(1)), PathElement::Value(json!(1.0)));
    }
}
