//! AdmissionReview: the question and the answer. Pure.
//! https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#webhook-request-and-response

use api::{Reason, Status};
use base64::Engine;
use serde_json::{Value, json};

use super::config::Webhook;
use crate::admission::Request;
use crate::admission::matching::Seen;

/// The `request` of a review, in the version that the webhook asked for.
pub fn question(r: &Request<'_>, seen: &Seen<'_>, uid: &str, object: &Value, old: &Value) -> Value {
    let kind = |version: &str, group: &str| json!({"group": group, "version": version, "kind": r.kind});
    let resource =
        |version: &str, group: &str| json!({"group": group, "version": version, "resource": r.resource});
    let user = r.user;
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    let mut q = json!({
        "uid": uid,
        "kind": kind(seen.version, seen.group),
        "resource": resource(seen.version, seen.group),
        "requestKind": kind(r.version, r.group),
        "requestResource": resource(r.version, r.group),
        "operation": r.operation.as_str(),
        "userInfo": info,
        "object": object,
        "oldObject": old,
        "dryRun": r.dry_run,
        "options": options(r),
    });
    let name = r.object_name();
    for (key, v) in [
        ("name", name),
        ("namespace", r.namespace),
        ("subResource", r.subresource),
        ("requestSubResource", r.subresource),
    ] {
        if !v.is_empty() {
            q[key] = json!(v);
        }
    }
    q
}

fn options(r: &Request<'_>) -> Value {
    use crate::admission::Operation::{Connect, Create, Delete, Update};
    let kind = match r.operation {
        Create => "CreateOptions",
        Update => "UpdateOptions",
        Delete => "DeleteOptions",
        Connect => return Value::Null,
    };
    json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"})
}

/// What a webhook said.
#[derive(Debug, Default)]
pub struct Answer {
    pub patch: Option<Vec<u8>>,
    pub warnings: Vec<String>,
}

/// Why there is no answer: a refusal counts whatever the failure policy says, a failure does not.
#[derive(Debug)]
pub enum No {
    Refused(Status),
    Failed(String),
}

/// Reads a review that came back.
pub fn answer(w: &Webhook, version: &str, uid: &str, v: &Value) -> Result<Answer, No> {
    let bad = |why: String| No::Failed(format!("received invalid webhook response: {why}"));
    let api_version = format!("admission.k8s.io/{version}");
    if v["apiVersion"] != api_version.as_str() || v["kind"] != "AdmissionReview" {
        return Err(bad(format!(
            "expected webhook response of admission.k8s.io/{version}, Kind=AdmissionReview, got {}, Kind={}",
            v["apiVersion"].as_str().unwrap_or_default(),
            v["kind"].as_str().unwrap_or_default()
        )));
    }
    let r = &v["response"];
    if !r.is_object() {
        return Err(bad("webhook response was absent".into()));
    }
    if r["uid"] != uid {
        return Err(bad(format!("expected response.uid=\"{uid}\", got {}", r["uid"])));
    }
    let warnings = r["warnings"].as_array().into_iter().flatten();
    let warnings = warnings.filter_map(|w| w.as_str().map(str::to_owned)).collect();
    if r["allowed"] != true {
        return Err(No::Refused(refusal(&w.name, &r["status"])));
    }
    let patch = match r["patch"].as_str().filter(|p| !p.is_empty()) {
        None => None,
        Some(_) if r["patchType"] != "JSONPatch" => {
            return Err(bad(format!("webhook response contains an unknown patchType: {}", r["patchType"])));
        }
        Some(p) => Some(
            base64::engine::general_purpose::STANDARD
                .decode(p)
                .map_err(|e| bad(format!("response.patch: {e}")))?,
        ),
    };
    Ok(Answer { patch, warnings })
}

/// A webhook's refusal as the client sees it.
fn refusal(name: &str, status: &Value) -> Status {
    let said = |k: &str| status[k].as_str().filter(|s| !s.is_empty());
    let by = format!("admission webhook \"{name}\" denied the request");
    let message = match (said("message"), said("reason")) {
        (Some(m), _) => format!("{by}: {m}"),
        (None, Some(r)) => format!("{by}: {r}"),
        (None, None) => format!("{by} without explanation"),
    };
    let mut s = Status::new(Reason::parse(said("reason").unwrap_or_default()), message);
    s.code = u16::try_from(status["code"].as_u64().unwrap_or(400)).unwrap_or(400).max(400);
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_in_the_webhooks_words() {
        let s = refusal("a.b.c", &json!({"message": "no", "code": 403, "reason": "Forbidden"}));
        assert_eq!((s.code, s.message.as_str()), (403, "admission webhook \"a.b.c\" denied the request: no"));
        let s = refusal("a.b.c", &Value::Null);
        assert_eq!(
            (s.code, s.message.as_str()),
            (400, "admission webhook \"a.b.c\" denied the request without explanation")
        );
    }
}
