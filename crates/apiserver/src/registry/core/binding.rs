//! pods/binding: the scheduler's decision, written once.

use api::{Cause, Status};
use http::StatusCode;
use serde_json::{Value, json};

use crate::adapt;
use crate::admission::Operation;
use crate::body::{self, Reply};
use crate::call::Call;
use crate::handlers::write::{TRIES, Write, too_contended};
use crate::handlers::{Target, decode, meta, output};
use crate::server::ApiServer;
use crate::storage::Encoded;

/// POST to `pods/NAME/binding`.
pub async fn create(s: &ApiServer, call: &Call, target: &Target) -> Result<Reply, Status> {
    bind(s, call, target, call.name()).await
}

/// POST to `bindings`, the old place: the name stands in the body.
pub async fn create_plain(s: &ApiServer, call: &Call, target: &Target) -> Result<Reply, Status> {
    let pods = s.catalog().by_plural("", "pods").cloned().ok_or_else(|| Status::internal("no pods"))?;
    let target = Target { kind: pods, version: target.version.clone() };
    let v = decode::loose(call)?;
    bind(s, call, &target, meta::name(&v)).await
}

/// What a binding makes of a pod. Pure.
pub fn assign(pod: &mut Value, binding: &Value, node: &str, now: &str) -> Result<(), String> {
    if pod["metadata"]["deletionTimestamp"].is_string() {
        return Err(format!("pod {} is being deleted, cannot be assigned to a host", meta::name(pod)));
    }
    let current = meta::text(pod, "/spec/nodeName");
    if !current.is_empty() && !client::planted::is_on("binding-twice") {
        return Err(format!("pod {} is already assigned to node \"{current}\"", meta::name(pod)));
    }
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|g| !g.is_empty()) {
        return Err(format!("pod {} has non-empty .spec.schedulingGates", meta::name(pod)));
    }
    pod["spec"]["nodeName"] = json!(node);
    for k in ["annotations", "labels"] {
        if let Some(more) = binding["metadata"][k].as_object().filter(|m| !m.is_empty()) {
            let have = pod["metadata"].as_object_mut().map(|m| m.entry(k).or_insert_with(|| json!({})));
            if let Some(Value::Object(have)) = have {
                for (key, v) in more {
                    have.entry(key.clone()).or_insert_with(|| v.clone());
                }
            }
        }
    }
    if !pod["status"].is_object() {
        pod["status"] = json!({});
    }
    let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
        "observedGeneration": pod["metadata"]["generation"]});
    let mut all = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.retain(|c| c["type"] != "PodScheduled");
    all.push(condition);
    pod["status"]["conditions"] = Value::Array(all);
    if let Some(s) = pod["status"].as_object_mut() {
        s.remove("nominatedNodeName");
    }
    Ok(())
}

async fn bind(s: &ApiServer, call: &Call, target: &Target, name: &str) -> Result<Reply, Status> {
    let binding = decode::loose(call)?;
    let mut w = Write::new(s, call, target, "binding")?;
    let body_name = meta::name(&binding);
    if name.is_empty() || (!body_name.is_empty() && body_name != name) {
        return Err(Status::bad_request(format!(
            "name in URL does not match name in Binding object: {body_name}"
        )));
    }
    let node = binding["target"]["name"].as_str().unwrap_or_default().to_owned();
    let kind = binding["target"]["kind"].as_str().unwrap_or_default();
    if node.is_empty() || !(kind.is_empty() || kind == "Node") {
        let (reason, field, message) = if node.is_empty() {
            ("FieldValueRequired", "target.name", "Required value".to_owned())
        } else {
            (
                "FieldValueNotSupported",
                "target.kind",
                format!("Unsupported value: \"{kind}\": supported values: \"Node\", \"<empty>\""),
            )
        };
        return Err(Status::invalid(
            "",
            "Binding",
            name,
            vec![Cause { reason: reason.into(), message, field: field.into() }],
        ));
    }
    let binding = w.admit(Operation::Create, binding, None).await?;
    let binding = w.validated(Operation::Create, binding, None).await?;
    w.sub = "";
    let key = target.key(call.namespace(), name);
    for _ in 0..TRIES {
        let current = s.storage.get(&key).await?.ok_or_else(|| target.not_found(name))?;
        let uid = meta::text(&binding, "/metadata/uid");
        if !uid.is_empty() && uid != current.uid() {
            return Err(target.conflict(
                name,
                &format!(
                    "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                    current.uid()
                ),
            ));
        }
        let mut pod = current.value().map_err(Status::internal)?;
        let now = client::clock::rfc3339(client::clock::now());
        assign(&mut pod, &binding, &node, &now)
            .map_err(|why| Status::conflict("", "pods/binding", name, &why))?;
        adapt::canonical(&target.kind, &mut pod);
        let e = Encoded::new(pod)?;
        if w.dry_run || s.storage.replace(&key, current.revision(), &e, None).await?.is_some() {
            return output::value(call, StatusCode::CREATED, &body::success(Value::Null));
        }
    }
    Err(too_contended(target, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_bound_once() {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {}, "status": {"phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "False"}]}});
        let b = json!({"metadata": {"annotations": {"a": "b"}}});
        assign(&mut pod, &b, "n1", "t").expect("bound");
        assert_eq!(pod["spec"]["nodeName"], "n1");
        assert_eq!(pod["status"]["conditions"][0]["status"], "True");
        assert_eq!(pod["metadata"]["annotations"]["a"], "b");
        assert_eq!(
            assign(&mut pod, &b, "n2", "t").expect_err("again"),
            "pod p is already assigned to node \"n1\""
        );
    }
}
