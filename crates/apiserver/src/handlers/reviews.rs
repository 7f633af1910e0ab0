//! Kinds that are answered and not kept: reviews of access and identity, bindings, component statuses.

use api::{Reason, Status};
use http::StatusCode;
use serde_json::{Value, json};

use super::{Target, decode, output};
use crate::authn::review as who;
use crate::authz::review::{Review, access_review, rules_review};
use crate::body::Reply;
use crate::call::Call;
use crate::registry;
use crate::server::ApiServer;

pub async fn create(s: &ApiServer, call: Call, target: Target) -> Result<Reply, Status> {
    let kind = target.kind.kind.as_str();
    if (target.kind.group.as_str(), kind) == ("", "Binding") {
        return registry::core::binding::create_plain(s, &call, &target).await;
    }
    let v = decode::object(&call, &target)?;
    let u = &call.user;
    let ns = call.namespace();
    let answer: Value = match (target.kind.group.as_str(), kind) {
        ("authorization.k8s.io", "SubjectAccessReview") => {
            access_review(&s.authorizer, u, Review::Subject, ns, v).await?
        }
        ("authorization.k8s.io", "SelfSubjectAccessReview") => {
            access_review(&s.authorizer, u, Review::SelfSubject, ns, v).await?
        }
        ("authorization.k8s.io", "LocalSubjectAccessReview") => {
            access_review(&s.authorizer, u, Review::Local, ns, v).await?
        }
        ("authorization.k8s.io", "SelfSubjectRulesReview") => rules_review(&s.authorizer, u, v)?,
        ("authentication.k8s.io", "TokenReview") => who::token_review(&s.authn, v).await?,
        ("authentication.k8s.io", "SelfSubjectReview") => who::self_subject_review(u, v),
        _ => {
            return Err(Status::new(
                Reason::MethodNotAllowed,
                "the server does not allow this method on the requested resource",
            ));
        }
    };
    output::value(&call, StatusCode::CREATED, &answer)
}

/// The old health overview: what is there is the store.
pub async fn component_statuses(s: &ApiServer, call: &Call, target: &Target) -> Result<Reply, Status> {
    let healthy = s.storage.store().check().await.is_ok();
    let one = |name: &str, ok: bool| {
        let c = if ok {
            json!({"type": "Healthy", "status": "True", "message": "ok"})
        } else {
            json!({"type": "Healthy", "status": "False", "message": "the store does not answer"})
        };
        json!({"apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": name}, "conditions": [c]})
    };
    let all = [("controller-manager", true), ("etcd-0", healthy), ("scheduler", true)];
    if call.name().is_empty() {
        let items: Vec<_> = all
            .iter()
            .map(|(n, ok)| api::Object::from_value(one(n, *ok), 0).map_err(Status::internal))
            .collect::<Result<_, _>>()?;
        return output::list(
            s,
            call,
            target,
            client::ObjectList { items, revision: s.storage.revision(), ..Default::default() },
        )
        .await;
    }
    let (n, ok) = all.iter().find(|(n, _)| *n == call.name()).ok_or_else(|| target.not_found(call.name()))?;
    let o = api::Object::from_value(one(n, *ok), 0).map_err(Status::internal)?;
    output::object(s, call, target, o, StatusCode::OK).await
}
