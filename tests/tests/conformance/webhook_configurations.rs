//! Webhook configurations as objects (test/e2e/apimachinery/webhook.go): listed, changed, with match conditions.

use serde_json::{Value, json};
use testkit::wait_for;

use crate::hooks::{Hooks, Kind};
use crate::world::{Tests, World, newer};

pub const TESTS: Tests = &[
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing mutating webhooks should work [Conformance]",
        |w| listed(w, Kind::Mutating),
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing validating webhooks should work [Conformance]",
        |w| listed(w, Kind::Validating),
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a mutating webhook should work [Conformance]",
        |w| changed(w, Kind::Mutating),
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a validating webhook should work [Conformance]",
        |w| changed(w, Kind::Validating),
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to create and update mutating webhook configurations with match conditions [Conformance]",
        |w| conditions_kept(w, Kind::Mutating),
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to create and update validating webhook configurations with match conditions [Conformance]",
        |w| conditions_kept(w, Kind::Validating),
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should reject mutating webhook configurations with invalid match conditions [Conformance]",
        |w| conditions_refused(w, Kind::Mutating),
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should reject validating webhook configurations with invalid match conditions [Conformance]",
        |w| conditions_refused(w, Kind::Validating),
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate everything except 'skip-me' configmaps [Conformance]",
        all_but_one,
    ),
];

/// A webhook that either denies or changes what `works` creates.
fn hook(h: &Hooks, kind: Kind) -> Value {
    h.hook(if kind == Kind::Mutating { "stage" } else { "judge" }, &["CREATE"], "configmaps")
}

/// Whether the webhook of `hook` was called for a new config map.
fn works(w: &World, kind: Kind) -> bool {
    let body = json!({"metadata": {"generateName": "a-"}, "data": {"start": "yes", "verdict": "bad"}});
    let answer = w.http.json("POST", &w.path("api/v1", "configmaps"), &body);
    if kind == Kind::Validating && answer.code != 201 {
        assert!(answer.message().contains("denied the request: configmaps with bad are unwanted"));
        return true;
    }
    assert_eq!(answer.code, 201, "{}", answer.text());
    answer.json()["data"]["first"] == "yes"
}

fn listed(w: &World, kind: Kind) {
    let h = Hooks::start(w);
    for i in 0..10 {
        h.configure(kind, &i.to_string(), &[hook(&h, kind)]);
    }
    let selected = format!("{}?labelSelector=test%3D{}", kind.collection(), w.namespace);
    let count = || w.get(&selected)["items"].as_array().map(Vec::len);
    assert_eq!(count(), Some(10));
    assert!(works(w, kind));
    w.delete(&selected);
    assert_eq!(count(), Some(0));
    wait_for("webhooks not to be called any more", || !works(w, kind));
}

fn changed(w: &World, kind: Kind) {
    let h = Hooks::start(w);
    let (path, _) = h.configure(kind, "changed", &[hook(&h, kind)]);
    assert!(works(w, kind));
    let mut configuration = w.get(&path);
    configuration["webhooks"][0]["rules"][0]["operations"] = json!(["UPDATE"]);
    let updated = w.ask("PUT", &path, &configuration, 200);
    wait_for("the webhook to be left out", || !works(w, kind));
    let creations = json!([{"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["CREATE"]}]);
    let patched = w.patch(&path, "json-patch+json", &creations);
    assert!(newer(&updated, &configuration) && newer(&patched, &updated));
    wait_for("the webhook to be called again", || works(w, kind));
}

fn conditions_kept(w: &World, kind: Kind) {
    let h = Hooks::start(w);
    let condition =
        |name: &str| json!({"name": name, "expression": format!("object.metadata.namespace == '{name}'")});
    let mut hook = hook(&h, kind);
    hook["matchConditions"] = json!([condition("production")]);
    let (path, _) = h.configure(kind, "conditions", &[hook]);
    let mut configuration = w.get(&path);
    assert_eq!(configuration["webhooks"][0]["matchConditions"], json!([condition("production")]));
    let both = json!([condition("production"), condition("staging")]);
    configuration["webhooks"][0]["matchConditions"] = both.clone();
    w.ask("PUT", &path, &configuration, 200);
    assert_eq!(w.get(&path)["webhooks"][0]["matchConditions"], both);
}

fn conditions_refused(w: &World, kind: Kind) {
    let name = format!("{}-refused", w.namespace);
    let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": w.namespace}});
    let rules = json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]);
    let hook = json!({
        "name": "never.example.com", "clientConfig": {"url": "https://127.0.0.1:1/"}, "rules": rules,
        "namespaceSelector": selector, "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "matchConditions": [{"name": "invalid", "expression": "... [] bad expression"}],
    });
    w.remove_at_end(&format!("{}/{name}", kind.collection()));
    let body = json!({"metadata": {"name": name}, "webhooks": [hook]});
    let said = w.refused("POST", &kind.collection(), &body, "compilation failed");
    assert_eq!(said["code"], 422);
}

fn all_but_one(w: &World) {
    let h = Hooks::start(w);
    let mut hook = hook(&h, Kind::Mutating);
    hook["matchConditions"] = json!([{"name": "skip-me", "expression": "object.metadata.name != 'skip-me'"}]);
    h.configure(Kind::Mutating, "skip", &[hook]);
    let create = |name: &str| {
        let body = json!({"metadata": {"name": name}, "data": {"start": "yes"}});
        w.create(&w.path("api/v1", "configmaps"), &body)["data"].take()
    };
    assert_eq!(create("changed"), json!({"start": "yes", "first": "yes"}));
    assert_eq!(create("skip-me"), json!({"start": "yes"}));
}
