//! NamespaceLifecycle: nothing new in a namespace that ends or isn't there; three namespaces stay for good.

use api::{Cause, Status};
use async_trait::async_trait;

use super::{Context, Operation, Plugin, Request};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub struct NamespaceLifecycle;

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, r: &Request<'_>) -> bool {
        match r.operation {
            Operation::Delete => r.is("", "namespaces"),
            Operation::Connect => false,
            // A question about permissions must not tell whether a namespace exists.
            _ => {
                !r.namespace.is_empty()
                    && !r.is("", "namespaces")
                    && !r.is("authorization.k8s.io", "localsubjectaccessreviews")
            }
        }
    }

    async fn admit(&self, cx: &Context, r: &mut Request<'_>) -> Result<(), Status> {
        if r.operation == Operation::Delete {
            if IMMORTAL.contains(&r.name) {
                return Err(Status::forbidden("", "namespaces", r.name, "this namespace may not be deleted"));
            }
            return Ok(());
        }
        let Some(ns) = cx.reader.get("", "namespaces", "", r.namespace).await? else {
            return Err(Status::not_found("", "namespaces", r.namespace));
        };
        if r.operation != Operation::Create || !ns.meta().is_deleting() {
            return Ok(());
        }
        let mut s = r.forbidden(format!(
            "unable to create new content in namespace {} because it is being terminated",
            r.namespace
        ));
        s.causes.push(Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {} is being terminated", r.namespace),
            field: "metadata.namespace".into(),
        });
        Err(s)
    }
}
