//! A value together with the place where it stands: what every rule works on. Absent and null look the same.

use super::path::{Path, Place};
use serde_json::Value;

static NULL: Value = Value::Null;

/// A borrowed value and its path.
#[derive(Debug, Clone, Copy)]
pub struct At<'v, 'p> {
    pub v: &'v Value,
    pub p: Path<'p>,
}

impl Place for At<'_, '_> {
    fn place(&self) -> String {
        self.p.to_string()
    }
}

impl<'v, 'p> At<'v, 'p> {
    pub const fn new(v: &'v Value, p: Path<'p>) -> Self {
        At { v, p }
    }
    pub const fn root(v: &'v Value) -> At<'v, 'static> {
        At { v, p: Path::ROOT }
    }
    /// The field's value, null when absent.
    pub fn get<'q>(&'q self, field: &'q str) -> At<'v, 'q> {
        At { v: self.raw(field), p: self.p.child(field) }
    }
    /// The value alone.
    pub fn raw(&self, field: &str) -> &'v Value {
        self.v.get(field).unwrap_or(&NULL)
    }
    /// The place of a field, whether or not there is one.
    pub fn at<'q>(&'q self, field: &'q str) -> Path<'q> {
        self.p.child(field)
    }
    pub fn has(&self, field: &str) -> bool {
        !self.raw(field).is_null()
    }
    pub fn is_null(&self) -> bool {
        self.v.is_null()
    }
    /// Empty for what is absent or no string.
    pub fn str(&self) -> &'v str {
        self.v.as_str().unwrap_or_default()
    }
    pub fn s(&self, field: &str) -> &'v str {
        self.raw(field).as_str().unwrap_or_default()
    }
    pub fn int(&self) -> Option<i64> {
        self.v.as_i64()
    }
    pub fn i(&self, field: &str) -> Option<i64> {
        self.raw(field).as_i64()
    }
    /// False for what is absent.
    pub fn b(&self, field: &str) -> bool {
        self.raw(field).as_bool().unwrap_or(false)
    }
    /// Items of a list, entries of a map.
    pub fn len(&self) -> usize {
        match self.v {
            Value::Array(a) => a.len(),
            Value::Object(o) => o.len(),
            _ => 0,
        }
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub fn list(&self) -> &'v [Value] {
        self.v.as_array().map_or(&[], Vec::as_slice)
    }
    pub fn iter<'q>(&'q self) -> impl Iterator<Item = At<'v, 'q>> {
        self.list().iter().enumerate().map(|(i, v)| At { v, p: self.p.index(i) })
    }
    /// Entries of a map, each at `path[key]`.
    pub fn entries<'q>(&'q self) -> impl Iterator<Item = (&'v str, At<'v, 'q>)>
    where
        'v: 'q,
    {
        self.v.as_object().into_iter().flatten().map(|(k, v)| (k.as_str(), At { v, p: self.p.key(k) }))
    }
    pub fn keys(&self) -> impl Iterator<Item = &'v str> {
        self.v.as_object().into_iter().flatten().map(|(k, _)| k.as_str())
    }
}
