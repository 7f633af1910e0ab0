//! What a kubelet may do: its own node, lease and CSINode, pods bound to it, and what those pods refer to. Everything
//! that is not subdivided by node follows the rules of the role `system:node`.
//!
//! The graph holds, per node, the names its pods refer to; `watch.rs` feeds it. A miss asks the store once more, because
//! a kubelet may come sooner than the watch event.

use std::collections::{BTreeSet, HashMap};

use api::{Object, Status};
use serde::Deserialize;

use super::rules::{Rule, nullable};
use super::{Attributes, Decision};
use crate::Reader;

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
    fn claims(&self, node: &str) -> Vec<(String, String)> {
        let pods = self.nodes.get(node).into_iter().flatten();
        pods.flat_map(|((ns, _), r)| r.claims.iter().map(|c| (ns.clone(), c.clone()))).collect()
    }
}

fn refers(pod: &str, refs: &References, kind: Kind, name: &str) -> bool {
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
fn read_pod(o: &Object) -> Option<(String, References)> {
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
        for d in [v.csi, v.flex_volume, v.cephfs, v.rbd, v.iscsi, v.scale_io, v.storageos].into_iter().flatten() {
            r.secrets.extend(d.secret_ref.map(|n| n.name));
            r.secrets.extend(d.node_publish_secret_ref.map(|n| n.name));
        }
    }
    let claims = spec.resource_claims.into_iter().chain(pod.status.resource_claim_statuses);
    r.resource_claims.extend(claims.filter_map(|c| c.resource_claim_name));
    Some((spec.node_name, r))
}

/// Judges requests of nodes.
pub struct NodeAuthorizer {
    graph: parking_lot::RwLock<NodeGraph>,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct VolumeView {
    spec: VolumeSpec,
}
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeSpec {
    #[serde(default)]
    claim_ref: Option<ClaimRef>,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct ClaimRef {
    namespace: String,
    name: String,
}

impl NodeAuthorizer {
    /// `rules`: those of the role `system:node`.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { graph: parking_lot::RwLock::new(NodeGraph::default()), rules }
    }

    pub fn graph(&self) -> &parking_lot::RwLock<NodeGraph> {
        &self.graph
    }

    pub async fn authorize(&self, node: &str, a: &Attributes<'_>, reader: &dyn Reader) -> Decision {
        let no = |why: &str| Decision::NoOpinion(why.to_owned());
        let allow_if = |ok: bool, why: &str| if ok { Decision::Allow(String::new()) } else { no(why) };
        if !a.is_resource {
            return allow_if(self.rules.iter().any(|r| r.allows(a)), "");
        }
        match (a.group, a.resource) {
            ("", "secrets") => self.readable(node, Kind::Secret, a, reader).await,
            ("", "configmaps") => self.readable(node, Kind::ConfigMap, a, reader).await,
            ("", "persistentvolumeclaims") if a.subresource == "status" => match a.verb {
                "update" | "patch" => self.related(node, Kind::Claim, a, reader).await,
                _ => no("can only get/update/patch this type"),
            },
            ("", "persistentvolumeclaims") => self.gettable(node, Kind::Claim, a, reader).await,
            ("resource.k8s.io", "resourceclaims") => self.gettable(node, Kind::ResourceClaim, a, reader).await,
            ("", "persistentvolumes") => match gettable(a) {
                Err(why) => no(why),
                Ok(()) => match self.volume_of_node(node, a.name, reader).await {
                    Ok(true) => Decision::Allow(String::new()),
                    _ => Decision::NoOpinion(unrelated(node)),
                },
            },
            ("storage.k8s.io", "volumeattachments") => match gettable(a) {
                Err(why) => no(why),
                Ok(()) => match attachment_of_node(node, a.name, reader).await {
                    Ok(true) => Decision::Allow(String::new()),
                    _ => Decision::NoOpinion(unrelated(node)),
                },
            },
            ("", "serviceaccounts") if a.subresource.is_empty() && a.verb == "get" => {
                self.related(node, Kind::ServiceAccount, a, reader).await
            }
            ("", "serviceaccounts") => {
                if a.verb != "create" || a.name.is_empty() {
                    return no("can only create tokens for individual service accounts");
                }
                if a.subresource != "token" {
                    return no("can only create token subresource of serviceaccount");
                }
                self.related(node, Kind::ServiceAccount, a, reader).await
            }
            ("coordination.k8s.io", "leases") => {
                if !matches!(a.verb, "get" | "create" | "update" | "patch" | "delete") {
                    return no("can only get, create, update, patch, or delete a node lease");
                }
                if a.namespace != "kube-node-lease" {
                    return no("can only access leases in the \"kube-node-lease\" system namespace");
                }
                allow_if(
                    a.verb == "create" || a.name == node,
                    "can only access node lease with the same name as the requesting node",
                )
            }
            ("storage.k8s.io", "csinodes") => {
                if !matches!(a.verb, "get" | "create" | "update" | "patch" | "delete") {
                    return no("can only get, create, update, patch, or delete a CSINode");
                }
                if !a.subresource.is_empty() {
                    return no("cannot authorize CSINode subresources");
                }
                allow_if(
                    a.verb == "create" || a.name == node,
                    "can only access CSINode with the same name as the requesting node",
                )
            }
            ("resource.k8s.io", "resourceslices") => slice(node, a, reader).await,
            ("", "nodes") => node_object(node, a),
            ("", "pods") => self.pod(node, a, reader).await,
            _ => allow_if(self.rules.iter().any(|r| r.allows(a)), ""),
        }
    }

    async fn readable(&self, node: &str, kind: Kind, a: &Attributes<'_>, reader: &dyn Reader) -> Decision {
        let no = |why: &str| Decision::NoOpinion(why.to_owned());
        if !matches!(a.verb, "get" | "list" | "watch") {
            return no("can only read resources of this type");
        }
        if !a.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if a.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.related(node, kind, a, reader).await
    }

    async fn gettable(&self, node: &str, kind: Kind, a: &Attributes<'_>, reader: &dyn Reader) -> Decision {
        match gettable(a) {
            Err(why) => Decision::NoOpinion(why.to_owned()),
            Ok(()) => self.related(node, kind, a, reader).await,
        }
    }

    async fn related(&self, node: &str, kind: Kind, a: &Attributes<'_>, reader: &dyn Reader) -> Decision {
        if a.name.is_empty() {
            return Decision::NoOpinion("No Object name found".into());
        }
        let known = self.graph.read().relates(node, kind, a.namespace, a.name);
        if known || matches!(self.relates_in_store(node, kind, a.namespace, a.name, reader).await, Ok(true)) {
            return Decision::Allow(String::new());
        }
        Decision::NoOpinion(unrelated(node))
    }

    /// The slow way: the namespace's pods as they stand in the store, and the secrets of a node's volumes.
    async fn relates_in_store(
        &self,
        node: &str,
        kind: Kind,
        namespace: &str,
        name: &str,
        reader: &dyn Reader,
    ) -> Result<bool, Status> {
        if kind == Kind::Pod {
            let pod = reader.get("", "pods", namespace, name).await?;
            return Ok(pod.as_ref().and_then(read_pod).is_some_and(|(n, _)| n == node));
        }
        for pod in reader.list("", "pods", namespace).await? {
            if read_pod(&pod).is_some_and(|(n, refs)| n == node && refers(pod.name(), &refs, kind, name)) {
                return Ok(true);
            }
        }
        if kind == Kind::Secret {
            let claims = self.graph.read().claims(node);
            for (ns, claim) in claims {
                if volume_uses_secret(&ns, &claim, namespace, name, reader).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    async fn volume_of_node(&self, node: &str, name: &str, reader: &dyn Reader) -> Result<bool, Status> {
        let Some(pv) = reader.get("", "persistentvolumes", "", name).await? else { return Ok(false) };
        let Some(claim) = pv.view::<VolumeView>().ok().and_then(|v| v.spec.claim_ref) else { return Ok(false) };
        let known = self.graph.read().relates(node, Kind::Claim, &claim.namespace, &claim.name);
        if known {
            return Ok(true);
        }
        self.relates_in_store(node, Kind::Claim, &claim.namespace, &claim.name, reader).await
    }

    async fn pod(&self, node: &str, a: &Attributes<'_>, reader: &dyn Reader) -> Decision {
        let allow = Decision::Allow(String::new());
        match (a.subresource, a.verb) {
            ("", "get") => self.gettable(node, Kind::Pod, a, reader).await,
            ("", "list" | "watch") => {
                if selects(a.field_selector, "spec.nodeName", node) {
                    return allow;
                }
                if !a.name.is_empty() {
                    return self.related(node, Kind::Pod, a, reader).await;
                }
                Decision::NoOpinion("can only list/watch pods with spec.nodeName field selector".into())
            }
            // Admission (NodeRestriction) keeps these to the node's own pods.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => allow,
            _ => Decision::NoOpinion(String::new()),
        }
    }
}

fn gettable(a: &Attributes<'_>) -> Result<(), &'static str> {
    if a.verb != "get" {
        return Err("can only get individual resources of this type");
    }
    if !a.subresource.is_empty() {
        return Err("cannot get subresource");
    }
    Ok(())
}

fn unrelated(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
}

fn node_object(node: &str, a: &Attributes<'_>) -> Decision {
    match (a.subresource, a.verb) {
        // Admission keeps writes to the node's own object.
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Decision::Allow(String::new()),
        ("", "get" | "list" | "watch") if a.name == node => Decision::Allow(String::new()),
        ("", "get" | "list" | "watch") if a.name.is_empty() => {
            Decision::NoOpinion(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch") => {
            Decision::NoOpinion(format!("node '{node}' cannot read '{}', only its own Node object", a.name))
        }
        _ => Decision::NoOpinion(String::new()),
    }
}

async fn slice(node: &str, a: &Attributes<'_>, reader: &dyn Reader) -> Decision {
    if !a.subresource.is_empty() {
        return Decision::NoOpinion("cannot authorize ResourceSlice subresources".into());
    }
    match a.verb {
        "create" => Decision::Allow(String::new()),
        "get" | "update" | "patch" | "delete" => {
            let found = reader.get("resource.k8s.io", "resourceslices", "", a.name).await.ok().flatten();
            let owner = found.and_then(|o| o.value().ok()).and_then(|v| v["spec"]["nodeName"].as_str().map(str::to_owned));
            if owner.as_deref() == Some(node) {
                return Decision::Allow(String::new());
            }
            Decision::NoOpinion(unrelated(node))
        }
        "watch" | "list" | "deletecollection" if selects(a.field_selector, "spec.nodeName", node) => {
            Decision::Allow(String::new())
        }
        "watch" | "list" | "deletecollection" => Decision::NoOpinion(
            "can only list/watch/deletecollection resourceslices with nodeName field selector".into(),
        ),
        _ => Decision::NoOpinion(
            "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, \
             deletecollection"
                .into(),
        ),
    }
}

async fn attachment_of_node(node: &str, name: &str, reader: &dyn Reader) -> Result<bool, Status> {
    let o = reader.get("storage.k8s.io", "volumeattachments", "", name).await?;
    Ok(o.and_then(|o| o.value().ok()).is_some_and(|v| v["spec"]["nodeName"] == node))
}

async fn volume_uses_secret(
    claim_ns: &str,
    claim: &str,
    namespace: &str,
    name: &str,
    reader: &dyn Reader,
) -> Result<bool, Status> {
    let Some(pvc) = reader.get("", "persistentvolumeclaims", claim_ns, claim).await? else { return Ok(false) };
    let Ok(pvc) = pvc.value() else { return Ok(false) };
    let Some(pv) = pvc["spec"]["volumeName"].as_str() else { return Ok(false) };
    let Some(pv) = reader.get("", "persistentvolumes", "", pv).await? else { return Ok(false) };
    let Ok(pv) = pv.value() else { return Ok(false) };
    let Some(spec) = pv["spec"].as_object() else { return Ok(false) };
    Ok(spec.values().any(|source| {
        ["secretRef", "nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"].iter().any(|f| {
            let r = &source[*f];
            r["name"] == name && r["namespace"].as_str().unwrap_or(claim_ns) == namespace
        })
    }))
}

/// Whether a field selector demands `field=value`.
fn selects(selector: &str, field: &str, value: &str) -> bool {
    selector.split(',').any(|term| {
        !term.contains("!=")
            && term
                .split_once("==")
                .or_else(|| term.split_once('='))
                .is_some_and(|(k, v)| k.trim() == field && v.trim() == value)
    })
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

    #[test]
    fn selectors() {
        assert!(selects("spec.nodeName=n1", "spec.nodeName", "n1"));
        assert!(selects("status.phase!=Failed,spec.nodeName==n1", "spec.nodeName", "n1"));
        assert!(!selects("spec.nodeName!=n1", "spec.nodeName", "n1"));
        assert!(!selects("", "spec.nodeName", "n1"));
    }
}
