//! autoscaling/v1 <-> v2 HorizontalPodAutoscaler. What v1 has no field for travels in upstream's annotations.

use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const ALL: [&str; 4] = [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR];

fn is_cpu(m: &Value) -> bool {
    m["type"] == "Resource" && m["resource"]["name"] == "cpu"
}

fn take_annotations(o: &mut Map<String, Value>) -> Vec<(&'static str, Value)> {
    let mut out = Vec::new();
    let Some(meta) = o.get_mut("metadata").and_then(Value::as_object_mut) else { return out };
    if let Some(a) = meta.get_mut("annotations").and_then(Value::as_object_mut) {
        for key in ALL {
            if let Some(v) =
                a.remove(key).as_ref().and_then(Value::as_str).and_then(|s| serde_json::from_str(s).ok())
            {
                out.push((key, v));
            }
        }
        if a.is_empty() {
            meta.remove("annotations");
        }
    }
    out
}

fn set_annotation(o: &mut Map<String, Value>, key: &str, v: &Value) {
    let meta = o.entry("metadata").or_insert_with(|| json!({}));
    if let Some(meta) = meta.as_object_mut()
        && let Some(a) = meta.entry("annotations").or_insert_with(|| json!({})).as_object_mut()
    {
        a.insert(key.to_string(), Value::String(v.to_string()));
    }
}

fn part<'a>(o: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    o.get_mut(key).and_then(Value::as_object_mut)
}

pub fn v1_to_v2(v: &mut Value) {
    let Some(o) = v.as_object_mut() else { return };
    let saved = take_annotations(o);
    let find = |key: &str| saved.iter().find(|(k, _)| *k == key).map(|(_, v)| v.clone());
    if let Some(spec) = part(o, "spec") {
        let mut metrics = Vec::new();
        if let Some(percent) = spec.remove("targetCPUUtilizationPercentage")
            && !percent.is_null()
        {
            metrics.push(json!({"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": percent}}}));
        }
        if let Some(Value::Array(other)) = find(METRICS) {
            metrics.extend(other);
        }
        if metrics.is_empty() {
            // v1 had this as an unspoken default; with the annotations at hand it can be said.
            metrics.push(json!({"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 80}}}));
        }
        spec.insert("metrics".into(), Value::Array(metrics));
        if let Some(b) = find(BEHAVIOR) {
            spec.insert("behavior".into(), b);
        }
    }
    let (current, conditions) = (find(CURRENT_METRICS), find(CONDITIONS));
    if current.is_some() || conditions.is_some() {
        o.entry("status").or_insert_with(|| json!({}));
    }
    if let Some(status) = part(o, "status") {
        let percent = status.remove("currentCPUUtilizationPercentage").filter(|p| !p.is_null());
        match (current, percent) {
            (Some(c), _) => {
                status.insert("currentMetrics".into(), c);
            }
            (None, Some(p)) => {
                let m = json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": p}}}]);
                status.insert("currentMetrics".into(), m);
            }
            _ => {}
        }
        if let Some(c) = conditions {
            status.insert("conditions".into(), c);
        }
    }
}

pub fn v2_to_v1(v: &mut Value) {
    let Some(o) = v.as_object_mut() else { return };
    take_annotations(o);
    let mut saved: Vec<(&str, Value)> = Vec::new();
    if let Some(spec) = part(o, "spec") {
        if let Some(Value::Array(metrics)) = spec.remove("metrics") {
            let percent = |m: &Value| m["resource"]["target"]["averageUtilization"].clone();
            if let Some(m) = metrics.iter().find(|m| is_cpu(m)).map(percent).filter(|p| !p.is_null()) {
                spec.insert("targetCPUUtilizationPercentage".into(), m);
            }
            let other: Vec<Value> =
                metrics.into_iter().filter(|m| !is_cpu(m) || percent(m).is_null()).collect();
            if !other.is_empty() {
                saved.push((METRICS, Value::Array(other)));
            }
        }
        if let Some(b) = spec.remove("behavior").filter(|b| !b.is_null()) {
            saved.push((BEHAVIOR, b));
        }
    }
    if let Some(status) = part(o, "status") {
        if let Some(Value::Array(current)) = status.remove("currentMetrics")
            && !current.is_empty()
        {
            let percent = |m: &Value| m["resource"]["current"]["averageUtilization"].clone();
            if let Some(p) = current.iter().filter(|m| is_cpu(m)).map(percent).find(|p| !p.is_null()) {
                status.insert("currentCPUUtilizationPercentage".into(), p);
            }
            saved.push((CURRENT_METRICS, Value::Array(current)));
        }
        if let Some(Value::Array(c)) = status.remove("conditions")
            && !c.is_empty()
        {
            saved.push((CONDITIONS, Value::Array(c)));
        }
    }
    for (key, v) in &saved {
        set_annotation(o, key, v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v2_survives_a_trip_through_v1() {
        let v2 = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 60}}},
                {"type": "Pods", "pods": {"metric": {"name": "rps"}}}],
            "behavior": {"scaleUp": {"selectPolicy": "Max"}}},
            "status": {"conditions": [{"type": "AbleToScale"}], "currentMetrics": [{"type": "Resource",
                "resource": {"name": "cpu", "current": {"averageUtilization": 10, "averageValue": "5m"}}}]}});
        let mut v = v2.clone();
        v2_to_v1(&mut v);
        assert_eq!(v["spec"]["targetCPUUtilizationPercentage"], 60);
        assert_eq!(v["status"]["currentCPUUtilizationPercentage"], 10);
        assert!(v["spec"].get("metrics").is_none() && v["metadata"]["annotations"][BEHAVIOR].is_string());
        v1_to_v2(&mut v);
        assert_eq!(v, v2);
    }

    #[test]
    fn v1_survives_a_trip_through_v2() {
        let v1 = json!({"metadata": {"annotations": {"a": "b"}},
            "spec": {"maxReplicas": 3, "minReplicas": 1, "targetCPUUtilizationPercentage": 70}});
        let mut v = v1.clone();
        v1_to_v2(&mut v);
        v2_to_v1(&mut v);
        assert_eq!(v, v1);
    }
}
