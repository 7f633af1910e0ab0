//! The control plane: store, keys, API server, controllers, scheduler. Spawns the listener and one task per set of
//! loops.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use apiserver::authn::{Anonymous, Authn, TokenAuthenticator, TokenIssuer};
use apiserver::{ApiServer, Cluster, Security};
use client::{Client, Informers, LocalIdentity, LocalServer, clock};
use parking_lot::Mutex;
use store::Store;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{objects, transport::LocalNode};
use crate::config::Config;
use crate::etcd::Etcd;

pub struct Control {
    pub server: Arc<dyn LocalServer>,
    pub pki: Arc<pki::Pki>,
    store: Arc<dyn Store>,
    stop: CancellationToken,
    tasks: Mutex<JoinSet<()>>,
    failure: tokio::sync::Mutex<tokio::sync::oneshot::Receiver<anyhow::Error>>,
}

impl Control {
    /// A client under any identity, in process.
    pub fn client(&self, identity: LocalIdentity, manager: &str) -> Client {
        Client::local(self.server.clone(), identity, manager)
    }

    /// Resolves when the API server can't go on.
    pub async fn failed(&self) -> anyhow::Error {
        match (&mut *self.failure.lock().await).await {
            Ok(e) => e,
            Err(_) => std::future::pending().await,
        }
    }

    /// Ends watches, waits for requests under way, closes the store.
    pub async fn stop(&self) {
        self.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        while tasks.join_next().await.is_some() {}
        if let Err(e) = self.store.close().await {
            warn!(error = %e, "failed to close the store");
        }
    }
}

/// `node` is where the kubelet of this process will be found; `loops` ends the controllers and the scheduler, which run
/// on `on`.
pub async fn start(
    config: &Config,
    listener: TcpListener,
    node: Arc<LocalNode>,
    loops: &CancellationToken,
    on: &Handle,
) -> anyhow::Result<Control> {
    let instance = &config.instance;
    let dir = &instance.data_dir;
    let listen = listener.local_addr().context("failed to read the address of the listener")?;

    // Store and keys are read side by side.
    let engine = tokio::spawn(open_store(config.etcd.clone(), instance.store_dir()));
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let pki_options = pki::Options {
        hostname,
        advertise: vec![config.advertise, listen.ip()],
        service_ips: config.kubernetes_ips(),
        cluster_domain: config.domain.clone(),
        extra_dns: vec![],
    };
    let pki_dir = dir.join("pki");
    let now = clock::now().as_second();
    let keys = tokio::task::spawn_blocking(move || pki::Pki::open(&pki_dir, &pki_options, now));
    let store = engine.await?.map_err(|e| anyhow!(e)).context("failed to open the store")?;
    let pki = Arc::new(keys.await?.context("failed to prepare the cluster's keys")?);

    let local = if listen.ip().is_unspecified() { IpAddr::from([127, 0, 0, 1]) } else { listen.ip() };
    let url = format!("https://{}", std::net::SocketAddr::new(local, listen.port()));
    pki.write_admin_kubeconfig(&instance.kubeconfig(), &url, now)
        .context("failed to write the kubeconfig")?;

    let stop = CancellationToken::new();
    let issuer = format!("https://kubernetes.default.svc.{}", config.domain);
    let keys = pki.clone();
    let text = |all: &[netlink::Cidr]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut catalog = api::catalog::builtin().clone();
    if !config.runtime_config.is_empty() {
        let wanted =
            api::catalog::RuntimeConfig::parse(&config.runtime_config).context("--runtime-config")?;
        catalog = wanted.apply(&catalog);
    }
    let trust = pki.client_trust().context("failed to read the cluster's certificate authority")?;
    let proxies =
        pki.front_proxy_trust().context("failed to read the front proxy's certificate authority")?;
    let server = ApiServer::new(apiserver::Config {
        store: store.clone(),
        catalog,
        cluster: Cluster {
            service_cidrs: text(&config.service_cidrs),
            cluster_cidrs: text(&config.cluster_cidrs),
            advertise_address: config.advertise,
            advertise_port: listen.port(),
            node_ports: 30000..=32767,
            feature_gates: config.feature_gates.clone(),
        },
        admission: admission(config),
        front_proxy: Some(apiserver::FrontProxy::of(&pki)),
        nodes: Some(node),
        security: Box::new(move |reader| {
            let tokens = TokenAuthenticator::new(keys.tokens.verifier(issuer.clone()), vec![issuer.clone()]);
            let issuer = TokenIssuer::new(keys.tokens.clone(), issuer.clone(), vec![issuer]);
            let authn = Authn::new(trust, tokens, reader, Anonymous::health()).with_front_proxy(proxies);
            Security { authn, issuer }
        }),
        stop: stop.clone(),
    })
    .map_err(|e| anyhow!(e))
    .context("failed to set up the API server")?;
    server.start().await.map_err(|e| anyhow!(e)).context("failed to start the API server")?;

    let mut tasks = JoinSet::new();
    let (fail, failure) = tokio::sync::oneshot::channel();
    let tls = Arc::new(pki.server_config().context("failed to set up TLS")?);
    let serving = server.clone();
    tasks.spawn(async move {
        if let Err(e) = apiserver::serve::run(serving, listener, tls).await {
            let _ = fail.send(anyhow!(e).context("the API server's listener failed"));
        }
    });
    let server: Arc<dyn LocalServer> = Arc::new(server);
    let control = Control {
        server: server.clone(),
        pki,
        store,
        stop,
        tasks: Mutex::new(tasks),
        failure: tokio::sync::Mutex::new(failure),
    };
    objects::ensure(&control, config)
        .await
        .map_err(|e| anyhow!(e))
        .context("failed to prepare the cluster's own objects")?;
    start_loops(&control, config, loops, on);
    Ok(control)
}

async fn open_store(etcd: Option<Etcd>, dir: PathBuf) -> Result<Arc<dyn Store>, store::Error> {
    Ok(match etcd {
        Some(etcd) => Arc::new(store::etcd::Engine::open(etcd.engine()).await?),
        None => {
            let options = store::embedded::Options::new(dir);
            let opening = tokio::task::spawn_blocking(move || store::embedded::Engine::open(options));
            Arc::new(opening.await.map_err(|e| store::Error::Stopped(format!("opening failed: {e}")))??)
        }
    })
}

/// The cluster's authority as the controllers may use it.
fn signer(pki: Arc<pki::Pki>) -> controllers::Sign {
    controllers::Sign(Arc::new(move |csr, server, seconds| {
        pki.ca.sign_request(csr, server, seconds, clock::now().as_second()).map_err(|e| e.to_string())
    }))
}

/// Finalizers and taints that only a running loop takes away again.
fn admission(config: &Config) -> apiserver::admission::Options {
    let runs = |name: &str| config.enabled("controllers") && config.enabled(name);
    apiserver::admission::Options {
        storage_in_use_protection: ["pvc-protection", "pv-protection", "volumeattributesclass-protection"]
            .into_iter()
            .all(runs),
        taint_new_nodes: runs("node-lifecycle"),
        ..apiserver::admission::Options::default()
    }
}

fn start_loops(control: &Control, config: &Config, token: &CancellationToken, on: &Handle) {
    let mut tasks = control.tasks.lock();
    if config.enabled("controllers") {
        let settings = controllers::Config {
            root_ca: control.pki.ca.cert_pem().to_owned(),
            node_grace: config.node_grace,
            terminated_pods: config.terminated_pods,
            sign: Some(signer(control.pki.clone())),
        };
        let (server, token, disabled) = (control.server.clone(), token.clone(), config.disable.clone());
        let run = async move {
            controllers::run(server, settings, |name| !disabled.iter().any(|d| d == name), token).await;
        };
        tasks.spawn_on(run, on);
    }
    if config.enabled("scheduler") {
        let client = control.client(LocalIdentity::user("system:kube-scheduler", &[]), "kube-scheduler");
        let token = token.clone();
        let run = async move {
            let informers = Informers::new(client.clone(), token.clone());
            scheduler::run(client, informers, token).await;
        };
        tasks.spawn_on(run, on);
    }
}
