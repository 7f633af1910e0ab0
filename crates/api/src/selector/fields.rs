//! Field selectors: `metadata.name=a,status.phase!=Running`.

use std::fmt;

use super::SelectorError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldOp {
    Equals,
    NotEquals,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldRequirement {
    pub field: String,
    pub op: FieldOp,
    pub value: String,
}

/// All requirements hold; none match everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct FieldSelector {
    pub requirements: Vec<FieldRequirement>,
}

/// Splits at commas that no backslash stands before.
fn terms(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                out.extend(text.get(start..i));
                start = i + 1;
            }
            _ => {}
        }
    }
    out.extend(text.get(start..));
    out
}

fn split(term: &str) -> Option<(&str, FieldOp, &str)> {
    for (i, _) in term.char_indices() {
        let rest = term.get(i..)?;
        for (sign, op) in [("!=", FieldOp::NotEquals), ("==", FieldOp::Equals), ("=", FieldOp::Equals)] {
            if let Some(value) = rest.strip_prefix(sign) {
                return Some((term.get(..i)?, op, value));
            }
        }
    }
    None
}

fn unescape(s: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(s.len());
    let mut chars = s.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => {
                    return Err(SelectorError(format!(
                        "invalid field selector: invalid escape sequence: \\{c}"
                    )));
                }
                None => {
                    return Err(SelectorError("invalid field selector: invalid escape sequence: \\".into()));
                }
            },
            ',' | '=' => {
                return Err(SelectorError(format!(
                    "invalid field selector: unescaped character in value: {c}"
                )));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

impl FieldSelector {
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for term in terms(text).into_iter().filter(|t| !t.is_empty()) {
            let Some((field, op, value)) = split(term) else {
                return Err(SelectorError(format!("invalid selector: '{text}'; can't understand '{term}'")));
            };
            requirements.push(FieldRequirement { field: field.to_string(), op, value: unescape(value)? });
        }
        Ok(Self { requirements })
    }

    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The value that the selector demands of a field, if it demands one.
    pub fn requires(&self, field: &str) -> Option<&str> {
        self.requirements
            .iter()
            .find(|r| r.field == field && r.op == FieldOp::Equals)
            .map(|r| r.value.as_str())
    }

    /// `value_of` answers a field's value; unknown fields are the empty string.
    pub fn matches<'v>(&self, value_of: impl Fn(&str) -> std::borrow::Cow<'v, str>) -> bool {
        self.requirements.iter().all(|r| (value_of(&r.field) == r.value) == (r.op == FieldOp::Equals))
    }

    /// On values as `Descriptor::field_values` gives them.
    pub fn matches_values(&self, values: &[(&str, String)]) -> bool {
        let find = |f: &str| values.iter().find(|(l, _)| *l == f).map_or("", |(_, v)| v.as_str());
        self.requirements.iter().all(|r| (find(&r.field) == r.value) == (r.op == FieldOp::Equals))
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let sign = if r.op == FieldOp::Equals { "=" } else { "!=" };
            let value = r.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{comma}{}{sign}{value}", r.field)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_matches_and_prints() {
        let s =
            FieldSelector::parse("metadata.name==a,status.phase!=Running,x=b\\,c\\=d,").expect("selector");
        assert_eq!(s.to_string(), "metadata.name=a,status.phase!=Running,x=b\\,c\\=d");
        assert_eq!(s.requires("metadata.name"), Some("a"));
        let values = [("metadata.name", "a".to_string()), ("x", "b,c=d".to_string())];
        assert!(s.matches_values(&values));
        assert!(!s.matches_values(&values[..1]));
        assert!(FieldSelector::parse("").expect("empty").is_everything());
        assert_eq!(
            FieldSelector::parse("abc").expect_err("no operator").0,
            "invalid selector: 'abc'; can't understand 'abc'"
        );
        assert!(FieldSelector::parse("a=b=c").is_err());
        assert!(FieldSelector::parse("a=b\\x").is_err());
    }
}
