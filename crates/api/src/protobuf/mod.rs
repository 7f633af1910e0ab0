//! JSON to protobuf and back for all built-in kinds, by the field numbers in `data/protobuf.txt`, with the `k8s\0`
//! envelope (runtime.Unknown) around objects. Pure transcoding: defaults, checks and canonical form are other
//! modules' work, so a decoded body goes through `decode::decode_converted` next.

mod asset;
mod decode;
mod encode;
pub(crate) mod wire;

use serde_json::{Map, Value};

use crate::catalog::api_version;
use asset::MessageRef;

/// What every protobuf object starts with.
pub const MAGIC: &[u8; 4] = b"k8s\0";
pub const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoMagic,
    #[error("no protobuf message is known for {0}")]
    UnknownKind(String),
    #[error("protobuf message ends too early")]
    Truncated,
    #[error("protobuf message is invalid: {0}")]
    Invalid(&'static str),
    #[error("protobuf message is nested too deeply")]
    TooDeep,
    #[error("embedded object cannot be read: {0}")]
    Embedded(String),
}

type Result<T> = std::result::Result<T, ProtobufError>;

fn unknown(group: &str, version: &str, kind: &str) -> ProtobufError {
    ProtobufError::UnknownKind(format!("{kind} in {}", api_version(group, version)))
}

fn split(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// True when a kind can travel as protobuf. Custom resources cannot.
pub fn supports(group: &str, version: &str, kind: &str) -> bool {
    asset::message_for(group, version, kind).is_some()
}

/// An object or list, with its apiVersion and kind, into an enveloped message.
pub fn encode(v: &Value) -> Result<Vec<u8>> {
    let text = |k: &str| v.get(k).and_then(Value::as_str).unwrap_or_default();
    let (api, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = split(api);
    let message = asset::message_for(group, version, kind).ok_or_else(|| unknown(group, version, kind))?;
    let body = encode::message(message.get(), v.as_object().ok_or(ProtobufError::Invalid("no object"))?)?;
    Ok(envelope(api, kind, &body))
}

/// Puts the envelope around a message.
fn envelope(api_version: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let mut meta = Vec::with_capacity(api_version.len() + kind.len() + 4);
    wire::bytes(&mut meta, 1, api_version.as_bytes());
    wire::bytes(&mut meta, 2, kind.as_bytes());
    let mut out = Vec::with_capacity(body.len() + meta.len() + 24);
    out.extend_from_slice(MAGIC);
    wire::bytes(&mut out, 1, &meta);
    wire::bytes(&mut out, 2, body);
    wire::bytes(&mut out, 3, b"");
    wire::bytes(&mut out, 4, b"");
    out
}

/// What the envelope holds.
struct Unknown<'a> {
    api_version: &'a str,
    kind: &'a str,
    raw: &'a [u8],
}

fn open(data: &[u8]) -> Result<Unknown<'_>> {
    let body = data.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?;
    let mut out = Unknown { api_version: "", kind: "", raw: &[] };
    let mut r = wire::Reader::new(body);
    while let Some((number, value)) = r.next()? {
        match number {
            1 => {
                let mut meta = wire::Reader::new(value.bytes()?);
                while let Some((number, value)) = meta.next()? {
                    match number {
                        1 => out.api_version = value.text()?,
                        2 => out.kind = value.text()?,
                        _ => {}
                    }
                }
            }
            2 => out.raw = value.bytes()?,
            _ => {}
        }
    }
    Ok(out)
}

fn object(message: MessageRef, api_version: &str, kind: &str, raw: &[u8], depth: usize) -> Result<Value> {
    let mut o = Map::new();
    decode::message(message.get(), raw, &mut o, depth)?;
    o.insert("apiVersion".into(), Value::String(api_version.to_string()));
    o.insert("kind".into(), Value::String(kind.to_string()));
    Ok(Value::Object(o))
}

/// An enveloped message into JSON with apiVersion and kind.
pub fn decode(data: &[u8]) -> Result<Value> {
    decode_at(data, None, 0)
}

/// The same; a body that does not name its type is taken for the given one.
pub fn decode_as(data: &[u8], group: &str, version: &str, kind: &str) -> Result<Value> {
    decode_at(data, Some((&api_version(group, version), kind)), 0)
}

fn decode_at(data: &[u8], fallback: Option<(&str, &str)>, depth: usize) -> Result<Value> {
    let u = open(data)?;
    let (fallback_api, fallback_kind) = fallback.unwrap_or_default();
    let pick = |own: &str, other: &str| if own.is_empty() { other.to_string() } else { own.to_string() };
    let (api, kind) = (pick(u.api_version, fallback_api), pick(u.kind, fallback_kind));
    let (group, version) = split(&api);
    let message = asset::message_for(group, version, &kind).ok_or_else(|| unknown(group, version, &kind))?;
    object(message, &api, &kind, u.raw, depth)
}

/// One frame of a protobuf watch: length, then a bare WatchEvent whose object is `object`, already enveloped.
pub fn watch_frame(kind: &str, object: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(object.len() + 8);
    wire::bytes(&mut raw, 1, object);
    let mut event = Vec::with_capacity(raw.len() + 24);
    wire::bytes(&mut event, 1, kind.as_bytes());
    wire::bytes(&mut event, 2, &raw);
    let mut out = Vec::with_capacity(event.len() + 4);
    out.extend_from_slice(&u32::try_from(event.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&event);
    out
}

#[cfg(test)]
mod tests;
