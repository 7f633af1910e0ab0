//! Discovery and the server's version (test/e2e/apimachinery/discovery.go, server_version.go).

use serde_json::Value;

use crate::world::{Tests, World};

pub const TESTS: Tests = &[
    (
        "[sig-api-machinery] Discovery should validate PreferredVersion for each APIGroup [Conformance]",
        preferred_versions,
    ),
    (
        "[sig-api-machinery] Discovery should locate the groupVersion and a resource within each APIGroup [Conformance]",
        group_versions,
    ),
    ("[sig-api-machinery] server version should find the server version [Conformance]", server_version),
];

fn list<'a>(v: &'a Value, field: &str) -> &'a [Value] {
    v[field].as_array().map_or_else(|| panic!("no list {field} in {v}"), Vec::as_slice)
}

fn text(v: &Value) -> &str {
    v.as_str().unwrap_or_else(|| panic!("no text: {v}"))
}

fn preferred_versions(w: &World) {
    let groups = w.get("/apis");
    assert_eq!(groups["kind"], "APIGroupList");
    assert!(list(&groups, "groups").len() > 10);
    for group in list(&groups, "groups") {
        let name = text(&group["name"]);
        let answer = w.http.get(&format!("/apis/{name}"));
        // Another test may have taken its own group away meanwhile.
        if answer.code == 404 && !list(&w.get("/apis"), "groups").iter().any(|g| g["name"] == name) {
            continue;
        }
        assert_eq!(answer.code, 200, "{name}: {}", answer.text());
        let one = answer.json();
        assert_eq!((&one["kind"], &one["name"]), (&"APIGroup".into(), &name.into()));
        let preferred = text(&one["preferredVersion"]["groupVersion"]);
        assert!(list(&one, "versions").iter().any(|v| v["groupVersion"] == preferred), "{one}");
        assert_eq!(one["preferredVersion"], group["preferredVersion"]);
    }
}

fn group_versions(w: &World) {
    let groups = w.get("/apis");
    for (group, resource) in [
        ("apiregistration.k8s.io", "apiservices"),
        ("apps", "deployments"),
        ("authentication.k8s.io", "tokenreviews"),
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("autoscaling", "horizontalpodautoscalers"),
        ("batch", "jobs"),
        ("certificates.k8s.io", "certificatesigningrequests"),
        ("networking.k8s.io", "ingresses"),
        ("policy", "poddisruptionbudgets"),
        ("rbac.authorization.k8s.io", "clusterroles"),
        ("storage.k8s.io", "storageclasses"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("scheduling.k8s.io", "priorityclasses"),
        ("coordination.k8s.io", "leases"),
        ("node.k8s.io", "runtimeclasses"),
        ("discovery.k8s.io", "endpointslices"),
        ("events.k8s.io", "events"),
        ("flowcontrol.apiserver.k8s.io", "flowschemas"),
    ] {
        let one = list(&groups, "groups").iter().find(|g| g["name"] == group);
        let one = one.unwrap_or_else(|| panic!("no group {group}"));
        let version = text(&one["preferredVersion"]["groupVersion"]);
        let resources = w.get(&format!("/apis/{version}"));
        assert_eq!(resources["groupVersion"], version);
        assert!(list(&resources, "resources").iter().any(|r| r["name"] == resource), "{resources}");
    }
}

fn server_version(w: &World) {
    let version = w.get("/version");
    assert_eq!((&version["major"], &version["minor"]), (&"1".into(), &"37".into()));
    assert!(text(&version["gitVersion"]).starts_with("v1.37."), "{version}");
    assert!(w.kubectl(&["version"]).contains(&format!("Server Version: {}", text(&version["gitVersion"]))));
}
