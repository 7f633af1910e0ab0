//! Defaults of admissionregistration.k8s.io.

use serde_json::json;

use super::{Fields, each, ensure, get, plain, pointer};

pub(super) fn apply(kind: &str, o: &mut Fields) {
    match kind {
        "ValidatingWebhookConfiguration" => each(o, "webhooks").for_each(webhook),
        "MutatingWebhookConfiguration" => {
            for w in each(o, "webhooks") {
                webhook(w);
                pointer(w, "reinvocationPolicy", "Never");
            }
        }
        "ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy" => {
            let Some(s) = ensure(o, "spec") else { return };
            pointer(s, "failurePolicy", "Fail");
            if let Some(m) = get(s, "matchConstraints") {
                match_resources(m);
            }
        }
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => {
            if let Some(m) = get(o, "spec").and_then(|s| get(s, "matchResources")) {
                match_resources(m);
            }
        }
        _ => {}
    }
}

fn rules(o: &mut Fields, key: &str) {
    for r in each(o, key) {
        pointer(r, "scope", "*");
    }
}

fn webhook(w: &mut Fields) {
    pointer(w, "failurePolicy", "Fail");
    pointer(w, "matchPolicy", "Equivalent");
    pointer(w, "namespaceSelector", json!({}));
    pointer(w, "objectSelector", json!({}));
    pointer(w, "timeoutSeconds", 10);
    rules(w, "rules");
    if let Some(s) = get(w, "clientConfig").and_then(|c| get(c, "service")) {
        pointer(s, "port", 443);
    }
}

fn match_resources(m: &mut Fields) {
    plain(m, "matchPolicy", "Equivalent");
    pointer(m, "namespaceSelector", json!({}));
    pointer(m, "objectSelector", json!({}));
    rules(m, "resourceRules");
    rules(m, "excludeResourceRules");
}
