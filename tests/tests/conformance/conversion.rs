//! Custom resources in two versions with a webhook between them (test/e2e/apimachinery/crd_conversion_webhook.go,
//! crd_selectable_fields.go).

use serde_json::{Value, json};
use testkit::http::Lines;
use testkit::wait_for;

use crate::hooks::Hooks;
use crate::world::{Tests, World, version};

pub const TESTS: Tests = &[
    (
        "[sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert from CR v1 to CR v2 [Conformance]",
        one,
    ),
    (
        "[sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert a non homogeneous list of CRs [Conformance]",
        mixed_list,
    ),
    (
        "[sig-api-machinery] CustomResourceFieldSelectors [Privileged:ClusterAdmin] CustomResourceFieldSelectors MUST list and watch custom resources matching the field selector [Conformance]",
        selected,
    ),
];

/// v1 with `hostPort`, which is stored, and v2 with `host` and `port`; both may select by these.
fn define<'w>(w: &'w World<'w>) -> (Hooks<'w>, String) {
    let h = Hooks::start(w);
    let version = |name: &str, storage: bool, fields: &[&str]| {
        let properties: serde_json::Map<_, _> =
            fields.iter().map(|f| ((*f).to_owned(), json!({"type": "string"}))).collect();
        let paths: Vec<Value> = fields.iter().map(|f| json!({"jsonPath": format!(".{f}")})).collect();
        let schema = json!({"openAPIV3Schema": {"type": "object", "properties": properties}});
        json!({"name": name, "served": true, "storage": storage, "schema": schema, "selectableFields": paths})
    };
    let webhook = json!({"conversionReviewVersions": ["v1", "v1beta1"], "clientConfig": h.at("/convert")});
    let definition = w.define(
        "Point",
        &json!({
            "versions": [version("v1", true, &["hostPort"]), version("v2", false, &["host", "port"])],
            "conversion": {"strategy": "Webhook", "webhook": webhook},
        }),
    );
    let probes = w.custom("v2", "points?dryRun=All");
    wait_for("conversions to succeed", || {
        w.http.json("POST", &probes, &point(w, "v2", "probe", json!({}))).code == 201
    });
    (h, definition)
}

fn point(w: &World, version: &str, name: &str, mut fields: Value) -> Value {
    fields["apiVersion"] = format!("{}.example.com/{version}", w.namespace).into();
    fields["kind"] = "Point".into();
    fields["metadata"] = json!({"name": name});
    fields
}

/// That a point is localhost:8080 in the form of this version, and of no other.
fn assert_form(w: &World, o: &Value, version: &str) {
    assert_eq!(o["apiVersion"], format!("{}.example.com/{version}", w.namespace));
    let fields = (o["hostPort"].as_str(), o["host"].as_str(), o["port"].as_str());
    let v1 = (Some("localhost:8080"), None, None);
    assert_eq!(fields, if version == "v1" { v1 } else { (None, Some("localhost"), Some("8080")) });
}

fn one(w: &World) {
    let _define = define(w);
    w.create(&w.custom("v1", "points"), &point(w, "v1", "a", json!({"hostPort": "localhost:8080"})));
    assert_form(w, &w.get(&format!("{}/a", w.custom("v2", "points"))), "v2");
}

fn mixed_list(w: &World) {
    let (_hooks, definition) = define(w);
    let (v1, v2) = (w.custom("v1", "points"), w.custom("v2", "points"));
    w.create(&v1, &point(w, "v1", "a", json!({"hostPort": "localhost:8080"})));
    let turn = json!([
        {"op": "replace", "path": "/spec/versions/0/storage", "value": false},
        {"op": "replace", "path": "/spec/versions/1/storage", "value": true},
    ]);
    w.patch(&definition, "json-patch+json", &turn);
    let stored = || w.get(&definition)["status"]["storedVersions"] == json!(["v1", "v2"]);
    wait_for("the second version to be stored", stored);
    w.create(&v1, &point(w, "v1", "b", json!({"hostPort": "localhost:8080"})));
    w.create(&v2, &point(w, "v2", "c", json!({"host": "localhost", "port": "8080"})));
    for (list, version) in [(v1, "v1"), (v2, "v2")] {
        let items = w.items(&list);
        let names: Vec<_> = items.iter().map(|o| &o["metadata"]["name"]).collect();
        assert_eq!(names, ["a", "b", "c"]);
        items.iter().for_each(|o| assert_form(w, o, version));
    }
}

/// As an informer begins: the state in the form of events up to a bookmark, of which there is none yet.
fn inform(w: &World, points: &str, selector: &str) -> Lines {
    let how = "watch=1&timeoutSeconds=60&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let mut lines = w.http.lines(&format!("{points}?{how}&fieldSelector={selector}"), &[]);
    assert_eq!(lines.code, 200);
    let event = lines.event().expect("a bookmark");
    assert_eq!(event["type"], "BOOKMARK", "{event}");
    assert_eq!(event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true", "{event}");
    lines
}

fn selected(w: &World) {
    let _define = define(w);
    let (v1, v2) = (w.custom("v1", "points"), w.custom("v2", "points"));
    let (host, host_port, joined) = ("host%3Dhost1", "host%3Dhost1,port%3D80", "hostPort%3Dhost1:80");
    let from = version(&w.get(&v2)).to_owned();
    let watch = |list: &str, selector: &str| w.watch(list, &from, &format!("fieldSelector={selector}"));
    let of_host = [watch(&v2, host), inform(w, &v2, host)];
    let of_both = [watch(&v2, host_port), inform(w, &v2, host_port), watch(&v1, joined)];
    for (name, fields) in [
        ("a", json!({"host": "host1", "port": "80"})),
        ("b", json!({"host": "host1", "port": "8080"})),
        ("c", json!({"host": "host2"})),
    ] {
        w.create(&v2, &point(w, "v2", name, fields));
    }
    let names = |list: &str, selector: &str| -> Vec<String> {
        let items = w.items(&format!("{list}?fieldSelector={selector}"));
        items.iter().map(|o| o["metadata"]["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&v2, host), ["a", "b"]);
    assert_eq!(names(&v2, host_port), ["a"]);
    assert_eq!(names(&v1, joined), ["a"]);
    assert_eq!(names(&v1, "hostPort%3Dhost1:8080"), ["b"]);

    w.delete(&format!("{v2}?fieldSelector={host_port}"));
    w.update(&format!("{v2}/b"), "", |o| o["host"] = "host2".into());
    assert!(names(&v2, host).is_empty() && names(&v2, host_port).is_empty());
    // All of them see this one; what they saw before is all there was.
    w.create(&v2, &point(w, "v2", "end", json!({"host": "host1", "port": "80"})));
    let seen = |mut lines: Lines| -> Vec<String> {
        let mut seen = Vec::new();
        while seen.last().is_none_or(|last| last != "ADDED end") {
            let event = lines.event().expect("an event");
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            if event["type"] != "BOOKMARK" {
                seen.push(format!("{} {}", text(&event["type"]), text(&event["object"]["metadata"]["name"])));
            }
        }
        seen
    };
    for lines in of_host {
        assert_eq!(seen(lines), ["ADDED a", "ADDED b", "DELETED a", "DELETED b", "ADDED end"]);
    }
    for lines in of_both {
        assert_eq!(seen(lines), ["ADDED a", "DELETED a", "ADDED end"]);
    }
}
