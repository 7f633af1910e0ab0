//! The errors that validation collects: typed, with upstream's wording, convertible to `api::Cause`.

use super::at::At;
use super::internal::Internal;
use super::path::Place;
use crate::Cause;
use serde_json::Value;
use std::collections::HashSet;

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorType {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
}

impl ErrorType {
    /// The cause's reason.
    pub fn reason(self) -> &'static str {
        match self {
            ErrorType::NotFound => "FieldValueNotFound",
            ErrorType::Required => "FieldValueRequired",
            ErrorType::Duplicate => "FieldValueDuplicate",
            ErrorType::Invalid => "FieldValueInvalid",
            ErrorType::NotSupported => "FieldValueNotSupported",
            ErrorType::Forbidden => "FieldValueForbidden",
            ErrorType::TooLong => "FieldValueTooLong",
            ErrorType::TooMany => "FieldValueTooMany",
            ErrorType::Internal => "InternalError",
            ErrorType::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
    fn words(self) -> &'static str {
        match self {
            ErrorType::NotFound => "Not found",
            ErrorType::Required => "Required value",
            ErrorType::Duplicate => "Duplicate value",
            ErrorType::Invalid | ErrorType::TypeInvalid => "Invalid value",
            ErrorType::NotSupported => "Unsupported value",
            ErrorType::Forbidden => "Forbidden",
            ErrorType::TooLong => "Too long",
            ErrorType::TooMany => "Too many",
            ErrorType::Internal => "Internal error",
        }
    }
}

/// One error at one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub kind: ErrorType,
    pub field: String,
    /// The message without the field: `Invalid value: "x": …`.
    pub message: String,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// A Go-quoted string (`%q`).
pub fn quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A value as an error shows it.
pub trait Shown {
    fn shown(&self) -> String;
}
impl Shown for str {
    fn shown(&self) -> String {
        quote(self)
    }
}
impl Shown for String {
    fn shown(&self) -> String {
        quote(self)
    }
}
impl Shown for Value {
    fn shown(&self) -> String {
        match self {
            Value::String(s) => quote(s),
            Value::Null => "null".into(),
            other => other.to_string(),
        }
    }
}
impl Shown for At<'_, '_> {
    fn shown(&self) -> String {
        self.v.shown()
    }
}
impl<T: Shown + ?Sized> Shown for &T {
    fn shown(&self) -> String {
        (**self).shown()
    }
}
macro_rules! plain {
    ($($t:ty),*) => {$(impl Shown for $t { fn shown(&self) -> String { self.to_string() } })*};
}
plain!(i64, i32, u64, usize, bool);

/// Errors in the order in which they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorList {
    errors: Vec<Error>,
}

impl ErrorList {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }
    pub fn len(&self) -> usize {
        self.errors.len()
    }
    pub fn iter(&self) -> std::slice::Iter<'_, Error> {
        self.errors.iter()
    }
    pub fn extend(&mut self, other: ErrorList) {
        self.errors.extend(other.errors);
    }
    /// What was found in a part that was looked at alone, at its place in the whole.
    pub fn below(&mut self, at: &dyn Place, part: ErrorList) {
        self.errors.extend(part.errors.into_iter().map(|mut e| {
            let place = at.place();
            e.field = if e.field.is_empty() { place } else { format!("{place}.{}", e.field) };
            e
        }));
    }
    /// By place and text.
    pub fn sort(&mut self) {
        self.errors.sort_by_cached_key(ToString::to_string);
    }
    /// Causes for `Status::invalid`; repeated errors are dropped, as upstream's aggregate does.
    pub fn into_causes(self) -> Vec<Cause> {
        let made = |e: Error| Cause { reason: e.kind.reason().into(), message: e.message, field: e.field };
        let mut out: Vec<Cause> = self.errors.into_iter().map(made).collect();
        // A body has room for a million errors: each is looked up, not compared with all others.
        let mut seen = HashSet::with_capacity(out.len());
        let first: Vec<bool> = out.iter().map(|c| seen.insert(c)).collect();
        let mut first = first.into_iter();
        out.retain(|_| first.next().unwrap_or(true));
        out
    }
    pub fn causes(&self) -> Vec<Cause> {
        self.clone().into_causes()
    }

    fn push(&mut self, kind: ErrorType, at: &dyn Place, value: Option<String>, detail: &str) {
        let mut message = String::from(kind.words());
        for part in [value.as_deref(), Some(detail).filter(|d| !d.is_empty())].into_iter().flatten() {
            message.push_str(": ");
            message.push_str(part);
        }
        self.errors.push(Error { kind, field: at.place(), message });
    }
    pub fn required(&mut self, at: &dyn Place, detail: &str) {
        self.push(ErrorType::Required, at, None, detail);
    }
    pub fn invalid(&mut self, at: &dyn Place, value: impl Shown, detail: &str) {
        self.push(ErrorType::Invalid, at, Some(value.shown()), detail);
    }
    /// Invalid, showing the value that stands there.
    pub fn bad(&mut self, at: &At<'_, '_>, detail: &str) {
        self.push(ErrorType::Invalid, at, Some(at.shown()), detail);
    }
    /// Invalid, showing the value as one of upstream's internal types.
    pub fn bad_as(&mut self, shape: &str, at: &At<'_, '_>, detail: &str) {
        self.invalid(at, Internal(shape, at.v), detail);
    }
    /// Invalid, without showing the value.
    pub fn wrong(&mut self, at: &dyn Place, detail: &str) {
        self.push(ErrorType::Invalid, at, None, detail);
    }
    /// `supported` should be sorted, as upstream lists them.
    pub fn not_supported(&mut self, at: &dyn Place, value: impl Shown, supported: &[&str]) {
        let list: Vec<String> = supported.iter().map(|s| quote(s)).collect();
        let detail =
            if list.is_empty() { String::new() } else { format!("supported values: {}", list.join(", ")) };
        self.push(ErrorType::NotSupported, at, Some(value.shown()), &detail);
    }
    pub fn duplicate(&mut self, at: &dyn Place, value: impl Shown) {
        self.push(ErrorType::Duplicate, at, Some(value.shown()), "");
    }
    pub fn forbidden(&mut self, at: &dyn Place, detail: &str) {
        self.push(ErrorType::Forbidden, at, None, detail);
    }
    pub fn too_long(&mut self, at: &dyn Place, max: usize) {
        self.push(ErrorType::TooLong, at, None, &format!("may not be more than {max} bytes"));
    }
    pub fn too_many(&mut self, at: &dyn Place, actual: usize, max: usize) {
        self.push(
            ErrorType::TooMany,
            at,
            Some(actual.to_string()),
            &format!("must have at most {max} items"),
        );
    }
    pub fn not_found(&mut self, at: &dyn Place, value: impl Shown) {
        self.not_found_in(at, value, "");
    }
    pub fn not_found_in(&mut self, at: &dyn Place, value: impl Shown, detail: &str) {
        self.push(ErrorType::NotFound, at, Some(value.shown()), detail);
    }
    pub fn type_invalid(&mut self, at: &dyn Place, value: impl Shown, detail: &str) {
        self.push(ErrorType::TypeInvalid, at, Some(value.shown()), detail);
    }
    pub fn internal(&mut self, at: &dyn Place, detail: &str) {
        self.push(ErrorType::Internal, at, None, detail);
    }
    /// Every message as an Invalid of this value.
    pub fn each(&mut self, at: &dyn Place, value: impl Shown, messages: impl IntoIterator<Item = String>) {
        for m in messages {
            self.push(ErrorType::Invalid, at, Some(value.shown()), &m);
        }
    }
    /// `field is immutable`, unless both are equal.
    pub fn immutable(&mut self, new: &At<'_, '_>, old: &Value) {
        if !same(new.v, old) {
            self.bad(new, super::IMMUTABLE);
        }
    }
}

/// Semantic equality: what is absent, null, empty or a zero of the wire form counts as the same.
pub fn same(a: &Value, b: &Value) -> bool {
    fn empty(v: &Value) -> bool {
        match v {
            Value::Null => true,
            Value::Array(x) => x.is_empty(),
            Value::Object(x) => x.values().all(empty),
            Value::String(s) => s.is_empty(),
            _ => false,
        }
    }
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            x.iter().all(|(k, v)| same(v, y.get(k).unwrap_or(&Value::Null)))
                && y.iter().all(|(k, v)| x.contains_key(k) || empty(v))
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(p, q)| same(p, q)),
        _ => a == b || (empty(a) && empty(b)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::path::Path;
    use super::*;
    use serde_json::json;

    #[test]
    fn wording() {
        let mut e = ErrorList::new();
        let p = Path::new("spec");
        e.required(&p.child("a"), "");
        e.required(&p.child("a"), "must");
        e.invalid(&p.child("b"), "x\"", "no");
        e.invalid(&p.child("b"), 7i64, "no");
        e.invalid(&p.child("b"), json!({"a": "b"}), "no");
        e.not_supported(&p, "x", &["a", "b"]);
        e.duplicate(&p, "x");
        e.forbidden(&p, "why");
        e.too_long(&p, 63);
        e.too_many(&p, 3, 2);
        e.not_found(&p, "x");
        let got: Vec<String> = e.iter().map(|e| e.to_string()).collect();
        let want = [
            "spec.a: Required value",
            "spec.a: Required value: must",
            "spec.b: Invalid value: \"x\\\"\": no",
            "spec.b: Invalid value: 7: no",
            "spec.b: Invalid value: {\"a\":\"b\"}: no",
            "spec: Unsupported value: \"x\": supported values: \"a\", \"b\"",
            "spec: Duplicate value: \"x\"",
            "spec: Forbidden: why",
            "spec: Too long: may not be more than 63 bytes",
            "spec: Too many: 3: must have at most 2 items",
            "spec: Not found: \"x\"",
        ];
        assert_eq!(got, want);
        assert_eq!(e.causes()[0].reason, "FieldValueRequired");
    }

    #[test]
    fn empty_and_absent_are_the_same() {
        assert!(same(&json!({"a": 1}), &json!({"a": 1, "b": {}, "c": null, "d": []})));
        assert!(same(&json!({"a": 1, "b": {"x": {}}}), &json!({"a": 1})));
        assert!(!same(&json!({"a": 1}), &json!({"a": 2})));
        assert!(!same(&json!([1]), &json!([1, 2])));
    }
}
