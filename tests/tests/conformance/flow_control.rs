//! API priority and fairness (test/e2e/apimachinery/flowcontrol.go): its configuration as resources.

use serde_json::json;

use crate::operations::Subject;
use crate::world::{Tests, World};

pub const TESTS: Tests = &[
    (
        "[sig-api-machinery] API priority and fairness should support FlowSchema API operations [Conformance]",
        flow_schemas,
    ),
    (
        "[sig-api-machinery] API priority and fairness should support PriorityLevelConfiguration API operations [Conformance]",
        priority_levels,
    ),
];

fn flow_schemas(w: &World) {
    let user = json!({"kind": "User", "user": {"name": "nobody-of-this-name"}});
    let rule = json!({"subjects": [user], "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]});
    let subject = Subject {
        api: "flowcontrol.apiserver.k8s.io/v1",
        resource: "flowschemas",
        kind: "FlowSchema",
        subresources: &["status"],
        selected: &format!("labelSelector=of%3D{}", w.namespace),
        object: json!({
            "metadata": {"generateName": format!("{}-", w.namespace), "labels": {"of": w.namespace}},
            "spec": {
                "matchingPrecedence": 10000,
                "priorityLevelConfiguration": {"name": "global-default"},
                "distinguisherMethod": {"type": "ByUser"},
                "rules": [rule],
            },
        }),
        patch: json!({"spec": {"matchingPrecedence": 9999}}),
        update: json!({"spec": {"matchingPrecedence": 9000}}),
    };
    subject.lives(w, |one, created| subject.status_has_conditions(w, one, created));
}

fn priority_levels(w: &World) {
    let shares = |n: u32| json!({"spec": {"limited": {"nominalConcurrencyShares": n}}});
    let subject = Subject {
        api: "flowcontrol.apiserver.k8s.io/v1",
        resource: "prioritylevelconfigurations",
        kind: "PriorityLevelConfiguration",
        subresources: &["status"],
        selected: &format!("labelSelector=of%3D{}", w.namespace),
        object: json!({
            "metadata": {"generateName": format!("{}-", w.namespace), "labels": {"of": w.namespace}},
            "spec": {
                "type": "Limited",
                "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}},
            },
        }),
        patch: shares(4),
        update: shares(6),
    };
    subject.lives(w, |one, created| subject.status_has_conditions(w, one, created));
}
