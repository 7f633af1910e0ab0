//! Approves the certificate requests of nodes: for their client certificates as upstream does, once a SubjectAccessReview
//! says that the requester may have one (`nodeclient`, `selfnodeclient`); for their kubelets' serving certificates where the
//! requester is that node and names nothing but itself. Whatever else is asked for waits for a person.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use api::resource::{CERTIFICATE_REQUESTS, ENDPOINT_SLICES, NODES, SERVICES, SUBJECT_ACCESS_REVIEWS};
use api::{Object, Resource, Status};
use client::{Informer, clock};
use serde_json::{Value, json};

use crate::Context;
use crate::certificates::{View, Wish, allowed};
use crate::skeleton::{self, Error, Key, Next, Queue};

const CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING: &str = "kubernetes.io/kubelet-serving";
/// A node that asks before it has told its addresses is looked at again, for this long.
const AGAIN: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(600);

/// What has to hold for a request to be approved.
#[derive(Debug, PartialEq, Eq)]
enum Question {
    /// Nothing of ours.
    None,
    /// The requester has to be allowed one of these subresources.
    Review(Vec<&'static str>),
    /// The node has to be known by these.
    Serving { node: String, addresses: Vec<IpAddr> },
}

fn question(v: &View) -> Result<Question, String> {
    if !v.status.certificate.is_empty() || v.is("Approved") || v.is("Denied") {
        return Ok(Question::None);
    }
    let signer = v.spec.signer_name.as_str();
    if signer != CLIENT && signer != SERVING {
        return Ok(Question::None);
    }
    let wish = v.wish()?;
    if allowed(signer, &v.spec.usages, &wish).is_err() {
        return Ok(Question::None);
    }
    let own = v.spec.username == wish.common_name;
    Ok(match (signer, own) {
        (CLIENT, true) => Question::Review(vec!["selfnodeclient", "nodeclient"]),
        (CLIENT, false) => Question::Review(vec!["nodeclient"]),
        (_, true) => serving(v, wish),
        _ => Question::None,
    })
}

/// A node names itself only; its name must not be one by which others find something else.
fn serving(v: &View, wish: Wish) -> Question {
    let node = wish.common_name.trim_start_matches("system:node:").to_owned();
    let taken = |name: &str| {
        matches!(name, "localhost" | "kubernetes") || name.split('.').any(|label| label == "svc")
    };
    let fine = v.spec.groups.iter().any(|g| g == "system:nodes")
        && wish.names.iter().all(|n| *n == node)
        && !taken(&node);
    if fine { Question::Serving { node, addresses: wish.addresses } } else { Question::None }
}

fn texts<'a>(v: &'a Value, pointer: &str) -> impl Iterator<Item = &'a str> {
    v.pointer(pointer).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn node_addresses(node: &Value) -> BTreeSet<IpAddr> {
    let all = node["status"]["addresses"].as_array().into_iter().flatten();
    let ips = all.filter(|a| a["type"] == "InternalIP" || a["type"] == "ExternalIP");
    ips.filter_map(|a| a["address"].as_str()?.parse().ok()).collect()
}

struct Loop {
    ctx: Context,
    requests: Informer,
    nodes: Informer,
    services: Informer,
    slices: Informer,
}

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let of = |r: &Resource| ctx.informers.get(r);
    let l = Loop {
        requests: of(&CERTIFICATE_REQUESTS),
        nodes: of(&NODES),
        services: of(&SERVICES),
        slices: of(&ENDPOINT_SLICES),
        ctx: ctx.clone(),
    };
    skeleton::enqueue_self(&l.requests, &queue);
    if !skeleton::synced(&ctx.token, &[&l.requests, &l.nodes, &l.services, &l.slices]).await {
        return;
    }
    skeleton::work("csrapproving", &ctx.token, &queue, 1, |key| l.reconcile(key)).await;
}

impl Loop {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(o) = self.requests.get("", &key.1) else { return Ok(Next::Wait) };
        let v: View = o.view()?;
        match question(&v) {
            Ok(Question::None) => {}
            Ok(Question::Review(subresources)) => {
                for sub in subresources {
                    if self.may(&v, sub).await? {
                        let whose = if sub == "selfnodeclient" { "self " } else { "" };
                        let message = format!(
                            "Auto approving {whose}kubelet client certificate after SubjectAccessReview."
                        );
                        self.approve(&o, &message).await?;
                        break;
                    }
                }
            }
            Ok(Question::Serving { node, addresses }) => {
                if self.is_its_own(&node, &addresses) {
                    let message =
                        "Auto approving kubelet serving certificate: it names its node and nothing else.";
                    self.approve(&o, message).await?;
                } else {
                    let born =
                        o.meta().creation_timestamp().and_then(clock::parse).unwrap_or(jiff::Timestamp::MIN);
                    if clock::between(born, clock::now()) < PATIENCE {
                        return Ok(Next::After(AGAIN));
                    }
                }
            }
            Err(why) => tracing::debug!(name = %key.1, why, "a certificate request can't be read"),
        }
        Ok(Next::Wait)
    }

    async fn may(&self, v: &View, subresource: &str) -> Result<bool, Status> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": { "user": v.spec.username, "uid": v.spec.uid, "groups": v.spec.groups, "extra": v.spec.extra,
                "resourceAttributes": { "group": "certificates.k8s.io", "resource": "certificatesigningrequests",
                    "subresource": subresource, "verb": "create", "version": "*" } },
        });
        let answer = self.ctx.client.create(&SUBJECT_ACCESS_REVIEWS, "", &review).await?;
        Ok(answer.value().map_err(Status::internal)?["status"]["allowed"] == true)
    }

    async fn approve(&self, o: &Object, message: &str) -> Result<(), Status> {
        let mut v = o.value().map_err(Status::internal)?;
        let condition =
            json!({ "type": "Approved", "status": "True", "reason": "AutoApproved", "message": message });
        match v.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
            Some(all) => all.push(condition),
            None => v["status"]["conditions"] = json!([condition]),
        }
        self.ctx.client.update(&CERTIFICATE_REQUESTS, "", o.name(), "approval", &v).await.map(drop)
    }

    /// Whether the addresses are the node's, and nobody else's.
    fn is_its_own(&self, node: &str, asked: &[IpAddr]) -> bool {
        let Some(itself) = self.nodes.get("", node).and_then(|o| o.value().ok()) else { return false };
        let mut taken = BTreeSet::new();
        for other in self.nodes.list(None).iter().filter(|o| o.name() != node) {
            taken.extend(other.value().map(|v| node_addresses(&v)).unwrap_or_default());
        }
        for service in self.services.list(None) {
            let Ok(v) = service.value() else { continue };
            taken.extend(texts(&v, "/spec/clusterIPs").filter_map(|a| a.parse::<IpAddr>().ok()));
            taken.extend(texts(&v, "/spec/externalIPs").filter_map(|a| a.parse::<IpAddr>().ok()));
        }
        // The API servers' own.
        for slice in self.slices.list(Some("default")) {
            let Ok(v) = slice.value() else { continue };
            if v["metadata"]["labels"]["kubernetes.io/service-name"] == "kubernetes" {
                for e in v["endpoints"].as_array().into_iter().flatten() {
                    taken.extend(texts(e, "/addresses").filter_map(|a| a.parse::<IpAddr>().ok()));
                }
            }
        }
        judge(asked, &node_addresses(&itself), &taken)
    }
}

fn judge(asked: &[IpAddr], own: &BTreeSet<IpAddr>, taken: &BTreeSet<IpAddr>) -> bool {
    asked.iter().all(|a| own.contains(a) && !taken.contains(a) && !a.is_loopback() && !a.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::Spec;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    fn view(signer: &str, username: &str, subject: &str, names: &[&str]) -> View {
        let made = pki::request::node_request(subject, names, &[]).expect("request");
        let usage = if signer == SERVING { "server auth" } else { "client auth" };
        View {
            spec: Spec {
                signer_name: signer.into(),
                username: username.into(),
                groups: vec!["system:nodes".into()],
                usages: vec!["digital signature".into(), usage.into()],
                request: STANDARD.encode(pki::trust::pem_block("CERTIFICATE REQUEST", &made.request)),
                ..Spec::default()
            },
            ..View::default()
        }
    }

    #[test]
    fn requests_of_nodes_are_recognized() {
        let both = Question::Review(vec!["selfnodeclient", "nodeclient"]);
        let serving = |node: &str| Question::Serving { node: node.into(), addresses: vec![] };
        for (signer, username, subject, names, want) in [
            (CLIENT, "system:bootstrap:abcdef", "a", &[][..], Question::Review(vec!["nodeclient"])),
            (CLIENT, "system:node:a", "a", &[], both),
            (CLIENT, "system:node:a", "a", &["a"], Question::None),
            (SERVING, "system:node:a", "a", &["a"], serving("a")),
            (SERVING, "system:node:a", "a", &["b"], Question::None),
            (SERVING, "system:node:b", "a", &["a"], Question::None),
            (SERVING, "system:node:x.y.svc", "x.y.svc", &["x.y.svc"], Question::None),
            ("kubernetes.io/kube-apiserver-client", "system:node:a", "a", &[], Question::None),
        ] {
            let v = view(signer, username, subject, names);
            assert_eq!(question(&v), Ok(want), "{signer} {username} {names:?}");
        }
        let mut done = view(CLIENT, "system:node:a", "a", &[]);
        done.status.conditions = vec![json!({"type": "Denied"})];
        assert_eq!(question(&done), Ok(Question::None));
        done.spec.request = "x".into();
        done.status.conditions.clear();
        assert!(question(&done).is_err());
    }

    #[test]
    fn a_node_gets_its_own_addresses_only() {
        let ip = |s: &str| s.parse::<IpAddr>().expect("address");
        let set = |all: &[&str]| all.iter().map(|s| ip(s)).collect::<BTreeSet<_>>();
        let own = set(&["10.0.0.2", "10.96.0.1", "127.0.0.1"]);
        let taken = set(&["10.0.0.1", "10.96.0.1"]);
        for (asked, want) in [
            (&["10.0.0.2"][..], true),
            (&["10.0.0.2", "10.96.0.1"], false),
            (&["10.0.0.1"], false),
            (&["10.0.0.3"], false),
            (&["127.0.0.1"], false),
            (&[], true),
        ] {
            let asked: Vec<IpAddr> = asked.iter().map(|s| ip(s)).collect();
            assert_eq!(judge(&asked, &own, &taken), want, "{asked:?}");
        }
    }
}
