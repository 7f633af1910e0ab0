//! RBAC's guard against escalation, which upstream has in the storage of its four kinds: here it is the last word of
//! the chain before quota, so that it judges the object as it will be stored.

use api::Status;
use async_trait::async_trait;

use super::{Context, Operation, Plugin, Request};
use crate::authz::escalation;

pub struct RbacEscalation;

#[async_trait]
impl Plugin for RbacEscalation {
    fn name(&self) -> &'static str {
        "RbacEscalation"
    }
    fn handles(&self, r: &Request<'_>) -> bool {
        r.group == "rbac.authorization.k8s.io"
            && r.subresource.is_empty()
            && matches!(r.operation, Operation::Create | Operation::Update)
    }
    async fn validate(&self, cx: &Context, r: &Request<'_>) -> Result<(), Status> {
        escalation::check(&cx.authorizer, r.user, r.resource, r.namespace, &r.object, r.old).await
    }
}
