//! get, list and watch of any kind.

use api::{Reason, Status};
use client::ObjectList;
use http::StatusCode;
use store::Fresh;

use super::{Target, output, selected};
use crate::body::Reply;
use crate::call::Call;
use crate::server::ApiServer;
use crate::storage::filter::Filter;
use crate::storage::paging::{Page, parse_revision};
use crate::storage::watch;

pub async fn get(s: &ApiServer, call: &Call, target: &Target) -> Result<Reply, Status> {
    let fresh = match call.query.get("resourceVersion").unwrap_or_default() {
        "" => Fresh::Newest,
        "0" => Fresh::Known,
        rv => Fresh::AtLeast(parse_revision(rv)?),
    };
    let o = s.storage.get_fresh(&target.key(call.namespace(), call.name()), fresh).await?;
    let o = o.ok_or_else(|| target.not_found(call.name()))?;
    output::object(s, call, target, o, StatusCode::OK).await
}

pub fn filter(call: &Call, target: &Target) -> Result<Filter, Status> {
    Filter::new(&target.kind, &target.version, &call.info.label_selector, &call.info.field_selector)
}

/// The one key that a list can find, when its selector names the object and nothing else is open.
pub fn exact_key(call: &Call, target: &Target, filter: &Filter) -> Option<String> {
    let name = filter.single_name()?;
    let whole = !target.kind.namespaced || !call.namespace().is_empty();
    (whole && !name.is_empty()).then(|| target.key(namespace_of(call, target), name))
}

/// The namespace in a key: `namespaces` themselves carry their name there.
pub fn namespace_of<'a>(call: &'a Call, target: &Target) -> &'a str {
    if target.kind.namespaced { call.namespace() } else { "" }
}

/// The page of a collection that the request asks for.
pub async fn page(s: &ApiServer, call: &Call, target: &Target) -> Result<ObjectList, Status> {
    let mut filter = filter(call, target)?;
    let shown = filter.take_shown();
    let page = Page::parse(&call.query)?;
    let prefix = target.key(namespace_of(call, target), "");
    let l = s.storage.list(&prefix, exact_key(call, target, &filter), &page, &filter).await?;
    let list = ObjectList {
        items: l.items,
        revision: l.revision,
        continue_token: l.continue_token,
        remaining: l.remaining,
    };
    match shown {
        Some(shown) => selected::list(s, target, list, &shown).await,
        None => Ok(list),
    }
}

pub async fn list(s: &ApiServer, call: &Call, target: &Target) -> Result<Reply, Status> {
    let list = page(s, call, target).await?;
    output::list(s, call, target, list).await
}

pub async fn watch(s: &ApiServer, call: &Call, target: &Target) -> Result<Reply, Status> {
    // The deprecated /watch/…/name form watches one object.
    let mut filter = match (call.info.path.contains("/watch/"), call.info.name.is_empty()) {
        (true, false) => Filter::new(
            &target.kind,
            &target.version,
            &call.info.label_selector,
            &format!("metadata.name={}", call.info.name),
        )?,
        _ => filter(call, target)?,
    };
    let options = watch::Options::parse(&call.query)?;
    if s.stop.is_cancelled() {
        return Err(Status::new(Reason::ServiceUnavailable, "the server is stopping"));
    }
    let prefix = target.key(namespace_of(call, target), "");
    let events = match filter.take_shown() {
        Some(shown) => selected::watch(s, target, &prefix, &options, filter, shown).await,
        None => s.storage.watch(&prefix, &options, filter, s.stop.clone()).await,
    };
    output::watch(s, call, target, events)
}
