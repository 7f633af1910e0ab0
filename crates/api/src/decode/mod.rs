//! Request bodies into values, as Go's typed decoder would: unknown fields fall out, scalars are checked and brought
//! into canonical text, duplicate and unknown fields are reported in document order. One pass, no intermediate tree.

mod path;
mod seed;
pub mod syntax;

use serde::de::{DeserializeSeed, IntoDeserializer};
use serde_json::{Map, Value};

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

/// Why a value is no object of the kind.
enum Refusal {
    /// It is of another version or kind, or no object at all; worded already.
    Status(Status),
    /// Upstream's own words for a field that does not fit.
    Field(String),
}

/// Decodes a JSON body.
pub fn decode(body: &[u8], expect: Expect<'_>, mode: FieldValidation) -> Result<Decoded, Status> {
    let mut context = Context::default();
    let mut de = serde_json::Deserializer::from_slice(body);
    let seed = StructSeed { def: expect.definition, cx: &mut context, path: &Path::ROOT };
    let parsed = seed.deserialize(&mut de).and_then(|v| de.end().map(|()| v));
    match parsed {
        Ok(v) => finish(v, context, expect, mode, body),
        Err(e) => {
            let why = json_error(body, &e);
            Err(unrecognized(body, expect, &format!("couldn't get version/kind; json parse error: {why}")))
        }
    }
}

/// What is wrong with a text that could not be parsed as JSON, as Go words it.
pub fn json_error(text: &[u8], e: &serde_json::Error) -> String {
    match syntax::error(text) {
        Some(s) => s,
        None if e.to_string().starts_with("recursion limit") => "exceeded max depth".into(),
        None => e.to_string(),
    }
}

/// Decodes a value that is already parsed.
pub fn decode_value(value: Value, expect: Expect<'_>, mode: FieldValidation) -> Result<Decoded, Status> {
    decode_converted(value, Vec::new(), b"", expect, mode)
}

/// Decodes a value that is already parsed out of `body`, which was YAML or protobuf. `noted` is what strict validation
/// has found before.
pub fn decode_converted(
    value: Value,
    noted: Vec<String>,
    body: &[u8],
    expect: Expect<'_>,
    mode: FieldValidation,
) -> Result<Decoded, Status> {
    let mut context = Context::default();
    context.note_all(noted);
    match walk(value, &mut context, expect) {
        Ok(v) => finish(v, context, expect, mode, body),
        Err(e) => Err(Status::bad_request(e.to_string())),
    }
}

/// Decodes the outcome of a patch: what does not fit is the patch's fault. `noted` is what strict validation has found in
/// the patch, `shown` tells what was patched in, `typed` says that the document went from map to struct without JSON
/// between, whose faults are worded differently.
pub fn decode_patched(
    value: Value,
    noted: Vec<String>,
    expect: Expect<'_>,
    mode: FieldValidation,
    typed: bool,
    shown: impl FnOnce() -> String,
) -> Result<Decoded, Status> {
    let mut context = Context::default();
    context.from_map = typed;
    context.note_all(noted);
    let refusal = match walk(value, &mut context, expect) {
        Ok(v) => match judge(v, context, expect, mode, &[]) {
            Ok(d) => return Ok(d),
            Err(r) => r,
        },
        Err(e) => Refusal::Field(e.to_string()),
    };
    Err(match refusal {
        Refusal::Status(s) => s,
        Refusal::Field(why) => Status::invalid(
            "",
            "",
            "",
            vec![crate::status::Cause {
                reason: "FieldValueInvalid".into(),
                message: format!("Invalid value: {:?}: {why}", shown()),
                field: "patch".into(),
            }],
        ),
    })
}

fn walk(value: Value, cx: &mut Context, expect: Expect<'_>) -> Result<Value, serde_json::Error> {
    let seed = StructSeed { def: expect.definition, cx, path: &Path::ROOT };
    let de: Value = value.into_deserializer();
    seed.deserialize(de)
}

fn finish(
    v: Value,
    cx: Context,
    expect: Expect<'_>,
    mode: FieldValidation,
    body: &[u8],
) -> Result<Decoded, Status> {
    let kind =
        v.get("kind").and_then(Value::as_str).filter(|s| !s.is_empty()).unwrap_or(expect.kind).to_owned();
    judge(v, cx, expect, mode, body).map_err(|r| match r {
        Refusal::Status(s) => s,
        Refusal::Field(why) => cannot(&kind, expect.version, expect, &why),
    })
}

fn cannot(kind: &str, version: &str, expect: Expect<'_>, why: &str) -> Status {
    Status::bad_request(format!(
        "{kind} in version \"{version}\" cannot be handled as a {}: {why}",
        expect.kind
    ))
}

/// Go's name of a group's package.
fn package(group: &str) -> &str {
    match group.split('.').next().unwrap_or_default() {
        "" => "core",
        g => g,
    }
}

/// Why an object of this type cannot stand where `expect` is wanted.
fn other_type(api: &str, kind: &str, expect: Expect<'_>) -> Status {
    let wanted = api_version(expect.group, expect.version);
    let (group, version) = api.split_once('/').unwrap_or(("", api));
    let versions = || {
        Status::bad_request(format!(
            "the API version in the data ({api}) does not match the expected API version ({wanted})"
        ))
    };
    if expect.definition.custom {
        return if api == wanted {
            cannot(kind, version, expect, &format!("the data holds a {kind}"))
        } else {
            versions()
        };
    }
    if crate::schema::definition_for(group, version, kind).is_none() {
        return cannot(
            kind,
            version,
            expect,
            &format!(
                "no kind {kind:?} is registered for version {api:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
            ),
        );
    }
    if kind == expect.kind && group == expect.group {
        return versions();
    }
    let (from, to) = (format!("{version}.{kind}"), format!("{}.{}", package(expect.group), expect.kind));
    cannot(kind, version, expect, &format!("converting ({from}) to ({to}): unknown conversion"))
}

const NO_OBJECT: &str = r#"Go value of type struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;

fn judge(
    v: Value,
    cx: Context,
    expect: Expect<'_>,
    mode: FieldValidation,
    body: &[u8],
) -> Result<Decoded, Refusal> {
    let wanted = api_version(expect.group, expect.version);
    // Go leaves an object as it was when it reads null.
    let v = if v.is_null() && cx.top.is_none() { Value::Object(Map::new()) } else { v };
    let text = |key: &str| v.get(key).and_then(Value::as_str).filter(|s| !s.is_empty());
    let (api, kind) = (text("apiVersion").unwrap_or(&wanted), text("kind").unwrap_or(expect.kind));
    if api != wanted || kind != expect.kind {
        return Err(Refusal::Status(other_type(api, kind, expect)));
    }
    if !v.is_object() {
        let got = cx.top.unwrap_or("null");
        let why = format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {got} into {NO_OBJECT}"
        );
        return Err(Refusal::Status(unrecognized(body, expect, &why)));
    }
    if let Some(e) = cx.error {
        return Err(Refusal::Field(e));
    }
    let mut strict = cx.into_strict(expect.definition.custom);
    if mode == FieldValidation::Strict && !strict.is_empty() {
        return Err(Refusal::Field(format!("strict decoding error: {}", strict.join(", "))));
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

/// A body in which not even the kind can be made out.
pub fn unrecognized(body: &[u8], expect: Expect<'_>, why: &str) -> Status {
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
        "the object provided is unrecognized (must be of type {}): {why} ({summary})",
        expect.kind
    ))
}

#[cfg(test)]
mod tests;
