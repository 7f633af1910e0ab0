//! Run-time schemas: what fields a kind has, how Go would treat them, how lists and maps merge. Built-in definitions
//! come from `data/schema.txt` and are parsed one by one, on first use; custom resources build `Definition`s of
//! their own and hold them in `Arc`s. Owns the table of parsed built-ins, spawns nothing.

mod asset;
mod crd;

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

pub use asset::{all_ids, asset_ref, definition, definition_for, definition_id_for, reference_for};
pub use crd::definition_from_openapi;

/// Text that is borrowed from the built-in asset or owned (custom resources).
pub type Text = Cow<'static, str>;

/// A struct: named fields and what is known about it as a whole.
#[derive(Debug, Clone, Default)]
pub struct Definition {
    /// `io.k8s.api.core.v1.PodSpec`; empty for anonymous objects of custom resources.
    pub id: Text,
    /// Sorted by name.
    pub fields: Vec<Field>,
    /// `x-kubernetes-map-type: atomic`.
    pub atomic: bool,
    /// Group, version and kind, for definitions that are bodies of their own.
    pub gvks: Vec<(Text, Text, Text)>,
    /// Unknown fields stay (custom resources).
    pub preserve_unknown: bool,
    /// Type of fields that are not listed by name (custom resources: properties beside additionalProperties).
    pub additional: Option<Box<Type>>,
    /// A whole object with apiVersion, kind and metadata inside another (custom resources).
    pub embedded_resource: bool,
    /// Belongs to a custom resource: values are checked by its own schema, not by Go's types.
    pub custom: bool,
}

/// One field of a struct.
#[derive(Debug, Clone)]
pub struct Field {
    pub name: Text,
    pub ty: Type,
    pub go: GoKind,
    pub omit: Omit,
    pub required: bool,
    pub nullable: bool,
    /// Allowed values; a violation is a 422 cause.
    pub enums: Vec<Text>,
    /// Values that upstream names without enforcing them by the schema.
    pub known: Vec<Text>,
    pub list_type: Option<ListType>,
    pub list_map_keys: Vec<Text>,
    /// Set on the field itself; it wins over `Definition.atomic`.
    pub map_type: Option<MapType>,
    pub patch: PatchStrategy,
    pub merge_key: Option<Text>,
    pub default: Option<Value>,
}

/// The Go type class that decides what `omitempty` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GoKind {
    #[default]
    Pointer,
    String,
    Slice,
    Map,
    Number,
    Bool,
    Struct,
}

/// When a field is left out of the encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Omit {
    /// `omitempty`: nil pointers, empty strings, zero numbers, false, empty slices and maps; never a struct.
    #[default]
    Empty,
    /// `omitzero`: zero structs too.
    Zero,
    /// Always written, nil as null.
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListType {
    Atomic,
    Set,
    Map,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapType {
    Atomic,
    Granular,
}

/// `patchStrategy` of the Go struct tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PatchStrategy {
    pub merge: bool,
    pub replace: bool,
    pub retain_keys: bool,
}

/// The type of a field, element or map value.
#[derive(Debug, Clone)]
pub enum Type {
    /// A built-in struct.
    Ref(DefinitionRef),
    /// A struct of a custom resource.
    Object(Arc<Definition>),
    String,
    /// Base64 in JSON, `[]byte` in Go.
    Bytes,
    Int32,
    Int64,
    Number,
    Boolean,
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    Array(Box<Type>),
    Map(Box<Type>),
    /// Any JSON object, kept as it is (RawExtension).
    RawObject,
    /// metav1.FieldsV1.
    Fields,
    /// Any JSON at all.
    Any,
    /// JSONSchemaPropsOrArray, OrBool, OrStringArray.
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrStrings,
}

/// A built-in definition by its place in the table; resolves without a lookup.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DefinitionRef(pub(crate) u16);

impl DefinitionRef {
    pub fn get(self) -> &'static Definition {
        asset::by_index(self.0)
    }
    pub fn id(self) -> String {
        asset::id_of(self.0)
    }
}

impl std::fmt::Debug for DefinitionRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DefinitionRef({})", self.id())
    }
}

impl Type {
    /// The struct behind this type, if it is one.
    pub fn definition(&self) -> Option<&Definition> {
        match self {
            Type::Ref(r) => Some(r.get()),
            Type::Object(d) => Some(d),
            _ => None,
        }
    }

    /// Element of a list or value of a map.
    pub fn element(&self) -> Option<&Type> {
        match self {
            Type::Array(t) | Type::Map(t) => Some(t),
            _ => None,
        }
    }

    /// The struct of the elements of a list or map.
    pub fn element_definition(&self) -> Option<&Definition> {
        self.element().and_then(Type::definition)
    }
}

impl Field {
    /// A plain optional field; the builders of custom resources start from it.
    pub fn new(name: impl Into<Text>, ty: Type) -> Self {
        Field {
            name: name.into(),
            ty,
            go: GoKind::Pointer,
            omit: Omit::Empty,
            required: false,
            nullable: false,
            enums: Vec::new(),
            known: Vec::new(),
            list_type: None,
            list_map_keys: Vec::new(),
            map_type: None,
            patch: PatchStrategy::default(),
            merge_key: None,
            default: None,
        }
    }

    /// A list, map or struct that server-side apply owns as a whole.
    pub fn is_atomic(&self) -> bool {
        match &self.ty {
            Type::Array(_) => !matches!(self.list_type, Some(ListType::Map | ListType::Set)),
            Type::Bytes | Type::RawObject | Type::Fields => true,
            ty => match self.map_type {
                Some(m) => m == MapType::Atomic,
                None => ty.definition().is_some_and(|d| d.atomic),
            },
        }
    }
}

impl Definition {
    pub fn field(&self, name: &str) -> Option<&Field> {
        let i = self.fields.binary_search_by(|f| f.name.as_ref().cmp(name)).ok()?;
        self.fields.get(i)
    }

    /// `v1.PodSpec`, as Go's error messages name the type.
    pub fn go_type(&self) -> String {
        let mut parts = self.id.rsplit('.');
        let kind = parts.next().unwrap_or_default();
        match parts.next() {
            Some(version) => format!("{version}.{kind}"),
            None => kind.to_string(),
        }
    }

    /// `PodSpec`.
    pub fn go_name(&self) -> &str {
        self.id.rsplit('.').next().unwrap_or_default()
    }

    /// Follows field names through structs, lists and maps; list and map steps need no name of their own.
    pub fn at<'a>(&'a self, path: &[&str]) -> Option<&'a Field> {
        let (first, rest) = path.split_first()?;
        let field = self.field(first)?;
        if rest.is_empty() {
            return Some(field);
        }
        let mut ty = &field.ty;
        while let Some(e) = ty.element() {
            ty = e;
        }
        ty.definition()?.at(rest)
    }
}

impl PatchStrategy {
    /// `merge,retainKeys`.
    pub fn parse(s: &str) -> Self {
        let mut p = PatchStrategy::default();
        for part in s.split(',') {
            match part {
                "merge" => p.merge = true,
                "replace" => p.replace = true,
                "retainKeys" => p.retain_keys = true,
                _ => {}
            }
        }
        p
    }

    /// The inverse of `parse`; `None` when nothing is set.
    pub fn text(self) -> Option<&'static str> {
        match (self.merge, self.replace, self.retain_keys) {
            (true, _, true) => Some("merge,retainKeys"),
            (true, _, false) => Some("merge"),
            (_, true, _) => Some("replace"),
            (_, _, true) => Some("retainKeys"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_parses_and_is_sorted() {
        let mut fields = 0;
        for id in all_ids() {
            let d = definition(&id).expect("listed definition");
            assert_eq!(d.id, id);
            assert!(d.fields.windows(2).all(|w| w[0].name < w[1].name), "{id}");
            fields += d.fields.len();
        }
        assert!(fields > 3000, "{fields}");
    }

    #[test]
    fn pod_spec_is_as_upstream_tags_it() {
        let d = definition("io.k8s.api.core.v1.PodSpec").expect("PodSpec");
        let c = d.field("containers").expect("containers");
        assert!(c.required && c.patch.merge && c.omit == Omit::Never);
        assert_eq!(c.merge_key.as_deref(), Some("name"));
        assert_eq!(c.list_type, Some(ListType::Map));
        let port = d.at(&["containers", "ports", "protocol"]).expect("protocol");
        assert_eq!(port.default, Some(Value::from("TCP")));
        assert_eq!(port.enums, ["SCTP", "TCP", "UDP"]);
        assert!(d.field("nodeSelector").expect("nodeSelector").is_atomic());
        assert!(d.field("tolerations").expect("tolerations").is_atomic());
        assert!(!c.is_atomic());
        assert_eq!(d.go_type(), "v1.PodSpec");
        assert_eq!(definition_for("apps", "v1", "Deployment").expect("gvk").go_name(), "Deployment");
        assert!(definition("nope").is_none());
    }
}
