//! Admission policies (test/e2e/apimachinery/validatingadmissionpolicy.go, mutatingadmissionpolicy.go): as objects, and at work
//! on Deployments of the test's namespace.

use serde_json::{Value, json};
use testkit::wait_for;

use crate::operations::Subject;
use crate::world::{Tests, World};

pub const TESTS: Tests = &[
    (
        "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should validate against a Deployment [Conformance]",
        validated,
    ),
    (
        "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should allow expressions to refer variables. [Conformance]",
        with_variables,
    ),
    (
        "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicy API operations [Conformance]",
        validating_policies,
    ),
    (
        "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicyBinding API operations [Conformance]",
        validating_bindings,
    ),
    (
        "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should mutate a Deployment [Conformance]",
        mutated,
    ),
    (
        "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should mutate a Deployment with annotations [Conformance]",
        annotated,
    ),
    (
        "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support MutatingAdmissionPolicy API operations [Conformance]",
        mutating_policies,
    ),
    (
        "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support MutatingAdmissionPolicyBinding API operations [Conformance]",
        mutating_bindings,
    ),
];

const API: &str = "admissionregistration.k8s.io/v1";

fn rules() -> Value {
    json!([{
        "operations": ["CREATE", "UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"],
    }])
}

/// A policy and its binding for Deployments of the test's namespace, for as long as the test takes.
fn bind(w: &World, kind: &str, mut policy: Value) {
    let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": w.namespace}});
    policy["matchConstraints"] = json!({"resourceRules": rules(), "namespaceSelector": selector});
    let name = format!("{}.example.com", w.namespace);
    let mut binding = json!({"policyName": name, "matchResources": {"namespaceSelector": selector}});
    if kind == "validating" {
        binding["validationActions"] = json!(["Deny"]);
    }
    for (resource, spec) in [("policies", policy), ("policybindings", binding)] {
        let path = format!("/apis/{API}/{kind}admission{resource}");
        w.create_for_test(&path, &json!({"metadata": {"name": name}, "spec": spec}));
    }
}

/// A Deployment or ReplicaSet whose pods nobody runs.
fn replicated(name: &str, replicas: u32) -> Value {
    let labels = json!({"app": "none"});
    let pod = json!({"nodeSelector": {"none": "none"}, "containers": [{"name": "main", "image": "none"}]});
    let template = json!({"metadata": {"labels": labels}, "spec": pod});
    json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    })
}

/// Waits until a Deployment of one replica is invalid for this reason, which ends with `allowed` replicas and does not
/// concern ReplicaSets.
fn denied(w: &World, why: &str, allowed: u32) {
    let deployments = w.path("apis/apps/v1", "deployments");
    wait_for("the policy to be in force", || {
        let answer = w.http.json("POST", &deployments, &replicated("marker", 1));
        if answer.code == 201 {
            w.delete(&format!("{deployments}/marker"));
            return false;
        }
        assert_eq!((answer.code, answer.reason().as_str()), (422, "Invalid"), "{}", answer.text());
        assert!(answer.message().contains(why), "{}", answer.text());
        true
    });
    w.create(&deployments, &replicated("allowed", allowed));
    w.create(&w.path("apis/apps/v1", "replicasets"), &replicated("one", 1));
}

fn validated(w: &World) {
    let own = format!("namespaceObject.metadata.name == '{}'", w.namespace);
    bind(
        w,
        "validating",
        json!({"validations": [
            {
                "expression": "object.spec.replicas > 1",
                "messageExpression": "'wants replicas > 1, got ' + string(object.spec.replicas)",
            },
            {"expression": own, "message": "a policy for another namespace"},
        ]}),
    );
    denied(w, "wants replicas > 1, got 1", 2);
}

fn with_variables(w: &World) {
    bind(
        w,
        "validating",
        json!({
            "variables": [
                {"name": "replicas", "expression": "object.spec.replicas"},
                {"name": "odd", "expression": "variables.replicas % 2 == 1"},
            ],
            "validations": [{"expression": "variables.replicas > 1"}, {"expression": "variables.odd"}],
        }),
    );
    denied(w, "failed expression: variables.replicas > 1", 3);
    let even = replicated("even", 2);
    w.refused("POST", &w.path("apis/apps/v1", "deployments"), &even, "failed expression: variables.odd");
}

/// Binds a policy that applies this and waits until a Deployment comes out as wanted; it is stored that way.
fn changed(w: &World, expression: &str, wanted: impl Fn(&Value) -> bool) {
    let mutation =
        json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}});
    bind(w, "mutating", json!({"reinvocationPolicy": "Never", "mutations": [mutation]}));
    let deployments = w.path("apis/apps/v1", "deployments");
    let one = format!("{deployments}/marker");
    wait_for("the policy to be in force", || {
        let mut marker = replicated("marker", 1);
        // However many replicas it is given.
        marker["spec"]["paused"] = true.into();
        let made = w.create(&deployments, &marker);
        let stored = w.get(&one);
        w.delete(&one);
        assert_eq!(wanted(&made), wanted(&stored));
        wanted(&made)
    });
}

fn mutated(w: &World) {
    changed(w, "Object{spec: Object.spec{replicas: 1337}}", |o| o["spec"]["replicas"] == 1337);
}

fn annotated(w: &World) {
    let expression = r#"Object{metadata: Object.metadata{annotations: {"mutated-by": "a-policy"}}}"#;
    changed(w, expression, |o| o["metadata"]["annotations"]["mutated-by"] == "a-policy");
}

/// Every verb on policies that nothing binds, or on bindings of none.
fn lives(w: &World, resource: &str, kind: &str, spec: Value, [patch, update]: [Value; 2]) {
    let validating = resource == "validatingadmissionpolicies";
    let subject = Subject {
        api: API,
        resource,
        kind,
        subresources: if validating { &["status"] } else { &[] },
        selected: &format!("labelSelector=test%3D{}", w.namespace),
        object: json!({"metadata": {"generateName": "e2e-", "labels": {"test": w.namespace}}, "spec": spec}),
        patch: json!({"spec": patch}),
        update: json!({"spec": update}),
    };
    subject.lives(w, |one, created| {
        if validating {
            subject.status_has_conditions(w, one, created);
        }
    });
}

fn validating_policies(w: &World) {
    let spec = json!({
        "validations": [{"expression": "object.spec.replicas <= 100"}], "matchConstraints": {"resourceRules": rules()},
    });
    let policies = ["Ignore", "Fail"].map(|p| json!({"failurePolicy": p}));
    lives(w, "validatingadmissionpolicies", "ValidatingAdmissionPolicy", spec, policies);
}

fn validating_bindings(w: &World) {
    let spec = json!({"policyName": format!("{}.example.com", w.namespace), "validationActions": ["Deny"]});
    let actions = ["Warn", "Deny"].map(|a| json!({"validationActions": [a]}));
    lives(w, "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", spec, actions);
}

fn mutating_policies(w: &World) {
    let apply = json!({"expression": "Object{spec: Object.spec{replicas: 100}}"});
    let spec = json!({
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": apply}],
        "matchConstraints": {"resourceRules": rules()},
    });
    let policies = ["IfNeeded", "Never"].map(|p| json!({"reinvocationPolicy": p}));
    lives(w, "mutatingadmissionpolicies", "MutatingAdmissionPolicy", spec, policies);
}

fn mutating_bindings(w: &World) {
    let name = |what: &str| json!({"policyName": format!("{what}.{}.example.com", w.namespace)});
    lives(
        w,
        "mutatingadmissionpolicybindings",
        "MutatingAdmissionPolicyBinding",
        name("one"),
        [name("two"), name("one")],
    );
}
