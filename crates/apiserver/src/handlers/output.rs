//! From stored objects to what the client asked for: another version, a Table, metadata only, YAML.

use api::{Object, Status};
use client::{ObjectList, WatchEvent};
use futures::StreamExt;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::Target;
use crate::body::{self, Body, ListBody, Reply, WatchBody};
use crate::call::Call;
use crate::negotiate::{self, Accepted, Form};

/// What the client accepts, and how rows of a Table carry their objects.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    accepted: Accepted,
    include: Include,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

impl Wanted {
    pub fn of(call: &Call) -> Result<Self, Status> {
        if call.peer.local {
            return Ok(Self::default());
        }
        let accepted = negotiate::accept(&call.headers)?;
        let include = match call.query.get("includeObject").unwrap_or_default() {
            "None" => Include::None,
            "Object" => Include::Object,
            "" | "Metadata" => Include::Metadata,
            other => {
                return Err(Status::bad_request(format!("unrecognized includeObject value: \"{other}\"")));
            }
        };
        Ok(Self { accepted, include })
    }
    fn native(&self) -> bool {
        self.accepted.form == Form::Native && !self.accepted.yaml && !self.accepted.pretty
    }
}

/// The object in the version that was asked for. Hub objects stay shared.
pub fn convert(target: &Target, o: &Object) -> Result<Object, Status> {
    if target.is_hub() {
        return Ok(o.clone());
    }
    let mut v = o.value().map_err(Status::internal)?;
    target.kind.from_hub(&target.version, &mut v).map_err(Status::internal)?;
    Object::from_value(v, o.revision()).map_err(Status::internal)
}

fn partial(o: &Object) -> Result<Value, Status> {
    let mut v = o.value().map_err(Status::internal)?;
    let metadata = v.get_mut("metadata").map(Value::take).unwrap_or_else(|| json!({}));
    Ok(json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}))
}

fn columns(target: &Target) -> Value {
    crate::adapt::table_columns(&target.kind, &target.version)
}

fn row(target: &Target, o: &Object, include: Include) -> Result<Value, Status> {
    let v = o.value().map_err(Status::internal)?;
    let cells = crate::adapt::table_cells(&target.kind, &target.version, &v);
    let mut row = json!({"cells": cells});
    match include {
        Include::None => {}
        Include::Metadata => row["object"] = partial(o)?,
        Include::Object => row["object"] = v,
    }
    Ok(row)
}

fn table(target: &Target, objects: &[Object], include: Include, columns: Value) -> Result<Value, Status> {
    let rows = objects.iter().map(|o| row(target, o, include)).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "columnDefinitions": columns, "rows": rows}))
}

fn send(code: StatusCode, v: &Value, w: Accepted) -> Reply {
    if w.yaml {
        let text = serde_norway::to_string(v).unwrap_or_default();
        return body::bytes(code, "application/yaml", text);
    }
    if w.pretty {
        let mut b = serde_json::to_vec_pretty(v).unwrap_or_default();
        b.push(b'\n');
        return body::bytes(code, body::JSON, b);
    }
    body::json_value(code, v)
}

/// One stored object as an answer.
pub fn object(call: &Call, target: &Target, o: Object, code: StatusCode) -> Result<Reply, Status> {
    let w = Wanted::of(call)?;
    let o = convert(target, &o)?;
    if w.native() {
        return Ok(body::object(code, o));
    }
    let v = match w.accepted.form {
        Form::Native => o.value().map_err(Status::internal)?,
        Form::Partial => partial(&o)?,
        Form::Table => {
            let mut t = table(target, std::slice::from_ref(&o), w.include, columns(target))?;
            t["metadata"]["resourceVersion"] = json!(o.revision().to_string());
            t
        }
    };
    Ok(send(code, &v, w.accepted))
}

/// A value that is no stored object (Scale, reviews, Status).
pub fn value(call: &Call, code: StatusCode, v: &Value) -> Result<Reply, Status> {
    let accepted = if call.peer.local { Accepted::default() } else { negotiate::accept(&call.headers)? };
    Ok(send(code, v, accepted))
}

pub fn list(call: &Call, target: &Target, mut l: ObjectList) -> Result<Reply, Status> {
    let w = Wanted::of(call)?;
    if !target.is_hub() {
        l.items = l.items.iter().map(|o| convert(target, o)).collect::<Result<_, _>>()?;
    }
    if w.native() {
        return Ok(body::list(ListBody {
            list: l,
            api_version: target.api_version(),
            kind: target.kind.list_kind.clone(),
        }));
    }
    let mut v = match w.accepted.form {
        Form::Table => table(target, &l.items, w.include, columns(target))?,
        form => {
            let items = l
                .items
                .iter()
                .map(|o| if form == Form::Partial { partial(o) } else { o.value().map_err(Status::internal) })
                .collect::<Result<Vec<_>, _>>()?;
            let (kind, api_version) = match form {
                Form::Partial => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
                _ => (target.kind.list_kind.clone(), target.api_version()),
            };
            json!({"kind": kind, "apiVersion": api_version, "metadata": {}, "items": items})
        }
    };
    v["metadata"]["resourceVersion"] = json!(l.revision.to_string());
    if !l.continue_token.is_empty() {
        v["metadata"]["continue"] = json!(l.continue_token);
    }
    if let Some(n) = l.remaining {
        v["metadata"]["remainingItemCount"] = json!(n);
    }
    Ok(send(StatusCode::OK, &v, w.accepted))
}

pub fn watch(call: &Call, target: &Target, events: client::WatchStream) -> Result<Reply, Status> {
    let w = Wanted::of(call)?;
    if w.accepted.yaml {
        return Err(Status::new(api::Reason::NotAcceptable, "watches are sent as application/json only"));
    }
    let t = target.clone();
    let events = if target.is_hub() {
        events
    } else {
        let t = t.clone();
        events
            .map(move |e| {
                let result = match &e {
                    WatchEvent::Added(o) => convert(&t, o).map(WatchEvent::Added),
                    WatchEvent::Modified(o) => convert(&t, o).map(WatchEvent::Modified),
                    WatchEvent::Deleted(o) => convert(&t, o).map(WatchEvent::Deleted),
                    _ => return e,
                };
                result.unwrap_or_else(WatchEvent::Error)
            })
            .boxed()
    };
    if w.accepted.form == Form::Native {
        return Ok(body::watch(WatchBody { events, api_version: target.api_version(), kind: target.kind.kind.clone() }));
    }
    // Column definitions go with the first event only, as upstream sends them.
    let mut first = Some(columns(target));
    let lines = events.map(move |e| {
        let (word, o) = match &e {
            WatchEvent::Added(o) => ("ADDED", o),
            WatchEvent::Modified(o) => ("MODIFIED", o),
            WatchEvent::Deleted(o) => ("DELETED", o),
            WatchEvent::Bookmark { revision, initial_events_end } => {
                let v = if w.accepted.form == Form::Table {
                    let inner = body::bookmark(*revision, *initial_events_end, "meta.k8s.io/v1", "PartialObjectMetadata");
                    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": revision.to_string()},
                        "columnDefinitions": first.take().unwrap_or(Value::Null), "rows": [{"cells": [], "object": inner}]})
                } else {
                    body::bookmark(*revision, *initial_events_end, "meta.k8s.io/v1", "PartialObjectMetadata")
                };
                return Ok::<_, std::convert::Infallible>(body::value_line("BOOKMARK", &v));
            }
            WatchEvent::Error(s) => return Ok(body::value_line("ERROR", &s.to_value())),
        };
        let made = match w.accepted.form {
            Form::Table => table(&t, std::slice::from_ref(o), w.include, first.take().unwrap_or(Value::Null)).map(|mut t| {
                t["metadata"]["resourceVersion"] = json!(o.revision().to_string());
                t
            }),
            _ => partial(o),
        };
        Ok(match made {
            Ok(v) => body::value_line(word, &v),
            Err(s) => body::value_line("ERROR", &s.to_value()),
        })
    });
    let mut r = Reply::new(Body::Stream(body::stream(lines)));
    r.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(body::JSON));
    Ok(r)
}
