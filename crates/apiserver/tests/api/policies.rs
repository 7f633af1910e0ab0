//! Validating admission policies: bindings, parameters, variables, messages, and what a broken one does.

use serde_json::{Value, json};

use super::setup::*;

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

async fn policy(s: &Server, name: &str, spec: Value) {
    let mut spec = spec;
    if spec["matchConstraints"].is_null() {
        spec["matchConstraints"] = json!({"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"],
            "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]}]});
    }
    let v = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": spec});
    let (code, v) = s.post(&format!("{GROUP}/validatingadmissionpolicies"), &v).await;
    assert_eq!(code, 201, "{v}");
}

async fn bind(s: &Server, name: &str, spec: Value) {
    let v = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name}, "spec": spec});
    let (code, v) = s.post(&format!("{GROUP}/validatingadmissionpolicybindings"), &v).await;
    assert_eq!(code, 201, "{v}");
}

fn scaled(name: &str, n: i64) -> Value {
    let mut d = deployment(name);
    d["spec"]["replicas"] = json!(n);
    d
}

#[tokio::test]
async fn a_policy_refuses_with_its_message() {
    let s = Server::start().await;
    policy(&s, "few", json!({"variables": [{"name": "n", "expression": "object.spec.replicas"}, {"name": "twice", "expression": "variables.n * 2"}],
        "validations": [{"expression": "variables.twice <= 10"}, {"expression": "object.metadata.name != 'bad'", "reason": "Forbidden",
            "messageExpression": "'the name ' + object.metadata.name + ' is taken by ' + request.userInfo.username"}]}))
    .await;
    // Without a binding it does nothing.
    assert_eq!(s.post(DEPLOYMENTS, &scaled("free", 9)).await.0, 201);
    bind(
        &s,
        "few",
        json!({"policyName": "few", "validationActions": ["Deny"], "matchResources": {"namespaceSelector":
        {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}}),
    )
    .await;
    let (code, e) = s.post(DEPLOYMENTS, &scaled("a", 6)).await;
    assert_eq!((code, e["reason"].as_str()), (422, Some("Invalid")));
    assert_eq!(
        e["message"],
        "deployments.apps \"a\" is forbidden: ValidatingAdmissionPolicy 'few' with binding 'few' denied request: failed expression: variables.twice <= 10"
    );
    let (code, e) = s.post(DEPLOYMENTS, &scaled("bad", 1)).await;
    assert_eq!((code, e["reason"].as_str()), (403, Some("Forbidden")));
    assert!(e["message"].as_str().is_some_and(|m| m.ends_with("the name bad is taken by admin")), "{e}");
    assert_eq!(s.post(DEPLOYMENTS, &scaled("a", 5)).await.0, 201);
    assert_eq!(s.merge(&format!("{DEPLOYMENTS}/a"), &json!({"spec": {"replicas": 7}})).await.0, 422);
    assert_eq!(s.post("/apis/apps/v1/namespaces/kube-system/deployments", &scaled("a", 9)).await.0, 201);
}

#[tokio::test]
async fn parameters_come_from_objects() {
    let s = Server::start().await;
    policy(
        &s,
        "limit",
        json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [{"expression": "object.spec.replicas <= int(params.data.max)"}]}),
    )
    .await;
    bind(
        &s,
        "limit",
        json!({"policyName": "limit", "validationActions": ["Deny"],
        "paramRef": {"name": "limit", "parameterNotFoundAction": "Deny"}}),
    )
    .await;
    let (code, e) = s.post(DEPLOYMENTS, &scaled("a", 1)).await;
    assert!(code == 422 && e["message"].as_str().is_some_and(|m| m.contains("no params found")), "{e}");
    assert_eq!(s.post(CMS, &json!({"metadata": {"name": "limit"}, "data": {"max": "3"}})).await.0, 201);
    assert_eq!(s.post(DEPLOYMENTS, &scaled("a", 3)).await.0, 201);
    assert_eq!(s.post(DEPLOYMENTS, &scaled("b", 4)).await.0, 422);
    assert_eq!(s.merge(&format!("{CMS}/limit"), &json!({"data": {"max": "4"}})).await.0, 200);
    assert_eq!(s.post(DEPLOYMENTS, &scaled("b", 4)).await.0, 201);
}

#[tokio::test]
async fn what_fails_counts_as_the_policy_says_and_warnings_let_through() {
    let s = Server::start().await;
    policy(&s, "broken", json!({"validations": [{"expression": "object.spec.nothing == 1"}]})).await;
    bind(&s, "broken", json!({"policyName": "broken", "validationActions": ["Deny"]})).await;
    let (code, e) = s.post(DEPLOYMENTS, &scaled("a", 1)).await;
    assert!(
        code == 422
            && e["message"].as_str().is_some_and(|m| m.contains("resulted in error: no such key: nothing")),
        "{e}"
    );
    let uri = format!("{GROUP}/validatingadmissionpolicies/broken");
    assert_eq!(s.merge(&uri, &json!({"spec": {"failurePolicy": "Ignore"}})).await.0, 200);
    assert_eq!(s.post(DEPLOYMENTS, &scaled("a", 1)).await.0, 201);
    assert_eq!(
        s.merge(&uri, &json!({"spec": {"validations": [{"expression": "false", "message": "never"}]}}))
            .await
            .0,
        200
    );
    let binding = format!("{GROUP}/validatingadmissionpolicybindings/broken");
    assert_eq!(s.merge(&binding, &json!({"spec": {"validationActions": ["Warn"]}})).await.0, 200);
    assert_eq!(s.post(DEPLOYMENTS, &scaled("b", 1)).await.0, 201);
    assert_eq!(s.merge(&uri, &json!({"spec": {"matchConditions": [{"name": "x", "expression": "request.operation == 'UPDATE'"}]}})).await.0, 200);
    assert_eq!(s.merge(&binding, &json!({"spec": {"validationActions": ["Deny"]}})).await.0, 200);
    assert_eq!(s.post(DEPLOYMENTS, &scaled("c", 1)).await.0, 201);
    assert_eq!(s.merge(&format!("{DEPLOYMENTS}/c"), &json!({"spec": {"replicas": 2}})).await.0, 422);
}

#[tokio::test]
async fn expressions_are_checked_against_the_kinds_they_are_for() {
    let s = Server::start().await;
    policy(&s, "typo", json!({"validations": [{"expression": "object.spec.replicaz <= 5"}, {"expression": "object.spec.replicas <= 5"}]})).await;
    let uri = format!("{GROUP}/validatingadmissionpolicies/typo");
    let v = super::crds::until(&s, &uri, |_, v| v["status"]["observedGeneration"] == 1).await;
    let all = v["status"]["typeChecking"]["expressionWarnings"].as_array().cloned().unwrap_or_default();
    assert_eq!((all.len(), &all[0]["fieldRef"]), (1, &json!("spec.validations[0].expression")), "{v}");
    assert!(
        all[0]["warning"].as_str().is_some_and(|w| w.starts_with(
            "apps/v1, Kind=Deployment: compilation failed: ERROR: <input>:1:12: undefined field 'replicaz'"
        )),
        "{v}"
    );
    assert_eq!(
        s.merge(&uri, &json!({"spec": {"validations": [{"expression": "object.spec.replicas <= 5"}]}}))
            .await
            .0,
        200
    );
    let v = super::crds::until(&s, &uri, |_, v| v["status"]["observedGeneration"] == 2).await;
    assert_eq!(v["status"]["typeChecking"], json!({}), "{v}");
}
