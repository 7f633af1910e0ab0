//! An extension API server behind an APIService (test/e2e/apimachinery/aggregator.go): its objects, and the APIService as an
//! object.

use e2e::extension::Extension;
use serde_json::{Value, json};
use testkit::wait_for;

use crate::operations::{add_condition, has_condition};
use crate::world::{Tests, World, newer};

pub const TESTS: Tests = &[(
    "[sig-api-machinery] Aggregator Should be able to support the 1.17 Sample API Server using the current Aggregator [LinuxOnly] [Conformance]",
    extended,
)];

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const SERVICE: &str = "/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.wardle.example.com";
const GROUP: &str = "wardle.example.com/v1alpha1";

fn flunder(name: &str) -> Value {
    json!({"apiVersion": GROUP, "kind": "Flunder", "metadata": {"name": name, "labels": {"sample-label": "true"}}})
}

/// Created, listed, deleted.
fn lives(w: &World, flunders: &str) {
    let made = w.create(flunders, &flunder("one"));
    assert_eq!((&made["apiVersion"], &made["kind"]), (&GROUP.into(), &"Flunder".into()));
    assert_eq!(made["metadata"]["name"], "one");
    assert_eq!(w.items(flunders).len(), 1);
    w.delete(&format!("{flunders}/one"));
    assert!(w.items(flunders).is_empty());
}

fn extended(w: &World) {
    let extension = Extension::start(w.cluster, &[&format!("sample-api.{}.svc", w.namespace)]);
    for o in extension.service("sample-api", 7443) {
        w.apply(&o.to_string());
    }
    w.create_for_test(SERVICES, &json!({
        "metadata": {"name": "v1alpha1.wardle.example.com"},
        "spec": {
            "group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 2000, "versionPriority": 200,
            "service": {"namespace": w.namespace, "name": "sample-api", "port": 7443}, "caBundle": extension.ca,
        },
    }));
    let default = format!("/apis/{GROUP}/namespaces/default/flunders");
    wait_for("the extension server", || match w.http.get(&default).code {
        200 => true,
        code => {
            assert!(matches!(code, 403 | 404 | 503), "{code}");
            false
        }
    });
    lives(w, &default);
    wait_for("discovery to name flunders", || {
        let out = w.try_kubectl(&["api-resources", "--cached=false", "--api-group=wardle.example.com"], None);
        out.stdout.contains("flunders")
    });
    let own = w.path(&format!("apis/{GROUP}"), "flunders");
    lives(w, &own);
    w.create(&own, &flunder("other"));
    assert!(w.items(&default).is_empty());

    let status = format!("{SERVICE}/status");
    let before = w.get(&status);
    assert_eq!(before["status"]["conditions"][0]["message"], "all checks passed");
    let patched = w.patch(SERVICE, "merge-patch+json", &json!({"spec": {"versionPriority": 400}}));
    assert_eq!(patched["spec"]["versionPriority"], 400);
    assert!(newer(&patched, &before));
    assert!(w.items(SERVICES).iter().any(|s| s["metadata"]["name"] == "v1alpha1.wardle.example.com"));
    let label = json!({"metadata": {"labels": {"test": "patched"}}});
    w.patch(SERVICE, "strategic-merge-patch+json", &label);
    assert_eq!(w.get(SERVICE)["metadata"]["labels"]["test"], "patched");

    let updated = w.update(SERVICE, "/status", |o| add_condition(o, "StatusUpdated", "True"));
    assert!(has_condition(&updated, "StatusUpdated") && has_condition(&w.get(&status), "StatusUpdated"));
    let labelled = w.update(SERVICE, "", |o| o["metadata"]["labels"] = json!({"test": w.namespace}));
    assert_eq!(labelled["metadata"]["labels"], json!({"test": w.namespace}));
    let mut whole = w.get(&status);
    add_condition(&mut whole, "StatusPatched", "True");
    let conditions = json!({"status": {"conditions": whole["status"]["conditions"]}});
    w.patch(&status, "merge-patch+json", &conditions);
    assert!(has_condition(&w.get(&status), "StatusPatched"));

    let selected = format!("{SERVICES}?labelSelector=test%3D{}", w.namespace);
    assert_eq!(w.items(&selected).len(), 1);
    w.delete(&selected);
    wait_for("the APIService to be gone", || w.items(&selected).is_empty());
    wait_for("its group to be gone", || w.gone(&default));
}
