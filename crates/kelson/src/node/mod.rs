//! A node: pod network, runtime, kubelet, service proxy, DNS, the same whether the API is in this process or elsewhere.
//! `start` spawns one task per part; each stops with the token, containers do not. `blocks` says which addresses its pods
//! get, `network` is the pod network as the runtime sees it, `peers` leads to the pods of other nodes, `listen` lets others
//! reach the kubelet, `object` reads Node objects, `preflight` looks at what all of it needs of the machine.

pub mod blocks;
pub mod listen;
mod network;
pub mod object;
mod peers;
pub mod preflight;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use api::Status;
use api::resource::{ENDPOINT_SLICES, NODES};
use client::{Client, Informers, Scope};
use futures::future::BoxFuture;
use kubelet::{Kubelet, Slices};
use netlink::Cidr;
use parking_lot::Mutex;
use runtime::{EmbeddedRuntime, PodNetwork, RuntimeConfig};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::admin;
use crate::config::Instance;
use crate::machine::Machine;
use crate::shared::Shared;

/// How long the node's parts get to write their last status.
const DRAIN: Duration = Duration::from_secs(5);

/// What a node is made of.
#[derive(Debug, Clone)]
pub struct Settings {
    pub instance: Instance,
    pub machine: Machine,
    pub shared: Shared,
    /// The one it is known by first, one per family.
    pub addresses: Vec<IpAddr>,
    /// This node's blocks of the pod networks.
    pub pod_cidrs: Vec<Cidr>,
    pub annotations: BTreeMap<String, String>,
}

/// Tells where this node's DNS answers.
pub type Publish = Box<dyn FnOnce(Vec<IpAddr>) -> BoxFuture<'static, Result<(), Status>> + Send>;

/// As whom a node comes to the API.
pub struct Access {
    /// `system:node:<name>`.
    pub kubelet: Client,
    /// For DNS and proxy: may read services and what is behind them.
    pub network: Client,
    /// `None`: somebody else publishes it.
    pub publish_dns: Option<Publish>,
}

pub struct Node {
    tasks: Mutex<JoinSet<()>>,
    kubelet: Kubelet,
    client: Client,
    informers: Informers,
    name: String,
    dns: watch::Receiver<bool>,
    proxy: proxy::InForce,
    uses: (bool, bool),
    on: tokio::runtime::Handle,
}

/// What the runtime of this cluster is made of; `clean` needs it too.
pub fn runtime_config(config: &Instance, network: Arc<dyn PodNetwork>) -> RuntimeConfig {
    let mut r = RuntimeConfig::new(config.runtime_root(), &config.name, network);
    r.run = config.run_dir.clone();
    r.netns_dir = config.run_dir.join("netns");
    r.cgroup_root = format!("/{}", config.cgroup_root());
    r
}

/// Does not wait for the API: pods that the kubelet knows start without it.
pub async fn start(settings: Settings, access: Access, token: &CancellationToken) -> anyhow::Result<Node> {
    let Settings { instance, machine, shared, .. } = &settings;
    let mut tasks = JoinSet::new();
    let (network, gateways) = network::open(&settings).await?;
    let mut runtime_settings = runtime_config(instance, network);
    runtime_settings.insecure_registries.clone_from(&machine.insecure_registries);
    runtime_settings.registry_mirrors.clone_from(&machine.registry_mirrors);
    let runtime = EmbeddedRuntime::open(runtime_settings)
        .await
        .map_err(|e| anyhow!(e))
        .context("failed to start the container runtime")?;
    admin::serve(instance.admin_socket(), runtime.clone(), token.clone(), &mut tasks)?;

    let client = access.kubelet;
    let informers = Informers::new(client.clone(), token.clone());
    let (proxy_on, dns_on) = (shared.runs("proxy"), shared.runs("dns"));
    let (proxy_tx, proxy) = watch::channel(None);
    let (dns_tx, dns) = watch::channel(false);
    let reader = Informers::new(access.network, token.clone());
    if proxy_on {
        let settings = proxy::Config {
            instance: instance.name.clone(),
            node_name: machine.node_name.clone(),
            cluster_cidrs: shared.cluster_cidrs.clone(),
            service_cidrs: shared.service_cidrs.clone(),
            node_addresses: gateways.clone(),
        };
        tasks.spawn(proxy::run(settings, reader.clone(), proxy_tx, token.clone()));
    }
    if dns_on {
        let settings = dns::Config {
            domain: shared.domain.clone(),
            listen: gateways.iter().map(|g| SocketAddr::new(*g, 53)).collect(),
            resolv_conf: upstream_resolv_conf(),
        };
        let published = access.publish_dns.map(|publish| publish(gateways));
        tasks.spawn(serve_dns(settings, reader.clone(), published, dns_tx, token.clone()));
    }
    if shared.runs("cni") {
        tasks.spawn(peers::run(settings.clone(), reader.clone(), token.clone()));
    }
    let slices = Slices::new(reader.get(&ENDPOINT_SLICES), proxy_on.then(|| proxy.clone()));
    let kubelet = Kubelet::new(
        kubelet_config(&settings)?,
        client.clone(),
        informers.clone(),
        Arc::new(runtime),
        Some(slices),
    );
    let (running, stop) = (kubelet.clone(), token.clone());
    tasks.spawn(async move { running.run(stop).await });
    Ok(Node {
        tasks: Mutex::new(tasks),
        kubelet,
        client,
        informers,
        name: machine.node_name.clone(),
        dns,
        proxy,
        uses: (proxy_on, dns_on),
        on: tokio::runtime::Handle::current(),
    })
}

async fn serve_dns(
    settings: dns::Config,
    reader: Informers,
    published: Option<BoxFuture<'static, Result<(), Status>>>,
    ready: watch::Sender<bool>,
    token: CancellationToken,
) {
    if let Some(published) = published {
        let published = tokio::select! { () = token.cancelled() => return, p = published => p };
        if let Err(e) = published {
            error!(error = %e, "failed to publish the DNS endpoints");
            return;
        }
    }
    let ready = move || {
        ready.send_replace(true);
    };
    if let Err(e) = dns::run(settings, reader, ready, token).await {
        error!(error = %e, "DNS is not answering");
    }
}

/// With systemd-resolved the stub's file leads nowhere from inside a pod; the real upstreams stand beside it.
fn upstream_resolv_conf() -> PathBuf {
    let real = std::path::Path::new("/run/systemd/resolve/resolv.conf");
    if real.exists() { real.into() } else { "/etc/resolv.conf".into() }
}

fn kubelet_config(settings: &Settings) -> anyhow::Result<kubelet::Config> {
    let Settings { instance, machine, shared, .. } = settings;
    std::fs::create_dir_all(&machine.static_pods).with_context(|| {
        format!("failed to make the directory of static pods {}", machine.static_pods.display())
    })?;
    Ok(kubelet::Config {
        node_name: machine.node_name.clone(),
        instance: instance.name.clone(),
        root_dir: instance.kubelet_dir(),
        pods_log_dir: instance.pod_logs(),
        containers_log_dir: instance.container_logs(),
        static_pod_dir: Some(machine.static_pods.clone()),
        cluster_dns: shared.dns.clone(),
        cluster_domain: shared.domain.clone(),
        node_ips: settings.addresses.clone(),
        node_labels: machine.node_labels.clone(),
        node_annotations: settings.annotations.clone(),
        cgroup_root: instance.cgroup_root(),
        resolv_conf: upstream_resolv_conf(),
        port: machine.kubelet_port,
        eviction: machine.eviction.clone(),
        image_gc: machine.image_gc.clone(),
        version: format!("v1.37.0+kelson-{}", crate::VERSION),
        ..kubelet::Config::default()
    })
}

impl Node {
    pub fn kubelet(&self) -> &Kubelet {
        &self.kubelet
    }

    /// Adds a part, which ends with the node's token.
    pub fn spawn(&self, part: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().spawn_on(part, &self.on);
    }

    /// Returns when the node is Ready in the API, DNS answers and the services are in force.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let scope = Scope { field_selector: format!("metadata.name={}", self.name), ..Scope::default() };
        let nodes = {
            let _on = self.on.enter();
            self.informers.scoped(&NODES, scope)
        };
        let (tx, mut rx) = watch::channel(false);
        nodes.on_change(move |c| {
            if c.new.and_then(|o| o.view().ok()).is_some_and(|v| object::is_ready(&v)) {
                tx.send_replace(true);
            }
        });
        let (mut dns, mut proxy) = (self.dns.clone(), self.proxy.clone());
        rx.wait_for(|r| *r).await.context("the node's informer ended")?;
        if self.uses.0 {
            proxy.wait_for(Option::is_some).await.context("the service proxy ended")?;
        }
        if self.uses.1 {
            dns.wait_for(|r| *r).await.context("DNS could not be started; see the log")?;
        }
        info!(node = %self.name, "the node is ready");
        Ok(())
    }

    /// Stops every part and waits for a while until they have ended.
    pub async fn drain(self, stop: &CancellationToken) {
        stop.cancel();
        if tokio::time::timeout(DRAIN, self.stopped()).await.is_err() {
            warn!("the node's parts did not stop in time");
        }
    }

    async fn stopped(self) {
        let mut tasks = self.tasks.into_inner();
        while let Some(ended) = tasks.join_next().await {
            if let Err(e) = ended
                && e.is_panic()
            {
                warn!(error = %e, "a part of the node panicked");
            }
        }
        drop(self.client);
    }
}
