//! Bodies of create and update.

use serde_json::json;

use super::*;

const JSON: (&str, &str) = ("content-type", "application/json");
const YAML: (&str, &str) = ("content-type", "application/yaml");

#[test]
fn bodies_that_cannot_be_read() {
    let mut b = Bench::start();
    let unreadable = "the object provided is unrecognized (must be of type ConfigMap): ";
    let version = "couldn't get version/kind; json parse error: ";
    for (body, why) in [
        (
            "{broken",
            format!("{version}invalid character 'b' looking for beginning of object key string ({{broken)"),
        ),
        ("", format!("{version}unexpected end of JSON input (<empty>)")),
        (
            r#"{"metadata":{"name":"a"}"#,
            format!("{version}unexpected end of JSON input ({{\"metadata\":{{\"name\":\"a\"}})"),
        ),
        (r#"{"a":1}}"#, format!("{version}invalid character '}}' after top-level value ({{\"a\":1}}}})")),
        (r#"{"a" 1}"#, format!("{version}invalid character '1' after object key ({{\"a\" 1}})")),
        (
            r#"{"a":tru}"#,
            format!("{version}invalid character '}}' in literal true (expecting 'e') ({{\"a\":tru}})"),
        ),
        (r#"{"a":[1 2]}"#, format!("{version}invalid character '2' after array element ({{\"a\":[1 2]}})")),
        (
            r#"{"a":1 "b":2}"#,
            format!("{version}invalid character '\"' after object key:value pair ({{\"a\":1 \"b\":2}})"),
        ),
        (
            r#"{"a":"\x"}"#,
            format!("{version}invalid character 'x' in string escape code ({{\"a\":\"\\x\"}})"),
        ),
        (r#"{"a":01}"#, format!("{version}invalid character '1' after object key:value pair ({{\"a\":01}})")),
        (
            "nonsense",
            format!("{version}invalid character 'o' in literal null (expecting 'u') (6e6f6e73656e7365)"),
        ),
    ] {
        let a = b.http.send("POST", CMS, &[JSON], body.as_bytes());
        b.check(&format!("body {body}"), &a, 400, "BadRequest", &format!("{unreadable}{why}"));
    }
    // Control characters in strings, and bytes that are no UTF-8.
    let a = b.http.send("POST", CMS, &[JSON], b"{\"a\":\"x\ny\"}");
    b.check(
        "newline in a string",
        &a,
        400,
        "BadRequest",
        &format!("{unreadable}{version}invalid character '\\n' in string literal…"),
    );
    let a = b.http.send("POST", CMS, &[JSON], b"\xff\xfe\x00");
    b.check(
        "no text at all",
        &a,
        400,
        "BadRequest",
        &format!("{unreadable}{version}invalid character 'ÿ' looking for beginning of value (fffe00)"),
    );
    for body in ["a: [1, 2", "a: b: c", "\ta: b", "- {"] {
        let a = b.http.send("POST", CMS, &[YAML], body.as_bytes());
        b.check(&format!("YAML {body:?}"), &a, 400, "BadRequest", &format!("{unreadable}yaml: …"));
    }
    let a =
        b.http.send("POST", CMS, &[("content-type", "application/vnd.kubernetes.protobuf")], b"no protobuf");
    b.check("protobuf without its magic", &a, 400, "BadRequest", &format!("{unreadable}provided data does not appear to be a protobuf message, expected prefix [107 56 115 0] (6e6f2070726f746f627566)"));
    let a = b.http.send(
        "POST",
        CMS,
        &[("content-type", "application/vnd.kubernetes.protobuf")],
        b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\xff\xff\xff\xff\x0f",
    );
    b.check("protobuf that breaks off", &a, 400, "BadRequest", &format!("{unreadable}…"));
    for (method, path) in [("POST", CMS.to_owned()), ("PUT", format!("{CMS}/x"))] {
        let a = b.http.send(method, &path, &[("content-type", "text/plain")], b"{}");
        b.check("content type", &a, 415, "UnsupportedMediaType", "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf");
    }
    // Nested without end: refused, not a stack overflow.
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!(
            "{{\"metadata\":{{\"name\":\"deep\"}},\"data\":{}1{}}}",
            open.repeat(200_000),
            close.repeat(200_000)
        );
        let a = b.http.send("POST", CMS, &[JSON], deep.as_bytes());
        b.check("deep nesting", &a, 400, "BadRequest", "…");
    }
    let deep = format!("metadata: {{name: deep}}\ndata: {}1{}", "[".repeat(50_000), "]".repeat(50_000));
    let a = b.http.send("POST", CMS, &[YAML], deep.as_bytes());
    b.check("deep YAML", &a, 400, "BadRequest", "…");
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for i in 1..12 {
        let all: Vec<String> = (0..9).map(|_| format!("*a{}", i - 1)).collect();
        bomb.push_str(&format!("a{i}: &a{i} [{}]\n", all.join(",")));
    }
    let a = b.http.send("POST", CMS, &[YAML], bomb.as_bytes());
    b.check("YAML that explodes", &a, 400, "BadRequest", "…");
    b.end();
}

#[test]
fn bodies_that_are_too_large() {
    let mut b = Bench::start();
    let limit = 3 * 1024 * 1024;
    for size in [limit + 1, 5 * 1024 * 1024] {
        for (method, path, media) in [
            ("POST", CMS.to_owned(), "application/json"),
            ("PUT", format!("{CMS}/x"), "application/json"),
            ("PATCH", format!("{CMS}/x"), "application/merge-patch+json"),
            ("DELETE", format!("{CMS}/x"), "application/json"),
        ] {
            let a = b.http.send(method, &path, &[("content-type", media)], &vec![b' '; size]);
            b.check(
                &format!("{method} of {size} bytes"),
                &a,
                413,
                "RequestEntityTooLarge",
                "Request entity too large: limit is 3145728",
            );
        }
    }
    // Just within the limit of the request, but more than a ConfigMap may hold.
    let mut v = config_map("big");
    v["data"]["k"] = json!("x".repeat(limit - 1000));
    let a = b.http.json("POST", CMS, &v);
    b.check(
        "a config map of 3 MiB",
        &a,
        422,
        "Invalid",
        "ConfigMap \"big\" is invalid: []: Too long: may not be more than 1048576 bytes",
    );
    v["data"]["k"] = json!("x".repeat(1024 * 1024));
    assert_eq!(b.http.json("POST", CMS, &v).code, 201);
    // Without a length in front, counted as it comes.
    let mut chunked = format!("POST {CMS} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..4 {
        chunked.extend_from_slice(b"100000\r\n");
        chunked.extend_from_slice(&vec![b' '; 0x10_0000]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let a = b.http.raw(&chunked).expect("answer");
    b.check(
        "chunks over the limit",
        &a,
        413,
        "RequestEntityTooLarge",
        "Request entity too large: limit is 3145728",
    );
    b.end();
}

#[test]
fn fields_that_do_not_fit() {
    let mut b = Bench::start();
    let mut v = deployment("d");
    v["spec"]["nonsense"] = json!(1);
    v["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = json!("Always");
    let strict = "strict decoding error: unknown field \"spec.nonsense\", unknown field \"spec.template.spec.containers[0].imagePullPolice\"";
    let a = b.http.json("POST", &format!("{DEPLOYMENTS}?fieldValidation=Strict"), &v);
    b.check(
        "strict",
        &a,
        400,
        "BadRequest",
        &format!("Deployment in version \"v1\" cannot be handled as a Deployment: {strict}"),
    );
    for (mode, warnings) in [("Warn", 2), ("", 2), ("Ignore", 0)] {
        let a = b.http.json("POST", &format!("{DEPLOYMENTS}?dryRun=All&fieldValidation={mode}"), &v);
        assert_eq!(a.code, 201, "{}", a.text());
        let said = a.all("warning");
        assert_eq!(said.len(), warnings, "{mode}: {said:?}");
        if warnings > 0 {
            assert_eq!(said[0], "299 - \"unknown field \\\"spec.nonsense\\\"\"");
        }
        assert!(a.json()["spec"].get("nonsense").is_none());
    }
    let a = b.http.json("POST", &format!("{DEPLOYMENTS}?fieldValidation=Sometimes"), &v);
    b.check("mode", &a, 422, "Invalid", "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Sometimes\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"");
    b.equal("mode's cause", &a.json()["details"], json!({"group": "meta.k8s.io", "kind": "CreateOptions", "causes": [
        {"reason": "FieldValueNotSupported", "field": "fieldValidation", "message": "Unsupported value: \"Sometimes\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""}]}));
    let a = b.http.json("POST", &format!("{DEPLOYMENTS}?dryRun=Some"), &v);
    b.check("dryRun", &a, 422, "Invalid", "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"");
    let a =
        b.http.json("PUT", &format!("{DEPLOYMENTS}/d?fieldManager={}", "x".repeat(129)), &deployment("d"));
    b.check(
        "fieldManager",
        &a,
        422,
        "Invalid",
        "UpdateOptions.meta.k8s.io \"\" is invalid: fieldManager: Too long: may not be more than 128 bytes",
    );
    let a = b.http.json("POST", &format!("{CMS}?fieldManager=a%07b"), &config_map("x"));
    b.check(
        "fieldManager's characters",
        &a,
        422,
        "Invalid",
        "CreateOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: …",
    );

    // Duplicate keys.
    let twice = br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"two"},"data":{"a":"1","a":"2"},"immutable":false,"immutable":true}"#;
    let a = b.http.send("POST", &format!("{CMS}?fieldValidation=Strict"), &[JSON], twice);
    b.check("duplicate keys", &a, 400, "BadRequest", "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: duplicate field \"data.a\", duplicate field \"immutable\"");
    let a = b.http.send("POST", &format!("{CMS}?dryRun=All"), &[JSON], twice);
    assert_eq!(
        (a.code, a.all("warning").len(), a.json()["data"]["a"].as_str()),
        (201, 2, Some("2")),
        "{}",
        a.text()
    );
    let twice = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: two\ndata:\n  a: one\n  a: two\n";
    let a = b.http.send("POST", &format!("{CMS}?fieldValidation=Strict"), &[YAML], twice);
    b.check("duplicate keys in YAML", &a, 400, "BadRequest", "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: yaml: unmarshal errors:\n  line 7: key \"a\" already set in map");
    let a = b.http.send("POST", &format!("{CMS}?dryRun=All"), &[YAML], twice);
    assert_eq!(
        (a.code, a.all("warning"), a.json()["data"]["a"].as_str()),
        (201, vec!["299 - \"line 7: key \\\"a\\\" already set in map\""], Some("two"))
    );

    // Types.
    for (patch, why) in [
        (
            json!({"replicas": "three"}),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"template": []}),
            "json: cannot unmarshal array into Go struct field DeploymentSpec.spec.template of type v1.PodTemplateSpec",
        ),
        (
            json!({"paused": 1}),
            "json: cannot unmarshal number into Go struct field DeploymentSpec.spec.paused of type bool",
        ),
    ] {
        let mut v = deployment("d");
        for (k, x) in patch.as_object().expect("object") {
            v["spec"][k] = x.clone();
        }
        let a = b.http.json("POST", DEPLOYMENTS, &v);
        b.check(
            &patch.to_string(),
            &a,
            400,
            "BadRequest",
            &format!("Deployment in version \"v1\" cannot be handled as a Deployment: {why}"),
        );
    }
    let a =
        b.http.json("POST", CMS, &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}));
    b.check("a Secret at configmaps", &a, 400, "BadRequest", "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion");
    let a = b.http.json(
        "POST",
        CMS,
        &json!({"apiVersion": "v2", "kind": "ConfigMap", "metadata": {"name": "x"}}),
    );
    b.check("another version", &a, 400, "BadRequest", "ConfigMap in version \"v2\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is registered for version \"v2\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"");
    let a = b.http.json(
        "POST",
        CMS,
        &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}}),
    );
    b.check("another group", &a, 400, "BadRequest", "Deployment in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Deployment) to (core.ConfigMap): unknown conversion");
    let a = b.http.json("POST", CMS, &json!([]));
    b.check("a list", &a, 400, "BadRequest", "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" } (5b5d)");
    b.end();
}

#[test]
fn names_versions_and_places_that_are_wrong() {
    let mut b = Bench::start();
    let subdomain = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    for name in ["Upper", "a_b", "-a", "a..b", "ü"] {
        let a = b.http.json("POST", CMS, &config_map(name));
        b.check(
            name,
            &a,
            422,
            "Invalid",
            &format!(
                "ConfigMap \"{name}\" is invalid: metadata.name: Invalid value: \"{name}\": {subdomain}"
            ),
        );
    }
    let a = b.http.json("POST", CMS, &config_map(&"a".repeat(254)));
    b.check("long", &a, 422, "Invalid", &format!("ConfigMap \"{0}\" is invalid: metadata.name: Invalid value: \"{0}\": must be no more than 253 characters", "a".repeat(254)));
    let a = b.http.json("POST", CMS, &json!({"metadata": {}}));
    b.check(
        "no name",
        &a,
        422,
        "Invalid",
        "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
    );
    b.equal("no name's cause", &a.json()["details"], json!({"kind": "ConfigMap", "causes": [
        {"reason": "FieldValueRequired", "field": "metadata.name", "message": "Required value: name or generateName is required"}]}));
    let a = b.http.json("POST", CMS, &json!({"metadata": {"generateName": "made-"}}));
    let name = a.json()["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    assert!(a.code == 201 && name.starts_with("made-") && name.len() == 10, "{}", a.text());
    let a = b.http.json("POST", CMS, &json!({"metadata": {"generateName": "Made_"}}));
    b.check("generateName", &a, 422, "Invalid", "ConfigMap \"Made_…");

    let first = b.config_map("a");
    let a = b.http.json("POST", CMS, &config_map("a"));
    b.check("again", &a, 409, "AlreadyExists", "configmaps \"a\" already exists");
    b.equal("again's details", &a.json()["details"], json!({"name": "a", "kind": "configmaps"}));
    let mut v = first.clone();
    v["metadata"]["name"] = json!("b");
    let a = b.http.json("PUT", &format!("{CMS}/a"), &v);
    b.check(
        "another name",
        &a,
        400,
        "BadRequest",
        "the name of the object (b) does not match the name on the URL (a)",
    );
    v = first.clone();
    v["metadata"]["namespace"] = json!("other");
    for (method, path) in [("POST", CMS.to_owned()), ("PUT", format!("{CMS}/a"))] {
        let a = b.http.json(method, &path, &v);
        b.check(
            "another namespace",
            &a,
            400,
            "BadRequest",
            "the namespace of the provided object does not match the namespace sent on the request",
        );
    }
    let a = b.http.json("POST", CMS, &json!({"metadata": {"name": "rv", "resourceVersion": "5"}}));
    b.check(
        "resourceVersion on create",
        &a,
        500,
        "",
        "resourceVersion should not be set on objects to be created",
    );
    let a = b.http.json("POST", "/api/v1/namespaces/nowhere/configmaps", &config_map("a"));
    b.check("no such namespace", &a, 404, "NotFound", "namespaces \"nowhere\" not found");
    b.equal(
        "no such namespace's details",
        &a.json()["details"],
        json!({"name": "nowhere", "kind": "namespaces"}),
    );

    // Versions.
    v = first.clone();
    v["data"]["k"] = json!("2");
    let second = b.http.json("PUT", &format!("{CMS}/a"), &v);
    assert_eq!(second.code, 200);
    let a = b.http.json("PUT", &format!("{CMS}/a"), &v);
    b.check("stale", &a, 409, "Conflict", "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again");
    b.equal("stale's details", &a.json()["details"], json!({"name": "a", "kind": "configmaps"}));
    v = second.json();
    v["metadata"]["uid"] = json!("other");
    let a = b.http.json("PUT", &format!("{CMS}/a"), &v);
    b.check("another uid", &a, 409, "Conflict", &format!("Operation cannot be fulfilled on configmaps \"a\": StorageError: invalid object, Code: 4, Key: /registry/configmaps/default/a, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: other, UID in object meta: {}", first["metadata"]["uid"].as_str().unwrap_or_default()));
    let lease = json!({"metadata": {"name": "l"}, "spec": {}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    assert_eq!(b.http.json("POST", leases, &lease).code, 201);
    let a = b.http.json("PUT", &format!("{leases}/l"), &lease);
    b.check("no version", &a, 422, "Invalid", "leases.coordination.k8s.io \"l\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update");
    let a = b.http.json("PUT", &format!("{CMS}/missing"), &config_map("missing"));
    b.check("update of nothing", &a, 404, "NotFound", "configmaps \"missing\" not found");

    // Deletions.
    let uid = first["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let rv = second.json()["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let a = b.http.json("DELETE", &format!("{CMS}/a"), &json!({"preconditions": {"uid": "other"}}));
    b.check("uid precondition", &a, 409, "Conflict", &format!("Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition (other) does not match the UID in record ({uid}). The object might have been deleted and then recreated"));
    let a = b.http.json("DELETE", &format!("{CMS}/a"), &json!({"preconditions": {"resourceVersion": "1"}}));
    b.check("version precondition", &a, 409, "Conflict", &format!("Operation cannot be fulfilled on ConfigMap \"a\": the ResourceVersion in the precondition (1) does not match the ResourceVersion in record ({rv}). The object might have been modified"));
    let a = b.http.json("DELETE", &format!("{CMS}/a"), &json!({"propagationPolicy": "Sideways"}));
    b.check("policy", &a, 422, "Invalid", "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"Sideways\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"");
    let a = b.http.json(
        "DELETE",
        &format!("{CMS}/a"),
        &json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
    );
    b.check("policy twice", &a, 422, "Invalid", "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set");
    let a = b.http.send("DELETE", &format!("{CMS}/a?gracePeriodSeconds=soon"), &[], b"");
    b.check("grace", &a, 400, "BadRequest", "strconv.ParseInt: parsing \"soon\": invalid syntax");
    let a = b.http.json(
        "DELETE",
        &format!("{CMS}/a"),
        &json!({"preconditions": {"uid": uid, "resourceVersion": rv}}),
    );
    assert_eq!((a.code, a.json()["status"].as_str()), (200, Some("Success")), "{}", a.text());
    let a = b.http.send("DELETE", &format!("{CMS}/a"), &[], b"");
    b.check("delete of nothing", &a, 404, "NotFound", "configmaps \"a\" not found");
    b.end();
}
