//! The canonical form: what Go's types would emit. Fields with `omitempty` vanish when empty, structs appear even
//! when they are (`status: {}`), lists and maps that are always written become null. No-op updates, generation and
//! managedFields compare values in this form.

use serde_json::{Map, Value};

use crate::schema::{Definition, Field, GoKind, Omit, Type};

/// Brings a value into canonical form. Idempotent.
pub fn canonicalize(v: &mut Value, def: &Definition) {
    if let Value::Object(map) = v {
        structure(map, def);
    }
}

/// Canonical JSON: keys sorted, no spaces.
pub fn to_bytes(v: &Value) -> Vec<u8> {
    serde_json::to_vec(v).unwrap_or_default()
}

fn structure(map: &mut Map<String, Value>, def: &Definition) {
    if def.custom {
        return custom(map, def);
    }
    map.retain(|name, v| match def.field(name) {
        Some(f) => {
            descend(v, &f.ty);
            !dropped(v, f)
        }
        None => true,
    });
    for f in &def.fields {
        if writes_zero(f) && !map.contains_key(f.name.as_ref()) {
            map.insert(f.name.to_string(), zero(f));
        }
    }
}

/// In a custom resource only metadata and embedded objects have Go types.
fn custom(map: &mut Map<String, Value>, def: &Definition) {
    for (name, v) in map.iter_mut() {
        match (def.field(name), &def.additional) {
            (Some(f), _) => descend(v, &f.ty),
            (None, Some(t)) => descend(v, t),
            _ => {}
        }
    }
}

fn descend(v: &mut Value, ty: &Type) {
    match (v, ty) {
        (Value::Object(m), Type::Ref(r)) => structure(m, r.get()),
        (Value::Object(m), Type::Object(d)) => structure(m, d),
        (Value::Object(m), Type::Map(t)) if nested(t) => m.values_mut().for_each(|v| descend(v, t)),
        (Value::Array(a), Type::Array(t)) if nested(t) => a.iter_mut().for_each(|v| descend(v, t)),
        (v, Type::SchemaOrArray | Type::SchemaOrBool | Type::SchemaOrStrings) => schema(v),
        _ => {}
    }
}

fn nested(t: &Type) -> bool {
    matches!(t, Type::Ref(_) | Type::Object(_) | Type::Map(_) | Type::Array(_) | Type::SchemaOrStrings)
}

fn schema(v: &mut Value) {
    const ID: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    let Some(def) = crate::schema::definition(ID) else { return };
    match v {
        Value::Object(m) => structure(m, def),
        Value::Array(a) => a.iter_mut().for_each(|v| canonicalize(v, def)),
        _ => {}
    }
}

/// True when Go would leave the field out, or when its zero value is to be written anew.
fn dropped(v: &Value, f: &Field) -> bool {
    if v.is_null() {
        return true;
    }
    if f.omit == Omit::Never {
        return false;
    }
    match (f.go, v) {
        (GoKind::String | GoKind::Slice, Value::String(s)) => s.is_empty(),
        (GoKind::Slice, Value::Array(a)) => a.is_empty(),
        (GoKind::Map, Value::Object(m)) => m.is_empty(),
        (GoKind::Number, Value::Number(n)) => n.as_f64() == Some(0.0),
        (GoKind::Bool, Value::Bool(b)) => !b,
        (GoKind::Struct, Value::Object(m)) => f.omit == Omit::Zero && m.is_empty(),
        _ => false,
    }
}

fn writes_zero(f: &Field) -> bool {
    match f.omit {
        Omit::Never => true,
        Omit::Empty => f.go == GoKind::Struct,
        Omit::Zero => false,
    }
}

fn zero(f: &Field) -> Value {
    if matches!(f.go, GoKind::Pointer | GoKind::Slice | GoKind::Map) {
        return Value::Null;
    }
    match &f.ty {
        Type::String => Value::String(String::new()),
        Type::Int32 | Type::Int64 | Type::Number | Type::IntOrString => Value::from(0),
        Type::Boolean => Value::Bool(false),
        Type::Quantity => Value::from("0"),
        Type::Ref(r) => {
            let mut m = Map::new();
            structure(&mut m, r.get());
            Value::Object(m)
        }
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::definition_for;
    use serde_json::json;

    fn canon(group: &str, kind: &str, mut v: Value) -> Value {
        let def = definition_for(group, "v1", kind).expect("definition");
        canonicalize(&mut v, def);
        let once = v.clone();
        canonicalize(&mut v, def);
        assert_eq!(once, v, "not idempotent");
        v
    }

    #[test]
    fn structs_stay_and_empties_go() {
        assert_eq!(
            canon(
                "apps",
                "Deployment",
                json!({"kind": "Deployment", "metadata": {"name": "a", "labels": {}, "generation": 0},
                "spec": {"replicas": 0, "paused": false, "minReadySeconds": 0, "template": {"spec": {"containers": [
                    {"name": "c", "image": "", "args": [], "stdin": false}]}}}})
            ),
            json!({"kind": "Deployment", "metadata": {"name": "a"}, "spec": {"replicas": 0, "selector": null, "strategy": {},
                "template": {"metadata": {}, "spec": {"containers": [{"name": "c", "resources": {}}]}}}, "status": {}})
        );
    }

    #[test]
    fn zero_values_that_go_writes() {
        let e = canon("", "Event", json!({"metadata": {"name": "e"}}));
        for null in ["eventTime", "firstTimestamp", "lastTimestamp"] {
            assert_eq!(e.get(null), Some(&Value::Null), "{null}");
        }
        assert_eq!(e["involvedObject"], json!({}));
        let r = canon("rbac.authorization.k8s.io", "ClusterRole", json!({}));
        assert_eq!(r, json!({"metadata": {}, "rules": null}));
        let s = canon("", "Service", json!({"spec": {"ports": [{"port": 80}]}}));
        assert_eq!(s["spec"]["ports"][0], json!({"port": 80, "targetPort": 0}));
        assert_eq!(s["status"], json!({"loadBalancer": {}}));
    }
}
