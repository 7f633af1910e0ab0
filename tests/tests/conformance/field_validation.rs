//! Fields that nobody knows or that stand twice (test/e2e/apimachinery/field_validation.go), where a request asks to be
//! held to them strictly.

use serde_json::{Value, json};
use testkit::http::Answer;

use crate::world::{Tests, World};

pub const TESTS: Tests = &[
    (
        "[sig-api-machinery] FieldValidation should detect unknown and duplicate fields of a typed object [Conformance]",
        typed,
    ),
    (
        "[sig-api-machinery] FieldValidation should detect unknown metadata fields of a typed object [Conformance]",
        typed_metadata,
    ),
    (
        "[sig-api-machinery] FieldValidation should create/apply a valid CR for CRD with validation schema [Conformance]",
        valid,
    ),
    (
        "[sig-api-machinery] FieldValidation should create/apply a CR with unknown fields for CRD with no validation schema [Conformance]",
        without_a_schema,
    ),
    (
        "[sig-api-machinery] FieldValidation should create/apply an invalid CR with extra properties for CRD with validation schema [Conformance]",
        unknown,
    ),
    (
        "[sig-api-machinery] FieldValidation should detect unknown metadata fields in both the root and embedded object of a CR [Conformance]",
        metadata,
    ),
    (
        "[sig-api-machinery] FieldValidation should detect duplicates in a CR when preserving unknown fields [Conformance]",
        twice,
    ),
];

const STRICT: &str = "fieldManager=test&fieldValidation=Strict";

/// That a Deployment with these further fields of its metadata and its spec is refused.
fn refused(w: &World, metadata: &str, spec: &str, why: &str) {
    let body = format!(
        r#"{{
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {{{metadata} "name": "one"}},
            "spec": {{
                {spec} "selector": {{"matchLabels": {{"app": "one"}}}},
                "template": {{
                    "metadata": {{"labels": {{"app": "one"}}}}, "spec": {{"containers": [{{"name": "one", "image": "none"}}]}}
                }}
            }}
        }}"#
    );
    let path = format!("{}?{STRICT}", w.path("apis/apps/v1", "deployments"));
    let answer = w.http.send("POST", &path, &[("content-type", "application/json")], body.as_bytes());
    assert_eq!(answer.code, 400, "{}", answer.text());
    assert!(answer.message().contains(why), "{}", answer.text());
}

fn typed(w: &World) {
    let spec = r#""unknownField": "foo", "replicas": 2, "replicas": 3,"#;
    let why = r#"strict decoding error: unknown field "spec.unknownField", duplicate field "spec.replicas""#;
    refused(w, "", spec, why);
}

fn typed_metadata(w: &World) {
    let why = r#"strict decoding error: unknown field "metadata.unknownMeta""#;
    refused(w, r#""unknownMeta": "foo","#, "", why);
}

/// With ports as a list by key, a pattern, and an object inside.
fn schema(open: bool) -> Value {
    let (text, number) = (json!({"type": "string"}), json!({"type": "integer", "format": "int32"}));
    let port = json!({
        "type": "object",
        "required": ["containerPort", "protocol"],
        "properties": {"containerPort": number, "hostPort": number, "hostIP": text, "name": text, "protocol": text},
    });
    let ports = json!({
        "type": "array", "items": port,
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
    });
    let cron = json!({"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"});
    let template = json!({
        "type": "object",
        "x-kubernetes-embedded-resource": true,
        "properties": {"metadata": {"type": "object", "properties": {"name": text}}, "spec": {"type": "object"}},
    });
    let mut spec = json!({"type": "object", "properties": {"foo": text, "cronSpec": cron, "ports": ports}});
    if open {
        spec["x-kubernetes-preserve-unknown-fields"] = true.into();
        spec["properties"]["template"] = template;
    }
    json!({"type": "object", "properties": {"spec": spec}})
}

fn define(w: &World, schema: &Value) {
    let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema}});
    w.define("Widget", &json!({"versions": [version("v1", true), version("v1beta1", false)]}));
}

/// Applies a widget with these further lines of its metadata, of the root and of its spec.
fn apply(w: &World, metadata: &str, root: &str, spec: &str) -> Answer {
    let body = format!(
        "apiVersion: {}.example.com/v1\nkind: Widget\nmetadata:\n  name: one\n{metadata}{root}spec:\n{spec}  \
         cronSpec: \"* * * * */5\"\n  ports:\n  - name: x\n    containerPort: 80\n    protocol: TCP\n",
        w.namespace
    );
    let path = format!("{}/one?{STRICT}", w.custom("v1", "widgets"));
    w.http.send("PATCH", &path, &[("content-type", "application/apply-patch+yaml")], body.as_bytes())
}

#[track_caller]
fn applied(answer: &Answer) -> Value {
    assert_eq!(answer.code, 201, "{}", answer.text());
    answer.json()["spec"].take()
}

#[track_caller]
fn said(answer: &Answer, part: &str) {
    assert!(answer.code >= 400 && answer.message().contains(part), "{}", answer.text());
}

fn valid(w: &World) {
    define(w, &schema(false));
    let ports = json!([{"name": "x", "containerPort": 80, "protocol": "TCP"}]);
    let spec = applied(&apply(w, "", "", "  foo: foo1\n"));
    assert_eq!(spec, json!({"foo": "foo1", "cronSpec": "* * * * */5", "ports": ports}));
}

fn without_a_schema(w: &World) {
    define(w, &json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
    assert_eq!(applied(&apply(w, "", "", "  unknown: uk1\n"))["unknown"], "uk1");
}

fn unknown(w: &World) {
    define(w, &schema(false));
    said(
        &apply(w, "", "unknownField: unknown\n", "  foo: foo1\n"),
        ".unknownField: field not declared in schema",
    );
}

fn metadata(w: &World) {
    define(w, &schema(true));
    let (outer, root) = ("  unknownMeta: unknown\n", ".metadata.unknownMeta: field not declared in schema");
    let template = format!(
        "  template:\n    apiVersion: foo/v1\n    kind: Sub\n    metadata:\n      name: sub\n      namespace: {}\n",
        w.namespace
    );
    let inner = format!("{template}      unknownSubMeta: unknown\n");
    let embedded = ".spec.template.metadata.unknownSubMeta: field not declared in schema";
    said(&apply(w, outer, "", &template), root);
    said(&apply(w, "", "", &inner), embedded);
    let both = apply(w, outer, "", &inner);
    assert!(both.code >= 400 && (both.message().contains(root) || both.message().contains(embedded)));
    applied(&apply(w, "", "", &template));
}

fn twice(w: &World) {
    define(w, &schema(true));
    let spec = "  unknown: uk1\n  foo: foo1\n  foo: foo2\n";
    said(&apply(w, "", "", spec), "line 8: key \"foo\" already set in map");
}
