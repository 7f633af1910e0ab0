//! The controllers. A loop is a name, the service account it acts under, and an async function that runs until its token
//! is cancelled; `table` lists them all. A loop gets a key, reads its informers, makes a plan (a pure function in its own
//! file, tested on its own) and carries it out. Each loop is one supervised task plus its workers; a panic restarts that
//! loop only.
#![forbid(unsafe_code)]

mod counts;
mod discovery;
mod expectations;
mod history;
mod owners;
mod pods;
mod skeleton;
mod slow_start;
pub mod table;
mod template;

mod approval;
mod bootstrap;
mod certificates;
mod cronjob;
mod daemonset;
mod deployment;
mod device_taints;
mod disruption;
mod endpoints;
mod garbage;
mod hpa;
mod job;
mod namespace;
mod nodes;
mod pod_certificates;
mod replicaset;
mod request_cleaner;
mod resource_claims;
mod resourcequota;
mod role_aggregation;
mod service_cidrs;
mod serviceaccount;
mod statefulset;
mod storage_migration;
mod token_secrets;
mod trust_bundle;
mod ttl_after_finished;
mod volumes;

pub use certificates::Sign;
pub use hpa::Settings as Autoscaling;
pub use nodes::{WISH as POD_CIDRS_WISH, blocks as node_blocks};
pub use token_secrets::SecretTokens;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, EventRecorder, Informers, LocalIdentity, LocalServer};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// What the cluster tells its controllers.
#[derive(Debug, Clone)]
pub struct Config {
    /// PEM of the cluster's certificate authority, for `kube-root-ca.crt`.
    pub root_ca: String,
    /// Signs certificates for the cluster's own signers; without it requests stay as they are.
    pub sign: Option<Sign>,
    /// How long a node may be silent before it is taken for unreachable.
    pub node_grace: Duration,
    /// Ended pods beyond this number are collected.
    pub terminated_pods: usize,
    /// Networks of which nodes get their blocks; empty: somebody else sees to that.
    pub cluster_cidrs: Vec<netlink::Cidr>,
    pub autoscaling: Autoscaling,
    /// Signs the tokens that stand in secrets; without it those secrets stay empty.
    pub secret_tokens: Option<SecretTokens>,
    /// The node that has the first block of each, whatever happens: it may use it before the API is there.
    pub first_block: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root_ca: String::new(),
            sign: None,
            node_grace: Duration::from_secs(50),
            terminated_pods: 12_500,
            cluster_cidrs: Vec::new(),
            autoscaling: Autoscaling::default(),
            secret_tokens: None,
            first_block: None,
        }
    }
}

/// What a loop is handed.
#[derive(Clone)]
pub struct Context {
    /// Acts under the loop's own service account.
    pub client: Client,
    /// One informer per kind serves the whole process.
    pub informers: Informers,
    pub events: EventRecorder,
    pub config: Arc<Config>,
    pub token: CancellationToken,
}

/// One row of the table.
pub struct Loop {
    pub name: &'static str,
    /// Service account in kube-system.
    pub account: &'static str,
    /// Plural names, for people and for the test that holds ARCHITECTURE.md.
    pub watches: &'static [&'static str],
    pub writes: &'static [&'static str],
    pub run: fn(Context) -> BoxFuture<'static, ()>,
}

/// Runs every loop that `enabled` lets through, until the token is cancelled and all of them have ended.
pub async fn run(
    server: Arc<dyn LocalServer>,
    config: Config,
    enabled: impl Fn(&str) -> bool,
    token: CancellationToken,
) {
    let reader =
        Client::local(server.clone(), LocalIdentity::user("system:kube-controller-manager", &[]), "informer");
    let informers = Informers::new(reader, token.clone());
    let config = Arc::new(config);
    let mut tasks = JoinSet::new();
    for l in table::LOOPS.iter().filter(|l| enabled(l.name)) {
        let identity = LocalIdentity::service_account("kube-system", l.account);
        let client = Client::local(server.clone(), identity, l.name);
        let context = Context {
            // Upstream's components are named like their service accounts.
            events: EventRecorder::new(client.clone(), l.account, ""),
            client,
            informers: informers.clone(),
            config: config.clone(),
            token: token.clone(),
        };
        tasks.spawn(supervise(l, context));
    }
    info!(loops = tasks.len(), "controllers started");
    while tasks.join_next().await.is_some() {}
}

/// Restarts a loop that panicked, with a pause that grows.
async fn supervise(l: &'static Loop, context: Context) {
    let mut pause = Duration::from_millis(100);
    while !context.token.is_cancelled() {
        let token = context.token.child_token();
        let run = (l.run)(Context { token: token.clone(), ..context.clone() });
        let ended = std::panic::AssertUnwindSafe(run).catch_unwind().await;
        token.cancel();
        if ended.is_ok() && context.token.is_cancelled() {
            return;
        }
        error!(
            controller = l.name,
            panicked = ended.is_err(),
            "a controller ended by itself, starting it again"
        );
        tokio::select! { () = context.token.cancelled() => return, () = tokio::time::sleep(pause) => {} }
        pause = (pause * 2).min(Duration::from_secs(30));
    }
}
