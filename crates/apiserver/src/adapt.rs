//! The few places where the pure crates are called with this crate's types.

use api::Status;
use api::catalog::Descriptor;
use api::validation::{self, ErrorList};
use serde_json::Value;

/// Fills in what upstream's decoder fills in, in the version at hand.
pub fn default(kind: &Descriptor, version: &str, v: &mut Value) {
    match kind.custom_of(version) {
        Some(c) => c.default(v),
        None => api::defaults::apply(&kind.group, version, &kind.kind, v),
    }
}

/// What a failed patch means to the client.
pub fn patch_error(kind: &Descriptor, name: &str, e: patch::Error) -> Status {
    let mut s = Status::from(e);
    // Like upstream, a patch that does not fit names no object (kubectl shows the reason only then), and a conflict only
    // the owners.
    if !matches!(s.reason, api::Reason::BadRequest | api::Reason::Invalid | api::Reason::Conflict) {
        s.group = kind.group.clone();
        s.kind = kind.plural.clone();
        s.name = name.to_owned();
    }
    s
}

/// Canonical form of a stored object.
pub fn canonical(kind: &Descriptor, v: &mut Value) {
    if let Some(d) = kind.hub_definition() {
        api::canonical::canonicalize(v, d);
    }
}

pub fn invalid(kind: &Descriptor, v: &Value, errors: ErrorList) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    let name = v["metadata"]["name"].as_str().unwrap_or_default();
    let name =
        if name.is_empty() { v["metadata"]["generateName"].as_str().unwrap_or_default() } else { name };
    Err(Status::invalid(&kind.hub.group, &kind.kind, name, errors.into_causes()))
}

/// The group whose rules hold: events are stored in one form, and judged by the group that they came through.
fn rules_of(kind: &Descriptor) -> &str {
    if kind.kind == "Event" { &kind.group } else { &kind.hub.group }
}

pub fn validate_create(kind: &Descriptor, new: &Value) -> Result<(), Status> {
    if let Some(c) = kind.custom_of(&kind.hub.version) {
        return invalid(kind, new, validation::custom_resource(c.checks(), kind.namespaced, new, None));
    }
    invalid(kind, new, validation::create(rules_of(kind), &kind.hub.kind, new))
}

pub fn validate_update(kind: &Descriptor, sub: &str, new: &Value, old: &Value) -> Result<(), Status> {
    if let Some(c) = kind.custom_of(&kind.hub.version) {
        return invalid(kind, new, validation::custom_resource(c.checks(), kind.namespaced, new, Some(old)));
    }
    let errors = match sub {
        "" => validation::update(rules_of(kind), &kind.hub.kind, new, old),
        sub => validation::update_subresource(&kind.hub.group, &kind.hub.kind, sub, new, old),
    };
    invalid(kind, new, errors)
}
