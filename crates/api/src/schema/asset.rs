//! The built-in definitions: an index over `data/schema.txt`, each definition parsed once, on first use.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::{Definition, DefinitionRef, Field, GoKind, ListType, MapType, Omit, PatchStrategy, Text, Type};

/// The second file is written by hand: it belongs to no release of Kubernetes itself.
const ASSET: &str =
    concat!(include_str!("../../data/schema.txt"), include_str!("../../data/schema-metrics.txt"));

struct Entry {
    /// As written: `~` stands for `io.k8s.api.`.
    short: &'static str,
    header: &'static str,
    body: &'static str,
    parsed: OnceLock<Definition>,
}

struct Table {
    /// Sorted by `short`.
    entries: Vec<Entry>,
    by_gvk: HashMap<&'static str, u16>,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut entries = Vec::with_capacity(900);
        let mut rest = ASSET;
        while let Some(text) = rest.strip_prefix('=') {
            let end = text.find("\n=").map_or(text.len(), |i| i + 1);
            let (one, tail) = text.split_at(end);
            rest = tail;
            let (head, body) = one.split_once('\n').unwrap_or((one, ""));
            let (short, header) = head.split_once('\t').unwrap_or((head, ""));
            entries.push(Entry { short, header, body, parsed: OnceLock::new() });
        }
        entries.sort_by_key(|e| e.short);
        let mut by_gvk = HashMap::new();
        for (i, e) in entries.iter().enumerate() {
            for gvk in gvk_column(e.header) {
                by_gvk.insert(gvk, u16::try_from(i).unwrap_or(u16::MAX));
            }
        }
        Table { entries, by_gvk }
    })
}

fn gvk_column(header: &'static str) -> impl Iterator<Item = &'static str> {
    header.split('\t').nth(1).unwrap_or_default().split(',').filter(|g| !g.is_empty())
}

fn long(short: &'static str) -> Text {
    match short.strip_prefix('~') {
        Some(rest) => Text::Owned(format!("io.k8s.api.{rest}")),
        None => Text::Borrowed(short),
    }
}

fn index_of_short(short: &str) -> Option<u16> {
    let i = table().entries.binary_search_by(|e| e.short.cmp(short)).ok()?;
    u16::try_from(i).ok()
}

pub(super) fn by_index(i: u16) -> &'static Definition {
    static EMPTY: OnceLock<Definition> = OnceLock::new();
    match table().entries.get(usize::from(i)) {
        Some(e) => e.parsed.get_or_init(|| parse(e)),
        None => EMPTY.get_or_init(Definition::default),
    }
}

pub(super) fn id_of(i: u16) -> String {
    table().entries.get(usize::from(i)).map(|e| long(e.short).into_owned()).unwrap_or_default()
}

/// A built-in definition by its OpenAPI id (`io.k8s.api.core.v1.Pod`).
pub fn definition(id: &str) -> Option<&'static Definition> {
    let i = match id.strip_prefix("io.k8s.api.") {
        Some(rest) => index_of_short(&format!("~{rest}"))?,
        None => index_of_short(id)?,
    };
    Some(by_index(i))
}

/// A built-in definition by group (empty for core), version and kind.
pub fn definition_for(group: &str, version: &str, kind: &str) -> Option<&'static Definition> {
    reference_for(group, version, kind).map(DefinitionRef::get)
}

/// The ids of all built-in definitions, in no promised order.
pub fn all_ids() -> impl Iterator<Item = String> {
    table().entries.iter().map(|e| long(e.short).into_owned())
}

fn parse(e: &Entry) -> Definition {
    let mut fields: Vec<Field> = e.body.lines().filter_map(parse_field).collect();
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    let gvks = gvk_column(e.header)
        .filter_map(|g| {
            let mut p = g.splitn(3, '/');
            Some((p.next()?.into(), p.next()?.into(), p.next()?.into()))
        })
        .collect();
    Definition {
        id: long(e.short),
        fields,
        atomic: e.header.starts_with("atomic"),
        gvks,
        ..Definition::default()
    }
}

fn parse_type(code: &'static str) -> Type {
    if let Some(rest) = code.strip_prefix('[') {
        return Type::Array(Box::new(parse_type(rest)));
    }
    if let Some(rest) = code.strip_prefix('{') {
        return Type::Map(Box::new(parse_type(rest)));
    }
    if let Some(id) = code.strip_prefix('@') {
        return index_of_short(id).map_or(Type::Any, |i| Type::Ref(DefinitionRef(i)));
    }
    match code {
        "s" => Type::String,
        "bytes" => Type::Bytes,
        "i32" => Type::Int32,
        "i64" => Type::Int64,
        "f" => Type::Number,
        "b" => Type::Boolean,
        "q" => Type::Quantity,
        "ios" => Type::IntOrString,
        "t" => Type::Time,
        "mt" => Type::MicroTime,
        "raw" => Type::RawObject,
        "fields" => Type::Fields,
        "soa" => Type::SchemaOrArray,
        "sob" => Type::SchemaOrBool,
        "sos" => Type::SchemaOrStrings,
        _ => Type::Any,
    }
}

fn parse_field(line: &'static str) -> Option<Field> {
    let mut cols = line.split('\t');
    let mut f = Field::new(cols.next()?, parse_type(cols.next()?));
    let presence = cols.next()?;
    f.go = match presence.as_bytes().first() {
        Some(b's') => GoKind::String,
        Some(b'l') => GoKind::Slice,
        Some(b'm') => GoKind::Map,
        Some(b'n') => GoKind::Number,
        Some(b'b') => GoKind::Bool,
        Some(b'S') => GoKind::Struct,
        _ => GoKind::Pointer,
    };
    f.omit = match presence.as_bytes().get(1) {
        Some(b'a') => Omit::Never,
        Some(b'z') => Omit::Zero,
        _ => Omit::Empty,
    };
    let list = |v: &'static str, sep: char| v.split(sep).map(Text::Borrowed).collect::<Vec<_>>();
    for extra in cols {
        let (key, value) = extra.split_once('=').unwrap_or((extra, ""));
        match key {
            "req" => f.required = true,
            "enum" => f.enums = list(value, '|'),
            "known" => f.known = list(value, '|'),
            "lk" => f.list_map_keys = list(value, ','),
            "lt" => {
                f.list_type = match value {
                    "map" => Some(ListType::Map),
                    "set" => Some(ListType::Set),
                    _ => Some(ListType::Atomic),
                }
            }
            "mt" => f.map_type = Some(if value == "atomic" { MapType::Atomic } else { MapType::Granular }),
            "ps" => f.patch = PatchStrategy::parse(value),
            "mk" => f.merge_key = Some(Text::Borrowed(value)),
            "def" => f.default = serde_json::from_str(value).ok(),
            _ => {}
        }
    }
    Some(f)
}

/// A reference to a built-in definition by its OpenAPI id.
pub fn asset_ref(id: &str) -> Option<DefinitionRef> {
    match id.strip_prefix("io.k8s.api.") {
        Some(rest) => index_of_short(&format!("~{rest}")),
        None => index_of_short(id),
    }
    .map(DefinitionRef)
}

/// A reference to a built-in definition by group (empty for core), version and kind.
pub fn reference_for(group: &str, version: &str, kind: &str) -> Option<DefinitionRef> {
    table().by_gvk.get(format!("{group}/{version}/{kind}").as_str()).map(|i| DefinitionRef(*i))
}

/// The id of a built-in definition by group (empty for core), version and kind; nothing is parsed.
pub fn definition_id_for(group: &str, version: &str, kind: &str) -> Option<String> {
    reference_for(group, version, kind).map(DefinitionRef::id)
}
