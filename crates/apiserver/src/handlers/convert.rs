//! Between the version in which an object is stored and the one that is asked for. Built-in kinds convert by pure
//! functions; custom resources by name only, or by their definition's webhook, which is asked for many objects at once.
//! Everything inside a request is in the request's version: what is read is converted here, and what is written too.
//! https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/

use std::sync::Arc;

use api::catalog::Descriptor;
use api::decode::{Expect, FieldValidation, decode_value};
use api::{Object, Reason, Status};
use client::{WatchEvent, WatchStream};
use futures::StreamExt;
use serde_json::Value;

use super::{Target, conversion_review};
use crate::server::ApiServer;
use crate::{Reader, adapt};

/// Watch events that are converted together.
const EVENTS: usize = 100;

fn version_of(v: &Value) -> &str {
    let api_version = v["apiVersion"].as_str().unwrap_or_default();
    api_version.rsplit('/').next().unwrap_or_default()
}

/// Drops what the schema of `version` does not know.
fn pruned(kind: &Descriptor, version: &str, v: Value) -> Result<Value, Status> {
    let Some(definition) = kind.version(version).and_then(|v| v.schema.definition()) else { return Ok(v) };
    let expect = Expect { group: &kind.group, version, kind: &kind.kind, definition };
    Ok(decode_value(v, expect, FieldValidation::Ignore)?.value)
}

/// A conversion that failed, as upstream tells it.
fn failed(why: String) -> Status {
    Status::new(Reason::Unknown, why)
}

/// Objects of a custom resource in another version, in the same order. Those that are in it already are left alone.
pub async fn values(
    reader: &dyn Reader,
    kind: &Descriptor,
    version: &str,
    all: Vec<Value>,
) -> Result<Vec<Value>, Status> {
    let other: Vec<usize> =
        (0..all.len()).filter(|i| all.get(*i).is_some_and(|v| version_of(v) != version)).collect();
    if other.is_empty() {
        return Ok(all);
    }
    let mut all = all;
    for i in &other {
        let from = all.get(*i).map(version_of).unwrap_or_default();
        if kind.version(from).is_none() {
            let api_version = kind.api_version(from);
            return Err(failed(format!(
                "request to convert CR from an invalid group/version: {api_version}"
            )));
        }
    }
    if let Some(c) = &kind.converter {
        let sent: Vec<Value> = other.iter().filter_map(|i| all.get_mut(*i).map(Value::take)).collect();
        let wanted = kind.api_version(version);
        let got = conversion_review::convert(reader, c, &wanted, sent).await.map_err(failed)?;
        for (i, v) in other.iter().zip(got) {
            if let Some(slot) = all.get_mut(*i) {
                *slot = v;
            }
        }
    } else {
        for i in &other {
            if let Some(v) = all.get_mut(*i) {
                kind.from_hub(version, v).map_err(Status::internal)?;
            }
        }
    }
    for i in other {
        if let Some(v) = all.get_mut(i) {
            *v = pruned(kind, version, v.take())?;
        }
    }
    Ok(all)
}

/// Stored objects of a custom resource in `version`, with the defaults of the version that they are stored in.
async fn read(
    reader: &dyn Reader,
    kind: &Descriptor,
    version: &str,
    all: &[Object],
) -> Result<Vec<Value>, Status> {
    let mut out = Vec::with_capacity(all.len());
    for o in all {
        let mut v = o.value().map_err(Status::internal)?;
        let stored = version_of(&v).to_owned();
        adapt::default(kind, &stored, &mut v);
        out.push(v);
    }
    values(reader, kind, version, out).await
}

/// A stored object as the request works on it: with its resourceVersion, in the request's version.
pub async fn from_storage(s: &ApiServer, target: &Target, o: &Object) -> Result<Value, Status> {
    if !target.kind.custom || target.kind.is_stored_as(&target.version) {
        return o.value().map_err(Status::internal);
    }
    let all = read(s.reader().as_ref(), &target.kind, &target.version, std::slice::from_ref(o)).await?;
    all.into_iter().next().ok_or_else(|| Status::internal("a conversion gave nothing"))
}

/// What a request made, in the version that is stored.
pub async fn to_storage(s: &ApiServer, target: &Target, v: Value) -> Result<Value, Status> {
    if !target.kind.custom || target.kind.storage_version == target.version {
        return Ok(v);
    }
    let all = values(s.reader().as_ref(), &target.kind, &target.kind.storage_version, vec![v]).await?;
    all.into_iter().next().ok_or_else(|| Status::internal("a conversion gave nothing"))
}

/// Stored objects in the version that was asked for. What needs no rewriting stays shared.
pub async fn shown(s: &ApiServer, target: &Target, all: Vec<Object>) -> Result<Vec<Object>, Status> {
    shown_by(s.reader().as_ref(), target, all).await
}

pub async fn one(s: &ApiServer, target: &Target, o: Object) -> Result<Object, Status> {
    if target.kind.is_stored_as(&target.version) {
        return Ok(o);
    }
    let all = shown(s, target, vec![o]).await?;
    all.into_iter().next().ok_or_else(|| Status::internal("a conversion gave nothing"))
}

async fn shown_by(reader: &dyn Reader, target: &Target, all: Vec<Object>) -> Result<Vec<Object>, Status> {
    let kind = &target.kind;
    if kind.is_stored_as(&target.version) {
        return Ok(all);
    }
    if !kind.custom {
        let convert = |o: &Object| {
            let mut v = o.value().map_err(Status::internal)?;
            kind.from_hub(&target.version, &mut v).map_err(Status::internal)?;
            Object::from_value(v, o.revision()).map_err(Status::internal)
        };
        return all.iter().map(convert).collect();
    }
    let values = read(reader, kind, &target.version, &all).await?;
    let made = values.into_iter().zip(&all);
    made.map(|(v, o)| Object::from_value(v, o.revision()).map_err(Status::internal)).collect()
}

fn object_of(e: &WatchEvent) -> Option<&Object> {
    match e {
        WatchEvent::Added(o) | WatchEvent::Modified(o) | WatchEvent::Deleted(o) => Some(o),
        _ => None,
    }
}

/// Events with their objects in the version that was asked for. Those that are there together are converted together.
pub fn events(s: &ApiServer, target: &Target, events: WatchStream) -> WatchStream {
    if target.kind.is_stored_as(&target.version) {
        return events;
    }
    let (reader, target) = (s.reader().clone(), target.clone());
    let batches =
        events.ready_chunks(EVENTS).then(move |batch| batch_shown(reader.clone(), target.clone(), batch));
    // A watch that can't go on ends with the reason.
    let until_error = futures::stream::unfold(Some(batches.boxed()), |batches| async move {
        let mut batches = batches?;
        let batch = batches.next().await?;
        let over = batch.iter().any(|e| matches!(e, WatchEvent::Error(_)));
        Some((batch, (!over).then_some(batches)))
    });
    until_error.flat_map(futures::stream::iter).boxed()
}

async fn batch_shown(reader: Arc<dyn Reader>, target: Target, batch: Vec<WatchEvent>) -> Vec<WatchEvent> {
    let objects: Vec<Object> = batch.iter().filter_map(object_of).cloned().collect();
    let mut converted = match shown_by(reader.as_ref(), &target, objects).await {
        Ok(all) => all.into_iter(),
        Err(s) => return vec![WatchEvent::Error(s)],
    };
    let mut out = Vec::with_capacity(batch.len());
    for e in batch {
        let mut next = || converted.next();
        let made = match e {
            WatchEvent::Added(_) => next().map(WatchEvent::Added),
            WatchEvent::Modified(_) => next().map(WatchEvent::Modified),
            WatchEvent::Deleted(_) => next().map(WatchEvent::Deleted),
            other => Some(other),
        };
        out.extend(made);
    }
    out
}
