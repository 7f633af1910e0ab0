//! NodeRestriction: a kubelet writes its own node, lease and CSINode, the status of its own pods, mirror pods of its
//! own, and asks for tokens of pods that run on it.

use api::{Object, Reason, Status};
use async_trait::async_trait;
use serde_json::Value;

use super::json::{containers, items, text};
use super::{Context, Operation, Plugin, Request};
use crate::authz::Attributes;
use crate::user::NODES_GROUP;

const MIRROR: &str = "kubernetes.io/config.mirror";
/// Labels in Kubernetes' own domains that a kubelet may set on itself.
const OWN_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];

pub struct NodeRestriction;

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, r: &Request<'_>) -> bool {
        r.operation != Operation::Connect && r.user.in_group(NODES_GROUP)
    }

    async fn admit(&self, cx: &Context, r: &mut Request<'_>) -> Result<(), Status> {
        let Some(node) = r.user.node() else {
            return Err(r.forbidden(format!("could not determine node from user {:?}", r.user.name)));
        };
        let checked = match (r.group, r.resource) {
            ("", "pods") => match r.subresource {
                "" => pod(cx, node, r).await?,
                "status" => pod_status(node, r),
                "eviction" => eviction(cx, node, r).await?,
                s => {
                    Err(format!("unexpected pod subresource {s:?}, only 'status' and 'eviction' are allowed"))
                }
            },
            ("", "nodes") => node_object(node, r),
            ("", "persistentvolumeclaims") if r.subresource == "status" => claim_status(node, r),
            ("", "persistentvolumeclaims") => Err("may only update PVC status".into()),
            ("", "serviceaccounts") => token(cx, node, r).await?,
            ("certificates.k8s.io", "podcertificaterequests") => certificate_request(cx, node, r).await?,
            ("coordination.k8s.io", "leases") => {
                if r.namespace != "kube-node-lease" {
                    Err("can only access leases in the \"kube-node-lease\" system namespace".into())
                } else {
                    same_name(node, r, "can only access node lease with the same name as the requesting node")
                }
            }
            ("storage.k8s.io", "csinodes") => {
                same_name(node, r, "can only access CSINode with the same name as the requesting node")
            }
            ("resource.k8s.io", "resourceslices") => {
                let owner = |v: &Value| text(&v["spec"], "nodeName") == node;
                let mine =
                    if r.operation == Operation::Delete { r.old.is_none_or(owner) } else { owner(&r.object) };
                if mine {
                    Ok(())
                } else {
                    Err(format!("can only access ResourceSlice with the node name {node:?}"))
                }
            }
            _ => Ok(()),
        };
        checked.map_err(|why| r.forbidden(why))
    }
}

/// `Err` inside: refused, in these words. `Err` outside: something else went wrong.
type Judged = Result<Result<(), String>, Status>;

async fn find_pod(cx: &Context, r: &Request<'_>, name: &str) -> Result<Object, Status> {
    cx.reader.get("", "pods", r.namespace, name).await?.ok_or_else(|| Status::not_found("", "pods", name))
}

fn node_of(pod: &Object) -> String {
    pod.value().ok().and_then(|v| v["spec"]["nodeName"].as_str().map(str::to_owned)).unwrap_or_default()
}

fn same_name(node: &str, r: &Request<'_>, why: &str) -> Result<(), String> {
    if r.object_name() == node || r.operation == Operation::Delete && r.name == node {
        Ok(())
    } else {
        Err(why.into())
    }
}

async fn pod(cx: &Context, node: &str, r: &Request<'_>) -> Judged {
    match r.operation {
        Operation::Create => mirror_pod(cx, node, r).await,
        Operation::Delete => {
            let found = find_pod(cx, r, r.name).await?;
            Ok(if node_of(&found) == node {
                Ok(())
            } else {
                Err(format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
            })
        }
        op => Ok(Err(format!(
            "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
            op.as_str()
        ))),
    }
}

async fn mirror_pod(cx: &Context, node: &str, r: &Request<'_>) -> Judged {
    let (meta, spec) = (&r.object["metadata"], &r.object["spec"]);
    let no = |why: String| Ok(Err(why));
    if meta["annotations"][MIRROR].is_null() {
        return no(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if text(spec, "nodeName") != node {
        return no(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let owner = match items(meta, "ownerReferences") {
        [one] => one,
        [] => return no(format!("node {node:?} can only create pods with an owner reference set to itself")),
        _ => {
            return no(format!(
                "node {node:?} can only create pods with a single owner reference set to itself"
            ));
        }
    };
    if text(owner, "apiVersion") != "v1" || text(owner, "kind") != "Node" || text(owner, "name") != node {
        return no(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if owner["controller"] != true {
        return no(format!(
            "node {node:?} can only create pods with a controller owner reference set to itself"
        ));
    }
    if owner["blockOwnerDeletion"] == true {
        return no(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    let found =
        cx.reader.get("", "nodes", "", node).await?.ok_or_else(|| Status::not_found("", "nodes", node))?;
    if text(owner, "uid") != found.uid() {
        return no(format!("node {node} UID mismatch: expected {} got {}", text(owner, "uid"), found.uid()));
    }
    Ok(match refers_to(spec) {
        Some(what) => Err(format!("node {node:?} can not create pods that reference {what}")),
        None => Ok(()),
    })
}

fn refers_to(spec: &Value) -> Option<&'static str> {
    if !text(spec, "serviceAccountName").is_empty() {
        return Some("a service account");
    }
    let env = |key: &str, all: &str| {
        containers(spec).any(|c| {
            items(c, "env").iter().any(|e| e["valueFrom"][key].is_object())
                || items(c, "envFrom").iter().any(|e| e[all].is_object())
        })
    };
    let volume = |kind: &str| {
        items(spec, "volumes").iter().any(|v| {
            v[kind].is_object() || items(&v["projected"], "sources").iter().any(|s| s[kind].is_object())
        })
    };
    if env("secretKeyRef", "secretRef") || volume("secret") || !items(spec, "imagePullSecrets").is_empty() {
        return Some("secrets");
    }
    if env("configMapKeyRef", "configMapRef") || volume("configMap") {
        return Some("configmaps");
    }
    if volume("clusterTrustBundle") {
        return Some("clustertrustbundles");
    }
    volume("persistentVolumeClaim").then_some("persistentvolumeclaims")
}

fn pod_status(node: &str, r: &Request<'_>) -> Result<(), String> {
    if r.operation != Operation::Update {
        return Err(format!("unexpected operation {:?}", r.operation.as_str()));
    }
    let Some(old) = r.old else { return Err("unexpected type nil".into()) };
    if text(&old["spec"], "nodeName") != node {
        return Err(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    let empty = |v: &Value| v.is_null() || v.as_object().is_some_and(serde_json::Map::is_empty);
    let (was, is) = (&old["metadata"]["labels"], &r.object["metadata"]["labels"]);
    if was != is && !(empty(was) && empty(is)) {
        return Err(format!("node {node:?} cannot update labels through pod status"));
    }
    if items(&old["status"], "resourceClaimStatuses") != items(&r.object["status"], "resourceClaimStatuses") {
        return Err(format!("node {node:?} cannot update resource claim statues"));
    }
    Ok(())
}

async fn eviction(cx: &Context, node: &str, r: &Request<'_>) -> Judged {
    if r.operation != Operation::Create {
        return Ok(Err(format!("unexpected operation {}", r.operation.as_str())));
    }
    let name = r.object_name();
    if name.is_empty() {
        return Ok(Err("could not determine pod from request data".into()));
    }
    let found = find_pod(cx, r, name).await?;
    Ok(if node_of(&found) == node {
        Ok(())
    } else {
        Err(format!("node {node} can only evict pods with spec.nodeName set to itself"))
    })
}

fn node_object(node: &str, r: &Request<'_>) -> Result<(), String> {
    let asked = r.object_name();
    let asked = if r.name.is_empty() { asked } else { r.name };
    if asked != node {
        return Err(format!("node {node:?} is not allowed to modify node {asked:?}"));
    }
    match (r.operation, r.old) {
        (Operation::Create, _) => {
            let bad = forbidden_labels(&r.object["metadata"]["labels"], &Value::Null);
            if !bad.is_empty() {
                return Err(format!(
                    "node {node:?} is not allowed to set the following labels: {}",
                    bad.join(", ")
                ));
            }
        }
        (Operation::Update, Some(old)) => {
            if items(&r.object["spec"], "taints") != items(&old["spec"], "taints") {
                return Err(format!("node {node:?} is not allowed to modify taints"));
            }
            let bad = forbidden_labels(&r.object["metadata"]["labels"], &old["metadata"]["labels"]);
            if !bad.is_empty() {
                return Err(format!("is not allowed to modify labels: {}", bad.join(", ")));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Changed labels that a kubelet has no say in, sorted.
fn forbidden_labels(new: &Value, old: &Value) -> Vec<String> {
    let mut keys: Vec<&String> =
        new.as_object().into_iter().chain(old.as_object()).flat_map(|m| m.keys()).collect();
    keys.sort();
    keys.dedup();
    let changed = keys.into_iter().filter(|k| new.get(k.as_str()) != old.get(k.as_str()));
    changed.filter(|k| !kubelet_may_set(k)).cloned().collect()
}

/// Whether a kubelet may set this label on its node.
pub fn kubelet_may_set(key: &str) -> bool {
    let within =
        |ns: &str, domain: &str| ns == domain || ns.strip_suffix(domain).is_some_and(|p| p.ends_with('.'));
    let Some((ns, _)) = key.split_once('/') else { return true };
    if within(ns, "node-restriction.kubernetes.io") {
        return false;
    }
    let ours = within(ns, "kubernetes.io") || within(ns, "k8s.io");
    !ours
        || OWN_LABELS.contains(&key)
        || within(ns, "kubelet.kubernetes.io")
        || within(ns, "node.kubernetes.io")
}

fn claim_status(node: &str, r: &Request<'_>) -> Result<(), String> {
    let (Operation::Update, Some(old)) = (r.operation, r.old) else {
        return Err(format!("unexpected operation {:?}", r.operation.as_str()));
    };
    let strip = |v: &Value| {
        let mut v = v.clone();
        if let Some(m) = v.get_mut("metadata").and_then(Value::as_object_mut) {
            m.remove("resourceVersion");
            m.remove("managedFields");
        }
        if let Some(s) = v.get_mut("status").and_then(Value::as_object_mut) {
            for f in ["capacity", "conditions", "allocatedResources", "allocatedResourceStatuses"] {
                s.remove(f);
            }
        }
        v
    };
    if strip(old) != strip(&r.object) {
        return Err(format!(
            "node {node:?} is not allowed to update fields other than status.capacity and status.conditions"
        ));
    }
    Ok(())
}

async fn token(cx: &Context, node: &str, r: &Request<'_>) -> Judged {
    if r.operation != Operation::Create || r.subresource != "token" {
        return Ok(Ok(()));
    }
    let bound = &r.object["spec"]["boundObjectRef"];
    let (name, uid) = (text(bound, "name"), text(bound, "uid"));
    if text(bound, "apiVersion") != "v1" || text(bound, "kind") != "Pod" || name.is_empty() {
        return Ok(Err("node requested token not bound to a pod".into()));
    }
    if uid.is_empty() {
        return Ok(Err("node requested token with a pod binding without a uid".into()));
    }
    let pod = find_pod(cx, r, name).await?;
    if pod.uid() != uid {
        return Ok(Err(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been \
             deleted and then recreated"
        )));
    }
    if node_of(&pod) != node {
        return Ok(Err("node requested token bound to a pod scheduled on a different node".into()));
    }
    Ok(Ok(()))
}

/// Either side may not have seen yet what the other has (another uid, a new object): no refusal, so that a kubelet tries
/// again.
fn behind(message: String) -> Status {
    Status::new(Reason::Unknown, message)
}

/// A certificate for a pod of this node.
async fn certificate_request(cx: &Context, node: &str, r: &Request<'_>) -> Judged {
    if r.operation != Operation::Create {
        return Ok(Err(format!("unexpected operation {}", r.operation.as_str())));
    }
    if !r.subresource.is_empty() {
        return Ok(Err(format!("unexpected subresource {}", r.subresource)));
    }
    let spec = &r.object["spec"];
    let asked = |f: &str| text(spec, f);
    if asked("nodeName") != node {
        return Ok(Err(format!(
            "PodCertificateRequest.Spec.NodeName={:?}, which is not the requesting node {node:?}",
            asked("nodeName")
        )));
    }
    let named = |name: &str| format!("{}/{name}", r.namespace);
    let found = async |what: &str, plural: &str, ns: &str, name: &str, shown: &str| {
        cx.reader.get("", plural, ns, name).await?.ok_or_else(|| {
            let why = Status::not_found("", plural, name).message;
            behind(format!("while retrieving {what} {shown:?} named in the PodCertificateRequest: {why}"))
        })
    };
    let (pod_name, account) = (named(asked("podName")), named(asked("serviceAccountName")));
    let own = found("node", "nodes", "", node, node).await?;
    if own.uid() != asked("nodeUID") {
        return Err(behind(format!(
            "PodCertificateRequest for pod {pod_name:?} names node UID {:?}, inconsistent with the running node ({:?})",
            asked("nodeUID"),
            own.uid()
        )));
    }
    let pod = found("pod", "pods", r.namespace, asked("podName"), &pod_name).await?;
    if pod.uid() != asked("podUID") {
        return Err(behind(format!(
            "PodCertificateRequest for pod {pod_name:?} contains pod UID ({:?}) which differs from running pod {:?}",
            asked("podUID"),
            pod.uid()
        )));
    }
    if node_of(&pod) != node {
        return Ok(Err(format!(
            "pod {pod_name:?} is not running on node {node:?} named in the PodCertificateRequest"
        )));
    }
    let pod = pod.value().map_err(Status::internal)?;
    if !pod["metadata"]["annotations"][MIRROR].is_null() {
        return Ok(Err(format!("pod {pod_name:?} is a mirror pod")));
    }
    let runs_as = text(&pod["spec"], "serviceAccountName");
    if runs_as != asked("serviceAccountName") {
        return Ok(Err(format!(
            "PodCertificateRequest for pod {pod_name:?} contains serviceAccountName ({:?}) that differs from running pod ({runs_as:?})",
            asked("serviceAccountName")
        )));
    }
    let sa = found("service account", "serviceaccounts", r.namespace, asked("serviceAccountName"), &account)
        .await?;
    if sa.uid() != asked("serviceAccountUID") {
        return Err(behind(format!(
            "PodCertificateRequest for pod {pod_name:?} names service account UID {:?}, which differs from the running service account ({:?})",
            asked("serviceAccountUID"),
            sa.uid()
        )));
    }
    let signer = asked("signerName");
    if shows_certificate_of(&pod["spec"], signer) {
        return Ok(Ok(()));
    }
    // Names of resources have no slash.
    let resource = signer.replace('/', ":");
    let permitted = Attributes {
        verb: "request-serviceaccounts-podcertificate-signer",
        group: r.group,
        resource: &resource,
        namespace: r.namespace,
        name: asked("serviceAccountName"),
        is_resource: true,
        ..Attributes::of(r.user)
    };
    if cx.authorizer.authorize(&permitted).await.allowed() {
        return Ok(Ok(()));
    }
    Ok(Err(format!(
        "pod {pod_name:?} does not mount a podCertificate projected volume for signer {signer:?}"
    )))
}

/// Whether a volume of the pod shows a certificate of the signer.
fn shows_certificate_of(spec: &Value, signer: &str) -> bool {
    let sources = items(spec, "volumes").iter().flat_map(|v| items(&v["projected"], "sources"));
    sources.filter(|s| s["podCertificate"].is_object()).any(|s| s["podCertificate"]["signerName"] == signer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_of_a_kubelet() {
        let old = json!({"a": "1", "kubernetes.io/hostname": "x", "node-role.kubernetes.io/master": ""});
        let new = json!({"a": "2", "kubernetes.io/hostname": "y", "foo.node-restriction.kubernetes.io/z": "1",
            "node.kubernetes.io/ok": "", "unknown.k8s.io/x": "1", "example.com/y": "1"});
        assert_eq!(
            forbidden_labels(&new, &old),
            ["foo.node-restriction.kubernetes.io/z", "node-role.kubernetes.io/master", "unknown.k8s.io/x"]
        );
    }

    #[test]
    fn mirror_pods_refer_to_nothing() {
        for (spec, want) in [
            (json!({"containers": [{}]}), None),
            (json!({"serviceAccountName": "x"}), Some("a service account")),
            (json!({"volumes": [{"projected": {"sources": [{"secret": {}}]}}]}), Some("secrets")),
            (json!({"containers": [{"envFrom": [{"configMapRef": {}}]}]}), Some("configmaps")),
            (json!({"volumes": [{"persistentVolumeClaim": {}}]}), Some("persistentvolumeclaims")),
        ] {
            assert_eq!(refers_to(&spec), want);
        }
    }
}
