//! From a RequestInfo to the code that answers it: which kind, which verb, which subresource. Nothing here is special to a
//! kind; that stands in `registry`.

pub mod conversion_review;
pub mod convert;
pub mod create;
pub mod decode;
pub mod delete;
pub mod duplicates;
pub mod managed;
pub mod meta;
pub mod output;
pub mod patch;
pub mod read;
pub mod reviews;
pub mod scale;
mod selected;
pub mod update;
pub mod write;

use std::sync::Arc;

use api::catalog::{Descriptor, Version};
use api::{Reason, Status};
use http::Method;

use crate::body::Reply;
use crate::call::Call;
use crate::chain::no_such_path;
use crate::server::ApiServer;
use crate::{registry, resource_metrics, streaming};

/// The kind and version that a request is about.
#[derive(Clone)]
pub struct Target {
    pub kind: Arc<Descriptor>,
    pub version: String,
}

impl Target {
    /// Objects of custom resources are worked on in the version that was asked for.
    pub fn new(kind: &Arc<Descriptor>, version: &str) -> Self {
        let kind = match kind.custom && !kind.is_hub(version) {
            true => Arc::new(kind.in_version(version)),
            false => kind.clone(),
        };
        Self { kind, version: version.to_owned() }
    }
    pub fn api_version(&self) -> String {
        self.kind.api_version(&self.version)
    }
    pub fn is_hub(&self) -> bool {
        self.kind.is_hub(&self.version)
    }
    pub fn served(&self) -> Option<&Version> {
        self.kind.version(&self.version)
    }
    pub fn has_subresource(&self, name: &str) -> bool {
        self.served().is_some_and(|v| v.subresource(name).is_some())
    }
    pub fn not_found(&self, name: &str) -> Status {
        Status::not_found(&self.kind.group, &self.kind.plural, name)
    }
    pub fn conflict(&self, name: &str, why: &str) -> Status {
        Status::conflict(&self.kind.group, &self.kind.plural, name, why)
    }
    /// Key of one object.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        self.kind.key(namespace, name)
    }
}

pub fn method_not_allowed() -> Status {
    Status::new(Reason::MethodNotAllowed, "the server does not allow this method on the requested resource")
}

/// A path that a served group version does not have.
fn no_such_resource() -> Status {
    Status::new(Reason::NotFound, "the server could not find the requested resource")
}

pub async fn dispatch(s: &ApiServer, mut call: Call) -> Result<Reply, Status> {
    let info = &call.info;
    let catalog = s.catalog();
    let known = (info.api_prefix == "api") == info.api_group.is_empty()
        && catalog.serves(&info.api_group, &info.api_version);
    if !known {
        return Ok(no_such_path());
    }
    let Some(kind) = catalog.by_plural(&info.api_group, &info.resource) else {
        return Err(no_such_resource());
    };
    let Some(version) = kind.version(&info.api_version).filter(|v| v.served) else {
        return Err(no_such_resource());
    };
    // Namespaces are objects of the cluster although their name stands where a namespace does.
    let in_namespace = !info.namespace.is_empty() && info.resource != "namespaces";
    if in_namespace != kind.namespaced {
        // `GET /api/v1/pods` lists all namespaces; one object, or a write, needs its own.
        let whole = !in_namespace && (info.is_collection() || info.verb == "create");
        if !whole {
            return Err(no_such_resource());
        }
        if !info.is_read_only() {
            return Err(method_not_allowed());
        }
    }
    if let Some(w) = &version.deprecation_warning {
        call.warnings.add(w.clone());
    }
    let target = Target::new(kind, &version.name);
    if !info.subresource.is_empty() {
        return Box::pin(subresource(s, call, target)).await;
    }
    if !kind.stored {
        let metrics = kind.group == resource_metrics::GROUP;
        return match (call.info.verb.as_str(), version.has_verb(&call.info.verb)) {
            ("list", true) if metrics => Box::pin(resource_metrics::answer::list(s, &call, &target)).await,
            ("get", true) if metrics => Box::pin(resource_metrics::answer::get(s, &call, &target)).await,
            ("create", true) => Box::pin(reviews::create(s, call, target)).await,
            ("list" | "get", true) => reviews::component_statuses(s, &call, &target).await,
            _ => Err(method_not_allowed()),
        };
    }
    // A collection is not written as one, and an object is not made under its own path.
    let one = matches!(call.info.verb.as_str(), "get" | "update" | "patch" | "delete");
    let misplaced = if one {
        call.info.name.is_empty()
    } else {
        call.info.verb == "create" && !call.info.name.is_empty()
    };
    if misplaced || !version.has_verb(&call.info.verb) {
        return Err(method_not_allowed());
    }
    if kind.terminating && call.info.verb == "create" {
        return Err(Status::new(
            Reason::MethodNotAllowed,
            "create not allowed while custom resource definition is terminating",
        ));
    }
    // Boxed one by one: a request pays for its own verb, not for the largest.
    match call.info.verb.as_str() {
        "get" => Box::pin(read::get(s, &call, &target)).await,
        "list" => Box::pin(read::list(s, &call, &target)).await,
        "watch" => {
            let socket = streaming::Socket::asked(&mut call)?;
            let reply = Box::pin(read::watch(s, &call, &target)).await?;
            Ok(match socket {
                Some(socket) => socket.events(reply),
                None => reply,
            })
        }
        "create" => Box::pin(create::handle(s, &call, &target)).await,
        "update" => Box::pin(update::handle(s, &call, &target, "")).await,
        "patch" => Box::pin(patch::handle(s, &call, &target, "")).await,
        "delete" => Box::pin(delete::handle(s, &call, &target)).await,
        "deletecollection" => Box::pin(delete::collection(s, &call, &target)).await,
        _ => Err(method_not_allowed()),
    }
}

async fn subresource(s: &ApiServer, call: Call, target: Target) -> Result<Reply, Status> {
    let name = call.info.subresource.clone();
    let Some(sub) = target.served().and_then(|v| v.subresource(&name)).cloned() else {
        return Err(no_such_resource());
    };
    let method = if call.method == Method::HEAD { "GET" } else { call.method.as_str() };
    if !sub.methods.iter().any(|m| m == method) && !sub.connect {
        return Err(method_not_allowed());
    }
    if call.info.name.is_empty() {
        return Err(no_such_resource());
    }
    if sub.connect || name == "log" {
        return streaming::handle(s, call, &target, &name).await;
    }
    if !call.info.tail.is_empty() {
        return Err(no_such_resource());
    }
    match (name.as_str(), call.info.verb.as_str()) {
        ("scale", "get") => scale::get(s, &call, &target).await,
        ("scale", "update") => scale::update(s, &call, &target).await,
        ("scale", "patch") => scale::patch(s, &call, &target).await,
        ("binding", "create") => registry::core::binding::create(s, &call, &target).await,
        ("eviction", "create") => registry::core::eviction::create(s, &call, &target).await,
        ("token", "create") => registry::core::token::create(s, &call, &target).await,
        (_, "get") => read::get(s, &call, &target).await,
        (sub, "update") => update::handle(s, &call, &target, sub).await,
        (sub, "patch") => patch::handle(s, &call, &target, sub).await,
        _ => Err(method_not_allowed()),
    }
}
