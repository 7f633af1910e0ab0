//! Lists in pages and as tables (test/e2e/apimachinery/chunking.go, table_conversion.go).

use serde_json::{Value, json};
use testkit::kelson;

use crate::world::{Tests, World, version};

pub const TESTS: Tests = &[
    (
        "[sig-api-machinery] Servers with support for API chunking should return chunks of results for list calls [Conformance]",
        chunks,
    ),
    (
        "[sig-api-machinery] Servers with support for API chunking should support continue listing from the last key if the original version has been compacted away, though the list is inconsistent [Slow] [Conformance]",
        past_a_compaction,
    ),
    (
        "[sig-api-machinery] Servers with support for Table transformation should return a 406 for a backend which does not implement metadata [Conformance]",
        no_table,
    ),
];

const ALL: usize = 400;

fn template(name: &str) -> Value {
    let spec = json!({"containers": [{"name": "test", "image": "test2"}]});
    json!({"metadata": {"name": name}, "template": {"spec": spec}})
}

/// `template-0000` and so on; the path of all.
fn templates(w: &World) -> String {
    let path = w.path("api/v1", "podtemplates");
    std::thread::scope(|scope| {
        for part in 0..4 {
            let path = &path;
            scope.spawn(move || {
                for i in (part..ALL).step_by(4) {
                    w.create(path, &template(&format!("template-{i:04}")));
                }
            });
        }
    });
    path
}

/// Takes a page after `found` items; the token of the next, if there is one.
fn take(list: &Value, found: &mut usize) -> Option<String> {
    for item in list["items"].as_array().expect("items") {
        assert_eq!(item["metadata"]["name"], format!("template-{found:04}"));
        *found += 1;
    }
    let remaining = &list["metadata"]["remainingItemCount"];
    let token = list["metadata"]["continue"].as_str().filter(|t| !t.is_empty());
    match token {
        Some(_) => assert_eq!(remaining, ALL - *found),
        None => assert_eq!(remaining, &Value::Null),
    }
    token.map(str::to_owned)
}

fn length(list: &Value) -> usize {
    list["items"].as_array().map_or(0, Vec::len)
}

fn chunks(w: &World) {
    const LIMIT: usize = 17;
    let path = templates(w);
    for _ in 0..3 {
        let first = w.get(&format!("{path}?limit={LIMIT}"));
        let mut found = 0;
        let mut next = take(&first, &mut found);
        assert_eq!(found, LIMIT);
        while let Some(token) = next {
            let list = w.get(&format!("{path}?limit={LIMIT}&continue={token}"));
            assert!(length(&list) <= LIMIT);
            assert_eq!(version(&list), version(&first));
            next = take(&list, &mut found);
        }
        assert_eq!(found, ALL);
    }
    assert_eq!(length(&w.get(&format!("{path}?limit={}", ALL + 1))), ALL);
    assert_eq!(length(&w.get(&path)), ALL);
}

/// Lets the server forget what it knew of old states of these templates: memory has room for a few mebibytes of a kind's
/// history, and etcd is told. What others watch is still known.
fn forget(w: &World, path: &str) {
    let large = "x".repeat(200 << 10);
    for i in 0..32 {
        let annotations = json!({"metadata": {"annotations": {"large": format!("{i}{large}")}}});
        w.patch(&format!("{path}/template-0000"), "merge-patch+json", &annotations);
    }
    if let Some(etcd) = w.etcd {
        let out = kelson(&["store", "compact", "--etcd-servers", &etcd.url()]);
        assert!(out.ok, "{out:?}");
    }
}

fn past_a_compaction(w: &World) {
    const LIMIT: usize = ALL / 10;
    let path = templates(w);
    let first = w.get(&format!("{path}?limit={LIMIT}"));
    let mut found = 0;
    let token = take(&first, &mut found).expect("a next page");
    let page = |token: &str| format!("{path}?limit={LIMIT}&continue={token}");
    let mut same = found;
    take(&w.get(&page(&token)), &mut same);

    forget(w, &path);
    let expired = w.ask("GET", &page(&token), &Value::Null, 410);
    assert_eq!(expired["reason"], "Expired", "{expired}");
    let inconsistent = expired["metadata"]["continue"].as_str().expect("a token to go on with");

    let second = w.get(&page(inconsistent));
    assert_eq!(length(&second), LIMIT);
    assert_ne!(version(&second), version(&first));
    let mut next = take(&second, &mut found);
    while let Some(token) = next {
        let list = w.get(&page(&token));
        assert!(length(&list) <= LIMIT);
        assert_eq!(version(&list), version(&second));
        next = take(&list, &mut found);
    }
    assert_eq!(found, ALL);
}

fn no_table(w: &World) {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}},
    });
    let headers =
        [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io"), ("content-type", "application/json")];
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let answer = w.http.send("POST", path, &headers, review.to_string().as_bytes());
    assert_eq!(answer.code, 406, "{}", answer.text());
    assert_eq!(answer.json()["code"], 406);
}
