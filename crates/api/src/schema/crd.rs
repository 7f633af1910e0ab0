//! Definitions of custom resources: from an OpenAPI v3 (structural) schema to the same form as the built-ins.

use std::sync::Arc;

use serde_json::Value;

use super::{Definition, Field, GoKind, ListType, MapType, Text, Type};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The definition for one version of a custom resource. `schema` is `openAPIV3Schema`; apiVersion, kind and
/// metadata are added as every object has them.
pub fn definition_from_openapi(group: &str, version: &str, kind: &str, schema: &Value) -> Arc<Definition> {
    let mut d = object(schema);
    d.id = Text::Owned(format!("{}.{version}.{kind}", group.split('.').rev().collect::<Vec<_>>().join(".")));
    d.gvks = vec![(group.to_string().into(), version.to_string().into(), kind.to_string().into())];
    add_type_meta(&mut d);
    Arc::new(d)
}

fn add_type_meta(d: &mut Definition) {
    d.fields.retain(|f| !matches!(f.name.as_ref(), "apiVersion" | "kind" | "metadata"));
    for name in ["apiVersion", "kind"] {
        let mut f = Field::new(name, Type::String);
        f.go = GoKind::String;
        d.fields.push(f);
    }
    let meta = super::asset_ref(META).map_or(Type::Any, Type::Ref);
    let mut f = Field::new("metadata", meta);
    f.go = GoKind::Struct;
    d.fields.push(f);
    d.fields.sort_by(|a, b| a.name.cmp(&b.name));
}

fn flag(s: &Value, key: &str) -> bool {
    s.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn texts(v: &Value) -> Vec<Text> {
    v.as_array().into_iter().flatten().filter_map(Value::as_str).map(|s| Text::Owned(s.to_string())).collect()
}

fn object(schema: &Value) -> Definition {
    let required = texts(&schema["required"]);
    let mut fields: Vec<Field> = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, s)| {
            let mut f = field(name, s);
            f.required = required.iter().any(|r| r == name);
            f
        })
        .collect();
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    let mut d = Definition {
        fields,
        atomic: schema["x-kubernetes-map-type"] == "atomic",
        preserve_unknown: flag(schema, "x-kubernetes-preserve-unknown-fields"),
        additional: additional(schema),
        embedded_resource: flag(schema, "x-kubernetes-embedded-resource"),
        custom: true,
        ..Definition::default()
    };
    if d.embedded_resource {
        add_type_meta(&mut d);
    }
    d
}

fn additional(schema: &Value) -> Option<Box<Type>> {
    match schema.get("additionalProperties") {
        Some(Value::Bool(true)) => Some(Box::new(Type::Any)),
        Some(s @ Value::Object(_)) => Some(Box::new(type_of(s))),
        _ => None,
    }
}

fn type_of(s: &Value) -> Type {
    if flag(s, "x-kubernetes-int-or-string") {
        return Type::IntOrString;
    }
    match s["type"].as_str() {
        Some("string") => match s["format"].as_str() {
            Some("byte") => Type::Bytes,
            _ => Type::String,
        },
        Some("integer") => Type::Int64,
        Some("number") => Type::Number,
        Some("boolean") => Type::Boolean,
        Some("array") => Type::Array(Box::new(type_of(&s["items"]))),
        Some("object") => {
            let has_properties = s["properties"].as_object().is_some_and(|p| !p.is_empty());
            let special =
                flag(s, "x-kubernetes-preserve-unknown-fields") || flag(s, "x-kubernetes-embedded-resource");
            match additional(s) {
                Some(t) if !has_properties && !special => Type::Map(t),
                _ => Type::Object(Arc::new(object(s))),
            }
        }
        _ => Type::Any,
    }
}

fn field(name: &str, s: &Value) -> Field {
    let mut f = Field::new(name.to_string(), type_of(s));
    f.nullable = flag(s, "nullable");
    f.enums = texts(&s["enum"]);
    f.list_type = match (&f.ty, s["x-kubernetes-list-type"].as_str()) {
        (_, Some("map")) => Some(ListType::Map),
        (_, Some("set")) => Some(ListType::Set),
        (Type::Array(_), _) => Some(ListType::Atomic),
        _ => None,
    };
    f.list_map_keys = texts(&s["x-kubernetes-list-map-keys"]);
    f.map_type = match s["x-kubernetes-map-type"].as_str() {
        Some("atomic") => Some(MapType::Atomic),
        Some(_) => Some(MapType::Granular),
        None => None,
    };
    f.default = s.get("default").cloned();
    f
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_structural_schema_becomes_a_definition() {
        let d = definition_from_openapi(
            "demo.example.com",
            "v1",
            "Widget",
            &json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["size"], "properties": {
                "size": {"type": "integer"},
                "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
                          "items": {"type": "object", "properties": {"n": {"type": "string"}}}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}}}}}}),
        );
        assert_eq!(d.id, "com.example.demo.v1.Widget");
        assert!(d.field("metadata").and_then(|f| f.ty.definition()).is_some());
        let spec = d.field("spec").and_then(|f| f.ty.definition()).expect("spec");
        assert!(spec.field("size").expect("size").required);
        assert_eq!(spec.field("ports").expect("ports").list_map_keys, ["n"]);
        assert!(matches!(spec.field("labels").expect("labels").ty, Type::Map(_)));
        assert!(spec.field("free").and_then(|f| f.ty.definition()).expect("free").preserve_unknown);
        assert!(crate::schema::definition(META).is_some());
    }
}
