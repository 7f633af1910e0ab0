//! Defaults of custom resources: the `default`s of a structural schema, filled in wherever a value is missing. Pure.
//! https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#defaulting

use serde_json::{Map, Value};

/// Parts of an object that no schema of a custom resource speaks for.
const TYPED: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Fills in the defaults of `openAPIV3Schema`, and takes nulls out that its fields do not allow.
pub fn apply(schema: &Value, object: &mut Value) {
    fields(schema, object, true);
}

/// Whether the schema has a default anywhere.
pub fn any(schema: &Value) -> bool {
    schema.get("default").is_some()
        || schema.get("items").is_some_and(any)
        || schema.get("additionalProperties").is_some_and(any)
        || schema.get("properties").and_then(Value::as_object).is_some_and(|p| p.values().any(any))
}

fn fields(schema: &Value, v: &mut Value, root: bool) {
    match v {
        Value::Object(o) => {
            let root = root || schema["x-kubernetes-embedded-resource"] == true;
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, s) in properties.into_iter().flatten() {
                if !(root && TYPED.contains(&name.as_str())) {
                    field(s, name, o);
                }
            }
            if let Some(s) = schema.get("additionalProperties").filter(|s| s.is_object()) {
                let known = |k: &str| properties.is_some_and(|p| p.contains_key(k));
                let names: Vec<String> = o.keys().filter(|k| !known(k)).cloned().collect();
                names.iter().for_each(|name| field(s, name, o));
            }
        }
        Value::Array(a) => {
            let items = &schema["items"];
            for v in a {
                if v.is_null() && items["nullable"] != true {
                    v.clone_from(items.get("default").unwrap_or(&Value::Null));
                }
                fields(items, v, false);
            }
        }
        _ => {}
    }
}

fn field(schema: &Value, name: &str, o: &mut Map<String, Value>) {
    let default = schema.get("default");
    match (o.get_mut(name), default) {
        (None, Some(d)) => {
            o.insert(name.to_owned(), d.clone());
        }
        (Some(v @ Value::Null), Some(d)) if schema["nullable"] != true => v.clone_from(d),
        (Some(Value::Null), None) if schema["nullable"] != true && schema.get("type").is_some() => {
            o.remove(name);
        }
        _ => {}
    }
    if let Some(v) = o.get_mut(name) {
        fields(schema, v, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_missing_is_filled_in() {
        let schema = json!({"type": "object", "properties": {
        "metadata": {"type": "object", "default": {"name": "never"}},
        "spec": {"type": "object", "default": {}, "properties": {
            "replicas": {"type": "integer", "default": 1},
            "mode": {"type": "string", "default": "a", "nullable": true},
            "plain": {"type": "string"},
            "ports": {"type": "array", "items": {"type": "object", "properties": {"protocol": {"type": "string", "default": "TCP"}}}},
            "by": {"type": "object", "additionalProperties": {"type": "object", "properties": {"on": {"type": "boolean", "default": true}}}},
        }}}});
        let cases = [
            (json!({}), json!({"spec": {"replicas": 1, "mode": "a"}})),
            (
                json!({"spec": {"replicas": null, "mode": null, "plain": null}}),
                json!({"spec": {"replicas": 1, "mode": null}}),
            ),
            (
                json!({"spec": {"replicas": 0, "mode": "b", "ports": [{"n": 1}, {"protocol": "UDP"}], "by": {"x": {}}}}),
                json!({"spec": {"replicas": 0, "mode": "b", "ports": [{"n": 1, "protocol": "TCP"}, {"protocol": "UDP"}],
                    "by": {"x": {"on": true}}}}),
            ),
        ];
        for (mut given, wanted) in cases {
            apply(&schema, &mut given);
            assert_eq!(given, wanted);
        }
        assert!(any(&schema) && !any(&json!({"properties": {"a": {"type": "string"}}})));
    }
}
