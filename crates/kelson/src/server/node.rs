//! The node: pod network, runtime, kubelet, service proxy, DNS. Spawns one task per part; each stops with the token,
//! containers do not.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use api::resource::{ENDPOINT_SLICES, NODES};
use async_trait::async_trait;
use client::{Client, Informers, LocalIdentity, LocalServer, Scope};
use kubelet::{Kubelet, Slices};
use parking_lot::Mutex;
use runtime::{EmbeddedRuntime, NetRequest, PodNetwork, RuntimeConfig};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::control::Control;
use super::objects;
use super::transport::LocalNode;
use crate::admin;
use crate::config::Config;

const KUBELET_CONNECTIONS: usize = 1024;
const HANDSHAKE: Duration = Duration::from_secs(10);

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

/// The built-in network as the runtime sees it.
struct Network(Arc<cni::Cni>);

fn host_ports(request: &NetRequest) -> Vec<cni::HostPort> {
    let port = |n: i32| u16::try_from(n).unwrap_or(0);
    request
        .port_mappings
        .iter()
        .filter(|p| p.host_port > 0)
        .map(|p| cni::HostPort {
            protocol: format!("{:?}", p.protocol).to_ascii_lowercase(),
            host_port: port(p.host_port),
            host_ip: p.host_ip.parse().ok(),
            container_port: port(p.container_port),
            pod: None,
        })
        .collect()
}

#[async_trait]
impl PodNetwork for Network {
    async fn setup(&self, request: &NetRequest) -> Result<Vec<IpAddr>, String> {
        self.0
            .setup(&request.sandbox_id, &request.netns, host_ports(request))
            .await
            .map_err(|e| e.to_string())
    }
    async fn teardown(&self, request: &NetRequest) -> Result<(), String> {
        self.0.teardown(&request.sandbox_id).await.map_err(|e| e.to_string())
    }
}

/// What the runtime of this cluster is made of; `clean` needs it too.
pub fn runtime_config(config: &crate::config::Instance, network: Arc<dyn PodNetwork>) -> RuntimeConfig {
    let mut r = RuntimeConfig::new(config.runtime_root(), &config.name, network);
    r.run = config.run_dir.clone();
    r.netns_dir = config.run_dir.join("netns");
    r.cgroup_root = format!("/{}", config.cgroup_root());
    r
}

/// Does not wait for the API: `api` may come later, and pods that the kubelet knows start without it.
pub async fn start(
    config: &Config,
    api: Arc<dyn LocalServer>,
    pipe: &LocalNode,
    token: &CancellationToken,
) -> anyhow::Result<Node> {
    let instance = &config.instance;
    let mut tasks = JoinSet::new();
    let network: (Arc<dyn PodNetwork>, Vec<IpAddr>) = if config.enabled("cni") {
        let settings = cni::Config {
            instance: instance.name.clone(),
            bridge: instance.bridge.clone(),
            pod_cidrs: config.first_block(),
            cluster_cidrs: config.cluster_cidrs.clone(),
            service_cidrs: config.service_cidrs.clone(),
            state_dir: instance.network_dir(),
        };
        let cni = Arc::new(
            cni::Cni::open(settings)
                .await
                .map_err(|e| anyhow!(e))
                .context("failed to prepare the pod network")?,
        );
        (Arc::new(Network(cni.clone())), cni.gateways().to_vec())
    } else {
        (Arc::new(runtime::LoopbackOnly), vec![config.advertise])
    };
    let (network, gateways) = network;
    let mut settings = runtime_config(instance, network);
    settings.insecure_registries.clone_from(&config.insecure_registries);
    settings.registry_mirrors.clone_from(&config.registry_mirrors);
    let runtime = EmbeddedRuntime::open(settings)
        .await
        .map_err(|e| anyhow!(e))
        .context("failed to start the container runtime")?;
    admin::serve(instance.admin_socket(), runtime.clone(), token.clone(), &mut tasks)?;

    let identity = LocalIdentity::user(&format!("system:node:{}", config.node_name), &["system:nodes"]);
    let client = Client::local(api.clone(), identity, "kubelet");
    let informers = Informers::new(client.clone(), token.clone());
    let proxy_on = config.enabled("proxy");
    let dns_on = config.enabled("dns");
    let (proxy_tx, proxy) = watch::channel(None);
    let (dns_tx, dns) = watch::channel(false);
    let identity = LocalIdentity::user(objects::NETWORK_USER, &[]);
    let reader = Client::local(api.clone(), identity, "kelson-network");
    let shared = Informers::new(reader, token.clone());
    if proxy_on {
        let settings = proxy::Config {
            instance: instance.name.clone(),
            node_name: config.node_name.clone(),
            cluster_cidrs: config.cluster_cidrs.clone(),
            service_cidrs: config.service_cidrs.clone(),
            node_addresses: gateways.clone(),
        };
        tasks.spawn(proxy::run(settings, shared.clone(), proxy_tx, token.clone()));
    }
    if dns_on {
        let settings = dns::Config {
            domain: config.domain.clone(),
            listen: gateways.iter().map(|g| SocketAddr::new(*g, 53)).collect(),
            resolv_conf: upstream_resolv_conf(),
        };
        let (shared, token) = (shared.clone(), token.clone());
        let (admin, node, gateways) = (objects::admin(api), config.node_name.clone(), gateways.clone());
        tasks.spawn(async move {
            let published = tokio::select! {
                () = token.cancelled() => return,
                p = objects::dns_endpoints(&admin, &node, &gateways) => p,
            };
            if let Err(e) = published {
                error!(error = %e, "failed to publish the DNS endpoints");
                return;
            }
            let ready = move || {
                dns_tx.send_replace(true);
            };
            if let Err(e) = dns::run(settings, shared, ready, token).await {
                error!(error = %e, "DNS is not answering");
            }
        });
    }
    let slices = Slices::new(shared.get(&ENDPOINT_SLICES), proxy_on.then(|| proxy.clone()));
    let kubelet = Kubelet::new(
        kubelet_config(config)?,
        client.clone(),
        informers.clone(),
        Arc::new(runtime),
        Some(slices),
    );
    // Streams are served by the node's threads, whoever asks for them.
    let (serving, on) = (kubelet.clone(), tokio::runtime::Handle::current());
    pipe.attach(move |stream| {
        let kubelet = serving.clone();
        on.spawn(async move { kubelet.serve(stream).await });
    });
    let (running, stop) = (kubelet.clone(), token.clone());
    tasks.spawn(async move { running.run(stop).await });
    Ok(Node {
        tasks: Mutex::new(tasks),
        kubelet,
        client,
        informers,
        name: config.node_name.clone(),
        dns,
        proxy,
        uses: (proxy_on, dns_on),
        on: tokio::runtime::Handle::current(),
    })
}

/// With systemd-resolved the stub's file leads nowhere from inside a pod; the real upstreams stand beside it.
fn upstream_resolv_conf() -> std::path::PathBuf {
    let real = std::path::Path::new("/run/systemd/resolve/resolv.conf");
    if real.exists() { real.into() } else { "/etc/resolv.conf".into() }
}

fn kubelet_config(config: &Config) -> anyhow::Result<kubelet::Config> {
    let instance = &config.instance;
    std::fs::create_dir_all(&config.static_pods).with_context(|| {
        format!("failed to make the directory of static pods {}", config.static_pods.display())
    })?;
    Ok(kubelet::Config {
        node_name: config.node_name.clone(),
        instance: instance.name.clone(),
        root_dir: instance.kubelet_dir(),
        pods_log_dir: instance.pod_logs(),
        containers_log_dir: instance.container_logs(),
        static_pod_dir: Some(config.static_pods.clone()),
        cluster_dns: if config.enabled("dns") { config.dns_ips() } else { vec![] },
        cluster_domain: config.domain.clone(),
        node_ips: config.node_ips(),
        cgroup_root: instance.cgroup_root(),
        resolv_conf: upstream_resolv_conf(),
        port: config.kubelet_port,
        eviction: config.eviction.clone(),
        image_gc: config.image_gc.clone(),
        version: format!("v1.37.0+kelson-{}", crate::VERSION),
        ..kubelet::Config::default()
    })
}

/// Lets others than the API server of this process reach the kubelet, by TLS on its port.
pub async fn listen(
    config: &Config,
    control: &Control,
    node: &Node,
    token: &CancellationToken,
) -> anyhow::Result<()> {
    if config.kubelet_port == 0 {
        return Ok(());
    }
    match TcpListener::bind((config.listen.ip(), config.kubelet_port)).await {
        Ok(listener) => {
            let tls = kubelet_tls(config, control).context("failed to set up the kubelet's TLS")?;
            let serving = accept(listener, tls, node.kubelet.clone(), token.clone());
            node.tasks.lock().spawn_on(serving, &node.on);
        }
        Err(e) => warn!(
            port = config.kubelet_port, error = %e,
            "the kubelet's port is taken: kubectl works all the same, metrics scrapers will not; choose one with --kubelet-port"
        ),
    }
    Ok(())
}

fn kubelet_tls(config: &Config, control: &Control) -> anyhow::Result<Arc<rustls::ServerConfig>> {
    let now = client::clock::now().as_second();
    let cert = control.pki.kubelet_serving(&config.node_name, &[config.advertise], now)?;
    let mut roots = rustls::RootCertStore::empty();
    for ca in pki::trust::certificates(control.pki.ca.cert_pem())? {
        roots.add(ca)?;
    }
    // Only who shows a certificate of this cluster gets in.
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), pki::trust::provider()).build()?;
    Ok(Arc::new(pki::dir::server_config(&cert, verifier)?))
}

async fn accept(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    kubelet: Kubelet,
    token: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let slots = Arc::new(Semaphore::new(KUBELET_CONNECTIONS));
    loop {
        let accepted = tokio::select! { () = token.cancelled() => return, a = listener.accept() => a };
        let Ok((stream, _)) = accepted else {
            tokio::task::yield_now().await;
            continue;
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
        let (acceptor, kubelet) = (acceptor.clone(), kubelet.clone());
        tokio::spawn(async move {
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                kubelet.serve(stream).await;
            }
            drop(slot);
        });
    }
}

impl Node {
    /// Returns when the node is Ready in the API, DNS answers and the services are in force.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let scope = Scope { field_selector: format!("metadata.name={}", self.name), ..Scope::default() };
        let nodes = {
            let _on = self.on.enter();
            self.informers.scoped(&NODES, scope)
        };
        let (tx, mut rx) = watch::channel(false);
        nodes.on_change(move |c| {
            let ready = c.new.and_then(|o| o.view::<serde_json::Value>().ok()).is_some_and(|v| {
                v["status"]["conditions"]
                    .as_array()
                    .is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
            });
            if ready {
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

    /// Waits until every part has ended.
    pub async fn stopped(self) {
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
