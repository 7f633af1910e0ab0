//! autoscaling/v1 Scale: what the `scale` subresource shows and takes.

use serde_json::{Value, json};

use crate::selector::LabelSelector;

/// The group and kind of an object that scales by `spec.replicas`, with the form of its selector.
pub fn scales(group: &str, kind: &str) -> bool {
    matches!(
        (group, kind),
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet") | ("", "ReplicationController")
    )
}

/// The Scale of a Deployment, ReplicaSet, StatefulSet or ReplicationController.
pub fn of_object(kind: &str, object: &Value) -> Value {
    let selector = &object["spec"]["selector"];
    let selector = match kind {
        "ReplicationController" => LabelSelector::from_map_value(selector).to_string(),
        _ => LabelSelector::from_value(selector).map(|s| s.to_string()).unwrap_or_default(),
    };
    let number = |part: &str| object[part]["replicas"].as_i64().unwrap_or(0);
    build(&object["metadata"], number("spec"), number("status"), &selector)
}

/// A Scale from its parts; custom resources name theirs by JSON path.
pub fn build(metadata: &Value, replicas: i64, current: i64, selector: &str) -> Value {
    let mut meta = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(v) = metadata.get(key) {
            meta[key] = v.clone();
        }
    }
    let mut v = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": meta, "spec": {},
        "status": {"replicas": current}});
    if replicas != 0 {
        v["spec"]["replicas"] = json!(replicas);
    }
    if !selector.is_empty() {
        v["status"]["selector"] = json!(selector);
    }
    v
}

/// The replicas that a decoded Scale asks for; absent is zero, as in Go.
pub fn wanted(scale: &Value) -> i64 {
    scale["spec"]["replicas"].as_i64().unwrap_or(0)
}

/// Writes the replicas of a Scale into the object.
pub fn apply(scale: &Value, object: &mut Value) {
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("replicas".into(), json!(wanted(scale)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_shows_and_sets_replicas() {
        let mut d = json!({"metadata": {"name": "a", "namespace": "n", "uid": "u", "labels": {"x": "y"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "a"}}}, "status": {"replicas": 2}});
        let s = of_object("Deployment", &d);
        assert_eq!(s["status"], json!({"replicas": 2, "selector": "app=a"}));
        assert_eq!(s["metadata"], json!({"name": "a", "namespace": "n", "uid": "u"}));
        assert_eq!(wanted(&s), 3);
        apply(&json!({"spec": {"replicas": 5}}), &mut d);
        assert_eq!(d["spec"]["replicas"], 5);
        let rc = json!({"spec": {"selector": {"b": "c"}}});
        assert_eq!(of_object("ReplicationController", &rc)["status"]["selector"], "b=c");
    }
}
