//! RuntimeClass: what a class costs and where it runs is put into the pods that use it.

use api::Status;
use async_trait::async_trait;
use serde_json::{Value, json};

use super::json::{array, items, object, text};
use super::{Context, Operation, Plugin, Request};

pub struct RuntimeClass;

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, r: &Request<'_>) -> bool {
        r.is_pod() && r.subresource.is_empty() && r.operation == Operation::Create
    }

    async fn admit(&self, cx: &Context, r: &mut Request<'_>) -> Result<(), Status> {
        let Some(class) = find(cx, r).await? else { return Ok(()) };
        let overhead = &class["overhead"]["podFixed"];
        let given = &r.object["spec"]["overhead"];
        if !overhead.is_null() && !given.is_null() && api::quota::list(overhead) != api::quota::list(given) {
            return Err(
                r.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
            );
        }
        for (k, v) in class["scheduling"]["nodeSelector"].as_object().into_iter().flatten() {
            let have = &r.object["spec"]["nodeSelector"][k];
            if !have.is_null() && have != v {
                let (want, have) = (v.as_str().unwrap_or_default(), have.as_str().unwrap_or_default());
                return Err(r.forbidden(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{k}] = {want}; pod.spec.nodeSelector[{k}] = {have}"
                )));
            }
        }
        apply(&mut r.object, &class);
        Ok(())
    }

    async fn validate(&self, cx: &Context, r: &Request<'_>) -> Result<(), Status> {
        let class = find(cx, r).await?.unwrap_or_default();
        let (want, have) = (&class["overhead"]["podFixed"], &r.object["spec"]["overhead"]);
        if want.is_null() && !have.is_null() {
            return Err(r.forbidden(
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            ));
        }
        if api::quota::list(want) != api::quota::list(have) {
            return Err(
                r.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
            );
        }
        Ok(())
    }
}

async fn find(cx: &Context, r: &Request<'_>) -> Result<Option<Value>, Status> {
    let name = text(&r.object["spec"], "runtimeClassName");
    if name.is_empty() {
        return Ok(None);
    }
    match cx.reader.get("node.k8s.io", "runtimeclasses", "", name).await? {
        Some(o) => Ok(Some(o.value().map_err(Status::internal)?)),
        None => Err(r.forbidden(format!("pod rejected: RuntimeClass {name:?} not found"))),
    }
}

fn apply(pod: &mut Value, class: &Value) {
    let spec = object(object(pod).entry("spec").or_insert(Value::Null));
    if !class["overhead"]["podFixed"].is_null() {
        spec.insert("overhead".into(), class["overhead"]["podFixed"].clone());
    }
    let selector = class["scheduling"]["nodeSelector"].as_object().filter(|s| !s.is_empty());
    if let Some(selector) = selector {
        let mine = object(spec.entry("nodeSelector").or_insert(Value::Null));
        mine.extend(selector.iter().map(|(k, v)| (k.clone(), v.clone())));
    }
    let tolerations = items(&class["scheduling"], "tolerations");
    if !tolerations.is_empty() {
        let mine = array(spec, "tolerations");
        for t in tolerations {
            if !mine.contains(t) {
                mine.push(json!(t));
            }
        }
    }
}
