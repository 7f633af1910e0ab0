//! What is special to a kind and needs the store or the request: one small file per kind, found by its name here. The
//! order in which the hooks run is fixed in `handlers::{create, update, delete}`.

mod api_services;
pub mod apps;
pub mod batch;
pub mod certificates;
pub mod core;
pub mod definitions;
mod expressions;
mod pod_certificates;
pub mod rules;
mod status;

use std::time::Duration;

use api::Status;
use async_trait::async_trait;
use serde_json::Value;
use store::{Compare, Op};

use crate::handlers::Target;
use crate::server::ApiServer;
use crate::user::User;

/// Writes that belong to the same transaction as the object itself.
#[derive(Default)]
pub struct Extra {
    pub compare: Vec<Compare>,
    pub ops: Vec<Op>,
}

/// The request as hooks see it.
pub struct Context<'a> {
    pub server: &'a ApiServer,
    pub target: &'a Target,
    pub user: &'a User,
    pub dry_run: bool,
}

/// How a deletion is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grace {
    /// Gone at once, but for finalizers.
    None,
    Seconds(i64),
}

#[async_trait]
pub trait Strategy: Send + Sync {
    /// Nothing is special to the kind.
    fn is_plain(&self) -> bool {
        false
    }

    /// Pure: initial status, forced fields.
    fn prepare_create(&self, _new: &mut Value) {}

    /// Pure: what this subresource may not change is taken from the old object.
    fn prepare_update(&self, _sub: &str, _new: &mut Value, _old: &Value) {}

    /// Allocations; writes in `extra` share the object's transaction. Runs again after a lost race.
    async fn allocate(
        &self,
        _c: &Context<'_>,
        _new: &mut Value,
        _old: Option<&Value>,
        _extra: &mut Extra,
    ) -> Result<(), Status> {
        Ok(())
    }

    /// What goes with the object when it goes.
    async fn release(&self, _c: &Context<'_>, _old: &Value, _extra: &mut Extra) -> Result<(), Status> {
        Ok(())
    }

    /// Texts for the client about an accepted object.
    fn warnings(&self, _new: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    fn ttl(&self, _new: &Value) -> Option<Duration> {
        None
    }

    /// Grace of a deletion, from the object and what was asked for.
    fn grace(&self, _object: &Value, _asked: Option<i64>) -> Grace {
        Grace::None
    }

    /// Changes made when a deletion begins (a namespace's phase).
    fn begin_deletion(&self, _object: &mut Value) {}

    /// More than `metadata.finalizers` holding the object back (a namespace's `spec.finalizers`).
    fn held_back(&self, _object: &Value) -> bool {
        false
    }
}

struct Plain;
impl Strategy for Plain {
    fn is_plain(&self) -> bool {
        true
    }
}

/// The hooks of a kind.
pub fn strategy(group: &str, plural: &str) -> &'static dyn Strategy {
    match (group, plural) {
        ("", "pods") => &core::pods::Pods,
        ("", "services") => &core::services::Services,
        ("", "namespaces") => &core::namespaces::Namespaces,
        ("", "persistentvolumeclaims" | "persistentvolumes") => &core::small::Volumes,
        ("", "limitranges") => &core::small::LimitRanges,
        ("" | "events.k8s.io", "events") => &core::small::Events,
        ("apps", "daemonsets") => &apps::DaemonSets,
        ("batch", "jobs") => &batch::Jobs,
        ("apiextensions.k8s.io", "customresourcedefinitions") => &definitions::Definitions,
        ("admissionregistration.k8s.io", _) => &expressions::Expressions,
        ("apiregistration.k8s.io", "apiservices") => &api_services::ApiServices,
        ("batch", "cronjobs") => &batch::CronJobs,
        ("certificates.k8s.io", "certificatesigningrequests") => &certificates::Requests,
        ("certificates.k8s.io", "podcertificaterequests") => &pod_certificates::Requests,
        _ => &Plain,
    }
}
