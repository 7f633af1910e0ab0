//! Bodies: from bytes to a defaulted object in the stored version.

use api::Status;
use api::decode::{Expect, FieldValidation};
use serde_json::Value;

use super::Target;
use crate::adapt;
use crate::call::Call;
use crate::negotiate::{Encoding, body_encoding};

pub fn field_validation(call: &Call) -> Result<FieldValidation, Status> {
    let v = call.query.get("fieldValidation").unwrap_or_default();
    FieldValidation::parse(v).ok_or_else(|| {
        Status::invalid(
            "meta.k8s.io",
            "Options",
            "",
            vec![api::Cause {
                reason: "FieldValueNotSupported".into(),
                message: format!(
                    "Unsupported value: \"{v}\": supported values: \"Ignore\", \"Strict\", \"Warn\""
                ),
                field: "fieldValidation".into(),
            }],
        )
    })
}

fn yaml(body: &[u8]) -> Result<Value, Status> {
    serde_norway::from_slice(body)
        .map_err(|e| Status::bad_request(format!("error converting YAML to JSON: {e}")))
}

fn protobuf(e: api::protobuf::ProtobufError) -> Status {
    Status::bad_request(format!("the object provided is unrecognized: {e}"))
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
        Encoding::Yaml => api::decode::decode_value(yaml(&call.body)?, expect, mode)?,
        Encoding::Protobuf => {
            let v = api::protobuf::decode_as(&call.body, expect.group, expect.version, expect.kind)
                .map_err(protobuf)?;
            api::decode::decode_value(v, expect, mode)?
        }
    };
    d.warnings.into_iter().for_each(|w| call.warnings.add(w));
    Ok(d.value)
}

/// The result of a patch, checked like a body.
pub fn patched(call: &Call, target: &Target, v: Value) -> Result<Value, Status> {
    let expect = expect(target)?;
    let d = api::decode::decode_value(v, expect, field_validation(call)?)?;
    d.warnings.into_iter().for_each(|w| call.warnings.add(w));
    Ok(d.value)
}

/// A body of a kind that is not the target's (Scale, Binding, options); unknown fields are ignored.
pub fn loose(call: &Call) -> Result<Value, Status> {
    if call.body.is_empty() {
        return Ok(Value::Null);
    }
    match body_encoding(&call.headers)? {
        Encoding::Json => serde_json::from_slice(&call.body).map_err(|e| {
            Status::bad_request(format!("the object provided is unrecognized: json parse error: {e}"))
        }),
        Encoding::Yaml => yaml(&call.body),
        Encoding::Protobuf => api::protobuf::decode(&call.body).map_err(protobuf),
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

/// A patch body, JSON unless it is an apply (YAML, which holds JSON).
pub fn apply_body(call: &Call) -> Result<Value, Status> {
    yaml(&call.body).map_err(|s| Status::bad_request(format!("error decoding YAML: {}", s.message)))
}
