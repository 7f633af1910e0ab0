//! Types at check time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::value::Value;

/// A type with named fields.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ObjectType {
    pub name: String,
    pub fields: BTreeMap<String, Type>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    /// Known at run time only.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    List(Arc<Type>),
    Map(Arc<Type>, Arc<Type>),
    Object(Arc<ObjectType>),
    Optional(Arc<Type>),
    /// Made by `Name{…}`; its fields are known at run time only.
    Message(Arc<str>),
    /// The type of types.
    Type,
    Opaque(&'static str),
    /// `A`, `B` in the signature of a function.
    Param(char),
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Dyn => f.write_str("dyn"),
            Type::Null => f.write_str("null"),
            Type::Bool => f.write_str("bool"),
            Type::Int => f.write_str("int"),
            Type::Uint => f.write_str("uint"),
            Type::Double => f.write_str("double"),
            Type::String => f.write_str("string"),
            Type::Bytes => f.write_str("bytes"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::Duration => f.write_str("duration"),
            Type::List(t) => write!(f, "list({t})"),
            Type::Map(k, v) => write!(f, "map({k}, {v})"),
            Type::Object(o) => f.write_str(&o.name),
            Type::Message(n) => f.write_str(n),
            Type::Optional(t) => write!(f, "optional_type({t})"),
            Type::Type => f.write_str("type"),
            Type::Opaque(n) => f.write_str(n),
            Type::Param(c) => write!(f, "{c}"),
        }
    }
}

/// What the parameters of a signature stand for in one call.
pub type Bindings = Vec<(char, Type)>;

impl Type {
    pub fn list(t: Type) -> Self {
        Type::List(Arc::new(t))
    }
    pub fn map(k: Type, v: Type) -> Self {
        Type::Map(Arc::new(k), Arc::new(v))
    }
    pub fn optional(t: Type) -> Self {
        Type::Optional(Arc::new(t))
    }

    /// Whether a value of this type may stand where `to` is wanted.
    pub fn assignable(&self, to: &Type) -> bool {
        match (self, to) {
            (Type::Dyn, _) | (_, Type::Dyn) => true,
            (Type::Null, Type::Object(_) | Type::Opaque(_) | Type::Timestamp | Type::Duration) => true,
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => a.assignable(b),
            (Type::Map(a, b), Type::Map(c, d)) => a.assignable(c) && b.assignable(d),
            (Type::Object(a), Type::Object(b)) => a == b,
            (a, b) => a == b,
        }
    }

    /// As `assignable`, where `self` is formal and may hold parameters.
    pub fn accepts(&self, actual: &Type, bound: &mut Bindings) -> bool {
        match (self, actual) {
            (Type::Param(c), _) => match bound.iter().position(|(b, _)| b == c) {
                None => {
                    bound.push((*c, actual.clone()));
                    true
                }
                Some(i) => {
                    let Some((_, t)) = bound.get_mut(i) else { return false };
                    if matches!(t, Type::Dyn) {
                        *t = actual.clone();
                        return true;
                    }
                    actual.assignable(t) || t.assignable(actual)
                }
            },
            (_, Type::Dyn) => true,
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => a.accepts(b, bound),
            (Type::Map(a, b), Type::Map(c, d)) => a.accepts(c, bound) && b.accepts(d, bound),
            // An object is a map of its fields to functions that take any map.
            (Type::Map(k, v), Type::Object(_)) => {
                k.accepts(&Type::String, bound) && v.accepts(&Type::Dyn, bound)
            }
            (formal, actual) => actual.assignable(formal),
        }
    }

    /// With parameters replaced by what they stand for.
    pub fn substitute(&self, bound: &Bindings) -> Type {
        match self {
            Type::Param(c) => bound.iter().find(|(b, _)| b == c).map_or(Type::Dyn, |(_, t)| t.clone()),
            Type::List(t) => Type::list(t.substitute(bound)),
            Type::Optional(t) => Type::optional(t.substitute(bound)),
            Type::Map(k, v) => Type::map(k.substitute(bound), v.substitute(bound)),
            t => t.clone(),
        }
    }

    /// The type that holds both.
    pub fn join(&self, other: &Type) -> Type {
        match (self, other) {
            (a, b) if a == b => a.clone(),
            (Type::List(a), Type::List(b)) => Type::list(a.join(b)),
            (Type::Null, t @ Type::Object(_)) | (t @ Type::Object(_), Type::Null) => t.clone(),
            _ => Type::Dyn,
        }
    }

    /// Whether a value fits, looking no deeper than its outside.
    pub fn holds(&self, v: &Value) -> bool {
        match (self, v) {
            (Type::Dyn | Type::Param(_), _)
            | (Type::Null, Value::Null)
            | (Type::Bool, Value::Bool(_))
            | (Type::Int, Value::Int(_))
            | (Type::Uint, Value::Uint(_))
            | (Type::Double, Value::Double(_))
            | (Type::String, Value::String(_))
            | (Type::Bytes, Value::Bytes(_))
            | (Type::Timestamp, Value::Timestamp(_))
            | (Type::Duration, Value::Duration(_))
            | (Type::Map(..) | Type::Object(_), Value::Map(_))
            | (Type::Optional(_), Value::Optional(_))
            | (Type::Type, Value::Type(_)) => true,
            // What flattens takes lists that hold others besides.
            (Type::List(t), Value::List(_)) if matches!(**t, Type::List(_)) => true,
            // Lists are one of strings or one of numbers to functions that come in both forms.
            (Type::List(t), Value::List(l)) => l.first().is_none_or(|v| t.holds(v)),
            (Type::Opaque(n), Value::Opaque(o)) => o.type_name() == *n,
            (Type::Message(n), Value::Message(m)) => m.name == *n,
            _ => false,
        }
    }
}
