//! What makes a pod of a StatefulSet that pod: its ordinal, name, labels, host name and claims. Pure.

use api::Object;
use api::resource::STATEFUL_SETS;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::pods::Pod;
use crate::template;

pub const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
pub const POD_INDEX: &str = "apps.kubernetes.io/pod-index";
pub const REVISION: &str = "controller-revision-hash";

#[derive(Deserialize)]
pub struct View {
    #[serde(default)]
    pub metadata: Annotated,
    pub spec: Spec,
    #[serde(default)]
    pub status: Value,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Annotated {
    pub annotations: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    #[serde(default)]
    pub replicas: Option<i64>,
    #[serde(default)]
    pub selector: Value,
    #[serde(default)]
    pub template: Value,
    #[serde(default)]
    pub service_name: String,
    #[serde(default)]
    pub pod_management_policy: String,
    #[serde(default)]
    pub update_strategy: Value,
    #[serde(default)]
    pub min_ready_seconds: i64,
    #[serde(default)]
    pub revision_history_limit: Option<i64>,
    #[serde(default)]
    pub volume_claim_templates: Vec<Value>,
    #[serde(default)]
    pub persistent_volume_claim_retention_policy: Option<Retention>,
    #[serde(default)]
    pub ordinals: Option<Ordinals>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Retention {
    pub when_deleted: String,
    pub when_scaled: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Ordinals {
    pub start: i64,
}

impl Spec {
    pub fn start(&self) -> i64 {
        self.ordinals.as_ref().map_or(0, |o| o.start)
    }
    pub fn replicas(&self) -> i64 {
        self.replicas.unwrap_or(1)
    }
    pub fn wants(&self, ordinal: i64) -> bool {
        ordinal >= self.start() && ordinal < self.start() + self.replicas()
    }
}

/// The ordinal of a pod by its name, when the name is one of this set.
pub fn ordinal(set: &str, pod: &str) -> Option<i64> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<i32>().ok().map(i64::from)
}

pub fn pod_name(set: &str, ordinal: i64) -> String {
    format!("{set}-{ordinal}")
}

/// Names of claim templates and of the claims that stand for them.
pub fn claims(set: &str, spec: &Spec, ordinal: i64) -> Vec<(String, String)> {
    let name = |t: &Value| t["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    spec.volume_claim_templates.iter().map(|t| (name(t), format!("{}-{set}-{ordinal}", name(t)))).collect()
}

/// The claims themselves, as they are made.
pub fn claim_bodies(set: &Object, spec: &Spec, ordinal: i64) -> Vec<Value> {
    let selected = spec.selector["matchLabels"].as_object().cloned().unwrap_or_default();
    let named = claims(set.name(), spec, ordinal);
    let body = |(t, (_, name)): (&Value, (String, String))| {
        let mut labels = t["metadata"]["labels"].as_object().cloned().unwrap_or_default();
        labels.extend(selected.clone());
        json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": { "name": name, "namespace": set.namespace(), "labels": labels,
                "annotations": t["metadata"]["annotations"] },
            "spec": t["spec"] })
    };
    spec.volume_claim_templates.iter().zip(named).map(body).collect()
}

/// The labels by which a pod of the set is found.
fn labels(name: &str, ordinal: i64) -> [(&'static str, String); 2] {
    [(POD_NAME, name.to_owned()), (POD_INDEX, ordinal.to_string())]
}

/// The pod of an ordinal, from the template of a revision.
pub fn pod(set: &Object, spec: &Spec, template: &Value, revision: &str, ordinal: i64) -> Value {
    let name = pod_name(set.name(), ordinal);
    let mut all = template["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    all.extend(labels(&name, ordinal).map(|(k, v)| (k.to_owned(), json!(v))));
    all.insert(REVISION.into(), json!(revision));
    let mut pod = template::named_pod(template, &STATEFUL_SETS, set, json!({ "name": name, "labels": all }));
    let claims = claims(set.name(), spec, ordinal);
    let mut volumes: Vec<Value> = claims
        .iter()
        .map(|(volume, claim)| json!({ "name": volume, "persistentVolumeClaim": { "claimName": claim } }))
        .collect();
    let own = template["spec"]["volumes"].as_array().into_iter().flatten();
    volumes.extend(own.filter(|v| !claims.iter().any(|(n, _)| v["name"] == n.as_str())).cloned());
    pod["spec"]["hostname"] = json!(name);
    pod["spec"]["subdomain"] = json!(spec.service_name);
    pod["spec"]["volumes"] = json!(volumes);
    pod
}

/// The labels that a pod of the set lacks.
pub fn missing_labels(pod: &Pod, ordinal: i64) -> Map<String, Value> {
    let have = &pod.object.meta().labels;
    let want = labels(pod.object.name(), ordinal);
    want.into_iter()
        .filter(|(k, v)| have.get(k) != Some(v.as_str()))
        .map(|(k, v)| (k.to_owned(), json!(v)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_stand_in_the_name() {
        for (set, pod, want) in [
            ("web", "web-0", Some(0)),
            ("web", "web-12", Some(12)),
            ("web", "web-", None),
            ("web", "web-x", None),
            ("web", "web-+1", None),
            ("web", "web-1-2", None),
            ("web-1", "web-1-2", Some(2)),
            ("web", "other-1", None),
            ("web", "web-99999999999", None),
        ] {
            assert_eq!(ordinal(set, pod), want, "{pod} of {set}");
        }
    }

    #[test]
    fn a_pod_has_its_name_host_claims_and_labels() {
        let set = Object::from_value(json!({"metadata": {"name": "web", "namespace": "d", "uid": "u"}}), 1)
            .expect("set");
        let spec: Spec = serde_json::from_value(json!({"serviceName": "svc", "selector": {"matchLabels": {"app": "w"}},
            "volumeClaimTemplates": [{"metadata": {"name": "data", "labels": {"x": "y"}}, "spec": {"accessModes": ["ReadWriteOnce"]}}]}))
        .expect("spec");
        let t = json!({"metadata": {"labels": {"app": "w"}}, "spec": {"containers": [],
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "other", "emptyDir": {}}]}});
        let p = pod(&set, &spec, &t, "web-abc", 3);
        assert_eq!(p["metadata"]["name"], "web-3");
        assert_eq!(
            p["metadata"]["labels"],
            json!({"app": "w", POD_NAME: "web-3", POD_INDEX: "3", REVISION: "web-abc"})
        );
        assert_eq!((&p["spec"]["hostname"], &p["spec"]["subdomain"]), (&json!("web-3"), &json!("svc")));
        assert_eq!(
            p["spec"]["volumes"],
            json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-web-3"}},
            {"name": "other", "emptyDir": {}}])
        );
        let c = claim_bodies(&set, &spec, 3);
        assert_eq!(c[0]["metadata"]["name"], "data-web-3");
        assert_eq!(c[0]["metadata"]["labels"], json!({"app": "w", "x": "y"}));
    }
}
