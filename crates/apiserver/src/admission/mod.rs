//! Admission: an ordered chain of plugins between the request and the store. First all may change the object, then all
//! may refuse it. The order is upstream's and stands in [`Chain::new`], nowhere else.
//!
//! Policies and webhooks stand right before quota.

mod authority;
mod certificates;
mod classes;
pub(crate) mod json;
mod limit_ranger;
mod matching;
mod namespace_lifecycle;
mod node_restriction;
mod parsed;
mod pod_security;
pub(crate) mod policy;
mod priority;
mod rbac;
mod reinvocation;
mod resource_quota;
mod runtime_class;
mod service_account;
mod storage_in_use;
mod taint_nodes;
mod tolerations;
mod webhooks;

use std::sync::Arc;

use api::Status;
use async_trait::async_trait;
use serde_json::Value;

pub use node_restriction::kubelet_may_set;
pub use policy::expression_faults;
pub use reinvocation::Reinvocation;
pub use resource_quota::Charges;

use crate::authz::Authorizer;
use crate::call::Warnings;
use crate::server::SharedCatalog;
use crate::{Reader, User};
use webhooks::Webhooks;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// A write on its way to the store.
pub struct Request<'a> {
    pub operation: Operation,
    pub user: &'a User,
    pub group: &'a str,
    pub version: &'a str,
    /// Plural.
    pub resource: &'a str,
    pub subresource: &'a str,
    pub kind: &'a str,
    pub namespace: &'a str,
    /// Empty for a create with `generateName`.
    pub name: &'a str,
    /// The new object, defaulted; `Null` on delete and for bodies that are no object. Of a subresource with its own kind
    /// (binding, eviction, scale, token) it is that body.
    pub object: Value,
    /// The stored object on update and delete.
    pub old: Option<&'a Value>,
    pub dry_run: bool,
    /// Where quota leaves what is to be written together with the object; without it quota writes by itself.
    pub charges: Option<&'a Charges>,
    /// Where a plugin leaves a word to the client about a write that it lets through.
    pub warnings: Option<&'a Warnings>,
    /// Who is to be asked again.
    pub reinvocation: Reinvocation,
}

impl Request<'_> {
    pub fn warn(&self, text: impl Into<String>) {
        if let Some(w) = self.warnings {
            w.add(text);
        }
    }
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.group == group && self.resource == resource
    }
    pub fn is_pod(&self) -> bool {
        self.is("", "pods")
    }
    /// The name in the request, or else in the object.
    pub fn object_name(&self) -> &str {
        if self.name.is_empty() {
            self.object["metadata"]["name"].as_str().unwrap_or_default()
        } else {
            self.name
        }
    }
    /// A refusal in upstream's form: `pods "x" is forbidden: why`.
    pub fn forbidden(&self, why: impl AsRef<str>) -> Status {
        let name = match self.object_name() {
            // A name still to be made is shown by its beginning, as upstream does.
            "" => self.object["metadata"]["generateName"].as_str().unwrap_or_default(),
            n => n,
        };
        let name = if name.is_empty() { "Unknown" } else { name };
        Status::forbidden(self.group, self.resource, name, why.as_ref())
    }
}

/// What plugins may use.
pub struct Context {
    pub reader: Arc<dyn Reader>,
    pub authorizer: Arc<Authorizer>,
}

/// One step of the chain. Without state about objects: what it needs it reads.
#[async_trait]
pub trait Plugin: Send + Sync {
    fn name(&self) -> &'static str;
    /// Asked first, so that a request passes by what does not concern it.
    fn handles(&self, r: &Request<'_>) -> bool;
    async fn admit(&self, _cx: &Context, _r: &mut Request<'_>) -> Result<(), Status> {
        Ok(())
    }
    async fn validate(&self, _cx: &Context, _r: &Request<'_>) -> Result<(), Status> {
        Ok(())
    }
}

/// Plugins that depend on what else runs.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Set when loops run that take the finalizers of used claims and volumes away.
    pub storage_in_use_protection: bool,
    /// Set when a node lifecycle loop runs that takes the `not-ready` taint away from nodes that are ready.
    pub taint_new_nodes: bool,
    /// Names of plugins to leave out.
    pub disabled: Vec<String>,
    /// Where webhooks look kinds up; without it there are none.
    pub catalog: Option<SharedCatalog>,
}

/// The plugins in their order.
pub struct Chain {
    cx: Context,
    plugins: Vec<Box<dyn Plugin>>,
}

impl Chain {
    pub fn new(reader: Arc<dyn Reader>, authorizer: Arc<Authorizer>) -> Self {
        Self::with(reader, authorizer, &Options::default())
    }

    pub fn with(reader: Arc<dyn Reader>, authorizer: Arc<Authorizer>, options: &Options) -> Self {
        let mut plugins: Vec<Box<dyn Plugin>> = vec![
            Box::new(namespace_lifecycle::NamespaceLifecycle),
            Box::new(limit_ranger::LimitRanger),
            Box::new(service_account::ServiceAccount),
            Box::new(node_restriction::NodeRestriction),
            Box::new(taint_nodes::TaintNodesByCondition),
            Box::new(pod_security::PodSecurity),
            Box::new(priority::Priority),
            Box::new(tolerations::DefaultTolerationSeconds),
            Box::new(classes::DefaultStorageClass),
            Box::new(storage_in_use::StorageObjectInUseProtection),
            Box::new(classes::PersistentVolumeClaimResize),
            Box::new(runtime_class::RuntimeClass),
            Box::new(certificates::CertificateApproval),
            Box::new(certificates::CertificateSigning),
            Box::new(certificates::CertificateSubjectRestriction),
            Box::new(classes::DefaultIngressClass),
            // Mutating policies and webhooks, validating policies and webhooks go in here.
            Box::new(rbac::RbacEscalation),
            // The last one: it charges, and nobody may refuse after that.
            Box::<resource_quota::ResourceQuota>::default(),
        ];
        if let Some(catalog) = &options.catalog {
            let at = plugins.len() - 2;
            let late: [Box<dyn Plugin>; 4] = [
                Box::new(policy::MutatingPolicies::new(catalog.clone())),
                Box::new(Webhooks::mutating(catalog.clone())),
                Box::new(policy::ValidatingPolicies::new(catalog.clone())),
                Box::new(Webhooks::validating(catalog.clone())),
            ];
            plugins.splice(at..at, late);
        }
        plugins.retain(|p| {
            (options.storage_in_use_protection || p.name() != "StorageObjectInUseProtection")
                && (options.taint_new_nodes || p.name() != "TaintNodesByCondition")
                && !options.disabled.iter().any(|d| d == p.name())
        });
        Self { cx: Context { reader, authorizer }, plugins }
    }

    pub fn names(&self) -> Vec<&'static str> {
        self.plugins.iter().map(|p| p.name()).collect()
    }

    /// Lets the plugins change the object; once more when a policy or webhook has done so.
    pub async fn admit(&self, r: &mut Request<'_>) -> Result<(), Status> {
        self.pass(r).await?;
        if !r.reinvocation.wanted {
            return Ok(());
        }
        r.reinvocation.second = true;
        self.pass(r).await
    }

    async fn pass(&self, r: &mut Request<'_>) -> Result<(), Status> {
        for p in &self.plugins {
            if p.handles(r) {
                p.admit(&self.cx, r).await?;
            }
        }
        Ok(())
    }

    /// Lets the plugins refuse it. After defaulting and validation, right before the write (quota is charged here).
    pub async fn validate(&self, r: &Request<'_>) -> Result<(), Status> {
        for p in &self.plugins {
            if p.handles(r) {
                p.validate(&self.cx, r).await?;
            }
        }
        Ok(())
    }
}
