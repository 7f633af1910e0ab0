//! `meta.k8s.io/v1` Tables: what `kubectl get` prints. One file per API group (small groups share one); each says the
//! columns of a kind and makes the cells of one object. Every column is always filled, as upstream's server does;
//! the client hides the wide ones. Pure: the caller says what time it is.

mod admission;
mod apps;
mod core;
pub mod custom;
pub mod duration;
mod jsonpath;
mod networking;
mod pod;
mod prune;
mod resource;
mod row;
mod small;
mod storage;

#[cfg(test)]
mod tests;

pub use duration::human;
pub use jsonpath::JsonPath;

use crate::Object;
use crate::validation::at::At;
use row::Row;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// What a row carries of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    None,
    #[default]
    Metadata,
    Object,
}

impl IncludeObject {
    /// The `includeObject` query parameter; empty is the default.
    pub fn parse(s: &str) -> Option<Self> {
        match s {
            "None" => Some(Self::None),
            "" | "Metadata" => Some(Self::Metadata),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// The metadata of the list that the table stands for.
#[derive(Debug, Clone, Default)]
pub struct ListMeta {
    pub resource_version: String,
    pub continue_token: String,
    pub remaining: Option<i64>,
    /// The columns are known to the reader: a watch says them with its first event only.
    pub without_columns: bool,
}

/// Columns as text (`Name:n,Ready:i,Node:w`; `n` name, `i` integer, `b` boolean, `d` time,
/// `q` quantity, `t` duration, `w` only when wide) and the cells.
type Kind = (&'static str, fn(&mut Row));

fn kind(group: &str, kind: &str) -> Option<Kind> {
    match group {
        "" => core::kind(kind),
        "apps" | "batch" | "autoscaling" => apps::kind(kind),
        "networking.k8s.io" | "discovery.k8s.io" => networking::kind(kind),
        "storage.k8s.io" => storage::kind(kind),
        "admissionregistration.k8s.io" => admission::kind(kind),
        "resource.k8s.io" => resource::kind(kind),
        "events.k8s.io" if kind == "Event" => core::kind("Event"),
        _ => small::kind(group, kind),
    }
}

const PLAIN: Kind = ("Name:n,Created At:d", |r| {
    r.name();
    let created = r.meta("creationTimestamp").to_owned();
    r.text(created);
});

/// The table of these objects, as JSON. Custom resources have [`custom::table`].
pub fn table(
    group: &str,
    kind_: &str,
    items: &[Object],
    now: i64,
    include: IncludeObject,
    list: &ListMeta,
) -> Vec<u8> {
    let (columns, cells) = kind(group, kind_).unwrap_or(PLAIN);
    render(|| definitions(columns), items, now, include, list, cells)
}

fn definitions(spec: &str) -> Value {
    let one = |c: &str| {
        let (name, flags) = c.split_once(':').unwrap_or((c, ""));
        let has = |f| flags.contains(f);
        let kind = if has('i') {
            "integer"
        } else if has('b') {
            "boolean"
        } else {
            "string"
        };
        let format = if has('n') {
            "name"
        } else if has('d') {
            "date-time"
        } else if has('q') {
            "quantity"
        } else if has('t') {
            "duration"
        } else {
            ""
        };
        json!({"name": name, "type": kind, "format": format, "description": name, "priority": i32::from(has('w'))})
    };
    Value::Array(spec.split(',').map(one).collect())
}

#[derive(Deserialize)]
struct MetadataOnly<'a> {
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
}

/// Writes the table; `cells` fills one row.
fn render(
    columns: impl FnOnce() -> Value,
    items: &[Object],
    now: i64,
    include: IncludeObject,
    list: &ListMeta,
    cells: impl Fn(&mut Row),
) -> Vec<u8> {
    let mut meta = json!({"resourceVersion": list.resource_version});
    if !list.continue_token.is_empty() {
        meta["continue"] = json!(list.continue_token);
    }
    if let Some(n) = list.remaining {
        meta["remainingItemCount"] = json!(n);
    }
    let mut out = Vec::with_capacity(512 + items.len() * 768);
    out.extend_from_slice(br#"{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":"#);
    out.extend_from_slice(meta.to_string().as_bytes());
    out.extend_from_slice(br#","columnDefinitions":"#);
    let columns = if list.without_columns { Value::Null } else { columns() };
    out.extend_from_slice(columns.to_string().as_bytes());
    out.extend_from_slice(br#","rows":["#);
    let mut first = true;
    for item in items {
        let Ok(value) = prune::parse(item.stored_bytes()) else { continue };
        let mut row = Row::new(At::root(&value), now);
        cells(&mut row);
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        out.extend_from_slice(br#"{"cells":"#);
        // A vector of JSON values always has a JSON form.
        let _ = serde_json::to_writer(&mut out, &row.cells);
        if !row.conditions.is_null() {
            out.extend_from_slice(br#","conditions":"#);
            out.extend_from_slice(row.conditions.to_string().as_bytes());
        }
        out.extend_from_slice(br#","object":"#);
        match include {
            IncludeObject::None => out.extend_from_slice(b"null"),
            IncludeObject::Object => item.write_json(&mut out),
            IncludeObject::Metadata => partial(item, &mut out),
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    out
}

/// Appends a `PartialObjectMetadata` of the object.
pub fn partial(item: &Object, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#);
    let raw = serde_json::from_slice::<MetadataOnly<'_>>(item.stored_bytes()).ok().and_then(|m| m.metadata);
    let text = raw.map_or("{}", RawValue::get);
    let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or_default().trim();
    out.push(b'{');
    if item.revision() != 0 {
        out.extend_from_slice(format!("\"resourceVersion\":\"{}\"", item.revision()).as_bytes());
        if !inner.is_empty() {
            out.push(b',');
        }
    }
    out.extend_from_slice(inner.as_bytes());
    out.extend_from_slice(b"}}");
}
