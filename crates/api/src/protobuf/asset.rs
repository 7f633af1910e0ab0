//! Messages by id, parsed from `data/protobuf.txt` one by one, on first use.

use std::sync::OnceLock;

use crate::schema;

const ASSET: &str = include_str!("../../data/protobuf.txt");
const META: &str = "k8s.io.apimachinery.pkg.apis.meta.v1.";

pub(super) struct Message {
    /// Go types that are slices: in JSON an array, in protobuf a message with `items`.
    pub(super) wrapper: bool,
    pub(super) fields: Vec<Field>,
}

pub(super) struct Field {
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) ty: Type,
    pub(super) shape: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    Repeated,
    Map,
    /// An embedded Go struct: its fields stand in the outer JSON object.
    Inline,
}

#[derive(Clone, Copy)]
pub(super) enum Type {
    Text,
    Int32,
    Int64,
    Bool,
    Double,
    Bytes,
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    /// In JSON as Go writes it.
    Duration,
    /// A message that holds JSON bytes.
    Raw,
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrStrings,
    Message(MessageRef),
}

#[derive(Clone, Copy)]
pub(super) struct MessageRef(u16);

impl MessageRef {
    pub(super) fn get(self) -> &'static Message {
        static EMPTY: Message = Message { wrapper: false, fields: Vec::new() };
        table().get(usize::from(self.0)).map_or(&EMPTY, |e| e.parsed.get_or_init(|| parse(e)))
    }
}

struct Entry {
    id: &'static str,
    body: &'static str,
    parsed: OnceLock<Message>,
}

fn table() -> &'static [Entry] {
    static TABLE: OnceLock<Vec<Entry>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut out = Vec::with_capacity(1000);
        let mut rest = ASSET;
        while let Some(text) = rest.strip_prefix('=') {
            let end = text.find("\n=").map_or(text.len(), |i| i + 1);
            let (one, tail) = text.split_at(end);
            rest = tail;
            let (id, body) = one.split_once('\n').unwrap_or((one, ""));
            out.push(Entry { id, body, parsed: OnceLock::new() });
        }
        out.sort_by_key(|e| e.id);
        out
    })
}

fn find(short: &str) -> Option<MessageRef> {
    let i = table().binary_search_by(|e| e.id.cmp(short)).ok()?;
    u16::try_from(i).ok().map(MessageRef)
}

/// The message of a schema definition (`io.k8s.api.core.v1.Pod`).
pub(super) fn message_for(group: &str, version: &str, kind: &str) -> Option<MessageRef> {
    if let Some(id) = schema::definition_id_for(group, version, kind) {
        let id = id.replacen("io.k8s.", "k8s.io.", 1).replace('-', "_");
        return match id.strip_prefix("k8s.io.api.") {
            Some(rest) => find(&format!("~{rest}")),
            None => find(&id),
        };
    }
    match (group, kind) {
        ("metrics.k8s.io", _) => find(&format!("k8s.io.metrics.pkg.apis.metrics.{version}.{kind}")),
        (
            _,
            "DeleteOptions" | "ListOptions" | "GetOptions" | "CreateOptions" | "UpdateOptions"
            | "PatchOptions",
        )
        | (_, "WatchEvent")
        | ("meta.k8s.io", _) => find(&format!("{META}{kind}")),
        _ => None,
    }
}

fn parse(e: &Entry) -> Message {
    let name = e.id.rsplit('.').next().unwrap_or_default();
    Message {
        wrapper: matches!(name, "ExtraValue" | "Verbs" | "AttestationValue"),
        fields: e.body.lines().filter_map(parse_field).collect(),
    }
}

fn parse_field(line: &'static str) -> Option<Field> {
    let mut cols = line.split('\t');
    let number = cols.next()?.parse().ok()?;
    let name = cols.next()?;
    let ty = match cols.next()? {
        "s" => Type::Text,
        "i32" => Type::Int32,
        "i64" => Type::Int64,
        "b" => Type::Bool,
        "f" => Type::Double,
        "y" => Type::Bytes,
        "q" => Type::Quantity,
        "ios" => Type::IntOrString,
        "t" => Type::Time,
        "mt" => Type::MicroTime,
        "@k8s.io.apimachinery.pkg.apis.meta.v1.Duration" => Type::Duration,
        "raw" => Type::Raw,
        other => {
            let id = other.strip_prefix('@')?;
            match id.rsplit('.').next() {
                Some("JSONSchemaPropsOrArray") => Type::SchemaOrArray,
                Some("JSONSchemaPropsOrBool") => Type::SchemaOrBool,
                Some("JSONSchemaPropsOrStringArray") => Type::SchemaOrStrings,
                _ => Type::Message(find(id)?),
            }
        }
    };
    let shape = match cols.next() {
        Some("r") => Shape::Repeated,
        Some("m") => Shape::Map,
        Some("i") => Shape::Inline,
        _ => Shape::One,
    };
    Some(Field { number, name, ty, shape })
}

/// JSONSchemaProps, which three special types refer to.
pub(super) fn schema_props() -> Option<MessageRef> {
    find("k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
}

#[cfg(test)]
pub(super) fn count_parsed() -> usize {
    (0..table().len()).filter_map(|i| u16::try_from(i).ok()).map(|i| MessageRef(i).get().fields.len()).sum()
}
