//! The control plane: store, keys, API server, controllers, scheduler. Spawns the listener and one task per set of
//! loops: the loops themselves, or where several servers share a store the election that runs them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use apiserver::authn::{Anonymous, Authn, TokenAuthenticator, TokenIssuer};
use apiserver::{ApiServer, Cluster, Security};
use client::{Client, Election, Informers, LocalIdentity, LocalServer, clock};
use parking_lot::Mutex;
use store::Store;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{objects, transport::Nodes};
use crate::backup::socket::{self, Served};
use crate::config::Config;
use crate::etcd::Etcd;

/// How long the loops get to end, and to give their Leases back.
const LOOPS_DRAIN: Duration = Duration::from_secs(8);

pub struct Control {
    pub server: Arc<dyn LocalServer>,
    pub pki: Arc<pki::Pki>,
    pub port: u16,
    /// Where this process finds its own API: `https://127.0.0.1:6443`.
    pub url: String,
    store: Arc<dyn Store>,
    stop: CancellationToken,
    api: ApiServer,
    tasks: Mutex<JoinSet<()>>,
    loops: Mutex<JoinSet<()>>,
    failure: tokio::sync::Mutex<tokio::sync::oneshot::Receiver<anyhow::Error>>,
}

impl Control {
    /// A client under any identity, in process.
    pub fn client(&self, identity: LocalIdentity, manager: &str) -> Client {
        Client::local(self.server.clone(), identity, manager)
    }

    /// Runs until the loops end; it is waited for as they are.
    pub fn beside_loops(&self, task: impl Future<Output = ()> + Send + 'static, on: &Handle) {
        self.loops.lock().spawn_on(task, on);
    }

    /// Resolves when the API server can't go on.
    pub async fn failed(&self) -> anyhow::Error {
        match (&mut *self.failure.lock().await).await {
            Ok(e) => e,
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits for the loops, which were told to end; then ends watches, waits for requests under way, closes the store.
    pub async fn stop(&self) {
        let mut loops = std::mem::take(&mut *self.loops.lock());
        let ended = async { while loops.join_next().await.is_some() {} };
        let (ended, ()) = tokio::join!(tokio::time::timeout(LOOPS_DRAIN, ended), self.api.leave());
        if ended.is_err() {
            warn!("the controllers and the scheduler did not stop in time");
        }
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
    node: Arc<Nodes>,
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
    // A server that is asked for its certificate and has none is often hung up on before it hears why.
    let bare = |e: &Etcd| e.tls.cert.is_none() && e.servers.iter().any(|s| s.starts_with("https://"));
    let opening = match config.etcd.as_ref().is_some_and(bare) {
        true => "failed to open the store without a client certificate (--etcd-certfile, --etcd-keyfile)",
        false => "failed to open the store",
    };
    let store = engine.await?.map_err(|e| anyhow!(e)).context(opening)?;
    let pki = Arc::new(keys.await?.context("failed to prepare the cluster's keys")?);
    if config.etcd.is_some() {
        let of = || format!("the keys in {} do not fit", dir.join("pki").display());
        apiserver::bootstrap::keys::check(&store, &pki.fingerprint()).await.with_context(of)?;
    }

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
    if !config.enabled("metrics") {
        for plural in ["nodes", "pods"] {
            catalog.remove(apiserver::resource_metrics::GROUP, plural);
        }
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
            shared: config.etcd.is_some(),
        },
        admission: admission(config),
        front_proxy: Some(apiserver::FrontProxy::of(&pki)),
        nodes: Some(node.clone()),
        security: Box::new(move |reader| {
            let tokens = TokenAuthenticator::new(keys.tokens.verifier(issuer.clone()), vec![issuer.clone()]);
            let issuer = TokenIssuer::new(keys.tokens.clone(), issuer.clone(), vec![issuer]);
            let anonymous = Anonymous::health_and_cluster_info();
            let authn = Authn::new(trust, tokens, reader, anonymous).with_front_proxy(proxies);
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
    let served = Served { store: store.clone(), etcd: config.etcd.as_ref().map(|e| e.servers.clone()) };
    socket::serve(dir.clone(), served, stop.clone(), &mut tasks);
    let control = Control {
        server: Arc::new(server.clone()),
        pki,
        port: listen.port(),
        url,
        store,
        stop,
        api: server,
        tasks: Mutex::new(tasks),
        loops: Mutex::default(),
        failure: tokio::sync::Mutex::new(failure),
    };
    node.reach(objects::admin(control.server.clone()), &control.pki)
        .context("failed to prepare the way to nodes")?;
    objects::ensure(&control, config)
        .await
        .map_err(|e| anyhow!(e))
        .context("failed to prepare the cluster's own objects")?;
    start_loops(&control, config, loops, on);
    if config.enabled("dns") {
        let follow = objects::follow_dns(control.server.clone(), config.dns_ips(), loops.clone());
        control.loops.lock().spawn_on(follow, on);
    }
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

/// What signs the tokens that stand in secrets.
fn secret_tokens(pki: Arc<pki::Pki>) -> controllers::SecretTokens {
    controllers::SecretTokens(Arc::new(move |namespace, account, uid, secret| {
        let claims = pki::token::LegacyClaims::new(namespace, account, uid, secret);
        pki.tokens.mint(&claims).map_err(|e| e.to_string())
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
    let mut tasks = control.loops.lock();
    if config.enabled("controllers") {
        let settings = controllers::Config {
            root_ca: control.pki.ca.cert_pem().to_owned(),
            node_grace: config.node_grace,
            terminated_pods: config.terminated_pods,
            sign: Some(signer(control.pki.clone())),
            autoscaling: config.autoscaling,
            secret_tokens: Some(secret_tokens(control.pki.clone())),
            cluster_cidrs: if config.enabled("cni") { config.cluster_cidrs.clone() } else { vec![] },
            first_block: config.has_first_block().then(|| config.machine.node_name.clone()),
        };
        let disabled = Arc::new(config.disable.clone());
        let role = move |server, token| {
            let (settings, disabled) = (settings.clone(), disabled.clone());
            async move {
                controllers::run(server, settings, |name| !disabled.iter().any(|d| d == name), token).await;
            }
        };
        spawn(&mut tasks, control, config, "kube-controller-manager", token, on, role);
    }
    if config.enabled("scheduler") {
        let settings = config.scheduler.clone();
        let role = move |server, token: CancellationToken| {
            let settings = settings.clone();
            async move {
                let client = Client::local(
                    server,
                    LocalIdentity::user("system:kube-scheduler", &[]),
                    "kube-scheduler",
                );
                let informers = Informers::new(client.clone(), token.clone());
                scheduler::run(client, informers, settings, token).await;
            }
        };
        spawn(&mut tasks, control, config, "kube-scheduler", token, on, role);
    }
}

/// Runs a set of loops on `on`: always, or while the Lease of that name is ours.
fn spawn<R, F>(
    tasks: &mut JoinSet<()>,
    control: &Control,
    config: &Config,
    name: &'static str,
    token: &CancellationToken,
    on: &Handle,
    role: R,
) where
    R: Fn(Arc<dyn LocalServer>, CancellationToken) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let Some(timing) = config.election else {
        tasks.spawn_on(role(control.server.clone(), token.clone()), on);
        return;
    };
    let client = control.client(LocalIdentity::user(&format!("system:{name}"), &[]), name);
    let identity = format!("{}_{}", config.machine.node_name, uuid::Uuid::new_v4());
    let election = Election { client, name, identity, timing };
    // With the API's threads, so that busy loops do not keep their own Lease from being renewed.
    tasks.spawn(election.run(control.server.clone(), on.clone(), token.clone(), role));
}
