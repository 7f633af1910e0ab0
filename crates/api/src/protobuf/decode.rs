//! Protobuf messages into JSON. Unknown fields are skipped, as proto2 asks.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Number, Value};

use super::asset::{Field, Message, Shape, Type, schema_props};
use super::wire::{self, Reader};
use super::{MAGIC, ProtobufError, Result};
use crate::time;

/// Schemas of custom resources nest; nothing honest nests deeper than this.
const MAX_DEPTH: usize = 100;

pub(super) fn message(m: &Message, data: &[u8], o: &mut Map<String, Value>, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::TooDeep);
    }
    let mut r = Reader::new(data);
    while let Some((number, v)) = r.next()? {
        // Numbers come in ascending order from every encoder, so the lookup by halves is cheap enough.
        let Ok(i) = m.fields.binary_search_by_key(&number, |f| f.number) else { continue };
        if let Some(f) = m.fields.get(i) {
            field(f, v, o, depth)?;
        }
    }
    Ok(())
}

fn field(f: &Field, v: wire::Field<'_>, o: &mut Map<String, Value>, depth: usize) -> Result<()> {
    match (f.shape, f.ty) {
        (Shape::Inline, Type::Message(m)) => message(m.get(), v.bytes()?, o, depth + 1)?,
        (Shape::Inline, _) => {}
        (Shape::Repeated, ty) => {
            let list = o.entry(f.name).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(list) = list else { return Ok(()) };
            match (ty, v) {
                // Packed numbers.
                (Type::Int32 | Type::Int64 | Type::Bool, wire::Field::Bytes(b)) => {
                    let mut r = Reader::new(b);
                    while !r.is_empty() {
                        list.push(value(ty, wire::Field::Varint(r.varint()?), depth)?);
                    }
                }
                _ => list.push(value(ty, v, depth)?),
            }
        }
        (Shape::Map, ty) => {
            let mut r = Reader::new(v.bytes()?);
            let (mut key, mut entry) = (String::new(), None);
            while let Some((number, v)) = r.next()? {
                match number {
                    1 => key = v.text()?.to_string(),
                    2 => entry = Some(value(ty, v, depth)?),
                    _ => {}
                }
            }
            let entry = match entry {
                Some(e) => e,
                None => value(ty, wire::Field::Bytes(&[]), depth)?,
            };
            if let Value::Object(map) = o.entry(f.name).or_insert_with(|| Value::Object(Map::new())) {
                map.insert(key, entry);
            }
        }
        (Shape::One, ty) => {
            // A message that comes in parts is merged.
            if let (Type::Message(m), Some(Value::Object(have))) = (ty, o.get_mut(f.name)) {
                return message(m.get(), v.bytes()?, have, depth + 1);
            }
            let v = value(ty, v, depth)?;
            o.insert(f.name.to_string(), v);
        }
    }
    Ok(())
}

/// First text and numbers of a small message, by field number below 4.
fn small<'a>(data: &'a [u8]) -> Result<[Option<wire::Field<'a>>; 4]> {
    let mut out = [None; 4];
    let mut r = Reader::new(data);
    while let Some((number, v)) = r.next()? {
        if let Some(slot) = out.get_mut(number as usize) {
            *slot = Some(v);
        }
    }
    Ok(out)
}

fn value(ty: Type, v: wire::Field<'_>, depth: usize) -> Result<Value> {
    Ok(match ty {
        Type::Text => Value::String(v.text()?.to_string()),
        Type::Int32 => Value::from(v.int()? as i32),
        Type::Int64 => Value::from(v.int()?),
        Type::Bool => Value::Bool(v.int()? != 0),
        Type::Double => {
            let d = v.double()?;
            if d.fract() == 0.0 && d.abs() < 1e15 {
                Value::from(d as i64)
            } else {
                Number::from_f64(d).map_or(Value::Null, Value::Number)
            }
        }
        Type::Bytes => Value::String(STANDARD.encode(v.bytes()?)),
        Type::Quantity => {
            let [_, s, ..] = small(v.bytes()?)?;
            let s = s.map(wire::Field::text).transpose()?.filter(|s| !s.is_empty());
            Value::String(s.unwrap_or("0").to_string())
        }
        Type::IntOrString => {
            let [_, kind, number, string] = small(v.bytes()?)?;
            match kind.map(wire::Field::int).transpose()? {
                Some(1) => {
                    Value::String(string.map(wire::Field::text).transpose()?.unwrap_or_default().to_string())
                }
                _ => Value::from(number.map(wire::Field::int).transpose()?.unwrap_or(0) as i32),
            }
        }
        Type::Time | Type::MicroTime => {
            let data = v.bytes()?;
            if data.is_empty() {
                return Ok(Value::Null);
            }
            let [_, seconds, nanos, _] = small(data)?;
            let seconds = seconds.map(wire::Field::int).transpose()?.unwrap_or(0);
            let nanos = nanos.map(wire::Field::int).transpose()?.unwrap_or(0).clamp(0, 999_999_999);
            let micro = matches!(ty, Type::MicroTime);
            let nanos = if micro { i32::try_from(nanos).unwrap_or(0) } else { 0 };
            let t = Timestamp::from_second(seconds)
                .and_then(|t| t.checked_add(jiff::SignedDuration::new(0, nanos)))
                .map_err(|_| ProtobufError::Invalid("a time is out of range"))?;
            Value::String(if micro { time::format_micro(t) } else { time::format(t) })
        }
        Type::Duration => {
            let [_, nanos, ..] = small(v.bytes()?)?;
            Value::String(time::go_duration(nanos.map(wire::Field::int).transpose()?.unwrap_or(0)))
        }
        Type::Raw => {
            let [_, raw, ..] = small(v.bytes()?)?;
            let raw = raw.map(wire::Field::bytes).transpose()?.unwrap_or_default();
            if raw.is_empty() {
                return Ok(Value::Null);
            }
            if raw.starts_with(MAGIC) {
                return super::decode_at(raw, None, depth + 1);
            }
            serde_json::from_slice(raw).map_err(|e| ProtobufError::Embedded(e.to_string()))?
        }
        Type::SchemaOrArray | Type::SchemaOrBool | Type::SchemaOrStrings => schema(ty, v.bytes()?, depth)?,
        Type::Message(m) => {
            let m = m.get();
            let mut o = Map::new();
            message(m, v.bytes()?, &mut o, depth + 1)?;
            if m.wrapper {
                return Ok(o.remove("items").unwrap_or_else(|| Value::Array(Vec::new())));
            }
            Value::Object(o)
        }
    })
}

fn schema(ty: Type, data: &[u8], depth: usize) -> Result<Value> {
    let props = schema_props().ok_or(ProtobufError::Invalid("no schema message"))?;
    let (mut list, mut one, mut allows) = (Vec::new(), None, false);
    let mut r = Reader::new(data);
    while let Some((number, v)) = r.next()? {
        match (ty, number) {
            (Type::SchemaOrBool, 1) => allows = v.int()? != 0,
            (Type::SchemaOrStrings, 2) => list.push(Value::String(v.text()?.to_string())),
            (Type::SchemaOrArray, 2) => list.push(value(Type::Message(props), v, depth)?),
            (Type::SchemaOrBool, 2) | (_, 1) => one = Some(value(Type::Message(props), v, depth)?),
            _ => {}
        }
    }
    Ok(match (ty, one) {
        (_, Some(s)) => s,
        (Type::SchemaOrBool, None) => Value::Bool(allows),
        _ => Value::Array(list),
    })
}
