//! The scale subresource: an autoscaling/v1 view on `spec.replicas`.

use api::{Status, scale};
use http::StatusCode;
use serde_json::Value;

use super::update::{Rules, update as change};
use super::write::Write;
use super::{Target, decode, managed, meta, output, patch as patching};
use crate::body::Reply;
use crate::call::Call;
use crate::server::ApiServer;

fn of(target: &Target, object: &Value) -> Value {
    scale::of_object(&target.kind.kind, object)
}

pub async fn get(s: &ApiServer, call: &Call, target: &Target) -> Result<Reply, Status> {
    let o = s.storage.get(&target.key(call.namespace(), call.name())).await?;
    let o = o.ok_or_else(|| target.not_found(call.name()))?;
    output::value(call, StatusCode::OK, &of(target, &o.value().map_err(Status::internal)?))
}

/// Checks what a Scale asks for, and puts it into the object.
fn put(target: &Target, name: &str, wanted: &Value, old: &Value) -> Result<Value, Status> {
    if scale::wanted(wanted) < 0 {
        return Err(Status::invalid(
            "autoscaling",
            "Scale",
            name,
            vec![api::Cause {
                reason: "FieldValueInvalid".into(),
                message: format!(
                    "Invalid value: {}: must be greater than or equal to 0",
                    scale::wanted(wanted)
                ),
                field: "spec.replicas".into(),
            }],
        ));
    }
    let body_name = meta::name(wanted);
    if !body_name.is_empty() && body_name != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({body_name}) does not match the name on the URL ({name})"
        )));
    }
    let mut new = old.clone();
    scale::apply(wanted, &mut new);
    let m = meta::meta_mut(&mut new)?;
    for k in ["resourceVersion", "uid"] {
        match wanted["metadata"][k].as_str().filter(|v| !v.is_empty()) {
            Some(v) => {
                m.insert(k.into(), v.into());
            }
            None if k == "resourceVersion" => {
                m.remove(k);
            }
            None => {}
        }
    }
    let _ = target;
    Ok(new)
}

const RULES: Rules = Rules { upsert: false, owns_fields: false, unconditional: true };

pub async fn update(s: &ApiServer, call: &Call, target: &Target) -> Result<Reply, Status> {
    let wanted = decode::loose(call)?;
    if wanted["kind"].as_str().is_some_and(|k| k != "Scale") {
        return Err(Status::bad_request(format!("expected a Scale, got a {}", wanted["kind"])));
    }
    let w = Write::new(s, call, target, "scale")?;
    run(call, target, &w, &mut |old| put(target, call.name(), &wanted, old)).await
}

pub async fn patch(s: &ApiServer, call: &Call, target: &Target) -> Result<Reply, Status> {
    let w = Write::new(s, call, target, "scale")?;
    let p = patching::Patch::parse(call, target)?;
    if let patching::Patch::Apply { body, force } = &p {
        // Applied on the parent, so that conflicts and owners are the parent's.
        let config = patch::apply::scale::parent_config(
            body,
            &target.api_version(),
            &target.kind.kind,
            &["spec", "replicas"],
        );
        let applied = managed::Apply::new(&w, &config, *force)?;
        return finish(call, target, &w, Rules { owns_fields: true, ..RULES }, &mut |old| {
            put(target, call.name(), body, old)?;
            applied.on(Some(old))
        })
        .await;
    }
    run(call, target, &w, &mut |old| {
        let doc = of(target, old);
        let wanted = match &p {
            patching::Patch::Json(j) => j.apply(doc),
            patching::Patch::Merge(m) => patch::merge_patch(&doc, m),
            // A Scale has no list: strategic comes down to a merge.
            patching::Patch::Strategic(m) => patch::merge_patch(&doc, m),
            patching::Patch::Apply { body, .. } => patch::merge_patch(&doc, body),
        };
        let wanted = wanted.map_err(|e| patching::failed(target, call.name(), e))?;
        put(target, call.name(), &wanted, old)
    })
    .await
}

async fn run(
    call: &Call,
    target: &Target,
    w: &Write<'_>,
    make: &mut (dyn FnMut(&Value) -> Result<Value, Status> + Send),
) -> Result<Reply, Status> {
    finish(call, target, w, RULES, make).await
}

async fn finish(
    call: &Call,
    target: &Target,
    w: &Write<'_>,
    rules: Rules,
    make: &mut (dyn FnMut(&Value) -> Result<Value, Status> + Send),
) -> Result<Reply, Status> {
    let name = call.name();
    let (o, _) = change(w, rules, &mut |old| match old {
        Some(o) => make(o),
        None => Err(target.not_found(name)),
    })
    .await?;
    output::value(call, StatusCode::OK, &of(target, &o.value().map_err(Status::internal)?))
}
