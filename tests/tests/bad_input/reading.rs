//! Lists, watches and paths.

use serde_json::json;

use super::*;

#[test]
fn lists_and_watches_with_bad_parameters() {
    let mut b = Bench::start();
    for i in 0..5 {
        b.config_map(&format!("c{i}"));
    }
    let list = |q: &str| b.http.get(&format!("{CMS}?{q}"));
    let option = "ListOptions.meta.k8s.io \"\" is invalid: ";
    let table = [
        ("labelSelector=a%3D%3D%3Db", 400, "BadRequest", "unable to parse requirement: found '=', expected: identifier".to_owned()),
        ("labelSelector=a+in+b", 400, "BadRequest", "unable to parse requirement: found 'b' expected: '('".into()),
        ("labelSelector=-a%3Db", 400, "BadRequest", "unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist of…".into()),
        ("fieldSelector=data.x%3Db", 400, "BadRequest", "\"data.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"".into()),
        ("fieldSelector=nonsense", 400, "BadRequest", "invalid selector: 'nonsense'; can't understand 'nonsense'".into()),
        ("limit=many", 400, "BadRequest", "strconv.ParseInt: parsing \"many\": invalid syntax".into()),
        ("continue=!!", 400, "BadRequest", "invalid continue token: continue key is not valid: illegal base64 data at input byte 0".into()),
        ("continue=e30", 400, "BadRequest", "invalid continue token: continue key is not valid: server does not recognize this encoded version ".into()),
        ("resourceVersion=x", 400, "BadRequest", "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax".into()),
        ("resourceVersion=-1", 400, "BadRequest", "invalid resource version: resourceVersion: Invalid value: \"-1\": strconv.ParseUint: parsing \"-1\": invalid syntax".into()),
        ("resourceVersionMatch=Exact", 422, "Invalid", format!("{option}resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided")),
        ("resourceVersion=0&resourceVersionMatch=Exact", 422, "Invalid", format!("{option}resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")),
        ("resourceVersion=1&resourceVersionMatch=Near", 422, "Invalid", format!("{option}resourceVersionMatch: Unsupported value: \"Near\": supported values: \"Exact\", \"NotOlderThan\", \"\"")),
        ("sendInitialEvents=true", 422, "Invalid", format!("{option}sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list")),
        ("watch=1&sendInitialEvents=true", 422, "Invalid", format!("{option}resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")),
        ("watch=1&resourceVersionMatch=NotOlderThan&resourceVersion=1", 422, "Invalid", format!("{option}resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")),
        ("watch=1&resourceVersion=x", 400, "BadRequest", "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax".into()),
        ("watch=1&timeoutSeconds=soon", 400, "BadRequest", "strconv.ParseInt: parsing \"soon\": invalid syntax".into()),
        ("watch=1&fieldSelector=data.x%3Db", 400, "BadRequest", "\"data.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"".into()),
    ];
    let answers: Vec<_> = table.iter().map(|(q, ..)| list(q)).collect();
    for ((q, code, reason, message), a) in table.iter().zip(answers) {
        b.check(q, &a, *code, reason, message);
    }
    let a = b.http.get("/api/v1/namespaces/default/pods?fieldSelector=spec.image%3Db");
    b.check("field of pods", &a, 400, "BadRequest", "field label not supported: spec.image");
    let a = b.http.get(&format!("{DEPLOYMENTS}?fieldSelector=spec.replicas%3D1"));
    b.check(
        "field of deployments",
        &a,
        400,
        "BadRequest",
        "\"spec.replicas\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
    );

    // A version that is not there yet.
    let now: u64 = b.http.get(CMS).json()["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
        .parse()
        .expect("version");
    for q in ["", "&resourceVersionMatch=NotOlderThan", "&resourceVersionMatch=Exact", "&limit=2"] {
        let a = b.http.get(&format!("{CMS}?resourceVersion={}{q}", now + 1_000_000));
        b.check(
            &format!("too large {q}"),
            &a,
            504,
            "Timeout",
            &format!("Timeout: Too large resource version: {}, current: …", now + 1_000_000),
        );
        b.equal(
            "too large: cause",
            &a.json()["details"]["causes"],
            json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]),
        );
        b.equal("too large: retry", &a.json()["details"]["retryAfterSeconds"], json!(1));
        assert_eq!(a.header("retry-after"), "1");
    }
    let a = b.http.get(&format!("{CMS}/c0?resourceVersion={}", now + 1_000_000));
    b.check(
        "too large, one object",
        &a,
        504,
        "Timeout",
        &format!("Timeout: Too large resource version: {}, current: …", now + 1_000_000),
    );
    let mut w = b.http.lines(&format!("{CMS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion={}", now + 1_000_000), &[]);
    let e = w.event().expect("an error");
    b.equal(
        "too large, watch",
        &json!([w.code, e["type"], e["object"]["code"], e["object"]["reason"]]),
        json!([200, "ERROR", 504, "Timeout"]),
    );
    assert!(w.event().is_none());

    // Pages of one state.
    let a = b.http.get(&format!("{CMS}?limit=2"));
    let token = a.json()["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
    let a = b.http.get(&format!("{CMS}?limit=2&continue={token}&resourceVersion=5"));
    b.check(
        "continue with a version",
        &a,
        400,
        "BadRequest",
        "specifying resource version is not allowed when using continue",
    );
    let a =
        b.http.get(&format!("{CMS}?limit=2&continue={token}&resourceVersion=5&resourceVersionMatch=Exact"));
    b.check("continue with a match", &a, 422, "Invalid", &format!("{option}resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided"));
    b.end();
}

#[test]
fn limits_hold_for_every_list() {
    let mut b = Bench::start();
    let groups = b.http.send("GET", "/apis", &[("accept", "application/json")], b"").json();
    let mut paths = vec!["/api/v1".to_owned()];
    for g in groups["groups"].as_array().into_iter().flatten() {
        paths.push(format!("/apis/{}", g["preferredVersion"]["groupVersion"].as_str().unwrap_or_default()));
    }
    let mut lists = 0;
    for p in paths {
        for r in b.http.get(&p).json()["resources"].as_array().into_iter().flatten() {
            let name = r["name"].as_str().unwrap_or_default();
            let can = |verb: &str| r["verbs"].as_array().into_iter().flatten().any(|v| v == verb);
            if name.contains('/') || !can("list") || name == "componentstatuses" {
                continue;
            }
            let a = b.http.get(&format!("{p}/{name}?limit=1"));
            let v = a.json();
            assert_eq!(a.code, 200, "{p}/{name}: {}", a.text());
            let n = v["items"].as_array().map_or(99, Vec::len);
            let version = v["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse::<u64>().ok());
            if n > 1 || version.is_none_or(|v| v == 0) {
                b.wrong.push(format!("{p}/{name}: {n} items with limit=1, version {version:?}"));
            }
            if n == 1 && v["metadata"]["continue"].is_string() {
                let token = v["metadata"]["continue"].as_str().unwrap_or_default();
                let next = b.http.get(&format!("{p}/{name}?limit=1&continue={token}")).json();
                b.equal(
                    &format!("{p}/{name}, second page"),
                    &next["metadata"]["resourceVersion"],
                    v["metadata"]["resourceVersion"].clone(),
                );
                assert_ne!(
                    next["items"][0]["metadata"]["uid"], v["items"][0]["metadata"]["uid"],
                    "{p}/{name}"
                );
            }
            let a = b.http.get(&format!("{p}/{name}?fieldSelector=no.such%3Dx"));
            if a.code != 400 || a.reason() != "BadRequest" {
                b.wrong.push(format!(
                    "{p}/{name}: an unknown field selector was answered {}: {}",
                    a.code,
                    a.text()
                ));
            }
            if can("watch") {
                let a = b.http.get(&format!("{p}/{name}?watch=1&timeoutSeconds=1&resourceVersion=x"));
                b.check(&format!("{p}/{name}?watch"), &a, 400, "BadRequest", "invalid resource version: …");
            }
            lists += 1;
        }
    }
    assert!(lists > 50, "{lists} lists");
    b.end();
}

#[test]
fn paths_methods_and_forms_of_answers() {
    let mut b = Bench::start();
    let missing = "the server could not find the requested resource";
    for path in [
        "/api/v1/nonsense",
        "/api/v1/namespaces/default/nonsense",
        "/api/v1/namespaces/default/nodes",
        "/api/v1/namespaces/default/pods/p/nonsense",
        "/apis/apps/v1/nonsense/x",
        "/api/v1/nodes/n/scale",
    ] {
        let a = b.http.get(path);
        b.check(path, &a, 404, "NotFound", missing);
    }
    for path in ["/nope", "/apis/apps/v2/deployments", "/apis/nope.example/v1/things", "/api/v2/pods"] {
        let a = b.http.get(path);
        assert_eq!((a.code, a.text().as_str()), (404, "404 page not found\n"), "{path}");
    }
    let refused = "the server does not allow this method on the requested resource";
    for (method, path) in [
        ("POST", "/api/v1/pods"),
        ("PUT", "/api/v1/namespaces/default/pods"),
        ("PATCH", "/api/v1/namespaces/default/pods"),
        ("POST", "/api/v1/namespaces/default/pods/p"),
        ("DELETE", "/api/v1/namespaces"),
        ("PUT", "/api/v1/namespaces/default/pods/p/binding"),
        ("POST", "/apis/apps/v1/namespaces/default/deployments/d/status"),
        ("OPTIONS", "/api/v1/namespaces/default/pods/p"),
        ("TRACE", "/api/v1/namespaces/default/pods/p"),
        ("BREW", "/api/v1/namespaces/default/pods/p"),
    ] {
        let a = b.http.send(method, path, &[], b"");
        b.check(&format!("{method} {path}"), &a, 405, "MethodNotAllowed", refused);
    }
    let kinds = "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf";
    for accept in [
        "text/html",
        "application/json;as=Nonsense;g=meta.k8s.io;v=v1",
        "application/json;as=Table;g=meta.k8s.io;v=v9",
    ] {
        let a = b.http.send("GET", CMS, &[("accept", accept)], b"");
        b.check(accept, &a, 406, "NotAcceptable", kinds);
    }
    let review = r#"{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{"nonResourceAttributes":{"path":"/","verb":"get"}}}"#;
    let headers =
        [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io"), ("content-type", "application/json")];
    let a = b.http.send(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        &headers,
        review.as_bytes(),
    );
    b.check("a review is no table", &a, 406, "NotAcceptable", kinds);
    let a = b.http.send(
        "POST",
        CMS,
        &[("accept", "text/html"), ("content-type", "application/json")],
        config_map("x").to_string().as_bytes(),
    );
    b.check("406 before the write", &a, 406, "NotAcceptable", kinds);
    assert_eq!(b.http.get(&format!("{CMS}/x")).code, 404);
    let a = b.http.send(
        "GET",
        &format!("{CMS}?includeObject=Some"),
        &[("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")],
        b"",
    );
    b.check("includeObject", &a, 400, "BadRequest", "Unable to convert to Table as requested: includeObject: Invalid value: \"Some\": must be 'Metadata', 'Object', 'None', or empty");
    let a = b.http.send("GET", &format!("{CMS}?watch=1"), &[("accept", "application/yaml")], b"");
    assert!(a.code == 406 && a.text().contains("only the following media types are accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"), "{}", a.text());
    let a = b.http.send("GET", &format!("{CMS}/none"), &[("accept", "application/yaml")], b"");
    assert_eq!((a.code, a.header("content-type")), (404, "application/yaml"), "{}", a.text());
    let a =
        b.http.send("GET", &format!("{CMS}/none"), &[("accept", "application/vnd.kubernetes.protobuf")], b"");
    assert_eq!(
        (a.code, a.header("content-type"), &a.body[..4]),
        (404, "application/vnd.kubernetes.protobuf", b"k8s\0".as_slice())
    );
    let a = b.http.get(&format!("{CMS}?timeout=soon"));
    b.check(
        "timeout",
        &a,
        400,
        "BadRequest",
        "invalid timeout specified in the request URL - time: invalid duration \"soon\"",
    );
    b.end();
}
