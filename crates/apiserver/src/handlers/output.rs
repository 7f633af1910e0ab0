//! From stored objects to what the client asked for: another version, a Table, metadata only, YAML.

use api::columns::{self, IncludeObject, ListMeta};
use api::{Object, Status};
use client::{ObjectList, WatchEvent};
use futures::StreamExt;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::{Target, convert};
use crate::body::{self, Body, ListBody, Reply, WatchBody};
use crate::call::Call;
use crate::lines;
use crate::negotiate::{self, Accepted, Form, Offer};
use crate::server::ApiServer;

/// What the client accepts, and how rows of a Table carry their objects.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    accepted: Accepted,
    include: IncludeObject,
}

impl Wanted {
    pub fn of(call: &Call, target: &Target) -> Result<Self, Status> {
        if call.peer.local {
            return Ok(Self::default());
        }
        Self::with(call, Offer { protobuf: target.kind.has_protobuf(&target.version), transforms: true })
    }

    fn with(call: &Call, offer: Offer) -> Result<Self, Status> {
        if call.peer.local {
            return Ok(Self::default());
        }
        let accepted = accepted(call, offer)?;
        let include = match accepted.form {
            Form::Table => {
                let text = call.query.get("includeObject").unwrap_or_default();
                IncludeObject::parse(text).ok_or_else(|| {
                    Status::bad_request(format!("Unable to convert to Table as requested: includeObject: Invalid value: {text:?}: must be 'Metadata', 'Object', 'None', or empty"))
                })?
            }
            _ => IncludeObject::default(),
        };
        Ok(Self { accepted, include })
    }
    fn native(&self) -> bool {
        self.accepted.form == Form::Native
            && !self.accepted.yaml
            && !self.accepted.pretty
            && !self.accepted.protobuf
    }
}

fn accepted(call: &Call, offer: Offer) -> Result<Accepted, Status> {
    let mut a = negotiate::accept(&call.headers, offer)?;
    a.pretty |= negotiate::is_pretty(call.query.get("pretty"), call.header("user-agent"));
    Ok(a)
}

fn partial(o: &Object) -> Result<Value, Status> {
    let mut v = o.value().map_err(Status::internal)?;
    let metadata = v.get_mut("metadata").map(Value::take).unwrap_or_else(|| json!({}));
    Ok(json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}))
}

fn table(target: &Target, objects: &[Object], include: IncludeObject, meta: &ListMeta) -> Vec<u8> {
    let now = client::clock::now().as_second();
    if let Some(c) = target.kind.custom_of(&target.version) {
        return columns::custom::table(&c.columns, objects, now, include, meta);
    }
    columns::table(&target.kind.group, &target.kind.kind, objects, now, include, meta)
}

fn as_table(code: StatusCode, bytes: Vec<u8>, w: Accepted) -> Result<Reply, Status> {
    if w.yaml || w.pretty {
        let v: Value = serde_json::from_slice(&bytes).map_err(Status::internal)?;
        return Ok(send(code, &v, w));
    }
    Ok(body::bytes(code, body::JSON, bytes))
}

fn send(code: StatusCode, v: &Value, w: Accepted) -> Reply {
    if w.protobuf {
        match api::protobuf::encode(v) {
            Ok(b) => return body::bytes(code, api::protobuf::CONTENT_TYPE, b),
            Err(e) => tracing::warn!(error = %e, "an answer has no protobuf form and goes out as JSON"),
        }
    }
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
pub async fn object(
    s: &ApiServer,
    call: &Call,
    target: &Target,
    o: Object,
    code: StatusCode,
) -> Result<Reply, Status> {
    let w = Wanted::of(call, target)?;
    let o = convert::one(s, target, o).await?;
    if w.native() {
        return Ok(body::object(code, o));
    }
    let v = match w.accepted.form {
        Form::Native => o.value().map_err(Status::internal)?,
        Form::Partial => partial(&o)?,
        Form::Table => {
            let meta = ListMeta { resource_version: o.revision().to_string(), ..ListMeta::default() };
            return as_table(code, table(target, std::slice::from_ref(&o), w.include, &meta), w.accepted);
        }
    };
    Ok(send(code, &v, w.accepted))
}

/// A value that is no stored object (reviews, tokens, bindings) and can be shown as nothing else.
pub fn value(call: &Call, code: StatusCode, v: &Value) -> Result<Reply, Status> {
    of_offer(call, code, v, Offer { protobuf: true, transforms: false })
}

/// What became of a stored object: itself, whatever transformation was asked for.
pub fn outcome(call: &Call, code: StatusCode, v: &Value) -> Result<Reply, Status> {
    of_offer(call, code, v, Offer { protobuf: true, transforms: true })
}

fn of_offer(call: &Call, code: StatusCode, v: &Value, offer: Offer) -> Result<Reply, Status> {
    let accepted = if call.peer.local { Accepted::default() } else { accepted(call, offer)? };
    Ok(send(code, v, accepted))
}

/// A view on a stored object (Scale), as a row where a Table is asked for.
pub fn view(call: &Call, (group, kind): (&str, &str), v: Value, revision: u64) -> Result<Reply, Status> {
    let w = Wanted::with(call, Offer { protobuf: true, transforms: true })?;
    if w.accepted.form != Form::Table {
        return Ok(send(StatusCode::OK, &v, w.accepted));
    }
    let o = Object::from_value(v, revision).map_err(Status::internal)?;
    let meta = ListMeta { resource_version: revision.to_string(), ..ListMeta::default() };
    let now = client::clock::now().as_second();
    as_table(
        StatusCode::OK,
        columns::table(group, kind, std::slice::from_ref(&o), now, w.include, &meta),
        w.accepted,
    )
}

/// A failure, in the form that the client reads best; JSON where there is none.
pub fn failure(s: &Status, accept: &str) -> Reply {
    let offer = Offer { protobuf: true, transforms: true };
    let accepted = negotiate::choose(accept, offer).unwrap_or_default();
    if !accepted.protobuf && !accepted.yaml {
        return body::status(s);
    }
    let code = StatusCode::from_u16(s.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut r = send(code, &s.to_value(), accepted);
    body::retry_after(&mut r, s);
    r
}

pub async fn list(s: &ApiServer, call: &Call, target: &Target, mut l: ObjectList) -> Result<Reply, Status> {
    let w = Wanted::of(call, target)?;
    l.items = convert::shown(s, target, l.items).await?;
    if w.native() {
        return Ok(body::list(ListBody {
            list: l,
            api_version: target.api_version(),
            kind: target.kind.list_kind.clone(),
        }));
    }
    let mut v = match w.accepted.form {
        Form::Table => {
            let meta = ListMeta {
                resource_version: l.revision.to_string(),
                continue_token: l.continue_token,
                remaining: l.remaining.and_then(|n| i64::try_from(n).ok()),
                without_columns: false,
            };
            return as_table(StatusCode::OK, table(target, &l.items, w.include, &meta), w.accepted);
        }
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

pub fn watch(
    s: &ApiServer,
    call: &Call,
    target: &Target,
    events: client::WatchStream,
) -> Result<Reply, Status> {
    let w = Wanted::of(call, target)?;
    if w.accepted.yaml {
        return Err(Status::new(
            api::Reason::NotAcceptable,
            "only the following media types are accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch",
        ));
    }
    let t = target.clone();
    let events = convert::events(s, target, events);
    if w.accepted.protobuf {
        return Ok(protobuf_watch(target, events, w.accepted.form));
    }
    if w.accepted.form == Form::Native {
        return Ok(body::watch(WatchBody {
            events,
            api_version: target.api_version(),
            kind: target.kind.kind.clone(),
        }));
    }
    let mut without_columns = false;
    let lines = events.map(move |e| {
        let (word, o) = match &e {
            WatchEvent::Added(o) => ("ADDED", o),
            WatchEvent::Modified(o) => ("MODIFIED", o),
            WatchEvent::Deleted(o) => ("DELETED", o),
            WatchEvent::Bookmark { revision, initial_events_end } => {
                let inner = body::bookmark(*revision, *initial_events_end, "meta.k8s.io/v1", "PartialObjectMetadata");
                let v = if w.accepted.form == Form::Table {
                    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": revision.to_string()},
                        "columnDefinitions": null, "rows": [{"cells": [], "object": inner}]})
                } else {
                    inner
                };
                return Ok::<_, std::convert::Infallible>(body::value_line("BOOKMARK", &v));
            }
            WatchEvent::Error(s) => return Ok(body::value_line("ERROR", &s.to_value())),
        };
        Ok(match w.accepted.form {
            Form::Table => {
                let resource_version = o.revision().to_string();
                let meta = ListMeta { resource_version, without_columns, ..ListMeta::default() };
                without_columns = true;
                body::raw_line(word, &table(&t, std::slice::from_ref(o), w.include, &meta))
            }
            _ => lines::shared(o, word, lines::Form::Partial, || match partial(o) {
                Ok(v) => body::value_line(word, &v),
                Err(s) => body::value_line("ERROR", &s.to_value()),
            }),
        })
    });
    let mut r = Reply::new(Body::Stream(body::stream(lines)));
    r.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(body::JSON));
    Ok(r)
}

/// Length-prefixed frames; what has no protobuf form becomes an error event.
fn protobuf_watch(target: &Target, events: client::WatchStream, form: Form) -> Reply {
    let (api_version, kind) = match form {
        Form::Partial => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadata".to_owned()),
        _ => (target.api_version(), target.kind.kind.clone()),
    };
    let frame = |word: &str, v: Result<Value, Status>| {
        let encoded = v.and_then(|v| api::protobuf::encode(&v).map_err(Status::internal));
        let (word, bytes) = match encoded {
            Ok(b) => (word, b),
            Err(s) => ("ERROR", api::protobuf::encode(&s.to_value()).unwrap_or_default()),
        };
        bytes::Bytes::from(api::protobuf::watch_frame(word, &bytes))
    };
    let about = move |word: &'static str, o: &Object| match form {
        Form::Partial => lines::shared(o, word, lines::Form::PartialProtobuf, || frame(word, partial(o))),
        _ => {
            let whole = || frame(word, o.value().map_err(Status::internal));
            lines::shared(o, word, lines::Form::Protobuf, whole)
        }
    };
    let frames = events.map(move |e| {
        Ok::<_, std::convert::Infallible>(match &e {
            WatchEvent::Added(o) => about("ADDED", o),
            WatchEvent::Modified(o) => about("MODIFIED", o),
            WatchEvent::Deleted(o) => about("DELETED", o),
            WatchEvent::Bookmark { revision, initial_events_end } => {
                let mark = body::bookmark(*revision, *initial_events_end, &api_version, &kind);
                frame("BOOKMARK", Ok(mark))
            }
            WatchEvent::Error(s) => frame("ERROR", Ok(s.to_value())),
        })
    });
    let mut r = Reply::new(Body::Stream(body::stream(frames)));
    r.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/vnd.kubernetes.protobuf;stream=watch"),
    );
    r
}
