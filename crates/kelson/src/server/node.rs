//! The node of a server: reaches the API in the same process, has its certificate from the cluster's own keys, and is
//! reached by this API server over a pipe. What a node is stands in `crate::node`.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, bail};
use client::{Client, LocalIdentity, LocalServer};
use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use super::control::Control;
use super::objects;
use super::transport::Nodes;
use crate::config::Config;
use crate::node::listen::{self, Serving};
use crate::node::{Access, Node, Settings, blocks};
use crate::shared::Shared;

/// `api` may come later.
pub async fn start(
    config: &Config,
    api: Arc<dyn LocalServer>,
    pipe: &Nodes,
    token: &CancellationToken,
) -> anyhow::Result<Node> {
    let (instance, name) = (&config.instance, &config.machine.node_name);
    let local = |user: &str, groups: &[&str], manager: &str| {
        Client::local(api.clone(), LocalIdentity::user(user, groups), manager)
    };
    let kubelet = local(&format!("system:node:{name}"), &["system:nodes"], "kubelet");
    let pod_cidrs = if !config.enabled("cni") {
        vec![]
    } else if config.has_first_block() {
        config.first_block()
    } else {
        match blocks::kept(instance)? {
            Some(kept) => kept,
            None => tokio::select! {
                asked = blocks::ask(instance, &kubelet, name) => asked?,
                () = token.cancelled() => bail!("stopped before the cluster gave this node its pod networks"),
            },
        }
    };
    let (admin, node) = (objects::admin(api.clone()), name.clone());
    let access = Access {
        kubelet,
        network: local(objects::NETWORK_USER, &[], "kelson-network"),
        publish_dns: Some(Box::new(move |gateways| {
            async move { objects::dns_endpoints(&admin, &node, &gateways, &objects::Dns::here()).await }
                .boxed()
        })),
    };
    let settings = Settings {
        instance: instance.clone(),
        machine: config.machine.clone(),
        shared: Shared::of(config),
        addresses: config.node_ips(),
        annotations: blocks::wish(&pod_cidrs),
        pod_cidrs,
    };
    let node = crate::node::start(settings, access, token).await?;
    // Streams are served by the node's threads, whoever asks for them.
    let (serving, on) = (node.kubelet().clone(), tokio::runtime::Handle::current());
    pipe.attach(move |stream| {
        let kubelet = serving.clone();
        on.spawn(async move { kubelet.serve(stream).await });
    });
    Ok(node)
}

/// Lets others than the API server of this process reach the kubelet, by TLS on its port.
pub async fn listen(
    config: &Config,
    control: &Control,
    node: &Node,
    token: &CancellationToken,
) -> anyhow::Result<()> {
    let (name, now) = (&config.machine.node_name, client::clock::now().as_second());
    let cert = control.pki.kubelet_serving(name, &[config.advertise], now);
    let serving = Arc::new(Serving::default());
    serving.set(&cert.context("failed to make the kubelet's certificate")?)?;
    let address = SocketAddr::new(config.listen.ip(), config.machine.kubelet_port);
    listen::start(address, node, serving, control.pki.ca.cert_pem(), token).await
}
