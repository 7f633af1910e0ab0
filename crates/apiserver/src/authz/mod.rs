//! May this user do that? In order: `system:masters` may do everything, the node authorizer knows kubelets, RBAC knows
//! everybody. The first to allow wins; nobody refuses for good.
//!
//! [`Authorizer::start`] fills the index and spawns the tasks of `watch.rs`; after that a decision reads memory only
//! (the node authorizer asks the store before it says no).

pub mod escalation;
pub mod index;
pub mod node;
mod node_graph;
pub mod review;
pub mod rules;
mod watch;

use std::sync::Arc;

use api::Status;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::user::SYSTEM_MASTERS;
use crate::{Reader, RequestInfo, User};

pub use index::{RbacIndex, RoleRef, Verdict};
pub use rules::Rule;

/// A question to the authorizer.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    pub user: &'a User,
    pub verb: &'a str,
    pub namespace: &'a str,
    pub group: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub name: &'a str,
    pub is_resource: bool,
    pub path: &'a str,
    pub field_selector: &'a str,
}

impl<'a> Attributes<'a> {
    pub fn of(user: &'a User) -> Self {
        Self {
            user,
            verb: "",
            namespace: "",
            group: "",
            resource: "",
            subresource: "",
            name: "",
            is_resource: false,
            path: "",
            field_selector: "",
        }
    }

    pub fn new(user: &'a User, info: &'a RequestInfo) -> Self {
        Self {
            user,
            verb: &info.verb,
            namespace: &info.namespace,
            group: &info.api_group,
            resource: &info.resource,
            subresource: &info.subresource,
            name: &info.name,
            is_resource: info.is_resource,
            path: &info.path,
            field_selector: &info.field_selector,
        }
    }
}

/// What one authorizer, or all of them, say. The text is the reason, possibly empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Allow(String),
    NoOpinion(String),
}

impl Decision {
    pub fn allowed(&self) -> bool {
        matches!(self, Decision::Allow(_))
    }
    pub fn reason(&self) -> &str {
        match self {
            Decision::Allow(r) | Decision::NoOpinion(r) => r,
        }
    }
}

pub struct Authorizer {
    reader: Arc<dyn Reader>,
    index: RwLock<RbacIndex>,
    node: node::NodeAuthorizer,
}

impl Authorizer {
    /// With an empty index: only `system:masters` gets through until [`Self::start`] has filled it.
    pub fn new(reader: Arc<dyn Reader>) -> Arc<Self> {
        let node = node::NodeAuthorizer::new(crate::bootstrap::rbac::node_rules());
        Arc::new(Self { reader, index: RwLock::new(RbacIndex::default()), node })
    }

    /// Fills the index from the store and keeps it up to date until `cancel`.
    pub async fn start(self: &Arc<Self>, cancel: &CancellationToken) -> Result<(), Status> {
        let from = watch::fill(self, self.reader.as_ref()).await?;
        watch::spawn(self, &self.reader, from, cancel);
        Ok(())
    }

    pub async fn authorize(&self, a: &Attributes<'_>) -> Decision {
        if a.user.in_group(SYSTEM_MASTERS) {
            return Decision::Allow(String::new());
        }
        let mut reasons: Vec<String> = Vec::new();
        if let Some(node) = a.user.node() {
            match self.node.authorize(node, a, self.reader.as_ref()).await {
                Decision::NoOpinion(r) if !r.is_empty() => reasons.push(r),
                Decision::NoOpinion(_) => {}
                allow => return allow,
            }
        }
        match self.index.read().evaluate(a) {
            Verdict::Allowed(r) => return Decision::Allow(r),
            Verdict::NotAllowed(r) if !r.is_empty() => reasons.push(r),
            Verdict::NotAllowed(_) => {}
        }
        Decision::NoOpinion(reasons.join("\n"))
    }

    /// The verb on `signers` of certificates, for this one or for all of its domain.
    pub async fn permits_signer(&self, user: &User, verb: &str, signer: &str) -> bool {
        let base = Attributes {
            verb,
            group: "certificates.k8s.io",
            resource: "signers",
            is_resource: true,
            ..Attributes::of(user)
        };
        let domain = format!("{}/*", signer.split('/').next().unwrap_or_default());
        self.authorize(&Attributes { name: signer, ..base }).await.allowed()
            || self.authorize(&Attributes { name: &domain, ..base }).await.allowed()
    }

    /// `Ok` or the 403 that goes out.
    pub async fn check(&self, a: &Attributes<'_>) -> Result<(), Status> {
        match self.authorize(a).await {
            Decision::Allow(_) => Ok(()),
            Decision::NoOpinion(reason) => Err(forbidden(a, &reason)),
        }
    }

    /// All RBAC rules of a user in a namespace, and errors met on the way.
    pub fn rules_for(&self, user: &User, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        self.index.read().rules_for(user, namespace)
    }

    pub(crate) fn role_rules(&self, role: &RoleRef, namespace: &str) -> Result<Vec<Rule>, String> {
        let sets = self.index.read().role_rules(role, namespace)?;
        Ok(sets.iter().flat_map(|s| s.iter().cloned()).collect())
    }
}

/// The refusal, in upstream's words.
pub fn forbidden(a: &Attributes<'_>, reason: &str) -> Status {
    let mut text = if a.is_resource {
        let resource = if a.subresource.is_empty() {
            a.resource.to_owned()
        } else {
            format!("{}/{}", a.resource, a.subresource)
        };
        let scope = if a.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {:?}", a.namespace)
        };
        format!(
            "User {:?} cannot {} resource {resource:?} in API group {:?} {scope}",
            a.user.name, a.verb, a.group
        )
    } else {
        format!("User {:?} cannot {} path {:?}", a.user.name, a.verb, a.path)
    };
    if !reason.is_empty() {
        text = format!("{text}: {reason}");
    }
    Status::forbidden(a.group, a.resource, a.name, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_worded_as_upstream() {
        let u = User::new("x", &[]);
        let list = Attributes {
            verb: "list",
            resource: "pods",
            namespace: "default",
            is_resource: true,
            ..Attributes::of(&u)
        };
        let t = [
            (
                list,
                "",
                "pods is forbidden: User \"x\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"",
            ),
            (
                Attributes {
                    verb: "update",
                    group: "apps",
                    resource: "deployments",
                    subresource: "scale",
                    name: "d",
                    namespace: "",
                    ..list
                },
                "RBAC: clusterrole.rbac.authorization.k8s.io \"y\" not found",
                "deployments.apps \"d\" is forbidden: User \"x\" cannot update resource \"deployments/scale\" in API group \"apps\" \
                 at the cluster scope: RBAC: clusterrole.rbac.authorization.k8s.io \"y\" not found",
            ),
            (
                Attributes { verb: "get", path: "/metrics", ..Attributes::of(&u) },
                "",
                "forbidden: User \"x\" cannot get path \"/metrics\"",
            ),
        ];
        for (a, reason, want) in t {
            let s = forbidden(&a, reason);
            assert_eq!((s.code, s.message.as_str()), (403, want));
        }
    }
}
