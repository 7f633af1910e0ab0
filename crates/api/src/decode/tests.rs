//! What the decoder keeps, drops, rewrites and reports.

use super::*;
use crate::schema::{definition_for, definition_from_openapi};
use proptest::prelude::*;
use serde_json::json;

fn expect<'a>(group: &'a str, version: &'a str, kind: &'a str) -> Expect<'a> {
    Expect { group, version, kind, definition: definition_for(group, version, kind).expect("definition") }
}

fn deployment(body: &Value, mode: FieldValidation) -> Result<Decoded, Status> {
    decode(body.to_string().as_bytes(), expect("apps", "v1", "Deployment"), mode)
}

fn pod(spec: Value) -> Result<Decoded, Status> {
    let body = json!({"spec": spec});
    decode(body.to_string().as_bytes(), expect("", "v1", "Pod"), FieldValidation::Strict)
}

#[test]
fn unknown_and_duplicate_fields_in_document_order() {
    let body = br#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{"unknown1":1,
        "paused":true,"paused":false,"unknownDupe":1,"unknownDupe":2,"template":{"spec":{"containers":[
        {"name":"c","unknownNested":true,"image":"a","image":"b"}]}}}}"#;
    let e = expect("apps", "v1", "Deployment");
    let err = decode(body, e, FieldValidation::Strict).expect_err("strict");
    assert_eq!(err.code, 400);
    assert_eq!(
        err.message,
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: \
         unknown field \"spec.unknown1\", duplicate field \"spec.paused\", unknown field \"spec.unknownDupe\", \
         unknown field \"spec.template.spec.containers[0].unknownNested\", \
         duplicate field \"spec.template.spec.containers[0].image\""
    );
    let warn = decode(body, e, FieldValidation::Warn).expect("warn");
    assert_eq!(warn.warnings.len(), 5);
    assert_eq!(warn.value["spec"]["paused"], false);
    assert!(warn.value["spec"].get("unknown1").is_none());
    assert!(decode(body, e, FieldValidation::Ignore).expect("ignore").warnings.is_empty());
}

#[test]
fn wrong_types_are_worded_as_go_does() {
    for (spec, text) in [
        (
            json!({"replicas": "x"}),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"replicas": 3_000_000_000u64}),
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"replicas": 1.5}),
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"template": {"metadata": {"labels": {"a": 1}}}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.spec.template.metadata.labels of type string",
        ),
        (
            json!({"template": {"spec": {"containers": [{"env": [{"value": 1}]}]}}}),
            "json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string",
        ),
        (
            json!({"template": {"spec": {"containers": [{"command": "x"}]}}}),
            "json: cannot unmarshal string into Go struct field Container.spec.template.spec.containers.command of type []string",
        ),
        (
            json!({"template": []}),
            "json: cannot unmarshal array into Go struct field DeploymentSpec.spec.template of type v1.PodTemplateSpec",
        ),
        (
            json!({"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "1x"}}}]}}}),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            json!({"strategy": {"rollingUpdate": {"maxSurge": true}}}),
            "json: cannot unmarshal bool into Go value of type int32",
        ),
    ] {
        let err = deployment(&json!({"spec": spec}), FieldValidation::Ignore).expect_err("type error");
        assert_eq!(
            err.message,
            format!("Deployment in version \"v1\" cannot be handled as a Deployment: {text}")
        );
    }
}

#[test]
fn scalars_become_canonical_and_nulls_vanish() {
    let d = pod(json!({"nodeName": null, "containers": [{"name": "c", "command": null, "args": [null, "x"],
        "resources": {"limits": {"cpu": "1000m", "memory": 1024, "x": null}},
        "livenessProbe": {"httpGet": {"port": "http"}}}],
        "activeDeadlineSeconds": 5}));
    let v = d.expect("pod").value;
    assert_eq!(v["apiVersion"], "v1");
    assert_eq!(v["kind"], "Pod");
    assert!(v["spec"].get("nodeName").is_none());
    let c = &v["spec"]["containers"][0];
    assert_eq!(c["args"], json!(["", "x"]));
    assert_eq!(c["resources"]["limits"], json!({"cpu": "1", "memory": "1024", "x": "0"}));
    let secret = decode(br#"{"data":{"a":"aGk="}}"#, expect("", "v1", "Secret"), FieldValidation::Strict);
    assert_eq!(secret.expect("secret").value["data"]["a"], "aGk=");
    let err = decode(br#"{"data":{"a":"aG!k"}}"#, expect("", "v1", "Secret"), FieldValidation::Strict);
    assert!(err.expect_err("base64").message.ends_with("illegal base64 data at input byte 2"));
}

#[test]
fn versions_kinds_and_syntax_are_checked() {
    let e = expect("apps", "v1", "Deployment");
    let text = |b: &[u8]| decode(b, e, FieldValidation::Warn).expect_err("bad").message;
    assert_eq!(
        text(br#"{"apiVersion":"v1"}"#),
        "Deployment in version \"v1\" cannot be handled as a Deployment: no kind \"Deployment\" is registered for version \"v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
    );
    assert_eq!(
        text(br#"{"apiVersion":"v1","kind":"Pod"}"#),
        "Pod in version \"v1\" cannot be handled as a Deployment: converting (v1.Pod) to (apps.Deployment): unknown conversion"
    );
    assert!(
        text(br#"{"kind":"Pod","apiVersion":"apps/v1"}"#)
            .starts_with("Pod in version \"v1\" cannot be handled as a Deployment")
    );
    assert!(text(b"{\"kind\":").contains("must be of type Deployment"));
    assert!(text(b"[1]").contains("json: cannot unmarshal array into Go value of type struct {"));
    assert!(decode(b"null", e, FieldValidation::Warn).expect("null").value.is_object());
    assert!(text(b"").contains("<empty>"));
}

#[test]
fn custom_resources_are_pruned_but_not_typed() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "n": {"type": "integer"}, "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}});
    let def = definition_from_openapi("e.com", "v1", "W", &schema);
    let e = Expect { group: "e.com", version: "v1", kind: "W", definition: &def };
    let body =
        br#"{"metadata":{"name":"x","foo":1},"spec":{"n":"text","z":1,"n":null,"any":{"a":{"b":null}}}}"#;
    let d = decode(body, e, FieldValidation::Warn).expect("custom");
    assert_eq!(d.value["spec"], json!({"n": null, "any": {"a": {"b": null}}}));
    assert_eq!(
        d.warnings,
        ["duplicate field \"spec.n\"", "unknown field \"metadata.foo\"", "unknown field \"spec.z\""]
    );
    let crd =
        br#"{"spec":{"versions":[{"schema":{"openAPIV3Schema":{"properties":{"a":{"additionalProperties":
        {"type":"string"},"items":{"type":"string"},"default":{"x":null},"maximum":10.0}}}}}]}}"#;
    let e = expect("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let d = decode(crd, e, FieldValidation::Strict).expect("crd");
    let a = &d.value["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["a"];
    assert_eq!(
        *a,
        json!({"additionalProperties": {"type": "string"}, "items": {"type": "string"},
        "default": {"x": null}, "maximum": 10})
    );
}

/// Any JSON at all.
fn any_json() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "spec",
        "metadata",
        "name",
        "containers",
        "labels",
        "template",
        "x",
        "resources",
        "limits",
        "ports",
        "volumes",
        "data",
        "replicas",
        "kind",
        "status",
        "creationTimestamp",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9:TZ=.-]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|m| Value::Object(m.into_iter().map(|(k, v)| (k.to_string(), v)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_json_never_panics_and_decoding_is_stable(v in any_json()) {
        for e in [expect("", "v1", "Pod"), expect("apps", "v1", "Deployment"), expect("", "v1", "Secret")] {
            if let Ok(d) = decode(v.to_string().as_bytes(), e, FieldValidation::Ignore) {
                let again = decode_converted(d.value.clone(), Vec::new(), b"", e, FieldValidation::Strict).expect("decoded once");
                prop_assert_eq!(&again.value, &d.value);
                let mut v = again.value;
                crate::defaults::apply(e.group, e.version, e.kind, &mut v);
                crate::canonical::canonicalize(&mut v, e.definition);
                let once = v.clone();
                crate::defaults::apply(e.group, e.version, e.kind, &mut v);
                crate::canonical::canonicalize(&mut v, e.definition);
                prop_assert_eq!(&v, &once);
                let stored = crate::canonical::to_bytes(&v);
                let back = decode(&stored, e, FieldValidation::Strict).expect("stored");
                let mut back = back.value;
                crate::canonical::canonicalize(&mut back, e.definition);
                prop_assert_eq!(back, v);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(b in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&b, expect("", "v1", "Pod"), FieldValidation::Strict);
    }
}
