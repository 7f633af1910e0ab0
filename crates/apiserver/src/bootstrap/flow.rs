//! The default priority levels and flow schemas of API priority and fairness.

use serde_json::{Value, json};

/// name, nominal shares, lendable percent, (queues, hand size, queue length) or none for reject.
type Level = (&'static str, u32, u32, Option<(u32, u32, u32)>);

const LEVELS: [Level; 6] = [
    ("catch-all", 5, 0, None),
    ("global-default", 20, 50, Some((128, 6, 50))),
    ("leader-election", 10, 0, Some((16, 4, 50))),
    ("node-high", 40, 25, Some((64, 6, 50))),
    ("system", 30, 33, Some((64, 6, 50))),
    ("workload-high", 40, 50, Some((128, 6, 50))),
];

fn level(name: &str, spec: Value) -> (&'static str, Value) {
    let v = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
        "metadata": {"name": name, "generation": 1, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}},
        "spec": spec, "status": {},
    });
    ("prioritylevelconfigurations", v)
}

fn limited(l: &Level) -> Value {
    let (_, shares, lendable, queue) = *l;
    let response = match queue {
        None => json!({"type": "Reject"}),
        Some((queues, hand, length)) => {
            json!({"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": length}})
        }
    };
    json!({"type": "Limited", "limited": {"nominalConcurrencyShares": shares, "lendablePercent": lendable,
        "limitResponse": response}})
}

fn group(name: &str) -> Value {
    json!({"kind": "Group", "group": {"name": name}})
}
fn user(name: &str) -> Value {
    json!({"kind": "User", "user": {"name": name}})
}
fn account(name: &str) -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}})
}

/// All resources and, if `urls`, all other paths.
fn everything(subjects: Vec<Value>, urls: bool) -> Value {
    let mut rule = json!({"subjects": subjects, "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
        "clusterScope": true, "namespaces": ["*"]}]});
    if urls {
        rule["nonResourceRules"] = json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
    }
    rule
}

fn some(
    subjects: &[Value],
    verbs: &[&str],
    groups: &[&str],
    resources: &[&str],
    namespaces: &[&str],
) -> Value {
    let mut r = json!({"verbs": verbs, "apiGroups": groups, "resources": resources});
    if namespaces.is_empty() {
        r["clusterScope"] = json!(true);
        r["namespaces"] = json!(["*"]);
    } else {
        r["namespaces"] = json!(namespaces);
    }
    json!({"subjects": subjects, "resourceRules": [r]})
}

fn schema(name: &str, level: &str, precedence: u32, by: &str, rules: Vec<Value>) -> (&'static str, Value) {
    let mut spec = json!({"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": rules});
    if !by.is_empty() {
        spec["distinguisherMethod"] = json!({"type": by});
    }
    let v = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
        "metadata": {"name": name, "generation": 1, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}},
        "spec": spec,
        "status": {"conditions": [{"type": "Dangling", "status": "False", "lastTransitionTime": "", "reason": "Found",
            "message": format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} and it exists")}]},
    });
    ("flowschemas", v)
}

/// Every default, with the plural of its kind. `now` as RFC 3339.
pub fn defaults(now: &str) -> Vec<(&'static str, Value)> {
    let mut out = vec![
        level(
            "exempt",
            json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}),
        ),
        level("workload-low", limited(&("workload-low", 100, 90, Some((128, 6, 50))))),
    ];
    out.extend(LEVELS.iter().map(|l| level(l.0, limited(l))));
    let managers = [user("system:kube-controller-manager"), user("system:kube-scheduler")];
    let nodes = [group("system:nodes")];
    let anybody = || vec![group("system:unauthenticated"), group("system:authenticated")];
    let locks = |subjects: &[Value]| {
        some(subjects, &["get", "create", "update"], &["coordination.k8s.io"], &["leases"], &["*"])
    };
    out.extend([
        schema("exempt", "exempt", 1, "", vec![everything(vec![group("system:masters")], true)]),
        schema(
            "probes",
            "exempt",
            2,
            "",
            vec![json!({"subjects": anybody(), "nonResourceRules":
                [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]})],
        ),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            "ByUser",
            vec![locks(&[
                user("system:kube-controller-manager"),
                user("system:kube-scheduler"),
                group("system:serviceaccounts:kube-system"),
            ])],
        ),
        schema(
            "endpoint-controller",
            "workload-high",
            150,
            "ByUser",
            vec![some(
                &[
                    user("system:kube-controller-manager"),
                    account("endpoint-controller"),
                    account("endpointslicemirroring-controller"),
                ],
                &["get", "create", "update"],
                &[""],
                &["endpoints"],
                &["*"],
            )],
        ),
        schema(
            "workload-leader-election",
            "leader-election",
            200,
            "ByUser",
            vec![locks(&[
                user("system:kube-controller-manager"),
                user("system:kube-scheduler"),
                group("system:serviceaccounts:kube-system"),
            ])],
        ),
        schema(
            "system-node-high",
            "node-high",
            400,
            "ByUser",
            vec![
                some(&nodes, &["*"], &[""], &["nodes", "nodes/status"], &[]),
                some(&nodes, &["*"], &["coordination.k8s.io"], &["leases"], &["*"]),
            ],
        ),
        schema("system-nodes", "system", 500, "ByUser", vec![everything(nodes.to_vec(), true)]),
        schema(
            "kube-controller-manager",
            "workload-high",
            800,
            "ByNamespace",
            vec![everything(vec![managers[0].clone()], true)],
        ),
        schema(
            "kube-scheduler",
            "workload-high",
            800,
            "ByNamespace",
            vec![everything(vec![managers[1].clone()], true)],
        ),
        schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            "ByNamespace",
            vec![everything(vec![group("system:serviceaccounts:kube-system")], true)],
        ),
        schema(
            "service-accounts",
            "workload-low",
            9000,
            "ByUser",
            vec![everything(vec![group("system:serviceaccounts")], true)],
        ),
        schema("global-default", "global-default", 9900, "ByUser", vec![everything(anybody(), true)]),
        schema("catch-all", "catch-all", 10000, "ByUser", vec![everything(anybody(), true)]),
    ]);
    for (_, v) in &mut out {
        for c in v.pointer_mut("/status/conditions").and_then(Value::as_array_mut).into_iter().flatten() {
            c["lastTransitionTime"] = json!(now);
        }
    }
    out
}
