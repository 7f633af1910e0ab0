//! Bodies: from bytes to a defaulted object in the stored version.

use api::Status;
use api::decode::{Expect, FieldValidation, decode_converted, unrecognized};
use serde_json::Value;

use super::{Target, duplicates};
use crate::adapt;
use crate::call::Call;
use crate::negotiate::{Encoding, body_encoding};

/// What strict validation puts before the faults that it finds in YAML.
const YAML_STRICT: &str = "yaml: unmarshal errors:\n  ";

pub fn field_validation(call: &Call) -> Result<FieldValidation, Status> {
    let v = call.query.get("fieldValidation").unwrap_or_default();
    FieldValidation::parse(v).ok_or_else(|| {
        Status::invalid(
            "meta.k8s.io",
            call.options_kind(),
            "",
            vec![api::Cause {
                reason: "FieldValueNotSupported".into(),
                message: format!(
                    "Unsupported value: {v:?}: supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
                ),
                field: "fieldValidation".into(),
            }],
        )
    })
}

/// YAML as JSON; the fault in the words of upstream's parser.
fn yaml(body: &[u8]) -> Result<Value, String> {
    serde_norway::from_slice(body).map_err(|e| {
        let text = e.to_string();
        let what = text
            .split(" at line ")
            .next()
            .unwrap_or_default()
            .trim_end_matches(", while scanning for the next token");
        match e.location() {
            Some(l) => format!("yaml: line {}: {what}", l.line()),
            None => format!("yaml: {what}"),
        }
    })
}

/// What a body for this target must be.
fn expect(target: &Target) -> Result<Expect<'_>, Status> {
    let definition = target
        .served()
        .and_then(|v| v.schema.definition())
        .ok_or_else(|| Status::internal(format!("no schema for {}", target.kind.kind)))?;
    Ok(Expect { group: &target.kind.group, version: &target.version, kind: &target.kind.kind, definition })
}

/// A body that should be an object of the target's kind, in the target's version, not yet defaulted.
pub fn object(call: &Call, target: &Target) -> Result<Value, Status> {
    let mode = field_validation(call)?;
    let encoding = body_encoding(&call.headers)?;
    let expect = expect(target)?;
    let d = match encoding {
        Encoding::Json => api::decode::decode(&call.body, expect, mode)?,
        Encoding::Yaml => {
            let v = yaml(&call.body).map_err(|why| unrecognized(&call.body, expect, &why))?;
            let noted = if mode == FieldValidation::Ignore { None } else { duplicates::in_yaml(&call.body) };
            let noted =
                noted.map(|n| if mode == FieldValidation::Strict { format!("{YAML_STRICT}{n}") } else { n });
            decode_converted(v, noted.into_iter().collect(), &call.body, expect, mode)?
        }
        Encoding::Protobuf => {
            let v = api::protobuf::decode_as(&call.body, expect.group, expect.version, expect.kind)
                .map_err(|e| unrecognized(&call.body, expect, &e.to_string()))?;
            decode_converted(v, Vec::new(), &call.body, expect, mode)?
        }
    };
    d.warnings.into_iter().for_each(|w| call.warnings.add(w));
    Ok(d.value)
}

/// The result of a patch, checked like a body. `noted`, `typed` and `shown` as in `decode_patched`.
pub fn patched(
    call: &Call,
    target: &Target,
    v: Value,
    noted: &[String],
    typed: bool,
    shown: impl FnOnce() -> String,
) -> Result<Value, Status> {
    let mode = field_validation(call)?;
    let d = api::decode::decode_patched(v, noted.to_vec(), expect(target)?, mode, typed, shown)?;
    d.warnings.into_iter().for_each(|w| call.warnings.add(w));
    Ok(d.value)
}

/// A body of a kind that is not the target's (Scale, Binding, options); unknown fields are ignored.
pub fn loose(call: &Call) -> Result<Value, Status> {
    if call.body.is_empty() {
        return Ok(Value::Null);
    }
    let bad = |why: String| Status::bad_request(format!("the object provided is unrecognized: {why}"));
    match body_encoding(&call.headers)? {
        Encoding::Json => serde_json::from_slice(&call.body).map_err(|e| {
            Status::bad_request(format!(
                "couldn't get version/kind; json parse error: {}",
                api::decode::json_error(&call.body, &e)
            ))
        }),
        Encoding::Yaml => yaml(&call.body).map_err(bad),
        Encoding::Protobuf => api::protobuf::decode(&call.body).map_err(|e| bad(e.to_string())),
    }
}

/// Defaults, then the stored version.
pub fn to_hub(target: &Target, v: &mut Value) -> Result<(), Status> {
    adapt::default(&target.kind, &target.version, v);
    target.kind.to_hub(&target.version, v).map_err(|e| Status::bad_request(e.to_string()))
}

/// The stored form as the target's version.
pub fn from_hub(target: &Target, v: &mut Value) -> Result<(), Status> {
    target.kind.from_hub(&target.version, v).map_err(Status::internal)
}

/// An apply's body: YAML, which holds JSON.
pub fn apply_body(call: &Call) -> Result<Value, Status> {
    let v = yaml(&call.body).map_err(|why| Status::bad_request(format!("error encoding patch: {why}")))?;
    match field_validation(call)? {
        FieldValidation::Ignore => {}
        mode => match (duplicates::in_yaml(&call.body), mode) {
            (Some(n), FieldValidation::Strict) => {
                return Err(Status::bad_request(format!(
                    "error strict decoding patch: error converting YAML to JSON: {YAML_STRICT}{n}"
                )));
            }
            (Some(n), _) => call.warnings.add(n),
            (None, _) => {}
        },
    }
    Ok(v)
}
