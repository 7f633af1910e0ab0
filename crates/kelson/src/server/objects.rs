//! The few objects that the wiring itself keeps: the `kube-dns` Service at the tenth address with its endpoints, and the
//! role that the built-in DNS and proxy read with.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use api::resource::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, CONFIG_MAPS, ENDPOINT_SLICES, SERVICES};
use api::{Resource, Status};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::{Client, LocalIdentity, LocalServer, Patch};
use serde_json::{Value, json};

use super::control::Control;
use crate::config::Config;
use crate::shared::{NODE_SETTINGS, Shared};

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
        dns_service(&client, config).await?;
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
    const NAME: &str = "cluster-info";
    if config.etcd.is_some() && client.find(&CONFIG_MAPS, "kube-public", NAME).await?.is_some() {
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
        "kube-public",
        NAME,
        json!({ "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": NAME, "namespace": "kube-public" }, "data": { "kubeconfig": kubeconfig } }),
    )
    .await
}

async fn dns_service(client: &Client, config: &Config) -> Result<(), Status> {
    if client.find(&SERVICES, "kube-system", "kube-dns").await?.is_some() {
        return Ok(());
    }
    let ips: Vec<String> = config.dns_ips().iter().map(ToString::to_string).collect();
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

/// Tells where this node's DNS answers: one slice per family.
pub async fn dns_endpoints(client: &Client, node: &str, addresses: &[IpAddr]) -> Result<(), Status> {
    for ip in addresses {
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        let name = format!("kube-dns-{node}-{}", family.to_ascii_lowercase());
        let port = |name: &str, protocol: &str| json!({ "name": name, "port": 53, "protocol": protocol });
        let body = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": name, "namespace": "kube-system",
                "labels": { "kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": "kelson.dev" } },
            "addressType": family, "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")],
            "endpoints": [{ "addresses": [ip.to_string()], "nodeName": node,
                "conditions": { "ready": true, "serving": true, "terminating": false } }],
        });
        apply(client, &ENDPOINT_SLICES, "kube-system", &name, body).await?;
    }
    Ok(())
}
