//! Discovery in one document (test/e2e/apimachinery/aggregated_discovery.go), as raw answers and as kubectl, which asks for it
//! in this form, understands them.

use serde_json::{Value, json};
use testkit::wait_for;

use crate::world::{Tests, World};

pub const TESTS: Tests = &[
    (
        "[sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery endpoint Accept headers [Conformance]",
        raw,
    ),
    (
        "[sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery request for CRDs [Conformance]",
        raw_of_a_definition,
    ),
    (
        "[sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface [Conformance]",
        as_a_client_reads_it,
    ),
    (
        "[sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface for CRDs [Conformance]",
        definition_as_a_client_reads_it,
    ),
];

/// Group, version and resource of what every server has below `/apis`.
const BUILT_IN: &[(&str, &str, &str)] = &[
    ("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "v1", "apiservices"),
    ("apps", "v1", "deployments"),
    ("authentication.k8s.io", "v1", "tokenreviews"),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews"),
    ("autoscaling", "v1", "horizontalpodautoscalers"),
    ("autoscaling", "v2", "horizontalpodautoscalers"),
    ("batch", "v1", "jobs"),
    ("certificates.k8s.io", "v1", "certificatesigningrequests"),
    ("coordination.k8s.io", "v1", "leases"),
    ("discovery.k8s.io", "v1", "endpointslices"),
    ("events.k8s.io", "v1", "events"),
    ("networking.k8s.io", "v1", "ingresses"),
    ("node.k8s.io", "v1", "runtimeclasses"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("scheduling.k8s.io", "v1", "priorityclasses"),
    ("storage.k8s.io", "v1", "csinodes"),
];

/// The document of `/api` or `/apis`.
fn document(w: &World, path: &str) -> Value {
    let form = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let answer = w.http.send("GET", path, &[("accept", form)], b"");
    assert_eq!(answer.code, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), form);
    let list = answer.json();
    assert_eq!(
        (&list["apiVersion"], &list["kind"]),
        (&"apidiscovery.k8s.io/v2".into(), &"APIGroupDiscoveryList".into())
    );
    list
}

fn named<'a>(list: &'a Value, field: &str, name: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|e| e[field] == name)
}

fn has(list: &Value, (group, version, resource): (&str, &str, &str)) -> bool {
    let group = match group {
        // The group of `/api` has no name.
        "" => list["items"].get(0),
        name => list["items"].as_array().and_then(|l| l.iter().find(|g| g["metadata"]["name"] == name)),
    };
    let version = group.and_then(|g| named(&g["versions"], "version", version));
    version.and_then(|v| named(&v["resources"], "resource", resource)).is_some()
}

/// A definition in a group of the test's own; the group.
fn definition(w: &World) -> String {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": schema});
    w.define("Testcrd", &json!({"versions": [version]}));
    format!("{}.example.com", w.namespace)
}

fn raw(w: &World) {
    let list = document(w, "/apis");
    for resource in BUILT_IN {
        assert!(has(&list, *resource), "no {resource:?}");
    }
    assert!(has(&document(w, "/api"), ("", "v1", "namespaces")));
}

fn raw_of_a_definition(w: &World) {
    let group = definition(w);
    wait_for("the definition in discovery", || has(&document(w, "/apis"), (&group, "v1", "testcrds")));
}

/// What kubectl knows of a group and version: the names of its resources.
fn resources(w: &World, group: &str) -> Vec<String> {
    let out = w.kubectl(&[
        "api-resources",
        "--cached=false",
        &format!("--api-group={group}"),
        "-o",
        "wide",
        "--no-headers",
    ]);
    out.lines().filter_map(|l| Some(l.split_whitespace().next()?.to_owned())).collect()
}

fn as_a_client_reads_it(w: &World) {
    let versions = w.kubectl(&["api-versions"]);
    let known = |version: &str| versions.lines().any(|l| l == version);
    assert!(known("v1"));
    for (group, version, resource) in BUILT_IN {
        assert!(known(&format!("{group}/{version}")), "{versions}");
        assert!(resources(w, group).iter().any(|r| r == resource), "no {resource} in {group}");
    }
    assert!(resources(w, "").iter().any(|r| r == "namespaces"));
}

fn definition_as_a_client_reads_it(w: &World) {
    let group = definition(w);
    wait_for("the definition as kubectl knows it", || resources(w, &group).iter().any(|r| r == "testcrds"));
}
