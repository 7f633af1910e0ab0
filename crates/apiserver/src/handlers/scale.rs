//! The scale subresource: an autoscaling/v1 view on `spec.replicas`.

use api::catalog::custom::ScalePaths;
use api::{Object, Status, scale};
use async_trait::async_trait;
use serde_json::Value;

use super::update::{Rules, Transform, update as change};
use super::write::Write;
use super::{Target, convert, decode, managed, meta, output, patch as patching};
use crate::body::Reply;
use crate::call::Call;
use crate::server::ApiServer;

fn paths(target: &Target) -> Option<&ScalePaths> {
    target.kind.custom_of(&target.version)?.scale.as_ref()
}

fn at<'a>(v: &'a Value, path: &[String]) -> &'a Value {
    path.iter().fold(v, |v, name| v.get(name).unwrap_or(&Value::Null))
}

fn of(target: &Target, object: &Value) -> Result<Value, Status> {
    let Some(p) = paths(target) else { return Ok(scale::of_object(&target.kind.kind, object)) };
    let Some(replicas) = at(object, &p.spec_replicas).as_i64() else {
        return Err(Status::internal(format!(
            "the spec replicas field \".{}\" does not exist",
            p.spec_replicas.join(".")
        )));
    };
    let current = at(object, &p.status_replicas).as_i64().unwrap_or(0);
    let selector = p.selector.as_ref().and_then(|s| at(object, s).as_str()).unwrap_or_default();
    Ok(scale::build(&object["metadata"], replicas, current, selector))
}

/// Writes the replicas of a Scale where the kind keeps them.
fn write(target: &Target, wanted: &Value, object: &mut Value) {
    let Some(p) = paths(target) else { return scale::apply(wanted, object) };
    let mut v = object;
    for name in &p.spec_replicas {
        let Some(o) = v.as_object_mut() else { return };
        v = o.entry(name.as_str()).or_insert_with(|| serde_json::json!({}));
    }
    *v = scale::wanted(wanted).into();
}

async fn answer(s: &ApiServer, call: &Call, target: &Target, o: &Object) -> Result<Reply, Status> {
    let v = of(target, &convert::from_storage(s, target, o).await?)?;
    output::view(call, ("autoscaling", "Scale"), v, o.revision())
}

pub async fn get(s: &ApiServer, call: &Call, target: &Target) -> Result<Reply, Status> {
    let o = s.storage.get(&target.key(call.namespace(), call.name())).await?;
    let o = o.ok_or_else(|| target.not_found(call.name()))?;
    answer(s, call, target, &o).await
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
    write(target, wanted, &mut new);
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
        let replicas: Vec<&str> = match paths(target) {
            Some(p) => p.spec_replicas.iter().map(String::as_str).collect(),
            None => vec!["spec", "replicas"],
        };
        let config =
            patch::apply::scale::parent_config(body, &target.api_version(), &target.kind.kind, &replicas);
        let applied = managed::Apply::new(&w, &config, *force)?;
        let rules = Rules { owns_fields: true, ..RULES };
        let (o, _) = change(&w, rules, &mut Applied { call, target, body, applied }).await?;
        return answer(s, call, target, &o).await;
    }
    run(call, target, &w, &mut |old| {
        let doc = of(target, old)?;
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
    let name = call.name();
    let (o, _) = change(w, RULES, &mut |old: Option<&Value>| match old {
        Some(o) => make(o),
        None => Err(target.not_found(name)),
    })
    .await?;
    answer(w.server, call, target, &o).await
}

/// An applied Scale: what it asks for is checked, and then applied on the parent.
struct Applied<'a> {
    call: &'a Call,
    target: &'a Target,
    body: &'a Value,
    applied: managed::Apply<'a>,
}

#[async_trait]
impl Transform for Applied<'_> {
    async fn make(&mut self, old: Option<&Value>) -> Result<Value, Status> {
        let Some(current) = old else { return Err(self.target.not_found(self.call.name())) };
        put(self.target, self.call.name(), self.body, current)?;
        self.applied.make(old).await
    }
}
