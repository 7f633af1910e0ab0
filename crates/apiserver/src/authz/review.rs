//! SubjectAccessReview and its kin: questions to the authorizer, sent as objects that are answered and never stored.

use std::collections::BTreeMap;

use api::{Cause, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use super::rules::nullable;
use super::{Attributes, Authorizer};
use crate::User;
use crate::admission::json::put;

const GROUP: &str = "authorization.k8s.io";

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    resource_attributes: Option<ResourceAttributes>,
    non_resource_attributes: Option<NonResourceAttributes>,
    user: String,
    uid: String,
    #[serde(deserialize_with = "nullable")]
    groups: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    extra: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ResourceAttributes {
    namespace: String,
    verb: String,
    group: String,
    resource: String,
    subresource: String,
    name: String,
    field_selector: Option<FieldSelector>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct FieldSelector {
    raw_selector: String,
    #[serde(deserialize_with = "nullable")]
    requirements: Vec<Requirement>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Requirement {
    key: String,
    operator: String,
    #[serde(deserialize_with = "nullable")]
    values: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NonResourceAttributes {
    path: String,
    verb: String,
}

/// Which of the three reviews is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Review {
    Subject,
    SelfSubject,
    /// In this namespace.
    Local,
}

/// Answers a SubjectAccessReview, SelfSubjectAccessReview or LocalSubjectAccessReview: the body with its status.
/// `namespace` is that of the request (Local only).
pub async fn access_review(
    authorizer: &Authorizer,
    requester: &User,
    review: Review,
    namespace: &str,
    mut body: Value,
) -> Result<Value, Status> {
    let kind = match review {
        Review::Subject => "SubjectAccessReview",
        Review::SelfSubject => "SelfSubjectAccessReview",
        Review::Local => "LocalSubjectAccessReview",
    };
    let spec: Spec = serde_json::from_value(body["spec"].clone()).map_err(|e| {
        Status::bad_request(format!("{kind} in version \"v1\" cannot be handled as a {kind}: {e}"))
    })?;
    let mut causes = Vec::new();
    let invalid = |field: &str, message: &str| Cause {
        reason: "FieldValueInvalid".into(),
        message: message.into(),
        field: field.into(),
    };
    match (&spec.resource_attributes, &spec.non_resource_attributes) {
        (Some(_), Some(_)) => causes.push(invalid(
            "spec.nonResourceAttributes",
            "Invalid value: cannot be specified in combination with resourceAttributes",
        )),
        (None, None) => causes.push(invalid(
            "spec.resourceAttributes",
            "Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    if review != Review::SelfSubject && spec.user.is_empty() && spec.groups.is_empty() {
        causes.push(invalid(
            "spec.user",
            "Invalid value: \"\": at least one of user or group must be specified",
        ));
    }
    if review == Review::Local && spec.non_resource_attributes.is_some() {
        causes
            .push(invalid("spec.nonResourceAttributes", "Invalid value: disallowed on this kind of request"));
    }
    if !causes.is_empty() {
        return Err(Status::invalid(GROUP, kind, "", causes));
    }
    if review == Review::Local && spec.resource_attributes.as_ref().is_some_and(|r| r.namespace != namespace)
    {
        return Err(Status::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {namespace}"
        )));
    }
    let subject = User { name: spec.user, uid: spec.uid, groups: spec.groups, extra: spec.extra };
    let user = if review == Review::SelfSubject { requester } else { &subject };
    let selector = spec
        .resource_attributes
        .as_ref()
        .and_then(|r| r.field_selector.as_ref())
        .map(selector_text)
        .unwrap_or_default();
    let attributes = match (&spec.resource_attributes, &spec.non_resource_attributes) {
        (Some(r), _) => Attributes {
            verb: &r.verb,
            namespace: &r.namespace,
            group: &r.group,
            resource: &r.resource,
            subresource: &r.subresource,
            name: &r.name,
            field_selector: &selector,
            is_resource: true,
            ..Attributes::of(user)
        },
        (None, Some(n)) => Attributes { verb: &n.verb, path: &n.path, ..Attributes::of(user) },
        (None, None) => Attributes::of(user),
    };
    let decision = authorizer.authorize(&attributes).await;
    let mut status = json!({"allowed": decision.allowed()});
    if !decision.reason().is_empty() {
        status["reason"] = json!(decision.reason());
    }
    put(&mut body, &["status"], status);
    Ok(body)
}

fn selector_text(s: &FieldSelector) -> String {
    if !s.raw_selector.is_empty() {
        return s.raw_selector.clone();
    }
    let terms: Vec<String> = s
        .requirements
        .iter()
        .filter(|r| r.operator == "In" && r.values.len() == 1)
        .map(|r| format!("{}={}", r.key, r.values.join("")))
        .collect();
    terms.join(",")
}

/// Answers a SelfSubjectRulesReview.
pub fn rules_review(authorizer: &Authorizer, user: &User, mut body: Value) -> Result<Value, Status> {
    let namespace = body["spec"]["namespace"].as_str().unwrap_or_default().to_owned();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let (rules, mut errors) = authorizer.rules_for(user, &namespace);
    let (mut resources, mut urls) = (Vec::new(), Vec::new());
    for r in rules {
        let opt = |v: &[String]| if v.is_empty() { Value::Null } else { json!(v) };
        if !r.resources.is_empty() {
            let mut o = json!({"verbs": r.verbs, "apiGroups": r.api_groups, "resources": r.resources});
            if !r.resource_names.is_empty() {
                o["resourceNames"] = opt(&r.resource_names);
            }
            resources.push(o);
        }
        if !r.non_resource_urls.is_empty() {
            urls.push(json!({"verbs": r.verbs, "nonResourceURLs": r.non_resource_urls}));
        }
    }
    let is_node = user.node().is_some();
    if is_node {
        errors.push("node authorizer does not support user rule resolution".into());
    }
    let mut status = json!({"resourceRules": resources, "nonResourceRules": urls, "incomplete": is_node || !errors.is_empty()});
    if !errors.is_empty() {
        status["evaluationError"] = json!(errors.join(", "));
    }
    put(&mut body, &["status"], status);
    Ok(body)
}
