//! Per node, the names that its pods refer to: the node authorizer's memory, fed by `watch.rs`. Pure.

use std::collections::{BTreeSet, HashMap};

use api::Object;
use serde::Deserialize;

use super::rules::nullable;

/// What a pod refers to, by name in its namespace.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct References {
    pub service_account: String,
    pub secrets: BTreeSet<String>,
    pub config_maps: BTreeSet<String>,
    pub claims: BTreeSet<String>,
    pub resource_claims: BTreeSet<String>,
}

impl References {
    fn names(&self, kind: Kind) -> Option<&BTreeSet<String>> {
        match kind {
            Kind::Secret => Some(&self.secrets),
            Kind::ConfigMap => Some(&self.config_maps),
            Kind::Claim => Some(&self.claims),
            Kind::ResourceClaim => Some(&self.resource_claims),
            Kind::Pod | Kind::ServiceAccount => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Secret,
    ConfigMap,
    Claim,
    ResourceClaim,
    ServiceAccount,
    Pod,
}

type PodKey = (String, String);

/// Pods bound to nodes.
#[derive(Debug, Default)]
pub struct NodeGraph {
    nodes: HashMap<String, HashMap<PodKey, References>>,
    /// Where each pod is, to move it.
    pods: HashMap<PodKey, String>,
}

impl NodeGraph {
    pub fn put(&mut self, pod: &Object) {
        self.remove(pod.namespace(), pod.name());
        let Some((node, refs)) = read_pod(pod) else { return };
        let key = (pod.namespace().to_owned(), pod.name().to_owned());
        self.nodes.entry(node.clone()).or_default().insert(key.clone(), refs);
        self.pods.insert(key, node);
    }
    pub fn remove(&mut self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(node) = self.pods.remove(&key)
            && let Some(pods) = self.nodes.get_mut(&node)
        {
            pods.remove(&key);
            if pods.is_empty() {
                self.nodes.remove(&node);
            }
        }
    }
    pub fn clear(&mut self) {
        *self = Self::default();
    }
    pub fn relates(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let Some(pods) = self.nodes.get(node) else { return false };
        pods.iter().any(|((ns, pod), refs)| ns == namespace && refers(pod, refs, kind, name))
    }
    /// The claims of a node's pods, as namespace and name.
    pub(super) fn claims(&self, node: &str) -> Vec<(String, String)> {
        let pods = self.nodes.get(node).into_iter().flatten();
        pods.flat_map(|((ns, _), r)| r.claims.iter().map(|c| (ns.clone(), c.clone()))).collect()
    }
}

pub(super) fn refers(pod: &str, refs: &References, kind: Kind, name: &str) -> bool {
    match kind {
        Kind::Pod => pod == name,
        Kind::ServiceAccount => refs.service_account == name,
        other => refs.names(other).is_some_and(|s| s.contains(name)),
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Name {
    name: String,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ValueFrom {
    secret_key_ref: Option<Name>,
    config_map_key_ref: Option<Name>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Env {
    value_from: Option<ValueFrom>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct EnvFrom {
    secret_ref: Option<Name>,
    config_map_ref: Option<Name>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    #[serde(deserialize_with = "nullable")]
    env: Vec<Env>,
    #[serde(deserialize_with = "nullable")]
    env_from: Vec<EnvFrom>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SecretVolume {
    secret_name: String,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ClaimVolume {
    claim_name: String,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Source {
    secret: Option<Name>,
    config_map: Option<Name>,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct Projected {
    #[serde(deserialize_with = "nullable")]
    sources: Vec<Source>,
}
/// Any volume source that names a secret for its driver.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Driver {
    secret_ref: Option<Name>,
    node_publish_secret_ref: Option<Name>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Volume {
    name: String,
    secret: Option<SecretVolume>,
    config_map: Option<Name>,
    projected: Option<Projected>,
    persistent_volume_claim: Option<ClaimVolume>,
    ephemeral: Option<serde::de::IgnoredAny>,
    csi: Option<Driver>,
    flex_volume: Option<Driver>,
    cephfs: Option<Driver>,
    rbd: Option<Driver>,
    iscsi: Option<Driver>,
    scale_io: Option<Driver>,
    storageos: Option<Driver>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ResourceClaim {
    resource_claim_name: Option<String>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: String,
    service_account_name: String,
    #[serde(deserialize_with = "nullable")]
    image_pull_secrets: Vec<Name>,
    #[serde(deserialize_with = "nullable")]
    volumes: Vec<Volume>,
    #[serde(deserialize_with = "nullable")]
    containers: Vec<Container>,
    #[serde(deserialize_with = "nullable")]
    init_containers: Vec<Container>,
    #[serde(deserialize_with = "nullable")]
    ephemeral_containers: Vec<Container>,
    #[serde(deserialize_with = "nullable")]
    resource_claims: Vec<ResourceClaim>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    #[serde(deserialize_with = "nullable")]
    resource_claim_statuses: Vec<ResourceClaim>,
}
#[derive(Deserialize)]
struct PodView {
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: PodStatus,
}

/// The node of a bound pod, and what the pod refers to.
pub(super) fn read_pod(o: &Object) -> Option<(String, References)> {
    let pod: PodView = o.view().ok()?;
    let spec = pod.spec;
    if spec.node_name.is_empty() {
        return None;
    }
    let mut r = References { service_account: spec.service_account_name, ..References::default() };
    r.secrets.extend(spec.image_pull_secrets.into_iter().map(|n| n.name));
    for c in spec.containers.into_iter().chain(spec.init_containers).chain(spec.ephemeral_containers) {
        for f in c.env.into_iter().filter_map(|e| e.value_from) {
            r.secrets.extend(f.secret_key_ref.map(|n| n.name));
            r.config_maps.extend(f.config_map_key_ref.map(|n| n.name));
        }
        for f in c.env_from {
            r.secrets.extend(f.secret_ref.map(|n| n.name));
            r.config_maps.extend(f.config_map_ref.map(|n| n.name));
        }
    }
    for v in spec.volumes {
        r.secrets.extend(v.secret.map(|s| s.secret_name));
        r.config_maps.extend(v.config_map.map(|n| n.name));
        r.claims.extend(v.persistent_volume_claim.map(|c| c.claim_name));
        if v.ephemeral.is_some() {
            r.claims.insert(format!("{}-{}", o.name(), v.name));
        }
        for s in v.projected.into_iter().flat_map(|p| p.sources) {
            r.secrets.extend(s.secret.map(|n| n.name));
            r.config_maps.extend(s.config_map.map(|n| n.name));
        }
        for d in
            [v.csi, v.flex_volume, v.cephfs, v.rbd, v.iscsi, v.scale_io, v.storageos].into_iter().flatten()
        {
            r.secrets.extend(d.secret_ref.map(|n| n.name));
            r.secrets.extend(d.node_publish_secret_ref.map(|n| n.name));
        }
    }
    let claims = spec.resource_claims.into_iter().chain(pod.status.resource_claim_statuses);
    r.resource_claims.extend(claims.filter_map(|c| c.resource_claim_name));
    Some((spec.node_name, r))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_give_access_to_what_they_name() {
        let pod = json!({"metadata": {"name": "p", "namespace": "a"}, "spec": {"nodeName": "n1",
            "serviceAccountName": "sa", "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"env": [{"name": "x", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}}],
                "envFrom": [{"configMapRef": {"name": "all"}}]}],
            "volumes": [{"name": "s", "secret": {"secretName": "vol"}},
                {"name": "pr", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "e", "ephemeral": {}}]}});
        let mut g = NodeGraph::default();
        let o = Object::from_value(pod, 1).expect("object");
        g.put(&o);
        for (kind, name, want) in [
            (Kind::Secret, "pull", true),
            (Kind::Secret, "env", true),
            (Kind::Secret, "vol", true),
            (Kind::Secret, "other", false),
            (Kind::ConfigMap, "all", true),
            (Kind::ConfigMap, "kube-root-ca.crt", true),
            (Kind::Claim, "data", true),
            (Kind::Claim, "p-e", true),
            (Kind::ServiceAccount, "sa", true),
            (Kind::Pod, "p", true),
        ] {
            assert_eq!(g.relates("n1", kind, "a", name), want, "{kind:?} {name}");
            assert!(!g.relates("n2", kind, "a", name));
            assert!(!g.relates("n1", kind, "b", name));
        }
        g.remove("a", "p");
        assert!(!g.relates("n1", Kind::Pod, "a", "p"));
    }
}
