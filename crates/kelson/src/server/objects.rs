//! The few objects that the wiring itself keeps: the `kube-dns` Service at the tenth address with the endpoints of each node,
//! the role that the built-in DNS and proxy read with, and what machines that join have to know.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use api::bootstrap_token::{CLUSTER_INFO, PUBLIC_NAMESPACE};
use api::resource::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, CONFIG_MAPS, ENDPOINT_SLICES, NODES, SERVICES};
use api::{Object, Resource, Status};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::{Client, Informers, LocalIdentity, LocalServer, Patch, WorkQueue};
use serde_json::{Value, json};

use super::control::Control;
use crate::config::Config;
use crate::node::object::{is_ready, pod_cidrs};
use crate::shared::{NODE_SETTINGS, RUNS_DNS, Shared};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Whom the built-in DNS and proxy act as.
pub const NETWORK_USER: &str = "system:kelson-network";

pub fn admin(server: Arc<dyn LocalServer>) -> Client {
    Client::local(server, LocalIdentity::user("system:apiserver", &["system:masters"]), "kelson")
}

async fn apply(client: &Client, r: &Resource, ns: &str, name: &str, body: Value) -> Result<(), Status> {
    client.patch(r, ns, name, "", &Patch::Apply { body, force: true }).await.map(|_| ())
}

/// Puts the objects in place; a second call changes nothing.
pub async fn ensure(control: &Control, config: &Config) -> Result<(), Status> {
    let client = admin(control.server.clone());
    let label = json!({ "kubernetes.io/bootstrapping": "kelson" });
    apply(&client, &CLUSTER_ROLES, "", NETWORK_USER, json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": NETWORK_USER, "labels": label },
        "rules": [
            { "apiGroups": [""], "resources": ["services", "endpoints", "namespaces", "nodes"], "verbs": ["get", "list", "watch"] },
            { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"] },
        ],
    }))
    .await?;
    apply(&client, &CLUSTER_ROLE_BINDINGS, "", NETWORK_USER, json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": NETWORK_USER, "labels": label },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NETWORK_USER },
        // The second: DNS and proxy of nodes whose server is another process.
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": NETWORK_USER },
            { "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes" }],
    }))
    .await?;
    for_nodes(&client, config).await?;
    cluster_info(&client, control, config).await?;
    if config.enabled("dns") && config.node {
        dns_service(&client, &config.dns_ips()).await?;
    }
    Ok(())
}

/// What a node that joins has to know of the cluster.
async fn for_nodes(client: &Client, config: &Config) -> Result<(), Status> {
    let data = Shared::of(config).data();
    apply(
        client,
        &CONFIG_MAPS,
        "kube-system",
        NODE_SETTINGS,
        json!({ "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": NODE_SETTINGS, "namespace": "kube-system" }, "data": data }),
    )
    .await
}

/// Where the API is and whose certificates to believe, for machines that join. Where several servers share a store, the
/// first one says it, or who runs them: they may stand behind one address.
async fn cluster_info(client: &Client, control: &Control, config: &Config) -> Result<(), Status> {
    if config.etcd.is_some() && client.find(&CONFIG_MAPS, PUBLIC_NAMESPACE, CLUSTER_INFO).await?.is_some() {
        return Ok(());
    }
    let server = format!("https://{}", SocketAddr::new(config.advertise, control.port));
    let ca = STANDARD.encode(control.pki.ca.cert_pem());
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: \"\"\n  cluster:\n    certificate-authority-data: {ca}\n    \
         server: {server}\ncontexts: null\ncurrent-context: \"\"\npreferences: {{}}\nusers: null\n"
    );
    apply(
        client,
        &CONFIG_MAPS,
        PUBLIC_NAMESPACE,
        CLUSTER_INFO,
        json!({ "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": CLUSTER_INFO, "namespace": PUBLIC_NAMESPACE }, "data": { "kubeconfig": kubeconfig } }),
    )
    .await
}

async fn dns_service(client: &Client, ips: &[IpAddr]) -> Result<(), Status> {
    if client.find(&SERVICES, "kube-system", "kube-dns").await?.is_some() {
        return Ok(());
    }
    let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
    let port = |name: &str, protocol: &str| json!({ "name": name, "port": 53, "protocol": protocol, "targetPort": 53 });
    let body = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "kube-dns", "namespace": "kube-system",
            "labels": { "k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS" } },
        "spec": { "clusterIP": ips.first(), "clusterIPs": ips,
            "ipFamilyPolicy": if ips.len() > 1 { "RequireDualStack" } else { "SingleStack" },
            "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")] },
    });
    match client.create(&SERVICES, "kube-system", &body).await {
        Err(s) if !s.is_already_exists() => Err(s),
        _ => Ok(()),
    }
}

/// What a node's DNS slices say besides its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    pub ready: bool,
    /// Uid of the node with which they go.
    owner: Option<String>,
}

impl Dns {
    /// Of the node of this process.
    pub fn here() -> Self {
        Self { ready: true, owner: None }
    }
}

/// Tells where a node's DNS answers, to its own pods first: one slice per family.
pub async fn dns_endpoints(
    client: &Client,
    node: &str,
    addresses: &[IpAddr],
    dns: &Dns,
) -> Result<(), Status> {
    for ip in addresses {
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        let name = format!("kube-dns-{node}-{}", family.to_ascii_lowercase());
        let port = |name: &str, protocol: &str| json!({ "name": name, "port": 53, "protocol": protocol });
        let mut body = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": name, "namespace": "kube-system",
                "labels": { "kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": "kelson.dev" } },
            "addressType": family, "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")],
            "endpoints": [{ "addresses": [ip.to_string()], "nodeName": node, "hints": { "forNodes": [{ "name": node }] },
                "conditions": { "ready": dns.ready, "serving": dns.ready, "terminating": false } }],
        });
        if let Some(uid) = &dns.owner {
            body["metadata"]["ownerReferences"] =
                json!([{ "apiVersion": "v1", "kind": "Node", "name": node, "uid": uid }]);
        }
        apply(client, &ENDPOINT_SLICES, "kube-system", &name, body).await?;
    }
    Ok(())
}

/// Whether a node elsewhere runs DNS, and what is to be told of it.
fn dns_of(node: &Object) -> Option<(Vec<IpAddr>, Dns)> {
    let v = node.value().ok()?;
    if v["metadata"]["annotations"][RUNS_DNS] != "true" || node.meta().is_deleting() {
        return None;
    }
    // Where the node says it answers follows from what it was given: it can't point at others.
    let addresses: Vec<IpAddr> =
        pod_cidrs(&v).filter_map(|c| c.parse::<netlink::Cidr>().ok()?.nth(1)).collect();
    let dns = Dns { ready: is_ready(&v), owner: Some(node.uid().to_owned()) };
    (!addresses.is_empty()).then_some((addresses, dns))
}

/// Tells where the DNS of nodes elsewhere answers, until cancelled. Each server does; what is said already is not written
/// again.
pub async fn follow_dns(server: Arc<dyn LocalServer>, service: Vec<IpAddr>, token: CancellationToken) {
    let client = admin(server);
    let informers = Informers::new(client.clone(), token.clone());
    let nodes = informers.get(&NODES);
    let queue = Arc::new(WorkQueue::<String>::new());
    let q = queue.clone();
    nodes.on_change(move |c| {
        if let Some(new) = c.new
            && dns_of(new) != c.old.and_then(dns_of)
        {
            q.add(new.name().to_owned());
        }
    });
    let work = async {
        while let Some(name) = queue.get().await {
            let told = async {
                let Some((addresses, dns)) = nodes.get("", &name).as_ref().and_then(dns_of) else {
                    return Ok(());
                };
                dns_service(&client, &service).await?;
                dns_endpoints(&client, &name, &addresses, &dns).await
            };
            if let Err(e) = told.await {
                warn!(node = name, error = %e, "failed to publish where a node's DNS answers, trying again");
                queue.retry(name.clone());
            } else {
                queue.forget(&name);
            }
            queue.done(&name);
        }
    };
    tokio::select! { () = token.cancelled() => {}, () = work => {} }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dns_of_a_node_is_where_its_block_says() {
        let node = |annotation: &str, cidrs: Value, ready: &str| {
            let v = json!({"metadata": {"name": "n", "uid": "u", "annotations": {RUNS_DNS: annotation}},
                "spec": {"podCIDRs": cidrs}, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
            dns_of(&Object::from_value(v, 1).expect("object"))
        };
        let (addresses, dns) = node("true", json!(["10.1.2.0/24", "fd00::/64"]), "True").expect("DNS");
        assert_eq!(addresses, ["10.1.2.1".parse::<IpAddr>().expect("ip"), "fd00::1".parse().expect("ip")]);
        assert_eq!(dns, Dns { ready: true, owner: Some("u".into()) });
        assert!(node("true", json!(["10.1.2.0/24"]), "Unknown").is_some_and(|(_, d)| !d.ready));
        assert!(
            node("true", json!([]), "True").is_none() && node("", json!(["10.1.2.0/24"]), "True").is_none()
        );
    }
}
