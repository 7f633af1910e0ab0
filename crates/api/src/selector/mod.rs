//! Label selectors (text and struct form) and field selectors.

mod fields;
mod parse;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde_json::Value;

pub use fields::{FieldOp, FieldRequirement, FieldSelector};

/// Why a selector cannot be used; the text is upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    In,
    NotIn,
    Equals,
    NotEquals,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Requirement {
    pub key: String,
    pub op: Op,
    /// Sorted; one for (not) equals and comparisons, none for (not) exists.
    pub values: Vec<String>,
}

/// A label selector: all requirements hold, or nothing matches at all.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

/// Anything labels can be looked up in.
pub trait Labels {
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}
impl Labels for HashMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}
/// A JSON object of strings; null has no labels.
impl Labels for Value {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

impl Requirement {
    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        let value = labels.label(&self.key);
        let listed = |v: &str| self.values.iter().any(|x| x == v);
        match self.op {
            Op::In | Op::Equals => value.is_some_and(listed),
            Op::NotIn | Op::NotEquals => !value.is_some_and(listed),
            Op::Exists => value.is_some(),
            Op::DoesNotExist => value.is_none(),
            Op::GreaterThan | Op::LessThan => {
                let wanted = self.values.first().and_then(|v| v.parse::<i64>().ok());
                match (value.and_then(|v| v.parse::<i64>().ok()), wanted) {
                    (Some(a), Some(b)) => {
                        if self.op == Op::GreaterThan {
                            a > b
                        } else {
                            a < b
                        }
                    }
                    _ => false,
                }
            }
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.values.first().map_or("", String::as_str);
        match self.op {
            Op::Exists => f.write_str(&self.key),
            Op::DoesNotExist => write!(f, "!{}", self.key),
            Op::Equals => write!(f, "{}={first}", self.key),
            Op::NotEquals => write!(f, "{}!={first}", self.key),
            Op::GreaterThan => write!(f, "{}>{first}", self.key),
            Op::LessThan => write!(f, "{}<{first}", self.key),
            Op::In => write!(f, "{} in ({})", self.key, self.values.join(",")),
            Op::NotIn => write!(f, "{} notin ({})", self.key, self.values.join(",")),
        }
    }
}

impl LabelSelector {
    /// Matches every object.
    pub fn everything() -> Self {
        Self::default()
    }
    /// Matches no object.
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    fn of(mut requirements: Vec<Requirement>) -> Self {
        for r in &mut requirements {
            r.values.sort();
            r.values.dedup();
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements, nothing: false }
    }

    /// The text form of query parameters: `a=b,c!=d,e in (f,g),!h`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Ok(Self::of(parse::parse(text)?))
    }

    /// Equality with every entry (a Service's or ReplicationController's selector). No entries match everything.
    pub fn from_map(map: &BTreeMap<String, String>) -> Self {
        Self::of(map.iter().map(|(k, v)| equals(k, v)).collect())
    }

    /// The same from a JSON object.
    pub fn from_map_value(v: &Value) -> Self {
        let entries = v.as_object().into_iter().flatten();
        Self::of(entries.map(|(k, v)| equals(k, v.as_str().unwrap_or_default())).collect())
    }

    /// metav1.LabelSelector: null matches nothing, an empty one everything.
    pub fn from_value(v: &Value) -> Result<Self, SelectorError> {
        let Some(o) = v.as_object() else { return Ok(Self::nothing()) };
        let mut out = Vec::new();
        for (k, v) in o.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            out.push(equals(k, v.as_str().unwrap_or_default()));
        }
        for e in o.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            let op = match e["operator"].as_str().unwrap_or_default() {
                "In" => Op::In,
                "NotIn" => Op::NotIn,
                "Exists" => Op::Exists,
                "DoesNotExist" => Op::DoesNotExist,
                other => {
                    return Err(SelectorError(format!("{other:?} is not a valid label selector operator")));
                }
            };
            let values: Vec<String> = e["values"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|v| v.as_str().map(str::to_string))
                .collect();
            out.push(parse::checked(e["key"].as_str().unwrap_or_default(), op, values)?);
        }
        Ok(Self::of(out))
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }
    pub fn is_nothing(&self) -> bool {
        self.nothing
    }

    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(labels))
    }
}

fn equals(key: &str, value: &str) -> Requirement {
    Requirement { key: key.to_string(), op: Op::Equals, values: vec![value.to_string()] }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{r}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn text_form_matches_and_prints() {
        let labels = json!({"app": "web", "tier": "a", "n": "5"});
        for (text, hit, printed) in [
            ("", true, ""),
            ("app=web", true, "app=web"),
            ("app == web , tier in (b, a)", true, "app=web,tier in (a,b)"),
            ("app!=web", false, "app!=web"),
            ("missing!=x", true, "missing!=x"),
            ("tier notin (b)", true, "tier notin (b)"),
            ("app", true, "app"),
            ("!app", false, "!app"),
            ("! app", false, "!app"),
            ("n>4,n<6", true, "n>4,n<6"),
            ("app=", false, "app="),
            ("x/y=z", false, "x/y=z"),
            ("tier in (,a)", true, "tier in (,a)"),
        ] {
            let s = LabelSelector::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(s.matches(&labels), hit, "{text}");
            assert_eq!(s.to_string(), printed);
        }
    }

    #[test]
    fn errors_are_upstreams() {
        for (text, error) in [
            ("a=b=c", "found '=', expected: ',' or 'end of string'"),
            ("a,", "found '', expected: identifier after ','"),
            (",a", "found ',', expected: !, identifier, or 'end of string'"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ')'"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
        ] {
            assert_eq!(LabelSelector::parse(text).expect_err(text).0, error);
        }
        assert!(
            LabelSelector::parse("-a=b")
                .expect_err("key")
                .0
                .starts_with("unable to parse requirement: <nil>: Invalid value: \"-a\": name part")
        );
        assert!(LabelSelector::parse("a=b c").is_err() && LabelSelector::parse("a in ()").is_err());
    }

    #[test]
    fn struct_form() {
        let s = LabelSelector::from_value(&json!({"matchLabels": {"a": "b"},
            "matchExpressions": [{"key": "c", "operator": "In", "values": ["y", "x"]}, {"key": "d", "operator": "DoesNotExist"}]}));
        let s = s.expect("selector");
        assert_eq!(s.to_string(), "a=b,c in (x,y),!d");
        assert!(s.matches(&json!({"a": "b", "c": "x"})));
        assert!(!s.matches(&json!({"a": "b", "c": "x", "d": ""})));
        assert!(LabelSelector::from_value(&Value::Null).expect("null").is_nothing());
        assert!(LabelSelector::from_value(&json!({})).expect("empty").is_everything());
        assert!(
            LabelSelector::from_value(&json!({"matchExpressions": [{"key": "a", "operator": "Is"}]}))
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn printing_parses_back(s in "[a-c!=<>(), in]{0,24}") {
            if let Ok(sel) = LabelSelector::parse(&s) {
                let again = LabelSelector::parse(&sel.to_string());
                prop_assert_eq!(again, Ok(sel));
            }
        }
    }
}
