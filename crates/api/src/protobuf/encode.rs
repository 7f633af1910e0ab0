//! JSON into protobuf messages. What the message has no field for is left out; values of the wrong type are errors.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::asset::{Field, Message, Shape, Type, schema_props};
use super::{ProtobufError, Result, wire};
use crate::time;

const WRONG: ProtobufError = ProtobufError::Invalid("a value has the wrong type");

pub(super) fn message(m: &Message, o: &Map<String, Value>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for f in &m.fields {
        if f.shape == Shape::Inline {
            if let Type::Message(inner) = f.ty {
                wire::bytes(&mut out, f.number, &message(inner.get(), o)?);
            }
            continue;
        }
        match o.get(f.name) {
            None | Some(Value::Null) => {}
            Some(v) => field(&mut out, f, v)?,
        }
    }
    Ok(out)
}

fn field(out: &mut Vec<u8>, f: &Field, v: &Value) -> Result<()> {
    match f.shape {
        Shape::Repeated => {
            for v in v.as_array().ok_or(WRONG)? {
                value(out, f.number, f.ty, v)?;
            }
            Ok(())
        }
        Shape::Map => {
            for (k, v) in v.as_object().ok_or(WRONG)? {
                let mut entry = Vec::new();
                wire::bytes(&mut entry, 1, k.as_bytes());
                value(&mut entry, 2, f.ty, v)?;
                wire::bytes(out, f.number, &entry);
            }
            Ok(())
        }
        _ => value(out, f.number, f.ty, v),
    }
}

fn text(v: &Value) -> Result<&str> {
    v.as_str().ok_or(WRONG)
}

fn value(out: &mut Vec<u8>, number: u32, ty: Type, v: &Value) -> Result<()> {
    let mut inner = Vec::new();
    match ty {
        Type::Text => {
            wire::bytes(out, number, v.as_str().unwrap_or_default().as_bytes());
            return Ok(());
        }
        Type::Int32 | Type::Int64 => {
            wire::int(out, number, v.as_i64().ok_or(WRONG)?);
            return Ok(());
        }
        Type::Bool => {
            wire::int(out, number, i64::from(v.as_bool().ok_or(WRONG)?));
            return Ok(());
        }
        Type::Double => {
            wire::double(out, number, v.as_f64().ok_or(WRONG)?);
            return Ok(());
        }
        Type::Bytes => {
            let raw = STANDARD.decode(v.as_str().unwrap_or_default());
            wire::bytes(out, number, &raw.map_err(|_| ProtobufError::Invalid("base64 cannot be read"))?);
            return Ok(());
        }
        Type::Quantity => match v {
            Value::Number(n) => wire::bytes(&mut inner, 1, n.to_string().as_bytes()),
            v => wire::bytes(&mut inner, 1, text(v)?.as_bytes()),
        },
        Type::IntOrString => {
            let (kind, number, string) = match v {
                Value::String(s) => (1, 0, s.as_str()),
                v => (0, v.as_i64().ok_or(WRONG)?, ""),
            };
            wire::int(&mut inner, 1, kind);
            wire::int(&mut inner, 2, number);
            wire::bytes(&mut inner, 3, string.as_bytes());
        }
        Type::Time | Type::MicroTime => {
            if !v.is_null() {
                let t = time::parse(text(v)?).map_err(|_| ProtobufError::Invalid("a time cannot be read"))?;
                let whole = t.as_second() - i64::from(t.subsec_nanosecond() < 0);
                let nanos = i64::from(t.subsec_nanosecond().rem_euclid(1_000_000_000));
                wire::int(&mut inner, 1, whole);
                wire::int(&mut inner, 2, if matches!(ty, Type::Time) { 0 } else { nanos });
            }
        }
        Type::Duration => {
            let nanos =
                time::go_nanos(text(v)?).ok_or(ProtobufError::Invalid("a duration cannot be read"))?;
            wire::int(&mut inner, 1, nanos);
        }
        Type::Raw => wire::bytes(&mut inner, 1, &serde_json::to_vec(v).unwrap_or_default()),
        Type::SchemaOrArray => match v {
            Value::Array(a) => a.iter().try_for_each(|v| schema(&mut inner, 2, v))?,
            v => schema(&mut inner, 1, v)?,
        },
        Type::SchemaOrBool => match v {
            Value::Bool(b) => wire::int(&mut inner, 1, i64::from(*b)),
            v => {
                wire::int(&mut inner, 1, 1);
                schema(&mut inner, 2, v)?;
            }
        },
        Type::SchemaOrStrings => match v {
            Value::Array(a) => {
                for s in a {
                    wire::bytes(&mut inner, 2, text(s)?.as_bytes());
                }
            }
            v => schema(&mut inner, 1, v)?,
        },
        Type::Message(m) => {
            let m = m.get();
            inner = match v {
                Value::Object(o) => message(m, o)?,
                Value::Array(a) if m.wrapper => {
                    let mut items = Vec::new();
                    for s in a {
                        wire::bytes(&mut items, 1, text(s)?.as_bytes());
                    }
                    items
                }
                Value::Null => Vec::new(),
                _ => return Err(WRONG),
            };
        }
    }
    wire::bytes(out, number, &inner);
    Ok(())
}

fn schema(out: &mut Vec<u8>, number: u32, v: &Value) -> Result<()> {
    let m = schema_props().ok_or(ProtobufError::Invalid("no schema message"))?;
    wire::bytes(out, number, &message(m.get(), v.as_object().ok_or(WRONG)?)?);
    Ok(())
}
