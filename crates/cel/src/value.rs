//! Values at run time. Strings, lists and maps are shared, so that a rule deep in an object costs no copy of it.

use std::any::Any;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::EvalError;

/// A value of a type that a library brings along (quantity, IP address, URL).
pub trait Opaque: Any + fmt::Debug + Send + Sync {
    /// The type's name, as `Type::Opaque` holds it.
    fn type_name(&self) -> &'static str;
    fn same(&self, other: &dyn Opaque) -> bool;
    fn as_any(&self) -> &dyn Any;
}

/// A map's key. Numbers that are equal are one key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Arc<str>),
}

pub type Map = BTreeMap<Key, Value>;

/// What `Name{field: value}` makes.
#[derive(Debug, Clone)]
pub struct Message {
    pub name: Arc<str>,
    pub fields: BTreeMap<String, Value>,
}

/// An object whose fields are worked out when they are asked for; what that costs is taken from the budget.
pub trait Fields: fmt::Debug + Send + Sync {
    /// `None`: there is no such field.
    fn field(&self, name: &str, budget: &mut u64) -> Option<Result<Value, EvalError>>;
}

#[derive(Debug, Clone)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
    List(Arc<[Value]>),
    Map(Arc<Map>),
    Message(Arc<Message>),
    Lazy(Arc<dyn Fields>),
    Timestamp(Timestamp),
    /// Nanoseconds.
    Duration(i64),
    Type(Arc<str>),
    Optional(Option<Box<Value>>),
    Opaque(Arc<dyn Opaque>),
}

impl From<String> for Value {
    fn from(s: String) -> Self {
        Value::String(s.into())
    }
}
impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Value::String(s.into())
    }
}
impl From<Vec<Value>> for Value {
    fn from(v: Vec<Value>) -> Self {
        Value::List(v.into())
    }
}

impl From<Key> for Value {
    fn from(k: Key) -> Self {
        match k {
            Key::Bool(b) => Value::Bool(b),
            Key::Int(i) => Value::Int(i),
            Key::Uint(u) => Value::Uint(u),
            Key::String(s) => Value::String(s),
        }
    }
}

impl Value {
    pub fn opaque(v: impl Opaque) -> Self {
        Value::Opaque(Arc::new(v))
    }

    /// An opaque value as what it is.
    pub fn downcast<T: 'static>(&self) -> Option<&T> {
        match self {
            Value::Opaque(o) => o.as_any().downcast_ref(),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(s) => Some(s),
            _ => None,
        }
    }

    pub fn key(&self) -> Option<Key> {
        Some(match self {
            Value::Bool(b) => Key::Bool(*b),
            Value::Int(i) => Key::Int(*i),
            Value::Uint(u) => i64::try_from(*u).map_or(Key::Uint(*u), Key::Int),
            Value::Double(d) if d.fract() == 0.0 && d.abs() < 9e15 => Key::Int(*d as i64),
            Value::String(s) => Key::String(s.clone()),
            _ => return None,
        })
    }

    pub fn type_name(&self) -> &str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "list",
            Value::Map(_) => "map",
            Value::Message(m) => &m.name,
            Value::Lazy(_) => "object",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::Type(_) => "type",
            Value::Optional(_) => "optional_type",
            Value::Opaque(o) => o.type_name(),
        }
    }

    /// What an operation over it costs, roughly: its length.
    pub fn weight(&self) -> u64 {
        let n = match self {
            Value::String(s) => s.len(),
            Value::Bytes(b) => b.len(),
            // An item is more than a character.
            Value::List(l) => l.len().saturating_mul(10),
            Value::Map(m) => m.len().saturating_mul(10),
            Value::Message(m) => m.fields.len().saturating_mul(10),
            _ => 1,
        };
        u64::try_from(n).unwrap_or(u64::MAX)
    }

    /// CEL's equality: numbers by value, different types differ.
    pub fn equals(&self, other: &Value) -> bool {
        self.same(other, &mut HashSet::new())
    }

    fn same(&self, other: &Value, known: &mut Known) -> bool {
        if let Some(o) = numbers(self, other) {
            return o == Some(Ordering::Equal);
        }
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::String(a), Value::String(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::List(a), Value::List(b)) => once(a, b, known, |known| {
                a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.same(b, known))
            }),
            (Value::Map(a), Value::Map(b)) => once(a, b, known, |known| {
                a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| v.same(w, known)))
            }),
            (Value::Message(a), Value::Message(b)) => once(a, b, known, |known| {
                a.name == b.name
                    && a.fields.len() == b.fields.len()
                    && a.fields.iter().all(|(k, v)| b.fields.get(k).is_some_and(|w| v.same(w, known)))
            }),
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::Duration(a), Value::Duration(b)) => a == b,
            (Value::Type(a), Value::Type(b)) => a == b,
            (Value::Optional(a), Value::Optional(b)) => match (a, b) {
                (Some(a), Some(b)) => a.same(b, known),
                (a, b) => a.is_none() && b.is_none(),
            },
            (Value::Opaque(a), Value::Opaque(b)) => a.same(b.as_ref()),
            _ => false,
        }
    }

    /// The order of two values, where there is one.
    pub fn order(&self, other: &Value) -> Option<Ordering> {
        if let Some(o) = numbers(self, other) {
            return o;
        }
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
            (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
            (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// Whether it is the zero of its type, for `optional.ofNonZeroValue`.
    pub fn is_zero(&self) -> bool {
        match self {
            Value::Null => true,
            Value::Bool(b) => !b,
            Value::Int(i) => *i == 0,
            Value::Uint(u) => *u == 0,
            Value::Double(d) => *d == 0.0,
            Value::Duration(d) => *d == 0,
            Value::String(s) => s.is_empty(),
            Value::Bytes(b) => b.is_empty(),
            Value::List(l) => l.is_empty(),
            Value::Map(m) => m.is_empty(),
            Value::Message(m) => m.fields.is_empty(),
            Value::Optional(o) => o.is_none(),
            _ => false,
        }
    }
}

/// Pairs of lists, maps and messages that were found equal: a value may hold another many times over, on each level.
type Known = HashSet<(usize, usize)>;

/// Compares two shared values unless that was done before.
fn once<T: ?Sized>(
    a: &Arc<T>,
    b: &Arc<T>,
    known: &mut Known,
    equal: impl FnOnce(&mut Known) -> bool,
) -> bool {
    let pair = (Arc::as_ptr(a).addr(), Arc::as_ptr(b).addr());
    known.contains(&pair)
        || equal(known) && {
            known.insert(pair);
            true
        }
}

/// `None`: not two numbers. `Some(None)`: one of them is no number at all.
fn numbers(a: &Value, b: &Value) -> Option<Option<Ordering>> {
    let wide = |v: &Value| match v {
        Value::Int(i) => Some(i128::from(*i)),
        Value::Uint(u) => Some(i128::from(*u)),
        _ => None,
    };
    let double = |v: &Value| match v {
        Value::Double(d) => Some(*d),
        _ => wide(v).map(|n| n as f64),
    };
    match (wide(a), wide(b)) {
        (Some(a), Some(b)) => Some(Some(a.cmp(&b))),
        _ => Some(double(a)?.partial_cmp(&double(b)?)),
    }
}
