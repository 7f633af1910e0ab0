//! What runs while things break.

use serde_json::{Value, json};

use crate::plan::Op;

/// Pods that the budget of `web` leaves.
pub const BUDGET: u64 = 2;
/// Sets whose pods have an identity: in order, and all at once.
pub const SETS: [&str; 2] = ["db", "kv"];

fn container(script: &str) -> Value {
    json!({"name": "c", "image": "busybox:1.36", "command": ["sh", "-c", script]})
}

fn spread(app: &str) -> Value {
    json!([{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": app}},
    }])
}

fn workload(app: &str, replicas: u64, pod: Value) -> Value {
    let template = json!({"metadata": {"labels": {"app": app}}, "spec": pod});
    json!({
        "metadata": {"name": app, "labels": {"app": app}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": app}}, "template": template},
    })
}

const SLEEP: &str = "trap 'exit 0' TERM; sleep 3600 & wait $!";

fn deployment(app: &str, replicas: u64, cpu: Option<&str>) -> Value {
    let mut c = container(SLEEP);
    if let Some(cpu) = cpu {
        c["resources"] = json!({"requests": {"cpu": cpu}});
    }
    let pod = json!({"terminationGracePeriodSeconds": 1, "containers": [c], "topologySpreadConstraints": spread(app)});
    let mut out = workload(app, replicas, pod);
    out["spec"]["strategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": crate::judge::SURGE, "maxUnavailable": 1}});
    out
}

/// Its processes bear the pod's name and UID, for whoever looks at a node's processes.
fn stateful(app: &str, mark: &str, policy: &str) -> Value {
    let mut c = container("trap 'sleep 1; exit 0' TERM; sleep 3600 & wait $!");
    let words = c["command"].as_array_mut().expect("a command");
    words.extend([mark, "$(NAME)", "$(UID)"].map(|w| json!(w)));
    let field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    c["env"] = json!([field("NAME", "metadata.name"), field("UID", "metadata.uid")]);
    let pod = json!({
        "terminationGracePeriodSeconds": 5, "containers": [c], "topologySpreadConstraints": spread(app),
    });
    let mut out = workload(app, 3, pod);
    out["spec"]["serviceName"] = json!(app);
    out["spec"]["podManagementPolicy"] = json!(policy);
    out
}

/// With the collections that they are made in.
pub fn all(mark: &str) -> Vec<(&'static str, &'static str, Value)> {
    let mut each =
        workload("each", 0, json!({"terminationGracePeriodSeconds": 1, "containers": [container(SLEEP)]}));
    each["spec"].as_object_mut().expect("a spec").remove("replicas");
    let budget = json!({
        "metadata": {"name": "web"},
        "spec": {"minAvailable": BUDGET, "selector": {"matchLabels": {"app": "web"}}},
    });
    vec![
        ("apps/v1", "deployments", deployment("web", 4, None)),
        ("apps/v1", "deployments", deployment("big", 2, Some("700m"))),
        ("apps/v1", "statefulsets", stateful("db", mark, "OrderedReady")),
        ("apps/v1", "statefulsets", stateful("kv", mark, "Parallel")),
        ("apps/v1", "daemonsets", each),
        ("policy/v1", "poddisruptionbudgets", budget),
    ]
}

/// A job whose pods last a second.
pub fn job(name: &str, op: Op) -> Value {
    let Op::Job { indexed, completions, parallelism } = op else { panic!("no job: {op:?}") };
    let pod = json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "containers": [container("sleep 1")]});
    json!({"metadata": {"name": name}, "spec": {
        "completions": completions, "parallelism": parallelism, "backoffLimit": 50,
        "completionMode": if indexed { "Indexed" } else { "NonIndexed" },
        // One that has to go may still succeed: its successor waits.
        "podReplacementPolicy": "Failed",
        "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
    }})
}

/// The resource of a workload.
pub fn resource(app: &str) -> &'static str {
    match app {
        "web" | "big" => "deployments",
        "each" => "daemonsets",
        _ => "statefulsets",
    }
}
