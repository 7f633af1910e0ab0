//! Definitions as OpenAPI schemas.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::descriptions::{API_VERSION, KIND, METADATA};
use super::{Describe, Flavor};
use crate::catalog::{Descriptor, Version};
use crate::schema::{Definition, Field, GoKind, ListType, MapType, Omit, Type, definition};

pub(super) const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const CRD: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";

pub(super) fn reference(id: &str, flavor: Flavor) -> Value {
    let prefix = if flavor == Flavor::V2 { "#/definitions/" } else { "#/components/schemas/" };
    json!({"$ref": format!("{prefix}{id}")})
}

/// Definitions that are no structs.
fn special(id: &str, flavor: Flavor) -> Option<Value> {
    let v3 = flavor == Flavor::V3;
    Some(match id {
        QUANTITY if v3 => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        QUANTITY => json!({"type": "string"}),
        INT_OR_STRING if v3 => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        INT_OR_STRING => json!({"format": "int-or-string", "type": "string"}),
        RAW => json!({"type": "object"}),
        _ => match (id.strip_prefix(META), id.strip_prefix(CRD)) {
            (Some("Time" | "MicroTime"), _) => json!({"format": "date-time", "type": "string"}),
            (Some("FieldsV1" | "Patch"), _) => json!({"type": "object"}),
            (
                _,
                Some(
                    "JSON"
                    | "JSONSchemaPropsOrArray"
                    | "JSONSchemaPropsOrBool"
                    | "JSONSchemaPropsOrStringArray",
                ),
            ) => {
                json!({})
            }
            _ => return None,
        },
    })
}

/// A type as a schema; what it refers to is added to `wanted`.
fn type_schema(ty: &Type, flavor: Flavor, wanted: &mut BTreeSet<String>) -> Value {
    let mut refer = |id: &str| {
        wanted.insert(id.to_string());
        reference(id, flavor)
    };
    match ty {
        Type::Ref(r) => refer(&r.id()),
        Type::Object(_) | Type::RawObject => refer(RAW),
        Type::Quantity => refer(QUANTITY),
        Type::IntOrString => refer(INT_OR_STRING),
        Type::Time => refer(&format!("{META}Time")),
        Type::MicroTime => refer(&format!("{META}MicroTime")),
        Type::Fields => refer(&format!("{META}FieldsV1")),
        Type::Any => refer(&format!("{CRD}JSON")),
        Type::SchemaOrArray => refer(&format!("{CRD}JSONSchemaPropsOrArray")),
        Type::SchemaOrBool => refer(&format!("{CRD}JSONSchemaPropsOrBool")),
        Type::SchemaOrStrings => refer(&format!("{CRD}JSONSchemaPropsOrStringArray")),
        Type::String => json!({"type": "string"}),
        Type::Bytes => json!({"type": "string", "format": "byte"}),
        Type::Int32 => json!({"type": "integer", "format": "int32"}),
        Type::Int64 => json!({"type": "integer", "format": "int64"}),
        Type::Number => json!({"type": "number", "format": "double"}),
        Type::Boolean => json!({"type": "boolean"}),
        Type::Array(t) => json!({"type": "array", "items": type_schema(t, flavor, wanted)}),
        Type::Map(t) => json!({"type": "object", "additionalProperties": type_schema(t, flavor, wanted)}),
    }
}

fn field_schema(f: &Field, flavor: Flavor, wanted: &mut BTreeSet<String>) -> Value {
    let mut extra = Map::new();
    if !f.enums.is_empty() {
        extra.insert("enum".into(), json!(f.enums));
    }
    if let Some(l) = f.list_type {
        let name = match l {
            ListType::Atomic => "atomic",
            ListType::Set => "set",
            ListType::Map => "map",
        };
        extra.insert("x-kubernetes-list-type".into(), json!(name));
    }
    if !f.list_map_keys.is_empty() {
        extra.insert("x-kubernetes-list-map-keys".into(), json!(f.list_map_keys));
    }
    if let Some(m) = f.map_type {
        let name = if m == MapType::Atomic { "atomic" } else { "granular" };
        extra.insert("x-kubernetes-map-type".into(), json!(name));
    }
    if let Some(p) = f.patch.text() {
        extra.insert("x-kubernetes-patch-strategy".into(), json!(p));
    }
    if let Some(k) = &f.merge_key {
        extra.insert("x-kubernetes-patch-merge-key".into(), json!(k));
    }
    if let Some(d) = &f.default {
        extra.insert("default".into(), d.clone());
    } else if flavor == Flavor::V3
        && f.go == GoKind::Struct
        && f.omit != Omit::Zero
        && matches!(f.ty, Type::Ref(_))
    {
        extra.insert("default".into(), json!({}));
    }
    let mut schema = type_schema(&f.ty, flavor, wanted);
    if extra.is_empty() {
        return schema;
    }
    // Nothing may stand beside a $ref in v3; v2 readers take it as it is.
    if flavor == Flavor::V3 && schema.get("$ref").is_some() {
        extra.insert("allOf".into(), json!([schema]));
        return Value::Object(extra);
    }
    if let Some(o) = schema.as_object_mut() {
        o.extend(extra);
    }
    schema
}

fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn definition_schema(
    d: &Definition,
    flavor: Flavor,
    describe: Describe<'_>,
    wanted: &mut BTreeSet<String>,
) -> Value {
    let mut out = Map::new();
    out.insert("type".into(), json!("object"));
    if let Some(text) = describe(&d.id, None) {
        out.insert("description".into(), json!(text));
    }
    let mut properties = Map::new();
    for f in &d.fields {
        let mut schema = field_schema(f, flavor, wanted);
        if let Some(text) = describe(&d.id, Some(&f.name)) {
            if flavor == Flavor::V3 && schema.get("$ref").is_some() {
                schema = json!({"allOf": [schema]});
            }
            schema["description"] = json!(text);
        }
        properties.insert(f.name.to_string(), schema);
    }
    if !properties.is_empty() {
        out.insert("properties".into(), Value::Object(properties));
    }
    let required: Vec<&str> = d.fields.iter().filter(|f| f.required).map(|f| f.name.as_ref()).collect();
    if !required.is_empty() {
        out.insert("required".into(), json!(required));
    }
    if d.atomic {
        out.insert("x-kubernetes-map-type".into(), json!("atomic"));
    }
    if !d.gvks.is_empty() {
        let list: Vec<Value> = d.gvks.iter().map(|(g, v, k)| gvk(g, v, k)).collect();
        out.insert("x-kubernetes-group-version-kind".into(), Value::Array(list));
    }
    Value::Object(out)
}

/// Adds the wanted definitions and everything that they refer to.
pub(super) fn closure(
    mut wanted: BTreeSet<String>,
    flavor: Flavor,
    describe: Describe<'_>,
    schemas: &mut Map<String, Value>,
) {
    while let Some(id) = wanted.pop_first() {
        if schemas.contains_key(&id) {
            continue;
        }
        let mut next = BTreeSet::new();
        let schema = match special(&id, flavor) {
            Some(s) => s,
            None => match definition(&id) {
                Some(d) => definition_schema(d, flavor, describe, &mut next),
                None => json!({"type": "object"}),
            },
        };
        schemas.insert(id, schema);
        wanted.extend(next);
    }
}

/// DeleteOptions is a kind in every group version.
pub(super) fn delete_options(schemas: &mut Map<String, Value>, versions: &[String]) {
    let Some(d) = schemas.get_mut(&format!("{META}DeleteOptions")) else { return };
    let list: Vec<Value> = versions
        .iter()
        .map(|v| {
            let (group, version) = v.split_once('/').unwrap_or(("", v));
            gvk(group, version, "DeleteOptions")
        })
        .collect();
    d["x-kubernetes-group-version-kind"] = Value::Array(list);
}

/// The ids under which a kind and its list stand in the document.
pub(super) fn ids(d: &Descriptor, v: &Version) -> (String, String) {
    let id = match v.schema.definition() {
        Some(def) if !def.id.is_empty() => def.id.to_string(),
        _ => format!("{}.{}.{}", d.group.split('.').rev().collect::<Vec<_>>().join("."), v.name, d.kind),
    };
    let list = match id.strip_suffix(&d.kind) {
        Some(package) => format!("{package}{}", d.list_kind),
        None => format!("{id}List"),
    };
    (id, list)
}

/// A reference with words beside it, which v3 takes in `allOf` only.
fn described(reference: Value, text: &str, flavor: Flavor) -> Value {
    match flavor {
        Flavor::V3 => json!({"allOf": [reference], "description": text}),
        Flavor::V2 => json!({"$ref": reference["$ref"], "description": text}),
    }
}

/// Takes out what readers of v2 can't read or take for more than it says. Upstream's `ToStructuralOpenAPIV2`.
fn for_v2(schema: &mut Value) {
    let Some(s) = schema.as_object_mut() else { return };
    for k in ["allOf", "anyOf", "oneOf", "not"] {
        s.remove(k);
    }
    let loose = s.get("x-kubernetes-preserve-unknown-fields").is_some_and(|v| v == true);
    let nullable = s.remove("nullable").is_some_and(|v| v == true);
    if loose || nullable {
        s.remove("items");
        s.remove("properties");
    }
    let typed = |s: &Map<String, Value>, t: &str| s.get("type").is_some_and(|v| v == t);
    if nullable || (loose && typed(s, "object")) || (typed(s, "array") && !s.contains_key("items")) {
        s.remove("type");
    }
    let may_be_null = |v: &Value| v["nullable"] == true;
    let nullable: Vec<String> = s
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(_, v)| may_be_null(v))
        .map(|(k, _)| k.clone())
        .collect();
    if s.get("additionalProperties").is_some_and(may_be_null) {
        s.remove("required");
    } else if let Some(required) = s.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|r| !nullable.iter().any(|n| r == n));
        if required.is_empty() {
            s.remove("required");
        }
    }
    let below = s.get_mut("properties").and_then(Value::as_object_mut);
    below.into_iter().flat_map(|p| p.values_mut()).for_each(for_v2);
    for k in ["items", "additionalProperties"] {
        if let Some(v) = s.get_mut(k) {
            for_v2(v);
        }
    }
}

/// The schemas of a custom resource and of its list.
pub(super) fn custom(
    d: &Descriptor,
    v: &Version,
    flavor: Flavor,
    schemas: &mut Map<String, Value>,
    wanted: &mut BTreeSet<String>,
) {
    if !d.custom {
        return;
    }
    let (id, list_id) = ids(d, v);
    let mut schema = v.openapi.as_deref().cloned().unwrap_or_else(|| json!({"type": "object"}));
    if !schema.is_object() {
        schema = json!({"type": "object"});
    }
    let meta = |name: &str, wanted: &mut BTreeSet<String>| {
        let id = format!("{META}{name}");
        wanted.insert(id.clone());
        reference(&id, flavor)
    };
    let object = described(meta("ObjectMeta", wanted), METADATA, flavor);
    if flavor == Flavor::V2 && schema["x-kubernetes-preserve-unknown-fields"] == true {
        // kubectl takes named properties as the only ones.
        schema = json!({"type": "object"});
    } else {
        if flavor == Flavor::V2 {
            for_v2(&mut schema);
        }
        if let Some(properties) =
            schema.as_object_mut().map(|s| s.entry("properties").or_insert_with(|| json!({})))
        {
            properties["apiVersion"] = json!({"type": "string", "description": API_VERSION});
            properties["kind"] = json!({"type": "string", "description": KIND});
            properties["metadata"] = object;
        }
    }
    schema["x-kubernetes-group-version-kind"] = json!([gvk(&d.group, &v.name, &d.kind)]);
    let list_meta = meta("ListMeta", wanted);
    let list = json!({"type": "object", "required": ["items"], "properties": {
            "apiVersion": {"type": "string", "description": API_VERSION},
            "kind": {"type": "string", "description": KIND}, "metadata": list_meta,
            "items": {"type": "array", "items": reference(&id, flavor)}},
        "x-kubernetes-group-version-kind": [gvk(&d.group, &v.name, &d.list_kind)]});
    schemas.insert(id, schema);
    schemas.insert(list_id, list);
}
