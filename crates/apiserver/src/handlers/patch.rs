//! PATCH of the four kinds. A patch starts from the current object each time, so a lost race is tried again unseen; only
//! a resourceVersion inside the patch makes it conditional.

use api::decode::FieldValidation;
use api::validation::go_json;
use api::{Cause, Status};
use http::StatusCode;
use serde_json::Value;

use super::update::{Rules, update};
use super::write::Write;
use super::{Target, decode, duplicates, managed, meta, output};
use crate::body::Reply;
use crate::call::Call;
use crate::negotiate::{PatchType, patch_type};
use crate::server::ApiServer;

fn options_invalid(field: &str, reason: &str, message: &str) -> Status {
    Status::invalid(
        "meta.k8s.io",
        "PatchOptions",
        "",
        vec![Cause { reason: reason.into(), message: message.into(), field: field.into() }],
    )
}

/// What a patch does to a document, parsed once.
pub enum Patch {
    Json(patch::JsonPatch),
    Merge(Value),
    Strategic(Value),
    Apply { body: Value, force: bool },
}

pub fn failed(target: &Target, name: &str, e: patch::Error) -> Status {
    let _ = name;
    let s: Status = crate::adapt::patch_error(&target.kind, name, e);
    s
}

impl Patch {
    pub fn parse(call: &Call, target: &Target) -> Result<Self, Status> {
        let kind = patch_type(&call.headers)?;
        let force = call.query.get("force").map(crate::request_info::truthy);
        if kind != PatchType::Apply && force.is_some() {
            return Err(options_invalid(
                "force",
                "FieldValueForbidden",
                "Forbidden: may not be specified for non-apply patch",
            ));
        }
        if kind == PatchType::Strategic && target.kind.custom {
            return Err(Status::new(
                api::Reason::UnsupportedMediaType,
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            ));
        }
        if kind == PatchType::Apply {
            if call.query.get("fieldManager").unwrap_or_default().is_empty() {
                return Err(options_invalid(
                    "fieldManager",
                    "FieldValueRequired",
                    "Required value: is required for apply patch",
                ));
            }
            return Ok(Patch::Apply { body: decode::apply_body(call)?, force: force.unwrap_or(false) });
        }
        let v: Value =
            serde_json::from_slice(&call.body).map_err(|_| Status::bad_request("invalid JSON patch"))?;
        Ok(match kind {
            PatchType::Json => {
                Patch::Json(patch::JsonPatch::from_value(&v).map_err(|e| failed(target, call.name(), e))?)
            }
            PatchType::Merge => {
                Patch::Merge(map(v).map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?)
            }
            _ => Patch::Strategic(map(v).map_err(Status::bad_request)?),
        })
    }

    /// What strict validation has to say about the patch itself.
    fn noted(&self, call: &Call) -> Result<Vec<String>, Status> {
        Ok(match self {
            _ if decode::field_validation(call)? == FieldValidation::Ignore => Vec::new(),
            Patch::Json(p) => p.unknown_fields.clone(),
            Patch::Merge(_) | Patch::Strategic(_) => duplicates::in_json(&call.body),
            Patch::Apply { .. } => Vec::new(),
        })
    }

    /// The patched document, in the same version as `doc`. Not for Apply.
    pub fn on(&self, target: &Target, name: &str, doc: &Value) -> Result<Value, Status> {
        let r = match self {
            Patch::Json(p) => p.apply(doc.clone()),
            Patch::Merge(p) => patch::merge_patch(doc, p),
            Patch::Strategic(p) => match target.served().and_then(|v| v.schema.definition()) {
                Some(d) => patch::strategic::apply(doc, p, patch::Type::of(d)),
                None => return Err(Status::internal(format!("no schema for {}", target.kind.kind))),
            },
            Patch::Apply { .. } => return Err(Status::internal("apply is no plain patch")),
        };
        r.map_err(|e| failed(target, name, e))
    }
}

/// The body of a merge; null is nothing to merge, which the patch library refuses.
fn map(v: Value) -> Result<Value, String> {
    match v {
        Value::Object(_) | Value::Null => Ok(v),
        other => Err(go_json::mismatch(&other, "map[string]interface {}")),
    }
}

pub async fn handle(s: &ApiServer, call: &Call, target: &Target, sub: &str) -> Result<Reply, Status> {
    output::Wanted::of(call, target)?;
    let w = Write::new(s, call, target, sub)?;
    let p = Patch::parse(call, target)?;
    let name = call.name();
    let (o, created) = match &p {
        Patch::Apply { body, force } => {
            let rules = Rules { upsert: sub.is_empty(), owns_fields: true, unconditional: true };
            update(&w, rules, &mut managed::Apply::new(&w, body, *force)?).await?
        }
        _ => {
            let rules = Rules { unconditional: true, ..Rules::default() };
            let noted = p.noted(call)?;
            update(&w, rules, &mut |old: Option<&Value>| {
                let mut doc = old.cloned().ok_or_else(|| target.not_found(name))?;
                decode::from_hub(target, &mut doc)?;
                let out = p.on(target, name, &doc)?;
                let typed = matches!(p, Patch::Strategic(_));
                let shown = || match &p {
                    Patch::Strategic(m) => patch::go_text(m),
                    _ => p.on(target, name, &doc).map(|v| v.to_string()).unwrap_or_default(),
                };
                let mut v = decode::patched(call, target, out, &noted, typed, shown)?;
                let namespace = call.namespace_or_own(target);
                meta::agree(&mut v, target, namespace, name)?;
                decode::to_hub(target, &mut v)?;
                Ok(v)
            })
            .await?
        }
    };
    output::object(s, call, target, o, if created { StatusCode::CREATED } else { StatusCode::OK }).await
}
