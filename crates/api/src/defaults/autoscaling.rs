//! Defaults of the autoscaling group.

use serde_json::{Value, json};

use super::{Fields, ensure, get, plain, pointer};

pub(super) fn apply(version: &str, kind: &str, o: &mut Fields) {
    if kind != "HorizontalPodAutoscaler" {
        return;
    }
    let Some(s) = ensure(o, "spec") else { return };
    pointer(s, "minReplicas", 1);
    if version == "v1" {
        return;
    }
    plain(
        s,
        "metrics",
        json!([{"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 80}}}]),
    );
    let Some(b) = get(s, "behavior") else { return };
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    rules(b, "scaleUp", Some(0), json!([pods, percent.clone()]));
    rules(b, "scaleDown", None, json!([percent]));
}

fn rules(b: &mut Fields, key: &str, window: Option<i64>, policies: Value) {
    let Some(r) = ensure(b, key) else { return };
    pointer(r, "selectPolicy", "Max");
    if let Some(w) = window {
        pointer(r, "stabilizationWindowSeconds", w);
    }
    // An empty list is told, not filled.
    pointer(r, "policies", policies);
}
