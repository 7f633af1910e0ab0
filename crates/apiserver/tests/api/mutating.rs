//! Mutating admission policies: configurations laid over objects, JSON patches, parameters, conditions, order and what
//! happens when one fails; and what both kinds of policy may ask the authorizer.

use serde_json::{Value, json};

use super::hook::Hook;
use super::setup::*;

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

fn rules(resource: &str) -> Value {
    json!({"resourceRules": [{"apiGroups": ["", "apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": [resource]}]})
}

async fn put(s: &Server, kind: &str, plural: &str, name: &str, spec: Value) {
    let v = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let (code, v) = s.post(&format!("{GROUP}/{plural}"), &v).await;
    assert_eq!(code, 201, "{v}");
}

/// A policy and a binding of the same name.
async fn policy(s: &Server, name: &str, mut spec: Value) {
    for (k, v) in [("matchConstraints", rules("deployments")), ("reinvocationPolicy", json!("Never"))] {
        if spec[k].is_null() {
            spec[k] = v;
        }
    }
    let param =
        spec["paramKind"].is_object().then(|| json!({"name": "params", "parameterNotFoundAction": "Deny"}));
    put(s, "MutatingAdmissionPolicy", "mutatingadmissionpolicies", name, spec).await;
    let binding = json!({"policyName": name, "paramRef": param});
    put(s, "MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings", name, binding).await;
}

fn apply(expression: &str) -> Value {
    json!([{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}])
}

fn json_patch(expression: &str) -> Value {
    json!([{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}])
}

#[tokio::test]
async fn configurations_are_laid_over_the_object() {
    let s = Server::start().await;
    policy(
        &s,
        "sidecar",
        json!({"variables": [{"name": "image", "expression": "'proxy:' + object.metadata.name"}],
            "matchConditions": [{"name": "once", "expression": "!object.spec.template.spec.containers.exists(c, c.name == 'proxy')"}],
            "mutations": apply("Object{metadata: Object.metadata{labels: {'injected': 'yes'}}, spec: Object.spec{template: Object.spec.template{spec: \
                Object.spec.template.spec{containers: [Object.spec.template.spec.containers{name: 'proxy', image: variables.image}]}}}}")}),
    )
    .await;
    let (code, v) = s.post(DEPLOYMENTS, &deployment("a")).await;
    assert_eq!(code, 201, "{v}");
    let containers = v["spec"]["template"]["spec"]["containers"].as_array().expect("containers");
    let shown: Vec<(&str, &str)> = containers
        .iter()
        .map(|c| (c["name"].as_str().unwrap_or_default(), c["image"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(shown, [("c", "i:1"), ("proxy", "proxy:a")], "{v}");
    // What was laid over is defaulted like any body.
    assert_eq!(
        (&containers[1]["imagePullPolicy"], &v["metadata"]["labels"]["injected"]),
        (&json!("IfNotPresent"), &json!("yes"))
    );
    // Its condition does not hold any more.
    let (code, v) =
        s.merge(&format!("{DEPLOYMENTS}/a"), &json!({"metadata": {"labels": {"injected": "no"}}})).await;
    assert_eq!((code, &v["metadata"]["labels"]["injected"]), (200, &json!("no")), "{v}");
    // Without its binding it does nothing.
    assert_eq!(
        s.delete(&format!("{GROUP}/mutatingadmissionpolicybindings/sidecar"), &Value::Null).await.0,
        200
    );
    let (_, v) = s.post(DEPLOYMENTS, &deployment("b")).await;
    assert!(v["metadata"]["labels"].is_null(), "{v}");
}

#[tokio::test]
async fn patches_parameters_and_several_mutations() {
    let s = Server::start().await;
    let params = json!({"metadata": {"name": "params"}, "data": {"key": "example.com/a-b", "value": "v"}});
    assert_eq!(s.post(CMS, &params).await.0, 201);
    let mut mutations = json_patch(
        "has(object.metadata.annotations) ? [] : [JSONPatch{op: 'add', path: '/metadata/annotations', value: {}}]",
    );
    let second = json_patch(
        "[JSONPatch{op: 'test', path: '/metadata/name', value: 'a'}, \
         JSONPatch{op: 'add', path: '/metadata/annotations/' + jsonpatch.escapeKey(params.data.key), value: params.data.value}, \
         JSONPatch{op: 'add', path: '/spec/replicas', value: 4}]",
    );
    mutations.as_array_mut().expect("list").push(second[0].clone());
    policy(
        &s,
        "patches",
        json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "mutations": mutations}),
    )
    .await;
    let (code, v) = s.post(DEPLOYMENTS, &deployment("a")).await;
    assert_eq!(
        (code, &v["metadata"]["annotations"], &v["spec"]["replicas"]),
        (201, &json!({"example.com/a-b": "v"}), &json!(4)),
        "{v}"
    );
    // A test that does not hold leaves the object as it was.
    let (code, v) = s.post(DEPLOYMENTS, &deployment("b")).await;
    assert_eq!(
        (code, &v["metadata"]["annotations"], &v["spec"]["replicas"]),
        (201, &Value::Null, &json!(1)),
        "{v}"
    );
}

#[tokio::test]
async fn what_fails_counts_as_the_policy_says() {
    let s = Server::start().await;
    policy(
        &s,
        "broken",
        json!({"mutations": apply("Object{spec: Object.spec{template: Object.spec.wrong{}}}")}),
    )
    .await;
    let told = "policy 'broken' with binding 'broken' denied request: ";
    let refused = |name: &'static str| {
        let s = &s;
        async move {
            let (code, e) = s.post(DEPLOYMENTS, &deployment(name)).await;
            assert_eq!((code, e["reason"].as_str()), (403, Some("Invalid")), "{e}");
            e["message"].as_str().unwrap_or_default().to_owned()
        }
    };
    let e = refused("a").await;
    assert_eq!(
        e,
        format!(
            "{told}type mismatch: unexpected type name \"Object.spec.wrong\", expected \"Object.spec.template\", which matches field name path from root Object type"
        )
    );
    let uri = format!("{GROUP}/mutatingadmissionpolicies/broken");
    let set = |mutations: Value| {
        let (s, uri) = (&s, &uri);
        async move { assert_eq!(s.merge(uri, &json!({"spec": {"mutations": mutations}})).await.0, 200) }
    };
    set(apply("Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: {'a': 'c'}}}}")).await;
    let e = refused("a").await;
    assert!(e.starts_with(&format!("{told}error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector")), "{e}");
    set(json_patch("[JSONPatch{op: 'remove', path: '/spec/none'}]")).await;
    assert!(refused("a").await.starts_with(&format!("{told}JSON Patch: ")));
    set(json_patch("[JSONPatch{op: 'add', path: '/metadata/labels', value: object.nothing}]")).await;
    assert!(refused("a").await.ends_with("no such key: nothing"));
    assert_eq!(s.merge(&uri, &json!({"spec": {"failurePolicy": "Ignore"}})).await.0, 200);
    assert_eq!(s.post(DEPLOYMENTS, &deployment("a")).await.0, 201);
}

#[tokio::test]
async fn a_policy_is_asked_again_after_a_webhook() {
    let s = Server::start().await;
    let count = "[JSONPatch{op: 'add', path: '/data/' + (has(object.data.hook) ? 'after' : 'before'), value: 'seen'}]";
    for (name, again) in [("again", "IfNeeded"), ("once", "Never")] {
        let expression =
            count.replace("'seen'", &format!("'{name}'")).replace("'/data/'", &format!("'/data/{name}-'"));
        policy(&s, name, json!({"matchConstraints": rules("configmaps"), "reinvocationPolicy": again, "mutations": json_patch(&expression)})).await;
    }
    let hook = Hook::start(|r| match r["object"]["data"]["hook"].is_null() {
        true => {
            use base64::Engine;
            let ops = json!([{"op": "add", "path": "/data/hook", "value": "x"}]).to_string();
            json!({"allowed": true, "patchType": "JSONPatch", "patch": base64::engine::general_purpose::STANDARD.encode(ops)})
        }
        false => json!({"allowed": true}),
    })
    .await;
    let webhook = json!({"name": "m.example.com", "clientConfig": hook.client(), "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]});
    let v = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": {"name": "m"}, "webhooks": [webhook]});
    assert_eq!(s.post(&format!("{GROUP}/mutatingwebhookconfigurations"), &v).await.0, 201);
    let (code, v) = s.post(CMS, &json!({"metadata": {"name": "a"}, "data": {"k": "v"}})).await;
    assert_eq!(
        (code, &v["data"]),
        (
            201,
            &json!({"k": "v", "hook": "x", "again-before": "again", "again-after": "again", "once-before": "once"})
        ),
        "{v}"
    );
    assert_eq!(hook.count(), 1);
}

#[tokio::test]
async fn expressions_ask_the_authorizer() {
    let s = Server::start().await;
    let validations = json!([
        {"expression": "authorizer.group('apps').resource('deployments').namespace('default').check('scale').allowed()", "message": "no scaling"},
        {"expression": "authorizer.requestResource.check('create').allowed()", "message": "no creating"},
        {"expression": "!authorizer.path('/metrics').check('get').allowed() || authorizer.group('').resource('pods').check('delete').allowed()"},
        {"expression": "!authorizer.serviceAccount('default', 'default').group('').resource('secrets').check('get').allowed()"},
    ]);
    put(
        &s,
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
        "ask",
        json!({"matchConstraints": rules("deployments"), "validations": validations}),
    )
    .await;
    put(
        &s,
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        "ask",
        json!({"policyName": "ask", "validationActions": ["Deny"]}),
    )
    .await;
    let (code, v) = s.post(DEPLOYMENTS, &deployment("a")).await;
    assert_eq!(code, 201, "{v}");
    // Somebody who may create and nothing else.
    let role = json!({"metadata": {"name": "maker"}, "rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["create"]}]});
    assert_eq!(s.post("/apis/rbac.authorization.k8s.io/v1/clusterroles", &role).await.0, 201);
    let binding = json!({"metadata": {"name": "maker"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "maker"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]});
    assert_eq!(s.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await.0, 201);
    let jane = s.as_user("jane");
    let mut last = None;
    for _ in 0..500 {
        match jane.create(&api::resource::DEPLOYMENTS, "default", &deployment("b")).await {
            // The role is not in force yet.
            Err(e) if e.message.contains("cannot create resource") => {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            other => {
                last = Some(other);
                break;
            }
        }
    }
    let e = last.expect("an answer").expect_err("a refusal");
    assert_eq!(
        e.message,
        "deployments.apps \"b\" is forbidden: ValidatingAdmissionPolicy 'ask' with binding 'ask' denied request: no scaling"
    );
}

#[tokio::test]
async fn variables_are_worked_out_when_they_are_asked_for() {
    let s = Server::start().await;
    let variables = json!([{"name": "broken", "expression": "object.nothing"}, {"name": "uses", "expression": "variables.broken == 1"}, {"name": "n", "expression": "object.spec.replicas"}]);
    let spec = json!({"matchConstraints": rules("deployments"), "variables": variables,
        "validations": [{"expression": "variables.n < 5 || variables.uses"}],
        "auditAnnotations": [{"key": "n", "valueExpression": "variables.n > 6 ? string(variables.n) : dyn(null)"}]});
    put(&s, "ValidatingAdmissionPolicy", "validatingadmissionpolicies", "lazy", spec).await;
    put(
        &s,
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        "lazy",
        json!({"policyName": "lazy", "validationActions": ["Deny"]}),
    )
    .await;
    assert_eq!(s.post(DEPLOYMENTS, &deployment("a")).await.0, 201);
    let mut many = deployment("b");
    many["spec"]["replicas"] = json!(5);
    let (code, e) = s.post(DEPLOYMENTS, &many).await;
    let told = "composited variable \"uses\" fails to evaluate: composited variable \"broken\" fails to evaluate: no such key: nothing";
    assert!(code == 422 && e["message"].as_str().is_some_and(|m| m.ends_with(told)), "{e}");
    // One that nobody declared does not compile, and is not accepted.
    let uri = format!("{GROUP}/validatingadmissionpolicies/lazy");
    let (code, e) =
        s.merge(&uri, &json!({"spec": {"validations": [{"expression": "variables.other == 1"}]}})).await;
    assert_eq!(
        (code, e["details"]["causes"][0]["field"].as_str()),
        (422, Some("spec.validations[0].expression")),
        "{e}"
    );
    let told = "Invalid value: \"variables.other == 1\": compilation failed: ERROR: <input>:1:10: undefined field 'other'";
    assert!(e["details"]["causes"][0]["message"].as_str().is_some_and(|m| m.starts_with(told)), "{e}");
    assert_eq!(s.merge(&uri, &json!({"metadata": {"labels": {"a": "b"}}})).await.0, 200);
}
