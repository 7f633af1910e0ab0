//! Definitions: what the corpus of invalid objects does not hold (changes of established ones, what is tolerated, status).

use super::*;
use serde_json::json;

fn crd(schema: Value) -> Value {
    json!({"metadata": {"name": "widgets.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "conversion": {"strategy": "None"},
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
}

fn texts(e: &ErrorList) -> Vec<String> {
    let lead = "spec.validation.openAPIV3Schema";
    e.iter().map(|e| e.to_string().replacen(lead, "S", 1)).collect()
}

fn told(schema: Value) -> Vec<String> {
    let mut e = ErrorList::new();
    definition(&crd(schema), &mut e);
    texts(&e)
}

fn told_on_change(new: &Value, old: &Value) -> Vec<String> {
    let mut e = ErrorList::new();
    definition_update(new, old, &mut e);
    texts(&e)
}

fn stored(schema: Value, established: &str) -> Value {
    let mut v = crd(schema);
    v["status"] =
        json!({"storedVersions": ["v1"], "conditions": [{"type": "Established", "status": established}]});
    v
}

#[test]
fn scope_and_kind_stay_once_established() {
    let mut new = crd(json!({"type": "object"}));
    new["spec"]["scope"] = json!("Cluster");
    new["spec"]["names"]["kind"] = json!("Other");
    new["spec"]["names"]["listKind"] = json!("OtherList");
    let old = |established: &str| stored(json!({"type": "object"}), established);
    assert_eq!(
        told_on_change(&new, &old("True")),
        [
            "spec.scope: Invalid value: \"Cluster\": field is immutable",
            "spec.names.kind: Invalid value: \"Other\": field is immutable"
        ]
    );
    assert_eq!(told_on_change(&new, &old("False")), [""; 0]);
}

#[test]
fn what_was_stored_is_tolerated() {
    let set = json!({"type": "object", "properties": {
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}},
        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}}}},
        "default": {"type": "object", "properties": {"a": {"type": "string"}}, "default": {"b": "c"}}}});
    let wrong = told(set.clone());
    assert_eq!(
        wrong,
        [
            "S.properties[default].default: Invalid value: {\"b\":\"c\"}: must not have unknown fields",
            "S.properties[map].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            "S.properties[set].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set"
        ]
    );
    assert_eq!(told_on_change(&crd(set.clone()), &stored(set.clone(), "True")), [""; 0]);
    assert_eq!(told_on_change(&crd(set), &stored(json!({"type": "object"}), "True")), wrong);
}

#[test]
fn schemas_are_structural() {
    let all = [
        (
            json!({"type": "object", "anyOf": [{"properties": {"a": {"minimum": 1}}}], "properties": {"b": {"type": "integer"}}}),
            "S.properties[a]: Required value: because it is defined in spec.validation.openAPIV3Schema.anyOf[0].properties[a]",
        ),
        (
            json!({"type": "object", "allOf": [{"items": {"minimum": 1}}]}),
            "S.items: Required value: because it is defined in spec.validation.openAPIV3Schema.allOf[0].items",
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            "S.additionalProperties: Forbidden: must not be used at the root",
        ),
        (
            json!({"type": "object", "properties": {"a": {"x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true}}}),
            "S.properties[a].x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is true",
        ),
        (
            json!({"type": "object", "not": {"properties": {"metadata": {"minLength": 1}}}, "properties": {"metadata": {"type": "object"}}}),
            "S.not.properties[metadata]: Forbidden: must not be specified in a nested context",
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "default": "x"}}}}}),
            "S.properties[metadata].properties[name].default: Forbidden: must not be set in top-level metadata",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "array", "items": [{"type": "string"}]}}}),
            "S.properties[a].items: Forbidden: items must be a schema object and not an array",
        ),
        (
            json!({"type": "object", "$schema": "x"}),
            "S: Invalid value: \"\": OpenAPIV3Schema 'schema' is not supported",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer",
                "x-kubernetes-validations": [{"rule": "self >= oldSelf"}]}}}}}}),
            "S.properties[a].items.properties[n].x-kubernetes-validations[0].rule: Invalid value: \"self >= oldSelf\": oldSelf cannot be used on the uncorrelatable portion of the schema within spec.validation.openAPIV3Schema.properties[a]",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "object", "default": {"n": "x"}, "properties": {"n": {"type": "integer"}}}}}),
            "S.properties[a].default.n: Invalid value: \"string\": n in body must be of type integer: \"string\"",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "integer", "default": 1, "x-kubernetes-validations": [{"rule": "self > 1"}]}}}),
            "S.properties[a].default: Invalid value: \"integer\": failed rule: self > 1",
        ),
    ];
    for (schema, wanted) in all {
        assert_eq!(told(schema.clone()), [wanted], "{schema}");
    }
    let good = json!({"type": "object", "properties": {
        "either": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}], "pattern": "^[[]\\d+$"},
        "more": {"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"maxLength": 3}]},
        "metadata": {"type": "object", "properties": {"name": {"type": "string", "pattern": "^a"}}},
        "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true,
                "default": {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {}}, "any": 1}},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object",
                 "required": ["k"], "properties": {"k": {"type": "string"}, "n": {"type": "integer",
                 "x-kubernetes-validations": [{"rule": "self >= oldSelf"}]}}}}}});
    assert_eq!(told(good), [""; 0]);
}

#[test]
fn little_stands_beside_a_status() {
    let with = |schema: Value| {
        let mut v = crd(schema);
        v["spec"]["versions"][0]["subresources"] = json!({"status": {}});
        let mut e = ErrorList::new();
        definition(&v, &mut e);
        texts(&e)
    };
    assert_eq!(
        with(json!({"type": "object", "required": ["spec"], "properties": {"spec": {"type": "object"}}})),
        [""; 0]
    );
    let e = with(json!({"type": "object", "minProperties": 1}));
    assert!(e.len() == 1 && e[0].contains("XValidations] fields are allowed at the root of the schema if the status subresource is enabled"), "{e:?}");
}

#[test]
fn groups_of_the_project_want_a_word() {
    let told = |note: Value, old: Option<Value>| {
        let mut v = crd(json!({"type": "object"}));
        v["spec"]["group"] = json!("x.k8s.io");
        v["metadata"] =
            json!({"name": "widgets.x.k8s.io", "annotations": {"api-approved.kubernetes.io": note}});
        let mut e = ErrorList::new();
        approval(&At::root(&v), old.as_ref(), &mut e);
        e.iter().map(|e| e.message.clone()).collect::<String>()
    };
    assert_eq!(told(json!("https://a.b/c"), None), "");
    assert_eq!(told(json!("unapproved, a test"), None), "");
    assert!(told(json!("yes"), None).starts_with("Invalid value: \"yes\": protected groups must have"));
    assert!(told(Value::Null, None).starts_with("Required value: protected groups must have"));
    assert_eq!(told(Value::Null, Some(json!({}))), "");
}

#[test]
fn expensive_rules_stay_where_they_are_stored() {
    let sum: Vec<String> = (0..8).map(|i| format!("self[{i}]")).collect();
    let schema = |description: &str| {
        json!({"type": "object", "description": description, "properties": {"f": {"type": "array", "items": {"type": "string"},
            "x-kubernetes-validations": [{"rule": "true", "messageExpression": sum.join(" + ")}]}}})
    };
    let old = stored(schema("a"), "True");
    let why = "properties[f].x-kubernetes-validations[0].messageExpression: Forbidden: estimated messageExpression cost exceeds budget by factor of 1.1";
    let wrong = |new: &Value| told_on_change(new, &old).iter().map(|t| t.contains(why)).collect::<Vec<_>>();
    let mut new = old.clone();
    new["spec"]["names"]["shortNames"] = json!(["w"]);
    assert_eq!(wrong(&new), [false; 0]);
    // A version that is changed or new is not spared, the one that stays is.
    assert_eq!(wrong(&crd(schema("b"))), [true]);
    for (description, wanted) in [("a", vec![]), ("b", vec!["versions[1]"])] {
        let v2 = json!({"name": "v2", "schema": {"openAPIV3Schema": schema(description)}});
        new["spec"]["versions"] = json!([old["spec"]["versions"][0], v2]);
        let told = told_on_change(&new, &old);
        // Versions that say the same are looked at as one, by the first one's name.
        let at: Vec<&str> = told.iter().filter_map(|t| t.split('.').nth(1)).collect();
        assert_eq!(at, wanted, "{told:?}");
    }
}

#[test]
fn a_schema_may_be_too_expensive_as_a_whole() {
    let rules = json!([{"rule": "self.contains('keyword')"}]);
    let text = json!({"type": "string", "maxLength": 5000, "x-kubernetes-validations": rules});
    let told = told(json!({"type": "object", "properties": {
        "list": {"type": "array", "maxItems": 100_000, "items": text},
        "map": {"type": "object", "maxProperties": 1000, "additionalProperties": text},
        "field": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 50 && self < 100"}]}}}));
    let at: Vec<&str> = told.iter().filter_map(|t| t.split(": Forbidden: ").next()).collect();
    let (list, map) = (
        "S.properties[list].items.x-kubernetes-validations[0].rule",
        "S.properties[map].additionalProperties.x-kubernetes-validations[0].rule",
    );
    assert_eq!(at, [list, list, map, "S"], "{told:?}");
    assert!(
        told[3].contains("rule cost total for entire OpenAPIv3 schema exceeds budget by factor of 2"),
        "{told:?}"
    );
}
