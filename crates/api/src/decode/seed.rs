//! The schema-directed deserialiser: a seed per struct and per value, which check while they build.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::path::{Path, Step};
use crate::quantity;
use crate::schema::{Definition, Type, asset_ref};
use crate::time;

const SCHEMA_PROPS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
/// Upstream stops listing after this many.
const MAX_STRICT: usize = 100;

/// What was noticed on the way.
#[derive(Default)]
pub(super) struct Context {
    /// The first type error, worded as Go does.
    pub(super) error: Option<String>,
    /// Duplicate and unknown fields, in document order.
    strict: Vec<String>,
    /// What stands where the whole object should, if it is none.
    pub(super) top: Option<&'static str>,
    /// Faults are worded as those of the way from map to struct, which a strategic merge patch takes.
    pub(super) from_map: bool,
}

impl Context {
    fn note(&mut self, text: String) {
        if self.strict.len() < MAX_STRICT && !self.strict.contains(&text) {
            self.strict.push(text);
        }
    }

    pub(super) fn note_all(&mut self, texts: Vec<String>) {
        texts.into_iter().for_each(|t| self.note(t));
    }

    fn fail(&mut self, text: impl FnOnce() -> String) {
        if self.error.is_none() {
            self.error = Some(text());
        }
    }

    /// Custom resources find duplicates while parsing and unknown fields while pruning, so those come later.
    pub(super) fn into_strict(mut self, custom: bool) -> Vec<String> {
        if custom {
            self.strict.sort_by_key(|s| !s.starts_with("duplicate"));
        }
        self.strict
    }
}

/// `int32`, `[]string`, `v1.PodSpec`: what Go calls the type.
fn go_type(ty: &Type) -> String {
    match ty {
        Type::Ref(_) | Type::Object(_) => ty.definition().map(Definition::go_type).unwrap_or_default(),
        Type::String | Type::Quantity | Type::Time | Type::MicroTime => "string".into(),
        Type::Bytes => "[]uint8".into(),
        Type::Int32 | Type::IntOrString => "int32".into(),
        Type::Int64 => "int64".into(),
        Type::Number => "float64".into(),
        Type::Boolean => "bool".into(),
        Type::Array(t) => format!("[]{}", go_type(t)),
        Type::Map(t) => format!("map[string]{}", go_type(t)),
        _ => "interface {}".into(),
    }
}

/// The value of a null that stands in a list or map.
fn zero(ty: &Type) -> Value {
    match ty {
        Type::String | Type::Bytes => Value::String(String::new()),
        Type::Int32 | Type::Int64 | Type::Number | Type::IntOrString => Value::from(0),
        Type::Boolean => Value::Bool(false),
        Type::Quantity => Value::from("0"),
        Type::Ref(_) => Value::Object(Map::new()),
        _ => Value::Null,
    }
}

/// Decodes a struct.
pub(super) struct StructSeed<'a, 'c> {
    pub(super) def: &'a Definition,
    pub(super) cx: &'c mut Context,
    pub(super) path: &'a Path<'a>,
}

impl<'de> DeserializeSeed<'de> for StructSeed<'_, '_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        let Self { def, cx, path } = self;
        d.deserialize_any(ValueVisitor { target: Target::Struct(def), owner: def, cx, path })
    }
}

enum Target<'a> {
    Struct(&'a Definition),
    Type(&'a Type),
}

/// Decodes one value of a known type inside `owner`.
struct ValueSeed<'a, 'c> {
    ty: &'a Type,
    owner: &'a Definition,
    cx: &'c mut Context,
    path: &'a Path<'a>,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_, '_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        let Self { ty, owner, cx, path } = self;
        let target = match ty.definition() {
            Some(def) => Target::Struct(def),
            None => Target::Type(ty),
        };
        d.deserialize_any(ValueVisitor { target, owner, cx, path })
    }
}

struct ValueVisitor<'a, 'c> {
    target: Target<'a>,
    owner: &'a Definition,
    cx: &'c mut Context,
    path: &'a Path<'a>,
}

impl<'a> ValueVisitor<'a, '_> {
    /// A custom resource's own types are not checked here.
    fn lenient(&self) -> bool {
        match &self.target {
            Target::Struct(def) => def.custom,
            Target::Type(_) => self.owner.custom,
        }
    }

    fn ty(&self) -> Option<&'a Type> {
        match self.target {
            Target::Type(ty) => Some(ty),
            Target::Struct(_) => None,
        }
    }

    fn mismatch(&mut self, got: &str) {
        let target = match &self.target {
            Target::Struct(def) => def.go_type(),
            Target::Type(ty) => go_type(ty),
        };
        let (owner, path) = (self.owner, self.path);
        let custom_unmarshal =
            matches!(self.target, Target::Type(Type::IntOrString | Type::Time | Type::MicroTime));
        if path.is_root() && matches!(self.target, Target::Struct(_)) {
            self.cx.top = Some(match got.split(' ').next() {
                Some("string") => "string",
                Some("bool") => "bool",
                Some("array") => "array",
                _ => "number",
            });
        }
        if self.cx.from_map && !custom_unmarshal {
            let text = from_map(got, &self.target, &target);
            return self.cx.fail(|| text);
        }
        self.cx.fail(|| {
            let place = path.fields();
            if place.is_empty() || custom_unmarshal {
                format!("json: cannot unmarshal {got} into Go value of type {target}")
            } else {
                format!(
                    "json: cannot unmarshal {got} into Go struct field {}.{place} of type {target}",
                    owner.go_name()
                )
            }
        });
    }

    fn integer(&mut self, n: Number) -> Value {
        match (self.ty(), n.as_i64()) {
            (Some(Type::Int32 | Type::IntOrString), Some(i)) if i32::try_from(i).is_ok() => return i.into(),
            (Some(Type::Int64), Some(i)) => return i.into(),
            (Some(Type::Int32 | Type::Int64 | Type::IntOrString), _) => {
                self.mismatch(&format!("number {n}"));
                return Value::Null;
            }
            _ => {}
        }
        self.number(n)
    }

    fn number(&mut self, n: Number) -> Value {
        if self.lenient() {
            return Value::Number(n);
        }
        match self.ty() {
            Some(Type::Any | Type::RawObject | Type::Fields | Type::Number) => whole(n),
            Some(Type::Quantity) => self.quantity(&n.to_string()),
            Some(Type::Int32 | Type::Int64 | Type::IntOrString) => {
                self.mismatch(&format!("number {n}"));
                Value::Null
            }
            _ => {
                self.mismatch("number");
                Value::Null
            }
        }
    }

    fn quantity(&mut self, s: &str) -> Value {
        match quantity::canonical(s.trim()) {
            Ok(c) => Value::String(c),
            Err(e) => {
                self.cx.fail(|| e.to_string());
                Value::Null
            }
        }
    }

    fn string(&mut self, s: String) -> Value {
        if self.lenient() {
            return Value::String(s);
        }
        let checked = match self.ty() {
            Some(Type::String | Type::IntOrString | Type::Any | Type::RawObject | Type::Fields) => {
                return Value::String(s);
            }
            Some(Type::Quantity) => return self.quantity(&s),
            Some(Type::Time) => time::canonical(&s).map_err(|e| e.to_string()),
            Some(Type::MicroTime) => time::canonical_micro(&s).map_err(|e| e.to_string()),
            Some(Type::Bytes) => base64_text(s),
            _ => {
                self.mismatch("string");
                return Value::Null;
            }
        };
        match checked {
            Ok(s) => Value::String(s),
            Err(e) => {
                self.cx.fail(|| e);
                Value::Null
            }
        }
    }

    fn value<'x>(&'x mut self, ty: &'x Type, path: &'x Path<'x>) -> ValueSeed<'x, 'x> {
        ValueSeed { ty, owner: self.owner, cx: &mut *self.cx, path }
    }
}

/// The fault of a value on its way from a map into a struct.
fn from_map(got: &str, target: &Target<'_>, name: &str) -> String {
    let number =
        got.strip_prefix("number").map(|n| if n.contains(['.', 'e', 'E']) { "float64" } else { "int64" });
    let is = match got {
        "array" => "slice",
        "object" => "map",
        other => number.unwrap_or(other),
    };
    match target {
        Target::Struct(_) => format!("cannot restore struct from: {is}"),
        Target::Type(Type::Array(_)) => format!("cannot restore slice from {is}"),
        Target::Type(Type::Map(_)) => format!("cannot restore map from {is}"),
        // A whole number is a rune to Go.
        Target::Type(Type::String) if number == Some("int64") => "cannot convert int64 to string".into(),
        Target::Type(_) => format!("unrecognized type: {name}"),
    }
}

/// A float without a fraction is written as Go writes it.
fn whole(n: Number) -> Value {
    match n.as_f64() {
        Some(f) if n.is_f64() && f.fract() == 0.0 && f.abs() < 1e15 => Value::from(f as i64),
        _ => Value::Number(n),
    }
}

/// Checks base64 and writes it anew, without line breaks.
fn base64_text(s: String) -> Result<String, String> {
    let clean: String =
        if s.contains(['\n', '\r']) { s.chars().filter(|c| !matches!(c, '\n' | '\r')).collect() } else { s };
    match STANDARD.decode(&clean) {
        Ok(_) => Ok(clean),
        Err(e) => {
            let at = match e {
                base64::DecodeError::InvalidByte(i, _) | base64::DecodeError::InvalidLastSymbol(i, _) => i,
                base64::DecodeError::InvalidLength(n) => n / 4 * 4,
                base64::DecodeError::InvalidPadding => clean.len(),
            };
            Err(format!("illegal base64 data at input byte {at}"))
        }
    }
}

impl<'de> Visitor<'de> for ValueVisitor<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E: Error>(mut self, b: bool) -> Result<Value, E> {
        match self.ty() {
            Some(Type::Boolean | Type::Any | Type::RawObject | Type::Fields | Type::SchemaOrBool) => {}
            _ if self.lenient() => {}
            Some(Type::Quantity) => return Ok(self.quantity(if b { "true" } else { "false" })),
            _ => {
                self.mismatch("bool");
                return Ok(Value::Null);
            }
        }
        Ok(Value::Bool(b))
    }
    fn visit_i64<E: Error>(mut self, n: i64) -> Result<Value, E> {
        Ok(self.integer(n.into()))
    }
    fn visit_u64<E: Error>(mut self, n: u64) -> Result<Value, E> {
        Ok(self.integer(n.into()))
    }
    fn visit_f64<E: Error>(mut self, n: f64) -> Result<Value, E> {
        Ok(Number::from_f64(n).map_or(Value::Null, |n| self.number(n)))
    }
    fn visit_str<E: Error>(mut self, s: &str) -> Result<Value, E> {
        Ok(self.string(s.to_string()))
    }
    fn visit_string<E: Error>(mut self, s: String) -> Result<Value, E> {
        Ok(self.string(s))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Value, A::Error> {
        let any = Type::Any;
        let text = Type::String;
        let schema = asset_ref(SCHEMA_PROPS).map_or(Type::Any, Type::Ref);
        let item = match self.ty() {
            Some(Type::Array(t)) => t,
            Some(Type::SchemaOrArray) => &schema,
            Some(Type::SchemaOrStrings) => &text,
            Some(Type::Any | Type::RawObject | Type::Fields) => &any,
            _ if self.lenient() => &any,
            _ => {
                match self.ty() {
                    Some(Type::Quantity) => drop(self.quantity("[")),
                    _ => self.mismatch("array"),
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Value::Null);
            }
        };
        let mut out = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(1024));
        let mut i = 0;
        let path = self.path;
        loop {
            let here = path.push(Step::Index(i));
            let Some(v) = seq.next_element_seed(self.value(item, &here))? else { break };
            out.push(if v.is_null() && !self.lenient() { zero(item) } else { v });
            i += 1;
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let any = Type::Any;
        let schema = match self.ty() {
            Some(Type::SchemaOrArray | Type::SchemaOrBool | Type::SchemaOrStrings) => asset_ref(SCHEMA_PROPS),
            _ => None,
        };
        let (def, item): (Option<&Definition>, &Type) = match &self.target {
            Target::Struct(def) => (Some(def), &any),
            Target::Type(Type::Map(t)) => (None, t),
            Target::Type(Type::Any | Type::RawObject | Type::Fields) => (None, &any),
            Target::Type(_) if schema.is_some() => (schema.map(|s| s.get()), &any),
            Target::Type(_) if self.owner.custom => (None, &any),
            Target::Type(_) => {
                match self.ty() {
                    Some(Type::Quantity) => drop(self.quantity("{")),
                    _ => self.mismatch("object"),
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                return Ok(Value::Null);
            }
        };
        let mut out = Map::new();
        // Inside free JSON nothing is known about fields, but in built-in kinds duplicates are not looked for either.
        let free = def.is_none() && matches!(self.ty(), Some(Type::RawObject | Type::Fields | Type::Any));
        let watch_duplicates = !free || self.owner.custom;
        if let Some(def) = def {
            self.owner = def;
        }
        let path = self.path;
        // Nulls in structs vanish, so duplicates are found by their own list only for those.
        let mut nulls: Vec<String> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let ty = match def {
                None => item,
                Some(def) => match (def.field(&key), &def.additional) {
                    (Some(f), _) => &f.ty,
                    (None, Some(t)) => t,
                    (None, None) if def.preserve_unknown => &any,
                    (None, None) => {
                        map.next_value::<IgnoredAny>()?;
                        self.cx.note(format!("unknown field {:?}", path.full(&key)));
                        continue;
                    }
                },
            };
            if watch_duplicates && (out.contains_key(&key) || nulls.contains(&key)) {
                self.cx.note(format!("duplicate field {:?}", path.full(&key)));
            }
            let here = path.push(if def.is_some() { Step::Field(&key) } else { Step::Key(&key) });
            let v = map.next_value_seed(self.value(ty, &here))?;
            let keep_null = free || def.is_some_and(|d| d.custom) || self.owner.custom;
            match (v.is_null(), def.is_some()) {
                (true, _) if keep_null => out.insert(key, Value::Null),
                (true, true) => {
                    nulls.push(key);
                    None
                }
                (true, false) => out.insert(key, zero(item)),
                (false, _) => out.insert(key, v),
            };
        }
        Ok(Value::Object(out))
    }
}
