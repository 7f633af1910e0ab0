//! Hostile extensions: definitions of custom resources with objects of theirs, what webhooks and other API servers answer,
//! requests for certificates, and values that the original left in etcd.

use api::columns::{IncludeObject, ListMeta};
use api::decode::{Expect, FieldValidation, decode_value};
use serde_json::{Value, json};

/// A definition as the server takes it, or why it does not.
fn accepted(mut crd: Value) -> Result<api::catalog::Descriptor, String> {
    const GROUP: &str = "apiextensions.k8s.io";
    let definition = api::schema::definition_for(GROUP, "v1", "CustomResourceDefinition").ok_or("unknown")?;
    let expect = Expect { group: GROUP, version: "v1", kind: "CustomResourceDefinition", definition };
    crd = decode_value(crd, expect, FieldValidation::Ignore).map_err(|e| format!("{e:?}"))?.value;
    api::defaults::apply(GROUP, "v1", "CustomResourceDefinition", &mut crd);
    let faults = api::validation::create(GROUP, "CustomResourceDefinition", &crd);
    if !faults.is_empty() {
        return Err(format!("{faults:?}"));
    }
    let names = crd["spec"]["names"].clone();
    crd.as_object_mut().ok_or("no map")?.insert("status".into(), json!({"acceptedNames": names}));
    api::catalog::custom::descriptor(&crd).ok_or_else(|| "it describes no kind".into())
}

/// Three values in a list: a definition, an object, and what the object was before.
#[test]
fn custom_resources() {
    let schema = json!({"type": "object", "required": ["spec"], "properties": {"spec": {"type": "object",
        "x-kubernetes-validations": [{"rule": "self.min <= self.max", "messageExpression": "'min is %d'.format([self.min])", "fieldPath": ".min"},
            {"rule": "oldSelf.min <= self.min", "reason": "FieldValueForbidden", "optionalOldSelf": false}],
        "properties": {
            "min": {"type": "integer", "format": "int32", "minimum": 0, "maximum": 9, "default": 1, "multipleOf": 1},
            "max": {"type": "number", "default": 2.5, "exclusiveMinimum": true, "minimum": 0},
            "name": {"type": "string", "pattern": "^[a-z]+$", "minLength": 1, "maxLength": 9, "enum": ["a", "b"], "nullable": true},
            "when": {"type": "string", "format": "date-time"}, "any": {"x-kubernetes-int-or-string": true},
            "more": {"type": "object", "additionalProperties": {"type": "string", "format": "ipv4"}, "maxProperties": 3},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "embedded": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}, "uniqueItems": false},
            "list": {"type": "array", "maxItems": 4, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string", "maxLength": 63}, "v": {"type": "boolean"}},
                    "x-kubernetes-validations": [{"rule": "self.k != ''"}]}}},
        "allOf": [{"properties": {"min": {"maximum": 5}}}], "not": {"required": ["gone"]}}}});
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.a.example.com"}, "spec": {"group": "a.example.com", "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing", "shortNames": ["th"], "categories": ["all"]},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.min", "statusReplicasPath": ".status.n"}},
            "selectableFields": [{"jsonPath": ".spec.name"}],
            "additionalPrinterColumns": [{"name": "A", "type": "integer", "jsonPath": ".spec.list[?(@.k==\"a\")].v"},
                {"name": "B", "type": "date", "jsonPath": ".spec['when']"}, {"name": "C", "type": "string", "jsonPath": "..k"}]}]}});
    let object = |min: i64| {
        json!({"apiVersion": "a.example.com/v1", "kind": "Thing", "metadata": {"name": "t", "namespace": "n"},
        "spec": {"min": min, "max": 3, "name": "a", "any": "5%", "when": "2026-01-01T00:00:00Z", "more": {"x": "10.0.0.1"}, "free": {"y": [1]},
            "embedded": {"apiVersion": "v1", "kind": "X", "metadata": {"name": "m"}},
            "set": ["a", "b"], "list": [{"k": "a", "v": true}, {"k": "b"}]}})
    };
    if let Err(why) = accepted(crd.clone()) {
        panic!("the seed itself must be accepted: {why}");
    }
    let seed = json!([crd, object(1), object(2)]).to_string();
    fuzz::run("custom_resources", &[seed.as_bytes()], 2, |b| {
        let Ok([crd, new, old]) = serde_json::from_slice::<[Value; 3]>(b) else { return };
        let Ok(kind) = accepted(crd) else { return };
        let Some(version) = kind.version(&kind.storage_version) else { return };
        let (Some(custom), Some(definition)) = (&version.custom, version.schema.definition()) else { return };
        let expect = || Expect { group: &kind.group, version: &version.name, kind: &kind.kind, definition };
        let read = |v: Value| -> Option<Value> {
            let mut v = decode_value(v, expect(), FieldValidation::Strict).ok()?.value;
            custom.default(&mut v);
            let _ = api::validation::custom_resource(custom.checks(), kind.namespaced, &v, None);
            api::canonical::canonicalize(&mut v, definition);
            Some(v)
        };
        let (Some(new), Some(old)) = (read(new), read(old)) else { return };
        let _ = api::validation::custom_resource(custom.checks(), kind.namespaced, &new, Some(&old));
        if let Ok(o) = api::Object::from_value(new, 1) {
            let meta = ListMeta::default();
            let table =
                api::columns::custom::table(&custom.columns, &[o], 1_800_000_000, IncludeObject::None, &meta);
            assert!(serde_json::from_slice::<Value>(&table).is_ok(), "a table is no JSON");
        }
    });
}

#[test]
fn certificate_requests() {
    const GROUP: &str = "certificates.k8s.io";
    let dir = tempfile::tempdir().expect("a directory");
    let p = pki::Pki::open(&dir.path().join("pki"), &pki::Options::default(), 1_800_000_000).expect("keys");
    let admin = p.admin(1_800_000_000).expect("a certificate");
    let der = pki::trust::certificates(&admin.cert).expect("pem").remove(0);
    // A request of openssl's, for an ed25519 key.
    let request = "-----BEGIN CERTIFICATE REQUEST-----\n\
        MIGcMFACAQAwHTEbMBkGA1UEAwwSc3lzdGVtOm5vZGU6bm9kZS0xMCowBQYDK2Vw\n\
        AyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuGgADAFBgMrZXADQQBV\n\
        -----END CERTIFICATE REQUEST-----\n";
    let seeds = [
        request.as_bytes(),
        admin.cert.as_bytes(),
        der.as_ref(),
        b"-----BEGIN X-----\nAAAA\n-----END X-----",
    ];
    fuzz::run("certificate_requests", &seeds, 2, |b| {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(b);
        let csr = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "c"},
            "spec": {"request": text, "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]},
            "status": {"certificate": text, "conditions": [{"type": "Approved", "status": "True"}]}});
        let _ = api::validation::create(GROUP, "CertificateSigningRequest", &csr);
        let _ = api::validation::update_status(GROUP, "CertificateSigningRequest", &csr, &csr);
        let pod = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "PodCertificateRequest", "metadata": {"name": "c", "namespace": "n"},
            "spec": {"signerName": "a.example.com/b", "podName": "p", "podUID": "u", "serviceAccountName": "s", "serviceAccountUID": "u",
                "nodeName": "n", "nodeUID": "u", "maxExpirationSeconds": 86400, "pkixPublicKey": text, "proofOfPossession": text,
                "stubPKCS10Request": text},
            "status": {"certificateChain": String::from_utf8_lossy(b), "notBefore": "2026-01-01T00:00:00Z", "notAfter": "2026-01-02T00:00:00Z",
                "beginRefreshAt": "2026-01-01T12:00:00Z", "conditions": [{"type": "Issued", "status": "True", "reason": "r"}]}});
        let _ = api::validation::create(GROUP, "PodCertificateRequest", &pod);
        let mut before = pod.clone();
        before["status"] = json!({});
        let _ = api::validation::update_status(GROUP, "PodCertificateRequest", &pod, &before);
        let bundle = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundle", "metadata": {"name": "c"},
            "spec": {"trustBundle": String::from_utf8_lossy(b)}});
        let _ = api::validation::create(GROUP, "ClusterTrustBundle", &bundle);
    });
}

/// What a conversion webhook and an aggregated API server say.
#[test]
fn answers_of_others() {
    use apiserver::aggregation::documents::{discovered, own_part};
    let sent = json!({"apiVersion": "a.example.com/v1", "kind": "Thing", "metadata": {"name": "t", "namespace": "n", "uid": "u", "labels": {"a": "b"}}});
    let converted = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": {"uid": "u",
        "result": {"status": "Success", "message": "m"}, "convertedObjects": [{"apiVersion": "a.example.com/v2", "kind": "Thing",
        "metadata": {"name": "t", "namespace": "n", "uid": "u", "labels": {"a": "c"}, "annotations": {"x": "y"}}, "spec": {}}]}});
    let openapi = json!({"paths": {"/apis/a.example.com/v1/things": {"get": {"$ref": "#/definitions/A"}}},
        "definitions": {"A": {"x": [{"$ref": "#/definitions/B"}]}, "B": {"y": {"$ref": "#/definitions/A"}}}});
    let resources = json!({"kind": "APIResourceList", "groupVersion": "a.example.com/v1", "resources": [
        {"name": "things", "namespaced": true, "kind": "Thing", "verbs": ["get"], "shortNames": ["th"], "categories": ["all"]},
        {"name": "things/status", "kind": "Thing", "group": "x", "version": "v9", "verbs": []}]});
    let seeds = [converted, openapi, resources].map(|v| v.to_string());
    let seeds: Vec<&[u8]> = seeds.iter().map(String::as_bytes).collect();
    fuzz::run("answers_of_others", &seeds, 1, move |b| {
        let Ok(v) = serde_json::from_slice::<Value>(b) else { return };
        for review in ["v1", "v1beta1"] {
            let judged = apiserver::handlers::conversion_review::judged(
                review,
                "u",
                "a.example.com/v2",
                std::slice::from_ref(&sent),
                Ok(v.clone()),
            );
            if let Ok(got) = judged {
                assert_eq!((got.len(), got[0]["metadata"]["uid"].as_str()), (1, Some("u")), "another object");
            }
        }
        let _ = discovered("a.example.com", "v1", &v);
        let _ = own_part(v, "a.example.com", "v1");
    });
}

/// Records in etcd, as the original wrote them. The first byte chooses the key.
#[test]
fn upstream_records() {
    const KEYS: [&str; 3] =
        ["/registry/services/specs/n/s", "/registry/ranges/serviceips", "/registry/a.example.com/things/t"];
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"},
        "spec": {"ports": [{"port": 80}], "clusterIP": "10.0.0.1"}});
    let scaler = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h", "namespace": "n",
        "annotations": {"autoscaling.alpha.kubernetes.io/conditions": "[{}]", "autoscaling.alpha.kubernetes.io/metrics": "[{}]"}},
        "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 70, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}});
    let mut seeds: Vec<Vec<u8>> =
        [&service, &scaler].iter().filter_map(|v| api::protobuf::encode(v).ok()).collect();
    seeds.extend([&service, &scaler].iter().map(|v| format!("{v}\n").into_bytes()));
    seeds.push(b"k8s:enc:aescbc:v1:key1:xyz".to_vec());
    let seeds: Vec<Vec<u8>> = seeds.iter().map(|s| [b"\0", s.as_slice()].concat()).collect();
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    let decode = apiserver::storage::foreign::decoder();
    fuzz::run("upstream_records", &seeds, 1, move |b| {
        let Some((which, record)) = b.split_first() else { return };
        let Some(key) = KEYS.get(usize::from(*which) % KEYS.len()) else { return };
        // What it makes of a record is in its own form, which it leaves as it is.
        if let Ok(ours) = decode(key, bytes::Bytes::copy_from_slice(record)) {
            assert_eq!(decode(key, ours.clone()).as_ref(), Ok(&ours), "not the stored form");
        }
    });
}
