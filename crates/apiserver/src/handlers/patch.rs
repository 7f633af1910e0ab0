//! PATCH of the four kinds. A patch starts from the current object each time, so a lost race is tried again unseen; only
//! a resourceVersion inside the patch makes it conditional.

use api::{Cause, Status};
use http::StatusCode;
use serde_json::Value;

use super::update::{Rules, update};
use super::write::Write;
use super::{Target, decode, managed, output};
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
        let json = || -> Result<Value, Status> {
            serde_json::from_slice(&call.body)
                .map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))
        };
        Ok(match kind {
            PatchType::Json => {
                Patch::Json(patch::JsonPatch::parse(&call.body).map_err(|e| failed(target, call.name(), e))?)
            }
            PatchType::Merge => Patch::Merge(json()?),
            PatchType::Strategic if target.kind.custom => {
                return Err(Status::new(
                    api::Reason::UnsupportedMediaType,
                    "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
                ));
            }
            PatchType::Strategic => Patch::Strategic(json()?),
            PatchType::Apply => {
                if call.query.get("fieldManager").unwrap_or_default().is_empty() {
                    return Err(options_invalid(
                        "fieldManager",
                        "FieldValueRequired",
                        "Required value: is required for apply patch",
                    ));
                }
                Patch::Apply { body: decode::apply_body(call)?, force: force.unwrap_or(false) }
            }
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

pub async fn handle(s: &ApiServer, call: &Call, target: &Target, sub: &str) -> Result<Reply, Status> {
    output::Wanted::of(call)?;
    let w = Write::new(s, call, target, sub)?;
    let p = Patch::parse(call, target)?;
    let name = call.name();
    let (o, created) = match &p {
        Patch::Apply { body, force } => {
            let rules = Rules { upsert: sub.is_empty(), owns_fields: true, unconditional: true };
            let applied = managed::Apply::new(&w, body, *force)?;
            update(&w, rules, &mut |old| applied.on(old)).await?
        }
        _ => {
            let rules = Rules { unconditional: true, ..Rules::default() };
            update(&w, rules, &mut |old| {
                let mut doc = old.cloned().ok_or_else(|| target.not_found(name))?;
                decode::from_hub(target, &mut doc)?;
                let mut v = decode::patched(call, target, p.on(target, name, &doc)?)?;
                decode::to_hub(target, &mut v)?;
                Ok(v)
            })
            .await?
        }
    };
    output::object(call, target, o, if created { StatusCode::CREATED } else { StatusCode::OK })
}
