//! What create, update and delete share: the context of one write, and its way through admission.

use api::Status;
use serde_json::Value;
use store::{Compare, Op};

use super::Target;
use crate::admission::{Charges, Operation, Reinvocation, Request};
use crate::call::Call;
use crate::registry::{Context, Strategy, strategy};
use crate::server::ApiServer;
use crate::storage::{Encoded, at_revision};

/// Tries of a write that keeps losing races, before the client is told.
pub const TRIES: usize = 50;

pub struct Write<'a> {
    pub server: &'a ApiServer,
    pub call: &'a Call,
    pub target: &'a Target,
    pub sub: &'a str,
    pub dry_run: bool,
    pub manager: String,
    charges: Charges,
}

impl<'a> Write<'a> {
    pub fn new(
        server: &'a ApiServer,
        call: &'a Call,
        target: &'a Target,
        sub: &'a str,
    ) -> Result<Self, Status> {
        let manager = call.field_manager()?;
        Ok(Self { server, call, target, sub, dry_run: call.dry_run()?, manager, charges: Charges::default() })
    }

    pub fn strategy(&self) -> &'static dyn Strategy {
        strategy(&self.target.kind.group, &self.target.kind.plural)
    }

    pub fn context(&self) -> Context<'a> {
        Context { server: self.server, target: self.target, user: &self.call.user, dry_run: self.dry_run }
    }

    pub fn namespace(&self) -> &'a str {
        super::read::namespace_of(self.call, self.target)
    }

    /// A request as admission sees it. A namespace counts as its own namespace, as upstream has it.
    pub fn request<'b>(&'b self, operation: Operation, object: Value, old: Option<&'b Value>) -> Request<'b> {
        Request {
            operation,
            user: &self.call.user,
            group: &self.target.kind.group,
            version: &self.target.version,
            resource: &self.target.kind.plural,
            subresource: self.sub,
            kind: &self.target.kind.kind,
            namespace: &self.call.info.namespace,
            name: &self.call.info.name,
            object,
            old,
            dry_run: self.dry_run,
            charges: Some(&self.charges),
            warnings: Some(&self.call.warnings),
            reinvocation: Reinvocation::default(),
        }
    }

    /// Adds what the last validation charged to quotas to the transaction.
    pub fn charge(&self, compare: &mut Vec<Compare>, ops: &mut Vec<Op>) -> Result<(), Status> {
        for (quota, mut new) in self.charges.take() {
            let catalog = self.server.catalog();
            let Some(kind) = catalog.by_plural("", "resourcequotas") else { continue };
            crate::adapt::canonical(kind, &mut new);
            let key = kind.key(quota.namespace(), quota.name());
            compare.push(at_revision(&key, quota.revision()));
            ops.push(Encoded::new(new)?.put(&key, None));
        }
        Ok(())
    }

    /// Mutating admission.
    pub async fn admit(&self, op: Operation, new: Value, old: Option<&Value>) -> Result<Value, Status> {
        let mut r = self.request(op, new, old);
        self.server.admission.admit(&mut r).await?;
        Ok(r.object)
    }

    /// Validating admission; hands the object back.
    pub async fn validated(&self, op: Operation, new: Value, old: Option<&Value>) -> Result<Value, Status> {
        let r = self.request(op, new, old);
        self.server.admission.validate(&r).await?;
        Ok(r.object)
    }
}

/// Told to a client whose write lost too many races.
pub fn too_contended(target: &Target, name: &str) -> Status {
    target.conflict(
        name,
        "the object has been modified; please apply your changes to the latest version and try again",
    )
}
