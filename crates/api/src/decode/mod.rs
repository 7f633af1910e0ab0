//! Request bodies into values, as Go's typed decoder would: unknown fields fall out, scalars are checked and brought
//! into canonical text, duplicate and unknown fields are reported in document order. One pass, no intermediate tree.

mod path;
mod seed;

use serde::de::{DeserializeSeed, IntoDeserializer};
use serde_json::Value;

use crate::Status;
use crate::catalog::api_version;
use crate::schema::Definition;
use path::Path;
use seed::{Context, StructSeed};

/// The `fieldValidation` query parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

impl FieldValidation {
    /// From the query parameter; empty is the server's default, Warn.
    pub fn parse(s: &str) -> Option<Self> {
        Some(match s {
            "" | "Warn" => Self::Warn,
            "Ignore" => Self::Ignore,
            "Strict" => Self::Strict,
            _ => return None,
        })
    }
}

/// What kind of body is expected.
#[derive(Clone, Copy)]
pub struct Expect<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    pub definition: &'a Definition,
}

/// A decoded body.
#[derive(Debug)]
pub struct Decoded {
    pub value: Value,
    /// Texts for Warning headers (`unknown field "spec.foo"`), empty unless the mode is Warn.
    pub warnings: Vec<String>,
}

/// Decodes a JSON body.
pub fn decode(body: &[u8], expect: Expect<'_>, mode: FieldValidation) -> Result<Decoded, Status> {
    let mut context = Context::default();
    let mut de = serde_json::Deserializer::from_slice(body);
    let seed = StructSeed { def: expect.definition, cx: &mut context, path: &Path::ROOT };
    let parsed = seed.deserialize(&mut de).and_then(|v| de.end().map(|()| v));
    match parsed {
        Ok(v) => finish(v, context, expect, mode),
        Err(e) => Err(unrecognized(body, expect, &e)),
    }
}

/// Decodes a value that is already parsed: the result of a patch, or of a conversion from YAML.
pub fn decode_value(value: Value, expect: Expect<'_>, mode: FieldValidation) -> Result<Decoded, Status> {
    let mut context = Context::default();
    let seed = StructSeed { def: expect.definition, cx: &mut context, path: &Path::ROOT };
    let de: Value = value.into_deserializer();
    match seed.deserialize(de) {
        Ok(v) => finish(v, context, expect, mode),
        Err(e) => Err(Status::bad_request(e.to_string())),
    }
}

fn finish(v: Value, cx: Context, expect: Expect<'_>, mode: FieldValidation) -> Result<Decoded, Status> {
    let wanted = api_version(expect.group, expect.version);
    let text = |key: &str| v.get(key).and_then(Value::as_str).filter(|s| !s.is_empty());
    let (got_version, got_kind) = (text("apiVersion"), text("kind"));
    if let Some(got) = got_version.filter(|g| *g != wanted) {
        return Err(Status::bad_request(format!(
            "the API version in the data ({got}) does not match the expected API version ({wanted})"
        )));
    }
    let cannot = |why: &str| {
        let kind = got_kind.unwrap_or(expect.kind);
        let (version, wanted) = (expect.version, expect.kind);
        Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {wanted}: {why}"))
    };
    if let Some(got) = got_kind.filter(|k| *k != expect.kind) {
        return Err(cannot(&format!("the data holds a {got}, not a {}", expect.kind)));
    }
    if !v.is_object() {
        return Err(cannot(cx.error.as_deref().unwrap_or("the data is no JSON object")));
    }
    if let Some(e) = &cx.error {
        return Err(cannot(e));
    }
    let mut strict = cx.into_strict(expect.definition.custom);
    if mode == FieldValidation::Strict && !strict.is_empty() {
        return Err(cannot(&format!("strict decoding error: {}", strict.join(", "))));
    }
    if mode == FieldValidation::Ignore {
        strict.clear();
    }
    let mut v = v;
    if let Some(o) = v.as_object_mut() {
        o.insert("apiVersion".into(), Value::String(wanted));
        o.insert("kind".into(), Value::String(expect.kind.to_string()));
    }
    Ok(Decoded { value: v, warnings: strict })
}

fn unrecognized(body: &[u8], expect: Expect<'_>, e: &serde_json::Error) -> Status {
    let head: Vec<u8> = body.iter().copied().take(30).collect();
    let mut summary = match head.first() {
        None => "<empty>".to_string(),
        Some(b'{') => String::from_utf8_lossy(&head).into_owned(),
        Some(_) => head.iter().map(|b| format!("{b:02x}")).collect(),
    };
    if body.len() > 30 {
        summary.push_str(" ...");
    }
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error: {e} \
         ({summary})",
        expect.kind
    ))
}

#[cfg(test)]
mod tests;
