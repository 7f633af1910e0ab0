//! What a kubelet may do: its own node, lease and CSINode, pods bound to it, and what those pods refer to. Everything
//! that is not subdivided by node follows the rules of the role `system:node`.
//!
//! `node_graph.rs` knows what a node's pods refer to. A miss there asks the store once more, because a kubelet may come
//! sooner than the watch event.

use api::Status;
use serde::Deserialize;

use super::node_graph::{Kind, NodeGraph, read_pod, refers};
use super::rules::Rule;
use super::{Attributes, Decision};
use crate::Reader;

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
            // The way back to its own kubelet, which the handler gives to it alone.
            if a.path == crate::streaming::TUNNEL_PATH && a.verb == "get" {
                return Decision::Allow(String::new());
            }
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
            ("resource.k8s.io", "resourceclaims") => {
                self.gettable(node, Kind::ResourceClaim, a, reader).await
            }
            ("", "persistentvolumes") => match gettable(a) {
                Err(why) => no(why),
                Ok(()) => match self.volume_of_node(node, a.name, reader).await {
                    Ok(true) => Decision::Allow(String::new()),
                    _ => Decision::NoOpinion(unrelated(node)),
                },
            },
            ("storage.k8s.io", "volumeattachments") => match gettable(a) {
                Err(why) => no(why),
                Ok(()) => of_node(node, a, reader).await,
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
            ("certificates.k8s.io", "podcertificaterequests") => certificate_request(node, a, reader).await,
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
        let Some(claim) = pv.view::<VolumeView>().ok().and_then(|v| v.spec.claim_ref) else {
            return Ok(false);
        };
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
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => {
            Decision::Allow(String::new())
        }
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
        "get" | "update" | "patch" | "delete" => of_node(node, a, reader).await,
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

async fn certificate_request(node: &str, a: &Attributes<'_>, reader: &dyn Reader) -> Decision {
    let no = |why: &str| Decision::NoOpinion(why.to_owned());
    if !a.subresource.is_empty() {
        return no("nodes may not access the status subresource of PodCertificateRequests");
    }
    match a.verb {
        // Admission keeps these to the node's own pods.
        "create" => Decision::Allow(String::new()),
        "get" => of_node(node, a, reader).await,
        "list" | "watch" if selects(a.field_selector, "spec.nodeName", node) => {
            Decision::Allow(String::new())
        }
        "list" | "watch" => no("can only list/watch podcertificaterequests with nodeName field selector"),
        verb => Decision::NoOpinion(format!("nodes may not {verb} podcertificaterequests")),
    }
}

/// Whether the object names the node as its own.
async fn of_node(node: &str, a: &Attributes<'_>, reader: &dyn Reader) -> Decision {
    let found = reader.get(a.group, a.resource, a.namespace, a.name).await.ok().flatten();
    if found.and_then(|o| o.value().ok()).is_some_and(|v| v["spec"]["nodeName"] == node) {
        return Decision::Allow(String::new());
    }
    Decision::NoOpinion(unrelated(node))
}

async fn volume_uses_secret(
    claim_ns: &str,
    claim: &str,
    namespace: &str,
    name: &str,
    reader: &dyn Reader,
) -> Result<bool, Status> {
    let Some(pvc) = reader.get("", "persistentvolumeclaims", claim_ns, claim).await? else {
        return Ok(false);
    };
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

    #[test]
    fn selectors() {
        assert!(selects("spec.nodeName=n1", "spec.nodeName", "n1"));
        assert!(selects("status.phase!=Failed,spec.nodeName==n1", "spec.nodeName", "n1"));
        assert!(!selects("spec.nodeName!=n1", "spec.nodeName", "n1"));
        assert!(!selects("", "spec.nodeName", "n1"));
    }
}
