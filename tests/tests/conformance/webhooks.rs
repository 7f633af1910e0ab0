//! Admission webhooks at work (test/e2e/apimachinery/webhook.go): what they deny, change and hold up.

use serde_json::{Value, json};
use testkit::{node_possible, wait_for};

use crate::hooks::{Hooks, Kind};
use crate::operations::is_discovered;
use crate::world::{Tests, World};

pub const TESTS: Tests = &[
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should include webhook resources in discovery documents [Conformance]",
        discovered,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny pod and configmap creation [Conformance]",
        denied,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny attaching pod [Conformance]",
        attach_denied,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny custom resource creation, update and deletion [Conformance]",
        custom_denied,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should unconditionally reject operations on fail closed webhook [Conformance]",
        fails_closed,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate configmap [Conformance]",
        in_order,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate pod and apply defaults after mutation [Conformance]",
        defaulted_after,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should not be able to mutate or prevent deletion of webhook configuration objects [Conformance]",
        not_for_configurations,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource [Conformance]",
        custom_mutated,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should deny crd creation [Conformance]",
        definition_denied,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with different stored version [Conformance]",
        stored_in_another_version,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with pruning [Conformance]",
        pruned_after,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should honor timeout [Conformance]",
        timeouts,
    ),
];

fn discovered(w: &World) {
    for kind in ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"] {
        is_discovered(w, "admissionregistration.k8s.io/v1", kind, &[]);
    }
}

fn map(name: &str, data: Value) -> Value {
    json!({"metadata": {"name": name}, "data": data})
}

fn pod(name: &str, verdict: &str, container: &str) -> Value {
    let containers =
        json!([{"name": container, "image": "docker.io/library/busybox:1.36", "command": ["sleep", "600"]}]);
    let spec = json!({"containers": containers, "terminationGracePeriodSeconds": 0});
    json!({"metadata": {"name": name, "labels": {"verdict": verdict}}, "spec": spec})
}

fn denied(w: &World) {
    let h = Hooks::start(w);
    let skipped = format!("{}-skipped", w.namespace);
    let mut of_maps = h.hook("judge", &["CREATE", "UPDATE", "DELETE"], "configmaps");
    of_maps["namespaceSelector"] = json!({"matchExpressions": [
        {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [w.namespace, skipped]},
        {"key": "skip", "operator": "NotIn", "values": ["yes"]},
    ]});
    let mut of_pods = h.hook("judge", &["CREATE"], "pods");
    of_pods["timeoutSeconds"] = 1.into();
    // It can't be called, and that does not matter.
    let mut open = h.hook("open", &["CREATE"], "configmaps");
    open["clientConfig"]["caBundle"] = Value::Null;
    open["failurePolicy"] = "Ignore".into();
    h.configure(Kind::Validating, "deny", &[of_pods, of_maps, open]);

    let pods = w.path("api/v1", "pods");
    let said =
        w.refused("POST", &pods, &pod("a", "bad-label", "bad-name"), "pods with bad-label are unwanted");
    assert!(
        said["message"].as_str().is_some_and(|m| m.contains("pods with bad-name are unwanted")),
        "{said}"
    );
    let said = w.refused("POST", &pods, &pod("held", "hang", "main"), "webhook");
    assert!(said["message"].as_str().is_some_and(|m| m.contains("deadline")), "{said}");
    w.ask("GET", &format!("{pods}/held"), &Value::Null, 404);

    let (maps, unwanted) = (w.path("api/v1", "configmaps"), "configmaps with bad are unwanted");
    let bad = |name| map(name, json!({"verdict": "bad"}));
    w.refused("POST", &maps, &bad("a"), unwanted);
    w.create(&maps, &map("a", json!({"verdict": "good"})));
    let a = format!("{maps}/a");
    w.refused("PUT", &a, &bad("a"), unwanted);
    let patch = bad("a").to_string();
    let kind = [("content-type", "application/strategic-merge-patch+json")];
    let answer = w.http.send("PATCH", &a, &kind, patch.as_bytes());
    assert!(answer.code >= 400 && answer.message().contains(unwanted), "{}", answer.text());
    assert_eq!(w.get(&a)["data"], json!({"verdict": "good"}));
    w.create_namespace(&skipped, json!({"skip": "yes"}));
    w.create(&format!("/api/v1/namespaces/{skipped}/configmaps"), &bad("a"));
}

fn attach_denied(w: &World) {
    let h = Hooks::start(w);
    h.configure(Kind::Validating, "attach", &[h.hook("attach", &["CONNECT"], "pods/attach")]);
    let pods = w.path("api/v1", "pods");
    w.create(&pods, &pod("a", "good", "main"));
    let why = "attaching to a is not allowed";
    w.refused("POST", &format!("{pods}/a/attach?stdin=true&stdout=true&container=main"), &Value::Null, why);
    if node_possible() {
        w.kubectl(&["wait", "pod/a", "--for=condition=Ready", "--timeout=90s"]);
        let out = w.try_kubectl(&["attach", "a", "-i", "-c=main"], None);
        assert!(!out.ok && out.stderr.contains(why), "{out:?}");
    }
}

fn versions(schema: &Value) -> Value {
    let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema}});
    json!([version("v1", true), version("v2", false)])
}

/// A kind that keeps whatever it is given, in two versions.
fn define_open(w: &World) -> String {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    w.define("Widget", &json!({"versions": versions(&schema)}))
}

fn custom(w: &World, name: &str, data: Value) -> Value {
    let mut o = map(name, data);
    o["apiVersion"] = format!("{}.example.com/v1", w.namespace).into();
    o["kind"] = "Widget".into();
    o
}

fn custom_denied(w: &World) {
    define_open(w);
    let h = Hooks::start(w);
    let resource = format!("{}.example.com/widgets", w.namespace);
    h.configure(Kind::Validating, "custom", &[h.hook("judge", &["CREATE", "UPDATE", "DELETE"], &resource)]);
    let list = w.custom("v1", "widgets");
    let one = format!("{list}/a");
    let verdict = |v: &str| custom(w, "a", json!({"verdict": v}));
    w.refused("POST", &list, &verdict("bad"), "widgets with bad are unwanted");
    let mut made = w.create(&list, &verdict("keep"));
    made["data"]["verdict"] = "bad".into();
    w.refused("PUT", &one, &made, "widgets with bad are unwanted");
    w.refused("DELETE", &one, &Value::Null, "this one is to be kept");
    made["data"]["verdict"] = "good".into();
    w.ask("PUT", &one, &made, 200);
    w.delete(&one);
}

fn fails_closed(w: &World) {
    let h = Hooks::start(w);
    let closed = format!("{}-closed", w.namespace);
    let mut hook = h.hook("judge", &["CREATE"], "configmaps");
    hook["clientConfig"]["caBundle"] = Value::Null;
    hook["failurePolicy"] = "Fail".into();
    hook["namespaceSelector"] = json!({"matchLabels": {"closed": w.namespace}});
    h.configure(Kind::Validating, "closed", &[hook]);
    w.create(&w.path("api/v1", "configmaps"), &map("elsewhere", json!({})));
    w.create_namespace(&closed, json!({"closed": w.namespace}));
    let maps = format!("/api/v1/namespaces/{closed}/configmaps");
    let said = w.refused("POST", &maps, &map("a", json!({})), "failed calling webhook");
    assert_eq!((&said["reason"], &said["code"]), (&"InternalError".into(), &500.into()), "{said}");
}

fn in_order(w: &World) {
    let h = Hooks::start(w);
    let hook = |name: &str| {
        let mut hook = h.hook("stage", &["CREATE"], "configmaps");
        hook["name"] = name.into();
        hook
    };
    h.configure(Kind::Mutating, "stages", &[hook("one.example.com"), hook("two.example.com")]);
    let made = w.create(&w.path("api/v1", "configmaps"), &map("a", json!({"start": "yes"})));
    assert_eq!(made["data"], json!({"start": "yes", "first": "yes", "second": "yes"}));
}

fn defaulted_after(w: &World) {
    let h = Hooks::start(w);
    h.configure(Kind::Mutating, "init", &[h.hook("init", &["CREATE"], "pods")]);
    let made = w.create(&w.path("api/v1", "pods"), &pod("a", "good", "main"));
    let init = made["spec"]["initContainers"].as_array().expect("init containers");
    assert_eq!(init.len(), 1, "{made}");
    assert_eq!((&init[0]["name"], &init[0]["terminationMessagePolicy"]), (&"added".into(), &"File".into()));
}

fn not_for_configurations(w: &World) {
    let h = Hooks::start(w);
    let all = |how: &str, operation: &str| {
        let mut hook = h.hook(how, &[operation], "admissionregistration.k8s.io/*webhookconfigurations");
        let kinds = json!(["mutatingwebhookconfigurations", "validatingwebhookconfigurations"]);
        hook["rules"][0]["resources"] = kinds;
        hook["name"] = format!("{how}.example.com").into();
        // Were it called, then for no other test's.
        hook["objectSelector"] = json!({"matchLabels": {"test": w.namespace}});
        hook["failurePolicy"] = "Fail".into();
        hook
    };
    h.configure(Kind::Validating, "blocking", &[all("never", "DELETE")]);
    h.configure(Kind::Mutating, "blocking", &[all("label", "CREATE")]);
    for kind in [Kind::Validating, Kind::Mutating] {
        let mut idle = h.hook("judge", &["CREATE"], "nothings");
        idle["failurePolicy"] = "Ignore".into();
        let (path, made) = h.configure(kind, "idle", &[idle]);
        assert_eq!(made["metadata"]["labels"], json!({"test": w.namespace}));
        w.delete(&path);
        w.ask("GET", &path, &Value::Null, 404);
    }
}

/// Two webhooks for widgets: one that is asked at updates too, one at creation alone.
fn mutate_widgets(w: &World, h: &Hooks) {
    let resource = format!("{}.example.com/widgets", w.namespace);
    let hook = |name: &str, operations: &[&str]| {
        let mut hook = h.hook("stage", operations, &resource);
        hook["name"] = name.into();
        hook
    };
    let hooks = [hook("one.example.com", &["CREATE", "UPDATE"]), hook("two.example.com", &["CREATE"])];
    h.configure(Kind::Mutating, "widgets", &hooks);
}

fn create_started(w: &World) -> Value {
    w.create(&w.custom("v1", "widgets"), &custom(w, "a", json!({"start": "yes"})))["data"].take()
}

fn custom_mutated(w: &World) {
    define_open(w);
    let h = Hooks::start(w);
    mutate_widgets(w, &h);
    assert_eq!(create_started(w), json!({"start": "yes", "first": "yes", "second": "yes"}));
}

fn definition_denied(w: &World) {
    let h = Hooks::start(w);
    let mut hook = h.hook("judge", &["CREATE"], "apiextensions.k8s.io/customresourcedefinitions");
    hook["objectSelector"] = json!({"matchLabels": {"test": w.namespace}});
    h.configure(Kind::Validating, "definitions", &[hook]);
    let group = format!("{}.example.com", w.namespace);
    let labels = json!({"test": w.namespace, "verdict": "bad"});
    let names = json!({"plural": "widgets", "singular": "widget", "kind": "Widget"});
    let versions = versions(&json!({"type": "object"}));
    let body = json!({
        "metadata": {"name": format!("widgets.{group}"), "labels": labels},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": versions},
    });
    let all = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    w.remove_at_end(&format!("{all}/widgets.{group}"));
    w.refused("POST", all, &body, "customresourcedefinitions with bad are unwanted");
}

fn stored_in_another_version(w: &World) {
    let definition = define_open(w);
    let h = Hooks::start(w);
    mutate_widgets(w, &h);
    create_started(w);
    let mut patched = w.get(&definition)["spec"]["versions"].take();
    patched[0]["storage"] = false.into();
    patched[1]["storage"] = true.into();
    w.patch(&definition, "merge-patch+json", &json!({"spec": {"versions": patched}}));
    let one = format!("{}/a", w.custom("v2", "widgets"));
    let dummy = json!([{"op": "add", "path": "/dummy", "value": "test"}]);
    let made = w.patch(&one, "json-patch+json", &dummy);
    assert_eq!(made["data"], json!({"start": "yes", "first": "yes", "second": "yes"}));
    assert_eq!(made["dummy"], "test");
    let stored = || w.get(&definition)["status"]["storedVersions"] == json!(["v1", "v2"]);
    wait_for("both stored versions to be noted", stored);
}

fn pruned_after(w: &World) {
    let known = json!({"start": {"type": "string"}, "first": {"type": "string"}});
    let data = json!({"type": "object", "properties": known});
    let schema = json!({"type": "object", "properties": {"data": data}});
    w.define("Widget", &json!({"versions": versions(&schema)}));
    let h = Hooks::start(w);
    mutate_widgets(w, &h);
    assert_eq!(create_started(w), json!({"start": "yes", "first": "yes"}));
}

fn timeouts(w: &World) {
    let h = Hooks::start(w);
    let maps = w.path("api/v1", "configmaps");
    // The webhook takes two seconds.
    for (policy, timeout) in
        [("Fail", json!(1)), ("Ignore", json!(1)), ("Fail", json!(10)), ("Fail", Value::Null)]
    {
        let mut hook = h.hook("slow", &["CREATE"], "configmaps");
        hook["failurePolicy"] = policy.into();
        hook["timeoutSeconds"] = timeout.clone();
        let (path, made) = h.configure(Kind::Validating, "slow", &[hook]);
        if (policy, &timeout) == ("Fail", &json!(1)) {
            let said = w.refused("POST", &maps, &map("a", json!({})), "/admit/slow?timeout=1s");
            let message = said["message"].as_str().unwrap_or_default();
            assert!(message.contains("context deadline exceeded") || message.contains("timeout"), "{said}");
        } else {
            w.create(&maps, &map("a", json!({})));
            w.delete(&format!("{maps}/a"));
        }
        if timeout.is_null() {
            assert_eq!(made["webhooks"][0]["timeoutSeconds"], 10);
        }
        w.delete(&path);
    }
}
